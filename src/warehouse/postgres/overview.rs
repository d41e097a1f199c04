//! What an onlooker sees of the warehouse: counts and who is behind, cheaply. Reads only.
//!
//! Absent on purpose: counting resources, which takes longer than a look may, and the room on a disk, which is the
//! server's.

use std::collections::BTreeMap;

use super::checkpoint::small;
use super::failure::Undone;
use super::session::Session;
use super::values::{count, counted};
use super::{consents, failover, purge_log, shared_cycle};
use crate::plan::Timestamp;
use crate::plan::since::IGNORED_TOLD;
use crate::plan::stamp;
use crate::plan::state::HeldKind;
use crate::warehouse::report::{FileSize, Overview, OverviewRequest, PatientBehind};

/// Whom the page lists.
const BEHIND: &str = "listed AND (state IN ('failing', 'held', 'refused', 'not_found')
     OR (state IN ('active', 'new') AND (last_success_at IS NULL OR last_success_at < $1)))";

/// Tells it as of the moment that the session sees.
pub(super) async fn overview(session: &Session, request: OverviewRequest) -> Result<Overview, Undone> {
    let since = request.behind_since;
    let states = "SELECT state, count(*) FROM checkpoint GROUP BY state";
    let behind_total = format!("SELECT state, count(*) FROM checkpoint WHERE {BEHIND} GROUP BY state");
    let expiring =
        consents::expiring(session, request.now, request.expiring_until, request.expiring_max).await?;
    let ignored = format!("SELECT count(*) FROM checkpoint WHERE since_ignored >= {IGNORED_TOLD}");
    Ok(Overview {
        states: by_state(&session.rows(states, &[]).await?)?,
        held: held(session).await?,
        complete_up_to: complete_up_to(session, request).await?,
        quarantined: number(session, "SELECT count(*) FROM quarantine").await?,
        since_ignored: number(session, &ignored).await?,
        short: number(session, "SELECT count(*) FROM checkpoint WHERE short_since IS NOT NULL").await?,
        unscrubbed: purge_log::unscrubbed(session).await?,
        oldest_unscrubbed: purge_log::oldest_unscrubbed(session).await?,
        late_purges: 0,
        bytes: sizes(session).await?,
        disk_free: None,
        behind: behind(session, since, request.behind_max).await?,
        behind_total: by_state(&session.rows(&behind_total, &[&since]).await?)?,
        purges: purge_log::recent(session, request.purged_since, request.purges_max).await?,
        expiring,
        failover: failover::noted(session).await?,
        workers: Some(shared_cycle::told(session).await?),
    })
}

async fn number(session: &Session, statement: &str) -> Result<u64, Undone> {
    Ok(counted(session.row(statement, &[]).await?.try_get(0)?))
}

fn by_state(rows: &[tokio_postgres::Row]) -> Result<BTreeMap<String, u64>, Undone> {
    rows.iter().map(|row| Ok((row.try_get(0)?, counted(row.try_get(1)?)))).collect()
}

/// Returns what every patient that is pulled is complete up to: its pull's start, which the watermark
/// lies `sync.overlap` before. Where that was longer when it was pulled, its end is the limit.
async fn complete_up_to(session: &Session, request: OverviewRequest) -> Result<Option<Timestamp>, Undone> {
    let statement = "SELECT watermark, last_success_at FROM checkpoint
          WHERE listed AND state IN ('active', 'failing') AND watermark IS NOT NULL";
    let mut oldest: Option<Timestamp> = None;
    for row in session.rows(statement, &[]).await? {
        let (watermark, ended): (Timestamp, Option<Timestamp>) = (row.try_get(0)?, row.try_get(1)?);
        let started = watermark.checked_add_signed(request.overlap).unwrap_or(watermark);
        let up_to = started.min(ended.unwrap_or(started).max(watermark));
        oldest = Some(oldest.map_or(up_to, |oldest| oldest.min(up_to)));
    }
    Ok(oldest)
}

/// Counts the held patients of each kind.
async fn held(session: &Session) -> Result<BTreeMap<HeldKind, u64>, Undone> {
    let statement = "SELECT held_why, refused_at FROM checkpoint WHERE state = 'held'";
    let mut counts = BTreeMap::new();
    for row in session.rows(statement, &[]).await? {
        let (why, refused_at): (Option<&str>, Option<Timestamp>) = (row.try_get(0)?, row.try_get(1)?);
        let kind = HeldKind::read(why, refused_at.map(stamp).as_deref());
        *counts.entry(kind).or_default() += 1;
    }
    Ok(counts)
}

async fn behind(session: &Session, since: Timestamp, most: usize) -> Result<Vec<PatientBehind>, Undone> {
    let list = format!(
        "SELECT coalesce(label, person_id), state, last_success_at, failures, next_attempt_at, last_error
           FROM (SELECT *, row_number() OVER (PARTITION BY state
                            ORDER BY last_success_at NULLS FIRST, person_id COLLATE \"C\") AS place
                   FROM checkpoint WHERE {BEHIND}) AS placed
          WHERE place <= $2 ORDER BY state COLLATE \"C\", place"
    );
    let rows = session.rows(&list, &[&since, &count(most as u64)]).await?;
    let behind = rows.iter().map(|row| {
        Ok(PatientBehind {
            name: row.try_get(0)?,
            state: row.try_get(1)?,
            last_success_at: row.try_get(2)?,
            failures: small(row.try_get(3)?),
            next_attempt_at: row.try_get(4)?,
            last_error: row.try_get(5)?,
        })
    });
    behind.collect()
}

/// Returns how much of the server's disk the schema takes.
async fn sizes(session: &Session) -> Result<Vec<FileSize>, Undone> {
    let statement =
        "SELECT coalesce(sum(pg_table_size(oid)), 0)::bigint, coalesce(sum(pg_indexes_size(oid)), 0)::bigint
           FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p')";
    let row = session.row(statement, &[]).await?;
    let size = |file, at| Ok::<_, Undone>(FileSize { file, bytes: counted(row.try_get(at)?) });
    Ok(vec![size("tables", 0)?, size("indexes", 1)?])
}

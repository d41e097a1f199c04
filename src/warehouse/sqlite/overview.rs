//! What an onlooker sees of the warehouse: counts and who is behind, cheaply. Reads only.
//!
//! Absent on purpose: counting resources, which takes longer than a look may.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, params};

use super::columns::Columns;
use super::{consents, purge};
use crate::plan::since::IGNORED_TOLD;
use crate::plan::state::HeldKind;
use crate::plan::{Timestamp, parse_stamp, stamp};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::place::folder_of;
use crate::warehouse::report::{
    FileSize, Overview, OverviewRequest, PatientBehind, RecentPurge, RecentPurges,
};

/// Whom the page lists.
const BEHIND: &str = "listed = 1 AND (state IN ('failing', 'held', 'refused', 'not_found')
     OR (state IN ('active', 'new') AND coalesce(last_success_at, '') < ?1))";

pub(super) fn overview(
    connection: &Connection,
    path: &Path,
    request: OverviewRequest,
) -> Result<Overview, StoreFailed> {
    // One snapshot for everything.
    let transaction = connection.unchecked_transaction()?;
    let mut statement = transaction.prepare("SELECT state, count(*) FROM checkpoint GROUP BY state")?;
    let states = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let complete_up_to = complete_up_to(&transaction, request)?;
    let behind_since = stamp(request.behind_since);
    let count = format!("SELECT state, count(*) FROM checkpoint WHERE {BEHIND} GROUP BY state");
    let mut count = transaction.prepare(&count)?;
    let behind_total = count.query_map([&behind_since], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let behind_total = behind_total.collect::<Result<_, _>>()?;
    Ok(Overview {
        states,
        held: held(&transaction)?,
        complete_up_to,
        quarantined: transaction.query_row("SELECT count(*) FROM quarantine", [], |row| row.get(0))?,
        since_ignored: count_if_known(&transaction, "since_ignored", &format!(">= {IGNORED_TOLD}"))?,
        short: count_if_known(&transaction, "short_since", "IS NOT NULL")?,
        unscrubbed: purge::unscrubbed(&transaction)?,
        oldest_unscrubbed: purge::oldest_unscrubbed(&transaction)?,
        late_purges: 0,
        bytes: sizes(path),
        disk_free: disk_free(path),
        behind: behind(&transaction, &behind_since, request.behind_max)?,
        behind_total,
        purges: recent_purges(&transaction, request)?,
        expiring: consents::expiring(
            &transaction,
            request.now,
            request.expiring_until,
            request.expiring_max,
        )?,
        failover: None,
        workers: None,
    })
}

/// Returns what every patient that is pulled is complete up to: its pull's start, which the watermark
/// lies `sync.overlap` before. Where that was longer when it was pulled, its end is the limit.
fn complete_up_to(
    connection: &Connection,
    request: OverviewRequest,
) -> Result<Option<Timestamp>, StoreFailed> {
    let mut statement = connection.prepare(
        "SELECT watermark, last_success_at FROM checkpoint
          WHERE listed = 1 AND state IN ('active', 'failing') AND watermark IS NOT NULL",
    )?;
    let mut rows = statement.query([])?;
    let mut oldest: Option<Timestamp> = None;
    while let Some(row) = rows.next()? {
        let Some(watermark) = time(row.get::<_, Option<String>>(0)?.as_deref()) else { continue };
        let started = watermark.checked_add_signed(request.overlap).unwrap_or(watermark);
        let ended = time(row.get::<_, Option<String>>(1)?.as_deref()).unwrap_or(started);
        let up_to = started.min(ended.max(watermark));
        oldest = Some(oldest.map_or(up_to, |oldest| oldest.min(up_to)));
    }
    Ok(oldest)
}

/// Counts patients by a column that a file of an older schema does not have.
fn count_if_known(connection: &Connection, column: &str, condition: &str) -> Result<u64, StoreFailed> {
    if !connection.column_exists(None::<&str>, "checkpoint", column)? {
        return Ok(0);
    }
    let count = format!("SELECT count(*) FROM checkpoint WHERE {column} {condition}");
    Ok(connection.query_row(&count, [], |row| row.get(0))?)
}

/// Counts the held patients of each kind.
fn held(connection: &Connection) -> Result<BTreeMap<HeldKind, u64>, StoreFailed> {
    let mut statement = connection.prepare("SELECT * FROM checkpoint WHERE state = 'held'")?;
    let columns = Columns::of(&statement);
    let mut rows = statement.query([])?;
    let mut counts = BTreeMap::new();
    while let Some(row) = rows.next()?.map(|row| columns.row(row)) {
        let why: Option<String> = row.get_new("held_why")?;
        let refused_at: Option<String> = row.get_new("refused_at")?;
        let kind = HeldKind::read(why.as_deref(), refused_at.as_deref());
        *counts.entry(kind).or_default() += 1;
    }
    Ok(counts)
}

fn behind(connection: &Connection, since: &str, most: usize) -> Result<Vec<PatientBehind>, StoreFailed> {
    let list = format!(
        "SELECT coalesce(label, person_id), state, last_success_at, failures, next_attempt_at, last_error
           FROM (SELECT *, row_number() OVER (PARTITION BY state ORDER BY last_success_at, person_id) AS place
                   FROM checkpoint WHERE {BEHIND})
          WHERE place <= ?2 ORDER BY state, place"
    );
    let mut statement = connection.prepare(&list)?;
    let behind = statement.query_map(params![since, limit(most)], |row| {
        Ok(PatientBehind {
            name: row.get(0)?,
            state: row.get(1)?,
            last_success_at: time(row.get::<_, Option<String>>(2)?.as_deref()),
            failures: row.get(3)?,
            next_attempt_at: time(row.get::<_, Option<String>>(4)?.as_deref()),
            last_error: row.get(5)?,
        })
    })?;
    Ok(behind.collect::<Result<_, _>>()?)
}

fn recent_purges(connection: &Connection, request: OverviewRequest) -> Result<RecentPurges, StoreFailed> {
    let since = stamp(request.purged_since);
    let count = "SELECT count(*) FROM purge_log WHERE purged_at > ?1";
    let total = connection.query_row(count, [&since], |row| row.get(0))?;
    let mut statement = connection.prepare(include_str!("../../../schema/recent_purges.sql"))?;
    let shown = statement.query_map(params![since, limit(request.purges_max)], |row| {
        Ok(RecentPurge {
            person_id: row.get(0)?,
            reason: row.get(1)?,
            purged_at: time(row.get::<_, Option<String>>(2)?.as_deref()),
            rows: row.get(3)?,
        })
    })?;
    Ok(RecentPurges { shown: shown.collect::<Result<_, _>>()?, total })
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

fn time(text: Option<&str>) -> Option<Timestamp> {
    text.and_then(parse_stamp)
}

/// Returns the room on the disk of a file, for who is not root.
fn disk_free(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder_of(path)).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn sizes(path: &Path) -> Vec<FileSize> {
    let size = |file, suffix: &str| {
        let mut path = path.as_os_str().to_owned();
        path.push(suffix);
        FileSize { file, bytes: std::fs::metadata(path).map_or(0, |found| found.len()) }
    };
    vec![size("database", ""), size("wal", "-wal")]
}

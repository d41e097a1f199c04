//! What the log of purges says: of them all, and of each. Reads only.

use std::collections::BTreeMap;
use std::time::Duration;

use super::failure::Undone;
use super::session::Session;
use super::values::{Columns, count, counted, span};
use crate::plan::{Timestamp, stamp};
use crate::warehouse::purge::ScrubbedBy;
use crate::warehouse::report::{LastScrub, PurgeLine, RecentPurge, RecentPurges};

/// Returns how many purges there are whose bytes are not known to be gone.
pub(super) async fn unscrubbed(session: &Session) -> Result<u64, Undone> {
    let statement = "SELECT count(*) FROM purge_log WHERE scrubbed_at IS NULL";
    Ok(counted(session.row(statement, &[]).await?.try_get(0)?))
}

/// Returns since when the bytes of a purged patient wait to be removed.
pub(super) async fn oldest_unscrubbed(session: &Session) -> Result<Option<Timestamp>, Undone> {
    let statement = "SELECT min(purged_at) FROM purge_log WHERE scrubbed_at IS NULL";
    Ok(session.row(statement, &[]).await?.try_get(0)?)
}

/// Returns when the last bytes were last removed.
pub(super) async fn last_scrub(session: &Session) -> Result<Option<LastScrub>, Undone> {
    let statement = "SELECT scrubbed_at, scrubbed_by FROM purge_log
          WHERE scrubbed_at IS NOT NULL ORDER BY scrubbed_at DESC, id DESC LIMIT 1";
    let Some(row) = session.row_or_none(statement, &[]).await? else { return Ok(None) };
    let by: Option<String> = row.try_get(1)?;
    let by = by.unwrap_or_else(|| ScrubbedBy::Vacuum.as_str().to_owned());
    Ok(Some(LastScrub { at: stamp(row.try_get(0)?), by }))
}

/// Returns the latest purges since a time, and how many there are.
pub(super) async fn recent(session: &Session, since: Timestamp, most: usize) -> Result<RecentPurges, Undone> {
    let total = session.row("SELECT count(*) FROM purge_log WHERE purged_at > $1", &[&since]).await?;
    let latest = "SELECT person_id, reason, purged_at, rows_by_table FROM purge_log
          WHERE purged_at > $1 ORDER BY purged_at DESC, id DESC LIMIT $2";
    let rows = session.rows(latest, &[&since, &count(most as u64)]).await?;
    let shown = rows.iter().map(|row| {
        let rows_by_table: &str = row.try_get(3)?;
        let rows_by_table: BTreeMap<String, u64> = serde_json::from_str(rows_by_table).unwrap_or_default();
        Ok::<_, Undone>(RecentPurge {
            person_id: row.try_get(0)?,
            reason: row.try_get(1)?,
            purged_at: row.try_get(2)?,
            rows: rows_by_table.values().sum(),
        })
    });
    Ok(RecentPurges { shown: shown.collect::<Result<_, _>>()?, total: counted(total.try_get(0)?) })
}

/// Returns how many purges took longer than `deadline`, from the refusal to the last byte. One that was carried out
/// again is not counted: how long it took when it was made is not known there.
pub(super) async fn late(session: &Session, deadline: Duration, now: Timestamp) -> Result<u64, Undone> {
    let begun_before = now - span(deadline);
    let statement = "SELECT count(*) FROM purge_log WHERE carried_out_at IS NULL
            AND coalesce(refused_at, confirmed_at) < coalesce(scrubbed_at - ($1::timestamptz - $2::timestamptz), $2)";
    Ok(counted(session.row(statement, &[&now, &begun_before]).await?.try_get(0)?))
}

/// Returns all purges, or those of one patient, the first one first.
pub(super) async fn lines(session: &Session, person: Option<&str>) -> Result<Vec<PurgeLine>, Undone> {
    let statement = "SELECT p.*, c.label AS patient_label
           FROM purge_log AS p LEFT JOIN checkpoint AS c ON c.person_id = p.person_id
          WHERE $1 IS NULL OR p.person_id = $1 ORDER BY p.id";
    let rows = session.rows(statement, &[&person]).await?;
    let lines = rows.iter().map(|row| {
        let column = Columns(row);
        let time = |name: &str| Ok::<_, Undone>(column.get::<Option<Timestamp>>(name)?.map(stamp));
        let known = |name: &str| Ok::<_, Undone>(stamp(column.get(name)?));
        let rows_by_table: String = column.get("rows_by_table")?;
        Ok(PurgeLine {
            person_id: column.get("person_id")?,
            label: column.get("patient_label")?,
            reason: column.get("reason")?,
            by: column.get("by")?,
            refused_at: time("refused_at")?,
            confirmed_at: known("confirmed_at")?,
            purged_at: known("purged_at")?,
            scrubbed_at: time("scrubbed_at")?,
            first_row_at: time("first_row_at")?,
            carried_out_at: time("carried_out_at")?,
            scrubbed_by: column.get("scrubbed_by")?,
            rows_by_table: serde_json::from_str(&rows_by_table).unwrap_or_default(),
            copies: None,
        })
    });
    lines.collect()
}

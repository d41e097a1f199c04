//! What the log of purges says of them all: how many wait for their last bytes, and which came last. Reads only.

use std::collections::BTreeMap;

use super::failure::Undone;
use super::session::Session;
use super::values::{count, counted};
use crate::plan::{Timestamp, stamp};
use crate::warehouse::purge::ScrubbedBy;
use crate::warehouse::report::{LastScrub, RecentPurge, RecentPurges};

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

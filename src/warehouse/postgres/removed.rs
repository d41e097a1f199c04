//! Rows of resources that are gone without a mark, for copies elsewhere that follow.
//!
//! Promise: noted in the transaction that removes the row. Absent on purpose: purges, after which nothing of the
//! patient is known, this neither.

use super::cycle_ends;
use super::failure::Undone;
use super::session::Session;
use crate::plan::{PersonId, Timestamp};
use crate::warehouse::about::{REMOVALS_KEPT, REMOVALS_KNOWN_SINCE};

/// The names of a row that is removed.
pub(super) struct RemovedRow {
    pub(super) key: String,
    pub(super) id: Option<String>,
}

/// Notes a row that is removed because its entry lives on under another key.
pub(super) async fn note(
    session: &Session,
    table: &str,
    person: &PersonId,
    row: &RemovedRow,
    now: Timestamp,
) -> Result<(), Undone> {
    let statement = "INSERT INTO removed (person_id, type, key, id, removed_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (person_id, type, key) DO UPDATE SET id = excluded.id, removed_at = excluded.removed_at";
    session.execute(statement, &[&person.as_str(), &table, &row.key, &row.id, &now]).await?;
    Ok(())
}

/// Forgets what was removed so long ago that no copy can be expected to follow from there.
pub(super) async fn prune(session: &Session, now: Timestamp) -> Result<(), Undone> {
    let Some(limit) = now.checked_sub_signed(REMOVALS_KEPT) else { return Ok(()) };
    let statement = "SELECT 1 FROM removed WHERE removed_at < $1 LIMIT 1";
    match session.row_or_none(statement, &[&limit]).await? {
        Some(_) => forget_before(session, limit).await,
        None => Ok(()),
    }
}

/// Forgets what was removed before `limit`, and notes that what vanished before is no longer known.
pub(super) async fn forget_before(session: &Session, limit: Timestamp) -> Result<(), Undone> {
    session.execute("DELETE FROM removed WHERE removed_at < $1", &[&limit]).await?;
    if known_since(session).await?.is_none_or(|known| known < limit) {
        cycle_ends::note_time(session, REMOVALS_KNOWN_SINCE, limit).await?;
    }
    Ok(())
}

/// Returns since when everything that vanished is still known; `None` is since ever.
pub(super) async fn known_since(session: &Session) -> Result<Option<Timestamp>, Undone> {
    cycle_ends::noted_time(session, REMOVALS_KNOWN_SINCE).await
}

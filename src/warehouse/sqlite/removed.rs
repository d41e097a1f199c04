//! Rows of resources that are gone without a mark, for copies elsewhere that follow.
//!
//! Promise: noted in the transaction that removes the row. Absent on purpose: purges, after which nothing of the
//! patient is known, this neither.

use rusqlite::{Connection, OptionalExtension, params};

use crate::plan::{PersonId, Timestamp, parse_stamp, stamp};
use crate::warehouse::about::{REMOVALS_KEPT, REMOVALS_KNOWN_SINCE};
use crate::warehouse::failure::StoreFailed;

/// Notes a row that is removed because its entry lives on under another key.
pub(super) fn note(
    connection: &Connection,
    table: &str,
    person: &PersonId,
    row: &RemovedRow,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    let statement =
        "INSERT OR REPLACE INTO removed (person_id, type, key, id, removed_at) VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![person.as_str(), table, row.key, row.id, stamp(now)];
    connection.prepare_cached(statement)?.execute(values)?;
    Ok(())
}

/// The names of a row that is removed.
pub(super) struct RemovedRow {
    pub(super) key: String,
    pub(super) id: Option<String>,
}

/// Forgets what was removed so long ago that no copy can be expected to follow from there.
pub(super) fn prune(connection: &Connection, now: Timestamp) -> Result<(), StoreFailed> {
    let Some(limit) = now.checked_sub_signed(REMOVALS_KEPT).map(stamp) else { return Ok(()) };
    let statement = "SELECT 1 FROM removed WHERE removed_at < ?1 LIMIT 1";
    if connection.prepare_cached(statement)?.exists([&limit])? {
        forget_before(connection, &limit)?;
    }
    Ok(())
}

/// Forgets what was removed before `limit`, and notes that what vanished before is no longer known.
pub(super) fn forget_before(connection: &Connection, limit: &str) -> Result<(), StoreFailed> {
    connection.prepare_cached("DELETE FROM removed WHERE removed_at < ?1")?.execute([limit])?;
    let statement = "INSERT INTO about (name, value) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)";
    connection.prepare_cached(statement)?.execute([REMOVALS_KNOWN_SINCE, limit])?;
    Ok(())
}

/// Returns since when everything that vanished is still known; `None` is since ever.
pub(super) fn known_since(connection: &Connection) -> Result<Option<Timestamp>, StoreFailed> {
    let statement = "SELECT value FROM about WHERE name = ?1";
    let known: Option<String> =
        connection.query_row(statement, [REMOVALS_KNOWN_SINCE], |row| row.get(0)).optional()?;
    Ok(known.as_deref().and_then(parse_stamp))
}

//! Erases the rows of a patient, in one transaction, and keeps the log of it.
//!
//! Deleted rows leave copies in the gaps of pages that live on, `secure_delete` or not, so a
//! purge is over only when `scrub` has been through the file. Until then `scrubbed_at` is NULL.

use rusqlite::{Connection, params};

use super::{checkpoint, tables};
use crate::plan::state::{Event, PurgeReason};
use crate::plan::{PersonId, Timestamp, parse_stamp, stamp};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::purge::{Erased, ScrubbedBy};

/// Removes every row of the patient in every table that has a `person_id`, and logs it. Returns
/// `None` where there was none, and logs nothing. Runs inside a transaction.
pub(super) fn erase(
    connection: &Connection,
    person: &PersonId,
    reason: PurgeReason,
    confirmed_at: Timestamp,
    now: Timestamp,
) -> Result<Option<Erased>, StoreFailed> {
    let mut erased = Erased::default();
    for table in tables::purged_tables(connection)? {
        let statement = format!("DELETE FROM \"{table}\" WHERE person_id = ?1");
        let rows = connection.prepare_cached(&statement)?.execute([person.as_str()])? as u64;
        if rows > 0 {
            erased.rows_by_table.insert(table, rows);
        }
    }
    if erased.rows_by_table.is_empty() {
        return Ok(None);
    }
    forget(connection, person, reason, now)?;
    log(connection, person, reason, &erased, confirmed_at, now)?;
    Ok(Some(erased))
}

/// Forgets what is known of a patient beside who it is.
pub(super) fn forget(
    connection: &Connection,
    person: &PersonId,
    reason: PurgeReason,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    checkpoint::forget(connection, person, Event::Purged(reason), now)?;
    connection.execute(
        "UPDATE pull SET error = NULL WHERE person_id = ?1 AND error IS NOT NULL",
        [person.as_str()],
    )?;
    Ok(())
}

/// Notes a purge in `purge_log`.
pub(super) fn log(
    connection: &Connection,
    person: &PersonId,
    reason: PurgeReason,
    erased: &Erased,
    confirmed_at: Timestamp,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    let rows_by_table = serde_json::to_string(&erased.rows_by_table)
        .map_err(|error| StoreFailed::Data(format!("counting erased rows: {error}")))?;
    connection.execute(
        "INSERT INTO purge_log (person_id, reason, confirmed_at, purged_at, rows_by_table) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![person.as_str(), reason.as_str(), stamp(confirmed_at), stamp(now), rows_by_table],
    )?;
    Ok(())
}

/// Counts what a purge would remove. Only reads.
pub(super) fn erasable(connection: &Connection, person: &PersonId) -> Result<Option<Erased>, StoreFailed> {
    let mut erased = Erased::default();
    for table in tables::purged_tables(connection)? {
        let statement = format!("SELECT count(*) FROM \"{table}\" WHERE person_id = ?1");
        let rows: u64 =
            connection.prepare_cached(&statement)?.query_row([person.as_str()], |row| row.get(0))?;
        if rows > 0 {
            erased.rows_by_table.insert(table, rows);
        }
    }
    Ok((!erased.rows_by_table.is_empty()).then_some(erased))
}

pub(super) fn unscrubbed(connection: &Connection) -> Result<u64, StoreFailed> {
    Ok(connection
        .query_row("SELECT count(*) FROM purge_log WHERE scrubbed_at IS NULL", [], |row| row.get(0))?)
}

/// Since when the bytes of a purged patient wait to be removed.
pub(super) fn oldest_unscrubbed(connection: &Connection) -> Result<Option<Timestamp>, StoreFailed> {
    let oldest: Option<String> = connection.query_row(
        "SELECT min(purged_at) FROM purge_log WHERE scrubbed_at IS NULL",
        [],
        |row| row.get(0),
    )?;
    Ok(oldest.as_deref().and_then(parse_stamp))
}

/// Returns the last of the purges whose bytes are still there.
pub(super) fn last_unscrubbed(connection: &Connection) -> Result<Option<i64>, StoreFailed> {
    Ok(connection
        .query_row("SELECT max(id) FROM purge_log WHERE scrubbed_at IS NULL", [], |row| row.get(0))?)
}

/// Notes that no byte is left of all purges up to `last`, and returns how many these are.
pub(super) fn note_scrubbed(
    connection: &Connection,
    last: i64,
    by: ScrubbedBy,
    now: Timestamp,
) -> Result<u64, StoreFailed> {
    let purges = connection.execute(
        "UPDATE purge_log SET scrubbed_at = ?1, scrubbed_by = ?2 WHERE scrubbed_at IS NULL AND id <= ?3",
        params![stamp(now), by.as_str(), last],
    )?;
    Ok(purges as u64)
}

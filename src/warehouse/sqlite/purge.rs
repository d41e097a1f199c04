//! Erases the rows of a patient, in one transaction, and keeps the log of it.
//!
//! Deleted rows leave copies in the gaps of pages that live on, `secure_delete` or not, so a
//! purge is over only when `scrub` has been through the file. Until then `scrubbed_at` is NULL.

use std::time::Duration;

use rusqlite::{Connection, named_params, params};

use super::{checkpoint, tables};
use crate::plan::state::PurgeReason;
use crate::plan::{PersonId, Timestamp, parse_stamp, stamp};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::purge::{BOOKKEEPING, Erased, Purge, ScrubbedBy};

/// Removes every row of the patient in every table that has a `person_id`, and what the
/// checkpoint knows of it, and logs it. Runs inside a transaction.
pub(super) fn erase(connection: &Connection, purge: &Purge<'_>) -> Result<Erased, StoreFailed> {
    let person = purge.person.as_str();
    let first_row_at = first_row_at(connection, person)?;
    let erased = remove_rows(connection, person)?;
    log(connection, purge, first_row_at.as_deref(), &erased)?;
    checkpoint::forget(connection, purge.person, purge.reason, purge.now)?;
    Ok(erased)
}

fn remove_rows(connection: &Connection, person: &str) -> Result<Erased, StoreFailed> {
    let mut erased = Erased::default();
    for table in tables::purged_tables(connection)? {
        let statement = format!("DELETE FROM \"{table}\" WHERE person_id = ?1");
        let rows = connection.prepare_cached(&statement)?.execute([person])? as u64;
        if rows > 0 && !BOOKKEEPING.contains(&table.as_str()) {
            erased.rows_by_table.insert(table, rows);
        }
    }
    Ok(erased)
}

/// Writes a purge into `purge_log`.
pub(super) fn log(
    connection: &Connection,
    purge: &Purge<'_>,
    first_row_at: Option<&str>,
    erased: &Erased,
) -> Result<(), StoreFailed> {
    let rows_by_table = serde_json::to_string(&erased.rows_by_table)
        .map_err(|error| StoreFailed::Data(format!("counting erased rows: {error}")))?;
    connection.execute(
        include_str!("../../../schema/log_purge.sql"),
        named_params! {
            ":person_id": purge.person.as_str(),
            ":reason": purge.reason.as_str(),
            ":by": purge.by,
            ":refused_at": purge.refused_at.map(stamp),
            ":confirmed_at": stamp(purge.confirmed_at),
            ":purged_at": stamp(purge.now),
            ":first_row_at": first_row_at,
            ":carried_out_at": purge.carried_out_at.map(stamp),
            ":rows_by_table": rows_by_table,
        },
    )?;
    Ok(())
}

/// Since when the patient has been refused in an unbroken row.
pub(super) fn refused_at(
    connection: &Connection,
    person: &PersonId,
) -> Result<Option<Timestamp>, StoreFailed> {
    Ok(checkpoint::one(connection, person)?.and_then(|patient| patient.refused_at))
}

/// When the first of the rows that are there now was stored.
pub(super) fn first_row_at(connection: &Connection, person: &str) -> Result<Option<String>, StoreFailed> {
    let mut first: Option<String> = connection.query_row(
        "SELECT min(received_at) FROM quarantine WHERE person_id = ?1",
        [person],
        |row| row.get(0),
    )?;
    for known in tables::resource_tables(connection)? {
        let statement = format!("SELECT min(first_seen_at) FROM \"{}\" WHERE person_id = ?1", known.table);
        let earliest: Option<String> =
            connection.prepare_cached(&statement)?.query_row([person], |row| row.get(0))?;
        first = match (first, earliest) {
            (Some(first), Some(earliest)) => Some(first.min(earliest)),
            (first, earliest) => first.or(earliest),
        };
    }
    Ok(first)
}

/// Forgets a patient whose consent is withdrawn and of whom no resource was stored: nothing is logged.
/// What else has its id goes as it does by a purge.
pub(super) fn revoke_without_rows(
    connection: &Connection,
    person: &PersonId,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    remove_rows(connection, person.as_str())?;
    checkpoint::forget(connection, person, PurgeReason::ConsentRevoked, now)
}

/// Counts what a purge would remove. Only reads.
pub(super) fn erasable(connection: &Connection, person: &PersonId) -> Result<Option<Erased>, StoreFailed> {
    let mut erased = Erased::default();
    for table in tables::purged_tables(connection)? {
        let statement = format!("SELECT count(*) FROM \"{table}\" WHERE person_id = ?1");
        let rows: u64 =
            connection.prepare_cached(&statement)?.query_row([person.as_str()], |row| row.get(0))?;
        if rows > 0 && !BOOKKEEPING.contains(&table.as_str()) {
            erased.rows_by_table.insert(table, rows);
        }
    }
    Ok((!erased.rows_by_table.is_empty()).then_some(erased))
}

pub(super) fn unscrubbed(connection: &Connection) -> Result<u64, StoreFailed> {
    Ok(connection
        .query_row("SELECT count(*) FROM purge_log WHERE scrubbed_at IS NULL", [], |row| row.get(0))?)
}

/// How many purges took longer than `deadline`.
pub(super) fn late(connection: &Connection, deadline: Duration, now: Timestamp) -> Result<u64, StoreFailed> {
    // A file that the next cycle migrates does not know it.
    if !tables::has_column(connection, "purge_log", "carried_out_at")? {
        return Ok(0);
    }
    let seconds = i64::try_from(deadline.as_secs()).unwrap_or(i64::MAX);
    let parameters = named_params! { ":now": stamp(now), ":seconds": seconds };
    Ok(connection.query_row(include_str!("../../../schema/late_purges.sql"), parameters, |row| row.get(0))?)
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

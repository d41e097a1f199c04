//! One row for each pull of a patient: what an operator looks at afterwards.

use rusqlite::{Connection, OptionalExtension, named_params};

use crate::plan::{Timestamp, parse_stamp, stamp};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::Tally;
use crate::warehouse::pull::{PullCost, PullEnded, PullHead, PullOutcome};

/// The oldest rows beyond this many go: a year of one patient, a day of a hundred thousand.
const PULLS_KEPT: i64 = 1_000_000;

/// How a pull ended: its outcome, what is said of it, and when.
pub(super) struct End<'e> {
    pub(super) outcome: PullOutcome,
    pub(super) error: Option<&'e str>,
    pub(super) at: Timestamp,
}

/// Writes what a pull has cost so far, adds what it has changed, and notes its end. Returns its id.
pub(super) fn note(
    connection: &Connection,
    head: &PullHead,
    cost: &PullCost,
    tally: Tally,
    end: Option<&End<'_>>,
) -> Result<i64, StoreFailed> {
    connection.prepare_cached(include_str!("../../../schema/note_pull.sql"))?.execute(named_params! {
        ":id": cost.row,
        ":person_id": head.person.as_str(),
        ":mode": head.mode.as_str(),
        ":since": head.since.map(stamp),
        ":started_at": stamp(head.started_at),
        ":finished_at": end.map(|end| stamp(end.at)),
        ":pages": cost.pages,
        ":requests": cost.requests,
        ":bytes": cost.bytes,
        ":entries": cost.entries,
        ":inserted": tally.inserted,
        ":updated": tally.updated,
        ":unchanged": tally.unchanged,
        ":deleted": tally.deleted,
        ":quarantined": tally.quarantined,
        ":outcome": end.map(|end| end.outcome.as_str()),
        ":error": end.and_then(|end| end.error),
    })?;
    Ok(cost.row.unwrap_or_else(|| connection.last_insert_rowid()))
}

/// Returns whether the pull has changed anything so far, by its row.
pub(super) fn has_changed(connection: &Connection, cost: &PullCost) -> Result<bool, StoreFailed> {
    let statement = "SELECT 1 FROM pull WHERE id = ?1 AND inserted + updated > 0";
    Ok(connection.prepare_cached(statement)?.exists([cost.row])?)
}

/// Writes the end of a pull that did not finish.
pub(super) fn note_end(
    connection: &Connection,
    ended: &PullEnded,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    let end = End { outcome: ended.outcome, error: ended.error.as_deref(), at: now };
    note(connection, &ended.head, &ended.cost, Tally::default(), Some(&end))?;
    Ok(())
}

/// Says of pulls that a kill cut off that they were.
pub(super) fn close_cut_off(connection: &Connection, now: Timestamp) -> Result<(), StoreFailed> {
    connection.execute(
        "UPDATE pull SET finished_at = ?1, outcome = 'interrupted', error = 'the process ended before the pull did'
          WHERE finished_at IS NULL",
        [stamp(now)],
    )?;
    Ok(())
}

/// Removes the oldest rows, which keeps the table from growing for ever.
pub(super) fn prune(connection: &Connection) -> Result<(), StoreFailed> {
    connection.execute(
        "DELETE FROM pull WHERE id <= (SELECT max(id) FROM pull) - ?1 AND finished_at IS NOT NULL",
        [PULLS_KEPT],
    )?;
    Ok(())
}

/// Returns when the oldest pull began that is still known.
pub(super) fn first_started_at(connection: &Connection) -> Result<Option<Timestamp>, StoreFailed> {
    let first: Option<String> = connection
        .query_row("SELECT started_at FROM pull ORDER BY id LIMIT 1", [], |row| row.get(0))
        .optional()?;
    Ok(first.as_deref().and_then(parse_stamp))
}

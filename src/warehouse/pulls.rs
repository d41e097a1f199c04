//! One row for each pull of a patient: what an operator looks at afterwards.

use rusqlite::Connection;
use rusqlite::params;

use super::failure::StoreFailed;
use super::page::PullFrame;
use super::page::Tally;
use crate::plan::PersonId;
use crate::plan::PullMode;
use crate::plan::Timestamp;
use crate::plan::stamp;

/// The oldest rows beyond this many go: a year of one patient, a day of a hundred thousand.
pub const PULLS_KEPT: i64 = 1_000_000;

/// The row of a pull under way, and what it has cost so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct PullRow {
    /// `None` until something is stored.
    pub id: Option<i64>,
    pub pages: u64,
    pub requests: u64,
    pub bytes: u64,
    pub entries: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullOutcome {
    Revoked,
    Held,
    NotFound,
    Failed,
    Interrupted,
}

impl PullOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Held => "held",
            Self::NotFound => "not_found",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

pub fn begin(connection: &Connection, frame: &PullFrame) -> Result<i64, StoreFailed> {
    insert(connection, &frame.person, frame.mode, frame.since, frame.started_at)
}

pub fn insert(
    connection: &Connection,
    person: &PersonId,
    mode: PullMode,
    since: Option<Timestamp>,
    started_at: Timestamp,
) -> Result<i64, StoreFailed> {
    connection
        .prepare_cached("INSERT INTO pull (person_id, mode, since, started_at) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![person.as_str(), mode.as_str(), since.map(stamp), stamp(started_at)])?;
    Ok(connection.last_insert_rowid())
}

pub fn count(connection: &Connection, id: i64, pull: &PullRow, tally: Tally) -> Result<(), StoreFailed> {
    connection
        .prepare_cached(
            "UPDATE pull
                SET pages = ?2, requests = ?3, bytes = ?4, entries = ?5,
                    inserted = inserted + ?6, updated = updated + ?7, unchanged = unchanged + ?8,
                    deleted = deleted + ?9, quarantined = quarantined + ?10
              WHERE id = ?1",
        )?
        .execute(params![
            id,
            pull.pages,
            pull.requests,
            pull.bytes,
            pull.entries,
            tally.inserted,
            tally.updated,
            tally.unchanged,
            tally.deleted,
            tally.quarantined,
        ])?;
    Ok(())
}

pub fn finish_ok(
    connection: &Connection,
    id: i64,
    note: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    connection
        .prepare_cached("UPDATE pull SET finished_at = ?2, outcome = 'ok', error = ?3 WHERE id = ?1")?
        .execute(params![id, stamp(now), note])?;
    Ok(())
}

pub fn finish(
    connection: &Connection,
    id: i64,
    outcome: PullOutcome,
    error: Option<&str>,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    connection
        .prepare_cached("UPDATE pull SET finished_at = ?2, outcome = ?3, error = ?4 WHERE id = ?1")?
        .execute(params![id, stamp(now), outcome.as_str(), error])?;
    Ok(())
}

/// Pulls that a kill cut off are said to have been.
pub fn close_cut_off(connection: &Connection, now: Timestamp) -> Result<u64, StoreFailed> {
    let changed = connection.execute(
        "UPDATE pull SET finished_at = ?1, outcome = 'interrupted', error = 'the process ended before the pull did'
          WHERE finished_at IS NULL",
        [stamp(now)],
    )?;
    Ok(changed as u64)
}

/// Keeps the table from growing for ever.
pub fn prune(connection: &Connection) -> Result<(), StoreFailed> {
    connection.execute(
        "DELETE FROM pull WHERE id <= (SELECT max(id) FROM pull) - ?1 AND finished_at IS NOT NULL",
        [PULLS_KEPT],
    )?;
    Ok(())
}

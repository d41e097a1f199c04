//! One row for each pull of a patient: what an operator looks at afterwards.

use rusqlite::{Connection, named_params};

use super::failure::StoreFailed;
use super::page::Tally;
use crate::plan::{PersonId, PullMode, Timestamp, stamp};

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
    Ok,
    Revoked,
    Held,
    NotFound,
    Failed,
    Interrupted,
}

impl PullOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Revoked => "revoked",
            Self::Held => "held",
            Self::NotFound => "not_found",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Whose pull it is, and how it was asked for.
#[derive(Clone, Debug)]
pub struct PullOrigin {
    pub person: PersonId,
    pub mode: PullMode,
    pub since: Option<Timestamp>,
    pub started_at: Timestamp,
}

/// How a pull ended: its outcome, what is said of it, and when.
pub type PullEnded<'e> = (PullOutcome, Option<&'e str>, Timestamp);

/// Writes what a pull has cost so far, adds what it has changed, and notes its end. Gives its id.
pub fn note(
    connection: &Connection,
    origin: &PullOrigin,
    pull: &PullRow,
    tally: Tally,
    ended: Option<PullEnded<'_>>,
) -> Result<i64, StoreFailed> {
    let (outcome, error, finished_at) = match ended {
        Some((outcome, error, at)) => (Some(outcome.as_str()), error, Some(stamp(at))),
        None => (None, None, None),
    };
    connection.prepare_cached(include_str!("../../schema/note_pull.sql"))?.execute(named_params! {
        ":id": pull.id,
        ":person_id": origin.person.as_str(),
        ":mode": origin.mode.as_str(),
        ":since": origin.since.map(stamp),
        ":started_at": stamp(origin.started_at),
        ":finished_at": finished_at,
        ":pages": pull.pages,
        ":requests": pull.requests,
        ":bytes": pull.bytes,
        ":entries": pull.entries,
        ":inserted": tally.inserted,
        ":updated": tally.updated,
        ":unchanged": tally.unchanged,
        ":deleted": tally.deleted,
        ":quarantined": tally.quarantined,
        ":outcome": outcome,
        ":error": error,
    })?;
    Ok(pull.id.unwrap_or_else(|| connection.last_insert_rowid()))
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

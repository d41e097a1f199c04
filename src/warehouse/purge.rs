//! Erases a patient: first the rows, in one transaction, then the bytes they leave behind.
//!
//! Deleted rows leave copies in the gaps of pages that live on, `secure_delete` or not, so a
//! purge is over only when VACUUM has rewritten the file and the WAL is empty. Until then
//! `scrubbed_at` is NULL.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, params};

use super::failure::StoreFailed;
use super::{checkpoint, open, tables};
use crate::plan::{PatientState, PersonId, Timestamp, parse_stamp, stamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgeReason {
    ConsentRevoked,
    Operator,
    Roster,
}

impl PurgeReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConsentRevoked => "consent_revoked",
            Self::Operator => "operator",
            Self::Roster => "roster",
        }
    }

    fn state_after(self) -> PatientState {
        match self {
            Self::ConsentRevoked => PatientState::Revoked,
            // Not undone by the next cycle.
            Self::Operator => PatientState::Paused,
            // Listed again, it is pulled like anyone new.
            Self::Roster => PatientState::New,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    pub rows_by_table: BTreeMap<String, u64>,
}

impl Erased {
    pub fn rows(&self) -> u64 {
        self.rows_by_table.values().sum()
    }
}

/// Removes every row of the patient in every table that has a `person_id`, and logs it.
/// Runs inside a transaction.
pub fn erase(
    connection: &Connection,
    person: &PersonId,
    reason: PurgeReason,
    confirmed_at: Timestamp,
    now: Timestamp,
) -> Result<Erased, StoreFailed> {
    let mut erased = Erased::default();
    for table in tables::purged_tables(connection)? {
        let statement = format!("DELETE FROM \"{table}\" WHERE person_id = ?1");
        let rows = connection.prepare_cached(&statement)?.execute([person.as_str()])? as u64;
        if rows > 0 {
            erased.rows_by_table.insert(table, rows);
        }
    }
    let rows_by_table = serde_json::to_string(&erased.rows_by_table)
        .map_err(|error| StoreFailed::Sqlite(format!("counting erased rows: {error}")))?;
    connection.execute(
        "INSERT INTO purge_log (person_id, reason, confirmed_at, purged_at, rows_by_table) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![person.as_str(), reason.as_str(), stamp(confirmed_at), stamp(now), rows_by_table],
    )?;
    forget(connection, person, reason.state_after(), now)?;
    Ok(erased)
}

/// A withdrawn consent of a patient without rows: nothing to purge, nothing to log.
pub fn revoke_without_rows(
    connection: &Connection,
    person: &PersonId,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    forget(connection, person, PatientState::Revoked, now)
}

fn forget(
    connection: &Connection,
    person: &PersonId,
    state: PatientState,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    checkpoint::drop_pull(connection, person)?;
    connection.execute(
        "UPDATE checkpoint
            SET state = ?2, watermark = NULL, types = '', last_full_at = NULL, last_error = NULL, failures = 0,
                next_attempt_at = NULL, sweep_guarded_at = NULL, renamed_full_at = NULL, last_asked_at = ?3
          WHERE person_id = ?1",
        params![person.as_str(), state.as_str(), stamp(now)],
    )?;
    connection.execute(
        "UPDATE pull SET error = NULL WHERE person_id = ?1 AND error IS NOT NULL",
        [person.as_str()],
    )?;
    Ok(())
}

/// Why the last bytes are still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scrub {
    NothingToDo,
    Done { purges: u64 },
    Waits(ScrubWaits),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrubWaits {
    Reader,
    Room(Room),
    Failed(String),
}

impl std::fmt::Display for ScrubWaits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Reader => {
                f.write_str("a reader has the warehouse open; the last bytes go when it has closed it")
            }
            Self::Room(Room { needed, free }) => write!(
                f,
                "VACUUM needs {} MB free beside the warehouse and finds {} MB; make room",
                needed / 1_000_000,
                free / 1_000_000
            ),
            Self::Failed(what) => write!(f, "VACUUM failed ({what}); it is tried again after the next cycle"),
        }
    }
}

pub fn unscrubbed(connection: &Connection) -> Result<u64, StoreFailed> {
    Ok(connection
        .query_row("SELECT count(*) FROM purge_log WHERE scrubbed_at IS NULL", [], |row| row.get(0))?)
}

/// Since when the bytes of a purged patient wait to be removed.
pub fn oldest_unscrubbed(connection: &Connection) -> Result<Option<Timestamp>, StoreFailed> {
    let oldest: Option<String> = connection.query_row(
        "SELECT min(purged_at) FROM purge_log WHERE scrubbed_at IS NULL",
        [],
        |row| row.get(0),
    )?;
    Ok(oldest.as_deref().and_then(parse_stamp))
}

/// Removes the last bytes of all purged patients. `now` is called once the bytes are gone.
pub fn scrub(
    connection: &Connection,
    path: &Path,
    now: impl Fn() -> Timestamp,
) -> Result<Scrub, StoreFailed> {
    let purges = unscrubbed(connection)?;
    if purges == 0 {
        return Ok(Scrub::NothingToDo);
    }
    if let Some(waits) = room_missing(connection, path)? {
        return Ok(Scrub::Waits(waits));
    }
    if !wal_is_empty(connection)? {
        return Ok(Scrub::Waits(ScrubWaits::Reader));
    }
    if let Err(error) = connection.execute_batch("VACUUM") {
        return Ok(Scrub::Waits(ScrubWaits::Failed(error.to_string())));
    }
    if !wal_is_empty(connection)? {
        return Ok(Scrub::Waits(ScrubWaits::Reader));
    }
    connection.execute("UPDATE purge_log SET scrubbed_at = ?1 WHERE scrubbed_at IS NULL", [stamp(now())])?;
    Ok(Scrub::Done { purges })
}

/// What `status` says of purges whose last bytes are still there. Only looks.
pub fn scrub_waits_for(connection: &Connection, path: &Path) -> Result<Option<String>, StoreFailed> {
    if unscrubbed(connection)? == 0 {
        return Ok(None);
    }
    Ok(Some(match room_missing(connection, path)? {
        Some(waits) => waits.to_string(),
        None => "the next cycle, or a reader that has the warehouse open".to_owned(),
    }))
}

/// Moves the WAL into the file and cuts it to nothing; false while a reader holds it.
fn wal_is_empty(connection: &Connection) -> Result<bool, StoreFailed> {
    connection.busy_timeout(SCRUB_PATIENCE)?;
    let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    Ok(busy? == 0)
}

/// How long a scrub waits for a reader before it leaves the rest to the next cycle.
const SCRUB_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Bytes on the disk of a warehouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What VACUUM may need.
    pub needed: u64,
    pub free: u64,
}

impl Room {
    pub fn is_enough(self) -> bool {
        self.needed <= self.free
    }
}

/// Is there room for a VACUUM? `None` where the disk does not tell.
pub fn room(connection: &Connection, path: &Path) -> Result<Option<Room>, StoreFailed> {
    let pages: u64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    let page_size: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let free_pages: u64 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    // A copy in a temporary file and the same again in the WAL, of the pages that are in use.
    let needed = pages.saturating_sub(free_pages) * page_size * 22 / 10;
    let folder = open::folder_of(path);
    let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(None) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Ok(Some(Room { needed, free }))
}

fn room_missing(connection: &Connection, path: &Path) -> Result<Option<ScrubWaits>, StoreFailed> {
    Ok(room(connection, path)?.filter(|room| !room.is_enough()).map(ScrubWaits::Room))
}

//! Puts a backup in the warehouse's place while nothing runs.
//!
//! Promise: before anything can be read under the warehouse's name, every purge of the ledger has
//! been carried out on the restored file and its last bytes are gone. The former file is kept beside
//! it. What fails leaves the warehouse as it was.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags};

use super::backup::Unfinished;
use super::lock::{ServiceLock, WriterLock};
use super::open::Found;
use super::{backup, ledger_book, open, scrub};
use crate::plan::Timestamp;
use crate::warehouse::beside::copies::CopyStep;
use crate::warehouse::beside::files::{SIDES, with_suffix};
use crate::warehouse::beside::{appended, copies, files, ledger};
use crate::warehouse::failure::{LedgerFault, OpenFailed, RestoreFailed, StoreFailed};
use crate::warehouse::place::Place;
use crate::warehouse::purge::{CarriedOut, Scrub};
use crate::warehouse::report::{CopyKind, PatientCopy, Restored, Steps};

/// Restores `file`. `told` hears how far the copying has come, and says whether to go on.
pub(in crate::warehouse) fn restore(
    place: &Place,
    file: &Path,
    clock: fn() -> Timestamp,
    told: impl FnMut(Steps) -> bool,
) -> Result<Restored, RestoreFailed> {
    // A link to the warehouse stays one.
    let place = &open::resolve_place(place)?;
    expect_warehouse(file, place.path())?;
    open::make_folder(place)?;
    // Whatever the file in the warehouse's place is by now: it may be damaged from its first byte.
    let _no_daemon = ServiceLock::take_beside(place.path())?;
    let _no_cycle = WriterLock::take(place.path())?;
    let path = place.path().to_owned();
    let failed = |source| RestoreFailed::Io { path: path.clone(), source };
    let new = with_suffix(&path, ".new");
    files::remove_with_sides(&new).map_err(failed)?;
    files::make_private_for_owner(&new).map_err(failed)?;
    let unfinished = Unfinished(&new);
    backup::copy(&open_backup(file)?, &new, told)?;
    let mut restored = bring_up_to_date(place, file, &new, clock)?;
    restored.former = set_aside(&path, clock())?;
    fs::rename(&new, &path).map_err(failed)?;
    std::mem::forget(unfinished);
    open::restrict(place).map_err(failed)?;
    appended::sync_folder(&path).map_err(failed)?;
    Ok(restored)
}

fn not_a_warehouse(file: &Path, why: &impl ToString) -> RestoreFailed {
    RestoreFailed::NotAWarehouse { file: file.to_owned(), why: why.to_string() }
}

/// Refuses what is no warehouse of ours, by its first bytes, and the warehouse itself.
fn expect_warehouse(file: &Path, warehouse: &Path) -> Result<(), RestoreFailed> {
    let why = match open::look(file) {
        Ok(Found::Warehouse) => match (fs::canonicalize(file), fs::canonicalize(warehouse)) {
            (Ok(file), Ok(warehouse)) if file == warehouse => "it is the warehouse itself".to_owned(),
            _ => return Ok(()),
        },
        Ok(Found::Nothing) => "there is no such file".to_owned(),
        Err(OpenFailed::Io { source, .. }) => source.to_string(),
        Err(_) => "it is no warehouse of healthex-sync".to_owned(),
    };
    Err(not_a_warehouse(file, &why))
}

/// Opens a backup for reading, also where nothing can be written beside it.
fn open_backup(file: &Path) -> Result<Connection, RestoreFailed> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let try_it = |connection: Connection| -> rusqlite::Result<Connection> {
        connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0))?;
        Ok(connection)
    };
    if let Ok(opened) = Connection::open_with_flags(file, flags).and_then(try_it) {
        return Ok(opened);
    }
    let name = percent_encode(file.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC);
    let unchanging = format!("file:{name}?immutable=1");
    Connection::open_with_flags(unchanging, flags | OpenFlags::SQLITE_OPEN_URI)
        .and_then(try_it)
        .map_err(|error| not_a_warehouse(file, &error))
}

/// Checks the copy, carries out the ledger on it, and takes out what that left.
fn bring_up_to_date(
    place: &Place,
    file: &Path,
    new: &Path,
    clock: fn() -> Timestamp,
) -> Result<Restored, RestoreFailed> {
    let mut connection = Connection::open_with_flags(new, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(|error| not_a_warehouse(file, &error))?;
    open::set_pragmas(&connection, new).map_err(|error| not_a_warehouse(file, &error))?;
    let checked: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| not_a_warehouse(file, &error))?;
    if checked != "ok" {
        return Err(not_a_warehouse(file, &format!("it is damaged ({checked})")));
    }
    let version = open::user_version(&connection)?;
    if version > open::SCHEMA_VERSION {
        let known = open::SCHEMA_VERSION;
        return Err(not_a_warehouse(
            file,
            &format!("it has schema {version} and this program knows {known}; install the newer program"),
        ));
    }
    open::migrate(&mut connection, version)?;
    let ledger = ledger::resolve(place);
    let ledger_was_missing = fs::symlink_metadata(&ledger).is_err();
    let mut book = ledger_book::open(ledger.clone(), &mut connection, clock())?;
    let ledger_fault = book.fault();
    if let Some(LedgerFault::OfAnother(_)) = ledger_fault {
        return Err(OpenFailed::OtherLedger { path: file.to_owned(), ledger }.into());
    }
    let mut purged = book.take_carried_out();
    if ledger_fault.is_some() || ledger_was_missing {
        // Then the former file is who else knows.
        purged.extend(purges_of_former(place.path(), &mut connection, clock())?);
    }
    match scrub::scrub_private(&connection, new, clock)? {
        Scrub::Waits(waits) => return Err(RestoreFailed::NotScrubbed(waits.to_string())),
        Scrub::NothingToDo | Scrub::Done(_) => {}
    }
    if !scrub::wal_is_empty(&connection)? {
        return Err(StoreFailed::Busy("another program has the restored file open".to_owned()).into());
    }
    connection.close().map_err(|(_, error)| StoreFailed::from(error))?;
    Ok(Restored { purged, former: None, ledger_was_missing, ledger_fault })
}

/// Carries out what the former file's own log of purges knows, if it can be read.
fn purges_of_former(
    former: &Path,
    connection: &mut Connection,
    now: Timestamp,
) -> Result<Vec<CarriedOut>, StoreFailed> {
    let Ok(former) = open::open_reader(former) else { return Ok(Vec::new()) };
    match ledger_book::carry_out_log_of(&former, connection, now) {
        Err(StoreFailed::Damaged(_) | StoreFailed::Engine(_)) => Ok(Vec::new()),
        done => done,
    }
}

/// Gives the former warehouse another name beside its own, which it keeps until another file takes
/// it. Returns the name.
fn set_aside(path: &Path, now: Timestamp) -> Result<Option<PathBuf>, RestoreFailed> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(None);
    }
    let failed = |source| RestoreFailed::Io { path: path.to_owned(), source };
    let former = free_name(path, now);
    let is_whole = close_former(path)?;
    let copy = PatientCopy { kind: CopyKind::Restore, place: &former, person: None };
    copies::note_copy(path, &copy, CopyStep::Begun, now)?;
    let moved = name_former(path, &former, is_whole);
    let step = if moved.is_ok() { CopyStep::Made } else { CopyStep::Failed };
    copies::note_copy(path, &copy, step, now)?;
    moved.map_err(failed)?;
    Ok(Some(former))
}

/// Returns a name for what was the warehouse until now. Two restores may come within one second.
fn free_name(path: &Path, now: Timestamp) -> PathBuf {
    let first = with_suffix(path, &format!(".before-{}", now.in_file_name()));
    let others = (2..).map(|number| with_suffix(&first, &format!("-{number}")));
    let is_free = |name: &PathBuf| fs::symlink_metadata(name).is_err();
    std::iter::once(first.clone()).chain(others).find(is_free).unwrap_or(first)
}

fn name_former(path: &Path, former: &Path, is_whole: bool) -> std::io::Result<()> {
    if !is_whole {
        for side in SIDES {
            match fs::rename(with_suffix(path, side), with_suffix(former, side)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    // Two names until the restored file takes one, so that a kill leaves no gap.
    fs::hard_link(path, former).or_else(|_| fs::rename(path, former))
}

/// Moves the WAL of the former warehouse into its file. False where it is too damaged for that, and
/// what is beside it goes with it.
fn close_former(path: &Path) -> Result<bool, RestoreFailed> {
    let close = || -> Result<bool, StoreFailed> {
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let is_empty = scrub::wal_is_empty(&connection)?;
        connection.close().map_err(|(_, error)| error)?;
        Ok(is_empty)
    };
    let is_closed = match close() {
        Ok(is_closed) => is_closed,
        Err(StoreFailed::Damaged(_) | StoreFailed::Engine(_)) => return Ok(false),
        Err(failed) => return Err(failed.into()),
    };
    // The last to close a warehouse removes what is beside it.
    let is_read = with_suffix(path, "-shm").exists();
    if is_closed && !is_read { Ok(true) } else { Err(RestoreFailed::ReadersOpen(path.to_owned())) }
}

//! Opening: a file is ours or it is left alone; a new one appears whole or not at all.

use std::fs;
use std::fs::{DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::analyst_tables::AnalystTables;
use super::{checkpoint, header, ledger_book, tables};
use crate::plan::Timestamp;
use crate::plan::resource_type::{ResourceType, US_CORE};
use crate::warehouse::beside::files::{MODE, make_private_for_owner, remove_with_sides, with_suffix};
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::place::{FileIdentity, Location, OtherServer, Place, folder_of};

/// `HEXS`
pub(super) const APPLICATION_ID: i32 = 0x4845_5853;

/// The modes of files that `warehouse.group` may read, and of the folders that are made for them.
pub(super) const MODE_FOR_GROUP: u32 = 0o640;
const FOLDER_MODE_FOR_GROUP: u32 = 0o750;

/// Measured on Synthea data: see ARCHITECTURE.md.
const PAGE_SIZE: u32 = 8192;

const MIGRATIONS: [Migration; 15] = [
    Migration::of(include_str!("../../../schema/0001_bookkeeping.sql")),
    Migration::of(include_str!("../../../schema/0002_analyst_tables.sql")),
    Migration::of(include_str!("../../../schema/0003_seen_by_page.sql")),
    Migration::of(include_str!("../../../schema/0004_shorter_hashes.sql")),
    Migration {
        sql: include_str!("../../../schema/0005_who_holds_rows.sql"),
        then: Some(checkpoint::find_who_holds_rows),
    },
    Migration::of(include_str!("../../../schema/0006_refusals.sql")),
    Migration {
        sql: include_str!("../../../schema/0007_identity.sql"),
        then: Some(tables::add_superseded_at),
    },
    Migration::of(include_str!("../../../schema/0008_scrubbed_by.sql")),
    Migration::of(include_str!("../../../schema/0009_late_indexes.sql")),
    Migration::of(include_str!("../../../schema/0010_ledger.sql")),
    Migration::of(include_str!("../../../schema/0011_removed.sql")),
    Migration::of(include_str!("../../../schema/0012_consents.sql")),
    Migration::of(include_str!("../../../schema/0013_history.sql")),
    Migration::of(include_str!("../../../schema/0014_service.sql")),
    Migration::of(include_str!("../../../schema/0015_study_patients.sql")),
];

/// What is done after a migration's SQL.
type Completion = fn(&Connection) -> Result<(), StoreFailed>;

/// One step of the schema, in a transaction of its own.
struct Migration {
    sql: &'static str,
    /// What SQL alone cannot do.
    then: Option<Completion>,
}

impl Migration {
    const fn of(sql: &'static str) -> Self {
        Self { sql, then: None }
    }
}

/// The schema this program writes.
#[expect(clippy::cast_possible_wrap, reason = "a handful of migrations")]
pub(in crate::warehouse) const SCHEMA_VERSION: i64 = MIGRATIONS.len() as i64;

/// Returns the same place by the path of the file itself, where `path` is a symbolic link: its locks
/// and what lies beside it are found there by whatever name it is opened.
pub(super) fn resolve_place(place: &Place) -> Result<Place, OpenFailed> {
    Ok(Place { location: Location::File(resolve(place.path())?), ..place.clone() })
}

/// Returns the path of the file itself where the last part of `path` is a symbolic link.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, OpenFailed> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) {
        return Ok(path.to_owned());
    }
    fs::canonicalize(path).map_err(|source| match source.kind() {
        ErrorKind::NotFound => OpenFailed::DanglingLink(path.to_owned()),
        _ => OpenFailed::Io { path: path.to_owned(), source },
    })
}

/// Refuses what is not a warehouse, and makes the folder of a new one. Touches nothing else.
pub(super) fn prepare(place: &Place) -> Result<(), OpenFailed> {
    if look(place.path())? == Found::Warehouse {
        return Ok(());
    }
    make_folder(place)
}

/// Makes the folder of a warehouse where there is none. Who may read the file may enter it.
pub(super) fn make_folder(place: &Place) -> Result<(), OpenFailed> {
    let folder = folder_of(place.path());
    let missing: Vec<&Path> =
        folder.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists()).collect();
    let make = || {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        for made in missing.into_iter().filter(|_| place.group.is_some()) {
            std::os::unix::fs::chown(made, None, place.group)?;
            fs::set_permissions(made, Permissions::from_mode(FOLDER_MODE_FOR_GROUP))?;
        }
        Ok(())
    };
    make().map_err(|source| OpenFailed::Io { path: folder.to_owned(), source })
}

/// Opens for writing, making the warehouse where there is none.
pub(super) fn open_writer(
    place: &Place,
    analyst_tables: &AnalystTables,
    other_server: OtherServer,
    now: Timestamp,
) -> Result<Connection, OpenFailed> {
    let path = place.path();
    if look(path)? == Found::Nothing {
        ledger_book::expect_none(place)?;
        create(place)?;
    }
    let unusable = |source: StoreFailed| OpenFailed::Unusable { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|error| unusable(error.into()))?;
    set_pragmas(&connection, path).map_err(|error| unusable(error.into()))?;
    #[cfg(test)]
    super::simulated::prepare(&mut connection).map_err(|error| unusable(error.into()))?;
    if place.group.is_some() {
        keep_wal(&connection).map_err(|error| unusable(error.into()))?;
    }
    let version = user_version(&connection).map_err(unusable)?;
    if version > SCHEMA_VERSION {
        return Err(OpenFailed::NewerSchema { path: path.to_owned(), version, known: SCHEMA_VERSION });
    }
    match check_server(&connection, place) {
        Ok(is_of_this) => {
            migrate(&mut connection, version).map_err(unusable)?;
            if !is_of_this {
                follow_server(&mut connection, &place.base_url).map_err(unusable)?;
            }
        }
        Err(OpenFailed::OtherServer { .. }) if other_server == OtherServer::Adopt => {
            migrate(&mut connection, version).map_err(unusable)?;
            adopt(&mut connection, &place.base_url).map_err(unusable)?;
        }
        Err(failed) => return Err(failed),
    }
    analyst_tables.migrate(&mut connection, now).map_err(unusable)?;
    restrict(place).map_err(|source| OpenFailed::Io { path: path.to_owned(), source })?;
    Ok(connection)
}

/// Opens for reading. Never makes a file.
pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenFailed> {
    if look(path)? == Found::Nothing {
        return Err(OpenFailed::Missing(path.to_owned()));
    }
    let unusable = |source: StoreFailed| OpenFailed::Unusable { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| unusable(error.into()))?;
    connection.busy_timeout(std::time::Duration::from_secs(10)).map_err(|error| unusable(error.into()))?;
    keep_temporary_files_beside(&connection, path).map_err(|error| unusable(error.into()))?;
    let version = user_version(&connection).map_err(unusable)?;
    if version > SCHEMA_VERSION {
        return Err(OpenFailed::NewerSchema { path: path.to_owned(), version, known: SCHEMA_VERSION });
    }
    Ok(connection)
}

/// Refuses a warehouse that another server filled. One that holds nothing is anybody's, since its server may have been
/// misspelt: returns false then.
pub(super) fn check_server(connection: &Connection, place: &Place) -> Result<bool, OpenFailed> {
    let path = place.path().to_owned();
    let filled_from =
        filled_from(connection).map_err(|source| OpenFailed::Unusable { path: path.clone(), source })?;
    if filled_from == place.base_url {
        return Ok(true);
    }
    if holds_nothing(connection) {
        return Ok(false);
    }
    Err(OpenFailed::OtherServer { path, filled_from, base_url: place.base_url.clone() })
}

/// Returns which file the path names now.
pub(in crate::warehouse) fn identity(path: &Path) -> Option<FileIdentity> {
    let found = fs::metadata(path).ok()?;
    Some(FileIdentity { device: found.dev(), inode: found.ino() })
}

#[derive(PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Warehouse,
}

/// Reads the header as bytes, so that looking at a file that is not ours changes nothing.
pub(super) fn look(path: &Path) -> Result<Found, OpenFailed> {
    let failed = |source| OpenFailed::Io { path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(failed(error)),
        Ok(found) if found.is_dir() => return Err(OpenFailed::IsDirectory(path.to_owned())),
        Ok(found) if found.len() == 0 => return Err(OpenFailed::IsEmpty(path.to_owned())),
        Ok(_) => {}
    }
    let header = match header::read(path) {
        Ok(header) => header,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(OpenFailed::NotOurs(path.to_owned()));
        }
        Err(error) => return Err(failed(error)),
    };
    let ours = header.starts_with(b"SQLite format 3\0") && header[68..72] == APPLICATION_ID.to_be_bytes();
    if ours { Ok(Found::Warehouse) } else { Err(OpenFailed::NotOurs(path.to_owned())) }
}

/// Built beside its place and renamed once it is whole, so that a kill leaves none or all of it.
fn create(place: &Place) -> Result<(), OpenFailed> {
    let path = place.path();
    let failed = |source| OpenFailed::Io { path: path.to_owned(), source };
    prepare(place)?;
    let new = with_suffix(path, ".new");
    remove_with_sides(&new).map_err(failed)?;
    make_private_for_owner(&new).map_err(failed)?;
    let unusable = |source: StoreFailed| OpenFailed::Unusable { path: path.to_owned(), source };
    build(&new, &place.base_url).map_err(unusable)?;
    fs::rename(&new, path).map_err(failed)?;
    File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn build(new: &Path, base_url: &str) -> Result<(), StoreFailed> {
    let mut connection = Connection::open(new)?;
    connection.pragma_update(None, "page_size", PAGE_SIZE)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    set_pragmas(&connection, new)?;
    migrate(&mut connection, 0)?;
    connection.execute("INSERT INTO about (name, value) VALUES ('base_url', ?1)", [base_url])?;
    ledger_book::note_new_id(&connection)?;
    let transaction = connection.transaction()?;
    for name in US_CORE {
        if let Some(known) = ResourceType::by_name(name) {
            tables::ensure(&transaction, &known.table)?;
        }
    }
    transaction.commit()?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    connection.close().map_err(|(_, error)| error.into())
}

pub(super) fn set_pragmas(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    // Before anything is written: what is deleted from now on is overwritten with zeros.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // NORMAL loses acknowledged commits in a power cut, and a purge that comes back may not happen.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
    connection.pragma_update(None, "wal_autocheckpoint", WAL_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", WAL_BYTES_KEPT)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    keep_temporary_files_beside(connection, path)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    // Else a statement is planned again whenever its parameters change, for statistics we do not keep.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Keeps what VACUUM and large sorts put aside out of `TMPDIR` and /var/tmp: it is patients' rows.
fn keep_temporary_files_beside(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    let folder = folder_of(path).to_str();
    let is_set = folder.map(|folder| connection.pragma_update(None, "temp_store_directory", folder));
    // A reader of another account cannot write there.
    let store = if matches!(is_set, Some(Ok(()))) { "FILE" } else { "MEMORY" };
    connection.pragma_update(None, "temp_store", store)
}

/// Whoever is last to close a WAL file removes `-wal` and `-shm`, and a group that may only read
/// cannot make them: so they stay in place between cycles.
fn keep_wal(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(drop)
}

/// Moves the WAL into the database before a close that does not do so by itself.
pub(super) fn empty_kept_wal(connection: &Connection) -> rusqlite::Result<()> {
    if connection.db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)? {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok(())
}

const CACHE_KIB: i64 = 16 * 1024;
const WAL_PAGES: i64 = 4000;
const WAL_BYTES_KEPT: i64 = 64 * 1024 * 1024;
/// Three for each resource type, and what else there is.
const STATEMENTS_KEPT: usize = 512;

pub(super) fn migrate(connection: &mut Connection, from: i64) -> Result<(), StoreFailed> {
    for (version, migration) in (1i64..).zip(&MIGRATIONS).filter(|(version, _)| *version > from) {
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        transaction.execute_batch(migration.sql)?;
        if let Some(then) = migration.then {
            then(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Returns whether nothing is kept that a server said of a patient. An older schema that cannot be asked holds something.
fn holds_nothing(connection: &Connection) -> bool {
    let statement = include_str!("../../../schema/holds_nothing.sql");
    connection.query_row(statement, [], |row| row.get(0)).unwrap_or(false)
}

/// Gives what holds nothing to another server than the one it was made for.
fn follow_server(connection: &mut Connection, base_url: &str) -> Result<(), StoreFailed> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    transaction.execute_batch(include_str!("../../../schema/forget_attempts.sql"))?;
    note_server(&transaction, base_url)?;
    Ok(transaction.commit()?)
}

fn note_server(connection: &Connection, base_url: &str) -> Result<(), StoreFailed> {
    connection.execute("UPDATE about SET value = ?1 WHERE name = 'base_url'", [base_url])?;
    Ok(())
}

fn adopt(connection: &mut Connection, base_url: &str) -> Result<(), StoreFailed> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let adopt = include_str!("../../../schema/adopt_server.sql");
    transaction.execute_batch(&adopt.replace("{no_pull}", include_str!("../../../schema/no_pull.sql")))?;
    note_server(&transaction, base_url)?;
    Ok(transaction.commit()?)
}

/// The schema of this file; an older one is brought up by the next cycle.
pub(super) fn user_version(connection: &Connection) -> Result<i64, StoreFailed> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

/// The server this warehouse was filled from.
fn filled_from(connection: &Connection) -> Result<String, StoreFailed> {
    let found = connection
        .query_row("SELECT value FROM about WHERE name = 'base_url'", [], |row| row.get(0))
        .optional()?;
    found.ok_or_else(|| StoreFailed::Damaged("it does not say which server it was filled from".to_owned()))
}

pub(super) fn restrict(place: &Place) -> std::io::Result<()> {
    let mode = if place.group.is_some() { MODE_FOR_GROUP } else { MODE };
    for suffix in ["", "-wal", "-shm"] {
        let path = with_suffix(place.path(), suffix);
        let Ok(found) = fs::metadata(&path) else { continue };
        // A reader has made it, where it may: it is not ours to change.
        if !suffix.is_empty() && found.uid() != rustix::process::geteuid().as_raw() {
            continue;
        }
        if let Some(group) = place.group {
            std::os::unix::fs::chown(&path, None, Some(group))?;
        }
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    Ok(())
}

//! The pages of a running database, through SQLite's own pager: the table `sqlite_dbpage`.
//!
//! Promise: a write is part of the transaction it is made in, like any other.

use rusqlite::config::DbConfig;
use rusqlite::{CachedStatement, Connection, OptionalExtension};

use crate::warehouse::failure::StoreFailed;

/// Why nothing is zeroed in place, before any page has been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("this SQLite has no sqlite_dbpage")]
    NoModule,
    #[error("this connection may not write pages")]
    Defensive,
    #[error("the journal is no WAL")]
    NoWal,
    #[error("much of the file is free")]
    MuchIsFree,
}

/// Of the file's pages, this part is free: better a smaller file.
const FREE_PART_MAX: u64 = 4;

/// Returns why the database cannot or should not be zeroed in place.
pub(super) fn unfit(connection: &Connection) -> Result<Option<Unfit>, StoreFailed> {
    let has_module = "SELECT EXISTS (SELECT 1 FROM pragma_module_list WHERE name = 'sqlite_dbpage')";
    if !connection.query_row(has_module, [], |row| row.get::<_, bool>(0))? {
        return Ok(Some(Unfit::NoModule));
    }
    if connection.db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE)? {
        return Ok(Some(Unfit::Defensive));
    }
    let journal: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    if journal != "wal" {
        return Ok(Some(Unfit::NoWal));
    }
    let free: u64 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    let pages: u64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    Ok((pages < free * FREE_PART_MAX).then_some(Unfit::MuchIsFree))
}

/// Reads pages, in the transaction of the connection.
pub(super) struct Reader<'c> {
    statement: CachedStatement<'c>,
}

impl<'c> Reader<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<Self, StoreFailed> {
        Ok(Self { statement: connection.prepare_cached("SELECT data FROM sqlite_dbpage WHERE pgno = ?1")? })
    }

    /// Hands the bytes of a page to `read`; `None` beyond the end of the file.
    pub(super) fn read<T>(
        &mut self,
        page: u32,
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StoreFailed> {
        let mut rows = self.statement.query([page])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let bytes = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        Ok(Some(read(bytes)))
    }
}

/// Replaces the bytes of a page, in the transaction of the connection.
pub(super) fn write(connection: &Connection, page: u32, bytes: &[u8]) -> Result<(), StoreFailed> {
    let mut statement = connection.prepare_cached("UPDATE sqlite_dbpage SET data = ?1 WHERE pgno = ?2")?;
    match statement.execute((bytes, page))? {
        1 => Ok(()),
        _ => Err(StoreFailed::Engine(format!("page {page} could not be written"))),
    }
}

pub(super) fn page_size(connection: &Connection) -> Result<usize, StoreFailed> {
    Ok(connection.query_row("PRAGMA page_size", [], |row| row.get(0))?)
}

pub(super) fn page_count(connection: &Connection) -> Result<u32, StoreFailed> {
    Ok(connection.query_row("PRAGMA page_count", [], |row| row.get(0))?)
}

/// Returns the roots of all trees but that of `sqlite_schema` itself, which is page 1.
pub(super) fn roots(connection: &Connection) -> Result<Vec<u32>, StoreFailed> {
    let mut statement = connection.prepare_cached("SELECT rootpage FROM sqlite_schema WHERE rootpage > 0")?;
    let roots = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(roots)
}

/// How far the WAL has been moved into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checkpointed {
    /// Frames that a reader still keeps where they are.
    pub(super) held_frames: u64,
}

/// Moves what it can of the WAL into the file, and waits for nobody.
pub(super) fn checkpoint(connection: &Connection) -> Result<Checkpointed, StoreFailed> {
    let held: Option<u64> = connection
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            let (log, moved): (i64, i64) = (row.get(1)?, row.get(2)?);
            Ok(u64::try_from(log - moved).unwrap_or(0))
        })
        .optional()?;
    Ok(Checkpointed { held_frames: held.unwrap_or(0) })
}

/// What tells whether anybody has written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Commits {
    /// Rows that this connection has changed.
    pub(super) changes: u64,
    /// Another after each commit of another connection.
    pub(super) others: i64,
}

pub(super) fn commits(connection: &Connection) -> Result<Commits, StoreFailed> {
    let others = connection.query_row("PRAGMA data_version", [], |row| row.get(0))?;
    Ok(Commits { changes: connection.total_changes(), others })
}

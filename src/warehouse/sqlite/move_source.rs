//! A file whose rows move to a server: read in its own order, in pieces. Nobody writes to it meanwhile.

use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use super::lock::WriterLock;
use super::{cycle_ends, open, purge, tables};
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::moved::{MovedCell, MovedRows};

/// Rows of one piece, and bytes of them.
const PIECE_ROWS: usize = 500;
const PIECE_BYTES: usize = 8 << 20;

pub(in crate::warehouse) struct MoveSource {
    connection: Connection,
    _lock: WriterLock,
}

impl MoveSource {
    /// Refuses a file that is in use, of another release, or with bytes of purged patients in it: nobody would remove
    /// them any more.
    pub(in crate::warehouse) fn open(file: &Path) -> Result<Self, OpenFailed> {
        let path: PathBuf = open::resolve(file)?;
        let lock = WriterLock::take(&path)?;
        let connection = open::open_reader(&path)?;
        let unusable = |source: StoreFailed| OpenFailed::Unusable { path: path.clone(), source };
        let refuse = |why: String| Err(unusable(StoreFailed::Engine(why)));
        if open::user_version(&connection).map_err(unusable)? < open::SCHEMA_VERSION {
            return refuse(
                "it is of an older healthex-sync; `healthex-sync sync` with this one brings it up, and then it can be moved"
                    .to_owned(),
            );
        }
        match purge::unscrubbed(&connection).map_err(unusable)? {
            0 => Ok(Self { connection, _lock: lock }),
            purges => refuse(format!(
                "{purges} purges still have bytes in it, which nobody would remove any more; `healthex-sync sync` removes them, and then it can be moved"
            )),
        }
    }

    /// Returns what is another after each cycle and purge.
    pub(in crate::warehouse) fn as_of(&self) -> Result<String, StoreFailed> {
        let last = "SELECT printf('%d %d %d', (SELECT coalesce(max(id), 0) FROM pull),
                                  (SELECT coalesce(max(id), 0) FROM cycle), (SELECT coalesce(max(id), 0) FROM purge_log))";
        let last: String = self.connection.query_row(last, [], |row| row.get(0))?;
        let started = cycle_ends::cycle_times(&self.connection)?.last_started_at;
        Ok(format!("{last} {}", started.map_or_else(|| "never".to_owned(), |at| at.to_string())))
    }

    /// Returns how many rows a table has; `None` where there is no such table.
    pub(in crate::warehouse) fn count(&self, table: &str) -> Result<Option<usize>, StoreFailed> {
        if !tables::exists(&self.connection, table)? {
            return Ok(None);
        }
        let count = format!("SELECT count(*) FROM \"{table}\"");
        Ok(Some(self.connection.query_row(&count, [], |row| row.get(0))?))
    }

    /// Returns the rows behind a place; those of a table without places all at once.
    pub(in crate::warehouse) fn rows_after(
        &self,
        table: &str,
        columns: &[&str],
        after: i64,
    ) -> Result<MovedRows, StoreFailed> {
        let cells: Vec<String> = columns.iter().map(|name| format!("\"{name}\"")).collect();
        let cells = cells.join(", ");
        let has_places = "SELECT 1 FROM pragma_table_list WHERE schema = 'main' AND name = ?1 AND wr = 0";
        let has_places = self.connection.query_row(has_places, [table], |_| Ok(())).optional()?.is_some();
        let select = if has_places {
            format!("SELECT {cells}, rowid FROM \"{table}\" WHERE rowid > ?1 ORDER BY rowid")
        } else {
            format!("SELECT {cells}, 0 FROM \"{table}\" WHERE ?1 IS NOT NULL")
        };
        let mut statement = self.connection.prepare_cached(&select)?;
        let mut found = statement.query([after])?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while let Some(row) = found.next()? {
            let cells = (0..columns.len()).map(|at| row.get_ref(at).map(|found| cell(found, &mut bytes)));
            rows.push(cells.collect::<Result<Vec<_>, _>>()?);
            if has_places && (rows.len() == PIECE_ROWS || PIECE_BYTES <= bytes) {
                return Ok(MovedRows { rows, read_to: Some(row.get(columns.len())?) });
            }
        }
        Ok(MovedRows { rows, read_to: None })
    }
}

fn cell(found: ValueRef<'_>, bytes: &mut usize) -> MovedCell {
    match found {
        ValueRef::Null => MovedCell::Null,
        ValueRef::Integer(number) => MovedCell::Integer(number),
        ValueRef::Real(number) => MovedCell::Real(number),
        ValueRef::Text(text) => {
            *bytes += text.len();
            MovedCell::Text(String::from_utf8_lossy(text).into_owned())
        }
        ValueRef::Blob(blob) => {
            *bytes += blob.len();
            MovedCell::Bytes(blob.to_vec())
        }
    }
}

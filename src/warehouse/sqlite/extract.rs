//! The rows that changed resources give the analysts' tables, worked out beside the warehouse.
//!
//! Promise: a view's SELECT gives here what it gives in the warehouse. It reads the resources
//! from a table in memory, because the JSON functions take several times as long as all of the
//! storing: this way every core takes a part, and the one thread that writes only inserts.

use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, ToSql};

use super::view_table::ViewTable;
use crate::plan::PersonId;
use crate::plan::row::Row;
use crate::warehouse::failure::StoreFailed;

/// Resources that one thread works on at a time. Fewer than this are not worth a second thread.
pub(super) const PART_ROWS: usize = 64;
/// Threads at once, each with some megabytes of prepared statements.
const THREADS_MAX: usize = 8;
/// Found once: the system reads files to tell.
static THREADS: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX));

/// Some resources of one table, and the views that read it.
pub(super) struct Part<'p> {
    pub(super) views: &'p [&'p ViewTable],
    pub(super) resources: &'p [&'p Row],
}

/// What a part gives one view, or why the view fails.
pub(super) struct Gained<'p> {
    pub(super) view: &'p ViewTable,
    pub(super) rows: Result<Rows, StoreFailed>,
}

/// Rows as the view's SELECT gave them, cell by cell.
#[derive(Debug)]
pub(super) struct Rows {
    columns: usize,
    cells: Vec<Cell>,
}

impl Rows {
    pub(super) fn iter(&self) -> impl Iterator<Item = &[Cell]> {
        self.cells.chunks(self.columns.max(1))
    }
}

/// A value between two connections. Its text need not be UTF-8: JSON can escape half a surrogate pair.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

impl From<ValueRef<'_>> for Cell {
    fn from(value: ValueRef<'_>) -> Self {
        match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(number) => Self::Integer(number),
            ValueRef::Real(number) => Self::Real(number),
            ValueRef::Text(text) => Self::Text(text.to_vec()),
            ValueRef::Blob(bytes) => Self::Blob(bytes.to_vec()),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Connections to nothing but memory, each with the statements it has prepared.
#[derive(Debug, Default)]
pub(super) struct Extractor {
    idle: Mutex<Vec<Connection>>,
}

impl Extractor {
    /// What each part gives each of its views, in the order of the parts.
    pub(super) fn extract<'p>(&self, person: &PersonId, parts: &[Part<'p>]) -> Vec<Gained<'p>> {
        let resources: usize = parts.iter().map(|part| part.resources.len()).sum();
        let threads = resources.div_ceil(PART_ROWS).min(parts.len()).min(*THREADS);
        let waiting = Mutex::new(parts.iter().enumerate());
        let work = || {
            let mut done = Vec::new();
            loop {
                let Some((place, part)) = lock(&waiting).next() else { break done };
                done.push((place, self.read(person, part)));
            }
        };
        let mut done = thread::scope(|scope| {
            // Where the system gives no more threads, those that there are do it all.
            let start = |_| thread::Builder::new().name("extract".to_owned()).spawn_scoped(scope, work).ok();
            let others: Vec<_> = (1..threads).filter_map(start).collect();
            let mut done = work();
            for other in others {
                done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            done
        });
        done.sort_by_key(|(place, _)| *place);
        done.into_iter().flat_map(|(_, gained)| gained).collect()
    }

    /// What one part gives, by a connection that is idle or a new one.
    fn read<'p>(&self, person: &PersonId, part: &Part<'p>) -> Vec<Gained<'p>> {
        let memory = lock(&self.idle).pop().map_or_else(connect, Ok);
        let asked = memory.and_then(|memory| Ok((ask(&memory, person, part)?, memory)));
        match asked {
            Ok((gained, memory)) => {
                lock(&self.idle).push(memory);
                gained
            }
            Err(why) => {
                let why = StoreFailed::from(why);
                part.views.iter().map(|view| Gained { view, rows: Err(why.clone()) }).collect()
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As many views as a warehouse is likely to have, and some statements for each table they read.
const STATEMENTS_KEPT: usize = 128;

fn connect() -> rusqlite::Result<Connection> {
    let memory = Connection::open_in_memory()?;
    // What fits into a page is read where it lies; anything else is put together for every column.
    memory.pragma_update(None, "page_size", 65_536)?;
    // Else a single large resource would keep its pages for as long as the process lives, …
    memory.pragma_update(None, "auto_vacuum", "FULL")?;
    // … and a sort of many would write them into a file.
    memory.pragma_update(None, "temp_store", "MEMORY")?;
    memory.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(memory)
}

/// Asks each view over the part's resources alone.
fn ask<'p>(
    memory: &Connection,
    person: &PersonId,
    Part { views, resources }: &Part<'p>,
) -> rusqlite::Result<Vec<Gained<'p>>> {
    let Some(table) = resources.first().map(|row| row.table) else { return Ok(Vec::new()) };
    if !memory.table_exists(None::<&str>, table)? {
        memory.execute_batch(&format!(
            "CREATE TABLE \"{table}\" (person_id TEXT, key TEXT, resource TEXT, deleted_at TEXT, superseded_at TEXT)"
        ))?;
    }
    let run = |statement: &str| memory.prepare_cached(statement)?.execute([]);
    run("BEGIN")?;
    let insert = format!("INSERT INTO \"{table}\" (person_id, key, resource) VALUES (?1, ?2, ?3)");
    let mut insert = memory.prepare_cached(&insert)?;
    for row in *resources {
        insert.execute([person.as_str(), &row.key, &row.resource])?;
    }
    let select = |view: &&'p ViewTable| {
        let rows = memory.prepare_cached(&view.select).and_then(all_rows);
        Gained { view, rows: rows.map_err(StoreFailed::from) }
    };
    let gained = views.iter().map(select).collect();
    run(&format!("DELETE FROM \"{table}\""))?;
    run("COMMIT")?;
    Ok(gained)
}

fn all_rows(mut statement: CachedStatement<'_>) -> rusqlite::Result<Rows> {
    let columns = statement.column_count();
    let mut cells = Vec::new();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for at in 0..columns {
            cells.push(row.get_ref(at)?.into());
        }
    }
    Ok(Rows { columns, cells })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::row::row_of;

    fn view(name: &str, column: &str) -> ViewTable {
        ViewTable {
            name: name.to_owned(),
            resource_type: "Observation".to_owned(),
            source_table: "observation".to_owned(),
            create: Vec::new(),
            insert_all: String::new(),
            insert_row: String::new(),
            select: format!("SELECT r.key, {column} FROM \"observation\" AS r WHERE r.deleted_at IS NULL"),
        }
    }

    fn row(number: usize, elements: &str) -> Row {
        let resource = format!("{{\"resourceType\":\"Observation\",{elements}}}");
        row_of(&format!("Observation/{number}"), &resource).unwrap()
    }

    fn extract(
        extractor: &Extractor,
        views: &[&ViewTable],
        rows: &[Row],
    ) -> Vec<Result<Vec<Vec<Cell>>, String>> {
        let rows: Vec<&Row> = rows.iter().collect();
        let parts: Vec<_> = rows.chunks(PART_ROWS).map(|resources| Part { views, resources }).collect();
        let gained = extractor.extract(&PersonId::parse("anna").unwrap(), &parts);
        let rows = |rows: Rows| rows.iter().map(<[Cell]>::to_vec).collect();
        gained.into_iter().map(|part| part.rows.map(rows).map_err(|why| why.to_string())).collect()
    }

    #[test]
    fn every_resource_is_read_once_and_in_order_and_a_view_fails_alone() {
        let (good, bad) = (view("good", "json_extract(r.resource, '$.n')"), view("bad", "json(r.key)"));
        let rows: Vec<Row> = (0..1_000).map(|number| row(number, &format!("\"n\":{number}"))).collect();
        let extractor = Extractor::default();
        for _ in 0..2 {
            let gained = extract(&extractor, &[&good, &bad], &rows);
            let read: Vec<Vec<Cell>> = gained.iter().flatten().flatten().cloned().collect();
            let expected = |number: i64| {
                vec![Cell::Text(format!("Observation/{number}").into_bytes()), Cell::Integer(number)]
            };
            assert_eq!(read, (0..1_000).map(expected).collect::<Vec<_>>());
            assert_eq!(gained.iter().filter(|part| part.is_err()).count(), rows.len().div_ceil(PART_ROWS));
        }
    }

    #[test]
    fn text_that_is_not_utf_8_is_passed_on_byte_by_byte() {
        let gained = extract(
            &Extractor::default(),
            &[&view("view", "json_extract(r.resource, '$.t')")],
            &[row(1, "\"t\":\"a\\ud800\"")],
        );
        let Ok(rows) = &gained[0] else { panic!("{gained:?}") };
        assert_eq!(rows[0][1], Cell::Text(b"a\xed\xa0\x80".to_vec()));
    }

    #[test]
    fn a_large_resource_leaves_no_memory_behind() {
        let extractor = Extractor::default();
        let large = row(1, &format!("\"t\":\"{}\"", "x".repeat(20 << 20)));
        let gained = extract(&extractor, &[&view("view", "length(r.resource)")], &[large]);
        assert!(gained[0].is_ok());
        for memory in lock(&extractor.idle).iter() {
            let pages: i64 = memory.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
            assert!(pages < 10, "{pages} pages");
        }
    }
}

//! The analysts' tables: made, kept up with each page, and built anew when their view changes.
//!
//! Promise: after every commit a stored view holds what its SELECT would give, whatever a page,
//! a sweep or a purge did, and a view that fails never fails a page: it is logged, and built
//! anew at the next start. Absent on purpose: what the views are (`views` compiles them and
//! hands over texts), and purges (they find the tables by `person_id`).

use std::collections::BTreeMap;

use rusqlite::{Connection, named_params, params, params_from_iter};
use xxhash_rust::xxh3::xxh3_128;

use super::extract::{Extractor, Gained, PART_ROWS, Part, Rows};
use super::view_table::ViewTable;
use super::{freshness, tables};
use crate::plan::row::Row;
use crate::plan::{PersonId, Timestamp, stamp};
use crate::views::AnalystTable;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::report::{Steps, StoredTable, ViewRefused};

/// All of them, by name.
#[derive(Debug, Default)]
pub(super) struct AnalystTables {
    known: Vec<Known>,
    extractor: Extractor,
}

#[derive(Debug)]
struct Known {
    table: ViewTable,
    definition: String,
}

/// The rows of one person that a page changed, by resource table.
#[derive(Default)]
pub(super) struct Changes<'b> {
    by_table: BTreeMap<&'static str, Changed<'b>>,
    /// Rows that came to life, less those that were marked or removed.
    live: i64,
}

#[derive(Default)]
pub(super) struct Changed<'b> {
    pub(super) new: Vec<&'b Row>,
    /// Or brought back.
    updated: Vec<&'b Row>,
    /// Marked as deleted or superseded, or removed: their keys.
    gone: Vec<String>,
}

impl Changed<'_> {
    /// Of the resources whose rows may be there, as a JSON array; `None` if there are none.
    fn keys_to_forget(&self) -> Result<Option<String>, StoreFailed> {
        let keys: Vec<&String> = self.updated.iter().map(|row| &row.key).chain(&self.gone).collect();
        if keys.is_empty() {
            return Ok(None);
        }
        let keys = serde_json::to_string(&keys)
            .map_err(|error| StoreFailed::Data(format!("listing changed keys: {error}")))?;
        Ok(Some(keys))
    }
}

impl<'b> Changes<'b> {
    pub(super) fn inserted(&mut self, row: &'b Row) {
        self.by_table.entry(row.table).or_default().new.push(row);
        self.live += 1;
    }

    pub(super) fn updated(&mut self, row: &'b Row, was_deleted: bool) {
        self.by_table.entry(row.table).or_default().updated.push(row);
        self.live += i64::from(was_deleted);
    }

    pub(super) fn gone(&mut self, table: &'static str, key: String) {
        self.by_table.entry(table).or_default().gone.push(key);
        self.live -= 1;
    }

    /// A row is superseded: it lives on, and no analyst sees it.
    pub(super) fn hidden(&mut self, table: &'static str, key: String) {
        self.by_table.entry(table).or_default().gone.push(key);
    }

    pub(super) fn by_table(&self) -> impl Iterator<Item = (&'static str, &Changed<'b>)> {
        self.by_table.iter().map(|(table, changed)| (*table, changed))
    }
}

impl AnalystTables {
    pub(super) fn new(tables: &[AnalystTable]) -> Self {
        let known = |table: ViewTable| {
            let text = format!("{};{}", table.create.join(";"), table.insert_all);
            Known { definition: format!("{:032x}", xxh3_128(text.as_bytes())), table }
        };
        Self { known: tables.iter().map(ViewTable::of).map(known).collect(), extractor: Extractor::default() }
    }

    /// Drops tables whose view is gone, and builds those that are new or have changed.
    pub(super) fn migrate(&self, connection: &mut Connection, now: Timestamp) -> Result<(), StoreFailed> {
        let built = built(connection)?;
        for name in built.keys().filter(|name| *name != freshness::NAME) {
            if !self.known.iter().any(|known| known.table.name == **name) {
                in_transaction(connection, |connection| drop_table(connection, name))?;
                tracing::info!("the analysts' table {name} has no view any more and was dropped");
            }
        }
        if !built.contains_key(freshness::NAME) {
            in_transaction(connection, |connection| note_freshness(connection, now))?;
        }
        for known in &self.known {
            if built.get(&known.table.name) != Some(&known.definition) {
                tolerate(&known.table.name, build(connection, known, now))?;
            }
        }
        Ok(())
    }

    /// Builds every table anew; those that cannot be are returned, and why. `told` hears how
    /// many are done.
    pub(super) fn rebuild(
        &self,
        connection: &mut Connection,
        now: Timestamp,
        mut told: impl FnMut(Steps),
    ) -> Result<Vec<ViewRefused>, StoreFailed> {
        in_transaction(connection, |connection| note_freshness(connection, now))?;
        let mut failed = Vec::new();
        for (done, known) in (1..).zip(&self.known) {
            match build(connection, known, now) {
                Err(StoreFailed::Engine(why) | StoreFailed::Data(why)) => {
                    failed.push(ViewRefused { name: known.table.name.clone(), why });
                }
                done => done?,
            }
            told(Steps { done, of: self.known.len() });
        }
        Ok(failed)
    }

    /// Replaces the rows of the resources that changed. Runs inside the page's transaction.
    pub(super) fn apply_changes(
        &self,
        connection: &Connection,
        person: &PersonId,
        changes: &Changes<'_>,
    ) -> Result<(), StoreFailed> {
        freshness::count(connection, person.as_str(), changes.live)?;
        let tables = self.known.iter().map(|known| &known.table);
        let views_of = |source| tables.clone().filter(|view| view.source_table == source).collect::<Vec<_>>();
        let changed: Vec<_> =
            changes.by_table().map(|(source, changed)| (views_of(source), changed)).collect();
        let mut parts = Vec::new();
        for (views, changed) in changed.iter().filter(|(views, _)| !views.is_empty()) {
            if let Some(keys) = changed.keys_to_forget()? {
                for view in views {
                    keep(connection, view, forget(connection, view, person, &keys))?;
                }
            }
            let resources = changed.new.chunks(PART_ROWS).chain(changed.updated.chunks(PART_ROWS));
            parts.extend(resources.map(|resources| Part { views, resources }));
        }
        for Gained { view, rows } in self.extractor.extract(person, &parts) {
            keep(connection, view, rows.and_then(|rows| insert(connection, view, &rows)))?;
        }
        Ok(())
    }

    /// Tables that hold other rows than their view gives now. What the next start builds anew
    /// anyway is not asked.
    pub(super) fn stale_tables(&self, connection: &Connection) -> Result<Vec<String>, StoreFailed> {
        let built = built(connection)?;
        let mut differing = Vec::new();
        for Known { table, definition } in &self.known {
            let compare = include_str!("../../../schema/rows_that_differ.sql")
                .replace("{table}", &table.name)
                .replace("{select}", &table.select);
            let is_built = built.get(&table.name) == Some(definition);
            if is_built && connection.query_row(&compare, [], |row| row.get(0))? {
                differing.push(table.name.clone());
            }
        }
        Ok(differing)
    }
}

/// Tries all views on an empty database, and returns what is wrong with them.
pub(in crate::warehouse) fn rehearse_views(views: &[AnalystTable]) -> Result<Vec<ViewRefused>, StoreFailed> {
    let connection = Connection::open_in_memory()?;
    let mut wrong = Vec::new();
    for ViewTable { name, source_table, create, insert_all, insert_row, .. } in
        views.iter().map(ViewTable::of)
    {
        tables::ensure(&connection, &source_table)?;
        let tried = connection
            .execute_batch(&create.join(";"))
            .and_then(|()| connection.execute(&insert_all, []))
            .and_then(|_| connection.prepare(&insert_row).map(drop));
        if let Err(error) = tried {
            wrong.push(ViewRefused { name, why: error.to_string() });
        }
    }
    Ok(wrong)
}

/// A view that fails is worth a warning; a file that fails ends the work.
fn tolerate(name: &str, done: Result<(), StoreFailed>) -> Result<(), StoreFailed> {
    match done {
        Err(StoreFailed::Engine(why) | StoreFailed::Data(why)) => {
            tracing::warn!(
                "the analysts' table {name} could not be kept up ({why}); `views apply` builds it anew"
            );
            Ok(())
        }
        done => done,
    }
}

/// The table of a view that failed may be missing rows from here on.
fn keep(
    connection: &Connection,
    view: &ViewTable,
    followed: Result<(), StoreFailed>,
) -> Result<(), StoreFailed> {
    if followed.is_err() {
        connection
            .prepare_cached("UPDATE analyst_table SET definition = '' WHERE name = ?1")?
            .execute([&view.name])?;
    }
    tolerate(&view.name, followed)
}

/// Takes out the rows of resources, whose keys are a JSON array.
fn forget(
    connection: &Connection,
    view: &ViewTable,
    person: &PersonId,
    keys: &str,
) -> Result<(), StoreFailed> {
    let statement = tables::fill_in(include_str!("../../../schema/forget_rows.sql"), &view.name);
    let parameters = named_params! { ":person_id": person.as_str(), ":keys": keys };
    connection.prepare_cached(&statement)?.execute(parameters)?;
    Ok(())
}

fn insert(connection: &Connection, view: &ViewTable, rows: &Rows) -> Result<(), StoreFailed> {
    let mut statement = connection.prepare_cached(&view.insert_row)?;
    for row in rows.iter() {
        statement.execute(params_from_iter(row))?;
    }
    Ok(())
}

/// The definitions that the stored tables were built from, by name; empty of one that is gone.
fn built(connection: &Connection) -> Result<BTreeMap<String, String>, StoreFailed> {
    let mut statement = connection.prepare(
        "SELECT name, iif(name IN (SELECT name FROM sqlite_master), definition, '') FROM analyst_table",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn build(connection: &mut Connection, known: &Known, now: Timestamp) -> Result<(), StoreFailed> {
    let Known { table, definition } = known;
    in_transaction(connection, |connection| {
        tables::ensure(connection, &table.source_table)?;
        drop_table(connection, &table.name)?;
        if tables::exists(connection, &table.name)? {
            let why = format!("there is a table {} that this program did not make; rename it", table.name);
            return Err(StoreFailed::Data(why));
        }
        connection.execute_batch(&table.create.join(";"))?;
        connection.execute(&table.insert_all, [])?;
        note(connection, &table.name, &table.resource_type, definition, now)
    })
}

/// Only a table that is on our own list is dropped.
fn drop_table(connection: &Connection, name: &str) -> Result<(), StoreFailed> {
    if connection.execute("DELETE FROM analyst_table WHERE name = ?1", [name])? > 0 {
        connection.execute_batch(&format!("DROP TABLE IF EXISTS \"{name}\""))?;
    }
    Ok(())
}

fn note_freshness(connection: &Connection, now: Timestamp) -> Result<(), StoreFailed> {
    freshness::recount(connection)?;
    note(connection, freshness::NAME, "", "1", now)
}

fn note(
    connection: &Connection,
    name: &str,
    resource: &str,
    definition: &str,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    connection.execute(
        "INSERT OR REPLACE INTO analyst_table (name, resource, definition, built_at) VALUES (?1, ?2, ?3, ?4)",
        params![name, resource, definition, stamp(now)],
    )?;
    Ok(())
}

fn in_transaction(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> Result<(), StoreFailed>,
) -> Result<(), StoreFailed> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    work(&transaction)?;
    Ok(transaction.commit()?)
}

/// Returns the tables as they are stored.
pub(super) fn list(connection: &Connection) -> Result<Vec<StoredTable>, StoreFailed> {
    if !tables::exists(connection, "analyst_table")? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare(
        "SELECT name, resource, built_at FROM analyst_table
          WHERE name IN (SELECT name FROM sqlite_master) ORDER BY name",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut list = Vec::new();
    for row in rows {
        let (name, resource, built_at): (String, String, String) = row?;
        let counts =
            format!("SELECT (SELECT count(*) FROM \"{name}\"), (SELECT count(*) FROM pragma_table_info(?1))");
        let (rows, columns) = connection.query_row(&counts, [&name], |row| Ok((row.get(0)?, row.get(1)?)))?;
        list.push(StoredTable { name, resource, built_at, rows, columns });
    }
    Ok(list)
}

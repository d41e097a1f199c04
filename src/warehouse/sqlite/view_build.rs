//! Building an analysts' table: in steps, so that pages are stored between them.
//!
//! Promise: a build that a kill cuts off goes on where it was, and a resource that a page changes
//! meanwhile is never there twice. The indexes that queries use are made last, once: kept up row by
//! row they cost half the time of a first fill.
//!
//! Absent on purpose: when a step is made, which the writer's thread knows.

use std::sync::atomic::Ordering;

use rusqlite::{Connection, params};

use super::analyst_tables::{AnalystTables, drop_table, in_transaction, keep, tolerate};
use super::tables;
use super::view_rows::{self, Gained};
use super::view_table::ViewTable;
use crate::plan::{Timestamp, stamp};
use crate::views::{KeptRows, TapeMemory};
use crate::warehouse::failure::StoreFailed;

/// Resources of one step, and bytes of them. A step of small ones takes some 20 ms.
const STEP_RESOURCES: usize = 1_000;
const STEP_BYTES: usize = 8 << 20;

/// Makes an empty table for a view, and notes up to where it is to be built. What is stored from
/// now on comes with its page.
pub(super) fn begin(
    connection: &mut Connection,
    table: &ViewTable,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    let ViewTable { name, view, source_table, .. } = table;
    in_transaction(connection, |connection| {
        tables::ensure(connection, source_table)?;
        drop_table(connection, name)?;
        if tables::exists(connection, name)? {
            let why = format!("there is a table {name} that this program did not make; rename it");
            return Err(StoreFailed::Data(why));
        }
        connection.execute_batch(&table.create)?;
        let last = format!("SELECT max(rowid) FROM \"{source_table}\"");
        let end: Option<i64> = connection.query_row(&last, [], |row| row.get(0))?;
        if end.is_some() {
            tracing::info!("building the analysts' table {name}");
        }
        connection.execute(
            "INSERT INTO analyst_table (name, resource, definition, built_at, built_to, build_end, indexes_missing)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1)",
            params![name, view.resource_type, table.definition, stamp(now), end.map(|_| 0), end],
        )?;
        Ok(())
    })
}

/// A table that is not whole yet.
struct Unfinished<'t> {
    table: &'t ViewTable,
    built_to: i64,
    end: i64,
}

fn unfinished<'t>(
    tables: &'t AnalystTables,
    connection: &Connection,
) -> Result<Vec<Unfinished<'t>>, StoreFailed> {
    let mut statement = connection.prepare_cached(
        "SELECT name, definition, built_to, build_end FROM analyst_table WHERE built_to IS NOT NULL ORDER BY name",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, definition): (String, String) = (row.get(0)?, row.get(1)?);
        let known = tables.known.iter().find(|table| table.name == name && table.definition == definition);
        if let Some(table) = known {
            found.push(Unfinished { table, built_to: row.get(2)?, end: row.get(3)? });
        }
    }
    Ok(found)
}

/// Returns how many rows of source tables are still to be read, over all builds.
pub(super) fn remaining(tables: &AnalystTables, connection: &Connection) -> Result<usize, StoreFailed> {
    let all = unfinished(tables, connection)?;
    Ok(all.iter().map(|build| usize::try_from(build.end - build.built_to).unwrap_or(0)).sum())
}

/// Builds on for some resources. Returns whether there is more to do.
pub(super) fn step(
    tables: &AnalystTables,
    connection: &mut Connection,
    now: Timestamp,
) -> Result<bool, StoreFailed> {
    let builds = unfinished(tables, connection)?;
    let Some(first) = builds.first() else {
        tables.is_building.store(false, Ordering::Relaxed);
        return Ok(false);
    };
    // Tables of one source mostly begin together: each resource is read once for all of them.
    let is_beside = |build: &&Unfinished<'_>| {
        (&build.table.source_table, build.built_to, build.end)
            == (&first.table.source_table, first.built_to, first.end)
    };
    let together: Vec<&ViewTable> = builds.iter().filter(is_beside).map(|build| build.table).collect();
    in_transaction(connection, |connection| {
        let batch = read(connection, first, &together, now)?;
        for (place, table) in together.iter().enumerate() {
            keep(connection, table, replace(connection, table, place, &batch.resources))?;
            match batch.read_to {
                Some(read_to) => {
                    let statement = "UPDATE analyst_table SET built_to = ?2 WHERE name = ?1";
                    connection.prepare_cached(statement)?.execute(params![table.name, read_to])?;
                }
                None => finish(connection, table, now)?,
            }
        }
        Ok(())
    })?;
    Ok(true)
}

/// Resources with the rows they give, and how far the source was read; `None` to its end.
struct StepBatch {
    resources: Vec<StepResource>,
    read_to: Option<i64>,
}

struct StepResource {
    person: String,
    key: String,
    rows: KeptRows,
}

fn read(
    connection: &Connection,
    build: &Unfinished<'_>,
    views: &[&ViewTable],
    now: Timestamp,
) -> Result<StepBatch, StoreFailed> {
    let statement = format!(
        "SELECT rowid, person_id, key, resource FROM \"{}\"
          WHERE rowid > ?1 AND rowid <= ?2 AND deleted_at IS NULL ORDER BY rowid",
        build.table.source_table
    );
    let mut statement = connection.prepare_cached(&statement)?;
    let mut found = statement.query([build.built_to, build.end])?;
    let (mut memory, mut bytes) = (TapeMemory::default(), 0);
    let mut batch = StepBatch { resources: Vec::new(), read_to: None };
    while let Some(row) = found.next()? {
        let (person, key): (String, String) = (row.get(1)?, row.get(2)?);
        // What is no text is told by `verify`.
        let resource = row.get_ref(3)?.as_str().unwrap_or_default();
        let rows = view_rows::evaluate(views.iter().copied(), &key, resource, now, &mut memory);
        bytes += resource.len();
        batch.resources.push(StepResource { person, key, rows });
        if batch.resources.len() == STEP_RESOURCES || STEP_BYTES <= bytes {
            batch.read_to = Some(row.get(0)?);
            break;
        }
    }
    Ok(batch)
}

/// A page may have been here before.
fn replace(
    connection: &Connection,
    table: &ViewTable,
    place: usize,
    resources: &[StepResource],
) -> Result<(), StoreFailed> {
    let forget = format!("DELETE FROM \"{}\" WHERE person_id = ?1 AND \"key\" = ?2", table.name);
    let mut forget = connection.prepare_cached(&forget)?;
    for resource in resources {
        forget.execute([&resource.person, &resource.key])?;
    }
    let gained = resources.iter().map(|StepResource { person, key, rows }| Gained { person, key, rows });
    view_rows::insert(connection, table, place, gained)
}

fn finish(connection: &Connection, table: &ViewTable, now: Timestamp) -> Result<(), StoreFailed> {
    let statement =
        "UPDATE analyst_table SET built_to = NULL, build_end = NULL, built_at = ?2 WHERE name = ?1";
    connection.prepare_cached(statement)?.execute(params![table.name, stamp(now)])?;
    tracing::info!("the analysts' table {} is built", table.name);
    keep(connection, table, make_indexes(connection, table))
}

/// Makes the indexes of the tables that were filled for the first time.
pub(super) fn make_missing_indexes(
    tables: &AnalystTables,
    connection: &mut Connection,
) -> Result<(), StoreFailed> {
    let missing = {
        let mut statement = connection.prepare(
            "SELECT definition FROM analyst_table WHERE indexes_missing = 1 AND built_to IS NULL
                AND name IN (SELECT name FROM sqlite_master)",
        )?;
        let definitions = statement.query_map([], |row| row.get(0))?;
        definitions.collect::<Result<Vec<String>, _>>()?
    };
    // A table whose view has changed is made anew.
    for table in tables.known.iter().filter(|table| missing.contains(&table.definition)) {
        let made = in_transaction(connection, |connection| make_indexes(connection, table));
        tolerate(&table.name, made)?;
    }
    Ok(())
}

fn make_indexes(connection: &Connection, table: &ViewTable) -> Result<(), StoreFailed> {
    connection.execute_batch(&table.late_indexes)?;
    let statement = "UPDATE analyst_table SET indexes_missing = 0 WHERE name = ?1";
    connection.prepare_cached(statement)?.execute([&table.name])?;
    Ok(())
}

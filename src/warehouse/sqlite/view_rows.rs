//! The rows of the analysts' tables for the resources of a page, worked out and put into them.
//!
//! Promise: nothing a resource holds fails here. A table that gets no rows of a resource, for its
//! size, leaves it out, and that is noted and told.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::tables;
use super::view_table::ViewTable;
use crate::plan::Timestamp;
use crate::views::{Evaluation, KeptRows, Several, TapeMemory};
use crate::warehouse::failure::StoreFailed;

/// The tables by the table of the resources they are made of.
#[derive(Debug, Default)]
pub(super) struct BySource {
    by_source: HashMap<String, Vec<usize>>,
    /// What is made of any resource.
    of_all: Vec<usize>,
}

impl BySource {
    pub(super) fn of(tables: &[ViewTable]) -> Self {
        let named = tables.iter().filter_map(|table| table.source_table.as_ref());
        let places = |source: &str| {
            let of_it = tables.iter().enumerate().filter(|(_, table)| table.is_of(source));
            of_it.map(|(at, _)| at).collect()
        };
        Self { by_source: named.map(|source| (source.clone(), places(source))).collect(), of_all: places("") }
    }

    /// Returns the places of the tables that are made of a table's resources.
    pub(super) fn tables(&self, source_table: &str) -> &[usize] {
        self.by_source.get(source_table).unwrap_or(&self.of_all)
    }
}

/// Works out the rows of one resource.
pub(super) fn evaluate<'v>(
    tables: impl Iterator<Item = &'v ViewTable>,
    key: &str,
    resource: &str,
    now: Timestamp,
    memory: &mut TapeMemory,
) -> KeptRows {
    let evaluation = Evaluation { now, several: Several::KeepFirst };
    let kept = KeptRows::of(tables.map(|table| &table.source), resource, evaluation, memory);
    for failed in &kept.failed {
        let table = failed.view.as_deref().unwrap_or("?");
        tracing::warn!("the analysts' table {table} leaves out {key}: {}", failed.why);
    }
    kept
}

/// A resource, and the rows it gives each of some tables, by their places.
pub(super) struct Gained<'r> {
    pub(super) person: &'r str,
    pub(super) key: &'r str,
    /// As the analysts' tables spell it.
    pub(super) changed_at: &'r str,
    pub(super) rows: &'r KeptRows,
}

/// Rows up to which a table that began empty goes without the index that finds those of a resource. To
/// make it for so many takes a few seconds, in which nothing else is written.
const UNINDEXED_ROWS_MAX: i64 = 2_000_000;

/// Puts the rows that resources give a table into it.
pub(super) fn insert<'r>(
    connection: &Connection,
    table: &ViewTable,
    place: usize,
    gained: impl Iterator<Item = Gained<'r>>,
) -> Result<(), StoreFailed> {
    let mut statement = connection.prepare_cached(&table.insert_row)?;
    let columns = table.source.columns().len();
    let mut inserted = 0;
    for Gained { person, key, changed_at, rows } in gained {
        // What rows of one resource have in common stays bound from one to the next.
        let mut is_bound = false;
        for cells in rows.rows(place, columns) {
            if !is_bound {
                statement.raw_bind_parameter(1, person)?;
                statement.raw_bind_parameter(2, key)?;
                if table.has_changed_at {
                    statement.raw_bind_parameter(columns + 3, changed_at)?;
                }
                is_bound = true;
            }
            for (at, cell) in cells.enumerate() {
                statement.raw_bind_parameter(at + 3, cell)?;
            }
            statement.raw_execute()?;
            inserted += 1;
        }
        if rows.failed.iter().any(|failed| failed.view.as_ref() == Some(&table.name)) {
            connection
                .prepare_cached("INSERT OR REPLACE INTO analyst_left_out VALUES (?1, ?2, ?3)")?
                .execute(params![person, key, table.name])?;
        }
    }
    let last = connection.last_insert_rowid();
    if inserted > 0 && UNINDEXED_ROWS_MAX <= last && last - inserted < UNINDEXED_ROWS_MAX {
        connection.execute_batch(&table.resource_index)?;
    }
    Ok(())
}

/// Takes out the rows of resources of one source and person, whose keys are a JSON array.
pub(super) fn forget(
    connection: &Connection,
    table: &ViewTable,
    source_table: &str,
    person: &str,
    keys: &str,
) -> Result<(), StoreFailed> {
    let statement = tables::fill_in(include_str!("../../../schema/forget_rows.sql"), &table.name)
        .replace("{of_source}", &table.of_source(source_table));
    let parameters = rusqlite::named_params! { ":person_id": person, ":keys": keys };
    connection.prepare_cached(&statement)?.execute(parameters)?;
    connection
        .prepare_cached(
            "DELETE FROM analyst_left_out
              WHERE person_id = ?1 AND name = ?3 AND key IN (SELECT value FROM json_each(?2))",
        )?
        .execute([person, keys, &table.name])?;
    Ok(())
}

/// A view that fails is worth a warning; a file that fails ends the work.
pub(super) fn tolerate(name: &str, done: Result<(), StoreFailed>) -> Result<(), StoreFailed> {
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
pub(super) fn keep(
    connection: &Connection,
    name: &str,
    followed: Result<(), StoreFailed>,
) -> Result<(), StoreFailed> {
    if followed.is_err() {
        connection
            .prepare_cached("UPDATE analyst_table SET definition = '' WHERE name = ?1")?
            .execute([name])?;
    }
    tolerate(name, followed)
}

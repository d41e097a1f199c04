//! The rows of the views for the resources of a page, worked out and put into their tables.
//!
//! Promise: nothing a resource holds fails here. A view that gives no rows of a resource, for its
//! size, leaves it out and is told.

use std::collections::HashMap;

use rusqlite::{Connection, params_from_iter};

use super::view_table::ViewTable;
use crate::plan::Timestamp;
use crate::views::{Cell, Evaluation, KeptRows, Several, TapeMemory};
use crate::warehouse::failure::StoreFailed;

/// The views by the table of the resources they read.
#[derive(Debug, Default)]
pub(super) struct BySource(HashMap<String, Vec<usize>>);

impl BySource {
    pub(super) fn of(tables: &[ViewTable]) -> Self {
        let mut by_source: HashMap<String, Vec<usize>> = HashMap::new();
        for (at, table) in tables.iter().enumerate() {
            by_source.entry(table.source_table.clone()).or_default().push(at);
        }
        Self(by_source)
    }

    /// Returns the places of the views that read a table.
    pub(super) fn views(&self, source_table: &str) -> &[usize] {
        self.0.get(source_table).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Evaluates views over one resource.
pub(super) fn evaluate<'v>(
    views: impl Iterator<Item = &'v ViewTable>,
    key: &str,
    resource: &str,
    now: Timestamp,
    memory: &mut TapeMemory,
) -> KeptRows {
    let evaluation = Evaluation { now, several: Several::KeepFirst };
    let kept = KeptRows::of(views.map(|table| &*table.view), resource, evaluation, memory);
    for failed in &kept.failed {
        let view = failed.view.as_deref().unwrap_or("?");
        tracing::warn!("the analysts' table {view} leaves out {key}: {}", failed.why);
    }
    kept
}

/// A resource, and the rows it gives each of some views, by their places.
pub(super) struct Gained<'r> {
    pub(super) person: &'r str,
    pub(super) key: &'r str,
    pub(super) rows: &'r KeptRows,
}

/// Puts the rows that resources give one view into its table.
pub(super) fn insert<'r>(
    connection: &Connection,
    table: &ViewTable,
    place: usize,
    gained: impl Iterator<Item = Gained<'r>>,
) -> Result<(), StoreFailed> {
    let mut statement = connection.prepare_cached(&table.insert_row)?;
    let columns = table.view.columns.len();
    for Gained { person, key, rows } in gained {
        for cells in rows.rows(place, columns) {
            let owner = [person, key].into_iter().map(|text| Cell::Text(text.into()));
            statement.execute(params_from_iter(owner.chain(cells)))?;
        }
    }
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

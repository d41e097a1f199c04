//! The rows of an analysts' table for some resources of one person, worked out and put into typed arrays.
//!
//! Promise: nothing a resource holds fails here. A table that gets no rows of a resource, for its size, leaves it
//! out, and that is noted and told.

use super::values::Param;
use super::view_cells::Cells;
use super::view_steps::{Phase, Step};
use super::view_table::ViewTable;
use crate::plan::Timestamp;
use crate::views::{Evaluation, KeptRows, Several, TapeMemory};

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
#[derive(Clone, Copy)]
pub(super) struct Gained<'r> {
    pub(super) key: &'r str,
    pub(super) changed_at: Timestamp,
    pub(super) rows: &'r KeptRows,
}

/// Rows of one table and person that are to be stored.
pub(super) struct TableRows<'r> {
    table: &'r ViewTable,
    keys: Vec<&'r str>,
    cells: Vec<Cells<'r>>,
    changed_at: Vec<Timestamp>,
    /// The keys of resources that gave none, because they would have given too many.
    left_out: Vec<&'r str>,
}

impl<'r> TableRows<'r> {
    pub(super) fn of(table: &'r ViewTable) -> Self {
        Self {
            table,
            keys: Vec::new(),
            cells: table.kinds.iter().map(|kind| Cells::of(*kind)).collect(),
            changed_at: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Takes the rows that a resource gives the table, which is at a place among those that were evaluated.
    pub(super) fn push(&mut self, place: usize, Gained { key, changed_at, rows }: Gained<'r>) {
        let kinds = &self.table.kinds;
        for cells in rows.rows(place, kinds.len()) {
            self.keys.push(key);
            self.changed_at.push(changed_at);
            for ((column, kind), cell) in self.cells.iter_mut().zip(kinds).zip(cells) {
                column.push(*kind, cell);
            }
        }
        if rows.failed.iter().any(|failed| failed.view.as_ref() == Some(&self.table.name)) {
            self.left_out.push(key);
        }
    }

    /// Returns what stores them in the table, which is called `name` for now.
    pub(super) fn into_steps(mut self, name: &str, person: &'r str) -> Vec<Step<'r>> {
        let mut steps = Vec::new();
        let table = self.table.name.as_str();
        if !self.left_out.is_empty() {
            let text = "INSERT INTO analyst_left_out (person_id, key, name)
                SELECT $1, u.key, $3 FROM unnest($2) AS u(key) ON CONFLICT DO NOTHING";
            let params: Vec<Box<dyn Param + 'r>> =
                vec![Box::new(person), Box::new(std::mem::take(&mut self.left_out)), Box::new(table)];
            steps.push(Step { table, phase: Phase::Insert, text: text.to_owned(), params });
        }
        if self.keys.is_empty() {
            return steps;
        }
        let text = self.table.insert(name);
        steps.push(Step { table, phase: Phase::Insert, text, params: self.into_params(person) });
        steps
    }

    /// Returns the person, the keys, and the cells column by column.
    pub(super) fn into_params(self, person: &'r str) -> Vec<Box<dyn Param + 'r>> {
        let mut params: Vec<Box<dyn Param + 'r>> = vec![Box::new(person), Box::new(self.keys)];
        params.extend(self.cells.into_iter().map(Cells::into_param));
        if self.table.has_changed_at {
            params.push(Box::new(self.changed_at));
        }
        params
    }
}

//! What the analysts' tables are, in words: for `analyst_column`, `views describe` and `docs/tables.md`.
//!
//! Absent on purpose: layout.

use super::own_columns::{ANALYST_COLUMN, CHANGED_AT, CODINGS, FRESHNESS, OWNER, PERSONS};
use super::{AnalystTable, Column, Made, RowSource, catalogue};
use crate::plan::table_set::TableSet;

/// A table, and what it holds.
#[derive(Clone, Debug)]
pub struct TableFacts {
    pub name: String,
    /// `None` for one of the user's own, and for what is there always.
    pub set: Option<TableSet>,
    pub description: String,
    pub columns: Vec<ColumnFacts>,
}

/// A column, and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnFacts {
    pub name: String,
    /// As declared, but BOOLEAN for integers of 0 and 1.
    pub kind: &'static str,
    pub description: String,
    pub path: String,
}

impl ColumnFacts {
    fn of(column: &Column) -> Self {
        Self {
            name: column.name.clone(),
            kind: if column.boolean { "BOOLEAN" } else { column.declared.sql() },
            description: column.description.clone().unwrap_or_default(),
            path: column.path.clone(),
        }
    }
}

/// A reference from one table to another: both have `person_id` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Join {
    pub column: &'static str,
    /// The table whose `id` it is.
    pub to: &'static str,
}

/// What columns of those names refer to, in whatever table they are.
pub const JOINS: [Join; 23] = {
    const fn join(column: &'static str, to: &'static str) -> Join {
        Join { column, to }
    }
    [
        join("patient_id", "patients"),
        join("encounter_id", "encounters"),
        join("condition_id", "conditions"),
        join("reason_id", "conditions"),
        join("procedure_id", "procedures"),
        join("report_id", "diagnostic_reports"),
        join("observation_id", "observations"),
        join("specimen_id", "specimens"),
        join("medication_id", "medications"),
        join("request_id", "medication_requests"),
        join("document_id", "documents"),
        join("claim_id", "claims"),
        join("coverage_id", "coverages"),
        join("explanation_id", "explanations_of_benefit"),
        join("performer_id", "practitioners"),
        join("practitioner_id", "practitioners"),
        join("recorder_id", "practitioners"),
        join("requester_id", "practitioners"),
        join("author_id", "practitioners"),
        join("organization_id", "organizations"),
        join("payor_id", "organizations"),
        join("provider_id", "organizations"),
        join("location_id", "locations"),
    ]
};

/// Returns what the tables of some sets are, those that are there always, and the user's own.
pub fn describe(tables: &[AnalystTable]) -> Vec<TableFacts> {
    let mut facts: Vec<TableFacts> = tables.iter().map(|table| of(table, tables)).collect();
    facts.push(always(
        "freshness",
        "One row a patient that is not purged: how complete, how old.",
        &FRESHNESS,
    ));
    facts.push(always("analyst_column", "One row a column of these tables.", &ANALYST_COLUMN));
    facts.sort_by(|one, other| one.name.cmp(&other.name));
    facts
}

fn always(name: &str, description: &str, columns: &[Column]) -> TableFacts {
    let columns = columns.iter().map(ColumnFacts::of).collect();
    TableFacts { name: name.to_owned(), set: None, description: description.to_owned(), columns }
}

fn of(table: &AnalystTable, all: &[AnalystTable]) -> TableFacts {
    let built_in = catalogue().iter().find(|view| view.name == table.name).map(|view| view.set);
    let (set, description, columns) = match &table.made {
        Made::Of(RowSource::View(view)) => {
            (built_in, view.description.clone().unwrap_or_default(), of_resources(&view.columns))
        }
        Made::Of(RowSource::Codings) => (
            Some(TableSet::Clinical),
            "One row a coding, of any element of any resource.".to_owned(),
            of_resources(&CODINGS),
        ),
        Made::Category(category) => {
            let whole = all.iter().find(|table| table.name == "observations");
            let columns = whole.map(|whole| of(whole, all).columns).unwrap_or_default();
            let description = format!("The rows of observations whose category is {category}.");
            (Some(TableSet::Clinical), description, columns)
        }
        Made::Persons => {
            let owner = OWNER.first().into_iter();
            let columns = owner.chain(PERSONS.iter()).map(ColumnFacts::of).collect();
            let description = "One row a human, worked out of all Patients of that person.".to_owned();
            (Some(TableSet::Clinical), description, columns)
        }
    };
    TableFacts { name: table.name.clone(), set, description, columns }
}

fn of_resources(columns: &[Column]) -> Vec<ColumnFacts> {
    let ends = if columns.iter().any(|column| column.name == "changed_at") { &[][..] } else { &CHANGED_AT };
    OWNER.iter().chain(columns).chain(ends).map(ColumnFacts::of).collect()
}

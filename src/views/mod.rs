//! The analysts' tables: SQL on FHIR v2 ViewDefinitions, evaluated over a resource's JSON.
//!
//! Promise: [`View::compile`] resolves a [`ViewDefinition`] once, and [`View::rows`] is a pure
//! function from a resource to rows of typed cells. Evaluated to keep the first of several values it
//! gives rows whatever a resource holds: what does not fit is NULL. There is no second implementation.
//!
//! Absent on purpose: connections, tables and files but the definitions' own; a look at any other
//! resource, so `resolve()` finds what is contained and nothing else. Also absent: `memberOf()` and
//! calculating with quantities, each refused by name.

mod build;
mod catalogue;
mod cell;
mod codings;
mod definition;
mod describe;
mod elements;
mod evaluate;
mod fhirpath;
mod item;
mod kept_rows;
mod load;
mod moment;
mod number;
mod own_columns;
mod program;
mod refused;
mod row_source;
mod rows;
mod tape;
mod view;

pub use catalogue::{BuiltIn, built_in, catalogue};
pub use cell::Cell;
pub use definition::ViewDefinition;
pub use describe::{ColumnFacts, JOINS, Join, TableFacts, describe};
pub(crate) use elements::{Element, Kind, element};
pub use kept_rows::KeptRows;
pub use load::{AnalystTable, Loaded, Made, analyst_tables, read};
pub use refused::Refused;
pub use row_source::RowSource;
pub use rows::{Dropped, Evaluation, NotEvaluated, Several};
pub(crate) use tape::{At, Json};
pub use tape::{NotATape, Tape, TapeMemory};
pub use view::View;

/// Returns the columns of `persons`, behind `person_id`.
pub fn persons_columns() -> &'static [Column] {
    &own_columns::PERSONS
}

/// A hash of the evaluator's source: another evaluator may give other rows.
pub const SOURCE_HASH: &str = env!("EVALUATOR_SOURCE_HASH");

/// A column's declared type. Dates are kept as text that sorts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    Text,
    Real,
    Integer,
    Date,
    DateTime,
}

impl Declared {
    /// Returns the type as it stands in CREATE TABLE.
    pub fn sql(self) -> &'static str {
        match self {
            Self::Text => "TEXT",
            Self::Real => "REAL",
            Self::Integer => "INTEGER",
            Self::Date => "DATE",
            Self::DateTime => "DATETIME",
        }
    }
}

/// Whether a stored table has an index for the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    None,
    Single,
    /// Behind `person_id`: what joins use.
    OfPerson,
}

/// A column of the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub declared: Declared,
    /// Its integers are 0 and 1.
    pub boolean: bool,
    /// Its text is a JSON array.
    pub collection: bool,
    pub index: Index,
    pub description: Option<String>,
    /// The FHIRPath expression, or a shorter one that says where the value is from.
    pub path: String,
}

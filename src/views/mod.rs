//! The analysts' tables: SQL on FHIR v2 ViewDefinitions, compiled to SQLite.
//!
//! Promise: [`compile`] is a pure function from a [`ViewDefinition`] to one SELECT over the
//! table of its resource type. The SELECT yields `person_id`, `key` and the view's columns for
//! resources that are not marked as deleted. Compiled for [`Target::Warehouse`] it never fails
//! whatever a resource holds: what does not fit is NULL, of several values it takes the first.
//! It reads nothing else, which is how stored rows are kept up: asked over the resources that changed.
//!
//! Absent on purpose: connections. [`analyst_tables`] hands texts to `warehouse`, which
//! owns the stored tables and when they change.
//! Also absent: `resolve()`, `memberOf()`, `matches()`, quantities with units, and the
//! operators `|`, `in` and `contains`; each is refused by name.

mod catalogue;
mod compile;
mod definition;
mod elements;
mod fhirpath;
mod load;
mod refused;

pub use catalogue::{BuiltIn, built_in, catalogue};
pub use compile::compile;
pub use definition::ViewDefinition;
pub use load::{AnalystTable, Loaded, analyst_tables, own_tables, read, select_of};
pub use refused::Refused;

/// What is done where one value is wanted and a resource has several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The first is taken, and the compiler warns.
    Warehouse,
    /// The SELECT fails when it meets one, as the standard says.
    Strict,
}

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
    /// As it stands in CREATE TABLE.
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

/// Whether a stored table has an index that begins with the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    None,
    Single,
}

/// A column of the view, after `person_id` and `key`.
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
}

/// A compiled view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sql {
    /// The view's own, for a list of tables.
    pub description: Option<String>,
    pub resource_type: String,
    /// The table it reads, unquoted.
    pub table: String,
    pub columns: Vec<Column>,
    /// All rows: `person_id`, `key`, then `columns`.
    pub select: String,
    /// What takes the first of several values, in words.
    pub warnings: Vec<String>,
}

/// The warehouse table of a resource type: `MedicationRequest` is in `medication_request`.
pub fn table_of(resource_type: &str) -> String {
    let mut table = String::new();
    for letter in resource_type.chars() {
        if letter.is_ascii_uppercase() && !table.is_empty() {
            table.push('_');
        }
        table.push(letter.to_ascii_lowercase());
    }
    table
}

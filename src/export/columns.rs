//! What becomes of each column of an analysts' table in a pseudonymous export.
//!
//! Promise: a column of text is left out unless something here says what it holds. What a column is, its
//! ViewDefinition says; of our own tables that have none, a list here.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use super::cell::{Cell, ColumnKind};
use super::code;
use super::redact::Redaction;
use crate::views::AnalystTable;
use crate::warehouse::extract::TableShape;

/// The FHIR types and booleans of the columns of all views, by table and column.
#[derive(Debug, Default)]
pub(super) struct ColumnTypes {
    types: HashMap<(String, String), String>,
}

impl ColumnTypes {
    pub(super) fn of(tables: &[AnalystTable]) -> Self {
        let mut types = HashMap::new();
        for table in tables {
            let definition = serde_json::from_str::<Value>(&table.definition).unwrap_or_default();
            collect(&table.name, &definition["select"], &mut types);
        }
        Self { types }
    }

    fn of_column(&self, table: &str, column: &str) -> Option<&str> {
        self.types.get(&(table.to_owned(), column.to_owned())).map(String::as_str)
    }

    /// Returns what a column holds. Booleans are stored as integers.
    pub(super) fn kind(&self, table: &str, column: &str, declared: &str) -> ColumnKind {
        match ColumnKind::declared(declared) {
            ColumnKind::Integer
                if self.of_column(table, column) == Some("boolean")
                    || BOOLEANS.contains(&(table, column)) =>
            {
                ColumnKind::Boolean
            }
            ColumnKind::Text if table == FRESHNESS && TIMES.contains(&column) => ColumnKind::DateTime,
            kind => kind,
        }
    }
}

/// The columns that no ViewDefinition tells of.
const BOOLEANS: [(&str, &str); 4] = [
    ("freshness", "is_complete"),
    ("freshness", "first_full_pull_completed"),
    (CODINGS, "user_selected"),
    (PERSONS, "deceased"),
];

fn collect(table: &str, select: &Value, types: &mut HashMap<(String, String), String>) {
    for node in select.as_array().into_iter().flatten() {
        for column in node["column"].as_array().into_iter().flatten() {
            if let (Some(name), Some(fhir_type)) = (column["name"].as_str(), column["type"].as_str()) {
                types.insert((table.to_owned(), name.to_owned()), fhir_type.to_owned());
            }
        }
        collect(table, &node["select"], types);
        collect(table, &node["unionAll"], types);
    }
}

/// What becomes of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    Keep,
    Person,
    Key,
    /// A resource's id, or one that refers to it.
    Id,
    Date,
    /// When a machine had something.
    MachineTime,
    Code {
        /// The column that says which list it is of.
        system: Option<usize>,
    },
    System,
    Display {
        system: usize,
    },
    Unit,
    PostalCode,
    /// Race and ethnicity, in the words of the OMB.
    Origin,
    Out,
}

/// Returns what becomes of each column.
pub(super) fn treatments(table: &TableShape, types: &ColumnTypes) -> Vec<Treatment> {
    let place = |name: &str| table.columns.iter().position(|column| column.name == name);
    let treat = |name: &str, declared: &str| {
        let fhir_type = types.of_column(&table.name, name);
        match (name, ColumnKind::declared(declared)) {
            ("person_id", _) => Treatment::Person,
            ("key", _) => Treatment::Key,
            ("changed_at", _) => Treatment::MachineTime,
            (_, ColumnKind::Real | ColumnKind::Integer | ColumnKind::Boolean) => Treatment::Keep,
            (_, ColumnKind::Date | ColumnKind::DateTime) => Treatment::Date,
            ("id", _) => Treatment::Id,
            ("postal_code", _) => Treatment::PostalCode,
            ("race" | "races" | "ethnicity", _) => Treatment::Origin,
            ("unit" | "ucum", _) => Treatment::Unit,
            (_, ColumnKind::Text) if name.ends_with("_unit") => Treatment::Unit,
            (_, ColumnKind::Text) if name.ends_with("_id") => Treatment::Id,
            ("code", _) if table.name == CODINGS => Treatment::Code { system: place("system") },
            ("system", _) if table.name == CODINGS => Treatment::System,
            ("display", _) if table.name == CODINGS => {
                place("system").map_or(Treatment::Out, |system| Treatment::Display { system })
            }
            ("display", _) => {
                place("code_system").map_or(Treatment::Out, |system| Treatment::Display { system })
            }
            (_, ColumnKind::Text) if name.ends_with("_display") => {
                let system = place(&name.replace("_display", "_system"));
                system.map_or(Treatment::Out, |system| Treatment::Display { system })
            }
            _ if is_listed(&table.name, name) => Treatment::Code { system: None },
            _ if table.name == FRESHNESS && TIMES.contains(&name) => Treatment::MachineTime,
            _ => match fhir_type {
                Some("code") => Treatment::Code { system: system_of(name).and_then(place) },
                Some("date" | "dateTime" | "instant") => Treatment::Date,
                Some("uri") if ["code_system", "value_system"].contains(&name) => Treatment::System,
                _ => Treatment::Out,
            },
        }
    };
    table.columns.iter().map(|column| treat(&column.name, &column.declared)).collect()
}

/// The system's column beside that of a code.
fn system_of(code: &str) -> Option<&'static str> {
    match code {
        "code" => Some("code_system"),
        "value_code" => Some("value_system"),
        _ => None,
    }
}

/// The table that has a row for each human.
const PERSONS: &str = "persons";

/// The one table whose codes stand beside `system`.
const CODINGS: &str = "codings";

/// The view that says how far data go, and its times, which no type declares.
const FRESHNESS: &str = "freshness";
const TIMES: [&str; 3] = ["watermark", "last_success_at", "deletions_seen_at"];

/// Columns of tables without a ViewDefinition that hold codes.
fn is_listed(table: &str, column: &str) -> bool {
    const LISTED: [(&str, &str); 5] = [
        (FRESHNESS, "state"),
        (FRESHNESS, "types"),
        (CODINGS, "resource_type"),
        (CODINGS, "element"),
        (PERSONS, "sex"),
    ];
    LISTED.contains(&(table, column))
}

/// Returns a row as it may be told.
pub(super) fn redact<'c>(
    row: &[Cell<'c>],
    treatments: &[Treatment],
    redaction: &Redaction<'_>,
) -> Vec<Cell<'c>> {
    let text_at = |at: usize| match row.get(at) {
        Some(Cell::Text(text)) => Some(text.as_ref()),
        _ => None,
    };
    let told = row.iter().zip(treatments).map(|(cell, treatment)| {
        let text = match cell {
            Cell::Text(text) => text,
            // A number in a place of text is nobody's name, and where numbers are wanted it stays.
            number if *treatment == Treatment::Keep => return number.clone(),
            _ => return Cell::Null,
        };
        let may = |may: bool| may.then(|| text.clone());
        let told: Option<Cow<'c, str>> = match *treatment {
            // Text where a number is declared.
            Treatment::Keep | Treatment::Out => None,
            Treatment::Person => Some(redaction.pseudonyms.person(text).into()),
            Treatment::Key => Some(redaction.pseudonyms.key(text).into()),
            Treatment::Id => Some(redaction.pseudonyms.id(text).into()),
            Treatment::Date => redaction.pseudonyms.date(redaction.person_id, text).map(Cow::from),
            Treatment::MachineTime => {
                redaction.pseudonyms.machine_time(redaction.person_id, text).map(Cow::from)
            }
            Treatment::Code { system } => may(redaction.may_code(system.and_then(text_at), text)),
            Treatment::System => may(code::is_system(text) && redaction.is_harmless(text)),
            Treatment::Display { system } => {
                may(text_at(system).is_some_and(|system| redaction.may_display(system, text)))
            }
            Treatment::Unit => may(code::is_unit(text) && redaction.is_harmless(text)),
            Treatment::PostalCode => code::three_digits(text).map(Cow::from),
            Treatment::Origin => may(text.split(';').all(code::is_origin)),
        };
        told.map_or(Cell::Null, Cell::Text)
    });
    told.collect()
}

//! What captured records of real systems held and misled by: a case each in `quirks.ndjson`, with the
//! rows that are right.

use std::fs;

use healthex_sync::sandbox::{Population, RecordEntry};
use rusqlite::types::ValueRef;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::world::{World, project};

#[derive(Deserialize)]
pub(crate) struct Quirk {
    pub(crate) name: String,
    /// As they are written: half a surrogate pair is no text of Rust's.
    resources: Vec<Box<RawValue>>,
    /// Table to rows: so many, of which only the columns named are compared.
    expect: Map<String, Value>,
}

pub(crate) fn quirks() -> Vec<Quirk> {
    let text = fs::read_to_string(project("tests/acceptance/analysts/quirks.ndjson")).unwrap();
    let read = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(read).collect()
}

/// A person each case, pulled by the program itself.
pub(crate) fn world(quirks: &[Quirk]) -> World {
    let world = World::serving(Population::empty());
    let persons: Vec<String> = (1..=quirks.len()).map(|number| format!("quirk-{number}")).collect();
    world.list(&persons.iter().map(String::as_str).collect::<Vec<_>>());
    for (person, quirk) in persons.iter().zip(quirks) {
        let entries = (0..)
            .zip(&quirk.resources)
            .map(|(at, resource)| RecordEntry::new(&format!("urn:{person}.{at}"), resource.get()));
        world.sandbox.add_person(person, entries.collect());
    }
    world
}

fn rows_of(world: &World, table: &str, person: &str) -> Vec<Map<String, Value>> {
    let connection = world.open();
    let select = format!("SELECT * FROM \"{table}\" WHERE person_id = ?1");
    let mut statement = connection.prepare(&select).unwrap();
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut found = statement.query([person]).unwrap();
    let mut rows = Vec::new();
    while let Some(row) = found.next().unwrap() {
        let cell = |at| match row.get_ref(at).unwrap() {
            ValueRef::Null | ValueRef::Blob(_) => Value::Null,
            ValueRef::Integer(number) => json!(number),
            ValueRef::Real(number) => json!(number),
            ValueRef::Text(text) => json!(std::str::from_utf8(text).unwrap()),
        };
        rows.push(columns.iter().cloned().zip((0..).map(cell)).collect());
    }
    rows
}

/// Returns whether each expected row can be told apart among the rows that are there.
fn are_met(expected: &[Value], rows: &[Map<String, Value>]) -> bool {
    let mut left: Vec<&Map<String, Value>> = rows.iter().collect();
    let is_met = |expected: &Value, row: &Map<String, Value>| {
        expected.as_object().unwrap().iter().all(|(column, value)| row.get(column) == Some(value))
    };
    expected.len() == rows.len()
        && expected.iter().all(|expected| {
            let found = left.iter().position(|row| is_met(expected, row));
            found.map(|at| left.swap_remove(at)).is_some()
        })
}

fn check(world: &World, quirks: &[Quirk]) {
    for (number, quirk) in (1..).zip(quirks) {
        for (table, expected) in &quirk.expect {
            let rows = rows_of(world, table, &format!("quirk-{number}"));
            let shown = || serde_json::to_string_pretty(&rows).unwrap();
            assert!(
                are_met(expected.as_array().unwrap(), &rows),
                "{}, {table}: {expected} is not {}",
                quirk.name,
                shown()
            );
        }
    }
}

#[test]
fn what_misleads_in_real_records_is_right_in_the_tables() {
    let quirks = quirks();
    let world = world(&quirks);
    world.run(["sync"]).exits(0);
    check(&world, &quirks);
    world.run(["verify"]).exits(0);
    world.run(["views", "apply"]).exits(0);
    check(&world, &quirks);
}

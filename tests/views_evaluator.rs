//! The official SQL on FHIR test suite through the evaluator: all of it, by number.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::print_stderr, reason = "what was skipped, and the seed, must be told")]

mod views_support;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use healthex_sync::clock;
use healthex_sync::views::{Cell, Dropped, Evaluation, Several, Tape, TapeMemory, View, ViewDefinition};
use serde_json::{Map, Value, json};
use views_support::shared;

const SUITE: usize = 144;
const NEWER: usize = 7;

fn run_suite(folder: &str) -> Option<usize> {
    let folder = shared(folder)?;
    let mut failed = Vec::new();
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let suite: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let resources = suite["resources"].as_array().unwrap();
        for test in suite["tests"].as_array().unwrap() {
            count += 1;
            if let Err(why) = run(resources, test) {
                failed.push(format!("{} / {}: {why}", suite["title"], test["title"]));
            }
        }
    }
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
    Some(count)
}

#[test]
fn the_official_suite_passes_in_full() {
    if let Some(count) = run_suite("sql-on-fhir-tests") {
        assert_eq!(count, SUITE);
    }
    if let Some(count) = run_suite("sql-on-fhir-tests-newer") {
        assert_eq!(count, NEWER);
    }
}

fn run(resources: &[Value], test: &Value) -> Result<(), String> {
    let rows = rows(resources, &test["view"]);
    if test["expectError"] == json!(true) {
        return match rows {
            Ok((_, rows)) => Err(format!("an error is expected, got {rows:?}")),
            Err(_) => Ok(()),
        };
    }
    let (view, rows) = rows?;
    if let Some(columns) = test["expectColumns"].as_array() {
        let names: Vec<_> = view.columns.iter().map(|column| json!(column.name)).collect();
        if names != *columns {
            return Err(format!("columns {names:?}, expected {columns:?}"));
        }
    }
    let mut got: Vec<_> = rows.iter().map(canonical).collect();
    let mut expected: Vec<_> = test["expect"].as_array().unwrap().iter().map(canonical).collect();
    got.sort();
    expected.sort();
    if got == expected { Ok(()) } else { Err(format!("\n  got      {got:?}\n  expected {expected:?}")) }
}

fn rows(resources: &[Value], view: &Value) -> Result<(View, Vec<Value>), String> {
    let definition = ViewDefinition::parse(&view.to_string()).map_err(|refused| refused.to_string())?;
    let view = View::compile(&definition).map_err(|refused| refused.to_string())?;
    let mut rows = Vec::new();
    let evaluation = Evaluation { now: clock::now(), several: Several::Refuse };
    for resource in resources.iter().filter(|resource| resource["resourceType"] == view.resource_type) {
        let (text, mut memory) = (resource.to_string(), TapeMemory::default());
        let tape = Tape::read(&text, &mut memory).unwrap();
        let mut take = |cells: &[Cell<'_>]| {
            rows.push(as_json(&view, cells));
            ControlFlow::Continue(())
        };
        view.rows(&tape, evaluation, &mut Dropped::default(), &mut take)
            .map_err(|failed| failed.to_string())?;
    }
    Ok((view, rows))
}

fn as_json(view: &View, cells: &[Cell<'_>]) -> Value {
    let cell = |(column, cell): (&healthex_sync::views::Column, &Cell<'_>)| {
        let value = match cell {
            Cell::Null => Value::Null,
            Cell::Integer(number) => json!(number),
            Cell::Boolean(value) => json!(value),
            Cell::Real(number, _) => json!(number),
            Cell::Text(text) if column.collection => serde_json::from_str(text).unwrap(),
            Cell::Text(text) => json!(text),
        };
        (column.name.clone(), value)
    };
    Value::Object(view.columns.iter().zip(cells).map(cell).collect())
}

/// One text for equal rows: keys sorted, numbers without regard to how they are written.
fn canonical(row: &Value) -> String {
    let number = |value: &Value| match value {
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    };
    let sorted: BTreeMap<_, _> = row
        .as_object()
        .unwrap_or(&Map::new())
        .iter()
        .map(|(name, value)| (name.clone(), number(value)))
        .collect();
    serde_json::to_string(&sorted).unwrap()
}

//! The official SQL on FHIR test suite: all of it, by number, and what upstream has added since.

use healthex_sync::views::{Several, View};
use serde_json::{Map, Value, json};

use crate::evaluate::{Row, compiled, rows_of};
use crate::support::shared;

/// How many tests the suite has, and how many pass.
const SUITE: usize = 144;
/// The one file that is newer upstream.
const NEWER: usize = 7;

#[test]
fn the_official_suite_passes_in_full() {
    for (folder, tests) in [("sql-on-fhir-tests", SUITE), ("sql-on-fhir-tests-newer", NEWER)] {
        let Some(folder) = shared(folder) else { continue };
        let (mut failed, mut count) = (Vec::new(), 0);
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|end| end != "json") {
                continue;
            }
            let suite: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for test in suite["tests"].as_array().unwrap() {
                count += 1;
                if let Err(why) = run(suite["resources"].as_array().unwrap(), test) {
                    failed.push(format!("{} / {}: {why}", suite["title"], test["title"]));
                }
            }
        }
        assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
        assert_eq!(count, tests);
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
    let view = compiled(view)?;
    let mut rows = Vec::new();
    for resource in resources.iter().filter(|resource| resource["resourceType"] == view.resource_type) {
        let found = rows_of(&view, &resource.to_string(), Several::Refuse)?;
        rows.extend(found.into_iter().map(|row| with_arrays(&view, row)));
    }
    Ok((view, rows))
}

/// A collection's text is a JSON array.
fn with_arrays(view: &View, mut row: Row) -> Value {
    for column in view.columns.iter().filter(|column| column.collection) {
        let array = row[&column.name].as_str().and_then(|text| serde_json::from_str(text).ok());
        row.insert(column.name.clone(), array.unwrap());
    }
    row.into_iter().collect()
}

/// One text for equal rows: keys sorted, numbers without regard to how they are written.
fn canonical(row: &Value) -> String {
    let number = |value: &Value| match value {
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    };
    let sorted: Row = row
        .as_object()
        .unwrap_or(&Map::new())
        .iter()
        .map(|(name, value)| (name.clone(), number(value)))
        .collect();
    serde_json::to_string(&sorted).unwrap()
}

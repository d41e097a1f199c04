//! The official SQL on FHIR test suite through the compiler and SQLite: all of it, by number.

use healthex_sync::views::{Sql, Target, ViewDefinition, compile};
use rusqlite::types::Value as SqlValue;
use serde_json::{Map, Value, json};

use crate::store::Store;
use crate::support::shared;

/// How many tests the suite has, and how many pass.
const SUITE: usize = 144;

#[test]
fn the_official_suite_passes_in_full() {
    let Some(folder) = shared("sql-on-fhir-tests") else {
        return;
    };
    let mut failed = Vec::new();
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let suite: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let store = Store::new();
        for (number, resource) in suite["resources"].as_array().unwrap().iter().enumerate() {
            store.add(number, resource);
        }
        for test in suite["tests"].as_array().unwrap() {
            count += 1;
            if let Err(why) = run(&store, test) {
                failed.push(format!("{} / {}: {why}", suite["title"], test["title"]));
            }
        }
    }
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
    assert_eq!(count, SUITE);
}

fn run(store: &Store, test: &Value) -> Result<(), String> {
    let rows = rows(store, &test["view"]);
    if test["expectError"] == json!(true) {
        return match rows {
            Ok((_, rows)) => Err(format!("an error is expected, got {rows:?}")),
            Err(_) => Ok(()),
        };
    }
    let (sql, rows) = rows?;
    if let Some(columns) = test["expectColumns"].as_array() {
        let names: Vec<_> = sql.columns.iter().map(|column| json!(column.name)).collect();
        if names != *columns {
            return Err(format!("columns {names:?}, expected {columns:?}"));
        }
    }
    let mut got: Vec<_> = rows.iter().map(canonical).collect();
    let mut expected: Vec<_> = test["expect"].as_array().unwrap().iter().map(canonical).collect();
    got.sort();
    expected.sort();
    if got == expected {
        Ok(())
    } else {
        Err(format!("\n  got      {got:?}\n  expected {expected:?}\n{}", sql.select))
    }
}

fn rows(store: &Store, view: &Value) -> Result<(Sql, Vec<Value>), String> {
    let view = ViewDefinition::parse(&view.to_string()).map_err(|refused| refused.to_string())?;
    let sql = compile(&view, Target::Strict).map_err(|refused| refused.to_string())?;
    let rows = store.rows(&sql).map_err(|error| format!("{error}\n{}", sql.select))?;
    let rows = rows.into_iter().map(|row| as_json(&sql, row)).collect();
    Ok((sql, rows))
}

fn as_json(sql: &Sql, row: Vec<SqlValue>) -> Value {
    let cell = |(column, value): (&healthex_sync::views::Column, SqlValue)| {
        let value = match value {
            SqlValue::Null => Value::Null,
            SqlValue::Integer(number) if column.boolean => json!(number != 0),
            SqlValue::Integer(number) => json!(number),
            SqlValue::Real(number) => json!(number),
            SqlValue::Text(text) if column.collection => serde_json::from_str(&text).unwrap(),
            SqlValue::Text(text) => json!(text),
            SqlValue::Blob(_) => unreachable!("no column is a blob"),
        };
        (column.name.clone(), value)
    };
    Value::Object(sql.columns.iter().zip(row).map(cell).collect())
}

/// One text for equal rows: keys sorted, numbers without regard to how they are written.
fn canonical(row: &Value) -> String {
    let number = |value: &Value| match value {
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    };
    let sorted: std::collections::BTreeMap<_, _> = row
        .as_object()
        .unwrap_or(&Map::new())
        .iter()
        .map(|(name, value)| (name.clone(), number(value)))
        .collect();
    serde_json::to_string(&sorted).unwrap()
}

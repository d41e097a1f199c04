//! The twelve built-in views: that they compile without a warning, what rows they give of real
//! and of odd resources, and that no resource, however mangled, makes one fail.

use healthex_sync::views::{BuiltIn, Declared, Index, built_in, catalogue};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::types::Value as SqlValue;
use serde_json::{Value, json};

use crate::store::Store;
use crate::support::resources::{examples, mangle, synthea};

/// The first row of a view, by column; none where there is no row.
fn row(view: &BuiltIn, resources: &[Value]) -> Option<std::collections::BTreeMap<String, SqlValue>> {
    rows(view, resources).into_iter().next()
}

fn rows(view: &BuiltIn, resources: &[Value]) -> Vec<std::collections::BTreeMap<String, SqlValue>> {
    let store = Store::new();
    for (number, resource) in resources.iter().enumerate() {
        store.add(number, resource);
    }
    let sql = view.sql().unwrap();
    let named = |row: Vec<SqlValue>| sql.columns.iter().map(|column| column.name.clone()).zip(row).collect();
    store.rows(sql).unwrap().into_iter().map(named).collect()
}

fn text(value: &str) -> SqlValue {
    SqlValue::Text(value.to_owned())
}

/// What column `column` of the first row is for one resource.
fn check(view: &str, resource: &Value, expected: &[(&str, SqlValue)]) {
    let row = row(built_in(view).unwrap(), std::slice::from_ref(resource)).expect("no row");
    for (column, value) in expected {
        assert_eq!(row[*column], *value, "{view}.{column} of {resource}");
    }
}

#[test]
fn each_compiles_without_a_warning_and_says_what_it_is() {
    for view in catalogue() {
        let sql = view.sql().unwrap_or_else(|refused| panic!("{}: {refused}", view.name));
        assert_eq!(sql.warnings, Vec::<String>::new(), "{}", view.name);
        let definition: Value = serde_json::from_str(view.json).unwrap();
        assert_eq!(definition["name"], view.name);
        assert_ne!(definition["description"], "");
        assert!(sql.columns.iter().any(|column| column.index == Index::Single), "{}", view.name);
    }
}

/// The oldest SQLite the warehouse is to be read with.
#[test]
fn nothing_newer_than_sqlite_3_34_is_written() {
    for view in catalogue() {
        let sql = view.sql().unwrap();
        let text = &sql.select;
        for newer in [
            "->",
            "jsonb",
            "unixepoch(",
            " format(",
            " concat(",
            "string_agg(",
            "FULL JOIN",
            "STRICT",
            " LATERAL",
        ] {
            assert!(!text.contains(newer), "{}: {newer}", view.name);
        }
    }
}

/// A partial date must not reach a typed column, and must not be lost either.
#[test]
fn each_typed_date_stands_beside_the_text_it_came_from() {
    for view in catalogue() {
        let definition: Value = serde_json::from_str(view.json).unwrap();
        let columns = definition["select"][0]["column"].as_array().unwrap();
        for column in columns.iter().filter(|column| column["type"] == "dateTime" || column["type"] == "date")
        {
            let plain =
                |other: &&Value| other["path"] == column["path"] && !other.to_string().contains("ansi/type");
            assert!(columns.iter().any(|other| plain(&other)), "{}: {column} alone", view.name);
        }
    }
}

/// For each view: at least one row of the examples, and hardly a column that is always NULL.
#[test]
fn real_resources_fill_the_tables() {
    let resources = [synthea(), examples("us-core-7.0.0-examples"), examples("r4-examples")].concat();
    if resources.len() < 1_000 {
        return;
    }
    let mut empty = Vec::new();
    for view in catalogue() {
        let rows = rows(view, &resources);
        assert!(!rows.is_empty(), "{} has no row", view.name);
        for column in &view.sql().unwrap().columns {
            let cells = || rows.iter().map(|row| &row[&column.name]).filter(|cell| **cell != SqlValue::Null);
            cells().for_each(|cell| check_cell(view.name, column, cell));
            if cells().next().is_none() {
                empty.push(format!("{}.{}", view.name, column.name));
            }
        }
        let ids = rows.iter().filter(|row| row["id"] == SqlValue::Null).count();
        assert_eq!(ids, 0, "{}: rows without an id", view.name);
    }
    eprintln!("never filled by the examples: {}", empty.join(", "));
    assert!(empty.len() < 50, "{empty:?}");
}

fn check_cell(view: &str, column: &healthex_sync::views::Column, cell: &SqlValue) {
    let fits = match (column.declared, cell) {
        (Declared::Text, SqlValue::Text(_)) | (Declared::Real, SqlValue::Real(_)) => true,
        (Declared::Integer, SqlValue::Integer(number)) => !column.boolean || (0..=1).contains(number),
        (Declared::Date, SqlValue::Text(text)) => text.len() == 10,
        (Declared::DateTime, SqlValue::Text(text)) => text.len() == 20 && text.ends_with('Z'),
        _ => false,
    };
    assert!(fits, "{view}.{}: {cell:?} in a column declared {}", column.name, column.declared.sql());
}

#[test]
fn references_of_every_form_give_the_id_or_null() {
    for (reference, id) in [
        ("Patient/1", Some("1")),
        ("https://x/fhir/Patient/1", Some("1")),
        ("https://x/Patient/1/_history/2", Some("1")),
        ("Patient/1/_history/2", Some("1")),
        ("urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7", Some("53fefa32-fcbb-4ff8-8a92-55ee120877b7")),
        ("Practitioner/1", None),
        ("https://x/OutPatient/1", None),
        ("Patient?identifier=x|1", None),
        ("#contained", None),
        ("Patient/", None),
        ("Patient", None),
        ("", None),
        ("urn:uuid:", None),
    ] {
        let condition = json!({"resourceType": "Condition", "id": "c", "subject": {"reference": reference}});
        check("conditions", &condition, &[("patient_id", id.map_or(SqlValue::Null, text))]);
    }
    let other =
        json!({"resourceType": "Condition", "subject": {"reference": "urn:uuid:1-2", "type": "Group"}});
    check("conditions", &other, &[("patient_id", SqlValue::Null), ("id", SqlValue::Null)]);
}

#[test]
fn dates_are_kept_as_received_and_typed_only_when_full() {
    for (onset, at) in [
        ("2019-05-03T10:20:30Z", Some("2019-05-03T10:20:30Z")),
        ("2019-05-03T10:20:30.999+02:00", Some("2019-05-03T08:20:30Z")),
        ("2019-12-31T23:30:00-05:30", Some("2020-01-01T05:00:00Z")),
        ("2019", None),
        ("2019-05", None),
        ("2019-05-03", None),
        ("2019-05-03T10:20:30", None),
        ("2019-05-03T10:20Z", None),
        ("2019-02-30T10:20:30Z", None),
        ("2019-05-03T24:00:00Z", None),
        ("2019-05-03T10:20:61Z", None),
        ("0000-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        ("now", None),
        ("", None),
    ] {
        let condition = json!({"resourceType": "Condition", "id": "c", "onsetDateTime": onset});
        check(
            "conditions",
            &condition,
            &[("onset", text(onset)), ("onset_at", at.map_or(SqlValue::Null, text))],
        );
    }
    for (birth, date) in
        [("1970-06-01", Some("1970-06-01")), ("1970-06", None), ("1970", None), ("1970-02-30", None)]
    {
        let patient = json!({"resourceType": "Patient", "id": "p", "birthDate": birth});
        check(
            "patients",
            &patient,
            &[("birth_date_text", text(birth)), ("birth_date", date.map_or(SqlValue::Null, text))],
        );
    }
}

#[test]
fn a_value_of_the_wrong_json_type_is_null_and_a_repeated_one_the_first() {
    let code = json!({"coding": [{"system": "http://loinc.org", "code": "4548-4"}, {"system": "http://loinc.org", "code": "2"}]});
    let lab = |value: Value| {
        json!({"resourceType": "Observation", "id": "o", "code": code, "valueQuantity": value, "status": 5,
            "category": ["x", null, {"coding": "y"}, {"coding": [7, {"code": "laboratory"}]}],
            "subject": [{"reference": "Patient/1"}], "encounter": "Encounter/1"})
    };
    let null = SqlValue::Null;
    check(
        "lab_results",
        &lab(json!({"value": 6.50, "unit": {"a": 1}})),
        &[
            ("loinc", text("4548-4")),
            ("value", SqlValue::Real(6.5)),
            ("unit", null.clone()),
            ("status", null.clone()),
            ("category", text("laboratory")),
            ("patient_id", null.clone()),
            ("encounter_id", null.clone()),
        ],
    );
    check("lab_results", &lab(json!({"value": 7})), &[("value", SqlValue::Real(7.0))]);
    for wrong in
        [json!("6.5"), json!({"value": "6.5"}), json!({"value": [6.5]}), json!([{"value": 6.5}]), json!(true)]
    {
        check("lab_results", &lab(wrong), &[("value", null.clone())]);
    }
}

#[test]
fn a_blood_pressure_is_two_rows_held_together() {
    let part = |code: &str, value: f64| {
        json!({"code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueQuantity": {"value": value, "unit": "mmHg"}})
    };
    let pressure = json!({"resourceType": "Observation", "id": "bp", "status": "final",
        "category": [{"coding": [{"code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        "component": [part("8480-6", 120.0), part("8462-4", 80.0)]});
    let rows = rows(built_in("vital_signs").unwrap(), &[pressure]);
    assert_eq!(rows.len(), 2);
    for (row, (loinc, value)) in rows.iter().zip([("8480-6", 120.0), ("8462-4", 80.0)]) {
        assert_eq!((&row["id"], &row["panel_loinc"]), (&text("bp"), &text("85354-9")));
        assert_eq!((&row["loinc"], &row["value"]), (&text(loinc), &SqlValue::Real(value)));
    }
}

/// Some 40 edits of each example, each replacing a random JSON value by another.
#[test]
fn no_mangled_resource_makes_a_view_fail() {
    let seed = rand::rng().random();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let types: Vec<_> = catalogue().iter().map(|view| view.sql().unwrap().resource_type.as_str()).collect();
    let all = [examples("us-core-7.0.0-examples"), examples("r4-examples")].concat();
    let known = |resource: &&Value| types.iter().any(|name| resource["resourceType"] == **name);
    let store = Store::new();
    let mut number = 0;
    for resource in all.iter().filter(known) {
        let resource_type = resource["resourceType"].as_str().unwrap().to_owned();
        for _ in 0..40 {
            let mut mangled = resource.clone();
            for _ in 0..random.random_range(1..6) {
                mangle(&mut mangled, &mut random);
            }
            number += 1;
            store.put(&resource_type, &format!("{resource_type}/#{number}"), &mangled.to_string());
        }
    }
    for name in types {
        for (at, odd) in
            ["", "no json", "null", "5", "\"text\"", "[]", "{}", "[[{}]]", "{\"a\":", "{\"id\":NaN}"]
                .iter()
                .enumerate()
        {
            store.put(name, &format!("odd/{at}"), odd);
        }
        let deep = format!("{{\"category\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        store.put(name, "deep", &deep);
    }
    for view in catalogue() {
        let sql = view.sql().unwrap();
        let rows = store.rows(sql).unwrap_or_else(|error| panic!("{}: {error}", view.name));
        for (column, cell) in rows.iter().flat_map(|row| sql.columns.iter().zip(row)) {
            if *cell != SqlValue::Null {
                check_cell(view.name, column, cell);
            }
        }
    }
}

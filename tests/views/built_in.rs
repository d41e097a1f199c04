//! The twelve built-in views: that they compile without a warning, what rows they give of real
//! and of odd resources, and that no resource, however mangled, makes one fail.

use healthex_sync::views::{BuiltIn, Column, Declared, Index, Several, built_in, catalogue};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::evaluate;
use crate::evaluate::{Row, rows_of};
use crate::support::resources::{examples, mangle, synthea};

fn rows(view: &BuiltIn, resources: &[Value]) -> Vec<Row> {
    evaluate::rows(view.view().unwrap(), resources)
}

/// What column `column` of the first row is for one resource.
fn check(view: &str, resource: &Value, expected: &[(&str, Value)]) {
    let rows = rows(built_in(view).unwrap(), std::slice::from_ref(resource));
    let row = rows.first().expect("no row");
    for (column, value) in expected {
        assert_eq!(row[*column], *value, "{view}.{column} of {resource}");
    }
}

#[test]
fn each_compiles_without_a_warning_and_says_what_it_is() {
    for view in catalogue() {
        let compiled = view.view().unwrap_or_else(|refused| panic!("{}: {refused}", view.name));
        assert_eq!(compiled.warnings, Vec::<String>::new(), "{}", view.name);
        assert!(!compiled.depends_on_time, "{}", view.name);
        let definition: Value = serde_json::from_str(view.json).unwrap();
        assert_eq!(definition["name"], view.name);
        assert_ne!(definition["description"], "");
        assert!(compiled.columns.iter().any(|column| column.index == Index::Single), "{}", view.name);
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
        for column in &view.view().unwrap().columns {
            let cells = || rows.iter().map(|row| &row[&column.name]).filter(|cell| !cell.is_null());
            cells().for_each(|cell| check_cell(view.name, column, cell));
            if cells().next().is_none() {
                empty.push(format!("{}.{}", view.name, column.name));
            }
        }
        let ids = rows.iter().filter(|row| row["id"].is_null()).count();
        assert_eq!(ids, 0, "{}: rows without an id", view.name);
    }
    eprintln!("never filled by the examples: {}", empty.join(", "));
    assert!(empty.len() < 50, "{empty:?}");
}

fn check_cell(view: &str, column: &Column, cell: &Value) {
    let fits = match (column.declared, cell) {
        (Declared::Text, Value::String(_)) => true,
        (Declared::Real, Value::Number(number)) => number.is_f64(),
        (Declared::Integer, Value::Number(number)) => !column.boolean && number.is_i64(),
        (Declared::Integer, Value::Bool(_)) => column.boolean,
        (Declared::Date, Value::String(text)) => text.len() == 10,
        (Declared::DateTime, Value::String(text)) => text.len() == 20 && text.ends_with('Z'),
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
        check("conditions", &condition, &[("patient_id", json!(id))]);
    }
    let other =
        json!({"resourceType": "Condition", "subject": {"reference": "urn:uuid:1-2", "type": "Group"}});
    check("conditions", &other, &[("patient_id", Value::Null), ("id", Value::Null)]);
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
        check("conditions", &condition, &[("onset", json!(onset)), ("onset_at", json!(at))]);
    }
    for (birth, date) in
        [("1970-06-01", Some("1970-06-01")), ("1970-06", None), ("1970", None), ("1970-02-30", None)]
    {
        let patient = json!({"resourceType": "Patient", "id": "p", "birthDate": birth});
        check("patients", &patient, &[("birth_date_text", json!(birth)), ("birth_date", json!(date))]);
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
    let null = Value::Null;
    check(
        "lab_results",
        &lab(json!({"value": 6.50, "unit": {"a": 1}})),
        &[
            ("loinc", json!("4548-4")),
            ("value", json!(6.5)),
            ("unit", null.clone()),
            ("status", null.clone()),
            ("category", json!("laboratory")),
            ("patient_id", null.clone()),
            ("encounter_id", null.clone()),
        ],
    );
    check("lab_results", &lab(json!({"value": 7})), &[("value", json!(7.0))]);
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
        assert_eq!((&row["id"], &row["panel_loinc"]), (&json!("bp"), &json!("85354-9")));
        assert_eq!((&row["loinc"], &row["value"]), (&json!(loinc), &json!(value)));
    }
}

/// Some 40 edits of each example, each replacing a random JSON value by another.
#[test]
fn no_mangled_resource_makes_a_view_fail() {
    let seed = rand::rng().random();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let all = [examples("us-core-7.0.0-examples"), examples("r4-examples")].concat();
    for resource in &all {
        for _ in 0..40 {
            let mut mangled = resource.clone();
            for _ in 0..random.random_range(1..6) {
                mangle(&mut mangled, &mut random);
            }
            for view in catalogue() {
                if resource["resourceType"] == view.view().unwrap().resource_type {
                    check_rows(view, &mangled.to_string());
                }
            }
        }
    }
    let deep = format!("{{\"category\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let odd =
        ["", "no json", "null", "5", "\"text\"", "[]", "{}", "[[{}]]", "{\"a\":", "{\"id\":NaN}", &deep];
    for view in catalogue() {
        for odd in odd {
            check_rows(view, odd);
        }
    }
}

fn check_rows(view: &BuiltIn, resource: &str) {
    let compiled = view.view().unwrap();
    let rows = rows_of(compiled, resource, Several::KeepFirst);
    for row in rows.unwrap_or_else(|error| panic!("{}: {error}", view.name)) {
        for column in &compiled.columns {
            if !row[&column.name].is_null() {
                check_cell(view.name, column, &row[&column.name]);
            }
        }
    }
}

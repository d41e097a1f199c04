//! The built-in views: that they compile without a warning, what rows they give of real
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
        // That a reference leads to what is contained is meant.
        let unmeant: Vec<_> =
            compiled.warnings.iter().filter(|warning| !warning.contains("resolve()")).collect();
        assert_eq!(unmeant, Vec::<&String>::new(), "{}", view.name);
        assert!(!compiled.depends_on_time, "{}", view.name);
        let definition: Value = serde_json::from_str(view.json).unwrap();
        assert_eq!(definition["name"], view.name);
        assert_ne!(definition["description"], "");
        assert!(compiled.columns.iter().any(|column| column.index != Index::None), "{}", view.name);
    }
}

/// Every column of a view, however deep its select.
fn columns_of(definition: &Value) -> Vec<Value> {
    let nested = ["select", "unionAll"].iter().filter_map(|name| definition[*name].as_array()).flatten();
    let own = definition["column"].as_array().into_iter().flatten().cloned();
    own.chain(nested.flat_map(columns_of)).collect()
}

/// A partial date must not reach a typed column, and must not be lost either: the day and the time are
/// of one expression, beside the text it was received as. An end has its day alone.
#[test]
fn each_clinical_time_is_three_columns() {
    let mut times = 0;
    for view in catalogue() {
        let columns = columns_of(&serde_json::from_str(view.json).unwrap());
        let named = |name: &str| columns.iter().filter(|column| column["name"] == name).collect::<Vec<_>>();
        for column in &columns {
            let name = column["name"].as_str().unwrap();
            let Some(base) = name.strip_suffix("_at") else { continue };
            let day = named(&format!("{base}_date"));
            assert!(day.iter().any(|day| day["path"] == column["path"]), "{}: {name} has no day", view.name);
            let as_received = |other: &&Value| {
                other["path"].as_str().unwrap().contains(column["path"].as_str().unwrap())
                    && !other.to_string().contains("\"DATE\"")
                    && !other.to_string().contains("TIMESTAMP")
            };
            let is_kept = columns.iter().any(|other| as_received(&other)) || base == "value";
            assert!(is_kept, "{}: {name} is not kept as received", view.name);
            times += 1;
        }
    }
    assert!(times > 30, "{times}");
}

/// The same rules for every table: who it is from, and the one list of panels.
#[test]
fn each_says_where_it_is_from_and_knows_the_same_panels() {
    let mut panels = std::collections::BTreeSet::new();
    for view in catalogue() {
        let definition: Value = serde_json::from_str(view.json).unwrap();
        assert!(columns_of(&definition).iter().any(|column| column["name"] == "source"), "{}", view.name);
        let constants = definition["constant"].as_array().into_iter().flatten();
        panels
            .extend(constants.filter(|one| one["name"] == "panel").map(|one| one["valueString"].to_string()));
        for column in columns_of(&definition) {
            assert_ne!(column["description"].as_str(), None, "{}: {column}", view.name);
        }
    }
    assert_eq!(panels.len(), 1);
}

/// What the acceptance tests hold the tables' rows against, but for half a surrogate pair.
fn quirks() -> Vec<Value> {
    let cases = include_str!("../acceptance/analysts/quirks.ndjson").lines();
    let resources = |case: Value| case["resources"].as_array().cloned().unwrap_or_default();
    cases.filter_map(|line| serde_json::from_str(line).ok()).flat_map(resources).collect()
}

/// For each view: at least one row of the examples, and hardly a column that is always NULL.
#[test]
fn real_resources_fill_the_tables() {
    let resources =
        [synthea(), examples("us-core-7.0.0-examples"), examples("r4-examples"), quirks()].concat();
    if resources.len() < 1_000 {
        return;
    }
    let (mut empty, mut all) = (Vec::new(), 0);
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
        let ids = rows.iter().filter(|row| row.get("id").is_some_and(Value::is_null)).count();
        assert_eq!(ids, 0, "{}: rows without an id", view.name);
        all += view.view().unwrap().columns.len();
    }
    eprintln!("never filled by the examples: {}", empty.join(", "));
    // Of the three columns of a time, and of the code systems, an example fills one.
    assert!(empty.len() * 10 < all * 3, "{} of {all}: {empty:?}", empty.len());
}

fn check_cell(view: &str, column: &Column, cell: &Value) {
    let fits = match (column.declared, cell) {
        (Declared::Text, Value::String(_)) => true,
        (Declared::Real, Value::Number(number)) => number.is_f64(),
        (Declared::Integer, Value::Number(number)) => !column.boolean && number.is_i64(),
        (Declared::Integer, Value::Bool(_)) => column.boolean,
        (Declared::Date, Value::String(text)) => text.len() == 10,
        (Declared::DateTime, Value::String(text)) => text.len() == 19 && text.as_bytes()[10] == b' ',
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
        ("2019-05-03T10:20:30Z", Some("2019-05-03 10:20:30")),
        ("2019-05-03T10:20:30.999+02:00", Some("2019-05-03 08:20:30")),
        ("2019-12-31T23:30:00-05:30", Some("2020-01-01 05:00:00")),
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
    for (birth, date) in [
        ("1970-06-01", Some("1970-06-01")),
        ("1970-06-01T00:00:00Z", Some("1970-06-01")),
        ("1970-06-01 00:00:00", Some("1970-06-01")),
        ("1970-06-01 or so", None),
        ("1970-06", None),
        ("1970", None),
        ("1970-02-30", None),
    ] {
        let patient = json!({"resourceType": "Patient", "id": "p", "birthDate": birth});
        check("patients", &patient, &[("birth_date_text", json!(birth)), ("birth_date", json!(date))]);
    }
}

#[test]
fn an_encounter_is_as_long_as_its_times_say_else_as_is_told_else_as_its_days() {
    let period = |start: &str, end: &str| json!({"start": start, "end": end});
    let days = period("2024-01-01", "2024-01-03");
    let length = |value: f64, code: &str| json!({"value": value, "code": code});
    for (period, length, hours) in [
        (period("2024-01-01T08:00:00-05:00", "2024-01-03T07:30:00-05:00"), length(1.0, "h"), json!(47.5)),
        (days.clone(), length(90.0, "min"), json!(1.5)),
        (json!({}), json!({"value": 2, "unit": "Days"}), json!(48.0)),
        (json!({}), length(1.0, "wk"), json!(168.0)),
        (json!({}), length(1.0, "mo"), Value::Null),
        (days, json!({}), json!(48.0)),
        (period("2024-01-01", "2024-01-01"), json!({}), Value::Null),
        (period("2024-01-01", "2024-01-01T08:00:00Z"), json!({}), Value::Null),
        (period("2024-01", "2024-02"), json!({}), Value::Null),
    ] {
        let visit = json!({"resourceType": "Encounter", "id": "e", "period": period, "length": length});
        check("encounters", &visit, &[("length_hours", hours)]);
    }
}

#[test]
fn an_answer_has_the_path_of_the_groups_and_questions_that_it_stands_within() {
    let response = json!({"resourceType": "QuestionnaireResponse", "id": "q", "status": "completed", "item": [
        {"linkId": "group", "item": [
            {"linkId": "1", "answer": [{"valueBoolean": true, "item": [{"linkId": "1.1", "answer": [{"valueString": "why"}]}]}]},
            {"item": [{"linkId": "2", "answer": [{"valueInteger": 4}]}]},
        ]},
        {"linkId": "last", "answer": [{"valueInteger": 5}]},
    ]});
    let rows = rows(built_in("questionnaire_answers").unwrap(), &[response]);
    let paths: Vec<_> = rows.iter().map(|row| (&row["link_id"], &row["link_path"])).collect();
    assert_eq!(
        json!(paths),
        json!([["1", "group > 1"], ["1.1", "group > 1 > 1.1"], ["2", "group > 2"], ["last", "last"]])
    );
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
        "observations",
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
    check("observations", &lab(json!({"value": 7})), &[("value", json!(7.0))]);
    check("observations", &lab(json!({"value": " 6.5"})), &[("value", json!(6.5))]);
    for wrong in [json!("6.5"), json!({"value": [6.5]}), json!([{"value": 6.5}]), json!(true)] {
        check("observations", &lab(wrong), &[("value", null.clone())]);
    }
}

#[test]
fn a_blood_pressure_is_two_components_held_together() {
    let part = |code: &str, value: f64| {
        json!({"code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueQuantity": {"value": value, "unit": "mmHg"}})
    };
    let pressure = json!({"resourceType": "Observation", "id": "bp", "status": "final",
        "category": [{"coding": [{"code": "vital-signs"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}]},
        "component": [part("8480-6", 120.0), part("8462-4", 80.0)]});
    let rows = rows(built_in("observations").unwrap(), &[pressure]);
    assert_eq!(rows.len(), 3);
    assert_eq!((&rows[0]["loinc"], &rows[0]["value"]), (&json!("85354-9"), &Value::Null));
    for (row, (loinc, value)) in rows[1..].iter().zip([("8480-6", 120.0), ("8462-4", 80.0)]) {
        assert_eq!((&row["id"], &row["panel_code"]), (&json!("bp"), &json!("85354-9")));
        assert_eq!((&row["loinc"], &row["value"]), (&json!(loinc), &json!(value)));
    }
}

/// A text in the place of a number: what can be read of it, and what is no number.
#[test]
fn a_text_that_says_a_number_is_one() {
    for (text, comparator, value, unit) in [
        ("5.40", None, Some(5.4), None),
        ("<5", Some("<"), Some(5.0), None),
        (">= 60 mL/min/1.73m2", Some(">="), Some(60.0), Some("mL/min/1.73m2")),
        ("9.4 %", None, Some(9.4), Some("%")),
        ("26.00000 SECONDS", None, Some(26.0), Some("SECONDS")),
        (" 120mg/dL ", None, Some(120.0), Some("mg/dL")),
        ("4.5 10*3/uL", None, Some(4.5), Some("10*3/uL")),
        (".5", None, Some(0.5), None),
        ("-1.5", None, Some(-1.5), None),
        ("not seen", None, None, None),
        ("1+", None, None, None),
        ("2 of 3", None, None, None),
        ("120/80", None, None, None),
        ("3-5", None, None, None),
        ("10:30", None, None, None),
        ("1:40", None, None, None),
        ("2024-03-01", None, None, None),
        ("3B", None, None, None),
        ("1 positive", None, None, None),
        ("1.2.3", None, None, None),
        ("", None, None, None),
    ] {
        let expected = [
            ("comparator", json!(comparator)),
            ("value", json!(value)),
            ("unit", json!(unit)),
            ("value_text", json!(text)),
        ];
        let observation = json!({"resourceType": "Observation", "id": "o", "valueString": text});
        check("observations", &observation, &expected);
        if value.is_none() || comparator.is_some() {
            let observation =
                json!({"resourceType": "Observation", "id": "o", "valueQuantity": {"value": text}});
            check("observations", &observation, &expected);
        }
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

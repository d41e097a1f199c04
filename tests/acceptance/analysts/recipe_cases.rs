//! Each recipe on records as people send them: units, codes and statuses mixed, dates in part, several hospitals and
//! several Patients a person.
//!
//! A case is one person. A recipe gives for it exactly so many rows, of which the columns that are named are compared.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use healthex_sync::sandbox::{Population, RecordEntry};
use rusqlite::types::ValueRef;
use serde_json::{Map, Value, json};

use super::quirks::{self, quirks};
use super::recipes::recipes;
use crate::world::{World, project};

struct Case {
    person: &'static str,
    resources: Vec<Value>,
    /// Recipes and their rows.
    expected: Vec<(&'static str, Value)>,
}

fn case<const N: usize>(
    person: &'static str,
    resources: Vec<Value>,
    expected: [(&'static str, Value); N],
) -> Case {
    Case { person, resources, expected: expected.into() }
}

fn loinc(code: &str) -> Value {
    json!({"coding": [{"system": "http://loinc.org", "code": code}]})
}

fn category(code: &str) -> Value {
    json!([{"coding": [{"code": code}]}])
}

fn merged(mut into: Value, more: &Value) -> Value {
    let members: Map<String, Value> = more.as_object().unwrap().clone();
    into.as_object_mut().unwrap().extend(members);
    into
}

fn observation(id: &str, code: &str, day: &str, more: &Value) -> Value {
    let plain = json!({"resourceType": "Observation", "id": id, "status": "final", "code": loinc(code),
        "category": category("laboratory"), "effectiveDateTime": day});
    merged(plain, more)
}

fn quantity(value: f64, unit: &str) -> Value {
    json!({"valueQuantity": {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit}})
}

fn measured(id: &str, code: &str, day: &str, value: f64, unit: &str) -> Value {
    observation(id, code, day, &quantity(value, unit))
}

fn condition(id: &str, code: &str, more: &Value) -> Value {
    let code = json!({"coding": [{"system": "http://snomed.info/sct", "code": code, "display": code}]});
    merged(json!({"resourceType": "Condition", "id": id, "code": code}), more)
}

fn coded(code: &str) -> Value {
    json!({"coding": [{"code": code}]})
}

fn request(id: &str, text: &str, more: &Value) -> Value {
    let plain = json!({"resourceType": "MedicationRequest", "id": id, "status": "active", "intent": "order",
        "medicationCodeableConcept": {"text": text}});
    merged(plain, more)
}

fn dose(id: &str, cvx: &str, status: &str) -> Value {
    json!({"resourceType": "Immunization", "id": id, "status": status, "occurrenceDateTime": "2020-01-01",
        "vaccineCode": {"coding": [{"system": "http://hl7.org/fhir/sid/ndc", "code": "x"}, {"system": "http://hl7.org/fhir/sid/cvx", "code": cvx}]}})
}

fn hba1c() -> Vec<Case> {
    let retracted = json!({"status": "entered-in-error"});
    let period =
        json!({"effectiveDateTime": null, "effectivePeriod": {"start": "2024-05-01", "end": "2024-05-02"}});
    let own_text = json!({"valueQuantity": null, "valueString": "not measurable"});
    let bound = json!({"valueQuantity": {"value": 4, "comparator": "<", "unit": "%"}});
    vec![
        case(
            "units",
            vec![
                measured("a", "4548-4", "2024-01-01", 7.0, "%"),
                measured("b", "59261-8", "2024-02-01", 53.0, "mmol/mol"),
            ],
            [("latest_hba1c", json!([{"day": "2024-02-01", "percent": null, "mmol_mol": 53.0, "days": 2}]))],
        ),
        case(
            "retracted",
            vec![
                measured("a", "4548-4", "2024-01-01", 7.0, "%"),
                merged(measured("b", "4548-4", "2024-02-01", 17.0, "%"), &retracted),
                merged(measured("c", "4548-4", "2024-03-01", 18.0, "%"), &json!({"status": "cancelled"})),
            ],
            [("latest_hba1c", json!([{"day": "2024-01-01", "percent": 7.0, "days": 1}]))],
        ),
        case(
            "period",
            vec![
                measured("a", "4548-4", "2024-01-01T08:00:00Z", 7.0, "%"),
                merged(measured("b", "17856-6", "", 6.0, "%"), &period),
            ],
            [("latest_hba1c", json!([{"day": "2024-05-01", "percent": 6.0}]))],
        ),
        case(
            "month",
            vec![
                measured("a", "4548-4", "2024-02-20", 7.0, "%"),
                measured("b", "4548-4", "2024-03", 6.5, "%"),
            ],
            [("latest_hba1c", json!([{"day": "2024-03", "percent": 6.5}]))],
        ),
        case(
            "bound",
            vec![observation("a", "4548-4", "2024-01-01", &bound)],
            [("latest_hba1c", json!([{"comparator": "<", "percent": 4.0}]))],
        ),
        case(
            "words",
            vec![
                measured("a", "4548-4", "2024-01-01", 7.0, "%"),
                merged(measured("b", "4548-4", "2024-02-01", 1.0, "%"), &own_text),
            ],
            [("latest_hba1c", json!([{"day": "2024-02-01", "percent": null, "said": "not measurable"}]))],
        ),
        case(
            "quoted",
            vec![observation("a", "4548-4", "2024-01-01", &json!({"valueString": "9.4 %"}))],
            [("latest_hba1c", json!([{"percent": 9.4, "said": "9.4 %"}]))],
        ),
    ]
}

fn pressures() -> Vec<Case> {
    let pressure = |id: &str, panel: &str, unit: &str, values: [f64; 2]| {
        let part = |code: &str, value: f64| merged(json!({"code": loinc(code)}), &quantity(value, unit));
        observation(
            id,
            panel,
            "2024-01-01T08:00:00Z",
            &json!({"category": category("vital-signs"),
            "component": [part("8480-6", values[0]), part("8462-4", values[1])]}),
        )
    };
    vec![
        case(
            "pressures",
            vec![
                pressure("a", "85354-9", "mm[Hg]", [120.0, 80.0]),
                pressure("b", "55284-4", "kPa", [16.0, 10.0]),
                merged(
                    pressure("c", "85354-9", "mm[Hg]", [1.0, 2.0]),
                    &json!({"status": "entered-in-error"}),
                ),
            ],
            [(
                "blood_pressure",
                json!([{"systolic": 120.0, "diastolic": 80.0, "day": "2024-01-01"},
            {"systolic": 120.0, "diastolic": 75.0}]),
            )],
        ),
        case(
            "apart",
            vec![
                measured("a", "8480-6", "2024-01-01T08:00:00Z", 130.0, "mm[Hg]"),
                measured("b", "8462-4", "2024-01-01T08:00:00Z", 85.0, "mm[Hg]"),
                measured("c", "8462-4", "2024-01-01T09:00:00Z", 86.0, "mm[Hg]"),
            ],
            [("blood_pressure", json!([{"systolic": 130.0, "diastolic": 85.0}]))],
        ),
    ]
}

fn body() -> Vec<Case> {
    vec![
        case(
            "body",
            vec![
                measured("h", "8302-2", "2020-01-01", 70.0, "[in_i]"),
                measured("w", "29463-7", "2024-01-01", 200.0, "[lb_av]"),
                measured("o", "29463-7", "2024-02", 90.0, "kg"),
                measured("x", "29463-7", "2024-03-01", 1.0, "stone"),
            ],
            [(
                "latest_bmi",
                json!([{"bmi": 28.5, "how": "worked out", "weight_kg": 90.0, "height_m": 1.78, "day": "2024-02"}]),
            )],
        ),
        case(
            "bmi",
            vec![
                measured("b", "39156-5", "2024-05-01", 24.26, "kg/m2"),
                measured("h", "8302-2", "2020-01-01", 170.0, "cm"),
                measured("w", "29463-7", "2024-01-01", 80.0, "kg"),
            ],
            [("latest_bmi", json!([{"bmi": 24.3, "how": "as sent", "day": "2024-05-01"}]))],
        ),
        case(
            "kidneys",
            vec![
                measured("a", "98979-8", "2024-03-01", 52.0, "mL/min/{1.73_m2}"),
                observation(
                    "b",
                    "48642-3",
                    "2023-01-01",
                    &json!({"valueQuantity": {"value": 60, "comparator": ">", "unit": "mL/min/1.73m2"}}),
                ),
                observation("c", "48642-3", "2022-01-01", &json!({"valueString": ">60"})),
                measured("d", "33914-3", "2021-01-01", 12.0, "mL/min"),
            ],
            [(
                "egfr",
                json!([{"stage": "G3a", "egfr": 52.0}, {"stage": "G1 or G2", "comparator": ">"},
            {"stage": "G1 or G2"}, {"stage": "G5"}]),
            )],
        ),
    ]
}

fn problems() -> Vec<Case> {
    let list = json!({"category": category("problem-list-item")});
    let both = json!({"category": [{"coding": [{"code": "encounter-diagnosis"}]}, {"coding": [{"code": "problem-list-item"}]}],
        "clinicalStatus": coded("active")});
    let of_an_encounter =
        json!({"category": category("encounter-diagnosis"), "clinicalStatus": coded("active")});
    vec![case(
        "problems",
        vec![
            merged(condition("a", "38341003", &list), &json!({"onsetDateTime": "2010"})),
            condition("b", "44054006", &both),
            merged(condition("b2", "44054006", &both), &json!({"onsetDateTime": "2011-02-03"})),
            condition("c", "195662009", &of_an_encounter),
            merged(condition("d", "22298006", &list), &json!({"clinicalStatus": coded("resolved")})),
            merged(condition("e", "80146002", &list), &json!({"abatementDateTime": "2012"})),
            merged(condition("f", "1", &list), &json!({"verificationStatus": coded("refuted")})),
            merged(condition("g", "2", &list), &json!({"verificationStatus": coded("entered-in-error")})),
        ],
        [(
            "active_problems",
            json!([
            {"list": "problem list", "code": "44054006", "status": "active", "statements": 2, "first_onset": "2011-02-03"},
            {"list": "problem list", "code": "38341003", "status": "unknown", "first_onset": "2010"},
            {"list": "encounter diagnosis", "code": "195662009", "statements": 1}]),
        )],
    )]
}

fn medicines() -> Vec<Case> {
    let until = |start: &str, end: &str| {
        json!({"dosageInstruction": [{"text": "daily"}], "authoredOn": start,
            "dispenseRequest": {"validityPeriod": {"start": start, "end": end}}})
    };
    vec![case(
        "medicines",
        vec![
            request("a", "still taken", &json!({"authoredOn": "2024-01-01"})),
            merged(
                request("b", "ended in July", &until("2024-01-01", "2024-07-01")),
                &json!({"status": "completed"}),
            ),
            merged(
                request("c", "ended in May", &until("2024-01-01", "2024-05-01")),
                &json!({"status": "active"}),
            ),
            request("d", "later", &json!({"authoredOn": "2024-07-01"})),
            request(
                "e",
                "stopped, nobody knows when",
                &json!({"authoredOn": "2024-01-01", "status": "stopped"}),
            ),
            request("f", "proposed", &json!({"authoredOn": "2024-01-01", "intent": "proposal"})),
            request(
                "g",
                "by her own word",
                &json!({"authoredOn": "2024-01", "intent": "plan", "reportedBoolean": true}),
            ),
            request("h", "not to be taken", &json!({"authoredOn": "2024-01-01", "doNotPerform": true})),
            json!({"resourceType": "MedicationStatement", "id": "s", "status": "active", "effectiveDateTime": "2023",
                "medicationReference": {"reference": "#m"},
                "contained": [{"resourceType": "Medication", "id": "m", "code": {"text": "from a Medication"}}]}),
        ],
        [(
            "medications_at_a_date",
            json!([{"medicine": "by her own word"}, {"medicine": "ended in July", "to_day": "2024-07-01"},
            {"medicine": "from a Medication", "source_table": "statement"}, {"medicine": "still taken"}]),
        )],
    )]
}

fn vaccines() -> Vec<Case> {
    vec![
        case(
            "vaccinated",
            vec![
                dose("a", "94", "completed"),
                dose("b", "110", "completed"),
                dose("c", "115", "not-done"),
                dose("d", "187", "entered-in-error"),
            ],
            [(
                "immunization_gaps",
                json!([{"vaccine": "Tdap", "verdict": "missing"}, {"vaccine": "Zoster", "verdict": "missing"}]),
            )],
        ),
        // Its roster entry asks for Observations alone.
        case(
            "filtered",
            vec![measured("a", "4548-4", "2024-01-01", 7.0, "%"), dose("b", "115", "completed")],
            [(
                "immunization_gaps",
                json!([{"verdict": "unknown"}, {"verdict": "unknown"}, {"verdict": "unknown"},
            {"vaccine": "Tdap", "verdict": "unknown"}, {"verdict": "unknown"}, {"verdict": "unknown"}]),
            )],
        ),
    ]
}

fn smokers() -> Vec<Case> {
    let smoking = |id: &str, day: &str, value: &Value| observation(id, "72166-2", day, value);
    let snomed = |code: &str| json!({"valueCodeableConcept": {"coding": [{"system": "http://snomed.info/sct", "code": code}]}});
    vec![
        case(
            "smoker",
            vec![
                smoking("a", "2024-01-01", &snomed("449868002")),
                smoking("b", "2024-03", &snomed("8517006")),
                merged(
                    smoking("c", "2024-06-01", &snomed("266919005")),
                    &json!({"status": "entered-in-error"}),
                ),
            ],
            [("smoking_status", json!([{"day": "2024-03", "smoking": "former", "value_code": "8517006"}]))],
        ),
        case(
            "smoker-in-words",
            vec![smoking("a", "2024-01-01", &json!({"valueString": "Never smoker"}))],
            [("smoking_status", json!([{"smoking": "never", "said": "Never smoker"}]))],
        ),
    ]
}

fn stays_and_reports() -> Vec<Case> {
    let stay = |id: &str, class: &str, start: &str, end: &str| {
        json!({"resourceType": "Encounter", "id": id, "status": "finished", "class": {"code": class},
            "period": {"start": start, "end": end}})
    };
    vec![
        case(
            "stays",
            vec![
                stay("a", "IMP", "2024-01-01T08:00:00Z", "2024-01-03T20:00:00Z"),
                stay("b", "AMB", "2023-02-01T08:00:00-05:00", "2023-02-01T09:30:00-05:00"),
                json!({"resourceType": "Encounter", "id": "c", "status": "in-progress", "class": {"code": "IMP"}, "period": {"start": "2022-05"}}),
                merged(stay("d", "IMP", "2021-01-01", "2021-01-02"), &json!({"status": "cancelled"})),
            ],
            [(
                "length_of_stay",
                json!([{"began": "2024-01-01", "hours": 60.0, "days_in_hospital": 2.5, "still_open": 0},
            {"hours": 1.5, "days_in_hospital": null}, {"began": "2022-05", "ended": null, "hours": null, "still_open": 1}]),
            )],
        ),
        case(
            "report",
            vec![
                json!({"resourceType": "DiagnosticReport", "id": "r", "status": "final", "code": loinc("58410-2"), "effectiveDateTime": "2024-03-01",
                "result": [{"reference": "Observation/o2"}, {"reference": "Observation/o1"}, {"reference": "Observation/elsewhere", "display": "not in the record"}]}),
                measured("o1", "718-7", "2024-03-01", 13.0, "g/dL"),
                measured("o2", "789-8", "2024-03-01", 4.4, "10*6/uL"),
                measured("o3", "777-3", "2024-03-01", 9.9, "10*3/uL"),
            ],
            [(
                "results_of_a_report",
                json!([{"value": 4.4, "day": "2024-03-01", "report_status": "final"}, {"value": 13.0}, {"value": null, "result": "not in the record"}]),
            )],
        ),
    ]
}

fn deaths() -> Vec<Case> {
    vec![
        case(
            "dead",
            vec![
                json!({"resourceType": "Patient", "id": "p1", "gender": "female", "birthDate": "1950-08-01", "deceasedDateTime": "2022-07-08"}),
                json!({"resourceType": "Patient", "id": "p2", "gender": "female", "birthDate": "1950-08-01"}),
            ],
            [("deaths", json!([{"died": "2022-07-08", "age": 71, "sex": "female"}]))],
        ),
        case(
            "dead-and-told-otherwise",
            vec![
                json!({"resourceType": "Patient", "id": "p1", "gender": "female", "birthDate": "1950-02-03", "deceasedDateTime": "2020-05-06T23:00:00-05:00"}),
                json!({"resourceType": "Patient", "id": "p2", "gender": "unknown", "birthDate": "1950-02", "deceasedDateTime": "2020"}),
                json!({"resourceType": "Patient", "id": "p3", "gender": "female", "deceasedBoolean": false}),
            ],
            [(
                "deaths",
                json!([{"died": "2020-05-06", "died_as_told": null, "sex": "female", "birth_date": "1950-02-03", "age": 70}]),
            )],
        ),
        case(
            "dead-in-a-year",
            vec![
                json!({"resourceType": "Patient", "id": "p1", "birthDate": "1950", "deceasedDateTime": "2022"}),
            ],
            [("deaths", json!([{"died": null, "died_as_told": "2022", "age": null}]))],
        ),
        case(
            "dead-by-a-word",
            vec![json!({"resourceType": "Patient", "id": "p1", "deceasedBoolean": true})],
            [("deaths", json!([{"died": null}]))],
        ),
        case(
            "alive",
            vec![json!({"resourceType": "Patient", "id": "p1", "deceasedBoolean": false})],
            [("deaths", json!([]))],
        ),
    ]
}

fn the_data_themselves() -> Vec<Case> {
    vec![
        case(
            "twice",
            vec![
                merged(
                    measured("a", "2345-7", "2024-03-01T08:00:00Z", 5.4, "mmol/L"),
                    &json!({"meta": {"source": "http://one"}}),
                ),
                merged(
                    measured("b", "2345-7", "2024-03-01", 5.4, "mmol/L"),
                    &json!({"meta": {"source": "http://two"}}),
                ),
                measured("c", "2345-7", "2024-03-02", 5.4, "mmol/L"),
                merged(
                    measured("d", "2345-7", "2024-03-02", 5.4, "mmol/L"),
                    &json!({"status": "entered-in-error"}),
                ),
            ],
            [(
                "duplicates_across_hospitals",
                json!([{"day": "2024-03-01", "value": 5.4, "times": 2, "sources": 2}]),
            )],
        ),
        case(
            "uncoded",
            vec![
                json!({"resourceType": "Condition", "id": "c", "code": {"text": "sore"}}),
                observation("o", "", "2024-03-01", &json!({"code": {"text": "PT"}, "valueString": "ok"})),
                measured("p", "718-7", "2024-03-01", 13.0, "g/dL"),
            ],
            [(
                "without_a_code",
                json!([{"from_table": "conditions", "text": "sore"}, {"from_table": "observations", "text": "PT"}]),
            )],
        ),
        case(
            "new",
            vec![measured("a", "718-7", "2024-03-01", 13.0, "g/dL")],
            [("changed_since", json!([{"from_table": "observations"}]))],
        ),
    ]
}

/// Removes what `json!` was told is not there.
fn without_nulls(mut resource: Value) -> Value {
    resource.as_object_mut().unwrap().retain(|_, member| !member.is_null());
    resource
}

fn cases() -> Vec<Case> {
    let all = [
        hba1c(),
        pressures(),
        body(),
        problems(),
        medicines(),
        vaccines(),
        smokers(),
        stays_and_reports(),
        deaths(),
        the_data_themselves(),
    ];
    all.into_iter().flatten().collect()
}

/// A server with the records of all cases, and nothing pulled yet.
pub(crate) fn world_of_cases() -> World {
    world_of(&cases())
}

fn world_of(cases: &[Case]) -> World {
    let mut population = Population::empty();
    let mut roster = String::new();
    for case in cases {
        let entries = case.resources.iter().cloned().map(without_nulls).map(|resource| {
            let tail = format!(
                "{}/{}",
                resource["resourceType"].as_str().unwrap(),
                resource["id"].as_str().unwrap()
            );
            RecordEntry::new(&tail, &resource.to_string())
        });
        population.add_person(case.person, entries.collect());
        let types = if case.person == "filtered" { "types = [\"Observation\"]\n" } else { "" };
        let _ = writeln!(roster, "[[patient]]\nid = \"{}\"\n{types}", case.person);
    }
    let world = World::serving(population);
    world.write_roster(&roster);
    world
}

#[test]
fn each_recipe_is_right_on_records_as_people_send_them() {
    let cases = cases();
    let world = world_of(&cases);
    world.run(["sync"]).exits(0);
    let mut tried: Vec<&str> =
        cases.iter().flat_map(|case| case.expected.iter().map(|(recipe, _)| *recipe)).collect();
    tried.sort_unstable();
    tried.dedup();
    let answers: BTreeMap<&str, Vec<Value>> =
        tried.iter().map(|recipe| (*recipe, answer(&world, recipe))).collect();
    for Case { person, expected, .. } in &cases {
        for (recipe, expected) in expected {
            let found: Vec<&Value> = answers[recipe].iter().filter(|row| row["patient"] == *person).collect();
            let expected = expected.as_array().unwrap();
            let matches = found.len() == expected.len()
                && expected.iter().zip(&found).all(|(expected, found)| holds(found, expected));
            assert!(matches, "{recipe} of {person}:\n{found:#?}\nexpected {expected:#?}");
        }
    }
}

fn holds(found: &Value, expected: &Value) -> bool {
    expected.as_object().unwrap().iter().all(|(column, value)| {
        match (value.as_f64(), found[column].as_f64()) {
            (Some(expected), Some(found)) => (expected - found).abs() < 1e-9,
            _ => found.get(column) == Some(value),
        }
    })
}

/// Returns a recipe's rows, each by its columns.
pub(super) fn answer(world: &World, recipe: &str) -> Vec<Value> {
    let query = fs::read_to_string(project(&format!("docs/queries/{recipe}.sql"))).unwrap();
    let connection = world.open();
    let mut statement = connection.prepare(&query).unwrap_or_else(|error| panic!("{recipe}: {error}"));
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut found = statement.query([]).unwrap();
    let mut rows = Vec::new();
    while let Some(row) = found.next().unwrap() {
        let cell = |at: usize| match row.get_ref(at).unwrap() {
            ValueRef::Null | ValueRef::Blob(_) => Value::Null,
            ValueRef::Integer(number) => number.into(),
            ValueRef::Real(number) => number.into(),
            ValueRef::Text(text) => str::from_utf8(text).unwrap().into(),
        };
        rows.push(Value::Object(names.iter().cloned().zip((0..names.len()).map(cell)).collect()));
    }
    rows
}

#[test]
fn what_a_lab_said_before_it_was_corrected_is_told() {
    let mut population = Population::empty();
    let first = measured("a", "718-7", "2024-03-01", 13.0, "g/dL");
    population.add_person("anna", vec![RecordEntry::new("Observation/a", &first.to_string())]);
    let world = World::serving(population).set("warehouse.history", "true");
    world.run(["sync"]).exits(0);
    assert_eq!(answer(&world, "corrected_results"), Vec::<Value>::new());
    let corrected =
        merged(measured("a", "718-7", "2024-03-01", 11.0, "g/dL"), &json!({"status": "corrected"}));
    world.sandbox.put("anna", Some("Observation/a"), &corrected.to_string());
    world.run(["sync"]).exits(0);
    let rows = answer(&world, "corrected_results");
    let expected = json!({"patient": "anna", "value_then": 13.0, "unit_then": "g/dL", "status_then": "final",
        "value_now": 11.0, "status_now": "corrected", "effective": "2024-03-01"});
    assert!(rows.len() == 1 && holds(&rows[0], &expected), "{rows:#?}");
}

/// No quirk makes a recipe fail or lie: what the quirks say of them is held too.
#[test]
fn each_recipe_answers_on_every_quirk() {
    let quirks = quirks();
    let world = quirks::world(&quirks);
    world.run(["sync"]).exits(0);
    let of = |recipe: &str, quirk: &str| -> Vec<Value> {
        let number = 1 + quirks.iter().position(|one| one.name == quirk).unwrap();
        let mut rows = answer(&world, recipe);
        rows.retain(|row| row["patient"] == format!("quirk-{number}"));
        rows
    };
    for recipe in recipes() {
        answer(&world, recipe.file_stem().unwrap().to_str().unwrap());
    }
    for (recipe, quirk, expected) in [
        (
            "blood_pressure",
            "a blood pressure under another panel",
            json!([{"systolic": 137.0, "diastolic": 90.0, "day": "2020-11-26"}]),
        ),
        ("latest_hba1c", "a date without a time", json!([{"day": "2024-03-01", "percent": 6.1}])),
        ("latest_hba1c", "a month only", json!([{"day": "2024-03", "percent": 6.1}])),
        ("latest_hba1c", "a Period", json!([{"day": "2023-12-31", "percent": 5.0}])),
        ("latest_hba1c", "entered in error", json!([{"percent": 7.0, "status": "corrected"}])),
        ("latest_hba1c", "half a surrogate pair", json!([{"said": "ok \u{fffd}", "percent": null}])),
        ("active_problems", "entered in error", json!([])),
        (
            "active_problems",
            "other code systems",
            json!([{"code": "250.00"}, {"code": "I10", "status": "unknown"}]),
        ),
        ("deaths", "dead by a date", json!([{"died": "2022-07-08", "age": 72}])),
        (
            "medications_at_a_date",
            "two hospitals' Medications of one id",
            json!([{"medicine": null, "rxnorm": null}, {"medicine": "as written"}]),
        ),
        ("smoking_status", "smoking status", json!([{"smoking": "never"}])),
        (
            "results_of_a_report",
            "a result inside of its report",
            json!([{"result": "Hemoglobin", "comparator": "<", "value": 13.5, "unit": "g/dL"}, {"result": "Smear", "said": "normal"}, {"value": null}, {"said": null}]),
        ),
        ("active_problems", "a status in words", json!([{"problem": "two", "status": "active"}])),
        ("results_of_a_report", "a report and its results", json!([{"value": 13.0}, {"value": 4.4}])),
        ("without_a_code", "a result in the reason for its absence", json!([{"text": "PT"}])),
    ] {
        let found = of(recipe, quirk);
        let expected = expected.as_array().unwrap();
        let is_so = found.len() == expected.len()
            && expected.iter().zip(&found).all(|(expected, found)| holds(found, expected));
        assert!(is_so, "{recipe} of {quirk}:\n{found:#?}\nexpected {expected:#?}");
    }
}

//! What needs more than one resource: `persons`, and the medicines of a Medication of its own.

use serde_json::{Value, json};

use crate::world::World;

const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";

fn put(world: &World, person: &str, resource: &Value) {
    let tail = format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
    world.sandbox.put(person, Some(&tail), &resource.to_string());
}

fn remove(world: &World, person: &str, tail: &str) {
    assert!(world.sandbox.remove(person, tail), "{tail}");
}

fn sync(world: &World) {
    world.run(["sync", "--full"]).exits(0);
    world.run(["verify"]).exits(0);
}

fn request(id: &str, medication: &str) -> Value {
    json!({"resourceType": "MedicationRequest", "id": id, "status": "active", "intent": "order",
        "medicationReference": {"reference": format!("Medication/{medication}"), "display": "as written"}})
}

fn medication(id: &str, code: &str) -> Value {
    json!({"resourceType": "Medication", "id": id,
        "code": {"coding": [{"system": RXNORM, "code": code, "display": format!("Medicine {code}")}]}})
}

/// A world of one patient without anything, after the first sync.
fn world(persons: &[&str]) -> World {
    let world = World::serving(healthex_sync::sandbox::Population::empty());
    world.list(persons);
    for person in persons {
        world.sandbox.add_person(person, Vec::new());
    }
    world
}

fn medicines(world: &World) -> Vec<Vec<String>> {
    world.table("SELECT id, rxnorm, display, text FROM medication_requests ORDER BY person_id, id")
}

#[test]
fn a_medicine_is_filled_in_whatever_comes_first_and_goes_with_its_medication() {
    let world = world(&["anna", "ben"]);
    put(&world, "anna", &request("r1", "m1"));
    put(&world, "anna", &request("r2", "m2"));
    // Somebody else's Medication of that id is somebody else's.
    put(&world, "ben", &medication("m1", "999"));
    sync(&world);
    assert_eq!(medicines(&world), [["r1", "", "", "as written"], ["r2", "", "", "as written"]]);
    put(&world, "anna", &medication("m1", "617314"));
    sync(&world);
    assert_eq!(medicines(&world)[0], ["r1", "617314", "Medicine 617314", "as written"]);
    assert_eq!(medicines(&world)[1][1], "");
    put(&world, "anna", &medication("m1", "582620"));
    put(&world, "anna", &request("r2", "m1"));
    sync(&world);
    assert_eq!(
        medicines(&world),
        [
            ["r1", "582620", "Medicine 582620", "as written"],
            ["r2", "582620", "Medicine 582620", "as written"],
        ]
    );
    world.run(["views", "apply"]).exits(0);
    assert_eq!(medicines(&world)[1][1], "582620");
    remove(&world, "anna", "Medication/m1");
    for _ in 0..2 {
        sync(&world);
    }
    assert_eq!(medicines(&world)[0], ["r1", "", "", "as written"]);
}

/// Two hospitals use one id for two medicines: none is better than the wrong one.
#[test]
fn of_two_medications_of_one_id_that_differ_none_is_taken() {
    let world = world(&["anna"]);
    put(&world, "anna", &request("r1", "m1"));
    world.sandbox.put("anna", Some("Medication/one"), &medication("m1", "1").to_string());
    sync(&world);
    assert_eq!(medicines(&world)[0][1], "1");
    world.sandbox.put("anna", Some("Medication/other"), &medication("m1", "2").to_string());
    sync(&world);
    assert_eq!(medicines(&world)[0][1], "");
    // The same medicine twice is one.
    world.sandbox.put("anna", Some("Medication/other"), &medication("m1", "1").to_string());
    sync(&world);
    assert_eq!(medicines(&world)[0][1], "1");
}

fn day(id: &str, effective: &str) -> Value {
    json!({"resourceType": "Observation", "id": id, "status": "final", "effectiveDateTime": effective})
}

#[test]
fn a_person_is_one_row_of_all_patients_and_follows_what_comes_and_goes() {
    let world = world(&["anna", "ben"]);
    let person =
        |columns: &str| world.table(&format!("SELECT {columns} FROM persons WHERE person_id = 'anna'"));
    let patient = |id: &str, birth: &str, gender: &str| json!({"resourceType": "Patient", "id": id, "birthDate": birth, "gender": gender});
    sync(&world);
    assert_eq!(person("patients"), Vec::<Vec<String>>::new());
    put(&world, "anna", &patient("p1", "1950-01-01", "female"));
    put(&world, "anna", &patient("p2", "1950-01-01", "female"));
    put(&world, "anna", &patient("p3", "1950-01-10", "unknown"));
    put(&world, "anna", &day("o1", "2020-05-05T10:00:00Z"));
    put(&world, "anna", &day("o2", "2021-06"));
    sync(&world);
    let row = "birth_date, sex, deceased, patients, first_date, last_date";
    assert_eq!(person(row), [["1950-01-01", "female", "", "3", "2020-05-05", "2020-05-05"]]);
    // New rows alone widen the span; a changed or a vanished one may narrow it.
    put(&world, "anna", &day("o3", "2018-01-02"));
    put(
        &world,
        "anna",
        &json!({"resourceType": "Encounter", "id": "e1", "status": "finished",
        "period": {"start": "2022-02-02", "end": "2022-02-04"}}),
    );
    sync(&world);
    assert_eq!(person("first_date, last_date"), [["2018-01-02", "2022-02-04"]]);
    put(&world, "anna", &day("o3", "2019-03-03"));
    remove(&world, "anna", "Encounter/e1");
    let race = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race";
    let category = |code: &str| json!({"url": "ombCategory", "valueCoding": {"code": code}});
    put(
        &world,
        "anna",
        &json!({"resourceType": "Patient", "id": "p3", "deceasedDateTime": "2023-01-01",
        "extension": [{"url": race, "extension": [category("2106-3"), category("2028-9")]}]}),
    );
    for _ in 0..2 {
        sync(&world);
    }
    assert_eq!(
        person("first_date, last_date, deceased, deceased_date, races"),
        [["2019-03-03", "2020-05-05", "1", "2023-01-01", "Asian;White"]]
    );
    let before = world.table("SELECT * FROM persons");
    world.run(["views", "apply"]).exits(0);
    assert_eq!(world.table("SELECT * FROM persons"), before);
    // Entered in error, it was on no day.
    let mut retracted = day("o1", "2020-05-05T10:00:00Z");
    retracted["status"] = json!("entered-in-error");
    put(&world, "anna", &retracted);
    sync(&world);
    assert_eq!(person("first_date, last_date"), [["2019-03-03", "2019-03-03"]]);
}

#[test]
fn a_purge_takes_the_person_and_every_coding() {
    let world = World::generated(2);
    world.run(["sync"]).exits(0);
    let persons = world.sandbox.person_ids();
    let rows = |table: &str, person: &str| {
        world.count(&format!("SELECT count(*) FROM {table} WHERE person_id = '{person}'"))
    };
    for table in ["persons", "codings", "observations", "lab_results"] {
        assert!(rows(table, &persons[0]) > 0, "{table}");
    }
    world.sandbox.withdraw(&persons[0]);
    world.run(["sync"]).exits(0);
    assert_eq!(world.rows_anywhere(&persons[0]), 0);
    for table in ["persons", "codings", "lab_results"] {
        assert_eq!(rows(table, &persons[0]), 0, "{table}");
        assert!(rows(table, &persons[1]) > 0, "{table}");
    }
    world.run(["verify"]).exits(0);
}

/// What would give a table more rows than anybody can want is left out of it, and counted.
#[test]
fn a_resource_that_is_too_large_for_a_table_is_left_out_and_counted() {
    let world = world(&["anna"]);
    let codings = |count: usize| vec![json!({"code": "a"}); count];
    let large = |count| json!({"resourceType": "Observation", "id": "o", "status": "final", "code": {"coding": codings(count)}});
    put(&world, "anna", &large(100_001));
    sync(&world);
    let line = |table: &str| {
        let list = world.run(["views"]).exits(0).stdout;
        list.lines().find(|line| line.starts_with(table)).unwrap().to_owned()
    };
    assert!(line("codings").ends_with("1 resources left out, too large for it"), "{}", line("codings"));
    assert!(!line("observations").contains("left out"));
    put(&world, "anna", &large(2));
    sync(&world);
    assert!(!line("codings").contains("left out"), "{}", line("codings"));
    assert_eq!(world.count("SELECT count(*) FROM codings"), 2);
}

/// A join finds a row by the person and the id, whichever table it begins with.
#[test]
fn the_documented_joins_are_answered_by_an_index() {
    let world = World::generated(3);
    world.run(["sync"]).exits(0);
    for (from, column, to) in [
        ("observations", "encounter_id", "encounters"),
        ("observations", "patient_id", "patients"),
        ("report_results", "observation_id", "observations"),
        ("report_results", "report_id", "diagnostic_reports"),
        ("encounter_diagnoses", "condition_id", "conditions"),
        ("medication_requests", "medication_id", "medications"),
        ("lab_results", "encounter_id", "encounters"),
    ] {
        let join = format!(
            "EXPLAIN QUERY PLAN SELECT count(*) FROM {from} AS a JOIN {to} AS b ON b.person_id = a.person_id AND b.id = a.{column}"
        );
        let plan = world.table(&join).concat().join("\n");
        assert!(
            plan.contains("person_id=? AND id=?") || plan.contains(&format!("person_id=? AND {column}=?")),
            "{join}:\n{plan}"
        );
    }
}

#[test]
fn sets_say_what_is_kept_and_none_is_the_same_as_not_built_in() {
    let world = World::generated(1);
    world.run(["sync"]).exits(0);
    let clinical = world.stored_views();
    assert!(clinical.contains(&"persons".to_owned()) && !clinical.contains(&"claims".to_owned()));
    world.change_setting("views.sets", r#"["surveys", "care", "claims", "texts"]"#);
    world.run(["sync"]).exits(0);
    let others = world.stored_views();
    assert!(others.contains(&"questionnaire_answers".to_owned()) && !others.contains(&"persons".to_owned()));
    world.change_setting("views.sets", "[]");
    world.run(["sync"]).exits(0);
    assert_eq!(world.stored_views(), Vec::<String>::new());
    world.change_setting("views.sets", r#"["clinical"]"#);
    world.run(["sync"]).exits(0);
    assert_eq!(world.stored_views(), clinical);
    world.run(["verify"]).exits(0);
    world.change_setting("views.sets", r#"["clinic"]"#);
    let refused = world.run(["sync"]).exits(2);
    assert!(
        refused.stderr.contains("views.sets") && refused.stderr.contains("surveys"),
        "{}",
        refused.stderr
    );
}

/// What is said of a column is what the file holds, and what `analyst_column` says.
#[test]
fn every_column_that_is_stored_is_described() {
    let world = World::generated(1);
    world.run(["sync"]).exits(0);
    let described = world.run(["views", "describe", "--json"]).exits(0).json();
    let described: Vec<(String, String)> = described
        .as_array()
        .unwrap()
        .iter()
        .map(|column| {
            (column["table"].as_str().unwrap().to_owned(), column["column"].as_str().unwrap().to_owned())
        })
        .collect();
    let pairs = |query: &str| -> Vec<(String, String)> {
        world.table(query).into_iter().map(|row| (row[0].clone(), row[1].clone())).collect()
    };
    assert_eq!(
        pairs("SELECT table_name, column_name FROM analyst_column ORDER BY table_name, position"),
        described
    );
    let stored = "SELECT t.name, c.name FROM analyst_table AS t JOIN pragma_table_info(t.name) AS c ORDER BY t.name, c.cid";
    assert_eq!(pairs(stored), described);
    let one = world.run(["views", "describe", "claims"]).exits(0).stdout;
    assert!(one.starts_with("claims: One row a Claim") && one.contains("billable_date  "), "{one}");
    world.run(["views", "describe", "nonsense"]).exits(2);
}

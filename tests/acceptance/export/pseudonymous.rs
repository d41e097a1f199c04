//! A pseudonymous export: nothing that says who it is, wherever in a resource it stands.

use healthex_sync::time::Day;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use healthex_sync::sandbox::{Population, RecordEntry};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Value, json};

use super::{csv_rows, files, json_lines, manifest};
use crate::support::resources::{examples, synthea};
use crate::world::World;

/// What must not be told stands wherever it can stand. Each of these words is one of them, in any case.
const CANARIES: [&str; 14] = [
    "zimtstern",
    "geheimbefund",
    "anneliese",
    "555-0100",
    "annemail",
    "mrn00012345",
    "eichenweg",
    "anna",
    "19cff418",
    "sn-9988776",
    "aaaaimage",
    "hospital.example",
    "74047",
    "obs-1",
];

fn person() -> Vec<RecordEntry> {
    let narrative = json!({"status": "generated", "div": "<div>Zimtstern</div>"});
    let name = json!([{"use": "official", "family": "Zimtstern", "given": ["Anneliese"], "text": "Anneliese Zimtstern"}]);
    let extension = json!([
        {"url": "http://hospital.example/note", "valueString": "Geheimbefund"},
        {"url": "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race", "extension": [
            {"url": "ombCategory", "valueCoding": {"system": "urn:oid:2.16.840.1.113883.6.238", "code": "2106-3", "display": "White"}},
            {"url": "text", "valueString": "Zimtstern White"}]},
        {"url": "http://hl7.org/fhir/StructureDefinition/patient-mothersMaidenName", "valueString": "Zimtstern"},
        {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueAddress": {"city": "Eichenweg"}}]);
    let concept = |system: &str, code: &str| {
        json!({"coding": [{"system": system, "code": code, "display": "Anneliese's own"}, {"code": "Zimtstern"},
            {"system": "urn:oid:1.2.3", "code": "17", "display": "Geheimbefund"}], "text": "Geheimbefund"})
    };
    let subject = json!({"reference": "Patient/anna", "display": "Anneliese Zimtstern",
        "identifier": {"value": "MRN00012345"}, "type": "Patient"});
    let resources = [
        json!({"resourceType": "Person", "id": "19cff418", "name": name, "telecom": [{"system": "phone", "value": "+1 555-0100"}],
            "link": [{"target": {"reference": "Patient/anna"}}]}),
        json!({"resourceType": "Patient", "id": "anna", "meta": {"source": "http://hospital.example/anna", "lastUpdated": "2024-03-01T08:30:00Z",
                "tag": [{"system": "http://hospital.example", "code": "Zimtstern"}], "profile": ["http://hospital.example/p"]},
            "text": narrative, "extension": extension, "name": name, "gender": "female",
            "birthDate": "1950-02-03", "_birthDate": {"extension": [{"url": "http://x", "valueDateTime": "1950-02-03T01:02:03Z"}]},
            "identifier": [{"system": "http://hospital.example/mrn", "value": "MRN00012345"}],
            "telecom": [{"system": "email", "value": "annemail@hospital.example"}],
            "address": [{"line": ["Eichenweg 1"], "city": "Eichenweg", "state": "OK", "postalCode": "74047-1234", "text": "Eichenweg"}],
            "photo": [{"contentType": "image/png", "data": "AAAAimage"}],
            "contact": [{"name": {"text": "Zimtstern"}, "telecom": [{"value": "555-0100"}]}],
            "maritalStatus": concept("http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "M")}),
        json!({"resourceType": "Observation", "id": "obs-1", "status": "final", "text": narrative,
            "contained": [{"resourceType": "Practitioner", "id": "doc", "name": name, "identifier": [{"value": "MRN00012345"}]}],
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory"}]}],
            "code": {"coding": [{"system": "http://loinc.org", "code": "4548-4", "display": "Hemoglobin A1c"}], "text": "Geheimbefund"},
            "subject": subject, "performer": [{"reference": "#doc", "display": "Dr. Zimtstern"},
                {"reference": "Practitioner?identifier=MRN00012345"}, {"reference": "https://hospital.example/fhir/Practitioner/anna"}],
            "encounter": {"reference": "Encounter/e-anna"},
            "effectiveDateTime": "2024-03-01T08:30:00Z", "issued": "Zimtstern",
            "valueQuantity": {"value": 6.10, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"},
            "note": [{"text": "Geheimbefund", "authorString": "Zimtstern"}],
            "component": [{"code": concept("http://loinc.org", "8480-6"), "valueString": "Geheimbefund"},
                {"code": concept("http://loinc.org", "8462-4"), "valueQuantity": {"value": "90", "unit": "Zimtstern"}}],
            "interpretation": [concept("http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation", "H")]}),
        json!({"resourceType": "Encounter", "id": "e-anna", "status": "finished", "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
            "subject": subject, "period": {"start": "2024-03-01", "end": "2024-03-02"}, "reasonCode": [{"text": "Geheimbefund"}]}),
        json!({"resourceType": "DocumentReference", "id": "d-anna", "status": "current", "subject": subject, "description": "Geheimbefund",
            "content": [{"attachment": {"contentType": "text/plain", "data": "AAAAimage", "url": "http://hospital.example/anna", "title": "Zimtstern"}}]}),
        json!({"resourceType": "Device", "id": "dev", "serialNumber": "SN-9988776", "udiCarrier": [{"carrierHRF": "SN-9988776", "deviceIdentifier": "SN-9988776"}],
            "deviceName": [{"name": "Zimtstern", "type": "user-friendly-name"}], "patient": subject}),
        json!({"resourceType": "Coverage", "id": "cov", "status": "active", "subscriberId": "MRN00012345", "beneficiary": subject, "payor": [{"display": "Zimtstern"}]}),
        json!({"resourceType": "QuestionnaireResponse", "id": "q", "status": "completed", "subject": subject,
            "item": [{"linkId": "1.1", "text": "Geheimbefund", "answer": [{"valueString": "Geheimbefund"}, {"valueInteger": 3}]}]}),
        json!({"resourceType": "RelatedPerson", "id": "r", "patient": subject, "name": name}),
        json!({"resourceType": "Condition", "id": "withheld", "subject": subject, "code": {"text": "Geheimbefund"},
            "modifierExtension": [{"url": "http://hospital.example/not", "valueBoolean": true}]}),
    ];
    let entries = resources.iter().map(|resource| {
        let tail =
            format!("{}/{}", resource["resourceType"].as_str().unwrap(), resource["id"].as_str().unwrap());
        // A number keeps its digits.
        RecordEntry::new(&tail, &resource.to_string().replace("\"value\":6.1}", "\"value\":6.10}"))
    });
    entries.collect()
}

fn world() -> World {
    let mut population = Population::empty();
    population.add_person("19cff418", person());
    let world = World::serving(population);
    world.write_roster("[[patient]]\nid = \"19cff418\"\nlabel = \"study-anna\"\n");
    world.run(["sync"]).exits(0);
    world
}

/// Returns whether a file has a canary. One of hexadecimal digits alone is in some pseudonym or hash by chance.
fn holds(file: &[u8], canary: &str) -> bool {
    let is_hex = |text: &[u8]| text.iter().all(u8::is_ascii_hexdigit);
    let mut found = memchr::memmem::find_iter(file, canary.as_bytes());
    found.any(|at| {
        let (before, after) = (&file[..at], &file[at + canary.len()..]);
        let neighbours = [before.last(), after.first()];
        !is_hex(canary.as_bytes()) || !neighbours.into_iter().flatten().any(u8::is_ascii_hexdigit)
    })
}

#[test]
fn nothing_says_who_it_is_in_any_format() {
    let world = world();
    for format in ["ndjson", "csv", "parquet", "bundle"] {
        let ran = world.run_inside(["export", "--format", format, "--pseudonymous", format]).exits(0);
        if format != "csv" {
            ran.says("1 resources were left out");
        }
        for (name, path) in files(&world.path(format)) {
            let mut bytes = fs::read(&path).unwrap();
            if format == "parquet" && name.ends_with("parquet") {
                let reader = SerializedFileReader::new(fs::File::open(&path).unwrap()).unwrap();
                let rows = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().to_string());
                bytes.extend(rows.collect::<String>().bytes());
            }
            let bytes = bytes.to_ascii_lowercase();
            for canary in CANARIES {
                assert!(
                    !holds(&bytes, canary) && !name.contains(canary),
                    "{format}/{name} has {canary}: {}",
                    String::from_utf8_lossy(&bytes)
                );
            }
        }
    }
    // The key is apart, and its owner's alone.
    let key = world.path("data/warehouse.db.pseudonym-key");
    assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let told = manifest(&world.path("ndjson"));
    assert!(!fs::read_to_string(key).unwrap().contains(told["pseudonymous"]["key"].as_str().unwrap()));
    assert_eq!(told["left_out"], json!({"Condition": 1}));
}

#[test]
fn what_analysts_need_is_there_and_goes_together() {
    let world = world();
    world.run_inside(["export", "--format", "ndjson", "--pseudonymous", "n"]).exits(0);
    let one = |name: &str| json_lines(&world.path(&format!("n/{name}.ndjson"))).remove(0);
    let (patient, observation, encounter) = (one("Patient"), one("Observation"), one("Encounter"));
    assert_eq!(observation["subject"]["reference"], format!("Patient/{}", patient["id"].as_str().unwrap()));
    assert_eq!(
        observation["encounter"]["reference"],
        format!("Encounter/{}", encounter["id"].as_str().unwrap())
    );
    let performer = &observation["performer"];
    assert_eq!(
        performer[0]["reference"],
        format!("#{}", observation["contained"][0]["id"].as_str().unwrap())
    );
    assert_eq!(performer.as_array().unwrap().len(), 2);
    assert_eq!(patient["gender"], "female");
    assert_eq!(patient["birthDate"], "1950-02-03");
    assert_eq!(patient["address"], json!([{"postalCode": "740"}]));
    assert_eq!(patient["extension"][0]["extension"][0]["valueCoding"]["code"], "2106-3");
    let coding = json!([{"system": "http://loinc.org", "code": "4548-4", "display": "Hemoglobin A1c"}]);
    assert_eq!(observation["code"], json!({"coding": coding}));
    assert_eq!(observation["component"][1]["valueQuantity"], json!({"value": "90"}));
    assert!(
        fs::read_to_string(world.path("n/Observation.ndjson"))
            .unwrap()
            .contains(r#""unit":"%","value":6.10}"#)
    );
    assert_eq!(
        one("QuestionnaireResponse")["item"],
        json!([{"linkId": "1.1", "answer": [{"valueInteger": 3}]}])
    );

    // Tables have the same names as resources, and other exports with this key too.
    world.run_inside(["export", "--format", "csv", "--pseudonymous", "c"]).exits(0);
    let labs = csv_rows(&world.path("c/lab_results.csv"));
    assert_eq!(
        (labs[0]["id"].as_str(), labs[0]["loinc"].as_str()),
        (observation["id"].as_str().unwrap(), "4548-4")
    );
    assert_eq!(labs[0]["encounter_id"], encounter["id"].as_str().unwrap());
    let key = |folder: &str| csv_rows(&world.path(folder))[0]["person_id"].clone();
    assert_eq!(key("n/keys.csv"), labs[0]["person_id"]);
    world
        .run_inside(["export", "--format", "csv", "--pseudonymous", "--key-file", "other/key", "o"])
        .exits(0);
    assert_ne!(key("o/lab_results.csv"), labs[0]["person_id"]);

    // All dates of a person move by as much.
    world.run_inside(["export", "--format", "ndjson", "--pseudonymous", "--shift-dates", "s"]).exits(0);
    let shifted = |name: &str| json_lines(&world.path(&format!("s/{name}.ndjson"))).remove(0);
    let day = |text: &Value| Day::parse(&text.as_str().unwrap()[..10]).unwrap().since_1970();
    let days = day(&patient["birthDate"]) - day(&shifted("Patient")["birthDate"]);
    assert!((1..=365).contains(&days));
    assert_eq!(
        day(&observation["effectiveDateTime"]) - day(&shifted("Observation")["effectiveDateTime"]),
        days
    );

    // What a machine noted would tell by how much.
    assert_eq!(shifted("Patient")["meta"]["lastUpdated"], Value::Null);
    world.run_inside(["export", "--format", "csv", "--pseudonymous", "--shift-dates", "t"]).exits(0);
    for (table, columns) in [
        ("lab_results", &["changed_at"][..]),
        ("persons", &["changed_at"]),
        ("freshness", &["watermark", "last_success_at", "deletions_seen_at"]),
    ] {
        for row in csv_rows(&world.path(&format!("t/{table}.csv"))) {
            assert!(columns.iter().all(|column| row[*column].is_empty()), "{table}: {row:?}");
        }
    }
}

/// Over public examples of every kind: no text of theirs stays that is no code, date, number or unit.
#[test]
fn no_free_text_of_real_looking_records_stays() {
    let resources = [synthea(), examples("us-core-7.0.0-examples")].concat();
    if resources.is_empty() {
        return;
    }
    let mut population = Population::empty();
    let entries = (0..)
        .zip(&resources)
        .map(|(at, resource)| RecordEntry::new(&format!("urn:uuid:{at}"), &resource.to_string()));
    population.add_person("all", entries.collect());
    let world = World::serving(population);
    world.run(["sync"]).exits(0);
    world.run_inside(["export", "--format", "ndjson", "--pseudonymous", "n"]).exits(0);
    let mut kept = BTreeSet::new();
    for (name, path) in files(&world.path("n")).into_iter().filter(|(name, _)| name.ends_with("ndjson")) {
        let lines = json_lines(&path);
        assert!(!lines.is_empty(), "{name}");
        for line in &lines {
            sentences(line, "", &mut kept);
        }
    }
    assert!(kept.is_empty(), "{kept:?}");
    let total: usize =
        files(&world.path("n")).values().map(|path| fs::read_to_string(path).unwrap().lines().count()).sum();
    assert!(total > resources.len(), "{total} lines of {} resources and as many keys", resources.len());
}

/// Collects texts with a blank in them, but for the displays of codes and units.
fn sentences(value: &Value, name: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.contains(' ') && !["display", "unit"].contains(&name) => {
            found.insert(format!("{name}: {text}"));
        }
        Value::Array(elements) => elements.iter().for_each(|element| sentences(element, name, found)),
        Value::Object(members) => members.iter().for_each(|(name, member)| sentences(member, name, found)),
        _ => {}
    }
}

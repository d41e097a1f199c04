//! The queries of `docs/queries/`, each over the sandbox's twelve patients (seed 1).
//!
//! `UPDATE_EXPECTED=1` writes the expected results anew; look at what changed before it is kept.

use std::collections::BTreeMap;
use std::{env, fs};

use serde_json::Value;

use super::world;
use crate::world::project;

/// So much of a result's beginning and end is held.
const LINES: usize = 5;

#[test]
fn each_recipe_gives_what_it_gave() {
    let world = world(12);
    world.run(["sync"]).exits(0);
    let mut names: Vec<_> =
        fs::read_dir(project("docs/queries")).unwrap().map(|file| file.unwrap().path()).collect();
    names.sort();
    assert_eq!(names.len(), 7);
    for recipe in names {
        let found = world.table(&fs::read_to_string(&recipe).unwrap());
        let mut lines = vec![format!("{} rows", found.len())];
        let shown = (0..found.len()).filter(|at| *at < LINES || *at + LINES >= found.len());
        lines.extend(shown.map(|at| found[at].join("|")));
        let text = lines.join("\n") + "\n";
        let name = recipe.file_stem().unwrap().to_str().unwrap();
        let expected = project(&format!("tests/acceptance/analysts/expected/{name}.txt"));
        if env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&expected).unwrap(), "{name}");
    }
}

/// The same questions asked of the sandbox's own JSON, without any SQL.
#[test]
fn the_recipes_find_what_the_server_has() {
    let world = world(12);
    world.run(["sync"]).exits(0);
    let people: Vec<Person> = (1..)
        .zip(world.sandbox.person_ids())
        .map(|(number, person)| {
            let entries = world.sandbox.entries(&person);
            let resources = entries.iter().map(|entry| serde_json::from_str(&entry.resource).unwrap());
            Person { label: format!("demo-{number:02}"), resources: resources.collect() }
        })
        .collect();
    for (recipe, columns, expected) in [
        ("active_problems", &[0, 2][..], active_problems(&people)),
        ("blood_pressure", &[0, 2, 3], blood_pressures(&people)),
        ("latest_hba1c", &[0, 3], latest_hba1c(&people)),
        ("encounters_by_month", &[0, 1, 2], encounters_by_month(&people)),
        ("medications_at_a_date", &[0, 1], prescribed(&people)),
        ("immunization_gaps", &[0, 1], immunization_gaps(&people)),
        ("without_a_code", &[0], without_a_code(&people)),
    ] {
        let query = fs::read_to_string(project(&format!("docs/queries/{recipe}.sql"))).unwrap();
        let found = world.table(&query);
        let found = found.iter().map(|row| columns.iter().map(|at| row[*at].clone()).collect());
        assert_eq!(sorted(found), sorted(expected.into_iter()), "{recipe}");
    }
}

struct Person {
    label: String,
    resources: Vec<Value>,
}

type Answer = Vec<Vec<String>>;

/// Everyone's resources of one type, with whose they are.
fn of_type<'p>(people: &'p [Person], name: &'p str) -> impl Iterator<Item = (String, &'p Value)> {
    people.iter().flat_map(move |person| {
        let mine = person.resources.iter().filter(move |resource| resource["resourceType"] == name);
        mine.map(|resource| (person.label.clone(), resource))
    })
}

fn active_problems(people: &[Person]) -> Answer {
    let coded =
        |concept: &Value, codes: &[&str]| codes.iter().any(|code| concept["coding"][0]["code"] == *code);
    of_type(people, "Condition")
        .filter(|(_, problem)| coded(&problem["clinicalStatus"], &["active", "recurrence", "relapse"]))
        .filter(|(_, problem)| !coded(&problem["verificationStatus"], &["entered-in-error", "refuted"]))
        .map(|(label, problem)| vec![label, text(&problem["code"]["text"])])
        .collect()
}

fn blood_pressures(people: &[Person]) -> Answer {
    of_type(people, "Observation")
        .filter(|(_, panel)| has_code(&panel["code"], LOINC, "85354-9"))
        .filter_map(|(label, panel)| {
            let measured = |code: &str| {
                let parts = panel["component"].as_array()?;
                let part = parts.iter().find(|part| has_code(&part["code"], LOINC, code))?;
                part["valueQuantity"]["value"].as_f64()
            };
            Some(vec![label, measured("8480-6")?.to_string(), measured("8462-4")?.to_string()])
        })
        .collect()
}

fn latest_hba1c(people: &[Person]) -> Answer {
    let mut latest: BTreeMap<String, (String, f64)> = BTreeMap::new();
    for (label, result) in of_type(people, "Observation") {
        let (Some(value), Some(at)) =
            (result["valueQuantity"]["value"].as_f64(), result["effectiveDateTime"].as_str())
        else {
            continue;
        };
        if has_code(&result["code"], LOINC, "4548-4") {
            let at = healthex_sync::time::Timestamp::parse(at).unwrap().rfc3339_seconds();
            let best = latest.entry(label).or_insert((at.clone(), value));
            if best.0 < at {
                *best = (at, value);
            }
        }
    }
    latest.into_iter().map(|(label, (_, value))| vec![label, value.to_string()]).collect()
}

fn encounters_by_month(people: &[Person]) -> Answer {
    let mut months: BTreeMap<[String; 2], usize> = BTreeMap::new();
    for (_, encounter) in of_type(people, "Encounter") {
        let start = text(&encounter["period"]["start"]);
        let counts = encounter["status"] != "cancelled" && encounter["status"] != "entered-in-error";
        if let (true, Some(month)) = (counts, start.get(..7)) {
            *months.entry([month.to_owned(), text(&encounter["class"]["code"])]).or_default() += 1;
        }
    }
    months.into_iter().map(|([month, class], count)| vec![month, class, count.to_string()]).collect()
}

fn prescribed(people: &[Person]) -> Answer {
    of_type(people, "MedicationRequest")
        .filter(|(_, request)| request["status"] == "active" || request["status"] == "on-hold")
        .filter(|(_, request)| request["intent"] != "proposal")
        .filter_map(|(label, request)| {
            let day = request["authoredOn"].as_str()?.get(..10)?;
            (day <= "2024-06-30").then(|| vec![label, day.to_owned()])
        })
        .collect()
}

fn immunization_gaps(people: &[Person]) -> Answer {
    let wanted: [(&str, &[&str]); 4] = [
        ("MMR", &["03", "94"]),
        ("Tdap", &["115"]),
        ("Zoster", &["187", "121"]),
        ("Hepatitis B", &["43", "08", "45"]),
    ];
    let had = |label: &str, codes: &[&str]| {
        of_type(people, "Immunization").any(|(whose, dose)| {
            let is_one = |code: &&str| has_code(&dose["vaccineCode"], CVX, code);
            whose == label && dose["status"] == "completed" && codes.iter().any(is_one)
        })
    };
    let gaps = people.iter().flat_map(|person| {
        let missing = wanted.iter().filter(|(_, codes)| !had(&person.label, codes));
        missing.map(|(vaccine, _)| vec![person.label.clone(), (*vaccine).to_owned()]).collect::<Vec<_>>()
    });
    gaps.collect()
}

fn without_a_code(people: &[Person]) -> Answer {
    const ICD_10: &str = "http://hl7.org/fhir/sid/icd-10-cm";
    let uncoded = |name: &'static str,
                   element: &'static str,
                   table: &'static str,
                   systems: [&'static str; 2]| {
        of_type(people, name)
            // The code of a Medication of its own is filled in.
            .filter(|(_, resource)| resource["medicationReference"].is_null())
            .filter(move |(_, resource)| !systems.iter().any(|system| has_system(&resource[element], system)))
            .map(move |_| vec![table.to_owned()])
    };
    let in_category = |resource: &Value, code: &str| {
        let categories = resource["category"].as_array().into_iter().flatten();
        categories.flat_map(codings).any(|coding| coding["code"] == code)
    };
    let mut rows: Answer = uncoded("AllergyIntolerance", "code", "allergies", [RXNORM, SNOMED])
        .chain(uncoded("Condition", "code", "conditions", [SNOMED, ICD_10]))
        .chain(uncoded("Immunization", "vaccineCode", "immunizations", [CVX, NDC]))
        .chain(uncoded(
            "MedicationRequest",
            "medicationCodeableConcept",
            "medication_requests",
            [RXNORM, NDC],
        ))
        .chain(uncoded("Procedure", "code", "procedures", ["http://www.ama-assn.org/go/cpt", SNOMED]))
        .collect();
    for (_, observation) in of_type(people, "Observation") {
        if in_category(observation, "laboratory") && !has_system(&observation["code"], LOINC) {
            rows.push(vec!["lab_results".to_owned()]);
        }
        if in_category(observation, "vital-signs") {
            let parts = observation["component"].as_array().into_iter().flatten();
            let own = observation.as_object().unwrap().keys().any(|name| name.starts_with("value"));
            let measured = parts.chain(own.then_some(observation));
            let uncoded = measured.filter(|part| !has_system(&part["code"], LOINC));
            rows.extend(uncoded.map(|_| vec!["vital_signs".to_owned()]));
        }
    }
    rows
}

const LOINC: &str = "http://loinc.org";
const CVX: &str = "http://hl7.org/fhir/sid/cvx";
const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
const SNOMED: &str = "http://snomed.info/sct";
const NDC: &str = "http://hl7.org/fhir/sid/ndc";

fn sorted(rows: impl Iterator<Item = Vec<String>>) -> Answer {
    let mut rows: Answer = rows.collect();
    rows.sort();
    rows
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn codings(concept: &Value) -> impl Iterator<Item = &Value> {
    concept["coding"].as_array().into_iter().flatten()
}

fn has_system(concept: &Value, system: &str) -> bool {
    codings(concept).any(|coding| coding["system"] == system)
}

fn has_code(concept: &Value, system: &str, code: &str) -> bool {
    codings(concept).any(|coding| coding["system"] == system && coding["code"] == code)
}

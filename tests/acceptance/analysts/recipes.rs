//! The queries of `docs/queries/`, each over the sandbox's twelve patients (seed 1).
//!
//! `UPDATE_EXPECTED=1` writes the expected results anew; look at what changed before it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::{env, fs};

use serde_json::Value;

use super::recipe_cases::answer;
use super::world;
use crate::world::project;

/// So much of a result's beginning and end is held.
const LINES: usize = 5;

/// Returns the files of all recipes, by name.
pub(crate) fn recipes() -> Vec<PathBuf> {
    let found = fs::read_dir(project("docs/queries")).unwrap().map(|file| file.unwrap().path());
    let mut recipes: Vec<_> = found.filter(|path| path.extension().is_some_and(|end| end == "sql")).collect();
    recipes.sort();
    recipes
}

#[test]
fn each_recipe_gives_what_it_gave() {
    let world = world(12);
    world.run(["sync"]).exits(0);
    let names = recipes();
    assert_eq!(names.len(), 16);
    for recipe in names {
        let query = fs::read_to_string(&recipe).unwrap();
        let name = recipe.file_stem().unwrap().to_str().unwrap();
        assert!(
            query.starts_with(&format!("-- {name}.sql: ")) && query.contains("one row a"),
            "{name} says what it is"
        );
        let mut found = world.table(&query);
        if name == "changed_since" {
            // When that was is the day of the test.
            for row in &mut found {
                row[1] = "today".to_owned();
            }
            found.sort();
        }
        let mut lines = vec![format!("{} rows", found.len())];
        let shown = (0..found.len()).filter(|at| *at < LINES || *at + LINES >= found.len());
        lines.extend(shown.map(|at| found[at].join("|")));
        let text = lines.join("\n") + "\n";
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
        ("active_problems", &["patient", "problem"][..], active_problems(&people)),
        ("blood_pressure", &["patient", "systolic", "diastolic"], blood_pressures(&people)),
        ("latest_hba1c", &["patient", "percent"], latest_hba1c(&people)),
        ("encounters_by_month", &["month", "class", "encounters"], encounters_by_month(&people)),
        ("medications_at_a_date", &["patient", "from_day"], prescribed(&people)),
        ("immunization_gaps", &["patient", "vaccine"], immunization_gaps(&people)),
        ("without_a_code", &["from_table"], without_a_code(&people)),
    ] {
        let found = answer(&world, recipe);
        let cell = |row: &Value, column: &str| match &row[column] {
            Value::String(text) => text.clone(),
            // `60.0` is written as SQLite writes it elsewhere.
            Value::Number(number) => number.as_f64().unwrap().to_string(),
            other => other.to_string(),
        };
        // A result in words has no percentage.
        let found = found.iter().filter(|row| columns.iter().all(|column| !row[*column].is_null()));
        let found = found.map(|row| columns.iter().map(|column| cell(row, column)).collect());
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
    // Several statements of one problem are one row.
    let problems: BTreeSet<Vec<String>> = of_type(people, "Condition")
        .filter(|(_, problem)| coded(&problem["clinicalStatus"], &["active", "recurrence", "relapse"]))
        .filter(|(_, problem)| !coded(&problem["verificationStatus"], &["entered-in-error", "refuted"]))
        .map(|(label, problem)| vec![label, text(&problem["code"]["text"])])
        .collect();
    problems.into_iter().collect()
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
        let counts =
            !["cancelled", "planned", "entered-in-error"].iter().any(|not| encounter["status"] == *not);
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
    let wanted: [(&str, &[&str]); 6] = [
        ("MMR", &["03", "94"]),
        ("Varicella", &["21", "94"]),
        ("Tdap", &["115"]),
        ("Zoster", &["121", "187"]),
        ("Polio", &["10", "89", "110", "120", "130", "146"]),
        ("Hepatitis B", &["08", "42", "43", "44", "45", "51", "104", "110", "146", "189", "220"]),
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
    let uncoded = |name: &'static str, element: &'static str, table: &'static str| {
        of_type(people, name)
            .filter(|(_, resource)| !is_in_error(resource) && resource["medicationReference"].is_null())
            .flat_map(move |(_, resource)| {
                // Components of an Observation are rows too.
                let parts = resource["component"].as_array().into_iter().flatten();
                std::iter::once(resource).chain(parts).map(move |part| &part[element])
            })
            .filter(|concept| !codings(concept).any(|coding| coding["code"].is_string()))
            .map(move |_| vec![table.to_owned()])
    };
    uncoded("AllergyIntolerance", "code", "allergies")
        .chain(uncoded("Condition", "code", "conditions"))
        .chain(uncoded("Immunization", "vaccineCode", "immunizations"))
        .chain(uncoded("MedicationRequest", "medicationCodeableConcept", "medication_requests"))
        .chain(uncoded("Medication", "code", "medications"))
        .chain(uncoded("Observation", "code", "observations"))
        .chain(uncoded("Procedure", "code", "procedures"))
        .collect()
}

fn is_in_error(resource: &Value) -> bool {
    resource["status"] == "entered-in-error"
        || codings(&resource["verificationStatus"]).any(|coding| coding["code"] == "entered-in-error")
}

const LOINC: &str = "http://loinc.org";
const CVX: &str = "http://hl7.org/fhir/sid/cvx";

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

fn has_code(concept: &Value, system: &str, code: &str) -> bool {
    codings(concept).any(|coding| coding["system"] == system && coding["code"] == code)
}

//! The analysts' tables through the program itself: kept up, rebuilt, listed, and one's own.

mod derived;
mod group;
mod python;
pub(crate) mod quirks;
pub(crate) mod recipe_cases;
pub(crate) mod recipes;

use std::collections::BTreeMap;
use std::{env, fs};

use healthex_sync::sandbox::{Population, RecordEntry};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::StatementStatus;
use serde_json::{Value, json};

use crate::support::resources::{examples, mangle, synthea};
use crate::world::World;

/// Generated patients, and a folder for one's own views.
fn world(patients: usize) -> World {
    let world = World::generated(patients).set("views.folder", r#""own""#);
    fs::create_dir(world.path("own")).unwrap();
    world
}

/// Every row of every stored view, and the counts of `freshness`.
fn contents(world: &World) -> BTreeMap<String, Vec<Vec<String>>> {
    let mut all = BTreeMap::new();
    for name in world.stored_views() {
        let mut found = world.table(&format!("SELECT * FROM \"{name}\""));
        found.sort();
        all.insert(name, found);
    }
    let counts = "SELECT person_id, live_resources, quarantined FROM freshness ORDER BY person_id";
    all.insert("freshness".to_owned(), world.table(counts));
    all
}

/// Not told how many rows a person has, SQLite reads all of them for each visit of the class.
#[test]
fn a_join_with_a_condition_on_either_side_is_linear_and_the_counts_it_needs_are_no_ones() {
    let world = world(12);
    world.run(["sync"]).exits(0);
    let connection = world.open();
    let rows =
        world.count("SELECT count(*) FROM observations") + world.count("SELECT count(*) FROM encounters");
    for condition in [
        "e.class = 'AMB'",
        "e.start_date >= '1900-01-01'",
        "o.loinc IS NOT NULL",
        "o.category = 'laboratory'",
    ] {
        let join = format!(
            "SELECT count(*) FROM observations AS o JOIN encounters AS e ON e.person_id = o.person_id AND e.id = o.encounter_id
              WHERE {condition}"
        );
        let mut statement = connection.prepare(&join).unwrap();
        let joined: i64 = statement.query_row([], |row| row.get(0)).unwrap();
        let steps = i64::from(statement.get_status(StatementStatus::VmStep));
        assert!(joined > 0, "{condition}");
        assert!(steps < 40 * rows, "{condition}: {steps} steps for {rows} rows");
    }
    assert!(world.count("SELECT count(*) FROM sqlite_stat1 WHERE tbl = 'observations'") > 0);
    assert_eq!(world.count("SELECT count(*) FROM sqlite_stat1 WHERE tbl = 'observation'"), 0);
    // Samples would be of what is in a patient's record.
    assert_eq!(world.count("SELECT count(*) FROM sqlite_stat4"), 0);
}

/// The tables after many random cycles are what `views apply` makes of the same resources.
#[test]
fn the_tables_follow_whatever_the_server_does() {
    let seed = env::var("SEED").ok().map_or_else(|| rand::rng().random(), |seed| seed.parse().unwrap());
    eprintln!("SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let world = world(3);
    world.run(["sync"]).exits(0);
    let people = world.sandbox.person_ids();
    for _ in 0..12 {
        let person = &people[random.random_range(0..people.len())];
        for _ in 0..random.random_range(1..25) {
            mutate(&world, person, &mut random);
        }
        let withdrawn = random.random_bool(0.15).then(|| world.sandbox.withdraw(person));
        let full = random.random_bool(0.4);
        let ran = world.run(if full { &["sync", "--full"][..] } else { &["sync"] });
        assert!(matches!(ran.code, 0 | 3), "{}{}", ran.stdout, ran.stderr);
        if withdrawn.is_some() {
            let left: usize = contents(&world)
                .iter()
                .filter(|(name, _)| *name != "freshness")
                .map(|(_, rows)| rows.iter().filter(|row| row[0] == **person).count())
                .sum();
            assert_eq!(left, 0, "rows of a withdrawn patient");
            world.sandbox.grant(person);
            world.run(["sync", "--patient", person]).exits(0);
        }
        let kept_up = contents(&world);
        world.run(["verify"]).exits(0);
        world.run(["views", "apply"]).exits(0);
        assert_eq!(kept_up, contents(&world));
    }
    assert!(world.count("SELECT count(*) FROM lab_results") > 100);
}

/// Changes, adds, strips, brings back or removes one resource.
fn mutate(world: &World, person: &str, random: &mut StdRng) {
    let entries = world.sandbox.entries(person);
    let entry = &entries[random.random_range(0..entries.len())];
    let mut resource: Value = serde_json::from_str(&entry.resource).unwrap();
    let tail = entry.full_url.split_once("/FHIR/R4/").map(|(_, tail)| tail.to_owned());
    if resource["resourceType"] == "Person" {
        return;
    }
    match random.random_range(0..6) {
        0 => {
            world.sandbox.remove(person, &entry.full_url);
            return;
        }
        1 => resource["status"] = json!("entered-in-error"),
        2 => resource["category"] = json!([{"coding": [{"code": "vital-signs"}, {"code": "laboratory"}]}]),
        3 => resource["code"] = json!("not an object"),
        4 => {
            resource["id"] = json!(format!("new-{}", random.random::<u32>()));
            world.sandbox.put(person, None, &resource.to_string());
            return;
        }
        _ => resource["effectiveDateTime"] = json!("2019-05"),
    }
    world.sandbox.put(person, tail.as_deref(), &resource.to_string());
}

/// Each patient is one page, of as many rows as make several threads work at it: new, then
/// mangled, then as they were.
#[test]
fn after_every_page_a_stored_table_holds_what_its_select_gives() {
    const PAGE: usize = 500;
    let mut random = StdRng::seed_from_u64(20_261_125);
    let resources = [synthea(), examples("us-core-7.0.0-examples")].concat();
    if resources.len() < 1_000 {
        return;
    }
    let persons = resources.chunks(PAGE).enumerate().map(|(number, page)| (format!("page-{number}"), page));
    let persons: Vec<(String, &[Value])> = persons.collect();
    let world = World::serving(Population::empty()).set("sync.page_size", &PAGE.to_string());
    world.list(&persons.iter().map(|(person, _)| person.as_str()).collect::<Vec<_>>());
    for is_mangled in [false, true, false] {
        for (person, page) in &persons {
            let entries = (0..).zip(*page).map(|(at, resource)| {
                let mut resource = resource.clone();
                if is_mangled {
                    mangle(&mut resource, &mut random);
                }
                RecordEntry::new(&format!("urn:{person}.{at}"), &resource.to_string())
            });
            world.sandbox.add_person(person, entries.collect());
        }
        world.run(["sync", "--full"]).exits(0);
        world.run(["verify"]).exits(0);
    }
    let kept = world.stored_views();
    assert!(kept.len() > 20, "{kept:?}");
    let rows = |table: &&String| world.count(&format!("SELECT count(*) FROM \"{table}\""));
    let empty: Vec<&String> = kept.iter().filter(|table| rows(table) == 0).collect();
    // Neither Synthea nor US Core has an example of these.
    assert_eq!(empty, ["encounter_diagnoses", "medication_statements"]);
}

fn own(name: &str, path: &str) -> String {
    json!({"resourceType": "ViewDefinition", "name": name, "resource": "Condition", "status": "active",
        "select": [{"column": [{"name": "id", "path": "getResourceKey()"}, {"name": "told", "path": path}]}]})
    .to_string()
}

#[test]
fn ones_own_views_are_tables_too_and_a_broken_one_stops_nothing() {
    let world = world(2);
    world.write("own/problems.json", &own("problems", "code.text"));
    world.run(["check", "--offline"]).exits(0);
    world.write("own/broken.json", &own("broken", "code.memberOf('x')"));
    world.write("own/taken.json", &own("Observation", "code.text"));
    world.write("own/twice.json", &own("lab_results", "code.text"));
    world.write("own/index.json", &own("observations_by_loinc", "code.text"));
    world.write("own/nonsense.json", "{");
    let check = world.run(["check", "--offline"]);
    assert_eq!(check.code, 2, "{}", check.stdout);
    for (file, place) in [
        ("broken.json", "memberOf"),
        ("taken.json", "Observation"),
        ("twice.json", "lab_results"),
        ("observations_by_loinc", "index"),
        ("nonsense.json", "line 1"),
    ] {
        let told = |line: &str| line.starts_with("FAILED") && line.contains(file) && line.contains(place);
        assert!(check.stdout.lines().any(told), "{file}: {}", check.stdout);
    }
    let sync = world.run(["sync"]).exits(0);
    assert!(sync.stderr.contains("broken.json"), "{}", sync.stderr);
    let conditions = world.count("SELECT count(*) FROM condition WHERE deleted_at IS NULL");
    assert_eq!(world.count("SELECT count(*) FROM problems"), conditions);
    assert_ne!(world.count("SELECT count(told) FROM problems"), 0);

    world.write("own/problems.json", &own("problems", "code.coding.code.first()"));
    world.run(["sync"]).exits(0);
    assert_eq!(
        world.count(
            "SELECT count(*) FROM problems AS p JOIN conditions USING (person_id, key) WHERE told IS NULL"
        ),
        world.count(
            "SELECT count(*) FROM condition WHERE json_extract(resource, '$.code.coding[0].code') IS NULL"
        ),
    );
    fs::remove_file(world.path("own/problems.json")).unwrap();
    world.run(["sync"]).exits(0);
    assert_eq!(world.count("SELECT count(*) FROM sqlite_master WHERE name = 'problems'"), 0);
}

#[test]
fn without_the_built_in_views_there_is_no_table_of_theirs_until_they_are_wanted_again() {
    let world = world(2);
    world.run(["sync"]).exits(0);
    let before = contents(&world);
    world.write("own/problems.json", &own("problems", "code.text"));
    world.change_setting("views.built_in", "false");
    world.run(["sync", "--full"]).exits(0);
    assert_eq!(world.stored_views(), ["problems"]);
    assert_eq!(world.count("SELECT count(*) FROM sqlite_master WHERE name = 'lab_results'"), 0);
    assert!(world.run(["check", "--offline"]).exits(0).stdout.contains("1 table"));
    fs::remove_file(world.path("own/problems.json")).unwrap();
    world.change_setting("views.built_in", "true");
    world.run(["sync"]).exits(0);
    assert_eq!(contents(&world), before);
}

#[test]
fn a_table_that_somebody_else_made_is_left_alone() {
    let world = world(1);
    world.run(["sync"]).exits(0);
    world.exec("CREATE TABLE problems (mine TEXT); INSERT INTO problems VALUES (1)");
    world.write("own/problems.json", &own("problems", "code.text"));
    let sync = world.run(["sync"]).exits(0);
    assert!(sync.stderr.contains("did not make"), "{}", sync.stderr);
    assert_eq!(world.count("SELECT count(mine) FROM problems"), 1);
}

#[test]
fn views_are_listed_and_run() {
    let world = world(2);
    world.run(["sync"]).exits(0);
    let list = world.run(["views"]).exits(0).stdout;
    // A line of headings, `freshness` and `analyst_column`.
    assert_eq!(list.lines().count(), world.stored_views().len() + 3, "{list}");
    let conditions = world.count("SELECT count(*) FROM conditions");
    let line = list.lines().find(|line| line.starts_with("conditions ")).unwrap();
    assert_eq!(line.split_whitespace().nth(1).unwrap(), conditions.to_string());

    world.write("one.json", &own("one", "code.coding.code"));
    let csv = world.run_inside(["views", "run", "one.json"]).exits(0).stdout;
    assert_eq!(csv.lines().next(), Some("person_id,id,told"));
    assert_eq!(csv.lines().count().to_string(), (conditions + 1).to_string());
    let text = world.run_inside(["views", "run", "one.json", "--json"]).exits(0).stdout;
    assert!(text.starts_with("[\n{\"person_id\":"), "{text}");
    let objects: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(objects.len().to_string(), conditions.to_string());
    let several = "SELECT count(*) FROM condition WHERE json_array_length(resource, '$.code.coding') > 1";
    let strict = world.run_inside(["views", "run", "one.json", "--strict"]);
    assert_eq!(strict.code == 0, world.count(several) == 0, "{}", strict.stderr);
    world.write("one.json", &own("one", "memberOf('x')"));
    let refused = world.run_inside(["views", "run", "one.json"]);
    assert_eq!(refused.code, 2);
    assert!(refused.stderr.contains("one.json") && refused.stderr.contains("memberOf"), "{}", refused.stderr);
}

#[test]
fn a_view_that_keeps_the_first_of_several_values_says_how_often() {
    let world = world(1);
    let twice = json!({"resourceType": "Condition", "id": "twice",
        "code": {"coding": [{"code": "a"}, {"code": "b"}]}});
    world.sandbox.put(&world.sandbox.person_ids()[0], Some("Condition/twice"), &twice.to_string());
    world.run(["sync"]).exits(0);
    world.write("one.json", &own("one", "code.coding.code"));
    let kept = world.run_inside(["views", "run", "one.json"]).exits(0);
    assert!(kept.stdout.contains(",twice,a"), "{}", kept.stdout);
    assert!(
        kept.stderr.contains("column told: ") && kept.stderr.contains("several values"),
        "{}",
        kept.stderr
    );
    let strict = world.run_inside(["views", "run", "one.json", "--strict"]);
    assert_ne!(strict.code, 0);
    let place = "view `one`, column `told`, in `code.coding.code`, Condition/";
    assert!(strict.stderr.contains(place), "{}", strict.stderr);
}

/// What is worked out by the day it is asked cannot be kept, and can be asked.
#[test]
fn a_view_that_depends_on_the_day_is_run_and_not_stored() {
    let world = world(1);
    world.write("own/recent.json", &own("recent", "recordedDate <= today()"));
    let check = world.run(["check", "--offline"]);
    assert!(check.stdout.contains("recent.json") && check.stdout.contains("today()"), "{}", check.stdout);
    world.run(["sync"]).exits(0);
    assert_eq!(world.count("SELECT count(*) FROM sqlite_master WHERE name = 'recent'"), 0);
    let rows = world.run_inside(["views", "run", "own/recent.json"]).exits(0).stdout;
    assert!(rows.lines().count() > 1, "{rows}");
}

#[test]
fn freshness_ages_by_itself() {
    let world = world(1);
    world.run(["sync"]).exits(0);
    for ago in ["0 seconds", "-59 minutes", "-25 hours", "-61 days", "-366 days", "-1463 days", "-36600 days"]
    {
        let update =
            format!("UPDATE checkpoint SET last_success_at = strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '{ago}')");
        world.exec(&update);
        let differ =
            "SELECT abs(age_hours - 24 * (julianday('now') - julianday(last_success_at))) FROM freshness";
        let differ: f64 = world.open().query_row(differ, [], |row| row.get(0)).unwrap();
        assert!(differ < 0.02, "{ago}: {differ}");
    }
    world.exec("UPDATE checkpoint SET last_success_at = NULL");
    assert_eq!(world.table("SELECT age_hours FROM freshness"), [[""]]);
}

/// Somebody's hand in the file is no reason to lose a page.
#[test]
fn a_table_that_was_taken_away_fails_no_page_and_comes_back() {
    let world = world(1);
    world.run(["sync"]).exits(0);
    let before = contents(&world);
    world.exec("DROP VIEW lab_results; DROP TABLE observations; DROP TABLE patients");
    world.run(["views"]).exits(0);
    world.run(["sync"]).exits(0);
    assert_eq!(contents(&world), before);
    // A table that refuses what the page brings.
    world.exec(
        "CREATE TRIGGER refusing BEFORE INSERT ON observations BEGIN SELECT RAISE(ABORT, 'no'); END;
             DELETE FROM observations; UPDATE checkpoint SET watermark = NULL; DELETE FROM observation",
    );
    let sync = world.run(["sync"]).exits(0);
    assert!(sync.stderr.contains("observations could not be kept up"), "{}", sync.stderr);
    assert_eq!(world.count("SELECT count(*) FROM observations"), 0);
    world.run(["sync"]).exits(0);
    let without_times = |rows: &[Vec<String>]| {
        let mut rows: Vec<Vec<String>> = rows.iter().map(|row| row[..row.len() - 1].to_vec()).collect();
        rows.sort();
        rows
    };
    // The observations are new to the warehouse, so `changed_at` is.
    let after = contents(&world);
    assert_eq!(without_times(&after["observations"]), without_times(&before["observations"]));
    assert_eq!(after["lab_results"].len(), before["lab_results"].len());
}

/// What a page stored is what was built in the same commit, also in a warehouse of before.
#[test]
fn a_warehouse_without_tables_gets_them_at_the_next_start() {
    let world = world(2);
    world.run(["sync"]).exits(0);
    let before = contents(&world);
    world.make_older(1);
    world.run(["sync"]).exits(0);
    assert_eq!(contents(&world), before);
    assert_eq!(world.count("SELECT count(*) FROM checkpoint WHERE holds_rows"), 2);
}

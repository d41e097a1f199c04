//! The queries of `docs/queries/`, each over the sandbox's twelve patients (seed 1).
//!
//! `UPDATE_EXPECTED=1` writes the expected results anew; look at what changed before it is kept.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod analysts_support;

use std::collections::BTreeMap;
use std::fs;

use analysts_support::{World, root, rows};
use serde_json::Value;

/// So much of a result's beginning and end is held.
const LINES: usize = 5;

#[test]
fn each_recipe_gives_what_it_gave() {
    let world = World::of(12);
    world.ok(&["sync"]);
    let database = world.database();
    let mut names: Vec<_> =
        fs::read_dir(root().join("docs/queries")).unwrap().map(|file| file.unwrap().path()).collect();
    names.sort();
    assert_eq!(names.len(), 7);
    for recipe in names {
        let found = rows(&database, &fs::read_to_string(&recipe).unwrap());
        let mut lines = vec![format!("{} rows", found.len())];
        let shown = (0..found.len()).filter(|at| *at < LINES || *at + LINES >= found.len());
        lines.extend(shown.map(|at| found[at].join("|")));
        let text = lines.join("\n") + "\n";
        let name = recipe.file_stem().unwrap().to_str().unwrap();
        let expected = root().join(format!("tests/analysts_support/expected/{name}.txt"));
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&expected, &text).unwrap();
        }
        assert_eq!(text, fs::read_to_string(&expected).unwrap(), "{name}");
    }
}

/// The same question asked of the sandbox's own JSON, without any SQL.
#[test]
fn the_latest_hba1c_is_the_one_that_the_server_has() {
    let world = World::of(12);
    world.ok(&["sync"]);
    let mut latest: BTreeMap<String, (String, f64)> = BTreeMap::new();
    for (number, person) in (1..).zip(world.sandbox.person_ids()) {
        for entry in world.sandbox.entries(&person) {
            let resource: Value = serde_json::from_str(&entry.resource).unwrap();
            let coded = |coding: &Value| coding["system"] == "http://loinc.org" && coding["code"] == "4548-4";
            let codings = resource["code"]["coding"].as_array().cloned().unwrap_or_default();
            let (Some(value), Some(at)) =
                (resource["valueQuantity"]["value"].as_f64(), resource["effectiveDateTime"].as_str())
            else {
                continue;
            };
            if resource["resourceType"] == "Observation" && codings.iter().any(coded) {
                let at = chrono::DateTime::parse_from_rfc3339(at).unwrap().to_utc().to_rfc3339();
                let best = latest.entry(format!("demo-{number:02}")).or_insert((at.clone(), value));
                if best.0 < at {
                    *best = (at, value);
                }
            }
        }
    }
    let recipe = fs::read_to_string(root().join("docs/queries/latest_hba1c.sql")).unwrap();
    let found: BTreeMap<String, f64> = rows(&world.database(), &recipe)
        .into_iter()
        .map(|row| (row[0].clone(), row[3].parse().unwrap()))
        .collect();
    let expected = latest.into_iter().map(|(label, (_, value))| (label, value)).collect();
    assert_eq!(found, expected);
}

/// Files of every format hold what the tables hold, and appear whole or not at all.
#[test]
fn what_is_exported_is_what_is_stored() {
    let world = World::of(3);
    world.ok(&["sync"]);
    let one = world.sandbox.person_ids()[0].clone();
    let live =
        |table: &str| world.count(&format!("SELECT count(*) FROM \"{table}\" WHERE deleted_at IS NULL"));

    world.ok(&["export", "--format", "ndjson", "all/ndjson"]);
    let text = fs::read_to_string(world.path("all/ndjson/Observation.ndjson")).unwrap();
    assert_eq!(text.lines().count().to_string(), live("observation").to_string());
    for line in text.lines() {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["resourceType"], "Observation");
    }
    assert!(!world.path("all/ndjson/Goal.ndjson").exists());

    world.ok(&["export", "--format", "csv", "csv", "--patient", &one]);
    let mut csv = csv::Reader::from_path(world.path("csv/lab_results.csv")).unwrap();
    let people: Vec<_> = csv.records().map(|record| record.unwrap()[0].to_owned()).collect();
    assert!(people.iter().all(|person| *person == one));
    let stored = world.count(&format!("SELECT count(*) FROM lab_results WHERE person_id = '{one}'"));
    assert_eq!(people.len().to_string(), stored.to_string());

    world.ok(&["export", "--format", "parquet", "parquet"]);
    for name in analysts_support::stored_views(&world.database()) {
        let file = fs::File::open(world.path(&format!("parquet/{name}.parquet"))).unwrap();
        let reader = parquet::file::reader::SerializedFileReader::new(file).unwrap();
        let rows = parquet::file::reader::FileReader::metadata(&reader).file_metadata().num_rows();
        assert_eq!(rows, world.count(&format!("SELECT count(*) FROM \"{name}\"")), "{name}");
    }

    for (arguments, status) in [
        (["export", "--format", "csv", "csv", "--quiet"], 2),
        (["export", "--format", "csv", "new", "--patient=nobody"], 2),
        (["export", "--format", "csv", "/proc/new", "--quiet"], 1),
    ] {
        assert_eq!(world.run(&arguments).status, status, "{arguments:?}");
    }
    let left = fs::read_dir(world.path(""))
        .unwrap()
        .filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().contains("partial"));
    assert_eq!(left.count(), 0);
    let mode = fs::metadata(world.path("csv/lab_results.csv")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
}

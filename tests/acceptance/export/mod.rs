//! What `export` writes: whole or not at all, as stored, and so that a copy elsewhere can follow.

mod following;
mod pseudonymous;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, process};

use parquet::basic::{LogicalType, Type};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::world::World;

/// The files of an export, by their names in it.
fn files(folder: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inside) = folders.pop() {
        for entry in fs::read_dir(inside).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else {
                found.insert(entry.strip_prefix(folder).unwrap().to_str().unwrap().to_owned(), entry);
            }
        }
    }
    found
}

fn manifest(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap()
}

fn json_lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The rows of a CSV file, each by its columns.
fn csv_rows(file: &Path) -> Vec<BTreeMap<String, String>> {
    let mut csv = csv::Reader::from_path(file).unwrap();
    csv.deserialize().map(Result::unwrap).collect()
}

/// Files of every format hold what the tables hold, and appear whole or not at all.
#[test]
fn what_is_exported_is_what_is_stored() {
    let world = World::generated(3);
    world.run(["sync"]).exits(0);
    let one = world.sandbox.person_ids()[0].clone();
    let live =
        |table: &str| world.count(&format!("SELECT count(*) FROM \"{table}\" WHERE deleted_at IS NULL"));

    world.run_inside(["export", "--format", "ndjson", "all/ndjson"]).exits(0);
    let text = fs::read_to_string(world.path("all/ndjson/Observation.ndjson")).unwrap();
    assert_eq!(text.lines().count().to_string(), live("observation").to_string());
    for line in text.lines() {
        assert_eq!(serde_json::from_str::<Value>(line).unwrap()["resourceType"], "Observation");
    }
    assert!(!world.path("all/ndjson/Goal.ndjson").exists());

    world.run_inside(["export", "--format", "csv", "csv", "--patient", &one]).exits(0);
    let mut csv = csv::Reader::from_path(world.path("csv/lab_results.csv")).unwrap();
    let people: Vec<_> = csv.records().map(|record| record.unwrap()[0].to_owned()).collect();
    assert!(people.iter().all(|person| *person == one));
    let stored = world.count(&format!("SELECT count(*) FROM lab_results WHERE person_id = '{one}'"));
    assert_eq!(people.len().to_string(), stored.to_string());

    world.run_inside(["export", "--format", "parquet", "parquet"]).exits(0);
    for name in world.stored_views() {
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
        assert_eq!(world.run_inside(arguments).code, status, "{arguments:?}");
    }
    let left = fs::read_dir(world.path(""))
        .unwrap()
        .filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().contains("partial"));
    assert_eq!(left.count(), 0);

    // A killed export cannot clean up; the next one into the same place does.
    let gone = Command::new("true").spawn().map(|mut child| (child.id(), child.wait())).unwrap().0;
    let (killed, running) = (format!(".late.partial-{gone}"), format!(".late.partial-{}", process::id()));
    for folder in [&killed, &running] {
        fs::create_dir(world.path(folder)).unwrap();
    }
    world.run_inside(["export", "--format", "csv", "late"]).exits(0);
    assert!(!world.path(&killed).exists() && world.path(&running).exists());

    let mode = fs::metadata(world.path("csv/lab_results.csv")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
}

#[test]
fn the_manifest_names_every_file_as_it_is() {
    let world = World::generated(2);
    world.run(["sync"]).exits(0);
    for format in ["ndjson", "csv", "parquet", "bundle"] {
        world.run_inside(["export", "--format", format, format]).exits(0);
        let folder = world.path(format);
        let manifest = manifest(&folder);
        let mut there = files(&folder);
        there.remove("manifest.json").unwrap();
        let told = manifest["files"].as_array().unwrap();
        assert_eq!(told.len(), there.len(), "{format}");
        for file in told {
            let path = &there[file["file"].as_str().unwrap()];
            let bytes = fs::read(path).unwrap();
            let told = file["sha256"].as_str().unwrap();
            let told = (0..32).map(|at| u8::from_str_radix(&told[2 * at..2 * at + 2], 16).unwrap());
            assert!(told.eq(Sha256::digest(&bytes).iter().copied()), "{file}");
            assert_eq!(file["bytes"], bytes.len(), "{file}");
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(manifest["version"], env!("CARGO_PKG_VERSION"));
        assert!(manifest["time"].as_str().unwrap().ends_with('Z'));
        let mark = world.watermark("sandbox-0001").unwrap();
        assert_eq!(manifest["watermarks"]["sandbox-0001"], mark.as_str(), "{manifest}");
    }
    let lines = json_lines(&world.path("ndjson/Observation.ndjson"));
    let told = manifest(&world.path("ndjson"));
    let of = |name: &str| {
        told["files"].as_array().unwrap().iter().find(|file| file["file"] == name).unwrap().clone()
    };
    assert_eq!(of("Observation.ndjson")["count"], lines.len());
    // Whose line is whose: resources alone do not say.
    let keys = csv_rows(&world.path("ndjson/keys.csv"));
    let mine =
        keys.iter().filter(|row| row["file"] == "Observation.ndjson" && row["person_id"] == "sandbox-0002");
    for row in mine {
        let id = lines[row["line"].parse::<usize>().unwrap() - 1]["id"].as_str().unwrap().to_owned();
        let found =
            format!("SELECT id FROM observation WHERE person_id = 'sandbox-0002' AND key = '{}'", row["key"]);
        assert_eq!(world.ask(&found), Some(id));
    }
}

/// Names of tables and of types, in any mixture; a wrong one writes nothing.
#[test]
fn what_is_asked_for_by_name_is_written_and_nothing_else() {
    let world = World::generated(2);
    world.run(["sync"]).exits(0);
    let names = |folder: &str| files(&world.path(folder)).into_keys().collect::<Vec<_>>();
    world
        .run_inside([
            "export",
            "--format",
            "parquet",
            "--tables",
            "conditions,Observation",
            "--tables",
            "patient",
            "some",
        ])
        .exits(0);
    assert_eq!(
        names("some"),
        ["conditions.parquet", "manifest.json", "observation.parquet", "patient.parquet"]
    );
    world.run_inside(["export", "--format", "ndjson", "--tables", "conditions", "rows"]).exits(0);
    assert_eq!(names("rows"), ["conditions.ndjson", "manifest.json"]);
    let row = &json_lines(&world.path("rows/conditions.ndjson"))[0];
    assert!(row["person_id"].is_string() && row["id"].is_string(), "{row}");
    for wrong in [
        &["export", "--format", "csv", "--tables", "nonsense", "none"][..],
        &["export", "--format", "bundle", "--tables", "conditions", "none"],
        &["export", "--format", "parquet", "--safe", "none"],
        &["export", "--format", "csv", "--split", "many", "none"],
        &["export", "--format", "csv", "--since", "yesterday", "none"],
        &["export", "--format", "csv", "--shift-dates", "none"],
        &["export", "--format", "csv", "--pseudonymous", "--key-file", "none/key", "none"],
    ] {
        assert_eq!(world.run_inside(wrong).code, 2, "{wrong:?}");
        assert!(!world.path("none").exists());
    }
}

#[test]
fn one_person_is_one_bundle_whose_references_lead_somewhere() {
    let world = World::generated(2);
    world.run(["sync"]).exits(0);
    world.run_inside(["export", "--format", "bundle", "--patient", "demo-02", "one"]).exits(0);
    let names: Vec<String> = files(&world.path("one")).into_keys().collect();
    assert_eq!(names, ["manifest.json", "sandbox-0002.bundle.json"]);
    let bundle: Value =
        serde_json::from_slice(&fs::read(world.path("one/sandbox-0002.bundle.json")).unwrap()).unwrap();
    assert_eq!((&bundle["resourceType"], &bundle["type"]), (&"Bundle".into(), &"collection".into()));
    let entries = bundle["entry"].as_array().unwrap();
    let on_the_server: BTreeMap<String, Value> = world
        .sandbox
        .entries("sandbox-0002")
        .into_iter()
        .map(|entry| (entry.full_url, serde_json::from_str(&entry.resource).unwrap()))
        .collect();
    assert_eq!(entries.len(), on_the_server.len());
    for entry in entries {
        assert_eq!(on_the_server[entry["fullUrl"].as_str().unwrap()], entry["resource"]);
    }
}

#[test]
fn parquet_has_types_and_is_split_and_whole_all_the_same() {
    let world = World::generated(3);
    world.run(["sync"]).exits(0);
    world.run_inside(["export", "--format", "parquet", "--split", "20kB", "parts"]).exits(0);
    let folder = world.path("parts");
    let rows_of = |stem: &str| -> i64 {
        let parts = files(&folder).into_iter().filter(|(name, _)| name.starts_with(&format!("{stem}.")));
        let rows = parts.map(|(_, path)| {
            let reader = SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap();
            reader.metadata().file_metadata().num_rows()
        });
        rows.sum()
    };
    for table in ["observation", "lab_results", "patients", "freshness"] {
        let live = if table == "observation" { " WHERE deleted_at IS NULL" } else { "" };
        assert_eq!(rows_of(table), world.count(&format!("SELECT count(*) FROM {table}{live}")), "{table}");
    }
    let reader = SerializedFileReader::new(fs::File::open(folder.join("patients.parquet")).unwrap()).unwrap();
    let schema = reader.metadata().file_metadata().schema_descr();
    let column = |name: &str| {
        let at = (0..schema.num_columns()).find(|at| schema.column(*at).name() == name).unwrap();
        (schema.column(at).physical_type(), schema.column(at).logical_type_ref().cloned())
    };
    assert_eq!(column("active").0, Type::BOOLEAN);
    assert_eq!(column("birth_date"), (Type::INT32, Some(LogicalType::Date)));
    let reader =
        SerializedFileReader::new(fs::File::open(folder.join("observation.parquet")).unwrap()).unwrap();
    let row = reader.get_row_iter(None).unwrap().next().unwrap().unwrap();
    let cell = |name: &str| row.get_column_iter().find(|(column, _)| *column == name).unwrap().1.clone();
    assert!(matches!(cell("changed_at"), Field::TimestampMicros(_)), "{row}");
    let Field::Str(resource) = cell("resource") else { panic!("{row}") };
    assert_eq!(serde_json::from_str::<Value>(&resource).unwrap()["resourceType"], "Observation");
    // A CSV file that goes on in another has its header in both.
    world
        .run_inside(["export", "--format", "csv", "--tables", "lab_results", "--split", "5kB", "csvs"])
        .exits(0);
    let parts = files(&world.path("csvs"));
    assert!(parts.len() > 2, "{parts:?}");
    let rows: usize =
        parts.iter().filter(|(name, _)| name.contains("csv")).map(|(_, path)| csv_rows(path).len()).sum();
    assert_eq!(rows.to_string(), world.count("SELECT count(*) FROM lab_results").to_string());
}

/// A spreadsheet runs what begins like a formula.
#[test]
fn csv_for_a_spreadsheet_has_no_formula_in_it() {
    let world = World::with_patients(["anna"]);
    let evil = r#"{"resourceType":"Condition","id":"c","code":{"text":"=cmd|' /C calc'!A0"},"subject":{"reference":"Patient/p-anna"}}"#;
    world.sandbox.put("anna", Some("Condition/c"), evil);
    world.run(["sync"]).exits(0);
    for (safe, expected) in [(&["--safe"][..], "'=cmd|' /C calc'!A0"), (&[], "=cmd|' /C calc'!A0")] {
        let folder = if safe.is_empty() { "plain" } else { "safe" };
        let arguments = [&["export", "--format", "csv", "--tables", "conditions", folder][..], safe].concat();
        world.run_inside(arguments).exits(0);
        let rows = csv_rows(&world.path(&format!("{folder}/conditions.csv")));
        assert!(rows[0].values().any(|cell| cell == expected), "{rows:?}");
    }
}

/// A file that was put back by hand may have patients in it who were purged since.
#[test]
fn what_the_ledger_tells_of_is_not_exported_from_an_older_file() {
    let world = World::with_patients(["anna", "ben"]);
    world.run(["sync"]).exits(0);
    let older = world.path("older.db").to_str().unwrap().to_owned();
    world.run(["backup", &older]).exits(0);
    world.run(["purge", "anna", "--yes"]).exits(0);
    fs::copy(&older, world.warehouse()).unwrap();
    world.run_inside(["export", "--format", "ndjson", "all"]).exits(1).says("ledger tells of 1 purges");
    assert!(!world.path("all").exists());
    world.run(["sync"]).exits(0);
    world.run_inside(["export", "--format", "ndjson", "all"]).exits(0);
    for (name, path) in files(&world.path("all")) {
        assert!(!fs::read_to_string(path).unwrap().contains("anna"), "{name}");
    }
}

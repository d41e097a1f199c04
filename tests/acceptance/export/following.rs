//! A copy elsewhere that follows by `--since`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{csv_rows, files, json_lines, manifest};
use crate::world::World;

/// What somebody elsewhere has: rows of tables, and resources, by person and key.
#[derive(Debug, Default, PartialEq)]
struct Copy {
    tables: BTreeMap<String, BTreeMap<[String; 2], Vec<String>>>,
    resources: BTreeMap<[String; 2], Value>,
}

impl Copy {
    /// Follows as the README says: whoever was purged goes, then what vanished, then what changed is put in.
    fn follow(&mut self, csv: &Path, ndjson: &Path) {
        let told: Value = fs::read(csv.join("purged.json"))
            .map(|text| serde_json::from_slice(&text).unwrap())
            .unwrap_or_default();
        for purge in told.as_array().into_iter().flatten() {
            let is_left = |key: &[String; 2]| key[0] != purge["person_id"].as_str().unwrap();
            for rows in self.tables.values_mut() {
                rows.retain(|key, _| is_left(key));
            }
            self.resources.retain(|key, _| is_left(key));
        }
        for file in manifest(csv)["files"].as_array().unwrap() {
            let Some(table) = file["of"].as_str() else { continue };
            let found = csv_rows(&csv.join(file["file"].as_str().unwrap()));
            let rows = self.tables.entry(table.to_owned()).or_default();
            if file["content"] == "whole" {
                rows.clear();
            }
            let key = |row: &BTreeMap<String, String>| {
                [row["person_id"].clone(), row.get("key").cloned().unwrap_or_default()]
            };
            for row in &found {
                rows.remove(&key(row));
            }
            if file["content"] != "deleted" {
                for row in &found {
                    rows.entry(key(row))
                        .or_default()
                        .push(row.values().cloned().collect::<Vec<_>>().join("|"));
                }
                for rows in rows.values_mut() {
                    rows.sort();
                }
            }
        }
        self.follow_resources(ndjson);
    }

    fn follow_resources(&mut self, ndjson: &Path) {
        let mut lines: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (name, path) in files(ndjson) {
            if let Some(type_name) = name.strip_prefix("deleted/") {
                let type_name = type_name.split('.').next().unwrap();
                for bundle in json_lines(&path) {
                    let person = bundle["meta"]["tag"][0]["code"].as_str().unwrap();
                    for entry in bundle["entry"].as_array().unwrap() {
                        assert_eq!(entry["request"]["method"], "DELETE");
                        let url = entry["request"]["url"].as_str().unwrap();
                        assert!(url.starts_with(type_name));
                        self.resources.remove(&[person.to_owned(), url.to_owned()]);
                    }
                }
            } else if name.ends_with("ndjson") {
                lines.insert(name, json_lines(&path));
            }
        }
        for row in csv_rows(&ndjson.join("keys.csv")) {
            let resource = &lines[&row["file"]][row["line"].parse::<usize>().unwrap() - 1];
            let url = format!(
                "{}/{}",
                resource["resourceType"].as_str().unwrap(),
                resource["id"].as_str().unwrap()
            );
            self.resources.insert([row["person_id"].clone(), url], resource.clone());
        }
    }
}

/// Lets everything that is stored have been stored, built and pulled long ago.
fn age(world: &World) {
    let connection = world.open_to_write();
    for table in crate::world::resource_tables(&connection) {
        let old = format!(
            "UPDATE \"{table}\" SET changed_at = '2020-01-01T00:00:00Z', first_seen_at = '2020-01-01T00:00:00Z'"
        );
        connection.execute_batch(&old).unwrap();
    }
    for table in world.stored_views() {
        let is_table =
            format!("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = '{table}'");
        if world.count(&is_table) == 1 {
            let old = format!("UPDATE \"{table}\" SET changed_at = '2020-01-01 00:00:00'");
            connection.execute_batch(&old).unwrap();
        }
    }
    connection.execute_batch("UPDATE analyst_table SET built_at = '2020-01-01T00:00:00Z'").unwrap();
}

fn export(world: &World, number: usize, since: Option<&str>) {
    for format in ["csv", "ndjson"] {
        let folder = format!("{format}-{number}");
        let mut arguments = vec!["export", "--format", format, &folder];
        arguments.extend(since.iter().flat_map(|since| ["--since", since]));
        world.run_inside(arguments).exits(0);
    }
}

#[test]
fn a_copy_that_follows_has_what_an_export_of_everything_has() {
    let world = World::generated(3);
    // Its medicine comes later, in a resource of its own.
    let request = json!({"resourceType": "MedicationRequest", "id": "waiting", "status": "active", "intent": "order",
        "medicationReference": {"reference": "Medication/later"}});
    world.sandbox.put("sandbox-0002", Some("MedicationRequest/waiting"), &request.to_string());
    world.run(["sync"]).exits(0);
    age(&world);
    export(&world, 0, None);
    let mut copy = Copy::default();
    copy.follow(&world.path("csv-0"), &world.path("ndjson-0"));

    // One is changed, one vanishes, one is renamed, one is retracted, one comes; a patient goes, another one comes.
    let entries = world.sandbox.entries("sandbox-0001");
    let observations: Vec<_> =
        entries.iter().filter(|entry| entry.resource.contains("\"Observation\"")).take(4).collect();
    let changed = |at: usize, name: &str, value: Value| {
        let mut resource: Value = serde_json::from_str(&observations[at].resource).unwrap();
        resource[name] = value;
        resource.to_string()
    };
    world.sandbox.put(
        "sandbox-0001",
        Some(&observations[0].full_url),
        &changed(0, "status", json!("amended")),
    );
    world.sandbox.remove("sandbox-0001", &observations[1].full_url);
    world.sandbox.remove("sandbox-0001", &observations[2].full_url);
    world.sandbox.put("sandbox-0001", Some("Observation/renamed"), &changed(2, "status", json!("final")));
    world.sandbox.put("sandbox-0001", Some(&observations[3].full_url), &changed(3, "category", json!([])));
    let new = json!({"resourceType": "Condition", "id": "new", "code": {"text": "new"}}).to_string();
    world.sandbox.put("sandbox-0002", Some("Condition/new"), &new);
    let medicine =
        json!({"resourceType": "Medication", "id": "later", "code": {"text": "what was waited for"}});
    world.sandbox.put("sandbox-0002", Some("Medication/later"), &medicine.to_string());
    world.sandbox.withdraw("sandbox-0003");
    world.run(["sync", "--full"]).exits(0);
    assert_eq!(world.state("sandbox-0003"), "revoked");
    world.sandbox.add_person("sandbox-0004", crate::world::record("sandbox-0004", 2));
    world.list_generated(4);
    world.run(["sync"]).exits(0);

    // By a time, by a day, and by the folder of what it follows.
    for (number, since) in [(1, "2021-01-01"), (2, "2021-01-01T00:00:00Z")] {
        export(&world, number, Some(since));
    }
    let following = manifest(&world.path("ndjson-1"));
    assert!(following["since"].as_str().unwrap().starts_with("2021-01-01T00:00:00"));
    let counts = |folder: &str| json_lines(&world.path(folder).join("Observation.ndjson")).len();
    assert!(counts("ndjson-1") < counts("ndjson-0") / 4, "{} of {}", counts("ndjson-1"), counts("ndjson-0"));
    let purged: Value =
        serde_json::from_slice(&fs::read(world.path("ndjson-1/purged.json")).unwrap()).unwrap();
    assert_eq!(purged[0]["person_id"], "sandbox-0003");
    assert_eq!(json_lines(&world.path("ndjson-1/deleted/Observation.ndjson")).len(), 1);
    for (name, path) in files(&world.path("ndjson-1")).into_iter().chain(files(&world.path("csv-1"))) {
        let text = fs::read_to_string(path).unwrap();
        assert!(name == "purged.json" || !text.contains("sandbox-0003"), "{name}");
    }

    copy.follow(&world.path("csv-1"), &world.path("ndjson-1"));
    export(&world, 9, None);
    let mut whole = Copy::default();
    whole.follow(&world.path("csv-9"), &world.path("ndjson-9"));
    for table in whole.tables.keys().filter(|table| *table != "freshness") {
        assert_eq!(copy.tables[table], whole.tables[table], "{table}");
    }
    assert_eq!(copy.resources, whole.resources);
}

#[test]
fn an_export_follows_the_folder_of_an_earlier_one_of_its_kind() {
    let world = World::generated(2);
    world.run(["sync"]).exits(0);
    export(&world, 0, None);
    let follow = |format: &str, since: &str, folder: &str| {
        world.run_inside(["export", "--format", format, "--since", since, folder])
    };
    follow("csv", "csv-0", "next").exits(0);
    let earlier = manifest(&world.path("csv-0"));
    assert_eq!(manifest(&world.path("next"))["since"], earlier["next_since"]);
    follow("csv", "ndjson-0", "other").exits(2).says("that export is ndjson");
    world
        .run_inside(["export", "--format", "csv", "--pseudonymous", "--since", "csv-0", "other"])
        .exits(2)
        .says("other names");
    assert!(!world.path("other").exists());
}

/// What is not known any more is not told as if nothing had been.
#[test]
fn an_export_since_before_what_is_forgotten_is_refused() {
    let world = World::with_record(12).set("sync.keep_deleted", r#""1d""#);
    world.run(["sync"]).exits(0);
    world.sandbox.remove("anna", &world.sandbox.entries("anna")[5].full_url.clone());
    world.run(["sync", "--full"]).exits(0);
    world.exec("UPDATE observation SET deleted_at = '2026-01-01T00:00:00Z' WHERE deleted_at IS NOT NULL");
    world.run(["sync"]).exits(0);
    assert_eq!(world.count("SELECT count(*) FROM observation WHERE deleted_at IS NOT NULL"), 0);
    let since = |time: &str, folder: &str| {
        world.run_inside(["export", "--format", "ndjson", "--since", time, folder])
    };
    since("2025-12-01", "early").exits(2).says("no longer known");
    assert!(!world.path("early").exists());
    since("2040-01-01", "late").exits(0);
}

//! `export` from a warehouse in PostgreSQL: as many rows in as many files as from a file with the same in it.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use super::database::Database;
use crate::world::World;

/// How many rows each file of an export has, by its name.
fn rows_by_file(world: &World, folder: &str) -> BTreeMap<String, u64> {
    let manifest = fs::read_to_string(world.path(folder).join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let files = manifest["files"].as_array().unwrap_or_else(|| panic!("{manifest}"));
    let rows = |file: &Value| (file["file"].as_str().unwrap().to_owned(), file["count"].as_u64().unwrap());
    files.iter().map(rows).collect()
}

#[test]
fn every_format_has_what_it_has_of_a_file() {
    let world = World::generated(2);
    let Some(database) = Database::migrated(&world) else { return };
    world.run(["sync"]).exits(0);
    database.run(&world, &["sync"]).exits(0);
    let began = "2026-01-01T00:00:00Z";
    let person = &world.sandbox.person_ids()[0];
    let gone = world.sandbox.entries(person)[5].full_url.clone();
    assert!(world.sandbox.remove(person, &gone));
    world.run(["sync", "--full"]).exits(0);
    database.run(&world, &["sync", "--full"]).exits(0);
    for (number, args) in [
        &["--format", "csv"][..],
        &["--format", "ndjson", "--since", began],
        &["--format", "parquet", "--patient", "demo-01"],
        &["--format", "bundle"],
        &["--format", "csv", "--tables", "observations", "--tables", "freshness", "--since", began],
        &["--format", "csv", "--pseudonymous"],
    ]
    .into_iter()
    .enumerate()
    {
        let (of_file, of_server) = (format!("file-{number}"), format!("server-{number}"));
        let path = |folder: &str| world.path(folder).display().to_string();
        let key = world.path("key").display().to_string();
        let key = if args.contains(&"--pseudonymous") { vec!["--key-file", &key] } else { Vec::new() };
        world.run([&["export"][..], args, &key, &[path(&of_file).as_str()]].concat()).exits(0);
        let told =
            database.run(&world, &[&["export"][..], args, &key, &[path(&of_server).as_str()]].concat());
        told.exits(0).says("no scrub ends before it");
        let rows = rows_by_file(&world, &of_server);
        assert_eq!(rows, rows_by_file(&world, &of_file), "{args:?}");
        let audit = database.run(&world, &["audit", "demo-01"]).exits(0);
        audit.says(&of_server);
        assert!(rows.values().sum::<u64>() > 10, "{args:?}: {rows:?}");
        if args.contains(&"ndjson") {
            assert!(rows.iter().any(|(file, rows)| file.starts_with("deleted/") && *rows > 0), "{rows:?}");
        }
    }
}

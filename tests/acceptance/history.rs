//! What a resource said before: kept where it is asked for, and gone with its patient.

use serde_json::Value;

use crate::world::{TEXT_CANARY, World, observation, observation_tail};

fn keeping(world: World) -> World {
    world.set("warehouse.history", "true")
}

fn history(world: &World, columns: &str) -> Vec<Vec<String>> {
    world.table(&format!("SELECT {columns} FROM history ORDER BY key, replaced_at, changed_at"))
}

fn correct(world: &World, number: usize, text: &str) {
    world.sandbox.put("anna", Some(&observation_tail("anna", number)), &observation("anna", number, text));
}

#[test]
fn each_former_version_is_kept_as_it_was() {
    let world = keeping(World::with_patients(["anna", "ben"]));
    world.run(["sync"]).exits(0);
    assert!(history(&world, "*").is_empty());
    let before = world.table("SELECT person_id, key, id, content_hash, resource, first_seen_at, changed_at FROM observation WHERE person_id = 'anna' ORDER BY key LIMIT 1");
    correct(&world, 0, "corrected");
    world.run(["sync"]).exits(0);
    let kept = history(&world, "person_id, key, id, content_hash, resource, first_seen_at, changed_at");
    assert_eq!(kept, before);
    assert_eq!(history(&world, "type, replaced_at IS NOT NULL, deleted_at"), [["Observation", "1", ""]]);
    correct(&world, 0, "corrected again");
    // The same once more, and one that vanishes and is back, are no versions.
    world.sandbox.remove("anna", &world.sandbox.entries("anna")[4].full_url.clone());
    world.run(["sync", "--full"]).exits(0);
    correct(&world, 2, "as at first");
    world.run(["sync", "--full"]).exits(0);
    let said: Vec<Value> =
        history(&world, "resource").concat().iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let said: Vec<&str> = said.iter().map(|resource| resource["valueString"].as_str().unwrap()).collect();
    let expected = ["as at first", "corrected"].map(|text| format!("{TEXT_CANARY}-anna-0 {text}"));
    assert_eq!(said, expected);
    world.assert_sound();
    // A flipped bit in there is found as anywhere else.
    world.exec("UPDATE history SET resource = replace(resource, 'corrected', 'cOrrected')");
    world.run(["verify"]).exits(1).says("observation anna");
}

#[test]
fn without_it_nothing_is_kept() {
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    correct(&world, 0, "corrected");
    world.run(["sync"]).exits(0);
    assert!(history(&world, "*").is_empty());
}

#[test]
fn history_goes_with_its_patient_to_the_last_byte() {
    let world = keeping(World::with_patients(["anna", "ben"]));
    world.run(["sync"]).exits(0);
    correct(&world, 0, "corrected");
    world.run(["sync"]).exits(0);
    assert_eq!(world.count("SELECT count(*) FROM history"), 1);
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(0).says("1 revoked");
    assert_eq!(world.rows_anywhere("anna"), 0);
    world.scrub_on_server();
    assert!(!world.warehouse_bytes_contain(&format!("{TEXT_CANARY}-anna")));
    assert_eq!(
        world.ask("SELECT json_extract(rows_by_table, '$.history') FROM purge_log"),
        Some("1".to_owned())
    );
}

/// What has another name and says something else is a former version; what says the same is not.
#[test]
fn a_renamed_resource_keeps_what_it_said() {
    let world = keeping(World::with_patients(["anna", "ben"]));
    world.run(["sync"]).exits(0);
    for (number, text) in [(0, "as at first"), (1, "corrected")] {
        let tail = observation_tail("anna", number);
        let url =
            world.sandbox.entries("anna").into_iter().find(|entry| entry.full_url.ends_with(&tail)).unwrap();
        world.sandbox.remove("anna", &url.full_url);
        world.sandbox.put(
            "anna",
            Some(&format!("Observation/renamed-{number}")),
            &observation("anna", number, text),
        );
    }
    world.run(["sync", "--full"]).exits(0);
    assert_eq!(world.count("SELECT count(*) FROM observation WHERE person_id = 'anna'"), 4);
    assert_eq!(history(&world, "key"), [[observation_tail("anna", 1)]]);
}

/// How long rows stay that vanished is how long their former versions do.
#[test]
fn history_goes_with_what_vanished_long_ago() {
    let world = keeping(World::with_record(12)).set("sync.keep_deleted", r#""1d""#);
    world.run(["sync"]).exits(0);
    correct(&world, 3, "corrected");
    correct(&world, 4, "corrected");
    world.run(["sync"]).exits(0);
    let url = world.sandbox.entries("anna")[5].full_url.clone();
    assert!(url.ends_with(&observation_tail("anna", 3)));
    world.sandbox.remove("anna", &url);
    world.run(["sync", "--full"]).exits(0);
    world.exec("UPDATE observation SET deleted_at = '2026-01-01T00:00:00Z' WHERE deleted_at IS NOT NULL");
    world.run(["sync"]).exits(0);
    assert_eq!(history(&world, "key"), [[observation_tail("anna", 4)]]);
}

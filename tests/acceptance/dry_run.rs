//! A dry run is the same cycle, verdicts and exit status included, and it writes nothing.

use std::fs;

use serde_json::Value;

use crate::world::{World, observation, observation_tail};

/// The summary of a dry run and of the sync after it, without what they took and the word itself.
fn rehearsed_and_done(world: &World, arguments: &[&str], exit: i32) -> [Value; 2] {
    [&["--dry-run"][..], &[]].map(|extra| {
        let before = fs::read(world.warehouse()).ok();
        let ran = world.run([&["sync", "--json"], arguments, extra].concat()).exits(exit);
        let mut summary: Value = serde_json::from_str(&ran.stdout).unwrap();
        let is_dry = summary.as_object_mut().unwrap().remove("dry_run");
        assert_eq!(is_dry, (!extra.is_empty()).then_some(Value::Bool(true)));
        if !extra.is_empty() {
            assert!(before == fs::read(world.warehouse()).ok(), "the file changed");
        }
        for taken in ["seconds", "requests", "bytes"] {
            summary.as_object_mut().unwrap().remove(taken);
        }
        summary
    })
}

#[track_caller]
fn assert_alike(world: &World, arguments: &[&str], exit: i32) -> Value {
    let [rehearsed, done] = rehearsed_and_done(world, arguments, exit);
    assert_eq!(rehearsed, done);
    done
}

#[test]
fn a_dry_run_writes_nothing() {
    let world = World::with_record(30);
    let ran = world.run(["sync", "--dry-run", "--json"]).exits(0);
    assert_eq!(ran.number("/resources/inserted"), 32);
    assert!(!world.warehouse().exists());

    world.run(["sync"]).exits(0);
    let changed = observation("anna", 3, "changed since");
    world.sandbox.put("anna", Some(&observation_tail("anna", 3)), &changed);
    world.sandbox.remove("anna", &observation_tail("anna", 5));
    let before = std::fs::read(world.warehouse()).unwrap();
    let ran = world.run(["sync", "--dry-run", "--full", "--json"]).exits(0);
    assert_eq!(ran.number("/resources/updated"), 1);
    assert_eq!(ran.number("/resources/deleted"), 1);
    assert!(before == std::fs::read(world.warehouse()).unwrap(), "the file changed");
}

#[test]
fn a_dry_run_says_what_the_sync_then_does() {
    let world = World::with_patients(["anna", "ben"]).set("sync.page_size", "3");
    let first = assert_alike(&world, &[], 0);
    assert_eq!(first["patients"]["ok"], 2);

    world.sandbox.put("anna", Some(&observation_tail("anna", 1)), &observation("anna", 1, "changed since"));
    world.sandbox.remove("ben", &observation_tail("ben", 2));
    let full = assert_alike(&world, &["--full"], 0);
    assert_eq!((&full["resources"]["updated"], &full["resources"]["deleted"]), (&1.into(), &1.into()));
}

#[test]
fn a_withdrawal_is_judged_by_a_dry_run_as_by_a_sync() {
    let world = World::with_patients(["anna", "ben"]);
    world.run(["sync"]).exits(0);
    world.sandbox.withdraw("anna");
    let ran = world.run(["sync", "--dry-run"]).exits(0).says("1 revoked");
    assert!(ran.stdout.contains("would purge anna: "), "{ran}");
    assert_eq!(world.state("anna"), "active");
    let done = assert_alike(&world, &[], 0);
    assert_eq!(done["patients"]["revoked"], 1);
}

#[test]
fn six_refused_of_six_would_be_held() {
    let six = ["anna", "ben", "cora", "dan", "eva", "finn"];
    let world = World::with_patients(six);
    world.run(["sync"]).exits(0);
    for person in six {
        world.sandbox.withdraw(person);
    }
    world.run(["sync", "--dry-run"]).exits(3).says("6 would be held");
    let done = assert_alike(&world, &[], 3);
    assert_eq!((&done["patients"]["held"], &done["patients"]["revoked"]), (&6.into(), &0.into()));
}

#[test]
fn a_patient_that_left_the_roster_is_told_to_be_purged() {
    let world = World::with_patients(["anna", "ben", "cora"])
        .set("roster.on_removed", r#""purge""#)
        .set("roster.removed_after", r#""0s""#);
    world.run(["sync"]).exits(0);
    world.list(&["anna", "ben"]);
    world.run(["sync"]).exits(0);
    let ran = world.run(["sync", "--dry-run"]).exits(0);
    assert!(ran.stdout.contains("would purge cora: "), "{ran}");
    assert!(ran.stdout.contains("(roster)"), "{ran}");
    assert_ne!(world.rows_anywhere("cora"), 0);
    assert_alike(&world, &[], 0);
    assert_eq!(world.rows_anywhere("cora"), 0);
}

#[test]
fn a_shrunk_roster_is_refused_by_a_dry_run_too() {
    let world = World::with_patients(["anna", "ben", "cora"])
        .set("roster.on_removed", r#""purge""#)
        .set("roster.removed_after", r#""0s""#)
        .set("consent.hold_after", "2");
    world.run(["sync"]).exits(0);
    world.list(&["anna"]);
    world.run(["sync"]).exits(0);
    world.run(["sync", "--dry-run"]).exits(2).says("has lost 2 of 3 patients");
    world.run(["sync", "--dry-run", "--allow-shrunk-roster"]).exits(0).says("would purge ben");
    world.run(["sync"]).exits(2);
}

#[test]
fn an_interrupted_pull_would_be_resumed() {
    let world = World::with_record(30).set("sync.page_size", "10").set("api.max_attempts", "1");
    world.fault("kind = 'status', status = 500, page = 3, times = 1");
    world.run(["sync"]).exits(3);
    world.sandbox.clear_requests();
    let rehearsed = world.run(["sync", "--dry-run", "--json"]).exits(0);
    let asked = world.queries("anna");
    assert_eq!(asked.len(), 2, "{asked:?}");
    let done = world.run(["sync", "--json"]).exits(0);
    assert_eq!(rehearsed.number("/resources/inserted"), done.number("/resources/inserted"));
    world.assert_equals_sandbox("anna");
}

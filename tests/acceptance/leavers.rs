//! Who leaves the roster, what vanished long ago, and whom an operator purges while a cycle runs.

use std::fs;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::time::{Duration, Instant};

use crate::world::{World, ago, observation_tail, wait_until};

/// A world that purges who has left the roster, synced once.
fn purging<const N: usize>(persons: [&str; N], removed_after: &str) -> World {
    let world = World::with_patients(persons)
        .set("roster.on_removed", r#""purge""#)
        .set("roster.removed_after", &format!("{removed_after:?}"));
    world.run(["sync"]).exits(0);
    world
}

fn purges(world: &World) -> i64 {
    world.count("SELECT count(*) FROM purge_log")
}

fn purged_by_roster(world: &World) -> i64 {
    world.count("SELECT count(*) FROM purge_log WHERE reason = 'roster'")
}

fn names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("sandbox-{number:04}")).collect()
}

fn csv(ids: &[String]) -> String {
    format!("id\n{}\n", ids.join("\n"))
}

#[test]
fn a_half_written_roster_purges_nobody() {
    let world =
        World::generated(20).set("roster.files", r#"["roster.csv"]"#).set("roster.on_removed", r#""purge""#);
    world.write("roster.csv", &csv(&names(20)));
    world.run(["sync"]).exits(0);
    world.write("roster.csv", &csv(&names(9)));
    for _ in 0..3 {
        world.run(["sync"]).exits(0).says_nothing_of("purged");
    }
    assert_eq!(purges(&world), 0);
    assert_eq!(world.count("SELECT count(*) FROM checkpoint WHERE missing_readings = 2"), 11);
    world.run(["status"]).exits(0).says("not on the roster since");
    world.run(["check", "--offline"]).exits(0).says("sandbox-0010: not on the roster since").says("1 more");
    world.write("roster.csv", &csv(&names(20)));
    world.run(["sync"]).exits(0);
    assert_eq!(world.count("SELECT count(*) FROM checkpoint WHERE missing_since IS NOT NULL"), 0);
}

#[test]
fn a_glob_that_lost_a_file_purges_nobody_and_holds_up_nobody() {
    let eight = ["anna", "ben", "cora", "dan", "eva", "finn", "gina", "hans"];
    let world = World::with_patients(eight)
        .set("roster.files", r#"["rosters/*.csv"]"#)
        .set("roster.on_removed", r#""purge""#)
        .set("roster.removed_after", r#""0s""#);
    world.write("rosters/a.csv", "id\nanna\nben\n");
    world.write("rosters/b.csv", "id\ncora\ndan\neva\nfinn\ngina\nhans\n");
    world.run(["sync"]).exits(0);
    fs::remove_file(world.path("rosters/b.csv")).unwrap();
    world.run(["sync"]).exits(0);
    world.run(["sync", "--dry-run"]).exits(2).says("has lost 6 of 8 patients");
    let held = world.run(["sync", "--json"]).exits(2).says("has lost 6 of 8 patients");
    assert_eq!(held.number("/patients/ok"), 2);
    assert_eq!(purges(&world), 0);
    world
        .run(["sync", "--dry-run", "--allow-shrunk-roster"])
        .exits(0)
        .says("would purge hans: 12 rows (roster)");
    world.run(["sync", "--allow-shrunk-roster"]).exits(0).says("purged hans: 12 rows (roster)");
    assert_eq!(purged_by_roster(&world), 6);
    world.assert_equals_sandbox("anna");

    // Those of the last 24 hours count too.
    world.write("rosters/a.csv", "id\nanna\n");
    world.run(["sync"]).exits(0);
    world.run(["sync"]).exits(2).says("has lost 7 of 8 patients");
    assert_eq!(world.rows("ben").len(), 6);
}

#[test]
fn a_glob_that_lost_a_file_has_not_lost_fewer_because_one_of_them_was_purged() {
    let world = World::with_patients(["anna", "ben", "cora", "dan", "eva", "finn"])
        .set("roster.files", r#"["rosters/*.csv"]"#)
        .set("roster.on_removed", r#""purge""#)
        .set("roster.removed_after", r#""0s""#);
    world.write("rosters/a.csv", "id\nanna\n");
    world.write("rosters/b.csv", "id\nben\ncora\ndan\neva\nfinn\n");
    world.run(["sync"]).exits(0);
    fs::remove_file(world.path("rosters/b.csv")).unwrap();
    world.run(["sync"]).exits(0);
    world.run(["sync"]).exits(2).says("has lost 5 of 6 patients");
    world.run(["purge", "ben", "--yes"]).exits(0);
    world.run(["sync", "--dry-run"]).exits(2).says("has lost 5 of 6 patients");
    world.run(["sync"]).exits(2).says("has lost 5 of 6 patients");
    assert_eq!(purged_by_roster(&world), 0);
    world.write("rosters/b.csv", "id\ncora\ndan\neva\nfinn\n");
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("cora");
}

#[test]
fn one_who_left_is_purged_by_the_second_reading_and_after_removed_after() {
    let world = purging(["anna", "ben"], "0s");
    world.list(&["ben"]);
    world.run(["sync", "--dry-run"]).exits(0).says_nothing_of("purge");
    world.run(["sync"]).exits(0).says_nothing_of("purged");
    world
        .run(["check", "--offline"])
        .exits(0)
        .says("anna: not on the roster since")
        .says("the next cycle purges it");
    world.run(["sync", "--dry-run"]).exits(0).says("would purge anna: 12 rows (roster)");
    assert_eq!(world.rows("anna").len(), 6);
    world.run(["sync"]).exits(0).says("purged anna: 12 rows (roster)");
    assert_eq!((world.rows_anywhere("anna"), purged_by_roster(&world)), (0, 1));
    world.scrub_on_server();
    assert!(!world.warehouse_bytes_contain("p-anna"));

    let world = purging(["anna", "ben"], "2h");
    world.list(&["ben"]);
    world.run(["sync"]).exits(0);
    world.run(["sync"]).exits(0);
    let missing = |seconds: u32| {
        world.exec(&format!(
            "UPDATE checkpoint SET missing_since = {} WHERE person_id = 'anna'",
            ago(seconds)
        ));
    };
    missing(7100);
    world.run(["sync"]).exits(0);
    assert_eq!(purges(&world), 0);
    let status = world.run(["status", "--json"]).exits(0).json();
    assert!(status["patients"][0]["missing_since"].is_string(), "{status}");
    missing(7200);
    world.run(["sync"]).exits(0);
    assert_eq!(purged_by_roster(&world), 1);
}

#[test]
fn one_who_is_listed_again_begins_anew() {
    let world = purging(["anna", "ben"], "0s");
    for _ in 0..3 {
        world.list(&["ben"]);
        world.run(["sync"]).exits(0);
        world.list(&["anna", "ben"]);
        world.run(["sync"]).exits(0);
    }
    assert_eq!(purges(&world), 0);
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_roster_that_cannot_be_read_is_no_reading() {
    let world = World::for_daemons(3)
        .set("sync.schedule", r#""every 1s""#)
        .set("roster.on_removed", r#""purge""#)
        .set("roster.removed_after", r#""0s""#);
    world.run(["sync"]).exits(0);
    // The reading that lacks one is the last good one.
    world.change_setting("sync.schedule", r#""every 7d""#);
    world.list_generated(2);
    let daemon = world.daemon();
    daemon.tells("STATUS=waiting");
    world.change_setting("sync.schedule", r#""every 1s""#);
    world.write_roster("[[patient]\n");
    daemon.hang_up();
    daemon.shows("healthex_sync_cycle_duration_seconds_count", |cycles| cycles >= 3);
    daemon.says("the last good one is kept");
    assert_eq!(purges(&world), 0);
    world.list_generated(2);
    daemon.shows("healthex_sync_purges_total{reason=\"roster\"}", |purges| purges == 1);
    daemon.stops();
}

#[test]
fn what_vanished_long_ago_is_removed_where_that_is_wanted() {
    let world = World::with_record(2500).set("sync.page_size", "500");
    world.run(["sync"]).exits(0);
    for number in 0..1100 {
        world.sandbox.remove("anna", &observation_tail("anna", number));
    }
    world.run(["sync", "--full"]).exits(0);
    let marked = "SELECT count(*) FROM observation WHERE deleted_at IS NOT NULL";
    assert_eq!(world.count(marked), 1100);
    world.exec("UPDATE observation SET deleted_at = '2020-01-01T00:00:00Z' WHERE deleted_at IS NOT NULL");
    world.run(["sync"]).exits(0);
    assert_eq!(world.count(marked), 1100, "kept for ever unless the setting says otherwise");

    world.change_setting("sync.keep_deleted", r#""30d""#);
    world.exec(&format!(
        "UPDATE observation SET deleted_at = {} WHERE key LIKE '%{}'",
        ago(29 * 86_400),
        observation_tail("anna", 7)
    ));
    world.run(["sync"]).exits(0).says("1099 rows were marked as deleted for longer than sync.keep_deleted");
    assert_eq!(world.count(marked), 1);
    world.assert_equals_sandbox("anna");
    world.assert_sound();
}

/// A cycle that waits for ben, whose server says nothing for so long.
fn stalled_by_ben(world: &World, seconds: u32) {
    world.fault(&format!("kind = 'stall_before_headers', person = 'ben', seconds = {seconds}, times = 1"));
    world.change_setting("api.idle_timeout", r#""60s""#);
    world.change_setting("api.page_timeout", r#""2m""#);
    world.sandbox.clear_requests();
}

#[test]
fn an_operators_purge_does_not_wait_for_the_end_of_a_cycle() {
    let world = World::with_patients(["anna", "ben", "cora"]);
    world.run(["sync"]).exits(0);
    stalled_by_ben(&world, 10);
    let mut cycle = world.start(["sync"]);
    wait_until("ben is asked for", || !world.asked("ben").is_empty());
    let began = Instant::now();
    world.run(["purge", "anna", "--yes"]).exits(0).says("anna: 12 rows removed");
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    assert!(!cycle.has_ended(), "the cycle goes on");
    assert_eq!(world.rows_anywhere("anna"), 0);
    assert!(!world.own_file(".purge-requests").exists());
    let unknown = world.run(["purge", "nobody", "--yes"]).exits(2);
    unknown.says("does not know this patient");

    cycle.ended().exits(0).says("purged anna: 12 rows (operator)");
    assert_eq!(world.state("anna"), "paused");
    assert_ne!(world.ask("SELECT by FROM purge_log").as_deref(), Some("healthex-sync"));
    world.scrub_on_server();
    assert_eq!(world.count("SELECT count(*) FROM purge_log WHERE scrubbed_at IS NULL"), 0);
    assert!(!world.warehouse_bytes_contain("p-anna"));
    world.assert_equals_sandbox("ben");
}

#[test]
fn the_pull_of_a_patient_that_is_purged_is_stopped_and_nothing_is_stored_behind_it() {
    let world = World::with_record(30).set("sync.page_size", "10");
    world.fault("kind = 'stall_before_headers', person = 'anna', page = 3, seconds = 30, times = 1");
    world.change_setting("api.idle_timeout", r#""60s""#);
    world.change_setting("api.page_timeout", r#""2m""#);
    let cycle = world.start(["sync"]);
    wait_until("the third page is asked for", || world.asked("anna").len() == 3);
    world.run(["purge", "anna", "--yes"]).exits(0).says("anna: 40 rows removed");
    cycle.ended().exits(0).says("purged anna: 40 rows (operator)");
    assert_eq!(world.asked("anna").len(), 3);
    assert_eq!((world.rows_anywhere("anna"), world.state("anna").as_str()), (0, "paused"));
    assert_eq!(world.count("SELECT count(*) FROM pull"), 0);
    world.assert_sound();

    world.run(["sync", "--patient", "anna"]).exits(0);
    world.assert_equals_sandbox("anna");
}

/// Leaves an order as a command does that is killed before anybody has heeded it.
fn leave_order(world: &World, name: &str, requested_at: &str) {
    let folder = world.own_file(".purge-requests");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).unwrap();
    let mut order =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(name)).unwrap();
    write!(order, r#"{{"by": "nina", "requested_at": "{requested_at}"}}"#).unwrap();
}

#[test]
fn an_order_of_a_command_that_was_killed_stands_for_a_day() {
    let world = World::with_patients(["anna", "ben", "cora"]);
    world.run(["sync"]).exits(0);
    let now = ago(0);
    let now = now.trim_matches('\'');
    leave_order(&world, "anna", now);
    leave_order(&world, "ben", "2020-01-01T00:00:00Z");
    leave_order(&world, "no such id", now);
    world.sandbox.clear_requests();
    let ran = world.run(["sync"]).exits(0).says("purged anna: 12 rows (operator)");
    assert!(ran.stderr.contains("older than a day"), "{ran}");
    assert_eq!(world.ask("SELECT by FROM purge_log").as_deref(), Some("nina"));
    assert_eq!(world.rows("ben").len(), 6);
    assert_eq!(world.state("anna"), "paused");

    // Taken by a holder that was killed: who orders it again and finds nobody purges by itself.
    leave_order(&world, "cora=taken", now);
    world.run(["purge", "cora", "--yes"]).exits(0).says("cora: 12 rows removed");
    assert!(!world.own_file(".purge-requests/cora=taken").exists());
}

//! A refusal is believed on evidence only, written down at once, and then acted on without delay.

use crate::world::{World, ago, observation, wait_until};

const ALL: [&str; 8] = ["anna", "ben", "cora", "dan", "eva", "finn", "gus", "hal"];

/// A roster of the first so many, synced once.
fn roster_of(count: usize) -> World {
    let world = World::with_patients(ALL);
    world.list(&ALL[..count]);
    world.run(["sync"]).exits(0);
    world.sandbox.clear_requests();
    world
}

fn purges(world: &World) -> i64 {
    world.count("SELECT count(*) FROM purge_log")
}

fn held_why(world: &World, person: &str) -> Option<String> {
    world.checkpoint(person, "held_why")
}

/// Everything is refused with JSON, as a gateway whose permissions are broken does.
const BROKEN_ACCESS: &str = "kind = 'status', status = 403";

#[test]
fn while_access_is_broken_nobody_is_lost_however_small_the_roster() {
    for count in 1..=7 {
        let world = roster_of(count);
        world.fault(BROKEN_ACCESS);
        for _ in 0..2 {
            let ran = world.run(["sync", "--json"]).exits(3);
            assert_eq!(ran.number("/patients/held"), count as u64, "{ran}");
        }
        for person in &ALL[..count] {
            assert_eq!(world.state(person), "held");
            assert_eq!(held_why(&world, person).as_deref(), Some("alone"));
            assert_eq!(world.rows(person).len(), 6);
        }
        assert_eq!(purges(&world), 0, "a roster of {count}");
        world.sandbox.clear_script();
        world.run(["sync"]).exits(0).says(&format!("{count} ok"));
        for person in &ALL[..count] {
            assert_eq!(world.state(person), "active");
            assert_eq!(held_why(&world, person), None);
            assert_eq!(world.checkpoint(person, "refused_at"), None);
        }
    }
}

#[test]
fn a_fault_that_begins_in_the_middle_of_a_cycle_purges_nobody() {
    let world = roster_of(8);
    world.change_setting("sync.concurrency", "1");
    // The fourth request of the cycle for a patient is the first that is refused.
    world.fault("kind = 'status', status = 403, from_request = 1, person = 'dan'");
    for person in ["eva", "finn", "gus", "hal"] {
        world.fault(&format!("kind = 'status', status = 403, person = '{person}'"));
    }
    for person in ["anna", "ben", "cora"] {
        // Pulled well, and refused when they are asked as witnesses.
        world.fault(&format!("kind = 'status', status = 403, from_request = 2, person = '{person}'"));
    }
    let ran = world.run(["sync", "--json"]).exits(3);
    assert_eq!((ran.number("/patients/ok"), ran.number("/patients/held")), (3, 5), "{ran}");
    assert_eq!(purges(&world), 0);
}

#[test]
fn alone_a_refusal_is_believed_after_a_day_of_nothing_else() {
    let world = roster_of(1);
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(3).says("1 held");
    let refused_at = world.checkpoint("anna", "refused_at").unwrap();
    world.run(["sync"]).exits(3).says("1 held");
    assert_eq!(world.checkpoint("anna", "refused_at").unwrap(), refused_at, "of the first in the row");
    world.exec("UPDATE checkpoint SET refused_at = '2026-01-01T00:00:00Z'");
    world.run(["sync"]).exits(0).says("1 revoked");
    assert_eq!(world.rows_anywhere("anna"), 0);
    let logged = "SELECT count(*) FROM purge_log WHERE refused_at = '2026-01-01T00:00:00Z'";
    assert_eq!(world.count(logged), 1);
}

#[test]
fn one_permitted_answer_begins_the_day_anew() {
    let world = roster_of(1);
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(3);
    world.exec("UPDATE checkpoint SET refused_at = '2026-01-01T00:00:00Z'");
    world.sandbox.grant("anna");
    world.run(["sync"]).exits(0).says("1 ok");
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(3).says("1 held");
    assert_eq!(purges(&world), 0);
}

#[test]
fn half_a_roster_refused_is_held_beside_those_that_are_permitted() {
    let world = roster_of(8);
    for person in &ALL[..5] {
        world.sandbox.withdraw(person);
    }
    let ran = world.run(["sync", "--json"]).exits(3);
    assert_eq!((ran.number("/patients/ok"), ran.number("/patients/held")), (3, 5), "{ran}");
    assert_eq!(held_why(&world, "anna").as_deref(), Some("many"));
    assert_eq!(
        ran.stderr.lines().filter(|line| line.contains("held, and their data kept")).count(),
        1,
        "{ran}"
    );
    assert_eq!(purges(&world), 0);
}

#[test]
fn a_few_in_each_cycle_are_counted_over_a_day() {
    let world = roster_of(8);
    for person in &ALL[..4] {
        world.sandbox.withdraw(person);
    }
    world.run(["sync"]).exits(0).says("4 revoked");
    for person in &ALL[4..7] {
        world.sandbox.withdraw(person);
    }
    world.run(["sync"]).exits(3).says("3 held");
    assert_eq!(purges(&world), 4);
    world.age_purges();
    // Held as many, they leave only by a 200 or an operator's word.
    world.run(["sync"]).exits(3).says("3 held");
    assert_eq!(purges(&world), 4);
}

#[test]
fn no_restart_forgets_a_refusal() {
    let world = roster_of(3);
    world.sandbox.withdraw("anna");
    // No token to ask again with: the round cannot be held.
    world.fault("kind = 'status', status = 500, at = 'token', from_request = 2");
    world.run(["sync"]).exits(3);
    assert_eq!(world.state("anna"), "refused");
    assert_eq!(world.rows("anna").len(), 6);
    world.run(["status"]).says("refused");

    world.sandbox.clear_script();
    world.sandbox.clear_requests();
    world.run(["sync"]).exits(0).says("1 revoked");
    // The cycle has begun with it.
    let first = world.sandbox.requests().iter().find_map(|request| request.person.clone());
    assert!(world.asked("anna").iter().all(|request| request.query == "_count=1"));
    assert_ne!(first, None);
    assert_eq!(world.rows_anywhere("anna"), 0);
}

#[test]
fn a_refusal_is_on_the_disk_before_the_cycle_has_ended() {
    let world = roster_of(2);
    world.change_setting("sync.concurrency", "1");
    world.exec("UPDATE checkpoint SET last_success_at = '2026-01-01T00:00:00Z' WHERE person_id = 'anna'");
    world.sandbox.withdraw("anna");
    world.fault("kind = 'stall_before_headers', person = 'ben'");
    let running = world.start(["sync"]);
    wait_until("ben is asked for", || !world.asked("ben").is_empty());
    running.kill();
    assert_eq!(world.state("anna"), "refused");
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0).says("1 revoked");
}

#[test]
fn only_a_bundle_permits() {
    let world = roster_of(2);
    world.sandbox.withdraw("anna");
    world.fault("kind = 'html_200', person = 'ben', from_request = 2");
    // The witness answers with a page of HTML: that is no permission.
    world.run(["sync"]).exits(3).says("1 held");
    assert_eq!(held_why(&world, "anna").as_deref(), Some("alone"));
}

#[test]
fn a_mistaken_purge_heals_in_the_next_cycle() {
    let world = roster_of(3);
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(0).says("1 revoked");
    world.sandbox.grant("anna");
    world.sandbox.put("anna", Some("Observation/new"), &observation("anna", 50, "new"));
    world.run(["sync"]).exits(0).says("3 ok");
    assert_eq!(world.pull("anna", "mode").as_deref(), Some("full"));
    world.assert_equals_sandbox("anna");
    assert_eq!(world.checkpoint("anna", "purged_at"), None);
}

#[test]
fn what_is_left_of_a_purged_patient_is_its_id_with_times_and_the_reason() {
    let world = World::with_patients(["anna", "ben"]);
    world.write_roster("[[patient]]\nid = \"anna\"\nlabel = \"Mondkalb-7\"\n[[patient]]\nid = \"ben\"\n");
    world.run(["sync"]).exits(0);
    assert!(world.warehouse_bytes_contain("Mondkalb-7"));
    world.sandbox.withdraw("anna");
    let ran = world.run(["sync"]).exits(0).says("1 revoked");
    assert!(ran.stdout.contains("purged Mondkalb-7: "), "{ran}");
    world.scrub_on_server();
    for cycle in 0..2 {
        assert!(!world.warehouse_bytes_contain("Mondkalb-7"), "after {cycle} more cycles");
        for column in ["label", "watermark", "last_error", "last_success_at", "pull_mode"] {
            assert_eq!(world.checkpoint("anna", column), None, "{column}");
        }
        assert_eq!(world.count("SELECT count(*) FROM freshness WHERE person_id = 'anna'"), 0);
        assert_eq!(
            world.count("SELECT count(*) FROM pull WHERE person_id = 'anna' AND outcome <> 'revoked'"),
            0
        );
        world.run(["sync"]).exits(0);
    }
    world.assert_sound();
    // No longer listed, it is only in the purge log.
    world.list(&["ben"]);
    world.run(["sync"]).exits(0);
    for table in ["checkpoint", "pull"] {
        assert_eq!(
            world.count(&format!("SELECT count(*) FROM {table} WHERE person_id = 'anna'")),
            0,
            "{table}"
        );
    }
    assert_eq!(purges(&world), 1);
}

#[test]
fn an_operator_asks_the_held_again_before_they_are_purged() {
    let world = roster_of(8);
    for person in &ALL[..6] {
        world.sandbox.withdraw(person);
    }
    world.run(["sync"]).exits(3).says("6 held");
    world.sandbox.grant("anna");
    world.run(["purge", "--held", "--yes", "--expect", "6"]).exits(2).says("5 held patients would be purged");
    assert_eq!(purges(&world), 0);
    assert_eq!(world.state("anna"), "held");
    let ran = world.run(["purge", "--held", "--yes", "--expect", "5"]).exits(0);
    assert!(ran.stdout.contains("5 purged, 1 released"), "{ran}");
    assert_eq!(purges(&world), 5);
    assert_eq!(world.state("anna"), "active");
    assert_eq!(world.rows("anna").len(), 6);
    let by = world.ask("SELECT DISTINCT by FROM purge_log").unwrap();
    assert_ne!(by, "healthex-sync");
}

#[test]
fn held_patients_that_cannot_be_asked_stay_held() {
    let world = roster_of(2);
    world.fault(BROKEN_ACCESS);
    world.run(["sync"]).exits(3).says("2 held");
    world.sandbox.clear_script();
    world.fault("kind = 'status', status = 404, person = 'anna'");
    let ran = world.run(["purge", "--held", "--yes"]).exits(3);
    assert!(ran.stdout.contains("1 released, 1 still held"), "{ran}");
    assert_eq!(purges(&world), 0);
}

const A_DAY_AND_AN_HOUR: u32 = 25 * 3600;

#[test]
fn those_who_wait_for_a_witness_count_with_those_who_have_waited_enough() {
    let world = roster_of(7);
    world.fault(BROKEN_ACCESS);
    world.run(["sync"]).exits(3).says("7 held");
    world.exec(&format!(
        "UPDATE checkpoint SET refused_at = {} WHERE person_id IN ('anna', 'ben', 'cora', 'dan')",
        ago(A_DAY_AND_AN_HOUR)
    ));
    world.run(["sync"]).exits(3).says("7 held");
    assert_eq!(purges(&world), 0);
    assert_eq!(held_why(&world, "anna").as_deref(), Some("many"));
    assert_eq!(held_why(&world, "eva").as_deref(), Some("alone"));
}

#[test]
fn an_answer_that_is_no_refusal_begins_the_row_anew() {
    let world = roster_of(1);
    // Refused when it is pulled and in the round; then not known once; then refused again.
    world.fault("kind = 'status', status = 403, person = 'anna', times = 2");
    world.fault("kind = 'status', status = 404, person = 'anna', from_request = 3, times = 1");
    world.fault("kind = 'status', status = 403, person = 'anna', from_request = 4");
    world.run(["sync"]).exits(3).says("1 held");
    world.exec(&format!("UPDATE checkpoint SET refused_at = {}", ago(A_DAY_AND_AN_HOUR)));
    world.run(["sync"]).exits(3);
    assert_eq!(world.state("anna"), "held");
    world.run(["sync"]).exits(3).says("1 held");
    assert_eq!(purges(&world), 0);

    world.exec(&format!("UPDATE checkpoint SET refused_at = {}", ago(A_DAY_AND_AN_HOUR)));
    world.run(["sync"]).exits(0).says("1 revoked");
}

#[test]
fn a_refusal_that_a_wrong_clock_has_put_ahead_does_not_wait_for_it() {
    let world = roster_of(1);
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(3).says("1 held");
    world.exec("UPDATE checkpoint SET refused_at = '2999-01-01T00:00:00Z'");
    world.run(["sync"]).exits(3).says("1 held");
    assert!(world.checkpoint("anna", "refused_at").unwrap().as_str() < "2999");
}

#[test]
fn a_witness_may_be_failing() {
    let world = roster_of(2);
    world.change_setting("sync.page_size", "2");
    world.sandbox.withdraw("anna");
    // The first page comes, and the second does not.
    world.fault("kind = 'status', status = 400, person = 'ben', page = 2");
    world.run(["sync", "--full"]).exits(3).says("1 revoked");
    assert_eq!(world.state("ben"), "failing");
    assert_eq!(world.rows_anywhere("anna"), 0);
}

#[test]
fn a_fault_that_begins_after_the_witness_was_asked_purges_nobody() {
    let world = roster_of(4);
    // The last of the roster is permitted when it is pulled and when it is asked before the others.
    for person in &ALL[..3] {
        world.fault(&format!("kind = 'status', status = 403, person = '{person}'"));
    }
    world.fault("kind = 'status', status = 403, person = 'dan', from_request = 3");
    world.run(["sync"]).exits(3).says("3 held");
    assert_eq!(purges(&world), 0);
}

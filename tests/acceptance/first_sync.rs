//! The road from a roster to rows: full, incremental, resumed and rehearsed.

use std::os::unix::fs::PermissionsExt;

use healthex_sync::time::{TimeDelta, Timestamp};
use serde_json::Value;

use crate::world::{World, observation, observation_tail, wait_until};

#[test]
fn a_first_sync_brings_everything_as_it_was_sent() {
    let world = World::with_patients(["anna", "ben"]);

    let ran = world.run(["sync"]).exits(0);

    assert!(ran.stdout.contains("2 ok"), "{ran}");
    world.assert_equals_sandbox("anna");
    world.assert_equals_sandbox("ben");
    world.assert_sound();
    assert_eq!(world.state("anna"), "active");
    let digits = "SELECT count(*) FROM observation WHERE resource LIKE '%\"value\":1.50}%'";
    assert_eq!(world.count(digits), 8);
}

#[test]
fn pages_follow_each_other_until_there_is_none() {
    let world = World::with_record(33);
    let ran = world.run(["sync", "--json"]).exits(0);
    assert_eq!(ran.number("/pages"), 4);
    assert_eq!(ran.number("/resources/inserted"), 35);
    world.assert_equals_sandbox("anna");
}

#[test]
fn an_unpaged_answer_is_one_page() {
    let world = World::with_record(1200).set("sync.page_size", "0");
    let ran = world.run(["sync", "--json"]).exits(0);
    assert_eq!(ran.number("/pages"), 1);
    assert_eq!(world.queries("anna"), [""]);
    world.assert_equals_sandbox("anna");
}

#[test]
fn count_and_type_are_sent() {
    let world = World::with_record(13).set("sync.types", r#"["Observation", "Patient"]"#);
    world.run(["sync"]).exits(0);
    for query in world.queries("anna") {
        assert!(query.contains("_count=10"), "{query}");
        let types = query.replace("%2C", ",");
        let either = ["Observation,Patient", "Patient,Observation"];
        assert!(either.iter().any(|pair| types.contains(&format!("_type={pair}"))), "{query}");
        assert!(!query.contains("_since"), "{query}");
    }
    assert_eq!(world.count("SELECT count(*) FROM person"), 0);
}

#[test]
fn the_next_since_is_the_start_of_the_pull_less_the_overlap() {
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    let first_asked_at = world.asked("anna")[0].at;
    let watermark = world.watermark("anna").unwrap();
    assert!(watermark.ends_with('Z') && !watermark.contains('.'), "{watermark}");
    let back = first_asked_at - Timestamp::parse(&watermark).unwrap();
    let hour = TimeDelta::hours(1);
    assert!(back >= hour && back < hour + TimeDelta::seconds(4), "{back:?}");

    world.sandbox.clear_requests();
    world.run(["sync"]).exits(0);
    let query = world.queries("anna").remove(0).replace("%3A", ":");
    assert!(query.contains(&format!("_since={watermark}")), "{query}");
}

#[test]
fn a_server_whose_clock_is_behind_sets_the_watermark() {
    let world = World::with_patients(["anna"]);
    world.sandbox.set_clock_offset(-3 * 3600);
    world.run(["sync"]).exits(0);
    let watermark = world.watermark("anna").unwrap();
    let watermark = Timestamp::parse(&watermark).unwrap();
    assert!(watermark <= world.asked("anna")[0].at - TimeDelta::hours(1));

    // What changes by that clock is found by the next pull.
    let changed = observation("anna", 1, "changed");
    world.sandbox.put("anna", Some(&observation_tail("anna", 1)), &changed);
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_server_whose_clock_is_ahead_does_not_set_it() {
    let world = World::with_patients(["anna"]);
    world.sandbox.set_clock_offset(3 * 3600);
    world.run(["sync"]).exits(0);
    let watermark = world.watermark("anna").unwrap();
    let watermark = Timestamp::parse(&watermark).unwrap();
    // Ours, which is three hours behind what the server says.
    assert!(watermark <= world.asked("anna")[0].at - TimeDelta::hours(4));
}

#[test]
fn a_watermark_later_than_now_asks_for_a_full_pull() {
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    world.exec("UPDATE checkpoint SET watermark = '2999-01-01T00:00:00Z'");
    world.run(["sync"]).exits(0);
    assert_eq!(world.pull("anna", "mode").as_deref(), Some("full"));
    assert!(world.watermark("anna").unwrap().as_str() < "2999");
}

#[test]
fn an_incremental_sync_touches_just_what_changed() {
    let world = World::with_record(30);
    world.run(["sync"]).exits(0);
    let changed = observation("anna", 3, "changed since");
    world.sandbox.put("anna", Some(&observation_tail("anna", 3)), &changed);
    world.sandbox.put("anna", Some("Observation/new"), &observation("anna", 99, "new"));

    let ran = world.run(["sync", "--json"]).exits(0);

    assert_eq!(ran.number("/resources/inserted"), 1);
    assert_eq!(ran.number("/resources/updated"), 1);
    assert_eq!(ran.number("/resources/unchanged"), 0);
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_second_sync_writes_no_row() {
    let world = World::with_record(30);
    world.run(["sync"]).exits(0);
    let before = world.ask("SELECT group_concat(key || changed_at || first_seen_at) FROM (SELECT * FROM observation ORDER BY key)");

    let again = world.run(["sync", "--json"]).exits(0);
    let full = world.run(["sync", "--full", "--json"]).exits(0);

    for ran in [&again, &full] {
        assert_eq!(ran.number("/resources/inserted"), 0, "{ran}");
        assert_eq!(ran.number("/resources/updated"), 0, "{ran}");
    }
    assert_eq!(full.number("/resources/unchanged"), 32);
    let after = world.ask("SELECT group_concat(key || changed_at || first_seen_at) FROM (SELECT * FROM observation ORDER BY key)");
    assert_eq!(before, after);
}

#[test]
fn white_space_that_changes_changes_nothing() {
    let world = World::with_record(2);
    world.run(["sync"]).exits(0);
    let spaced = observation("anna", 1, "as at first").replacen(':', " :  ", 3);
    world.sandbox.put("anna", Some(&observation_tail("anna", 1)), &spaced);
    let ran = world.run(["sync", "--json"]).exits(0);
    assert_eq!(ran.number("/resources/unchanged"), 1);
    assert_eq!(ran.number("/resources/updated"), 0);
}

#[test]
fn one_token_serves_a_whole_cycle() {
    let world = World::with_patients(["anna", "ben", "cora", "dan", "eva", "finn"]);
    world.run(["sync"]).exits(0);
    assert_eq!(world.tokens_minted(), 1);
}

#[test]
fn a_pull_that_was_killed_goes_on_at_the_next_page() {
    let world = World::with_record(58);
    world.fault("kind = 'stall_before_headers', page = 4, times = 1");
    let running = world.start(["sync"]);
    wait_until("page 4 is asked for", || world.asked("anna").len() == 4);
    running.kill();
    let started = world.checkpoint("anna", "pull_started_at").unwrap();
    world.sandbox.clear_requests();

    world.run(["sync"]).exits(0);

    let queries = world.queries("anna");
    assert_eq!(queries.len(), 3, "{queries:?}");
    assert!(queries[0].contains("_offset=30"), "{queries:?}");
    world.assert_equals_sandbox("anna");
    // The watermark is that of the pull's first start.
    let watermark = Timestamp::parse(&world.watermark("anna").unwrap()).unwrap();
    let started = Timestamp::parse(&started).unwrap();
    assert_eq!(started - watermark, TimeDelta::hours(1));
    let cut_off = "SELECT count(*) FROM pull WHERE outcome = 'interrupted'";
    assert_eq!(world.count(cut_off), 1);
    assert_eq!(world.checkpoint("anna", "pull_mode"), None);
    assert_eq!(world.checkpoint("anna", "pull_next_url"), None);
}

#[test]
fn a_resume_link_that_is_gone_starts_the_pull_again() {
    for status in [400, 410] {
        let world = World::with_record(38);
        world.fault("kind = 'stall_before_headers', page = 3, times = 1");
        let running = world.start(["sync"]);
        wait_until("page 3 is asked for", || world.asked("anna").len() == 3);
        running.kill();
        world.fault(&format!("kind = 'status', status = {status}, page = 3, times = 1"));
        world.run(["sync"]).exits(0);
        world.assert_equals_sandbox("anna");
    }
}

#[test]
fn the_summary_as_json_has_every_number() {
    let world = World::with_patients(["anna", "ben"]);
    let ran = world.run(["sync", "--json"]).exits(0);
    assert_eq!(ran.stdout.lines().count(), 1, "{ran}");
    assert_eq!(ran.number("/patients/total"), 2);
    assert_eq!(ran.number("/patients/ok"), 2);
    for name in ["revoked", "held", "not_found", "failed", "skipped"] {
        assert_eq!(ran.number(&format!("/patients/{name}")), 0);
    }
    assert_eq!(ran.number("/resources/inserted"), 12);
    for name in ["updated", "unchanged", "deleted", "quarantined"] {
        assert_eq!(ran.number(&format!("/resources/{name}")), 0);
    }
    assert_eq!(ran.number("/pages"), 2);
    // The token is a request too.
    assert_eq!(ran.number("/requests"), 3);
    assert!(ran.number("/bytes") > 1000);
    assert!(ran.json()["seconds"].as_f64().unwrap() > 0.0);
}

fn patient<'a>(status: &'a Value, id: &str) -> &'a Value {
    let patients = status["patients"].as_array().unwrap();
    patients.iter().find(|patient| patient["id"] == id).unwrap()
}

#[test]
fn status_shows_each_patient_and_the_totals() {
    let world = World::with_patients(["anna", "ben"]);
    world.write_roster("[[patient]]\nid = \"anna\"\nlabel = \"study-1\"\n[[patient]]\nid = \"ben\"\n");
    world.run(["sync"]).exits(0);
    let ran = world.run(["status", "--json"]).exits(0);
    let json = ran.json();
    let anna = patient(&json, "anna");
    assert_eq!(anna["label"], "study-1");
    assert_eq!(anna["state"], "active");
    assert_eq!(anna["resources"], 6);
    assert_eq!(anna["failures"], 0);
    assert!(patient(&json, "ben")["label"].is_null());
    assert_eq!(json["resources"]["observation"], 8);
    for key in ["watermark", "last_success_at", "next_attempt_at", "last_error"] {
        assert!(anna.get(key).is_some(), "{key}");
    }
    world.run(["status"]).exits(0).says("study-1").says("active");

    world.fault("kind = 'status', status = 400, person = 'ben'");
    world.run(["sync"]).exits(3);
    let ran = world.run(["status", "--json"]).exits(3);
    assert_eq!(patient(&ran.json(), "ben")["state"], "failing");
    world.run(["status"]).exits(3).says("failing");
}

#[test]
fn the_files_are_for_their_owner_alone() {
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(world.path("data")), 0o700);
    for file in std::fs::read_dir(world.path("data")).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(path.clone()), 0o600, "{}", path.display());
    }
}

#[test]
fn a_patient_that_is_asked_for_is_pulled_alone() {
    let world = World::with_patients(["anna", "ben"]);
    world.run(["sync", "--patient", "ben"]).exits(0).says("1 ok");
    assert!(world.asked("anna").is_empty());
    world.assert_equals_sandbox("ben");
    world.run(["sync", "--patient", "nobody"]).exits(2);
}

#[test]
fn a_disabled_patient_is_not_pulled_unless_named() {
    let world = World::with_patients(["anna", "ben"]);
    world.write_roster("[[patient]]\nid = \"anna\"\nenabled = false\n[[patient]]\nid = \"ben\"\n");
    let ran = world.run(["sync", "--json"]).exits(0);
    assert_eq!(ran.number("/patients/skipped"), 1);
    assert!(world.asked("anna").is_empty());
    world.run(["sync", "--patient", "anna"]).exits(0);
    world.assert_equals_sandbox("anna");
}

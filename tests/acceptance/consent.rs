//! A withdrawn consent takes everything of its patient, and no mistake takes anything else.

use std::fs;
use std::process::Command;

use crate::world::{NAME_CANARY, TEXT_CANARY, World, observation, observation_tail, wait_until};

/// Synced once, with a log of requests that begins after it.
fn synced<const N: usize>(persons: [&str; N]) -> World {
    let world = World::with_patients(persons);
    world.run(["sync"]).exits(0);
    world.sandbox.clear_requests();
    world
}

const EIGHT: [&str; 8] = ["anna", "ben", "cora", "dan", "eva", "finn", "gus", "hal"];

fn purges(world: &World) -> i64 {
    world.count("SELECT count(*) FROM purge_log")
}

#[track_caller]
fn assert_no_byte_left(world: &World, person: &str) {
    world.scrub_on_server();
    for canary in [NAME_CANARY, TEXT_CANARY] {
        let needle = format!("{canary}-{person}");
        assert!(!world.warehouse_bytes_contain(&needle), "{needle} is left");
    }
    let resource = format!("p-{person}");
    assert!(!world.warehouse_bytes_contain(&resource), "{resource}");
}

#[test]
fn a_withdrawn_patient_leaves_no_byte_behind() {
    let world = synced(["anna", "ben"]);
    assert!(world.warehouse_bytes_contain("Zimtstern-anna"));
    world.sandbox.withdraw("anna");

    world.run(["sync"]).exits(0).says("1 revoked");

    assert_eq!(world.rows_anywhere("anna"), 0);
    world.assert_equals_sandbox("ben");
    assert_no_byte_left(&world, "anna");
    assert!(world.warehouse_bytes_contain("Zimtstern-ben"));
    assert_eq!(world.state("anna"), "revoked");
    assert_eq!(world.watermark("anna"), None);
    assert_eq!(world.checkpoint("anna", "last_error"), None);
    assert_eq!(purges(&world), 1);
    let scrubbed =
        "SELECT count(*) FROM purge_log WHERE scrubbed_at IS NOT NULL AND reason = 'consent_revoked'";
    assert_eq!(world.count(scrubbed), 1);
    world.assert_sound();
}

#[test]
fn rows_that_grew_and_shrank_before_leave_no_byte_either() {
    let world = World::with_record(60).set("sync.page_size", "500");
    world.sandbox.add_person("ben", crate::world::record("ben", 60));
    world.list(&["anna", "ben"]);
    world.run(["sync"]).exits(0);
    for round in 0..4_usize {
        for number in 0..60 {
            let length = (number * 37 + round * 911) % 6000;
            for person in ["anna", "ben"] {
                let text = observation(person, number, &"long ".repeat(length / 5));
                let tail = observation_tail(person, number);
                world.sandbox.put(person, Some(&tail), &text);
            }
        }
        world.run(["sync"]).exits(0);
    }
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(0);
    assert_no_byte_left(&world, "anna");
    world.assert_equals_sandbox("ben");
}

#[test]
fn the_confirmation_is_one_fresh_token_unfiltered_and_at_the_end() {
    let world = synced(["anna", "ben", "cora"]);
    world.sandbox.withdraw("anna");
    world.sandbox.withdraw("ben");
    world.run(["sync"]).exits(0).says("2 revoked");
    assert_eq!(world.tokens_minted(), 2);
    let requests = world.sandbox.requests();
    let is_new = |token: Option<u32>| token == requests.iter().filter_map(|r| r.token).max();
    let (confirming, before): (Vec<_>, Vec<_>) =
        requests.iter().filter(|request| request.person.is_some()).partition(|request| is_new(request.token));
    // The two that were refused, and cora, who was permitted, as a witness before and after them.
    let asked: Vec<_> = confirming.iter().map(|request| request.person.as_deref().unwrap()).collect();
    assert_eq!((asked.len(), asked[0], asked[3]), (4, "cora", "cora"));
    assert!(asked.contains(&"anna") && asked.contains(&"ben"));
    assert_eq!(before.len(), 3);
    for request in &confirming {
        assert_eq!(request.query, "_count=1");
        assert!(before.iter().all(|earlier| earlier.number < request.number));
    }
}

#[test]
fn a_stray_403_is_pulled_in_the_same_cycle() {
    let world = synced(["anna", "ben"]);
    world.sandbox.put("anna", Some("Observation/new"), &observation("anna", 50, "new"));
    world.fault("kind = 'forbidden_once', person = 'anna'");
    world.run(["sync"]).exits(0).says("2 ok");
    world.assert_equals_sandbox("anna");
    assert_eq!(purges(&world), 0);
}

#[test]
fn a_403_that_only_the_filter_brings_fails_the_patient() {
    let world = synced(["anna", "ben"]);
    world.change_setting("sync.types", r#"["Observation"]"#);
    // Pulled with its filter: refused. Asked without: permitted. Pulled again: refused.
    world.fault("kind = 'status', status = 403, person = 'anna', times = 1");
    world.fault("kind = 'status', status = 403, person = 'anna', from_request = 3");
    world.run(["sync"]).exits(3).says("1 failed");
    assert_eq!(world.rows("anna").len(), 6);
    assert_eq!(world.state("anna"), "failing");
    assert_eq!(purges(&world), 0);
}

#[test]
fn a_proxys_403_purges_nothing() {
    let world = synced(["anna", "ben"]);
    world.fault("kind = 'status', status = 403, body = 'html', person = 'anna'");
    world.run(["sync"]).exits(3).says("1 failed");
    assert_eq!(world.rows("anna").len(), 6);
    assert_eq!(purges(&world), 0);
}

#[test]
fn a_403_is_believed_with_an_outcome_other_json_or_nothing_in_it() {
    for body in ["json_outcome", "json", "empty"] {
        let world = synced(["anna", "ben"]);
        world.fault(&format!("kind = 'status', status = 403, body = '{body}', person = 'anna'"));
        world.run(["sync"]).exits(0).says("1 revoked");
        assert_eq!(world.rows_anywhere("anna"), 0, "{body}");
    }
}

#[test]
fn a_confirmation_that_meets_anything_but_a_403_purges_nothing() {
    for answer in [
        "kind = 'status', status = 403, body = 'html'",
        "kind = 'status', status = 500",
        "kind = 'status', status = 404",
        "kind = 'status', status = 401",
        "kind = 'status', status = 400",
        "kind = 'status', status = 429",
        "kind = 'status', status = 451",
        "kind = 'accept_and_close'",
        "kind = 'html_200'",
        "kind = 'redirect', location = '/elsewhere'",
    ] {
        let world = synced(["anna", "ben"]);
        world.fault("kind = 'status', status = 403, person = 'anna', times = 1");
        world.fault(&format!("{answer}, person = 'anna'"));
        let ran = world.run(["sync"]);
        assert_ne!(ran.code, 0, "{answer}: {ran}");
        assert_eq!(world.rows("anna").len(), 6, "{answer}");
        assert_ne!(world.state("anna"), "revoked", "{answer}");
        assert_eq!(purges(&world), 0, "{answer}");
    }
}

#[test]
fn without_a_fresh_token_nothing_is_purged() {
    let world = synced(["anna", "ben"]);
    world.sandbox.withdraw("anna");
    world.fault("kind = 'status', status = 500, at = 'token', from_request = 2");
    let ran = world.run(["sync"]);
    assert_ne!(ran.code, 0, "{ran}");
    assert_eq!(world.rows("anna").len(), 6);
    assert_eq!(purges(&world), 0);
}

#[test]
fn a_403_in_the_middle_of_a_pull_is_confirmed_like_any() {
    let world = World::with_record(35).set("consent.alone_after", r#""0s""#);
    world.run(["sync"]).exits(0);
    world.fault("kind = 'status', status = 403, page = 3");
    world.fault("kind = 'status', status = 403, from_request = 4");
    world.run(["sync", "--full"]).exits(0).says("1 revoked");
    assert_eq!(world.rows_anywhere("anna"), 0);
    assert_no_byte_left(&world, "anna");
    assert_eq!(world.checkpoint("anna", "pull_next_url"), None);
}

#[test]
fn many_refused_at_once_are_held_and_none_is_lost() {
    let world = synced(EIGHT);
    for person in EIGHT {
        world.sandbox.withdraw(person);
    }

    let ran = world.run(["sync", "--json"]).exits(3);

    assert_eq!(ran.number("/patients/held"), 8);
    assert!(ran.stderr.contains("held"), "{ran}");
    for person in EIGHT {
        assert_eq!(world.rows(person).len(), 6);
        assert_eq!(world.state(person), "held");
    }
    assert_eq!(purges(&world), 0);
    world.run(["status"]).exits(3).says("HELD");

    // A held patient stays held, however few are refused, and a 200 releases it.
    for person in &EIGHT[1..] {
        world.sandbox.grant(person);
    }
    let ran = world.run(["sync", "--json"]).exits(3);
    assert_eq!(ran.number("/patients/held"), 1);
    assert_eq!(ran.number("/patients/ok"), 7);
    assert_eq!(world.rows("anna").len(), 6);
    world.sandbox.grant("anna");
    world.run(["sync"]).exits(0);
    assert_eq!(world.state("anna"), "active");
}

#[test]
fn few_are_purged_if_somebody_else_is_permitted() {
    let world = synced(["anna", "ben", "cora", "dan", "eva"]);
    for person in ["anna", "ben", "cora", "dan"] {
        world.sandbox.withdraw(person);
    }
    world.run(["sync"]).exits(0).says("4 revoked");
    assert_eq!(purges(&world), 4);
}

#[test]
fn many_are_purged_if_they_are_a_small_share() {
    let world =
        World::with_patients(EIGHT).set("consent.hold_after", "2").set("consent.hold_fraction", "0.5");
    world.run(["sync"]).exits(0);
    for person in &EIGHT[..3] {
        world.sandbox.withdraw(person);
    }
    world.run(["sync"]).exits(0).says("3 revoked");
}

#[test]
fn patients_without_rows_become_revoked_and_hold_nobody() {
    let world = World::with_patients(EIGHT);
    for person in &EIGHT[1..] {
        world.sandbox.withdraw(person);
    }
    world.run(["sync"]).exits(0).says("7 revoked");
    assert_eq!(purges(&world), 0);
    assert_eq!(world.state("hal"), "revoked");
}

#[test]
fn purge_held_confirms_them_all() {
    let world = synced(EIGHT);
    for person in EIGHT {
        world.sandbox.withdraw(person);
    }
    world.run(["sync"]).exits(3);
    world.run(["purge", "--held"]).exits(2);
    assert_eq!(purges(&world), 0);
    world.run(["purge", "--held", "--yes"]).exits(0);
    for person in EIGHT {
        assert_eq!(world.rows_anywhere(person), 0);
        assert_eq!(world.state(person), "revoked");
        assert_no_byte_left(&world, person);
    }
    assert_eq!(purges(&world), 8);
}

#[test]
fn a_ready_token_that_cannot_be_renewed_holds() {
    let world = synced(["anna", "ben"]);
    let answer = minted_token(&world);
    world.write_private("token", &answer);
    world.change_setting("api.token_file", r#""token""#);
    world.sandbox.withdraw("anna");
    let ran = world.run(["sync", "--json"]).exits(3);
    assert_eq!(ran.number("/patients/held"), 1);
    assert_eq!(world.rows("anna").len(), 6);
    assert_eq!(purges(&world), 0);
}

/// A token as an operator would fetch it by hand.
fn minted_token(world: &World) -> String {
    use std::io::{Read, Write};
    let address = world.sandbox.base_url().trim_start_matches("http://").to_owned();
    let body = r#"{"apiKey":"sandbox-key","apiSecret":"sandbox-secret"}"#;
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    let length = body.len();
    write!(stream, "POST /v1/auth/token HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let token = answer.split("\"token\":\"").nth(1).unwrap();
    token.split('"').next().unwrap().to_owned()
}

#[test]
fn an_open_reader_delays_the_scrub_and_the_next_cycle_takes_it_up() {
    let world = synced(["anna", "ben"]);
    let reader = world.open();
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(crate::world::ask(&reader, "SELECT count(*) FROM observation").as_deref(), Some("8"));
    world.sandbox.withdraw("anna");

    world.run(["sync"]).says("1 revoked").says("not gone yet");

    assert_eq!(world.rows_anywhere("anna"), 0);
    let waiting = "SELECT count(*) FROM purge_log WHERE scrubbed_at IS NULL";
    assert_eq!(world.count(waiting), 1);
    let status = world.run(["status"]).says("waiting for");
    assert!(status.stdout.contains("reader"), "{status}");

    drop(reader);
    world.run(["sync"]).exits(0);
    assert_eq!(world.count(waiting), 0);
    assert_no_byte_left(&world, "anna");
}

#[test]
fn a_scrub_by_the_clock_waits_for_its_time() {
    let world = synced(["anna", "ben"]);
    world.change_setting("consent.scrub", r#""0 0 3 1 1 *""#);
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(0).says("1 revoked");
    let waiting = "SELECT count(*) FROM purge_log WHERE scrubbed_at IS NULL";
    assert_eq!(world.count(waiting), 1);
    world.change_setting("consent.scrub", r#""cycle""#);
    world.run(["sync"]).exits(0);
    assert_eq!(world.count(waiting), 0);
    assert_no_byte_left(&world, "anna");
}

#[test]
fn a_revoked_patient_is_asked_again_only_after_recheck() {
    let world = synced(["anna", "ben"]);
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(0);
    world.sandbox.clear_requests();
    // A mistake heals by itself: for a day it is asked again in each cycle.
    world.run(["sync"]).exits(0).says("1 skipped");
    assert_eq!(world.asked("anna").len(), 1);

    world.exec("UPDATE checkpoint SET purged_at = '2026-01-01T00:00:00Z' WHERE state = 'revoked'");
    world.sandbox.clear_requests();
    let ran = world.run(["sync", "--json"]).exits(0);
    assert_eq!(ran.number("/patients/skipped"), 1);
    assert!(world.asked("anna").is_empty());

    world.exec("UPDATE checkpoint SET last_asked_at = '2026-01-01T00:00:00Z'");
    world.run(["sync"]).exits(0).says("1 skipped");
    assert_eq!(world.asked("anna").len(), 1);
    assert_eq!(world.state("anna"), "revoked");
    assert_eq!(purges(&world), 1, "without rows there is nothing to log");
}

#[test]
fn a_consent_given_again_is_a_full_pull() {
    let world = synced(["anna", "ben"]);
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(0);
    world.sandbox.grant("anna");
    world.run(["sync", "--patient", "anna"]).exits(0);
    assert_eq!(world.pull("anna", "mode").as_deref(), Some("full"));
    assert_eq!(world.state("anna"), "active");
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_withdrawal_of_a_disabled_or_unlisted_patient_is_seen() {
    let rosters = [
        "[[patient]]\nid = \"ben\"\n",
        "[[patient]]\nid = \"anna\"\nenabled = false\n[[patient]]\nid = \"ben\"\n",
    ];
    for roster in rosters {
        let world = synced(["anna", "ben"]);
        world.write_roster(roster);
        world.sandbox.withdraw("anna");
        world.run(["sync"]).exits(0);
        assert!(world.asked("anna").is_empty());
        assert_eq!(world.rows("anna").len(), 6);
        world.exec("UPDATE checkpoint SET last_asked_at = '2026-01-01T00:00:00Z'");
        world.run(["sync"]).exits(0);
        assert_eq!(world.queries("anna"), ["_count=1", "_count=1"]);
        assert_eq!(world.rows_anywhere("anna"), 0);
        assert_no_byte_left(&world, "anna");
    }
}

#[test]
fn an_operators_purge_needs_a_yes_and_is_not_undone_by_the_next_cycle() {
    let world = synced(["anna", "ben"]);
    world.run(["purge", "anna"]).exits(2);
    assert_eq!(world.rows("anna").len(), 6);
    world.run(["purge", "nobody", "--yes"]).exits(2);

    world.run(["purge", "anna", "--yes"]).exits(0);

    assert_eq!(world.rows_anywhere("anna"), 0);
    assert_no_byte_left(&world, "anna");
    assert_eq!(world.state("anna"), "paused");
    world.run(["sync"]).exits(0);
    assert_eq!(world.rows("anna").len(), 0);
    world.run(["sync", "--patient", "anna"]).exits(0);
    world.assert_equals_sandbox("anna");
    assert_eq!(world.state("anna"), "active");
}

#[test]
fn an_empty_or_broken_roster_purges_nobody() {
    let world = synced(["anna", "ben"]);
    world.change_setting("roster.on_removed", r#""purge""#);
    for roster in ["", "[[patient]\n"] {
        world.write_roster(roster);
        world.run(["sync"]).exits(2);
    }
    fs::remove_file(world.path("roster.toml")).unwrap();
    world.run(["sync"]).exits(2);
    assert_eq!(world.rows("anna").len(), 6);
    assert_eq!(world.rows("ben").len(), 6);
}

#[test]
fn a_table_added_later_is_purged_too() {
    let world = synced(["anna", "ben"]);
    world.exec(
        "CREATE TABLE cohort (person_id TEXT, note TEXT);
         INSERT INTO cohort VALUES ('anna', 'Geheimbefund-anna-cohort'), ('ben', 'x');",
    );
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(0);
    assert_eq!(world.count("SELECT count(*) FROM cohort"), 1);
    assert_no_byte_left(&world, "anna");
    let logged = "SELECT count(*) FROM purge_log WHERE rows_by_table LIKE '%\"cohort\":1%'";
    assert_eq!(world.count(logged), 1);
}

#[test]
fn quarantined_and_deleted_rows_go_too() {
    let world = World::with_record(5).set("consent.alone_after", r#""0s""#);
    world.fault("kind = 'unknown_type_entry'");
    world.run(["sync"]).exits(0);
    world.sandbox.clear_script();
    world.sandbox.remove("anna", &observation_tail("anna", 3));
    world.run(["sync", "--full"]).exits(0);
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(0);
    assert_eq!(world.rows_anywhere("anna"), 0);
    assert_no_byte_left(&world, "anna");
    assert!(!world.warehouse_bytes_contain("horoscope\",\"id"));
}

#[test]
fn audit_shows_when_it_was_confirmed_when_the_rows_went_and_the_last_byte() {
    let world = synced(["anna", "ben"]);
    world.run(["audit"]).exits(0).says("no purge");
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(0);
    world.scrub_on_server();
    world.run(["audit"]).exits(0).says("anna").says("consent_revoked");
    let ran = world.run(["audit", "--json"]).exits(0);
    let purge = &ran.json()[0];
    assert_eq!(purge["person_id"], "anna");
    assert_eq!(purge["rows_by_table"]["observation"], 4);
    for column in ["confirmed_at", "purged_at", "scrubbed_at"] {
        assert!(purge[column].as_str().unwrap().ends_with('Z'), "{column}");
    }
    world.run(["audit", "ben"]).exits(0).says_nothing_of("anna");
}

#[test]
fn a_purge_that_is_killed_is_all_or_nothing() {
    // Killed at different moments after the confirmation has been answered.
    for moment in 0..8_usize {
        let world = World::with_record(400).set("sync.page_size", "500");
        world.sandbox.add_person("ben", crate::world::record("ben", 4));
        world.list(&["anna", "ben"]);
        world.run(["sync"]).exits(0);
        let all = world.rows_anywhere("anna");
        world.sandbox.withdraw("anna");
        world.sandbox.clear_requests();
        let running = world.start(["sync"]);
        wait_until("the withdrawal is confirmed", || world.asked("anna").len() == 2);
        for _ in 0..moment {
            // So long a look takes a little.
            let _ = world.rows_anywhere("anna");
        }
        running.kill();

        let left = world.rows_anywhere("anna");
        assert!(left == 0 || left == all, "{left} of {all} rows are left");
        assert_eq!(purges(&world), i64::from(left == 0));

        world.run(["sync"]).exits(0);
        assert_eq!(world.rows_anywhere("anna"), 0);
        assert_no_byte_left(&world, "anna");
        let waiting = "SELECT count(*) FROM purge_log WHERE scrubbed_at IS NULL";
        assert_eq!(world.count(waiting), 0);
        world.assert_equals_sandbox("ben");
        world.assert_sound();
    }
}

#[test]
fn a_purge_waits_for_the_cycle_under_way() {
    let world = synced(["anna", "ben"]);
    world.fault("kind = 'stall_before_headers', person = 'ben', seconds = 3, times = 1");
    world.change_setting("api.idle_timeout", r#""20s""#);
    let cycle = world.start(["sync"]);
    wait_until("ben is asked for", || !world.asked("ben").is_empty());
    world.run(["purge", "anna", "--yes"]).exits(0);
    cycle.ended().exits(0);
    assert_eq!(world.rows_anywhere("anna"), 0);
}

#[test]
fn nothing_of_a_patient_is_in_any_log_at_trace_level() {
    let world = World::with_patients(["anna", "ben"]).set("log.level", r#""trace""#);
    world.run(["sync"]).exits(0);
    world.sandbox.withdraw("anna");
    world.fault("kind = 'broken_json', person = 'ben'");
    // Each run looks for the names, the token and the secret.
    world.run(["-v", "sync"]).exits(3);
    world.run(["status"]);
    world.run(["verify"]);
    world.run(["check"]);
    let mut command: Command = world.command(["sync", "--json"]);
    command.env("RUST_LOG", "trace");
    crate::world::Running::start(&mut command).ended().exits(3);
}

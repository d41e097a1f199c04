//! One test for each way in which the network or the server goes wrong, named as the claim.
//!
//! Where nothing else is said, anna has 35 observations on four pages, and the fault is hers.

use std::time::{Duration, Instant};

use crate::world::{Ran, World, observation, wait_until};

/// The fault hits one request, and the same sync recovers from it.
#[track_caller]
fn recovers(fault: &str) -> (World, Ran) {
    let world = World::with_record(35);
    world.fault(fault);
    let ran = world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
    world.assert_sound();
    (world, ran)
}

/// The page that the fault hits is asked for a second time, and no other.
#[track_caller]
fn asks_again(fault: &str) {
    let (world, _) = recovers(fault);
    let mut queries = world.queries("anna");
    assert_eq!(queries.len(), 5, "{queries:?}");
    queries.dedup();
    assert_eq!(queries.len(), 4, "{queries:?}");
}

/// A patient with data and one without trouble: the first fails, keeps what it has and is asked
/// again later; the other does not notice.
#[track_caller]
fn fails_alone(fault: &str) -> (World, Ran) {
    let world = World::with_patients(["anna", "ben"]);
    world.run(["sync"]).exits(0);
    let (rows, watermark) = (world.rows("anna"), world.watermark("anna"));
    for person in ["anna", "ben"] {
        world.sandbox.put(person, Some("Observation/new"), &observation(person, 50, "new"));
    }
    world.sandbox.clear_requests();
    world.fault(&format!("{fault}, person = 'anna'"));

    let ran = world.run(["sync"]).exits(3).says("1 failed");

    world.assert_equals_sandbox("ben");
    assert_eq!(world.state("anna"), "failing");
    assert_eq!(world.watermark("anna"), watermark);
    for (key, resource) in &rows {
        assert_eq!(world.rows("anna").get(key), Some(resource), "{key}");
    }
    let error = world.checkpoint("anna", "last_error").unwrap();
    assert!(error.len() > 10, "{error}");
    assert_eq!(world.count("SELECT count(*) FROM purge_log"), 0);
    (world, ran)
}

/// As above, and once the fault is over all is well.
#[track_caller]
fn fails_until_it_is_over(fault: &str) -> Ran {
    let (world, ran) = fails_alone(fault);
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
    assert_eq!(world.state("anna"), "active");
    assert_eq!(world.checkpoint("anna", "last_error"), None);
    ran
}

/// The fault is an oddity that a pull lives with.
#[track_caller]
fn is_lived_with(fault: &str) -> World {
    let world = World::with_record(35);
    world.fault(fault);
    world.run(["sync"]).exits(0);
    world.assert_sound();
    world
}

// Transport.

#[test]
fn a_connection_that_is_reset_in_a_body_is_asked_again() {
    asks_again("kind = 'reset_mid_body', page = 2, times = 1");
}

#[test]
fn a_body_that_breaks_off_in_a_chunk_is_asked_for_again() {
    asks_again("kind = 'cut_chunk', page = 2, times = 1");
}

#[test]
fn a_body_without_its_last_chunk_is_asked_for_again() {
    asks_again("kind = 'cut_chunk', keep = 1.0, page = 2, times = 1");
}

#[test]
fn a_body_shorter_than_its_content_length_is_asked_for_again() {
    asks_again("kind = 'short_content_length', page = 3, times = 1");
}

#[test]
fn a_body_that_ends_with_the_connection_in_its_midst_is_asked_for_again() {
    asks_again("kind = 'close_delimited_cut', page = 1, times = 1");
}

#[test]
fn a_truncated_gzip_is_asked_for_again() {
    asks_again("kind = 'cut_gzip', page = 2, times = 1");
}

#[test]
fn a_connection_closed_without_a_byte_is_tried_again() {
    asks_again("kind = 'accept_and_close', page = 2, times = 1");
}

#[test]
fn a_bundle_cut_between_entries_is_found_by_its_count() {
    let (world, _) = recovers("kind = 'close_delimited_boundary', drop = 3, page = 2, times = 1");
    assert_eq!(world.queries("anna").len(), 8);
}

#[test]
fn an_answer_that_stalls_before_its_headers_is_given_up_and_asked_for_again() {
    asks_again("kind = 'stall_before_headers', page = 2, times = 1");
}

#[test]
fn an_answer_that_stalls_in_its_body_is_given_up_and_asked_for_again() {
    asks_again("kind = 'stall_mid_body', page = 2, times = 1");
}

#[test]
fn a_body_that_drips_ends_at_the_pages_time_limit() {
    let world = World::with_record(35).set("api.page_timeout", r#""1s""#).set("api.max_attempts", "1");
    world.fault("kind = 'slow_drip', page = 2");
    let begun = Instant::now();
    world.run(["sync"]).exits(3);
    assert!(begun.elapsed() < Duration::from_secs(8));
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_gzip_bomb_fails_its_patient_alone() {
    fails_until_it_is_over("kind = 'gzip_bomb', megabytes = 200");
}

#[test]
fn a_header_of_two_megabytes_fails_its_patient_alone() {
    fails_until_it_is_over("kind = 'huge_header'");
}

#[test]
fn bytes_that_are_no_http_fail_their_patient_alone() {
    fails_until_it_is_over("kind = 'raw', bytes = 'SSH-2.0-not-a-web-server'");
}

#[test]
fn a_server_that_refuses_connections_costs_no_data() {
    let world = World::with_patients(["anna", "ben"]);
    world.run(["sync"]).exits(0);
    let watermark = world.watermark("anna");
    world.fault("kind = 'accept_and_close'");
    world.fault("kind = 'accept_and_close', at = 'token'");
    let ran = world.run(["sync", "--json"]).exits(3);
    assert_eq!(ran.number("/patients/ok"), 0);
    assert_eq!(world.watermark("anna"), watermark);
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_server_that_is_down_ends_the_cycle_early() {
    let names: Vec<String> = (0..12).map(|number| format!("p{number}")).collect();
    let world = World::with_patients(std::array::from_fn::<_, 12, _>(|n| names[n].as_str()))
        .set("sync.concurrency", "1")
        .set("api.max_attempts", "1");
    world.fault("kind = 'accept_and_close'");
    let ran = world.run(["sync", "--json"]).exits(3);
    assert_eq!(ran.number("/patients/failed"), 3);
    assert_eq!(ran.number("/patients/skipped"), 9);
}

// What an answer means.

#[test]
fn a_500_is_tried_again() {
    asks_again("kind = 'status', status = 500, page = 2, times = 1");
}

#[test]
fn a_408_is_tried_again() {
    asks_again("kind = 'status', status = 408, page = 2, times = 1");
}

#[test]
fn a_425_is_tried_again() {
    asks_again("kind = 'status', status = 425, page = 2, times = 1");
}

#[test]
fn a_429_is_tried_again() {
    asks_again("kind = 'status', status = 429, page = 2, times = 1");
}

#[test]
fn a_503_with_html_is_tried_again() {
    asks_again("kind = 'status', status = 503, body = 'html', page = 2, times = 1");
}

#[test]
fn a_500_that_stays_fails_its_patient_after_max_attempts() {
    let (world, _) = fails_alone("kind = 'status', status = 500");
    assert_eq!(world.asked("anna").len(), 3);
}

#[test]
fn a_400_fails_its_patient_without_another_try() {
    let (world, _) = fails_alone("kind = 'status', status = 400");
    assert_eq!(world.asked("anna").len(), 1);
}

#[test]
fn a_status_nobody_expects_fails_its_patient_alone() {
    for status in [402, 405, 409, 418, 451] {
        fails_until_it_is_over(&format!("kind = 'status', status = {status}"));
    }
}

#[test]
fn a_retry_after_in_seconds_is_waited_out() {
    let world = World::with_record(35).set("api.retry_max", r#""5s""#);
    world.fault("kind = 'status', status = 503, retry_after = '1', page = 2, times = 1");
    let begun = Instant::now();
    world.run(["sync"]).exits(0);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_retry_after_that_is_garbage_means_our_own_delay() {
    for value in ["-1", "soon", "Sun, 06 Nov 1994 08:49:37 GMT"] {
        asks_again(&format!("kind = 'status', status = 503, retry_after = '{value}', page = 2, times = 1"));
    }
}

#[test]
fn a_503_with_a_long_retry_after_delays_its_patient_alone() {
    let (world, _) = fails_alone("kind = 'status', status = 503, retry_after = '3600'");
    assert_eq!(world.asked("anna").len(), 1);
    assert!(world.checkpoint("anna", "next_attempt_at").is_some());
}

#[test]
fn a_429_with_a_long_retry_after_ends_the_cycle() {
    let world = World::with_patients(["anna", "ben", "cora"]).set("sync.concurrency", "1");
    world.fault("kind = 'status', status = 429, retry_after = '3600', times = 1");
    let ran = world.run(["sync", "--json"]).exits(3);
    assert_eq!(ran.number("/patients/skipped"), 2);
    world.run(["sync"]).exits(0).says("3 ok");
}

#[test]
fn html_with_200_is_no_empty_record() {
    asks_again("kind = 'html_200', page = 2, times = 1");
    fails_until_it_is_over("kind = 'html_200'");
}

#[test]
fn another_resource_with_200_is_no_page() {
    fails_until_it_is_over("kind = 'wrong_resource'");
}

#[test]
fn a_200_that_is_no_searchset_is_no_page() {
    for body in [
        "",
        "null",
        "[]",
        "{}",
        "   ",
        r#"{"resourceType":"OperationOutcome","issue":[]}"#,
        r#"{"resourceType":"Bundle","type":"collection","entry":[]}"#,
    ] {
        let body = body.replace('"', "\\\"");
        fails_alone(&format!("kind = 'answer', body = \"{body}\""));
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = World::with_patients(["anna"]);
    let location = format!("{}/FHIR/R4/Person/anna/$everything", elsewhere.sandbox.base_url());
    let ran = fails_until_it_is_over(&format!("kind = 'redirect', location = '{location}'"));
    ran.says("redirect");
    assert!(elsewhere.sandbox.requests().is_empty());
}

#[test]
fn a_token_that_expires_in_a_pull_is_renewed_and_the_same_page_asked_again() {
    let world = World::with_record(35);
    world.fault("kind = 'expire_token_mid_pull', page = 3, times = 1");
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
    assert_eq!(world.tokens_minted(), 2);
    assert_eq!(world.queries("anna").len(), 5);
}

#[test]
fn one_fresh_token_serves_all_who_wait_for_it() {
    let world = World::with_patients(["anna", "ben", "cora", "dan"]);
    world.run(["sync"]).exits(0);
    world.sandbox.clear_requests();
    world.fault("kind = 'expire_token_mid_pull', times = 1");
    world.run(["sync"]).exits(0);
    assert_eq!(world.tokens_minted(), 2);
}

#[test]
fn a_401_for_one_patient_fails_that_one() {
    fails_until_it_is_over("kind = 'status', status = 401");
}

#[test]
fn a_401_for_everyone_is_exit_4() {
    let world = World::with_patients(["anna", "ben"]);
    world.run(["sync"]).exits(0);
    world.fault("kind = 'status', status = 401");
    world.run(["sync"]).exits(4);
    world.assert_equals_sandbox("anna");
}

#[test]
fn credentials_that_are_refused_are_exit_4_after_few_attempts() {
    let world = World::with_patients(["anna", "ben"]);
    world.run(["sync"]).exits(0);
    world.sandbox.clear_requests();
    world.sandbox.reject_credentials(true);
    world.run(["sync"]).exits(4).says("API key");
    assert!(world.tokens_minted() <= 2, "{}", world.tokens_minted());
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_token_endpoint_that_hiccups_is_asked_again() {
    for fault in [
        "status = 503, kind = 'status'",
        "kind = 'html_200'",
        "kind = 'accept_and_close'",
        "kind = 'token_without_expiration'",
    ] {
        let world = World::with_patients(["anna"]);
        world.fault(&format!("{fault}, at = 'token', times = 1"));
        world.run(["sync"]).exits(0);
        world.assert_equals_sandbox("anna");
    }
}

#[test]
fn an_unknown_patient_is_not_found_and_keeps_its_data() {
    let world = World::with_patients(["anna", "ben"]);
    world.run(["sync"]).exits(0);
    let rows = world.rows("anna");
    world.sandbox.remove_person("anna");
    let ran = world.run(["sync", "--json"]).exits(3);
    assert_eq!(ran.number("/patients/not_found"), 1);
    assert_eq!(world.state("anna"), "not_found");
    assert_eq!(world.rows("anna"), rows);
    world.sandbox.clear_requests();
    world.run(["sync"]).exits(3).says("not found before, and not asked again yet: 1");
    assert!(world.asked("anna").is_empty(), "asked within recheck");
}

// Links.

#[test]
fn a_next_link_to_another_server_gets_no_token() {
    let elsewhere = World::with_patients(["anna"]);
    let origin = elsewhere.sandbox.base_url();
    let world = World::with_record(35);
    world.fault(&format!("kind = 'next_other_origin', origin = '{origin}'"));
    world.run(["sync"]).exits(3);
    assert!(elsewhere.sandbox.requests().is_empty());
    let error = world.checkpoint("anna", "last_error").unwrap();
    assert!(error.contains("foreign next"), "{error}");
    assert_eq!(world.watermark("anna"), None);
}

#[test]
fn a_next_link_to_another_patient_is_refused() {
    let world = World::with_record(35);
    world.fault("kind = 'next_other_path', path = '/FHIR/R4/Person/ben/$everything'");
    world.run(["sync"]).exits(3);
    assert!(world.asked("ben").is_empty());
    assert_eq!(world.watermark("anna"), None);
}

#[test]
fn a_next_link_with_a_user_name_is_refused() {
    let world = World::with_record(35);
    world.fault("kind = 'next_userinfo'");
    world.run(["sync"]).exits(3);
    assert_eq!(world.watermark("anna"), None);
}

#[test]
fn a_next_link_that_loops_is_a_failure_not_an_end() {
    for kind in ["next_self_loop", "next_ab_loop"] {
        let world = World::with_record(35);
        world.fault(&format!("kind = '{kind}'"));
        world.run(["sync"]).exits(3);
        assert!(world.asked("anna").len() < 20, "{kind}");
        assert_eq!(world.watermark("anna"), None, "{kind}");
    }
}

#[test]
fn endless_links_end_at_pages_max_as_a_failure() {
    let world = World::with_record(35).set("sync.pages_max", "12");
    world.fault("kind = 'next_endless'");
    world.run(["sync"]).exits(3).says("pages_max");
    assert!(world.asked("anna").len() <= 13);
    assert_eq!(world.watermark("anna"), None);
}

#[test]
fn too_many_bytes_are_a_failure() {
    let world = World::with_record(35).set("sync.bytes_max", r#""4kB""#);
    world.run(["sync"]).exits(3).says("bytes_max");
    assert_eq!(world.watermark("anna"), None);
}

#[test]
fn filters_that_a_next_link_lost_are_put_back() {
    let world = World::with_record(35).set("sync.types", r#"["Observation"]"#);
    world.fault("kind = 'next_lost_filters'");
    world.run(["sync"]).exits(0);
    for query in world.queries("anna") {
        assert!(query.contains("_type=Observation"), "{query}");
    }
    assert_eq!(world.rows("anna").len(), 35);
}

#[test]
fn a_relative_next_link_is_followed() {
    is_lived_with("kind = 'next_relative'").assert_equals_sandbox("anna");
}

#[test]
fn links_after_the_entries_are_followed() {
    is_lived_with("kind = 'links_last'").assert_equals_sandbox("anna");
}

#[test]
fn an_empty_page_in_the_middle_is_passed_over() {
    is_lived_with("kind = 'empty_page_in_middle', page = 2").assert_equals_sandbox("anna");
}

#[test]
fn empty_pages_without_an_end_are_not_followed_for_ever() {
    let world = World::with_record(35);
    world.fault("kind = 'empty_pages_forever', page = 2");
    world.run(["sync"]);
    assert!(world.asked("anna").len() < 20);
    world.sandbox.clear_script();
    world.run(["sync", "--full"]).exits(0);
    world.assert_equals_sandbox("anna");
}

// Entries.

#[test]
fn an_entry_of_an_unknown_type_is_quarantined_with_its_bytes() {
    let world = is_lived_with("kind = 'unknown_type_entry', page = 2");
    world.assert_equals_sandbox("anna");
    let quarantined = "SELECT count(*) FROM quarantine WHERE entry LIKE '%Horoscope%'";
    assert_eq!(world.count(quarantined), 1);
    // It counts towards the total: one walk is enough.
    assert_eq!(world.queries("anna").len(), 4);
}

#[test]
fn an_entry_that_is_no_object_is_quarantined() {
    let world = is_lived_with("kind = 'entry_not_object', page = 2");
    world.assert_equals_sandbox("anna");
    assert_eq!(world.count("SELECT count(*) FROM quarantine"), 1);
}

#[test]
fn an_entry_without_an_id_is_stored() {
    let world = is_lived_with("kind = 'entry_without_id', page = 2");
    assert_eq!(world.count("SELECT count(*) FROM basic WHERE id IS NULL"), 1);
}

#[test]
fn an_entry_without_a_full_url_is_keyed_by_type_and_id() {
    let world = is_lived_with("kind = 'entry_without_full_url'");
    assert_eq!(world.rows("anna").len(), 37);
    let keyed = "SELECT count(*) FROM patient WHERE key = 'Patient/p-anna'";
    assert_eq!(world.count(keyed), 1);
}

#[test]
fn an_entry_without_a_resource_is_counted_and_noted() {
    let world = is_lived_with("kind = 'entry_no_resource', page = 2");
    world.assert_equals_sandbox("anna");
    assert!(world.pull("anna", "error").is_some());
}

#[test]
fn deep_nesting_never_crashes_and_costs_nobody_else() {
    let world = World::with_record(35);
    world.fault("kind = 'deep_nesting', page = 2");
    world.run(["sync"]);
    world.sandbox.clear_script();
    world.run(["sync", "--full"]).exits(0);
    world.assert_equals_sandbox("anna");
    world.assert_sound();
}

#[test]
fn invalid_utf8_and_nul_are_never_cut_short_silently() {
    for kind in ["invalid_utf8", "nul_byte"] {
        let world = World::with_record(35);
        world.fault(&format!("kind = '{kind}', page = 2"));
        let ran = world.run(["sync"]);
        let quarantined = || world.count("SELECT count(*) FROM quarantine");
        assert!(ran.code == 3 || quarantined() == 1, "{kind}: {ran}");
        world.sandbox.clear_script();
        world.run(["sync", "--full"]).exits(0);
        world.assert_equals_sandbox("anna");
    }
}

#[test]
fn a_resource_of_thirty_megabytes_is_stored_whole() {
    let world = is_lived_with("kind = 'big_resource', page = 2");
    let length = world.count("SELECT max(length(resource)) FROM basic");
    assert!(length > 30_000_000, "{length}");
}

#[test]
fn broken_json_is_a_broken_page() {
    asks_again("kind = 'broken_json', page = 2, times = 1");
    fails_until_it_is_over("kind = 'broken_json'");
}

#[test]
fn a_byte_order_mark_does_no_harm() {
    let world = World::with_record(35);
    world.fault("kind = 'bom', page = 2, times = 1");
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
}

#[test]
fn an_error_outcome_makes_a_broken_page() {
    let world = World::with_record(35);
    world.fault("kind = 'error_outcome_entry', page = 2");
    world.run(["sync"]).exits(3);
    assert_eq!(world.watermark("anna"), None);
    assert_eq!(world.count("SELECT count(*) FROM sqlite_master WHERE name = 'operation_outcome'"), 0);
}

#[test]
fn a_warning_outcome_is_noted_by_its_code_and_not_stored() {
    let world = is_lived_with("kind = 'warning_outcome_entry', page = 2");
    world.assert_equals_sandbox("anna");
    let note = world.pull("anna", "error").unwrap();
    assert!(note.contains("processing"), "{note}");
    assert!(!note.contains("facility"), "the server's own text: {note}");
}

#[test]
fn of_an_entry_sent_twice_the_later_last_updated_wins() {
    // The sandbox's older states are from 1999; the entries that say when are the even ones.
    for order in ["older_first", "newer_first"] {
        let world = World::with_record(5);
        world.fault(&format!("kind = 'duplicate_entry', order = '{order}'"));
        world.run(["sync"]).exits(0);
        world.assert_equals_sandbox("anna");
    }
}

#[test]
fn a_server_that_ignores_since_is_only_slow() {
    let world = World::with_record(35);
    world.run(["sync"]).exits(0);
    world.fault("kind = 'since_ignored'");
    let ran = world.run(["sync", "--json"]).exits(0);
    assert_eq!(ran.number("/resources/unchanged"), 37);
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_failure_is_over_when_a_pull_succeeds_and_counts_until_then() {
    let (world, _) = fails_alone("kind = 'status', status = 500");
    world.run(["sync"]).exits(3);
    assert_eq!(world.checkpoint("anna", "failures").as_deref(), Some("2"));
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0);
    assert_eq!(world.checkpoint("anna", "failures").as_deref(), Some("0"));
    assert_eq!(world.checkpoint("anna", "next_attempt_at"), None);
}

#[test]
fn a_link_that_fails_in_two_attempts_of_its_patient_is_dropped() {
    let world = World::with_record(35);
    world.fault("kind = 'status', status = 500, page = 3, times = 6");
    world.run(["sync"]).exits(3);
    world.sandbox.clear_requests();
    // The second attempt gives the link up, and walks again from the beginning.
    world.run(["sync"]).exits(0);
    let queries = world.queries("anna");
    let from_start = |query: &&String| !query.contains("_offset") || query.contains("_offset=0");
    assert!(queries.iter().any(|query| from_start(&query)), "{queries:?}");
    world.assert_equals_sandbox("anna");
}

#[test]
fn every_status_but_403_leaves_the_data_alone() {
    let world = World::with_patients(["anna"]).set("api.max_attempts", "1");
    world.run(["sync"]).exits(0);
    for status in (400..600).step_by(7).filter(|status| *status != 403) {
        world.sandbox.clear_script();
        world.fault(&format!("kind = 'status', status = {status}"));
        let ran = world.run(["sync", "--patient", "anna"]);
        assert!(ran.code == 3 || ran.code == 4, "{status}: {ran}");
        assert_eq!(world.rows("anna").len(), 6, "{status}");
    }
    assert_eq!(world.count("SELECT count(*) FROM purge_log"), 0);
}

#[test]
fn all_workers_pause_when_one_is_told_429() {
    let world = World::with_patients(["anna", "ben", "cora", "dan"])
        .set("api.retry_max", r#""5s""#)
        .set("sync.concurrency", "2");
    world.fault("kind = 'status', status = 429, retry_after = '1', times = 1");
    world.run(["sync"]).exits(0);
    let requests = world.sandbox.requests();
    let told = requests.iter().find(|request| request.status == Some(429)).unwrap();
    // Whoever was on the way already may arrive; nobody sets out.
    let soon = told.at + healthex_sync::time::TimeDelta::milliseconds(200);
    let end = told.at + healthex_sync::time::TimeDelta::milliseconds(950);
    let early = requests.iter().filter(|request| request.at > soon && request.at < end);
    assert_eq!(early.count(), 0);
}

#[test]
fn a_fault_file_plays_the_same_from_the_command_line() {
    let world = World::with_patients(["anna"]);
    let faults = world.path("faults.toml");
    std::fs::write(&faults, "[[fault]]\nkind = \"html_200\"\n").unwrap();
    let mut command = crate::world::binary();
    command.args(["sandbox", "--listen", "127.0.0.1:0", "--patients", "1"]).arg("--faults").arg(&faults);
    let sandbox = crate::world::Running::start(&mut command);
    wait_until("the sandbox listens", || sandbox.stdout().lines().count() == 2);
    let said = sandbox.stdout();
    let base_url = said.lines().next().unwrap().trim_start_matches("listening on ").to_owned();
    world.list(&["sandbox-0001"]);
    world.change_setting("api.base_url", &format!("{base_url:?}"));
    world.run(["sync"]).exits(3).says("1 failed");
    sandbox.terminate();
    sandbox.ended().exits(0);
}

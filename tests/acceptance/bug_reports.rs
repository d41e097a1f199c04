//! What other programs' bug reports tell of servers, played against this one: each test is a kind.
//!
//! Where nothing else is said, anna has 35 observations on four pages.

use healthex_sync::sandbox::{Population, RecordEntry};

use crate::world::{World, observation, observation_tail, record};

fn deleted(world: &World) -> i64 {
    world.count("SELECT count(*) FROM observation WHERE deleted_at IS NOT NULL")
}

fn live(world: &World) -> i64 {
    world.count("SELECT count(*) FROM observation WHERE deleted_at IS NULL")
}

fn first_requests(world: &World) -> usize {
    world.queries("anna").iter().filter(|query| !query.contains("_offset")).count()
}

fn analysed(world: &World) -> i64 {
    world.count("SELECT count(DISTINCT key) FROM probe")
}

/// An analysts' table with a row an Observation.
fn with_probe(world: World) -> World {
    let view = r#"{"resourceType":"ViewDefinition","name":"probe","resource":"Observation","status":"active",
        "select":[{"column":[{"path":"getResourceKey()","name":"resource_id"},{"path":"value.ofType(string)","name":"value"}]}]}"#;
    std::fs::create_dir_all(world.path("views")).unwrap();
    world.write("views/probe.json", view);
    world.set("views.folder", r#""views""#)
}

// Identity.

#[test]
fn things_that_share_a_full_url_stay_as_many_as_they_are() {
    for tail in ["Observation/undefined", "Observation/[object Object]", "urn:uuid:null"] {
        let world = World::with_record(10);
        world.fault(&format!("kind = 'shared_full_url', tail = '{tail}'"));
        world.run(["sync"]).exits(0);
        assert_eq!((live(&world), deleted(&world)), (10, 0), "{tail}");
        let keys = "SELECT group_concat(key, ' ') FROM (SELECT key FROM observation ORDER BY id)";
        let before = world.ask(keys);
        let again = world.run(["sync", "--full", "--json"]).exits(0);
        for name in ["inserted", "updated", "deleted"] {
            assert_eq!(again.number(&format!("/resources/{name}")), 0, "{name}");
        }
        assert_eq!(world.ask(keys), before);
        assert_eq!(world.count("SELECT count(*) FROM observation WHERE key LIKE '%#o-anna-%'"), 9);
        world.assert_sound();
    }
}

#[test]
fn of_things_that_share_a_full_url_each_keeps_its_key_in_whatever_order_they_come() {
    let shared = |number: usize| {
        let resource = observation("anna", number, "as at first");
        RecordEntry::new("Observation/undefined", &resource)
    };
    let in_order = |numbers: &[usize]| {
        let mut entries = record("anna", 0);
        entries.extend(numbers.iter().map(|number| shared(*number)));
        entries
    };
    let mut population = Population::empty();
    population.add_person("anna", in_order(&[0, 1, 2, 3]));
    let world = World::serving(population);
    world.run(["sync"]).exits(0);
    let keys = || world.table("SELECT id, key FROM observation WHERE deleted_at IS NULL ORDER BY id");
    let all = keys();
    assert_eq!(all.len(), 4);

    world.sandbox.add_person("anna", in_order(&[3, 2, 1, 0]));
    world.run(["sync", "--full"]).exits(0);
    assert_eq!(keys(), all);

    // The one that has the bare name is gone, and no other takes its place.
    world.sandbox.add_person("anna", in_order(&[3, 1, 2]));
    world.run(["sync", "--full"]).exits(0);
    assert_eq!(keys(), all[1..]);
    world.exec("DELETE FROM observation WHERE deleted_at IS NOT NULL");
    world.sandbox.add_person("anna", in_order(&[2, 3, 1]));
    world.run(["sync", "--full"]).exits(0);
    assert_eq!(keys(), all[1..]);
}

#[test]
fn a_version_in_a_full_url_names_nothing() {
    let world = World::with_record(8);
    for version in 1..=3 {
        world.sandbox.clear_script();
        world.fault(&format!("kind = 'full_url_suffix', suffix = '/_history/{version}'"));
        world.run(["sync", "--full"]).exits(0);
        world.assert_equals_sandbox("anna");
        assert_eq!(world.count("SELECT count(*) FROM observation"), 8);
    }
}

#[test]
fn entries_under_new_names_never_count_as_gone_and_analysts_never_see_them_twice() {
    let world = with_probe(World::with_record(30));
    world.run(["sync"]).exits(0);
    assert_eq!(analysed(&world), 30);
    for (cycle, suffix) in ["-b", "-c", "-d"].into_iter().enumerate() {
        world.sandbox.clear_script();
        // All of it has changed, and is sent again, under other names.
        for number in 0..30 {
            let text = format!("{number} in cycle {}", cycle / 2);
            world.sandbox.put(
                "anna",
                Some(&observation_tail("anna", number)),
                &observation("anna", number, &text),
            );
        }
        world.fault(&format!("kind = 'full_url_suffix', suffix = '{suffix}'"));
        let ran = world.run(["sync", "--json"]).exits(0);
        assert_eq!(ran.number("/resources/deleted"), 0, "{suffix}");
        let ids = world.count("SELECT count(DISTINCT id) FROM observation WHERE deleted_at IS NULL");
        assert_eq!((ids, deleted(&world)), (30, 0), "{suffix}");
        if cycle == 0 {
            // A full pull has replaced the old names at once.
            assert_eq!(live(&world), 30);
        }
    }
    // What has not been replaced yet, because that is done once an hour, is seen once where it reads the same.
    let twice = "SELECT count(*) FROM (SELECT value FROM probe GROUP BY value HAVING count(*) > 1)";
    assert_eq!(world.count(twice), 0);
    world.run(["sync", "--full"]).exits(0);
    assert_eq!((live(&world), deleted(&world), analysed(&world)), (30, 0, 30));
    assert_eq!(world.count("SELECT count(*) FROM checkpoint WHERE sweep_guarded_at IS NOT NULL"), 0);
    world.assert_sound();
}

#[test]
fn a_twin_that_vanishes_is_marked_and_not_taken_for_renamed() {
    let world = World::with_record(6);
    let twin = observation("anna", 2, "as at first");
    world.sandbox.put("anna", Some("Observation/twin"), &twin);
    world.run(["sync"]).exits(0);
    assert_eq!(live(&world), 7);
    assert!(world.sandbox.remove("anna", "Observation/twin"));
    world.run(["sync", "--full"]).exits(0);
    assert_eq!((live(&world), deleted(&world)), (6, 1));
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_name_that_no_engine_could_keep_is_quarantined() {
    for place in ["full_url", "id", "source", "version_id"] {
        let world = World::with_record(5);
        world.fault(&format!("kind = 'nul_in_name', place = '{place}'"));
        world.run(["sync"]).exits(0);
        assert_eq!(world.ask("SELECT reason FROM quarantine").as_deref(), Some("a name holds U+0000"));
        assert_eq!(world.count("SELECT count(*) FROM sqlite_master WHERE name = 'basic'"), 0);
        world.assert_equals_sandbox("anna");
        world.assert_sound();
    }
    for (bytes, quarantined) in [(1900, 0), (2001, 1), (9000, 1)] {
        let world = World::with_record(5);
        world.fault(&format!("kind = 'long_name', bytes = {bytes}"));
        world.run(["sync"]).exits(0);
        assert_eq!(world.count("SELECT count(*) FROM quarantine"), quarantined, "{bytes}");
    }
}

// Counts.

#[test]
fn a_record_that_is_cut_off_is_short_and_asked_for_again() {
    for (sent, page_size) in [(4, "500"), (4, "0"), (20, "10")] {
        let world = World::with_record(9).set("sync.page_size", page_size);
        world.run(["sync"]).exits(0);
        for number in 9..35 {
            world.sandbox.put(
                "anna",
                Some(&observation_tail("anna", number)),
                &observation("anna", number, "new"),
            );
        }
        let watermark = world.watermark("anna");
        world.sandbox.clear_requests();
        world.fault(&format!("kind = 'cut_short', sent = {sent}"));
        let ran = world.run(["sync", "--full"]).exits(3);
        let short = format!("short: {sent} of 37");
        assert!(ran.stderr.contains(&short), "{ran}");
        assert_eq!(world.state("anna"), "failing");
        assert_eq!((world.watermark("anna"), deleted(&world)), (watermark, 0));
        assert_eq!(first_requests(&world), 2, "walked twice before it is called short");
        assert!(world.checkpoint("anna", "last_error").unwrap().contains(&short));
        assert_eq!(world.ask("SELECT is_complete FROM freshness").as_deref(), Some("0"));
        assert_eq!(world.count("SELECT short_by FROM freshness"), 37 - sent);
        world.run(["status"]).exits(3).says(&format!("{} fewer", 37 - sent));

        world.sandbox.clear_script();
        world.run(["sync", "--full"]).exits(0);
        world.assert_equals_sandbox("anna");
        assert_eq!(world.ask("SELECT is_complete FROM freshness").as_deref(), Some("1"));
        assert_eq!(world.ask("SELECT short_by FROM freshness"), None);
    }
}

#[test]
fn a_record_that_is_short_in_the_same_way_for_a_day_is_taken_for_all_there_is() {
    let world = World::with_record(35);
    world.fault("kind = 'cut_short', sent = 20");
    world.run(["sync"]).exits(3);
    world.exec("UPDATE checkpoint SET short_since = '2026-01-01T00:00:00Z'");
    world.run(["sync"]).exits(0);
    assert!(world.watermark("anna").is_some());
    assert_eq!((live(&world), deleted(&world)), (18, 0));
    assert_eq!(world.ask("SELECT is_complete FROM freshness").as_deref(), Some("0"));
    world.run(["status"]).says("17 fewer");
    // An incremental pull that adds up does not say what is missing from the whole.
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0);
    assert_eq!(world.ask("SELECT is_complete FROM freshness").as_deref(), Some("0"));
    world.run(["sync", "--full"]).exits(0);
    assert_eq!(world.ask("SELECT is_complete FROM freshness").as_deref(), Some("1"));
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_server_that_counts_what_it_does_not_send_is_believed_and_nothing_is_swept() {
    let world = World::with_record(35);
    world.run(["sync"]).exits(0);
    world.fault("kind = 'cut_short', sent = 34");
    world.run(["sync", "--full"]).exits(0);
    assert_eq!((live(&world), deleted(&world)), (35, 0));
    assert!(world.pull("anna", "error").unwrap().contains("counts 37 and sent 34"));
    assert_eq!(world.count("SELECT short_by FROM freshness"), 3);
    assert_eq!(world.ask("SELECT is_complete FROM freshness").as_deref(), Some("1"));
    world.run(["status"]).exits(0).says("3 fewer");
}

#[test]
fn a_total_that_moves_from_page_to_page_is_accepted_with_a_note_and_sweeps_nothing() {
    let world = World::with_record(35);
    world.fault("kind = 'total_moves'");
    world.run(["sync"]).exits(0);
    assert_eq!(first_requests(&world), 2);
    world.assert_equals_sandbox("anna");
    assert!(world.pull("anna", "error").unwrap().contains("another total on each page"));
    world.sandbox.remove("anna", &observation_tail("anna", 3));
    world.run(["sync", "--full"]).exits(0);
    assert_eq!(deleted(&world), 0);
}

#[test]
fn includes_are_not_counted_and_do_not_make_up_for_what_is_missing() {
    let world = World::with_record(35);
    world.fault("kind = 'include_entries', count = 3, page = 2");
    world.run(["sync"]).exits(0);
    assert_eq!(first_requests(&world), 1);
    assert_eq!(world.count("SELECT count(*) FROM practitioner"), 3);
    world.sandbox.remove("anna", &observation_tail("anna", 3));
    world.run(["sync", "--full"]).exits(0);
    assert_eq!(deleted(&world), 1);
}

#[test]
fn a_total_that_is_no_count_is_as_if_absent() {
    for total in ["-1", "\"37\"", "37.0", "9223372036854775808", "1e99", "null", "{}", "NaN", "[37]"] {
        let world = World::with_record(35);
        world.fault(&format!("kind = 'total_written', text = '{total}'"));
        world.run(["sync"]).exits(0);
        assert_eq!(first_requests(&world), 2, "{total}");
        world.assert_equals_sandbox("anna");
        world.sandbox.remove("anna", &observation_tail("anna", 3));
        world.run(["sync", "--full"]).exits(0);
        assert_eq!(deleted(&world), 1, "{total}");
    }
}

#[test]
fn an_outcome_that_says_incomplete_sweeps_nothing_whatever_its_mode() {
    for mode in ["", ", mode = 'match'", ", mode = 'match', id = 'o1'", ", mode = 'outcome'"] {
        for code in ["incomplete", "timeout", "throttled", "lock-error"] {
            let world = World::with_record(12);
            world.run(["sync"]).exits(0);
            for number in 0..5 {
                assert!(world.sandbox.remove("anna", &observation_tail("anna", number)));
            }
            let watermark = world.watermark("anna");
            world.fault(&format!("kind = 'outcome_entry', code = '{code}'{mode}"));
            let ran = world.run(["sync", "--full"]).exits(3);
            assert!(ran.stderr.contains("short: "), "{ran}");
            assert_eq!((deleted(&world), world.watermark("anna")), (0, watermark), "{mode} {code}");
        }
    }
    let world = World::with_record(12);
    world.fault("kind = 'outcome_entry', code = 'processing'");
    world.run(["sync"]).exits(0);
    assert!(world.pull("anna", "error").unwrap().contains("warning/processing"));
    assert_eq!(world.count("SELECT count(*) FROM sqlite_master WHERE name = 'operation_outcome'"), 0);
}

// Sweeps.

#[test]
fn an_emptied_record_marks_nothing_however_small_it_was() {
    for observations in [1, 4, 18] {
        let world = World::with_record(observations);
        world.run(["sync"]).exits(0);
        let all = live(&world);
        world.sandbox.clear_requests();
        world.fault("kind = 'empty_record'");
        let ran = world.run(["sync", "--full"]).exits(0);
        assert!(ran.stderr.contains("gone at once"), "{ran}");
        assert_eq!((live(&world), deleted(&world)), (all, 0));
        assert_eq!(first_requests(&world), 2);
        world.run(["status"]).says("24 hours");
        world.exec("UPDATE checkpoint SET sweep_guarded_at = '2026-01-01T00:00:00Z'");
        world.run(["sync"]).exits(0);
        assert_eq!(live(&world), 0, "a day later it is believed");
    }
}

// Entries.

#[test]
fn an_entry_that_is_no_json_in_any_attempt_is_quarantined_and_the_rest_is_stored() {
    for number in ["+3.0", ".5", "NaN", "01", "-Infinity", "3.", "0x1F", "1_000", "'"] {
        let world = World::with_record(35);
        world.fault(&format!("kind = 'number_not_json', number = \"{number}\", page = 2"));
        world.run(["sync"]).exits(0);
        world.assert_equals_sandbox("anna");
        assert_eq!(world.ask("SELECT reason FROM quarantine").as_deref(), Some("not JSON"), "{number}");
        let key = world.ask("SELECT key FROM quarantine").unwrap();
        assert!(key.starts_with("Basic/"), "{key}");
        let has_bytes = format!(
            "SELECT count(*) FROM quarantine WHERE typeof(entry) = 'blob' AND instr(entry, CAST('{}' AS BLOB))",
            number.replace('\'', "''")
        );
        assert_eq!(world.count(&has_bytes), 1, "{number}");
        assert!(world.pull("anna", "error").unwrap().contains(&key), "the entry is named");
        assert_eq!(world.asked("anna").len(), 4 + 2, "in every attempt, and only there");
        // It is mended.
        world.sandbox.clear_script();
        world.run(["sync", "--full"]).exits(0);
        assert_eq!(world.count("SELECT count(*) FROM quarantine"), 0);
    }
}

#[test]
fn an_entry_that_is_no_json_once_is_the_fault_of_the_way() {
    let world = World::with_record(35);
    world.fault("kind = 'last_entry_unstorable', how = 'not_json', page = 2, times = 2");
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
    assert_eq!(world.count("SELECT count(*) FROM quarantine"), 0);
}

#[test]
fn a_version_that_cannot_be_stored_takes_the_old_one_out_of_sight() {
    for how in ["not_utf8", "not_json", "too_deep", "no_type"] {
        let world = with_probe(World::with_record(5));
        world.run(["sync"]).exits(0);
        assert_eq!(analysed(&world), 5);
        world.fault(&format!("kind = 'last_entry_unstorable', how = '{how}'"));
        for _ in 0..2 {
            world.run(["sync", "--full"]).exits(0);
            assert_eq!(
                world.count("SELECT count(*) FROM observation WHERE superseded_at IS NOT NULL"),
                1,
                "{how}"
            );
            assert_eq!((live(&world), analysed(&world)), (5, 4), "{how}");
            assert_eq!(world.count("SELECT count(*) FROM quarantine WHERE typeof(entry) = 'blob'"), 1);
            world.assert_sound();
        }
        world.run(["views", "apply"]).exits(0);
        assert_eq!(analysed(&world), 4, "{how}");

        world.sandbox.clear_script();
        world.run(["sync", "--full"]).exits(0);
        assert_eq!(world.count("SELECT count(*) FROM observation WHERE superseded_at IS NOT NULL"), 0);
        assert_eq!((analysed(&world), world.count("SELECT count(*) FROM quarantine")), (5, 0), "{how}");
        world.assert_equals_sandbox("anna");
        world.assert_sound();
    }
}

// Answers.

#[test]
fn an_answer_that_a_proxy_has_changed_is_an_answer() {
    let world = World::with_record(35);
    world.fault("kind = 'status_203'");
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_coding_is_undone_by_whatever_name_and_in_however_many_members() {
    for (name, members) in [("gzip", 3), ("GZIP", 1), ("x-gzip", 1), ("X-GZip", 7)] {
        let world = World::with_record(35);
        world.fault(&format!("kind = 'coded', name = '{name}', members = {members}"));
        world.run(["sync"]).exits(0);
        world.assert_equals_sandbox("anna");
        assert_eq!(world.asked("anna").len(), 4, "{name}");
    }
}

#[test]
fn a_coding_that_cannot_be_undone_is_not_asked_for_again() {
    for coding in ["name = 'br', damaged = true", "name = 'zstd', members = 1", "damaged = true"] {
        let world = World::with_record(35);
        world.fault(&format!("kind = 'coded', {coding}"));
        let ran = world.run(["-v", "sync"]).exits(0);
        let name = if coding.contains("br") {
            "br"
        } else if coding.contains("zstd") {
            "zstd"
        } else {
            "gzip"
        };
        assert!(ran.stderr.contains(name), "{ran}");
        world.assert_equals_sandbox("anna");
        assert_eq!(world.asked("anna").len(), 4 + 1, "once for the whole pull");
    }
}

#[test]
fn a_link_that_leads_to_this_patient_is_followed_however_it_is_written() {
    let id = "0a1b2c3d-0000-4000-8000-00000000abcd";
    for how in ["other_case_uuid", "lower_case_root", "double_slash", "trailing_slash", "html", "encoded"] {
        for roster_id in [id.to_owned(), id.to_uppercase()] {
            let mut population = Population::empty();
            population.add_person(&roster_id, record("anna", 35));
            let world = World::serving(population).set("sync.page_size", "10");
            world.fault(&format!("kind = 'next_written', how = '{how}'"));
            world.run(["sync"]).exits(0);
            world.assert_equals_sandbox(&roster_id);
        }
    }
}

#[test]
fn a_limiter_that_says_403_is_waited_for_and_nobody_is_purged() {
    let outcome = |code: &str| {
        format!(r#"{{"resourceType":"OperationOutcome","issue":[{{"severity":"error","code":"{code}"}}]}}"#)
    };
    for (headers, body) in [
        ("Retry-After = '0'", String::new()),
        ("X-RateLimit-Remaining = '0'", r#"{"message":"no"}"#.to_owned()),
        ("RateLimit = 'limit=9, remaining=0, reset=1'", String::new()),
        ("x-amzn-ErrorType = 'LimitExceededException'", "{}".to_owned()),
        ("", outcome("throttled")),
        ("", outcome("lock-error")),
    ] {
        let world = World::with_record(5);
        world.run(["sync"]).exits(0);
        let refusal = format!("kind = 'answer', status = 403, body = '{body}', headers = {{ {headers} }}");
        world.fault(&format!("{refusal}, times = 2"));
        world.run(["sync"]).exits(0);
        assert_eq!(world.asked("anna").len(), 1 + 3, "{headers} {body}");
        world.fault(&refusal);
        world.run(["sync"]).exits(3);
        assert_eq!((world.state("anna").as_str(), live(&world)), ("failing", 5), "{headers} {body}");
        assert_eq!(world.count("SELECT count(*) FROM purge_log"), 0);
    }
}

#[test]
fn a_server_that_ignores_since_is_told_of_once() {
    let world = World::with_record(35);
    world.run(["sync"]).exits(0);
    world.fault("kind = 'since_ignored'");
    let told = |ran: &crate::world::Ran| ran.stderr.contains("ignores _since");
    for (cycle, expected) in [(1, false), (2, true), (3, false), (4, false)] {
        let ran = world.run(["sync"]).exits(0);
        assert_eq!(told(&ran), expected, "cycle {cycle}: {ran}");
    }
    world.run(["status"]).says("ignores _since");
    assert_eq!(world.run(["status", "--json"]).number("/patients/0/since_ignored"), 4);
    world.run(["check"]).says("ignores _since");
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0);
    world.run(["status"]).says_nothing_of("ignores _since");
}

// The process.

#[test]
fn quiet_prints_errors_only() {
    let world = World::with_record(5);
    let ran = world.run(["-q", "sync"]).exits(0);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", ""));
    world.fault("kind = 'status', status = 500");
    let ran = world.run(["sync", "-q"]).exits(3);
    assert_eq!(ran.stdout, "");
}

/// A pipe that nobody reads, and that is full already.
fn full_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    use std::io::Write;
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    while writer.write(&[b' '; 4096]).is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

#[test]
fn a_log_that_nobody_reads_stops_no_work_and_no_end() {
    let world = World::with_record(35).set("sync.schedule", r#""every 1s""#);
    let (_reader, writer) = full_pipe();
    let mut command = world.command(["-v", "run"]);
    let mut child = command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(writer)
        .spawn()
        .unwrap();
    crate::world::wait_until("two cycles have ended", || {
        world.warehouse().exists() && world.count("SELECT count(*) FROM pull WHERE outcome = 'ok'") >= 2
    });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    crate::world::wait_until("the daemon has ended", || child.try_wait().unwrap().is_some());
    assert!(child.wait().unwrap().success());
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_service_manager_on_an_abstract_socket_is_told_and_not_waited_for() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let world = World::with_record(5).set("sync.schedule", r#""every 1h""#);
    let name = format!("healthex-sync-test-{}", std::process::id());
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    manager.set_read_timeout(Some(crate::world::DEADLINE)).unwrap();
    let running =
        crate::world::Running::start(world.command(["run"]).env("NOTIFY_SOCKET", format!("@{name}")));
    let mut message = [0; 4096];
    loop {
        let length = manager.recv(&mut message).unwrap();
        if String::from_utf8_lossy(&message[..length]).contains("READY=1") {
            break;
        }
    }
    // From now on nobody reads, and there is no room any more.
    let another = UnixDatagram::unbound().unwrap();
    another.set_nonblocking(true).unwrap();
    another.connect_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    while another.send(b"STATUS=full").is_ok() {}
    running.terminate();
    assert_eq!(running.ended().code, 0);
}

#[test]
fn after_a_freeze_that_was_longer_than_the_period_cycles_come_in_time_again() {
    use rustix::process::Signal;
    let world = World::with_record(5).set("sync.schedule", r#""every 1s""#);
    let running = crate::world::Running::start(&mut world.command(["run"]));
    let cycles = || {
        let first = world.queries("anna");
        first.len()
    };
    crate::world::wait_until("two cycles have run", || cycles() >= 2);
    running.signal(Signal::STOP);
    std::thread::sleep(std::time::Duration::from_secs(4));
    running.signal(Signal::CONT);
    let before = cycles();
    let begun = std::time::Instant::now();
    crate::world::wait_until("eight more cycles have run", || cycles() >= before + 8);
    assert!(begun.elapsed() < std::time::Duration::from_secs(25), "{:?}", begun.elapsed());
    running.terminate();
    assert_eq!(running.ended().code, 0);
}

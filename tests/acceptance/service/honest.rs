//! A service that says how it is: whether it is alive, whether all is well, and what it was told.

use std::fs;

use serde_json::Value;

use super::{GOOD_CYCLES, count_beats, world};
use crate::world::{DEADLINE, World, get, wait_until};

fn run_of(world: &World) -> Value {
    let status = world.run(["status", "--json"]);
    status.json()["run"].clone()
}

/// Lets every success have been in a year long past.
fn age_successes(world: &World) {
    world.exec("UPDATE checkpoint SET last_success_at = '2020-01-01T00:00:00Z'");
}

#[test]
fn status_and_check_tell_a_dead_service_from_one_that_is_alive() {
    let world = world(2, "every 7d");
    world.run(["check"]).exits(0).says_nothing_of("freshness");
    let daemon = world.daemon();
    daemon.shows(GOOD_CYCLES, |cycles| cycles == 1);
    let pid = daemon.pid();
    let alive = format!("(pid {pid})");
    // The metric is there before the cycle is written down.
    wait_until("the cycle is told", || run_of(&world)["last_cycle"]["verdict"] == "good");
    for command in ["status", "check"] {
        world.run([command]).exits(0).says(&alive).says("good; 2 ok").says("due at ");
    }
    let run = run_of(&world);
    assert_eq!((run["alive"].as_bool(), run["pid"].as_u64()), (Some(true), Some(u64::from(pid))), "{run}");
    assert!(run["next_cycle_at"].is_string() && run["last_cycle_at"].is_string(), "{run}");
    assert_eq!(run["last_cycle"]["verdict"], "good", "{run}");
    daemon.kill();

    world.run(["status"]).exits(0).says("run: not running").says("next cycle: none");
    assert_eq!(run_of(&world)["alive"].as_bool(), Some(false));
    age_successes(&world);
    world.run(["status"]).exits(3).says("STALE: nobody was pulled for").says("alert.stale_after (24 h)");
    world.run(["check", "--offline"]).exits(3).says("FAILED  freshness").says("not running");
    assert_eq!(world.run(["status", "--json"]).json()["stale_since"], "2020-01-01T00:00:00Z");
    // Who is not to be pulled makes nobody stale.
    world.write_roster("[[patient]]\nid = \"sandbox-0001\"\nenabled = false\n[[patient]]\nid = \"sandbox-0002\"\nenabled = false\n");
    world.run(["check", "--offline"]).exits(0);
    world.run(["status"]).exits(0).says("disabled: enabled = false in the roster");
    world.list_generated(2);
    world.change_setting("alert.stale_after", r#""3650d""#);
    world.run(["status"]).exits(0);
}

#[test]
fn a_cycle_is_good_only_if_nobody_waits_and_everything_that_tells_agrees() {
    let (beats, heartbeat) = count_beats();
    let world = world(3, "every 1s").set("alert.heartbeat_url", &format!("{heartbeat:?}"));
    let daemon = world.daemon();
    daemon.shows(GOOD_CYCLES, |cycles| cycles >= 1);
    beats.recv_timeout(DEADLINE).expect("a heartbeat");
    let health = |path: &str| {
        let answer = daemon.get(path);
        (answer.status, serde_json::from_str::<Value>(&answer.body).unwrap())
    };
    assert_eq!(health("/healthz?strict").0, 200);
    assert_eq!(health("/healthz").1["needs_a_person"], false);

    world.fault("kind = 'html_200', person = 'sandbox-0002'");
    let partly = "healthex_sync_cycles_total{outcome=\"partly\"}";
    daemon.shows("healthex_sync_patients{state=\"failing\"}", |failing| failing == 1);
    let before = daemon.shows(partly, |partly| partly >= 1);
    let good = daemon.shows(GOOD_CYCLES, |_| true);
    while beats.try_recv().is_ok() {}
    // In most of these it is not even asked.
    daemon.shows(partly, |partly| partly >= before + 3);
    assert_eq!(daemon.shows(GOOD_CYCLES, |_| true), good, "a good cycle while somebody waits");
    assert!(beats.try_recv().is_err(), "a heartbeat while somebody waits");
    daemon.shows("healthex_sync_needs_a_person", |needs| needs == 1);
    let (plain, body) = health("/healthz");
    assert_eq!((plain, health("/healthz?strict").0), (200, 503), "{body}");
    assert_eq!((&body["needs_a_person"], &body["patients"]["failing"]), (&true.into(), &1.into()), "{body}");
    assert!(body["reason"].as_str().unwrap().contains("1 failing"), "{body}");
    let page = daemon.get("/").body;
    assert!(page.contains("one patient needs a look") && !page.contains("All is well"), "{page}");
    // The last cycle by all the ends that there were.
    assert!(page.contains(" ok, 1 skipped") || page.contains(" ok, 1 failed"), "{page}");
    assert!(page.contains("class=\"times\""), "no time axis: {page}");

    world.sandbox.clear_script();
    daemon.shows(GOOD_CYCLES, |cycles| cycles > good);
    beats.recv_timeout(DEADLINE).expect("a heartbeat");
    daemon.waits("a strict 200", || (health("/healthz?strict").0 == 200).then_some(()));
    daemon.stops();
}

#[test]
fn history_and_known_problems_survive_a_restart() {
    let world = world(3, "every 1s").set("consent.hold_after", "1").set("consent.hold_fraction", "0.01");
    let alerts = world.path("alerts");
    super::alert_by(&world, &format!("echo \"$HEALTHEX_SYNC_ALERT $1\" >> {}", alerts.display()));
    let daemon = world.daemon();
    daemon.shows(GOOD_CYCLES, |cycles| cycles >= 2);
    world.sandbox.withdraw("sandbox-0002");
    daemon.shows("healthex_sync_problem{problem=\"held\"}", |held| held == 1);
    daemon.waits("the alert", || fs::read_to_string(&alerts).ok().filter(|text| text.contains("demo-02")));
    // Remembered at the end of a cycle.
    daemon.waits("it is remembered", || {
        (world.count("SELECT count(*) FROM problem_patient") == 1).then_some(())
    });
    daemon.stops();
    let cycles = world.count("SELECT count(*) FROM cycle");
    assert!(cycles >= 3, "{cycles}");

    world.run(["status"]).exits(3).says("problem: patients are held, since");
    world.change_setting("sync.schedule", r#""every 7d""#);
    let daemon = world.daemon();
    daemon.shows("healthex_sync_problem{problem=\"held\"}", |held| held == 1);
    let page = daemon.get("/").body;
    assert!(page.contains("This needs a person: patients are held"), "{page}");
    assert!(page.matches("<rect class=").count() >= 3, "no history: {page}");
    assert_eq!(get(&daemon.address(), "/healthz?strict", "").status, 503);
    daemon.stops();
    let told = fs::read_to_string(&alerts).unwrap();
    assert_eq!(told.matches("problem healthex-sync: 1 patient (demo-02)").count(), 1, "{told}");

    // A purge takes its name out of what is remembered.
    world.run(["purge", "demo-02", "--yes"]).exits(0);
    assert_eq!(world.count("SELECT count(*) FROM problem_patient"), 0);
    world.scrub_on_server();
    assert!(!world.warehouse_bytes_contain("demo-02"), "its label is still in a file");
}

#[test]
fn a_service_that_follows_a_sync_by_hand_is_healthy_at_once() {
    let world = world(2, "every 7d");
    world.fault("kind = 'status', status = 500");
    world.change_setting("api.max_attempts", "1");
    world.run(["sync"]).exits(3);
    let daemon = world.daemon();
    assert_eq!(get(&daemon.address(), "/healthz", "").status, 503, "nobody was reached");
    daemon.stops();
    world.sandbox.clear_script();
    world.run(["sync", "--patient", "sandbox-0001"]).exits(0);
    let daemon = world.daemon();
    assert_eq!(get(&daemon.address(), "/healthz", "").status, 503, "one of two was asked");
    daemon.stops();
    world.run(["sync"]).exits(0);
    let daemon = world.daemon();
    assert_eq!(get(&daemon.address(), "/healthz", "").status, 200);
    daemon.stops();
}

#[test]
fn a_reload_that_failed_is_told_by_its_command_the_status_and_the_page() {
    let world = world(2, "every 7d");
    world.run(["reload"]).exits(1).says("no `run` of");
    let daemon = world.daemon();
    daemon.shows(GOOD_CYCLES, |cycles| cycles == 1);
    world.run(["reload"]).exits(0).says("were read again");

    // A configuration that this command can use and `run`, which has another variable, cannot.
    world.write_roster("[[patient]]\nid = \"..\"\n");
    let told = world.run(["reload", "--json"]).exits(2).says("the roster cannot be used").json();
    assert!(told["failed"].as_str().unwrap().contains("the roster cannot be used"), "{told}");
    world.run(["status"]).says("reload: failed at").says("problem: the roster cannot be used");
    world.list_generated(2);
    world.run(["reload"]).exits(0);
    world.run(["status"]).exits(0).says_nothing_of("reload: failed");

    world.change_setting("sync.schedule", r#""never mind""#);
    world.run(["reload"]).exits(2).says("sync.schedule");
    daemon.hang_up();
    daemon.shows("healthex_sync_problem{problem=\"settings\"}", |problem| problem == 1);
    let page = daemon.get("/").body;
    assert!(page.contains("the former one is in force") && page.contains("never mind"), "{page}");
    world.change_setting("sync.schedule", r#""every 6d""#);
    world.run(["status"]).says("reload: failed at").says("is neither \"every 15m\"");
    world.run(["check", "--offline"]).exits(2).says("FAILED  reload");
    world.run(["reload"]).exits(0);
    daemon.shows("healthex_sync_problem{problem=\"settings\"}", |problem| problem == 0);

    world.change_setting("log.level", r#""debug""#);
    world.run(["reload"]).exits(0).says("in force only after a restart: log.level");
    let told = world.run(["reload", "--json"]).exits(0).json();
    assert_eq!(told, serde_json::json!({ "failed": null, "needs_restart": ["log.level"] }));
    world.run(["status"]).says("log.level: changed, and in force only after a restart");
    daemon.stops();
}

#[test]
fn a_reload_in_the_middle_of_a_cycle_is_answered_at_once() {
    let world = world(2, "every 7d");
    world.fault("kind = 'stall_before_headers', seconds = 3600, times = 2");
    let mut daemon = world.daemon();
    daemon.waits("a cycle that stalls", || (!world.asked("sandbox-0001").is_empty()).then_some(()));
    daemon.waits("how far it is", || run_of(&world)["cycle"]["total"].as_u64().filter(|total| *total == 2));
    world.run(["status"]).says("a cycle is under way since");
    world.change_setting("sync.schedule", r#""every 1s""#);
    world.run(["reload"]).exits(0);
    daemon.says("the configuration was read again");
    daemon.terminate();
    daemon.ends().exits(0);
    let log = daemon.log().join("\n");
    assert!(log.contains("asked to stop") && !log.contains("ERROR"), "a stop is an error:\n{log}");
}

#[test]
fn keys_that_were_replaced_are_read_again_from_where_the_configuration_has_them() {
    let world = world(1, "every 7d");
    for (name, text) in [("handed/api-key", "old-key"), ("handed/api-secret", "old-secret")] {
        world.write_private(name, text);
    }
    let mut command = world.command(["run"]);
    command.env("CREDENTIALS_DIRECTORY", world.path("handed"));
    let daemon = world.daemon_by(&mut command);
    daemon.says("the credentials were replaced, and are tried");
    daemon.shows(GOOD_CYCLES, |cycles| cycles == 1);
    daemon.shows("healthex_sync_problem{problem=\"credentials\"}", |problem| problem == 0);
    // Whoever checks is told that the service was handed over others.
    world.run(["check"]).exits(4).says("FAILED  run reads").says("systemctl restart");
    daemon.stops();

    // Two that are both refused are not tried in turns.
    world.write_private("api-key", "another-wrong-key");
    world.change_setting("sync.schedule", r#""every 2s""#);
    world.sandbox.clear_requests();
    let daemon = world.daemon_by(&mut command);
    daemon.says("and are tried");
    daemon.shows("healthex_sync_cycles_total{outcome=\"bad\"}", |cycles| cycles >= 2);
    daemon.stops();
    // At each tick the one, and the other once.
    let cycles = world.count("SELECT count(*) FROM cycle WHERE verdict = 'bad'");
    assert!(i64::try_from(world.tokens_minted()).unwrap() <= cycles, "{} of {cycles}", world.tokens_minted());
}

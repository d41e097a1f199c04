//! Several processes that share a roster and a warehouse on a server: who takes whom, what becomes of those whose worker
//! is killed, frozen or stopped, and what is decided once for all of them.

use healthex_sync::sandbox::{Population, Sandbox};
use rustix::process::Signal;

use super::database::Database;
use super::sync::assert_equals_sandbox;
use crate::world::{Running, World, record, wait_until};

const PATIENTS: usize = 24;

pub(super) fn person(number: usize) -> String {
    format!("p{number:02}")
}

/// Patients with small records, whose answers take a moment, in a database of its own.
pub(super) fn world(patients: usize) -> Option<(World, Database)> {
    let mut population = Population::empty();
    for number in 0..patients {
        population.add_person(&person(number), record(&person(number), 4));
    }
    let world = World::serving(population).set("sync.concurrency", "2").set("warehouse.lease", r#""10s""#);
    let database = Database::of(&world)?;
    Some((world, database))
}

/// Starts a process with files of its own, as on another machine.
pub(super) fn start(world: &World, name: &str, args: &[&str]) -> Running {
    let folder = world.path(name);
    std::fs::create_dir_all(&folder).unwrap();
    Running::start(world.command(args.iter()).env("STATE_DIRECTORY", folder))
}

/// Has the first pages of so many pulls stay away until they are asked for again.
fn stall(world: &World, times: usize) {
    world.fault(&format!("kind = 'stall_before_headers', seconds = 60, times = {times}"));
}

/// Counts the patients that a process is dealing with, as SQL.
pub(super) fn held_by(process: &Running) -> String {
    let pid = process.pid();
    format!(
        "SELECT count(*) FROM healthex.checkpoint AS c JOIN healthex.worker AS w ON w.id = c.owner WHERE w.pid = {pid}"
    )
}

fn pulled(database: &Database) -> usize {
    let pulled = "SELECT count(*) FROM healthex.checkpoint WHERE last_success_at IS NOT NULL";
    usize::try_from(database.count(pulled)).unwrap()
}

/// Everybody was pulled, and nothing of a cycle is left.
#[track_caller]
fn assert_worked_off(world: &World, database: &Database, patients: usize) {
    for number in 0..patients {
        assert_equals_sandbox(world, database, &person(number));
    }
    assert_eq!(database.count("SELECT count(*) FROM healthex.checkpoint WHERE owner IS NOT NULL"), 0);
    for table in ["turn", "ticket", "shared_cycle_part", "writer"] {
        assert_eq!(database.count(&format!("SELECT count(*) FROM healthex.{table}")), 0, "{table}");
    }
    let open = "SELECT count(*) FROM healthex.shared_cycle WHERE ended_at IS NULL";
    assert_eq!(database.count(open), 0);
    let pulls = "SELECT count(*) FROM healthex.pull WHERE finished_at IS NULL";
    assert_eq!(database.count(pulls), 0);
}

/// Starts the one that leads, and others once there is a cycle to take part in.
pub(super) fn lead_and_others(world: &World, database: &Database, others: usize) -> (Running, Vec<Running>) {
    let lead = start(world, "lead", &["sync", "--full", "--json"]);
    wait_until("the turns are planned", || {
        let planned = "planned_at IS NOT NULL AND ended_at IS NULL";
        database.count(&format!("SELECT count(*) FROM healthex.shared_cycle WHERE {planned}")) > 0
    });
    let others = (0..others).map(|number| start(world, &format!("worker-{number}"), &["sync", "--json"]));
    let others: Vec<Running> = others.collect();
    wait_until("they take part", || {
        let workers =
            "SELECT count(*) FROM healthex.worker AS w JOIN healthex.shared_cycle AS c ON c.id = w.cycle
              WHERE c.ended_at IS NULL";
        let workers = database.count(workers);
        usize::try_from(workers).unwrap() > others.len()
    });
    (lead, others)
}

#[test]
fn workers_share_a_roster_and_ask_for_each_patient_once() {
    let Some((world, database)) = world(PATIENTS) else { return };
    world.fault("kind = 'slow_drip', bytes = 4000, interval_ms = 40, times = 1000");
    let (lead, others) = lead_and_others(&world, &database, 2);
    let told = lead.ended().exits(0).json();
    let parts: Vec<_> = others.into_iter().map(|other| other.ended().exits(0).json()).collect();

    // The one that leads tells of the whole, the others of their parts.
    assert_eq!((&told["patients"]["ok"], told.get("part")), (&PATIENTS.into(), None));
    let did = |part: &serde_json::Value| part["patients"]["ok"].as_u64().unwrap();
    assert!(parts.iter().all(|part| part["part"] == true && did(part) > 0), "{parts:?}");
    assert_eq!(told["resources"]["inserted"], PATIENTS * 6);
    for number in 0..PATIENTS {
        assert_eq!(world.asked(&person(number)).len(), 1, "{number}");
    }
    assert_worked_off(&world, &database, PATIENTS);
}

#[test]
fn ledgers_that_begin_at_once_are_of_one_warehouse() {
    for _ in 0..3 {
        let Some((world, database)) = world(2) else { return };
        let names = ["one", "two", "three", "four"];
        // One that is about to lead is waited for, so that nobody is left out.
        for worker in names.map(|name| start(&world, name, &["sync"])) {
            worker.ended().exits(0);
        }
        for name in names {
            start(&world, name, &["sync"]).ended().exits(0).says_nothing_of("ledger");
        }
        assert_worked_off(&world, &database, 2);
    }
}

#[test]
fn status_and_metrics_tell_who_shares_the_roster_and_what_keeps_one_from_it() {
    let Some((world, database)) = world(PATIENTS) else { return };
    world.fault("kind = 'slow_drip', bytes = 4000, interval_ms = 60, times = 1000");
    let (lead, mut others) = lead_and_others(&world, &database, 1);
    let told = world.run(["status", "--json"]).exits(0).json();
    assert_eq!(told["workers"]["cycle"]["total"], PATIENTS);
    let is: Vec<&str> =
        told["workers"]["workers"].as_array().unwrap().iter().map(|it| it["is"].as_str().unwrap()).collect();
    assert_eq!(is, ["leading", "at work"]);
    assert_eq!(told["workers"]["workers"][0]["pid"], lead.pid());
    let status = world.run(["status"]).exits(0);
    status
        .says("a cycle is under way by 2 workers: ")
        .says(&format!("(pid {}, 0.", lead.pid()))
        .says("leading");
    lead.ended().exits(0);
    others.pop().unwrap().ended().exits(0);

    // One whose key is refused leaves the cycle, and says why.
    let lead = start(&world, "lead", &["sync", "--full"]);
    wait_until("turns are given out", || database.count("SELECT count(*) FROM healthex.ticket") > 0);
    let mut refused = world.command(["sync"]);
    refused
        .env("STATE_DIRECTORY", world.path("worker-0"))
        .envs([("HEALTHEX_API_KEY", Sandbox::API_KEY), ("HEALTHEX_API_SECRET", "another")]);
    Running::start(&mut refused).ended().exits(4);
    let told = "SELECT count(*) FROM healthex.worker WHERE problem LIKE '%credentials%'";
    assert_eq!(database.count(told), 1);
    lead.ended().exits(0);

    world.change_setting("http.listen", r#""127.0.0.1:0""#);
    let daemon = world.daemon();
    daemon.shows("healthex_sync_workers{is=\"waiting\"}", |workers| workers > 0);
    assert!(daemon.get("/").body.contains("<h2>Workers</h2>"));
}

#[test]
fn each_process_counts_what_it_did_itself_and_whom_it_took_over() {
    let Some((world, database)) = world(PATIENTS) else { return };
    let world = world.set("http.listen", r#""127.0.0.1:0""#);
    world.fault("kind = 'slow_drip', bytes = 4000, interval_ms = 60, times = 1000");
    let daemon = world.daemon();
    wait_until("turns are given out", || database.count("SELECT count(*) FROM healthex.ticket") > 0);
    let other = start(&world, "other", &["sync"]);
    let told = format!(
        "SELECT count(*) FROM healthex.shared_cycle_part
          WHERE (counts->>'ok')::int > 0 AND worker = (SELECT id FROM healthex.worker WHERE pid = {})",
        other.pid()
    );
    wait_until("it has pulled somebody", || database.count(&told) > 0);
    wait_until("it has others", || database.count(&held_by(&other)) > 0);
    other.kill();
    daemon.shows("healthex_sync_lease_takeovers_total", |taken| taken > 0);
    let ok = daemon.shows("healthex_sync_pulls_total{outcome=\"ok\"}", |ok| ok > 0);
    assert!(ok < PATIENTS as u64, "{ok}");
    daemon.shows("healthex_sync_database_seconds_count", |transactions| transactions > 0);
    daemon.shows("healthex_sync_database_up", |up| up == 1);
    assert_eq!(pulled(&database), PATIENTS);
}

#[test]
fn what_a_killed_worker_has_left_is_taken_over_by_another() {
    let Some((world, database)) = world(PATIENTS) else { return };
    world.fault("kind = 'slow_drip', bytes = 4000, interval_ms = 40, times = 1000");
    let (lead, mut others) = lead_and_others(&world, &database, 1);
    let owners = "SELECT count(DISTINCT owner) FROM healthex.checkpoint";
    wait_until("both are at work", || database.count(owners) > 1);
    others.pop().unwrap().kill();
    let told = lead.ended().exits(0).json();
    assert_eq!((&told["patients"]["total"], &told["patients"]["failed"]), (&PATIENTS.into(), &0.into()));
    assert_worked_off(&world, &database, PATIENTS);
}

#[test]
fn where_the_one_that_leads_is_killed_another_leads_to_the_end() {
    let Some((world, database)) = world(PATIENTS) else { return };
    // One is refused, which is judged at the end.
    world.fault("kind = 'status', status = 403, person = 'p05', times = 1000");
    world.fault("kind = 'slow_drip', bytes = 4000, interval_ms = 40, times = 1000");
    let (lead, mut others) = lead_and_others(&world, &database, 1);
    wait_until("some are pulled", || pulled(&database) > 3);
    lead.kill();
    let ran = others.pop().unwrap().ended().exits(0).says("this worker leads the cycle from now on");
    assert_eq!(ran.json().get("part"), None);
    assert_eq!(pulled(&database), PATIENTS - 1);
    let state = "SELECT state FROM healthex.checkpoint WHERE person_id = 'p05'";
    assert_eq!(database.ask(state).unwrap(), "revoked");
    assert_eq!(database.count("SELECT count(*) FROM healthex.shared_cycle WHERE ended_at IS NULL"), 0);
}

#[test]
fn where_nobody_is_left_the_next_cycle_begins_anew() {
    let Some((world, database)) = world(PATIENTS) else { return };
    stall(&world, 2);
    let lead = start(&world, "lead", &["sync"]);
    wait_until("two are asked for", || database.count("SELECT count(*) FROM healthex.ticket") > 0);
    lead.kill();
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0);
    assert_worked_off(&world, &database, PATIENTS);
}

#[test]
fn a_cycle_whose_lead_was_killed_while_it_was_planned_is_waited_for_by_nobody() {
    let Some((world, database)) = world(2) else { return };
    // As another machine would have left it.
    database.exec(
        "INSERT INTO healthex.shared_cycle (started_at) VALUES (now());
         INSERT INTO healthex.worker (id, host, pid, version, started_at, seen_at, until, cycle)
         SELECT 'gone', 'there', 7, '0', now(), now(), now() + interval '1 hour', id FROM healthex.shared_cycle;
         INSERT INTO healthex.writer (one, owner, host, pid, until) VALUES (true, 'gone', 'there', 7, now() + interval '8 seconds')",
    );
    world.run(["sync"]).says("takes part in it").says("has ended before it was planned");
    assert_eq!(pulled(&database), 0);
    world.run(["sync"]).exits(0);
    assert_worked_off(&world, &database, 2);
}

#[test]
fn a_worker_that_was_frozen_has_nothing_more_and_says_so() {
    let Some((world, database)) = world(8) else { return };
    world.fault("kind = 'slow_drip', bytes = 1000, interval_ms = 200, times = 1000");
    let (lead, mut others) = lead_and_others(&world, &database, 1);
    let frozen = others.pop().unwrap();
    wait_until("it is at work", || database.count(&held_by(&frozen)) > 0);
    frozen.signal(Signal::STOP);
    let told = lead.ended().exits(0).json();
    // With whom it has come to an end since it last told, nobody else knows.
    let count = |of: &str| told["patients"][of].as_u64().unwrap();
    assert_eq!((count("total"), count("ok") + count("skipped")), (8, 8), "{told}");
    assert_worked_off(&world, &database, 8);
    frozen.signal(Signal::CONT);
    frozen.ended().exits(0).says("another pull of this patient has taken over");
    assert_worked_off(&world, &database, 8);
}

#[test]
fn a_worker_that_is_stopped_leaves_its_patients_to_the_others() {
    let Some((world, database)) = world(PATIENTS) else { return };
    world.fault("kind = 'slow_drip', bytes = 4000, interval_ms = 40, times = 1000");
    let (lead, mut others) = lead_and_others(&world, &database, 1);
    wait_until("some are pulled", || pulled(&database) > 3);
    // It leads, and leaves that too.
    lead.terminate();
    lead.ended().exits(3);
    let told = others.pop().unwrap().ended().exits(0).json();
    assert_eq!((&told["patients"]["ok"], told.get("part")), (&PATIENTS.into(), None));
    assert_worked_off(&world, &database, PATIENTS);
}

#[test]
fn a_purge_waits_for_no_cycle_and_nothing_is_stored_behind_it() {
    let Some((world, database)) = world(4) else { return };
    world.run(["sync"]).exits(0);
    world.fault("kind = 'slow_drip', bytes = 1000, interval_ms = 200, times = 1000");
    let lead = start(&world, "lead", &["sync", "--full"]);
    wait_until("it is being pulled", || {
        database
            .count("SELECT count(*) FROM healthex.checkpoint WHERE owner IS NOT NULL AND person_id = 'p00'")
            > 0
    });
    let purge = start(&world, "elsewhere", &["purge", "p00", "--yes"]).ended().exits(0);
    purge.says("p00: ").says("rows removed");
    lead.ended().exits(0);
    assert!(database.live_rows("p00").is_empty());
    assert_eq!(database.count("SELECT count(*) FROM healthex.purge_log"), 1);
    let state = "SELECT state FROM healthex.checkpoint WHERE person_id = 'p00'";
    assert_eq!(database.ask(state).unwrap(), "paused");
    assert!(std::fs::read_to_string(world.path("elsewhere/healthex-sync.purges")).unwrap().contains("p00"));
}

/// Without fences it would be: so the tests here can fail.
#[test]
fn without_fences_a_page_is_stored_behind_a_purge() {
    let Some((world, database)) = world(1) else { return };
    world.run(["sync"]).exits(0);
    world.fault("kind = 'slow_drip', bytes = 200, interval_ms = 200, times = 1000");
    let folder = world.path("lead");
    std::fs::create_dir_all(&folder).unwrap();
    let mut command = world.command(["sync", "--full"]);
    let lead =
        Running::start(command.env("STATE_DIRECTORY", folder).env("HEALTHEX_SYNC_WITHOUT_FENCES", "1"));
    wait_until("it is being pulled", || {
        database.count("SELECT count(*) FROM healthex.checkpoint WHERE owner IS NOT NULL") > 0
    });
    start(&world, "elsewhere", &["purge", "p00", "--yes"]).ended().exits(0);
    lead.ended();
    assert!(!database.live_rows("p00").is_empty());
}

#[test]
fn refusals_that_several_workers_meet_are_judged_together() {
    let Some((world, database)) = world(PATIENTS) else { return };
    world.run(["sync"]).exits(0);
    for number in 0..12 {
        world.fault(&format!("kind = 'status', status = 403, person = '{}', times = 1000", person(number)));
    }
    world.fault("kind = 'slow_drip', bytes = 4000, interval_ms = 40, times = 1000");
    let (lead, others) = lead_and_others(&world, &database, 2);
    let told = lead.ended().exits(3).json();
    assert_eq!(told["patients"]["held"], 12);
    for other in others {
        other.ended().exits(0);
    }
    assert_eq!(database.count("SELECT count(*) FROM healthex.purge_log"), 0);
    assert_eq!(database.count("SELECT count(*) FROM healthex.checkpoint WHERE state = 'held'"), 12);
}

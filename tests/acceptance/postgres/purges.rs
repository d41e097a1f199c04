//! Purges of a warehouse on a server: what is left in the tables' files, and what this machine's ledger knows.

use rustix::process::Signal;

use super::database::Database;
use super::proxy::Proxy;
use super::sync::assert_equals_sandbox;
use super::workers;
use crate::world::{NAME_CANARY, World, wait_until};

/// Anna and ben are synced, by a worker who owns no table.
fn synced() -> Option<(World, Database)> {
    let world = World::with_patients(["anna", "ben"]);
    let database = Database::of(&world)?;
    world.run(["sync"]).exits(0);
    Some((world, database))
}

/// The words of a canary of anna's, which a resource and an analysts' table have.
fn marker() -> String {
    format!("{NAME_CANARY}-anna")
}

fn is_in_files(database: &Database) -> bool {
    let files = std::fs::read_dir(database.files()).unwrap().map(|file| file.unwrap().path());
    let is_in = |bytes: &[u8]| memchr::memmem::find(bytes, marker().as_bytes()).is_some();
    // A file that is gone meanwhile holds nothing.
    files.filter_map(|file| std::fs::read(file).ok()).any(|bytes| is_in(&bytes))
}

fn ledger_lines(world: &World) -> usize {
    let ledger = std::fs::read_to_string(world.path("healthex-sync.purges")).unwrap();
    ledger.lines().filter(|line| line.contains("\"anna\"")).count()
}

#[test]
fn a_table_is_written_anew_once_nobody_can_see_what_was_purged() {
    let Some((world, database)) = synced() else { return };
    if !database.shows_files() {
        return;
    }
    assert!(is_in_files(&database));
    let analyst = database.reader_as("healthex_analyst");

    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(0).says("1 revoked");
    assert_eq!(database.live_rows("anna").len(), 0);
    world.run(["audit"]).exits(0).says("tables not written anew yet");
    let status = world.run(["status", "--json"]).exits(0).json();
    assert!(status["scrub_waits_for"].as_str().unwrap().ends_with("run as their owner"), "{status}");
    database.run(&world, &["scrub"]).exits(1).says("run as their owner");
    assert!(is_in_files(&database));

    let mut scrub = database.start_as("healthex_owner", &world, &["scrub"]);
    wait_until("the analyst is told of", || scrub.stderr().contains("healthex_analyst"));
    assert!(!scrub.has_ended());
    assert!(is_in_files(&database));
    drop(analyst);
    scrub.ended().exits(0).says("purges: 1; the tables that may have held them are written anew");
    assert!(!is_in_files(&database));

    world.run(["status"]).says("last removed");
    world.run(["audit"]).exits(0).says("tables written anew").says("warehouse.retention does not say");
    world.change_setting("warehouse.retention", r#""35d""#);
    world.run(["audit"]).exits(0).says("at the latest");
    let again = database.run_as("healthex_owner", &world, &["scrub", "--json"]).exits(0).json();
    assert_eq!(again["purges"], 0);
    assert_equals_sandbox(&world, &database, "ben");
}

#[test]
fn only_the_parts_that_held_a_patient_are_written_anew() {
    let world = World::with_patients(["anna", "ben", "cora", "dan", "eva"]);
    let Some(database) = Database::empty().filter(Database::shows_files) else { return };
    database.migrate(&world, &["--partitions", "8"]).exits(0);
    database.take(&world);
    world.run(["sync"]).exits(0);
    let files = || {
        let parts = "SELECT c.relname || ' ' || pg_relation_filenode(c.oid) FROM pg_class AS c
              WHERE c.relname LIKE 'observation\\_%' AND c.relkind = 'r' AND pg_relation_size(c.oid) > 0
                AND c.relnamespace = 'healthex_parts'::regnamespace ORDER BY 1";
        database.rows(parts).into_iter().flatten().flatten().collect::<Vec<String>>()
    };
    let before = files();
    assert!(before.len() > 1, "{before:?}");
    world.run(["purge", "anna", "--yes"]).exits(0).says("bytes are still in the tables' files");
    database.run_as("healthex_owner", &world, &["scrub"]).exits(0);
    let kept = files().iter().filter(|file| before.contains(file)).count();
    assert_eq!(kept, before.len() - 1);
    assert!(!is_in_files(&database));
}

#[test]
fn a_purge_that_the_server_has_lost_is_carried_out_from_the_ledger() {
    let Some((world, database)) = synced() else { return };
    let before = database.copied();
    world.run(["purge", "anna", "--yes"]).exits(0);
    assert_eq!(ledger_lines(&world), 1);

    before.take(&world);
    world.run(["audit", "--verify"]).exits(0).says("that the warehouse does not know");
    world.run(["check", "--offline"]).says("that the warehouse does not know");
    let ran = world.run(["sync"]).exits(0);
    assert!(ran.stderr.contains("which this warehouse did not know"), "{ran}");
    assert_eq!(before.live_rows("anna").len(), 0);
    assert_eq!(before.count("SELECT count(*) FROM healthex.purge_log"), 1);
    assert_eq!(ledger_lines(&world), 1);
    assert_equals_sandbox(&world, &before, "ben");
    world.run(["audit", "--verify"]).exits(0).says("the ledger is whole: 1 purge");
}

#[test]
fn a_worker_that_takes_part_tells_of_the_purges_that_its_ledger_repeats() {
    let Some((world, database)) = synced() else { return };
    let before = database.copied();
    let worker = |args: &[&str]| workers::start(&world, "worker", args);
    worker(&["purge", "anna", "--yes"]).ended().exits(0);
    before.take(&world);
    world.fault("kind = 'slow_drip', bytes = 1000, interval_ms = 200, times = 1000");
    let at_work = |count: i64| {
        let workers =
            "SELECT count(*) FROM healthex.worker AS w JOIN healthex.shared_cycle AS c ON c.id = w.cycle
             WHERE c.planned_at IS NOT NULL AND c.ended_at IS NULL";
        wait_until("so many share a cycle", || before.count(workers) == count);
    };
    let lead = workers::start(&world, "lead", &["sync", "--full"]);
    at_work(1);
    lead.signal(Signal::STOP);
    let worker = worker(&["sync"]);
    at_work(2);
    lead.signal(Signal::CONT);
    worker.ended().exits(0).says("took part in a cycle").says("purged anna");
    lead.ended();
    assert_eq!(before.live_rows("anna").len(), 0);
}

#[test]
fn who_is_purged_while_a_round_pulls_it_stays_purged() {
    let Some((world, database)) = synced() else { return };
    world.fault("kind = 'status', person = 'anna', status = 403, times = 1");
    world.fault("kind = 'slow_drip', person = 'anna', at = 'everything', bytes = 300, interval_ms = 250, times = 1000");
    let asked = world.asked("anna").len();
    let cycle = world.start(["sync", "--full"]);
    // Refused, permitted when asked again, and pulled for that.
    wait_until("the round pulls anna", || world.asked("anna").len() > asked + 2);
    workers::start(&world, "operator", &["purge", "anna", "--yes"]).ended().exits(0).says("anna");
    cycle.ended().exits(0);
    assert_eq!(database.live_rows("anna").len(), 0);
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0);
    assert_eq!(database.live_rows("anna").len(), 0);
    assert_eq!(database.count("SELECT count(*) FROM healthex.checkpoint WHERE state = 'paused'"), 1);
}

#[test]
fn without_its_ledger_nobody_is_purged() {
    let Some((world, database)) = synced() else { return };
    world.run(["purge", "ben", "--yes"]).exits(0);
    let ledger = world.path("healthex-sync.purges");
    std::fs::rename(&ledger, world.path("elsewhere")).unwrap();
    let ran = world.run(["purge", "anna", "--yes"]);
    assert_ne!(ran.code, 0, "{ran}");
    assert!(ran.stderr.contains("is missing, and this warehouse has purges"), "{ran}");
    assert!(!database.live_rows("anna").is_empty());
    world.run(["audit", "--new-ledger"]).exits(0).says("another ledger was begun");
    world.run(["purge", "anna", "--yes"]).exits(0);
    assert_eq!(database.live_rows("anna").len(), 0);
    world.run(["audit", "--verify"]).exits(0).says("the ledger is whole: 2 purges");
}

#[test]
fn the_ledger_of_another_warehouse_is_refused() {
    let Some((world, database)) = synced() else { return };
    world.run(["purge", "ben", "--yes"]).exits(0);
    let Some(other) = Database::migrated(&world) else { return };
    other.take(&world);
    std::fs::rename(world.path("healthex-sync.purges"), world.path("elsewhere")).unwrap();
    world.run(["sync"]).exits(0);
    std::fs::rename(world.path("elsewhere"), world.path("healthex-sync.purges")).unwrap();
    world.run(["sync"]).exits(5).says("ledger");
    database.take(&world);
    world.run(["audit", "--verify"]).exits(0);
}

#[test]
fn a_purge_whose_commit_is_cut_off_is_made_once_and_has_one_line() {
    let Some((world, database)) = synced() else { return };
    let proxy = Proxy::cutting_commits(database.cluster.port);
    world.change_setting("warehouse.url", &format!("{:?}", proxy.url("healthex_worker", &database.name)));
    for round in 1..=6_usize {
        world.run(["purge", "anna", "--yes"]).exits(0).says("anna: 12 rows removed");
        assert_eq!(database.count("SELECT count(*) FROM healthex.purge_log"), i64::try_from(round).unwrap());
        let purges = "\"reason\":\"operator\"";
        let ledger = std::fs::read_to_string(world.path("healthex-sync.purges")).unwrap();
        assert_eq!(ledger.lines().filter(|line| line.contains(purges)).count(), round, "{ledger}");
        assert_eq!(database.live_rows("anna").len(), 0);
        world.run(["sync", "--patient", "anna"]).exits(0);
        assert_equals_sandbox(&world, &database, "anna");
    }
    let (unsent, unanswered) = proxy.cuts();
    assert!(unsent > 0 && unanswered > 0, "{unsent} and {unanswered}");
    world.run(["audit", "--verify"]).exits(0).says("the ledger is whole");
}

#[test]
fn a_purge_that_is_killed_is_whole_or_not_there() {
    for moment in 0..4_usize {
        let Some((world, database)) = synced() else { return };
        world.sandbox.withdraw("anna");
        world.sandbox.clear_requests();
        let running = world.start(["sync"]);
        wait_until("the withdrawal is confirmed", || world.asked("anna").len() == 2);
        for _ in 0..moment {
            // So long a look takes a little.
            let _ = database.live_rows("anna");
        }
        running.kill();
        let purged = database.count("SELECT count(*) FROM healthex.purge_log");
        assert_eq!(database.live_rows("anna").is_empty(), purged == 1);
        world.run(["sync"]).exits(0);
        assert_eq!(database.live_rows("anna").len(), 0);
        assert_eq!(database.count("SELECT count(*) FROM healthex.purge_log"), 1);
        world.run(["audit", "--verify"]).exits(0).says("the ledger is whole: 1 purge");
        assert_equals_sandbox(&world, &database, "ben");
    }
}

#[test]
fn the_held_are_decided_while_a_cycle_is_under_way() {
    let Some((world, database)) = workers::world(12) else { return };
    world.run(["sync"]).exits(0);
    for number in 0..6 {
        world.sandbox.withdraw(&workers::person(number));
    }
    world.run(["sync"]).exits(3).says("6 held");
    // By then the cycle has asked the held again.
    let asked = world.asked("p11").len();
    world.fault("kind = 'stall_before_headers', person = 'p11', seconds = 60, times = 1");
    let mut cycle = workers::start(&world, "cycle", &["sync", "--full"]);
    wait_until("the last is asked for", || world.asked("p11").len() > asked);
    cycle.signal(Signal::STOP);
    world.sandbox.grant(&workers::person(0));
    let purge =
        |args: &[&str]| workers::start(&world, "elsewhere", &[&["purge", "--held", "--yes"], args].concat());
    purge(&["--expect", "6"]).ended().exits(2).says("5 held patients would be purged");
    assert_eq!(database.count("SELECT count(*) FROM healthex.purge_log"), 0);
    let ran = purge(&["--expect", "5"]).ended().exits(0);
    assert!(ran.stdout.contains("5 purged, 1 released"), "{ran}");
    assert_eq!(database.count("SELECT count(*) FROM healthex.purge_log"), 5);
    assert!((1..6).all(|number| database.live_rows(&workers::person(number)).is_empty()));
    assert_eq!(
        database.ask("SELECT state FROM healthex.checkpoint WHERE person_id = 'p00'").unwrap(),
        "active"
    );
    let ledger = std::fs::read_to_string(world.path("elsewhere/healthex-sync.purges")).unwrap();
    assert!((1..6).all(|number| ledger.contains(&workers::person(number))), "{ledger}");
    assert!(!cycle.has_ended());
    cycle.kill();
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0);
    assert_equals_sandbox(&world, &database, "p00");
    world.run(["verify"]).exits(0);
}

#[test]
fn a_table_that_is_made_meanwhile_has_nothing_of_who_is_purged() {
    let Some((world, database)) = synced() else { return };
    let purge = database.transaction(
        "UPDATE healthex.checkpoint SET holds_rows = false, state = 'paused' WHERE person_id = 'anna';
         DELETE FROM healthex.patient WHERE person_id = 'anna'",
    );
    let apply = database.start_as("healthex_owner", &world, &["views", "apply"]);
    wait_until("the purge is waited for", || {
        database.count("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'") > 0
    });
    purge.commit();
    apply.ended().exits(0);
    for (person, expected) in [("anna", 0), ("ben", 1)] {
        let rows = format!("SELECT count(*) FROM healthex.persons WHERE person_id = '{person}'");
        assert_eq!(database.count(&rows), expected, "{person}");
    }
}

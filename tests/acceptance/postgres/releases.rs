//! Workers of different releases over one warehouse, and tables that are made while workers would store into them.

use healthex_sync::sandbox::Population;
use rustix::process::Signal;

use super::database::Database;
use super::workers::{held_by, lead_and_others, person, start, world};
use crate::world::{World, record, wait_until};

/// As the release after this one would, which adds a column that this one need not know.
const ADDS: &str = "ALTER TABLE healthex.pull ADD COLUMN another text;
    INSERT INTO healthex.migration (version, needs_worker) VALUES (19, 18)";
/// As one would that changes what is there.
const CHANGES: &str = "INSERT INTO healthex.migration (version, needs_worker) VALUES (20, 20)";

#[test]
fn a_worker_goes_on_after_a_migration_that_only_adds() {
    let world = World::with_patients(["anna"]);
    let Some(database) = Database::of(&world) else { return };
    world.run(["sync"]).exits(0);
    database.exec(ADDS);
    world.run(["sync"]).exits(0).says("1 ok");
    world.run(["status"]).exits(0);
    let check = world.run(["check", "--offline"]);
    check.says("schema 19 of 18: a newer healthex-sync has made it");
    // What belongs to the newer one, it leaves alone.
    database.migrate(&world, &[]).exits(5).says("schema version 19, and this healthex-sync knows 18");
    let apply = database.run_as("healthex_owner", &world, &["views", "apply"]);
    apply.exits(5).says("a newer healthex-sync has made the schema");
    world.run(["sync"]).exits(0);
    world.run(["verify"]).exits(0);

    database.exec(CHANGES);
    for args in [&["sync"][..], &["status"], &["check", "--offline"]] {
        world.run(args).exits(5).says("schema version 20, and this healthex-sync knows 18");
    }
}

#[test]
fn a_worker_takes_no_more_patients_once_the_schema_needs_a_newer_one() {
    let Some((world, database)) = world(12) else { return };
    world.fault("kind = 'slow_drip', bytes = 2000, interval_ms = 40, times = 1000");
    let lead = start(&world, "lead", &["sync"]);
    wait_until("turns are given out", || database.count("SELECT count(*) FROM healthex.ticket") > 0);
    database.exec(CHANGES);
    lead.ended().exits(5).says("the schema was migrated").says("install that one here too");
    let pulled = "SELECT count(*) FROM healthex.checkpoint WHERE last_success_at IS NOT NULL";
    assert!(database.count(pulled) < 12);
    database.exec("DELETE FROM healthex.migration WHERE version = 20");
    world.run(["sync"]).exits(0);
    assert_eq!(database.count(pulled), 12);
}

#[test]
fn a_worker_with_other_tables_keeps_nobody_else_from_a_cycle() {
    let mut population = Population::empty();
    population.add_person(&person(0), record(&person(0), 4));
    let world = World::serving(population);
    let Some(database) = Database::of(&world) else { return };
    database.exec("UPDATE healthex.analyst_table SET definition = 'others' WHERE name = 'conditions'");
    world.run(["sync"]).exits(5).says("conditions").says("give this one their settings");
    // It has not led, and says why to whoever looks elsewhere.
    assert_eq!(database.count("SELECT count(*) FROM healthex.shared_cycle"), 0);
    assert_eq!(database.count("SELECT count(*) FROM healthex.worker WHERE problem LIKE '%conditions%'"), 1);
    world.run(["status"]).exits(0).says(": waiting; the analysts' tables are");
    world.run(["check", "--offline"]).exits(5).says("ok      workers").says("ok      worker ");
    database.run_as("healthex_owner", &world, &["views", "apply"]).exits(0);
    world.run(["sync"]).exits(0);

    database.exec(
        "INSERT INTO healthex.worker (id, host, pid, version, started_at, seen_at, until)
        VALUES ('other', 'there', 7, '9.9.9', now(), now(), '-infinity')",
    );
    let check = world.run(["check", "--offline"]);
    check.says("1 of 9.9.9; an upgrade is not over: bring the others to the newest too");
}

#[test]
fn tables_are_not_made_while_a_worker_may_store() {
    let Some((world, database)) = world(8) else { return };
    world.fault("kind = 'slow_drip', bytes = 1000, interval_ms = 200, times = 1000");
    let (lead, mut others) = lead_and_others(&world, &database, 1);
    let other = others.pop().unwrap();
    let of_it = held_by(&other);
    wait_until("it is at work", || database.count(&of_it) > 0);
    other.signal(Signal::STOP);
    lead.kill();
    let apply = || database.run_as("healthex_owner", &world, &["views", "apply"]);
    apply().exits(5).says(&format!("is in use by another healthex-sync (pid {} on ", other.pid()));
    database.migrate(&world, &[]).exits(0);

    // Once it was silent for too long, what it holds is not its own any more.
    database.exec("UPDATE healthex.worker SET until = now() - interval '1 second'");
    apply().exits(0);
    assert_eq!(database.count(&of_it), 0);
    other.signal(Signal::CONT);
    other.ended().says("taken over");
    world.sandbox.clear_script();
    world.run(["sync"]).exits(0);
    world.run(["verify"]).exits(0);
}

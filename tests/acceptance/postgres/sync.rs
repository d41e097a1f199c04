//! Cycles into a warehouse on a server: what they store, and what they go on with after a kill, a restart and a cut.

use super::database::Database;
use super::proxy::Proxy;
use crate::world::{World, observation, observation_tail, wait_until};

const PAGES: usize = 6;

/// One patient with six pages of ten entries, in a database of its own.
fn world() -> Option<(World, Database)> {
    let world = World::with_record(PAGES * 10 - 2);
    let database = Database::of(&world)?;
    Some((world, database))
}

#[track_caller]
pub(super) fn assert_equals_sandbox(world: &World, database: &Database, person: &str) {
    let (have, want) = (database.live_rows(person), world.oracle(person));
    let differ = want.iter().filter(|(key, resource)| have.get(*key) != Some(resource)).map(|(key, _)| key);
    let differ: Vec<&String> = differ.take(5).collect();
    assert!(have == want, "{person}: {} rows for {} entries; {differ:?}", have.len(), want.len());
}

/// Every page is stored once, and nothing is left half done.
#[track_caller]
fn assert_counted_once(world: &World, database: &Database) {
    let stored: i64 = database.count("SELECT sum(resources) FROM healthex.live_resources");
    assert_eq!(database.count("SELECT sum(inserted) FROM healthex.pull"), stored);
    assert_eq!(database.count("SELECT count(*) FROM healthex.pull WHERE finished_at IS NULL"), 0);
    assert_eq!(database.count("SELECT count(*) FROM healthex.seen"), 0);
    assert_eq!(database.count("SELECT count(*) FROM healthex.checkpoint WHERE pull_mode IS NOT NULL"), 0);
    // Whoever wrote has given the right to back.
    assert_eq!(database.count("SELECT count(*) FROM healthex.writer"), 0);
    assert!(!world.path("data").exists(), "a file was made beside");
}

fn offset(query: &str) -> usize {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("_offset="));
    value.map_or(0, |value| value.parse().unwrap())
}

#[test]
fn what_the_server_holds_is_stored_and_followed() {
    let Some((world, database)) = world() else { return };
    let told = world.run(["sync", "--json"]).exits(0).json();
    assert_eq!(told["resources"]["inserted"], 60);
    assert_equals_sandbox(&world, &database, "anna");
    assert_counted_once(&world, &database);

    world.sandbox.put("anna", Some(&observation_tail("anna", 3)), &observation("anna", 3, "corrected"));
    let told = world.run(["sync", "--json"]).exits(0).json();
    assert_eq!((&told["resources"]["updated"], &told["resources"]["inserted"]), (&1.into(), &0.into()));
    assert_equals_sandbox(&world, &database, "anna");

    let gone = world.sandbox.entries("anna").pop().unwrap();
    world.sandbox.remove("anna", &gone.full_url);
    let told = world.run(["sync", "--full", "--json"]).exits(0).json();
    assert_eq!(told["resources"]["deleted"], 1);
    assert_equals_sandbox(&world, &database, "anna");
}

#[test]
fn tables_in_parts_hold_the_same() {
    let world = World::with_record(PAGES * 10 - 2);
    let Some(database) = Database::empty() else { return };
    database.migrate(&world, &["--partitions", "2"]).exits(0);
    database.take(&world);
    world.run(["sync"]).exits(0);
    world.sandbox.put("anna", Some(&observation_tail("anna", 3)), &observation("anna", 3, "corrected"));
    world.run(["sync", "--full"]).exits(0);
    assert_equals_sandbox(&world, &database, "anna");
    assert_counted_once(&world, &database);
}

#[test]
fn killed_between_two_pages_it_goes_on_at_once_and_asks_for_no_committed_page_again() {
    for page in [1, 3, PAGES] {
        let Some((world, database)) = world() else { return };
        world.fault(&format!("kind = 'stall_before_headers', page = {page}, times = 1"));
        let running = world.start(["sync"]);
        wait_until("the page is asked for", || world.asked("anna").len() == page);
        running.kill();
        assert_eq!(database.count("SELECT count(*) FROM healthex.writer"), 1);
        world.sandbox.clear_requests();
        world.run(["sync"]).exits(0);
        let queries = world.queries("anna");
        assert_eq!(offset(&queries[0]), (page - 1) * 10, "{queries:?}");
        assert_eq!(queries.len(), PAGES + 1 - page, "{queries:?}");
        assert_equals_sandbox(&world, &database, "anna");
        assert_counted_once(&world, &database);
    }
}

#[test]
fn only_one_leads_at_a_time_and_who_it_is_is_told() {
    let Some((world, _database)) = world() else { return };
    world.fault("kind = 'stall_before_headers', page = 2, times = 1");
    let running = world.start(["sync"]);
    wait_until("the page is asked for", || world.asked("anna").len() == 2);
    world
        .run(["sync", "--full"])
        .exits(5)
        .says("in use by another healthex-sync")
        .says(&format!("pid {}", running.pid()));
    world.run(["check", "--offline"]).says(&format!("held by a cycle under way (pid {}", running.pid()));
    running.ended().exits(0);
}

#[test]
fn a_server_that_restarts_under_a_cycle_is_waited_for() {
    let world = World::with_record(PAGES * 10 - 2);
    let Some(database) = Database::on_a_server_of_its_own() else { return };
    database.migrate(&world, &[]).exits(0);
    database.take(&world);
    for (page, mode) in [(2, "immediate"), (4, "fast")] {
        world.fault(&format!("kind = 'stall_before_headers', page = {page}, times = 1"));
        let running = world.start(["sync", "--full"]);
        wait_until("the page is asked for", || world.asked("anna").len() >= page);
        database.cluster.restart(mode);
        running.ended().exits(0);
        world.sandbox.clear_requests();
        assert_equals_sandbox(&world, &database, "anna");
        assert_counted_once(&world, &database);
    }
}

#[test]
fn a_commit_that_is_cut_off_is_neither_lost_nor_repeated() {
    loses_and_repeats_nothing(Proxy::cutting_commits, 100);
}

#[test]
fn a_connection_that_is_cut_at_any_statement_loses_and_repeats_nothing() {
    loses_and_repeats_nothing(Proxy::cutting_anywhere, 40);
}

/// Full pulls, until the connection was cut so often.
#[track_caller]
fn loses_and_repeats_nothing(cutting: fn(u16) -> Proxy, cuts: usize) {
    let world = World::generated(4).set("sync.page_size", "25").set("sync.concurrency", "4");
    let Some(database) = Database::of(&world) else { return };
    let proxy = cutting(database.cluster.port);
    world.change_setting("warehouse.url", &format!("{:?}", proxy.url("healthex_worker", &database.name)));
    let mut cut = 0;
    while cut < cuts {
        world.run(["sync", "--full"]).exits(0);
        let (unsent, unanswered) = proxy.cuts();
        assert!(unsent > 0 && unanswered > 0 && unsent + unanswered > cut, "{unsent} and {unanswered}");
        cut = unsent + unanswered;
    }
    for person in world.sandbox.person_ids() {
        assert_equals_sandbox(&world, &database, &person);
    }
    assert_counted_once(&world, &database);
}

#[test]
fn an_analyst_reads_what_was_stored_and_nothing_beside_it() {
    let world = World::generated(2);
    let Some(database) = Database::of(&world) else { return };
    world.run(["sync"]).exits(0);
    let asked = |sql: &str| database.rows_as("healthex_analyst", sql);
    let count = asked("SELECT count(*) > 0 FROM observation WHERE resource->>'status' = 'final'");
    assert_eq!(count, Ok(vec![vec![Some("t".to_owned())]]));
    assert!(asked("SELECT count(*) FROM lab_results").is_ok_and(|rows| rows[0][0].as_deref() != Some("0")));
    assert!(asked("SELECT person_id, age_hours FROM freshness").is_ok_and(|rows| rows.len() == 2));
    assert!(asked("SELECT * FROM purge_log").is_err_and(|told| told.contains("permission denied")));
}

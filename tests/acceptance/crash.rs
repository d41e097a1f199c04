//! Killed at each commit point in turn, the program goes on as if nothing had been.

use crate::world::{Running, World, observation, observation_tail, wait_until};

const PAGES: usize = 6;

/// Six pages of ten entries.
fn world() -> World {
    World::with_record(PAGES * 10 - 2)
}

#[track_caller]
fn assert_recovered(world: &World) {
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
    world.assert_sound();
    assert_eq!(world.checkpoint("anna", "pull_mode"), None);
    assert_eq!(world.count("SELECT count(*) FROM seen"), 0);
    let open = "SELECT count(*) FROM pull WHERE finished_at IS NULL OR outcome IS NULL";
    assert_eq!(world.count(open), 0);
}

/// The offset that a request asks for.
fn offset(query: &str) -> usize {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("_offset="));
    value.map_or(0, |value| value.parse().unwrap())
}

#[test]
fn killed_between_any_two_pages_it_asks_for_no_committed_page_again() {
    for page in 1..=PAGES {
        let world = world();
        world.fault(&format!("kind = 'stall_before_headers', page = {page}, times = 1"));
        let running = world.start(["sync"]);
        wait_until("the page is asked for", || world.asked("anna").len() == page);
        running.kill();
        world.sandbox.clear_requests();
        assert_recovered(&world);
        let queries = world.queries("anna");
        assert_eq!(offset(&queries[0]), (page - 1) * 10, "{queries:?}");
        assert_eq!(queries.len(), PAGES + 1 - page, "{queries:?}");
    }
}

#[test]
fn a_pull_that_an_older_schema_left_under_way_begins_again() {
    let world = world();
    world.fault("kind = 'stall_before_headers', page = 3, times = 1");
    let running = world.start(["sync"]);
    wait_until("the page is asked for", || world.asked("anna").len() == 3);
    running.kill();
    world.make_older(2);
    assert_ne!(world.checkpoint("anna", "pull_next_url"), None);
    world.sandbox.clear_requests();
    assert_recovered(&world);
    assert_eq!(world.queries("anna").len(), PAGES);
}

#[test]
fn killed_again_and_again_it_still_gets_there() {
    let world = world();
    for page in 1..=PAGES {
        world.fault(&format!("kind = 'stall_before_headers', page = {page}, times = 1"));
        world.sandbox.clear_requests();
        let running = world.start(["sync"]);
        wait_until("it stalls", || {
            let asked = world.asked("anna");
            asked.last().is_some_and(|request| offset(&request.query) == (page - 1) * 10)
        });
        running.kill();
    }
    assert_recovered(&world);
    let interrupted = "SELECT count(*) FROM pull WHERE outcome = 'interrupted'";
    assert_eq!(world.count(interrupted), 5, "none before the first page");
}

#[test]
fn killed_when_the_nth_request_arrives_it_loses_nothing() {
    // The token is the first request; the commits race with the kill, which is the point.
    for number in 1..=PAGES + 1 {
        let world = world();
        let mut running = world.start(["sync"]);
        wait_until("the request arrives", || world.sandbox.requests().len() >= number || running.has_ended());
        running.kill();
        assert_recovered(&world);
    }
}

#[test]
fn killed_when_the_nth_page_is_committed_it_loses_nothing() {
    for pages in 1..=PAGES {
        let world = world();
        let mut running = world.start(["sync"]);
        wait_until("the pages are committed", || committed_pages(&world) >= pages || running.has_ended());
        running.kill();
        let before = world.rows("anna").len();
        assert!(before >= (pages * 10).min(world.oracle("anna").len()));
        assert_recovered(&world);
    }
}

fn committed_pages(world: &World) -> usize {
    if !world.warehouse().exists() {
        return 0;
    }
    let connection = world.open();
    let sql = "SELECT ifnull(max(pages), 0) FROM pull";
    let pages: i64 = connection.query_row(sql, [], |row| row.get(0)).unwrap_or_default();
    usize::try_from(pages).unwrap()
}

#[test]
fn killed_while_the_warehouse_is_made_it_leaves_none_or_a_whole_one() {
    for seen in ["data", "data/warehouse.db.new", "data/warehouse.db"] {
        let world = world();
        let mut running = world.start(["sync"]);
        wait_until("the file is seen", || {
            world.path(seen).exists() || world.warehouse().exists() || running.has_ended()
        });
        running.kill();
        assert_recovered(&world);
        assert!(!world.path("data/warehouse.db.new").exists());
    }
}

#[test]
fn killed_in_an_incremental_pull_it_goes_on_with_the_same_since() {
    let world = world();
    world.run(["sync"]).exits(0);
    for number in 0..25 {
        let changed = observation("anna", number, "changed");
        let tail = observation_tail("anna", number);
        world.sandbox.put("anna", Some(&tail), &changed);
    }
    world.sandbox.clear_requests();
    world.fault("kind = 'stall_before_headers', page = 3, times = 1");
    let running = world.start(["sync"]);
    wait_until("page 3 is asked for", || world.asked("anna").len() == 3);
    running.kill();
    assert_recovered(&world);
    let queries = world.queries("anna");
    let since = |query: &String| {
        query.split('&').find(|pair| pair.starts_with("_since=")).map(|pair| pair.replace("%3A", ":"))
    };
    let first = since(&queries[0]);
    assert!(first.is_some());
    for query in &queries {
        assert_eq!(since(query), first, "{queries:?}");
    }
    assert_eq!(queries.len(), 4, "{queries:?}");
}

#[test]
fn killed_in_a_sweep_it_still_marks_what_vanished() {
    for number in 1..=2 * PAGES {
        let world = world();
        world.run(["sync"]).exits(0);
        world.sandbox.remove("anna", &observation_tail("anna", 31));
        world.sandbox.clear_requests();
        let mut running: Running = world.start(["sync", "--full"]);
        wait_until("the request arrives", || world.asked("anna").len() >= number || running.has_ended());
        running.kill();
        world.run(["sync", "--full"]).exits(0);
        world.assert_equals_sandbox("anna");
        world.assert_sound();
    }
}

/// The indexes that queries use are made once a first fill is over; a kill before that is made good
/// for at the next start, before anything is pulled.
#[test]
fn killed_in_a_first_fill_it_has_its_indexes_from_the_next_start_on() {
    let world = World::with_record(PAGES * 10 - 2);
    let indexes = "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND name LIKE 'patients_by_%'";
    let missing = "SELECT count(*) FROM analyst_table WHERE indexes_missing = 1";
    world.fault("kind = 'stall_before_headers', page = 3, times = 2");
    let running = world.start(["sync"]);
    wait_until("the page is asked for", || world.asked("anna").len() == 3);
    assert_eq!(world.count(indexes), 0);
    assert!(world.count(missing) > 20);
    // Queries are right meanwhile.
    assert_eq!(world.count("SELECT count(*) FROM patients WHERE family IS NOT NULL"), 1);
    world.run(["verify"]).exits(0);
    running.kill();
    world.sandbox.clear_requests();
    let running = world.start(["sync"]);
    wait_until("the page is asked for again", || world.asked("anna").len() == 1);
    assert!(world.count(indexes) > 0);
    assert_eq!(world.count(missing), 0);
    running.kill();
    assert_recovered(&world);
}

#[test]
fn a_first_sync_leaves_every_index() {
    let world = world();
    world.run(["sync"]).exits(0);
    assert_eq!(world.count("SELECT count(*) FROM analyst_table WHERE indexes_missing = 1"), 0);
    assert!(world.count("SELECT count(*) FROM sqlite_master WHERE name LIKE 'observations_by_%'") > 0);
}

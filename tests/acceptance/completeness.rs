//! Was it everything? Counts that do not add up, sweeps, and entries that are renamed.

use crate::world::{World, observation, observation_tail};

fn mode(world: &World) -> String {
    world.pull("anna", "mode").unwrap_or_default()
}

fn deleted(world: &World) -> i64 {
    world.count("SELECT count(*) FROM observation WHERE deleted_at IS NOT NULL")
}

/// Full pulls since the log was cleared, by their first requests.
fn first_requests(world: &World) -> usize {
    let queries = world.queries("anna");
    let firsts = queries.iter().filter(|query| !query.contains("_offset"));
    firsts.count()
}

/// Each of the next three walks misses another entry.
fn differ_each_time(world: &World) {
    for walk in 1..=3 {
        world.fault(&format!(
            "kind = 'page_skips_entry', page = {}, from_request = {walk}, times = 1",
            walk + 1
        ));
    }
}

fn lose(world: &World, numbers: impl IntoIterator<Item = usize>) {
    for number in numbers {
        let tail = observation_tail("anna", number);
        assert!(world.sandbox.remove("anna", &tail), "{tail}");
    }
}

#[test]
fn a_count_that_adds_up_needs_one_walk() {
    let world = World::with_record(35);
    world.run(["sync"]).exits(0);
    assert_eq!(first_requests(&world), 1);
    assert_eq!(world.count("SELECT count(*) FROM seen"), 0);
}

#[test]
fn a_total_that_is_wrong_the_same_way_twice_is_accepted_with_a_note() {
    for by in [3, -3] {
        let world = World::with_record(35);
        world.fault(&format!("kind = 'total_off', by = {by}"));
        world.run(["sync"]).exits(0);
        assert_eq!(first_requests(&world), 2);
        world.assert_equals_sandbox("anna");
        assert!(world.watermark("anna").is_some());
        assert!(world.pull("anna", "error").is_some());
    }
}

#[test]
fn a_pull_whose_total_is_off_sweeps_nothing() {
    let world = World::with_record(35);
    world.run(["sync"]).exits(0);
    lose(&world, [7]);
    world.fault("kind = 'total_off', by = 1");
    world.run(["sync", "--full"]).exits(0);
    assert_eq!(deleted(&world), 0);
}

#[test]
fn a_total_that_shrinks_in_a_walk_brings_another_one() {
    let world = World::with_record(35);
    world.fault("kind = 'total_shrinks', page = 3, times = 1");
    world.run(["sync"]).exits(0);
    assert_eq!(first_requests(&world), 2);
    world.assert_equals_sandbox("anna");
    assert!(world.watermark("anna").is_some());
}

#[test]
fn an_entry_that_slips_between_two_pages_is_found_by_another_walk() {
    for kind in ["page_skips_entry", "page_slides"] {
        let world = World::with_record(35);
        world.fault(&format!("kind = '{kind}', page = 2, times = 1"));
        world.run(["sync"]).exits(0);
        assert!(first_requests(&world) >= 2, "{kind}");
        world.assert_equals_sandbox("anna");
    }
}

#[test]
fn a_record_that_changes_under_every_walk_keeps_the_watermark() {
    let world = World::with_record(35);
    world.run(["sync"]).exits(0);
    let watermark = world.watermark("anna");
    differ_each_time(&world);
    world.run(["sync", "--full"]).exits(3);
    assert_eq!(first_requests(&world), 1 + 3);
    assert_eq!(world.watermark("anna"), watermark);
    assert_eq!(world.state("anna"), "failing");
    world.run(["sync"]).exits(0);
    assert_eq!(world.state("anna"), "active");
}

#[test]
fn entries_repeated_on_two_pages_count_once() {
    let world = World::with_record(35);
    world.fault("kind = 'page_repeats_entry'");
    let ran = world.run(["sync", "--json"]).exits(0);
    assert_eq!(ran.number("/resources/inserted"), 37);
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_full_pull_without_total_is_walked_twice_and_sweeps_and_an_incremental_one_is_taken() {
    let world = World::with_record(35);
    world.fault("kind = 'total_missing'");
    world.run(["sync"]).exits(0);
    assert_eq!(first_requests(&world), 2);
    lose(&world, [7]);
    world.sandbox.clear_requests();
    world.run(["sync"]).exits(0);
    assert_eq!((first_requests(&world), deleted(&world)), (1, 0));
    world.run(["sync", "--full"]).exits(0);
    assert_eq!((first_requests(&world), deleted(&world)), (3, 1));
    world.assert_equals_sandbox("anna");
}

#[test]
fn what_a_full_pull_no_longer_holds_is_marked() {
    let world = World::with_record(35);
    world.run(["sync"]).exits(0);
    lose(&world, [3, 8]);
    // An incremental pull cannot tell.
    world.run(["sync"]).exits(0);
    assert_eq!(deleted(&world), 0);
    world.sandbox.clear_requests();

    let ran = world.run(["sync", "--full", "--json"]).exits(0);

    assert_eq!(ran.number("/resources/deleted"), 2);
    assert_eq!(first_requests(&world), 2, "walked once more before it marks");
    assert_eq!(deleted(&world), 2);
    world.assert_equals_sandbox("anna");
    let status = world.run(["status", "--json"]).exits(0);
    assert_eq!(status.number("/patients/0/resources"), 35);
}

#[test]
fn a_sweep_of_one_page_is_walked_twice_as_any_other() {
    let world = World::with_record(5);
    world.run(["sync"]).exits(0);
    lose(&world, [3]);
    world.sandbox.clear_requests();
    world.run(["sync", "--full"]).exits(0);
    assert_eq!(first_requests(&world), 2);
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_row_that_is_seen_again_is_live_again() {
    let world = World::with_record(5);
    world.run(["sync"]).exits(0);
    lose(&world, [3]);
    world.run(["sync", "--full"]).exits(0);
    assert_eq!(deleted(&world), 1);
    world.sandbox.put("anna", Some(&observation_tail("anna", 3)), &observation("anna", 3, "as at first"));
    world.run(["sync"]).exits(0);
    assert_eq!(deleted(&world), 0);
    world.assert_equals_sandbox("anna");
}

#[test]
fn an_emptied_answer_marks_nothing_for_a_day() {
    let world = World::with_record(60);
    world.run(["sync"]).exits(0);
    lose(&world, 0..45);

    world.run(["sync", "--full"]).exits(0);

    assert_eq!(deleted(&world), 0);
    world.run(["status"]).says("24 hours");
    world.exec("UPDATE checkpoint SET sweep_guarded_at = '2026-01-01T00:00:00Z'");
    world.run(["sync"]).exits(0);
    assert_eq!(mode(&world), "full");
    assert_eq!(deleted(&world), 45);
    world.assert_equals_sandbox("anna");
}

#[test]
fn twenty_vanished_rows_are_marked_even_if_they_are_most() {
    let world = World::with_record(25);
    world.run(["sync"]).exits(0);
    lose(&world, 0..20);
    world.run(["sync", "--full"]).exits(0);
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_full_pull_that_fails_sweeps_nothing() {
    let world = World::with_record(35);
    world.run(["sync"]).exits(0);
    lose(&world, [3]);
    world.fault("kind = 'status', status = 500, page = 4");
    world.run(["sync", "--full"]).exits(3);
    assert_eq!(deleted(&world), 0);
}

#[test]
fn a_narrower_filter_deletes_nothing() {
    let world = World::with_record(5);
    world.run(["sync"]).exits(0);
    world.change_setting("sync.types", r#"["Observation"]"#);
    world.run(["sync", "--full"]).exits(0);
    assert_eq!(world.rows("anna").len(), 7);
    // What was narrowed holds no watermark for the rest: widened again, it is pulled in full.
    world.change_setting("sync.types", "[]");
    world.run(["sync"]).exits(0);
    assert_eq!(mode(&world), "full");
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_full_pull_is_due_when_full_every_has_passed() {
    let world = World::with_record(5);
    world.run(["sync"]).exits(0);
    world.run(["sync"]).exits(0);
    assert_eq!(mode(&world), "incremental");
    world.exec("UPDATE checkpoint SET last_full_at = '2026-01-01T00:00:00Z'");
    world.run(["sync"]).exits(0);
    assert_eq!(mode(&world), "full");
}

#[test]
fn a_renamed_entry_brings_a_full_pull_at_once_and_replaces_the_row() {
    let world = World::with_record(5);
    world.run(["sync"]).exits(0);
    lose(&world, [2]);
    let same = observation("anna", 2, "as at first");
    world.sandbox.put("anna", Some("Observation/renamed"), &same);

    world.run(["sync"]).exits(0);

    assert_eq!(mode(&world), "full");
    world.assert_equals_sandbox("anna");
    let old = "SELECT count(*) FROM observation WHERE key = 'Observation/uuid-anna-0002'";
    assert_eq!(world.count(old), 0, "deleted, not marked");
}

#[test]
fn a_record_that_is_renamed_as_a_whole_is_replaced_in_spite_of_the_guard() {
    let world = World::with_record(40);
    world.run(["sync"]).exits(0);
    lose(&world, 0..40);
    for number in 0..40 {
        let tail = format!("Observation/again-{number}");
        let same = observation("anna", number, "as at first");
        world.sandbox.put("anna", Some(&tail), &same);
    }
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
    assert_eq!(world.count("SELECT count(*) FROM observation"), 40);
}

#[test]
fn twins_stay_two() {
    let world = World::with_record(5);
    world.run(["sync"]).exits(0);
    let twin = observation("anna", 2, "from another source");
    world.sandbox.put("anna", Some("Observation/twin"), &twin);
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
    world.run(["sync", "--full"]).exits(0);
    world.assert_equals_sandbox("anna");
    assert_eq!(world.rows("anna").len(), 8);
}

#[test]
fn a_rename_brings_a_full_pull_at_most_once_an_hour() {
    let world = World::with_record(5);
    world.run(["sync"]).exits(0);
    for number in 0..2 {
        let twin = observation("anna", number, "from another source");
        let tail = format!("Observation/twin-{number}");
        world.sandbox.put("anna", Some(&tail), &twin);
        world.run(["sync"]).exits(0);
    }
    let full = "SELECT count(*) FROM pull WHERE mode = 'full'";
    assert_eq!(world.count(full), 2, "the first, and one for the rename");
}

#[test]
fn what_a_walk_has_seen_survives_a_restart() {
    let world = World::with_record(58);
    world.fault("kind = 'close_delimited_boundary', drop = 2, page = 2, times = 1");
    world.fault("kind = 'stall_before_headers', page = 4, times = 1");
    let running = world.start(["sync"]);
    crate::world::wait_until("page 4 is asked for", || world.asked("anna").len() == 4);
    running.kill();
    // The second run sees pages 4 to 6, and knows that page 2 was short.
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
}

/// One entry is removed and another one added between two pages: what follows moves up, one entry
/// is on neither page, and the server's count is right all the same.
#[test]
fn what_slid_past_a_walk_that_adds_up_is_found_by_the_next_full_pull() {
    let world = World::with_record(28);
    world.fault("kind = 'stall_before_headers', page = 2, times = 1");
    let running = world.start(["sync"]);
    crate::world::wait_until("page 2 is asked for", || world.asked("anna").len() == 2);
    running.kill();
    let removed = world.key_of(&world.sandbox.entries("anna")[4]);
    assert!(world.sandbox.remove("anna", &removed));
    world.sandbox.put("anna", None, &observation("anna", 999, "in its place"));

    world.run(["sync"]).exits(0);
    let held = world.sandbox.entries("anna").len();
    let rows = world.rows("anna");
    assert!(rows.contains_key(&removed), "nobody knows yet that it is gone");
    assert_eq!(rows.len(), held, "one that is gone, and one is missing");

    world.run(["sync", "--full"]).exits(0);
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_pull_that_never_added_up_begins_again_in_the_next_cycle() {
    let world = World::with_record(35);
    differ_each_time(&world);
    world.run(["sync"]).exits(3);
    // No watermark yet, so that the next pull is of the same mode.
    world.sandbox.clear_requests();
    world.run(["sync"]).exits(0);
    assert_eq!(first_requests(&world), 1);
    world.assert_equals_sandbox("anna");
}

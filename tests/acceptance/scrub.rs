//! The last bytes of purged patients: zeroed in place, or written anew where that is better.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use crate::process::Mount;
use crate::world::{NAME_CANARY, TEXT_CANARY, World, record, wait_until};

const WAITING: &str = "SELECT count(*) FROM purge_log WHERE scrubbed_at IS NULL";
const BY: &str = "SELECT scrubbed_by FROM purge_log";

/// Anna, and ben with so much more that little of the file is free without her.
fn synced() -> World {
    let world = World::with_record(60).set("sync.page_size", "500");
    world.sandbox.add_person("ben", record("ben", 1500));
    world.list(&["anna", "ben"]);
    world.run(["sync"]).exits(0);
    world
}

#[track_caller]
fn assert_scrubbed(world: &World) {
    assert_eq!(world.count(WAITING), 0);
    for needle in [NAME_CANARY, TEXT_CANARY] {
        assert!(!world.warehouse_bytes_contain(&format!("{needle}-anna")), "{needle}");
    }
    assert!(!world.warehouse_bytes_contain("p-anna"));
    world.assert_equals_sandbox("ben");
    world.assert_sound();
}

#[test]
fn what_was_zeroed_in_place_is_told_wherever_a_scrub_is() {
    let world = synced();
    let size = fs::metadata(world.warehouse()).unwrap().len();
    world.sandbox.withdraw("anna");
    world.run(["sync"]).exits(0).says("the last bytes of purged patients are gone, by zeroing");
    assert_scrubbed(&world);
    assert_eq!(fs::metadata(world.warehouse()).unwrap().len(), size);
    assert_eq!(world.run(["audit", "--json"]).json()[0]["scrubbed_by"], "zeroing");
    world.run(["audit"]).says("zeroing");
    world.run(["status"]).says("were last removed at");
    assert_eq!(world.run(["status", "--json"]).json()["last_scrub"]["by"], "zeroing");
}

#[test]
fn a_file_of_which_much_is_free_is_written_anew() {
    let world = World::with_record(1500).set("sync.page_size", "500");
    world.sandbox.add_person("ben", record("ben", 60));
    world.list(&["anna", "ben"]);
    world.run(["sync"]).exits(0);
    let size = fs::metadata(world.warehouse()).unwrap().len();
    world.run(["purge", "anna", "--yes"]).exits(0).says("written anew by VACUUM");
    assert_scrubbed(&world);
    assert!(fs::metadata(world.warehouse()).unwrap().len() < size);
    assert_eq!(world.ask(BY).as_deref(), Some("vacuum"));
    assert_eq!(world.run(["status", "--json"]).json()["last_scrub"]["by"], "vacuum");
}

#[test]
fn a_deep_look_tells_what_is_left_and_that_nothing_is() {
    let world = synced();
    world.run(["purge", "anna", "--yes"]).exits(0).says("pages zeroed in place");
    world.run(["verify", "--deep"]).exits(0).says("no byte in them of what was deleted").says("sound");
    // A free page that somebody else left as it was.
    world.exec(
        "PRAGMA secure_delete = OFF; CREATE TABLE notes (body);
         INSERT INTO notes VALUES (replace(hex(zeroblob(20000)), '00', 'a note ')); DROP TABLE notes",
    );
    world.run(["verify", "--deep"]).exits(0).says("with bytes of what was").says("sound");
    world.run(["verify"]).exits(0).says_nothing_of("pages");
}

#[test]
fn a_damaged_page_is_a_finding_of_a_deep_look() {
    let world = synced();
    let root = world.count("SELECT rootpage FROM sqlite_schema WHERE name = 'pull_unfinished'");
    let mut file = fs::read(world.warehouse()).unwrap();
    // The page's kind.
    file[usize::try_from(root - 1).unwrap() * 8192] = 7;
    fs::write(world.warehouse(), file).unwrap();
    world.run(["verify", "--deep"]).exits(1).says("it is no page of a b-tree");
}

#[test]
fn a_scrub_that_is_killed_or_stopped_is_finished_at_the_next_start() {
    let mut unfinished = 0;
    for moment in 0..8_usize {
        let world = synced();
        world.sandbox.withdraw("anna");
        let mut running = world.start(["sync"]);
        wait_until("the rows are gone", || running.has_ended() || world.count(WAITING) == 1);
        for _ in 0..moment / 2 {
            // So long a look takes a little.
            let _ = world.rows_anywhere("anna");
        }
        if moment % 2 == 0 {
            running.kill();
        } else {
            if !running.has_ended() {
                running.terminate();
            }
            running.ended();
        }
        unfinished += world.count(WAITING);
        assert_eq!(world.rows_anywhere("anna"), 0);
        world.run(["sync"]).exits(0);
        assert_scrubbed(&world);
    }
    assert!(unfinished > 0, "each was quicker than its end");
}

#[test]
fn another_program_may_write_while_pages_are_zeroed() {
    let world = synced();
    world.exec("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)");
    let is_over = AtomicBool::new(false);
    let connection = world.open_to_write();
    let written = thread::scope(|scope| {
        let is_over = &is_over;
        let writer = scope.spawn(move || {
            let mut written = 0;
            while !is_over.load(Ordering::Relaxed) {
                let body = "a note ".repeat(written % 900);
                connection.execute("INSERT INTO notes (body) VALUES (?1)", [body]).unwrap();
                written += 1;
            }
            written
        });
        world.run(["purge", "anna", "--yes"]).exits(0);
        is_over.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    world.run(["sync", "--patient", "ben"]).exits(0);
    assert_scrubbed(&world);
    assert_eq!(world.count("SELECT count(*) FROM notes"), i64::try_from(written).unwrap());
}

#[test]
fn a_disk_that_is_too_full_for_a_vacuum_has_room_for_zeroing() {
    let world = World::with_record(60).set("sync.page_size", "500");
    let folder = world.path("data");
    let Some(_mount) = Mount::tmpfs(&folder, "size=200m") else {
        eprintln!("skipped: mount does not work");
        return;
    };
    world.sandbox.add_person("ben", record("ben", 6000));
    world.list(&["anna", "ben"]);
    world.run(["sync"]).exits(0);
    let size = fs::metadata(world.warehouse()).unwrap().len();
    leave_free(&folder, size * 16 / 10);
    world.run(["purge", "anna", "--yes"]).exits(0).says("pages zeroed in place");
    assert_scrubbed(&world);
}

/// Takes all the room there is but this much.
fn leave_free(folder: &Path, bytes: u64) {
    let disk = rustix::fs::statvfs(folder).unwrap();
    let taken = disk.f_bavail * disk.f_frsize - bytes;
    fs::write(folder.join("filler"), vec![b'x'; usize::try_from(taken).unwrap()]).unwrap();
}

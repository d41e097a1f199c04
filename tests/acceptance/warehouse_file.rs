//! The warehouse's file under a daemon: what it waits for, and what it refuses.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};

use crate::process::{Mount, fill};
use crate::support::skip;
use crate::world::{Daemon, World, ask, observation, observation_tail, record};

/// The metric of the cycles that ended well.
const GOOD_CYCLES: &str = "healthex_sync_cycles_total{outcome=\"good\"}";

/// Anna, and a schedule by which nothing is tried again within the hour.
fn world() -> World {
    World::with_patients(["anna"])
        .set("sync.schedule", r#""every 1h""#)
        .set("http.listen", r#""127.0.0.1:0""#)
}

/// Waits until it is told that the warehouse cannot be used, for `why`.
#[track_caller]
fn waits(daemon: &Daemon, why: &str) {
    daemon.tells("READY=1");
    assert!(daemon.tells("STATUS=waiting for the warehouse").contains(why), "{:?}", daemon.told());
    assert!(daemon.says("no cycle: ").contains(why), "{:?}", daemon.log());
    daemon.is_unwell();
}

/// Waits until it has gone on, and has said once that it could not.
#[track_caller]
fn goes_on(world: &World, daemon: Daemon) {
    daemon.shows(GOOD_CYCLES, |cycles| cycles == 1);
    daemon.tells("STATUS=waiting; last cycle at");
    daemon.is_healthy();
    let said = daemon.log().iter().filter(|line| line.contains("no cycle: ")).count();
    assert_eq!(said, 1, "{:?}", daemon.log());
    daemon.stops();
    world.assert_equals_sandbox("anna");
    world.assert_sound();
}

/// A daemon that waits for another program's write lock, which goes with the connection.
fn locked_out(world: &World) -> (Daemon, Connection) {
    world.run(["sync"]).exits(0);
    let other = world.open_to_write();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let daemon = world.daemon();
    waits(&daemon, "busy");
    (daemon, other)
}

#[test]
fn a_write_lock_of_another_program_is_waited_for() {
    let world = world();
    let (daemon, other) = locked_out(&world);
    other.execute_batch("ROLLBACK").unwrap();
    // The first cycle since it could be tried, whatever the schedule is.
    goes_on(&world, daemon);
}

#[test]
fn a_daemon_that_waits_for_the_warehouse_ends_when_it_is_asked_to() {
    let world = world();
    let (daemon, _other) = locked_out(&world);
    daemon.stops();
}

#[test]
fn a_full_disk_is_waited_for_with_a_warehouse_and_without_one() {
    let world = world();
    let folder = world.path("data");
    let Some(_mount) = Mount::tmpfs(&folder, "size=20m") else {
        return skip("mount does not work");
    };
    let filler = folder.join("filler");
    fill(&filler);
    let daemon = world.daemon();
    waits(&daemon, "full");
    daemon.shows("healthex_sync_ticks_skipped_total", |looks| looks > 0);
    fs::remove_file(&filler).unwrap();
    goes_on(&world, daemon);

    // A cycle is due, or nothing would be written.
    world.exec("UPDATE about SET value = '2020-01-01T00:00:00Z' WHERE name = 'last_cycle_started_at'");
    fill(&filler);
    let daemon = world.daemon();
    waits(&daemon, "full");
    fs::remove_file(&filler).unwrap();
    goes_on(&world, daemon);
}

#[test]
fn a_disk_that_can_be_read_only_is_waited_for() {
    let world = world();
    let folder = world.path("data");
    let Some(_mount) = Mount::tmpfs(&folder, "size=20m") else {
        return skip("mount does not work");
    };
    world.run(["sync"]).exits(0);
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&folder).status().unwrap().success());
    };
    remount("ro");
    let daemon = world.daemon();
    waits(&daemon, "ead-only");
    remount("rw");
    daemon.shows(GOOD_CYCLES, |cycles| cycles == 1);
    // The lock was not to be had before: it is now.
    world.daemon().ends().exits(5).says("in use by another healthex-sync");
    daemon.stops();
}

#[test]
fn what_needs_a_person_is_not_waited_for() {
    let world = world();
    world.run(["sync"]).exits(0);
    world.exec("PRAGMA user_version = 99");
    world.daemon().ends().exits(5).says("install the newer program");
    fs::write(world.warehouse(), b"a letter to the editor\n".repeat(1000)).unwrap();
    world.daemon().ends().exits(5).says("is not a healthex-sync warehouse");
}

/// Lets the settings name the warehouse by a link in another folder.
fn by_link(world: &World) -> PathBuf {
    let link = world.path("elsewhere/link.db");
    fs::create_dir_all(world.path("elsewhere")).unwrap();
    symlink("../data/warehouse.db", &link).unwrap();
    world.change_setting("warehouse.path", r#""elsewhere/link.db""#);
    link
}

#[test]
fn two_names_of_one_warehouse_are_one_lock_and_one_ledger() {
    let world = world();
    world.sandbox.add_person("ben", record("ben", 4));
    world.list(&["anna", "ben"]);
    let daemon = world.daemon();
    daemon.shows(GOOD_CYCLES, |cycles| cycles == 1);
    let link = by_link(&world);
    world.daemon().ends().exits(5).says("in use by another healthex-sync");
    daemon.stops();

    let lock = fs::File::open(world.path("data/warehouse.db.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    world.run(["sync"]).exits(5).says("in use by another healthex-sync");
    world.run(["check", "--offline"]).exits(0).says("held by a cycle under way");
    drop(lock);

    world.run(["purge", "ben", "--yes"]).exits(0);
    world.run(["sync"]).exits(0);
    world.run(["audit", "--verify"]).exits(0);
    world.run_inside(["backup", "copy.db"]).exits(0);
    world.run_inside(["restore", "copy.db", "--yes"]).exits(0);
    let beside: Vec<_> =
        fs::read_dir(world.path("elsewhere")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(beside, ["link.db"]);
    assert!(fs::symlink_metadata(link).unwrap().is_symlink());
    world.assert_equals_sandbox("anna");
    world.assert_sound();
}

#[test]
fn a_link_to_nothing_is_refused_and_stays_what_it_is() {
    let world = world();
    let link = by_link(&world);
    let refusal = format!("{} is a symbolic link to a file that is not there", link.display());
    for command in [["sync"].as_slice(), &["sync", "--dry-run"], &["run"], &["status"], &["verify"]] {
        world.run(command).exits(5).says(&refusal);
    }
    world.run(["check", "--offline"]).exits(5).says(&refusal);
    assert!(fs::symlink_metadata(link).unwrap().is_symlink());
    assert!(!world.warehouse().exists());
    assert!(world.sandbox.requests().is_empty());

    // Once there is something at its end it is a name like any other.
    world.change_setting("warehouse.path", r#""data/warehouse.db""#);
    world.run(["sync"]).exits(0);
    world.change_setting("warehouse.path", r#""elsewhere/link.db""#);
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
}

/// Somebody who reads, and goes on.
fn reads_on(world: &World) -> Connection {
    let reader = world.open();
    reader.execute_batch("BEGIN").unwrap();
    assert!(ask(&reader, "SELECT count(*) FROM observation").is_some());
    reader
}

#[test]
fn a_reader_that_stays_is_told_of_with_how_long_and_how_large() {
    let world = world();
    world.run(["sync"]).exits(0);
    world.run(["status"]).says_nothing_of("another program goes on reading");
    let reader = reads_on(&world);
    world.sandbox.put("anna", Some(&observation_tail("anna", 3)), &observation("anna", 3, "changed"));
    world.run(["sync"]).exits(0);
    let status = world.run(["status", "--json"]).exits(0);
    let since = status.json()["reader"]["since"].as_str().unwrap().to_owned();
    assert!(status.number("/reader/wal_bytes") > 0);
    world.run(["status"]).says("another program goes on reading the warehouse");
    world
        .run(["check", "--offline"])
        .exits(0)
        .says("another program goes on reading the warehouse")
        .says(&since);

    // It stays the same reader for who looks later.
    world.run(["sync"]).exits(0);
    assert_eq!(world.run(["status", "--json"]).json()["reader"]["since"], since);
    drop(reader);
    world.run(["sync"]).exits(0);
    assert!(world.run(["status", "--json"]).json()["reader"].is_null());
    world.run(["check", "--offline"]).exits(0).says_nothing_of("another program goes on reading");
}

#[test]
fn what_keeps_the_last_bytes_and_since_when_is_told_by_status_and_check() {
    let world = world();
    world.sandbox.add_person("ben", record("ben", 4));
    world.list(&["anna", "ben"]);
    world.run(["sync"]).exits(0);
    let reader = reads_on(&world);
    world.run(["purge", "ben", "--yes"]).says("a reader has the warehouse open");
    let since = world.ask("SELECT purged_at FROM purge_log").unwrap();
    let told = "waiting for: a reader that has the warehouse open since";
    let status = world.run(["status", "--json"]).exits(0).json();
    assert_eq!(status["unscrubbed_since"], since.as_str());
    assert!(status["scrub_waits_for"].as_str().unwrap().starts_with("a reader that"), "{status}");
    let line = world.run(["check", "--offline"]).exits(0).says(told);
    assert!(
        line.stdout
            .contains(&format!("purges whose last bytes are not gone yet: 1, the oldest since {since}")),
        "{line}"
    );
    drop(reader);
    world.run(["sync"]).exits(0);
    world.run(["check", "--offline"]).exits(0).says_nothing_of("last bytes");
    assert!(!world.warehouse_bytes_contain("p-ben"));
}

/// When a process closes a file, POSIX takes all its locks on it away, SQLite's own too. Who closes the
/// warehouse next, with `sqlite3` say, then takes itself for the last one, and removes the WAL from
/// under a cycle.
#[test]
fn a_look_at_the_status_page_takes_no_lock_from_a_cycle() {
    let world = World::with_patients(["anna", "ben"])
        .set("sync.schedule", r#""every 1s""#)
        .set("api.idle_timeout", r#""60s""#)
        .set("api.page_timeout", r#""60s""#)
        .set("http.listen", r#""127.0.0.1:0""#);
    world.run(["sync"]).exits(0);
    world.sandbox.put("anna", Some(&observation_tail("anna", 99)), &observation("anna", 99, "new"));
    world.fault("kind = 'stall_before_headers', person = 'ben', times = 1");
    let daemon = world.daemon();
    let is_stored = || world.rows("anna").contains_key(&observation_tail("anna", 99)).then_some(());
    daemon.waits("the cycle has stored a page, and goes on", is_stored);
    assert!(is_locked_by(&world, daemon.pid()));
    assert_eq!(daemon.get("/").status, 200);
    assert!(is_locked_by(&world, daemon.pid()));
    daemon.kill();
    assert_eq!(is_stored(), Some(()));
}

/// Returns whether SQLite, in that process, holds the lock by which others know that it has the file open.
fn is_locked_by(world: &World, pid: u32) -> bool {
    const FIRST_SHARED_BYTE: &str = "1073741826";
    let file = fs::metadata(world.warehouse()).unwrap().ino().to_string();
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks.lines().any(|lock| {
        let words: Vec<&str> = lock.split_whitespace().collect();
        let is_of_file = words.iter().any(|word| word.ends_with(&format!(":{file}")));
        is_of_file && words.contains(&pid.to_string().as_str()) && words.contains(&FIRST_SHARED_BYTE)
    })
}

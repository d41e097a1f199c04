//! The process among others: signals, locks, and files that are not what they should be.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::skip;
use crate::world::{Running, World, wait_until};

/// One run is under way and gets no answer.
fn stalled(world: &World) -> Running {
    world.fault("kind = 'stall_before_headers', times = 1");
    let running = world.start(["sync"]);
    wait_until("anna is asked for", || !world.asked("anna").is_empty());
    running
}

#[test]
fn of_two_at_once_the_second_is_refused_with_the_pid_of_the_first() {
    let world = World::with_patients(["anna"]).set("api.idle_timeout", r#""30s""#);
    let first = stalled(&world);
    let second = world.run(["sync"]).exits(5);
    assert!(second.stderr.contains(&first.pid().to_string()), "{second}");
    // Readers are not blocked.
    world.run(["status"]).exits(0);
    first.kill();
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_sync_that_is_asked_to_stop_commits_what_is_whole_and_exits_3() {
    let world = World::with_record(35).set("api.idle_timeout", r#""60s""#);
    world.sandbox.add_person("ben", crate::world::record("ben", 4));
    world.list(&["anna", "ben"]);
    world.change_setting("sync.concurrency", "1");
    world.fault("kind = 'stall_mid_body', page = 3, times = 1");
    let running = world.start(["sync", "--json"]);
    wait_until("page 3 is asked for", || world.asked("anna").len() == 3);
    let begun = Instant::now();
    running.terminate();
    let ran = running.ended().exits(3);
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(ran.number("/patients/skipped"), 2);
    assert_eq!(world.rows("anna").len(), 20);

    world.sandbox.clear_requests();
    world.run(["sync"]).exits(0);
    let queries = world.queries("anna");
    assert!(queries[0].contains("_offset=20"), "{queries:?}");
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_second_signal_ends_at_once() {
    let world = World::with_patients(["anna"]).set("api.idle_timeout", r#""60s""#);
    let running = stalled(&world);
    let begun = Instant::now();
    let mut running = running;
    wait_until("it has ended", || {
        running.terminate();
        running.has_ended()
    });
    assert!(begun.elapsed() < Duration::from_secs(4));
    running.ended();
}

#[test]
fn the_daemon_syncs_on_its_schedule_and_ends_well() {
    let world = World::with_patients(["anna"]).set("sync.schedule", r#""every 1s""#);
    let running = world.start(["run"]);
    wait_until("two cycles have begun", || world.asked("anna").len() >= 2);
    running.terminate();
    running.ended().exits(0);
    world.assert_equals_sandbox("anna");
}

#[test]
fn a_second_daemon_is_refused() {
    let world = World::with_patients(["anna"]);
    let first = world.start(["run"]);
    wait_until("the first is at work", || first.stderr().contains("running"));
    world.run(["run"]).exits(5);
    first.terminate();
    first.ended().exits(0);
}

/// A file that is not a warehouse is refused and not touched.
#[track_caller]
fn is_refused_untouched(world: &World) {
    let before = fs::read(world.warehouse()).unwrap();
    world.run(["sync"]).exits(5);
    world.run(["status"]).exits(5);
    let after = fs::read(world.warehouse()).unwrap();
    assert!(before == after, "the file was written to");
    assert!(world.sandbox.requests().is_empty());
}

fn place(world: &World, bytes: &[u8]) {
    fs::create_dir_all(world.path("data")).unwrap();
    fs::write(world.warehouse(), bytes).unwrap();
}

#[test]
fn a_file_of_length_zero_is_not_taken_for_a_new_warehouse() {
    let world = World::with_patients(["anna"]);
    place(&world, b"");
    is_refused_untouched(&world);
}

#[test]
fn a_text_file_is_refused() {
    let world = World::with_patients(["anna"]);
    place(&world, &b"a letter to the editor\n".repeat(1000));
    is_refused_untouched(&world);
}

#[test]
fn the_database_of_another_program_is_refused() {
    let world = World::with_patients(["anna"]);
    fs::create_dir_all(world.path("data")).unwrap();
    world.exec("CREATE TABLE bookmarks (url TEXT)");
    is_refused_untouched(&world);
}

#[test]
fn a_directory_is_refused() {
    let world = World::with_patients(["anna"]);
    fs::create_dir_all(world.warehouse()).unwrap();
    world.run(["sync"]).exits(5);
    assert_eq!(fs::read_dir(world.warehouse()).unwrap().count(), 0);
}

#[test]
fn a_damaged_file_is_an_error_and_never_recreated() {
    let world = World::with_record(200);
    world.run(["sync"]).exits(0);
    let mut bytes = fs::read(world.warehouse()).unwrap();
    // Everything but the header page.
    for byte in &mut bytes[20_000..] {
        *byte = 0xA5;
    }
    fs::write(world.warehouse(), &bytes).unwrap();
    let ran = world.run(["sync"]);
    assert!([3, 5].contains(&ran.code), "{ran}");
    let verified = world.run(["verify"]);
    assert_ne!(verified.code, 0, "{verified}");
    assert!(fs::metadata(world.warehouse()).unwrap().len() >= 20_000);

    let mut bytes = fs::read(world.warehouse()).unwrap();
    bytes[..100].fill(0);
    fs::write(world.warehouse(), &bytes).unwrap();
    world.run(["sync"]).exits(5);
}

#[test]
fn a_flipped_bit_is_found_by_verify() {
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    world.run(["verify"]).exits(0);
    world.exec("UPDATE observation SET resource = replace(resource, '1.50', '1.51') WHERE id = 'o-anna-1'");
    world.run(["verify"]).exits(1).says("content_hash");
    world.exec("UPDATE observation SET resource = replace(resource, '1.51', '1.50'), patient = 'Patient/other' WHERE id = 'o-anna-1'");
    world.run(["verify"]).exits(1).says("columns");
}

#[test]
fn verify_finds_rows_of_a_revoked_patient() {
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    world.exec("UPDATE checkpoint SET state = 'revoked'");
    world.run(["verify"]).exits(1);
}

#[test]
fn a_lost_wal_is_caught_up_with() {
    let world = World::with_record(35);
    world.run(["sync"]).exits(0);
    let older = fs::read(world.warehouse()).unwrap();
    let changed = crate::world::observation("anna", 3, "changed");
    let tail = crate::world::observation_tail("anna", 3);
    world.sandbox.put("anna", Some(&tail), &changed);
    world.run(["sync"]).exits(0);
    // An older state of the file, rows and watermark alike.
    for leftover in ["data/warehouse.db-wal", "data/warehouse.db-shm"] {
        let _ = fs::remove_file(world.path(leftover));
    }
    fs::write(world.warehouse(), older).unwrap();
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
    world.assert_sound();
}

#[test]
fn another_server_is_refused_until_it_is_adopted() {
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    let other = World::with_patients(["anna"]);
    let base_url = format!("{:?}", other.sandbox.base_url());
    world.change_setting("api.base_url", &base_url);
    world.run(["sync"]).exits(5);
    assert!(other.sandbox.requests().is_empty());
    world.run(["sync", "--new-server"]).exits(0);
    assert_eq!(world.pull("anna", "mode").as_deref(), Some("full"));
    world.run(["sync"]).exits(0);
}

#[test]
fn a_misspelt_server_is_put_right_where_nothing_came_from_it() {
    let world = World::with_patients(["anna"]);
    let right = format!("{:?}", world.sandbox.base_url());
    // Nobody listens there; then somebody who knows none of the patients.
    let other = World::with_patients(["ben"]);
    world.change_setting("api.max_attempts", "1");
    for (wrong, why) in [
        ("http://127.0.0.1:1".to_owned(), "failed or not found: 1: 127.0.0.1:1 refuses the connection"),
        (other.sandbox.base_url(), "1 not found"),
    ] {
        world.change_setting("api.base_url", &format!("{wrong:?}"));
        let ran = world.run(["sync"]).exits(3);
        assert!(ran.stdout.contains(why), "{ran}");
    }
    assert_eq!(world.state("anna"), "not_found");
    world.change_setting("api.base_url", &right);
    assert!(!world.run(["check", "--offline"]).stdout.contains("--new-server"));
    world.run(["sync", "--dry-run"]).exits(0);
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");

    world.run(["purge", "anna", "--yes"]).exits(0);
    world.change_setting("api.base_url", &format!("{:?}", other.sandbox.base_url()));
    world.run(["sync"]).exits(5).says("--new-server");
}

#[test]
fn a_folder_that_cannot_be_written_is_exit_5() {
    let world = World::with_patients(["anna"]);
    let folder = world.path("data");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::metadata(&folder).unwrap().uid() == 0 {
        return read_only_mount(&world);
    }
    world.run(["sync"]).exits(5);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    world.run(["sync"]).exits(0);
}

/// Root writes wherever it likes, but not on a read-only mount.
fn read_only_mount(world: &World) {
    let folder = world.path("data");
    let Some(_mount) = Mount::tmpfs(&folder, "size=20m") else {
        return skip("root, and mount does not work");
    };
    world.run(["sync"]).exits(0);
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        Command::new("mount").args(["-o", &options]).arg(&folder).status()
    };
    assert!(remount("ro").unwrap().success());
    world.run(["sync"]).exits(5);
    assert!(remount("rw").unwrap().success());
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
}

/// A small file system; dropped, it is unmounted.
pub(crate) struct Mount<'f>(&'f Path);

impl<'f> Mount<'f> {
    pub(crate) fn tmpfs(folder: &'f Path, options: &str) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder).output().ok()?;
        mounted.status.success().then_some(Self(folder))
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_said_and_when_there_is_room_again_it_goes_on() {
    let world = World::with_record(4000).set("sync.page_size", "200");
    let folder = world.path("data");
    let Some(_mount) = Mount::tmpfs(&folder, "size=2m") else {
        return skip("mount does not work");
    };
    let ran = world.run(["sync"]);
    assert!([3, 5].contains(&ran.code), "{ran}");
    assert_eq!(world.watermark("anna"), None);
    assert_eq!(world.ask("PRAGMA integrity_check").as_deref(), Some("ok"));
    let more = Command::new("mount").args(["-o", "remount,size=60m"]).arg(&folder).status();
    assert!(more.unwrap().success());
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("anna");
    world.assert_sound();
}

#[test]
fn a_full_disk_delays_the_scrub_visibly() {
    let world = World::with_record(3000).set("sync.page_size", "500").set("consent.alone_after", r#""0s""#);
    let folder = world.path("data");
    let Some(_mount) = Mount::tmpfs(&folder, "size=40m") else {
        return skip("mount does not work");
    };
    world.run(["sync"]).exits(0);
    let all = world.rows_anywhere("anna");
    let filler = folder.join("filler");
    fill(&filler);
    world.sandbox.withdraw("anna");
    let ran = world.run(["sync"]);
    assert!([0, 3, 5].contains(&ran.code), "{ran}");
    if ran.code == 0 {
        assert!(ran.stdout.contains("not gone yet"), "{ran}");
    }
    fs::remove_file(&filler).unwrap();
    let rows = world.rows_anywhere("anna");
    assert!(rows == 0 || rows == all, "{rows} of {all}");
    world.run(["sync"]).exits(0);
    assert_eq!(world.rows_anywhere("anna"), 0);
    assert!(!world.warehouse_bytes_contain("Geheimbefund-anna"));
}

/// Takes all the room there is.
pub(crate) fn fill(filler: &Path) {
    let mut file = fs::File::create(filler).unwrap();
    let block = vec![b'x'; 64 * 1024];
    while std::io::Write::write_all(&mut file, &block).is_ok() {}
}

#[test]
fn a_warehouse_that_is_replaced_under_a_daemon_is_noticed() {
    let world = World::with_patients(["anna"]).set("sync.schedule", r#""every 1s""#);
    let mut running = world.start(["run"]);
    wait_until("a cycle is over", || world.warehouse().exists() && world.watermark("anna").is_some());
    // Moved away, as a rotation by mistake would.
    for name in ["warehouse.db", "warehouse.db-wal", "warehouse.db-shm"] {
        let from = world.path("data").join(name);
        let _ = fs::rename(&from, world.path(name));
    }
    world.sandbox.clear_requests();
    wait_until("it ends or fills a new one", || {
        running.has_ended() || (world.warehouse().exists() && world.asked("anna").len() >= 2)
    });
    if !running.has_ended() {
        running.terminate();
        running.ended();
        world.assert_equals_sandbox("anna");
    }
}

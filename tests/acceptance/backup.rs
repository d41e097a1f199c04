//! `backup`, `restore`, and the register of copies.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use crate::world::{NAME_CANARY, TEXT_CANARY, World, ask};

fn synced() -> World {
    let world = World::with_patients(["anna", "ben", "cora"]);
    world.run(["sync"]).exits(0);
    world
}

/// The files of this world that hold bytes of a patient.
fn files_with(world: &World, person: &str) -> Vec<String> {
    let needles = [NAME_CANARY, TEXT_CANARY].map(|canary| format!("{canary}-{person}"));
    let mut found = Vec::new();
    for folder in [world.path("data"), world.path("")] {
        for file in
            fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).filter(|file| file.is_file())
        {
            let bytes = fs::read(&file).unwrap();
            if needles.iter().any(|needle| memchr::memmem::find(&bytes, needle.as_bytes()).is_some()) {
                found.push(file.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found
}

fn former(world: &World) -> Vec<String> {
    let names = fs::read_dir(world.path("data")).unwrap().map(|file| file.unwrap().file_name());
    let names = names.map(|name| name.into_string().unwrap());
    names.filter(|name| name.contains(".before-")).collect()
}

fn backup_file(world: &World) -> String {
    world.path("backup.db").to_str().unwrap().to_owned()
}

#[test]
fn the_drill_back_up_purge_restore_look() {
    let world = synced();
    let file = backup_file(&world);
    let ran = world.run(["backup", &file, "--json"]).exits(0);
    assert_eq!(ran.number("/bytes"), fs::metadata(&file).unwrap().len());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!world.path("backup.db-wal").exists() && !world.path("backup.db-journal").exists());
    world.run(["purge", "anna", "--yes"]).exits(0);
    assert_eq!(files_with(&world, "anna"), ["backup.db"]);

    world.run(["restore", &file]).exits(2).says("--yes");
    let ran = world.run(["restore", &file, "--yes"]).exits(0);
    assert!(ran.stdout.contains("anna: purged once more (operator): 12 rows removed"), "{ran}");
    let told = world.run(["restore", &file, "--yes", "--json"]).exits(0).json();
    let purged = serde_json::json!([{ "person_id": "anna", "reason": "operator", "rows": 12 }]);
    assert_eq!((&told["purged"], &told["ledger_fault"]), (&purged, &serde_json::Value::Null));
    assert!(Path::new(told["former"].as_str().unwrap()).exists(), "{told}");

    // The former file had been purged and scrubbed, so only the backup itself is left.
    assert_eq!(files_with(&world, "anna"), ["backup.db"]);
    assert_eq!(former(&world).len(), 2);
    assert_eq!(world.rows("anna").len(), 0);
    assert_eq!(world.rows("ben").len(), 6);
    assert_eq!(world.count("SELECT count(*) FROM purge_log WHERE scrubbed_at IS NOT NULL"), 1);
    world.assert_sound();
    let told = world.run(["audit", "anna"]).exits(0).says("backup.db");
    assert!(told.stdout.contains("backup of"), "{told}");
    let ben = world.run(["audit", "ben"]).exits(0);
    assert!(ben.stdout.contains("backup.db") && ben.stdout.contains("before-"), "{ben}");
    world.run(["sync"]).exits(0);
    world.assert_equals_sandbox("ben");
}

#[test]
fn who_was_purged_by_an_operator_and_is_unknown_to_the_backup_is_not_pulled_after_it() {
    let world = World::with_patients(["anna", "ben"]);
    world.list(&["ben"]);
    world.run(["sync"]).exits(0);
    let file = backup_file(&world);
    world.run(["backup", &file]).exits(0);
    world.list(&["anna", "ben"]);
    world.run(["sync"]).exits(0);
    world.run(["purge", "anna", "--yes"]).exits(0);

    world.run(["restore", &file, "--yes"]).exits(0);
    world.run(["sync"]).exits(0);
    assert_eq!(world.rows("anna").len(), 0);
    world.run(["sync", "--patient", "anna"]).exits(0);
    world.assert_equals_sandbox("anna");
    world.assert_sound();
}

#[test]
fn a_backup_never_replaces_a_file_nor_follows_a_link() {
    let world = synced();
    let file = backup_file(&world);
    fs::write(&file, "mine").unwrap();
    world.run(["backup", &file]).exits(2).says("never replaces");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let link = world.path("link").to_str().unwrap().to_owned();
    symlink(world.path("target"), &link).unwrap();
    world.run(["backup", &link]).exits(2);
    assert!(!world.path("target").exists());
    world.run(["backup", world.path("no/such/folder.db").to_str().unwrap()]).exits(2);
}

#[test]
fn a_backup_during_a_cycle_is_of_one_moment() {
    let world = World::with_record(400).set("sync.page_size", "10");
    world.fault("kind = 'slow_drip', bytes = 200, interval_ms = 5");
    let cycle = world.start(["sync"]);
    crate::world::wait_until("rows are there", || {
        world.warehouse().exists() && world.rows("anna").len() > 50
    });
    for number in 0..5 {
        let file = world.path(&format!("backup-{number}.db"));
        world.run(["backup", file.to_str().unwrap()]).exits(0);
        let copy = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        assert_eq!(ask(&copy, "PRAGMA integrity_check").as_deref(), Some("ok"));
        let rows = ask(&copy, "SELECT count(*) FROM observation").unwrap();
        let counted = ask(&copy, "SELECT resources FROM live_resources WHERE person_id = 'anna'").unwrap();
        // A Person and a Patient beside them.
        let rows: u64 = rows.parse().unwrap();
        assert_eq!(counted.parse::<u64>().unwrap(), rows + 2);
    }
    cycle.ended().exits(0);
    world.assert_equals_sandbox("anna");
}

#[test]
fn restore_refuses_while_anything_runs_and_what_is_no_warehouse() {
    let world = synced();
    let file = backup_file(&world);
    world.run(["backup", &file]).exits(0);
    let before = fs::read(world.warehouse()).unwrap();

    let reader = world.open();
    reader.execute_batch("BEGIN").unwrap();
    assert!(ask(&reader, "SELECT count(*) FROM observation").is_some());
    world.run(["restore", &file, "--yes"]).exits(1).says("a reader has");
    drop(reader);

    let daemon = world.daemon();
    daemon.says("running");
    world.run(["restore", &file, "--yes"]).exits(5).says("in use");
    daemon.stops();

    world.fault("kind = 'stall_before_headers', seconds = 60, person = 'anna'");
    world.sandbox.clear_requests();
    let cycle = world.start(["sync"]);
    crate::world::wait_until("a cycle runs", || !world.asked("anna").is_empty());
    world.run(["restore", &file, "--yes"]).exits(5).says("in use");
    drop(cycle);

    fs::write(world.path("text"), "no database").unwrap();
    world.run(["restore", world.path("text").to_str().unwrap(), "--yes"]).exits(1).says("no warehouse");
    world.run(["restore", world.path("gone").to_str().unwrap(), "--yes"]).exits(1).says("no such file");
    world.run(["restore", world.warehouse().to_str().unwrap(), "--yes"]).exits(1).says("itself");
    let mut damaged = fs::read(&file).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle..].fill(0xA5);
    fs::write(world.path("damaged.db"), damaged).unwrap();
    world
        .run(["restore", world.path("damaged.db").to_str().unwrap(), "--yes"])
        .exits(1)
        .says("cannot be restored");
    let newer = world.path("newer.db");
    fs::copy(&file, &newer).unwrap();
    Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 999").unwrap();
    world.run(["restore", newer.to_str().unwrap(), "--yes"]).exits(1).says("newer program");

    assert_eq!(former(&world), Vec::<String>::new());
    assert!(!world.path("data/warehouse.db.new").exists());
    assert_eq!(world.rows("anna").len(), 6);
    assert_eq!(before.len(), fs::read(world.warehouse()).unwrap().len());
}

#[test]
fn a_lost_or_damaged_warehouse_is_restored_with_its_purges() {
    let world = synced();
    let file = backup_file(&world);
    world.run(["backup", &file]).exits(0);
    world.run(["purge", "anna", "--yes"]).exits(0);
    fs::write(world.warehouse(), "SQLite format 3\0 and then nothing of use").unwrap();
    world.run(["restore", &file, "--yes"]).exits(0).says("anna: purged once more");
    assert_eq!(former(&world).len(), 1);
    assert_eq!(world.rows("ben").len(), 6);
    fs::remove_file(world.warehouse()).unwrap();
    world.run(["restore", &file, "--yes"]).exits(0).says("anna: purged once more");
    assert_eq!((world.rows("anna").len(), world.rows("ben").len()), (0, 6));
    world.assert_sound();
}

#[test]
fn without_its_ledger_a_restore_goes_by_the_former_file() {
    let world = synced();
    let file = backup_file(&world);
    world.run(["backup", &file]).exits(0);
    world.run(["purge", "anna", "--yes"]).exits(0);
    fs::rename(world.path("data/warehouse.db.purges"), world.path("away")).unwrap();
    world.run(["restore", &file, "--yes"]).says("there was no ledger").says("anna: purged once more");
    assert_eq!(world.rows("anna").len(), 0);
    assert_eq!(files_with(&world, "anna"), ["backup.db"]);
}

#[test]
fn the_former_file_of_a_restore_keeps_what_it_held() {
    let world = synced();
    let file = backup_file(&world);
    world.run(["backup", &file]).exits(0);
    world.run(["restore", &file, "--yes"]).exits(0).says("with all that it held");
    world.run(["purge", "anna", "--yes"]).exits(0);
    let mut left = files_with(&world, "anna");
    left.sort();
    let mut expected = vec!["backup.db".to_owned(), former(&world).remove(0)];
    expected.sort();
    assert_eq!(left, expected);
    // And both are named.
    let told = world.run(["audit", "anna"]).exits(0);
    assert!(expected.iter().all(|name| told.stdout.contains(name)), "{told}");
}

#[test]
fn a_copy_that_cannot_be_noted_is_not_made() {
    let world = synced();
    fs::create_dir(world.path("data/warehouse.db.copies")).unwrap();
    let file = backup_file(&world);
    world.run(["backup", &file]).exits(1).says("cannot be noted");
    assert!(!world.path("backup.db").exists());
    let folder = world.path("export").to_str().unwrap().to_owned();
    world.run(["export", "--format", "ndjson", &folder]).exits(1).says("cannot be noted");
    assert!(!world.path("export").exists());
    fs::remove_dir(world.path("data/warehouse.db.copies")).unwrap();
    world.run(["export", "--format", "ndjson", "--patient", "ben", &folder]).exits(0);
    let mode = fs::metadata(world.path("data/warehouse.db.copies")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.run(["audit", "ben"]).exits(0).says("export of");
    world.run(["audit", "anna"]).exits(0).says_nothing_of("export of");
}

#[test]
fn a_purge_that_takes_longer_than_the_deadline_is_told() {
    let world = synced();
    world.run(["purge", "anna", "--yes"]).exits(0);
    world.run(["audit", "anna"]).exits(0).says("within consent.deadline");
    world.exec("UPDATE purge_log SET confirmed_at = '2020-01-01T00:00:00Z'");
    world.run(["audit", "anna"]).exits(0).says("LONGER than consent.deadline");
    world.run(["status"]).says("longer than consent.deadline took 1 purge;");
    assert_eq!(world.run(["status", "--json"]).number("/purges_over_deadline"), 1);
}

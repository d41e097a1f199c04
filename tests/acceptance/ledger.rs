//! The ledger of purges: written before a purge, carried out on a file that does not know it, and
//! held to its chain.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;

use crate::world::{NAME_CANARY, World};

fn ledger(world: &World) -> PathBuf {
    world.path("data/warehouse.db.purges")
}

fn lines(world: &World) -> Vec<String> {
    fs::read_to_string(ledger(world)).unwrap().lines().map(str::to_owned).collect()
}

fn line(world: &World, number: usize) -> serde_json::Value {
    serde_json::from_str(&lines(world)[number - 1]).unwrap()
}

fn write(world: &World, lines: &[String]) {
    fs::write(ledger(world), lines.join("\n") + "\n").unwrap();
}

/// Puts the file back as it was when `keep` was called, as one who knows nothing of `restore` would.
fn put_back(world: &World) {
    for side in ["-wal", "-shm"] {
        let _ = fs::remove_file(world.path(&format!("data/warehouse.db{side}")));
    }
    fs::copy(world.path("kept.db"), world.warehouse()).unwrap();
}

fn keep(world: &World) {
    world.exec("PRAGMA wal_checkpoint(TRUNCATE)");
    fs::copy(world.warehouse(), world.path("kept.db")).unwrap();
}

/// Three patients, of whom anna has been purged by an operator and ben withdrew, and a copy
/// from before.
fn purged() -> World {
    let world = World::with_patients(["anna", "ben", "cora"]);
    world.run(["sync"]).exits(0);
    keep(&world);
    world.run(["purge", "anna", "--yes"]).exits(0);
    world.sandbox.withdraw("ben");
    world.run(["sync"]).exits(0).says("1 revoked");
    world
}

#[test]
fn each_purge_has_its_line() {
    let world = purged();
    let mode = fs::metadata(ledger(&world)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(lines(&world).len(), 3);
    let id = world.ask("SELECT value FROM about WHERE name = 'warehouse_id'").unwrap();
    assert_eq!(line(&world, 1)["warehouse"], *id);
    let anna = line(&world, 2);
    assert_eq!(
        (&anna["person"], &anna["kind"], &anna["reason"]),
        (&"anna".into(), &"purge".into(), &"operator".into())
    );
    assert_eq!((anna["rows"].as_u64(), anna["rows_by_table"]["observation"].as_u64()), (Some(12), Some(4)));
    let ben = line(&world, 3);
    assert_eq!(
        (&ben["person"], &ben["reason"], &ben["by"]),
        (&"ben".into(), &"consent_revoked".into(), &"healthex-sync".into())
    );
    let at = world.ask("SELECT purged_at FROM purge_log WHERE person_id = 'ben'").unwrap();
    assert_eq!(ben["time"], *at);
    world.run(["audit", "--verify"]).exits(0).says("2 purges");
    world.run(["check", "--offline"]).exits(0).says("2 purges");
    world.assert_sound();
}

#[test]
fn a_copy_put_back_by_hand_loses_no_purge() {
    let world = purged();
    let log = world.table("SELECT person_id, reason, by, purged_at FROM purge_log ORDER BY id");
    put_back(&world);
    assert_eq!(world.rows("anna").len(), 6);
    world.run(["verify"]).exits(1).says("the ledger has 2 purges that the warehouse");
    world.run(["status"]).says("the ledger has 2 purges that the warehouse");
    world.run(["audit", "--verify"]).exits(0).says("that the warehouse does not know");

    let ran = world.run(["sync"]).exits(0).says("anna was purged at").says("ben was purged at");
    assert!(ran.stderr.contains("12 rows are erased now"), "{ran}");

    assert_eq!(world.rows_anywhere("anna") + world.rows_anywhere("ben"), 0);
    assert_eq!(world.table("SELECT person_id, reason, by, purged_at FROM purge_log ORDER BY id"), log);
    assert_eq!((world.state("anna"), world.state("ben")), ("paused".to_owned(), "revoked".to_owned()));
    for person in ["anna", "ben"] {
        assert!(!world.warehouse_bytes_contain(&format!("{NAME_CANARY}-{person}")), "{person}");
    }
    assert_eq!(world.rows("cora").len(), 6);
    assert_eq!(lines(&world).len(), 3);
    world.assert_sound();
    // Known from now on.
    world.run(["sync"]).exits(0).says_nothing_of("erased now");
    world.run(["audit", "anna"]).exits(0).says("carried out again");
}

#[test]
fn who_returned_is_not_purged_for_an_old_line() {
    let world = purged();
    world.sandbox.grant("ben");
    world.run(["sync", "--patient", "ben"]).exits(0);
    world.run(["sync", "--patient", "anna"]).exits(0);
    assert_eq!(world.rows("ben").len(), 6);
    let returned: Vec<_> = lines(&world).into_iter().filter(|line| line.contains("returned")).collect();
    assert_eq!(returned.len(), 2, "{returned:?}");
    world.run(["sync", "--full", "--patient", "ben"]).exits(0);
    assert_eq!(lines(&world).len(), 5, "once is enough");

    put_back(&world);
    world.run(["sync"]).exits(0).says_nothing_of("erased now");
    assert_eq!(world.rows("anna").len() + world.rows("ben").len(), 12);
    assert_eq!(world.count("SELECT count(*) FROM purge_log"), 2);
    assert_eq!(world.state("ben"), "active");

    // Purged again after that, it is gone, whatever came before.
    world.run(["purge", "ben", "--yes"]).exits(0);
    put_back(&world);
    world.run(["sync"]).exits(0).says("ben was purged at");
    assert_eq!(world.rows("ben").len(), 0);
    assert_eq!(world.rows("anna").len(), 6);
    assert_eq!(world.count("SELECT count(*) FROM purge_log"), 3);
}

#[test]
fn a_line_whose_purge_a_crash_prevented_is_carried_out() {
    let world = purged();
    // What kill -9 between line and commit leaves: the file and its head as before, one line more.
    let before = lines(&world);
    world.run(["purge", "cora", "--yes"]).exits(0);
    let after = lines(&world);
    world.run(["sync", "--patient", "cora"]).exits(0);
    assert_eq!(world.rows("cora").len(), 6);
    write(&world, &before);
    world.exec("DELETE FROM purge_log WHERE person_id = 'cora'");
    let head = sha256_of_last(&before);
    world.exec(&format!("UPDATE about SET value = '{head}' WHERE name = 'ledger_head'"));
    write(&world, &after);
    world.run(["sync"]).exits(0).says("cora was purged at");
    assert_eq!(world.rows("cora").len(), 0);
    assert_eq!(lines(&world), after);

    // Half a line was never followed by a commit.
    let mut text = fs::read_to_string(ledger(&world)).unwrap();
    text.push_str(r#"{"time":"2026-01-01T00:00:00Z","pers"#);
    fs::write(ledger(&world), text).unwrap();
    world.run(["sync"]).exits(0).says("it is taken out");
    assert_eq!(lines(&world), after);
    world.run(["audit", "--verify"]).exits(0);
}

/// The hash that the line after the last of these would hold: known once there is such a line.
fn sha256_of_last(lines: &[String]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("line");
    fs::write(&file, lines.last().unwrap()).unwrap();
    let output = Command::new("sha256sum").arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

#[test]
fn a_chain_broken_at_any_line_is_told_with_its_place_and_purges_nobody() {
    let world = purged();
    let whole = lines(&world);
    for broken in 1..=3 {
        for how in ["changed", "removed", "doubled", "emptied"] {
            let mut lines = whole.clone();
            match how {
                "changed" => lines[broken - 1] = lines[broken - 1].replacen("e\":\"", "e\":\"x", 1),
                "removed" => drop(lines.remove(broken - 1)),
                "doubled" => lines.insert(broken, lines[broken - 1].clone()),
                _ => lines[broken - 1].clear(),
            }
            write(&world, &lines);
            let ran = world.run(["audit", "--verify"]).exits(1);
            let is_placed = ran.stdout.contains("in line") || ran.stdout.contains("its end was changed");
            let is_foreign = ran.stdout.contains("another warehouse");
            assert!(is_placed || is_foreign, "line {broken} {how}: {ran}");
            world.run(["verify"]).exits(1);
            world.run(["status"]).exits(3).says("NOBODY CAN BE PURGED");
            world.run(["check", "--offline"]).says("FAILED  ledger");
            let code = if is_foreign { 5 } else { 1 };
            world.run(["purge", "cora", "--yes"]).exits(code);
            assert_eq!(world.rows("cora").len(), 6, "line {broken} {how}");
        }
    }
    write(&world, &whole);
    world.run(["audit", "--verify"]).exits(0);
    world.run(["purge", "cora", "--yes"]).exits(0);
}

#[test]
fn what_is_readable_of_a_damaged_ledger_is_carried_out() {
    let world = purged();
    let mut broken = lines(&world);
    broken[1] = "not a line".to_owned();
    write(&world, &broken);
    put_back(&world);
    world.sandbox.withdraw("cora");
    let ran = world.run(["sync"]).exits(3).says("ben was purged at").says("in line 2");
    assert!(ran.stderr.contains("not purged"), "{ran}");
    assert_eq!(world.rows("ben").len(), 0);
    assert_eq!(world.rows("cora").len(), 6, "without a line nobody is purged");
    assert_eq!(world.state("cora"), "refused");

    world.run(["audit", "--new-ledger"]).exits(0).says("damaged-");
    world.run(["audit", "--verify"]).exits(0).says("1 purge");
    world.run(["sync"]).exits(0).says("1 revoked");
    assert_eq!(world.rows("cora").len(), 0);
    let kept = fs::read_dir(world.path("data")).unwrap().map(|file| file.unwrap().file_name());
    assert!(kept.into_iter().any(|name| name.to_str().unwrap().contains(".purges.damaged-")));
}

#[test]
fn a_ledger_that_is_missing_is_missed_where_there_are_purges() {
    let world = World::with_patients(["anna", "ben"]);
    world.run(["sync"]).exits(0);
    fs::remove_file(ledger(&world)).unwrap();
    world.run(["sync"]).exits(0);
    assert_eq!(lines(&world).len(), 1, "without purges it is made again");
    world.run(["purge", "anna", "--yes"]).exits(0);
    fs::rename(ledger(&world), world.path("away")).unwrap();
    world.run(["audit", "--verify"]).exits(1).says("is missing");
    world.run(["purge", "ben", "--yes"]).exits(1).says("is missing");
    assert_eq!(world.rows("ben").len(), 6);
    // Nobody who was purged is pulled again without a line.
    world.run(["sync", "--patient", "anna"]).exits(3).says("is missing");
    assert_eq!(world.rows("anna").len(), 0);
    fs::rename(world.path("away"), ledger(&world)).unwrap();
    world.run(["purge", "ben", "--yes"]).exits(0);
}

#[test]
fn a_warehouse_older_than_ledgers_gets_one_with_its_purges() {
    let world = purged();
    world.exec("DELETE FROM about WHERE name IN ('warehouse_id', 'ledger_head')");
    fs::remove_file(ledger(&world)).unwrap();
    world.run(["sync"]).exits(0);
    assert_eq!(lines(&world).len(), 3);
    world.run(["audit", "--verify"]).exits(0).says("2 purges");
    // Its copy, which has no id, takes the ledger's.
    put_back(&world);
    world.exec("DELETE FROM about WHERE name IN ('warehouse_id', 'ledger_head')");
    world.run(["sync"]).exits(0).says("anna was purged at");
    world.assert_sound();
}

#[test]
fn the_ledger_of_another_warehouse_is_refused() {
    let world = purged();
    let other = purged();
    fs::copy(ledger(&other), ledger(&world)).unwrap();
    world.run(["sync"]).exits(5).says("of another warehouse");
    world.run(["check", "--offline"]).exits(5).says("of another warehouse");
    world.run(["purge", "cora", "--yes"]).exits(5);
    assert_eq!(world.rows("cora").len(), 6);
    // A warehouse that was lost is not begun anew beside its ledger.
    fs::remove_file(world.warehouse()).unwrap();
    world.run(["sync"]).exits(5).says("restore").says("move the ledger away");
    assert!(!world.warehouse().exists());
    fs::rename(ledger(&world), world.path("away")).unwrap();
    world.run(["sync"]).exits(0);
}

#[test]
fn a_ledger_that_cannot_be_written_purges_nobody() {
    let world = purged();
    fs::rename(ledger(&world), world.path("data/real")).unwrap();
    symlink(world.path("data/real"), ledger(&world)).unwrap();
    world.run(["purge", "cora", "--yes"]).exits(1).says("symbolic link");
    world.run(["status"]).exits(3).says("symbolic link");
    assert_eq!(world.rows("cora").len(), 6);
    fs::remove_file(ledger(&world)).unwrap();
    fs::create_dir(ledger(&world)).unwrap();
    world.run(["purge", "cora", "--yes"]).exits(1).says("cannot be used");
    fs::remove_dir(ledger(&world)).unwrap();
    fs::rename(world.path("data/real"), ledger(&world)).unwrap();
    // What others could read is taken from them.
    fs::set_permissions(ledger(&world), Permissions::from_mode(0o644)).unwrap();
    world.run(["purge", "cora", "--yes"]).exits(0);
    assert_eq!(fs::metadata(ledger(&world)).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_ledger_on_a_full_or_read_only_disk_purges_nobody_and_is_not_torn() {
    let Some(disk) = SmallDisk::mount() else { return crate::support::skip("no tmpfs can be mounted") };
    let persons: Vec<String> = (1..=20).map(|number| format!("p{number:02}")).collect();
    let mut population = healthex_sync::sandbox::Population::empty();
    for person in &persons {
        population.add_person(person, crate::world::record(person, 4));
    }
    let world = World::serving(population).set("consent.ledger", &format!("{:?}", disk.path("ledger")));
    world.run(["sync"]).exits(0);
    disk.fill();
    // What fits into the ledger's last page is still written.
    let purge = |person: &String| world.run(["purge", person, "--yes"]);
    let is_refused = |person: &&String| purge(person).code == 1;
    let refused = persons.iter().find(is_refused).expect("the disk is full");
    assert_eq!(world.rows(refused).len(), 6);
    purge(refused).exits(1).says("No space left");
    let purged = world.count("SELECT count(*) FROM purge_log");
    world.run(["audit", "--verify"]).exits(0).says(&format!("{purged} purges"));
    disk.free();
    purge(refused).exits(0);
    let next = persons.iter().find(|person| world.rows(person).len() == 6).unwrap();
    disk.remount("ro");
    purge(next).exits(1).says("Read-only");
    world.run(["status"]).exits(3).says("NOBODY CAN BE PURGED");
    disk.remount("rw");
    purge(next).exits(0);
    world.run(["audit", "--verify"]).exits(0).says(&format!("{} purges", purged + 2));
}

/// A file system of sixteen kilobytes.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        Self::is_done(&["-t", "tmpfs", "-o", "size=16k,mode=700", "tmpfs"], &disk).then_some(disk)
    }

    fn is_done(options: &[&str], disk: &Self) -> bool {
        let status = Command::new("mount").args(options).arg(disk.0.path()).status();
        status.is_ok_and(|status| status.success())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn fill(&self) {
        // It fails once there is no more room, as is wanted.
        let _ = fs::write(self.path("filler"), vec![0; 64 * 1024]);
    }

    fn free(&self) {
        fs::remove_file(self.path("filler")).unwrap();
    }

    fn remount(&self, how: &str) {
        assert!(Self::is_done(&["-o", &format!("remount,{how}")], self));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn the_daemon_says_that_nobody_can_be_purged() {
    let world = World::for_daemons(2).set("sync.schedule", r#""* * * * * *""#);
    world.run(["sync"]).exits(0);
    world.run(["purge", "sandbox-0001", "--yes"]).exits(0);
    fs::rename(ledger(&world), world.path("away")).unwrap();
    let daemon = world.daemon();
    daemon
        .waits("the page says it", || daemon.get("/").body.contains("for want of the ledger").then_some(()));
    daemon.shows("healthex_sync_problem{problem=\"ledger\"}", |value| value == 1);
    fs::rename(world.path("away"), ledger(&world)).unwrap();
    daemon.says("the ledger of purges can be used again");
    daemon.stops();
}

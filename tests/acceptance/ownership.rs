//! Whose files are used: a stranger's, and one that strangers can write, is refused before anything
//! is sent or written, with the command that mends it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use crate::support::skip;
use crate::world::{Running, World, tool};

/// An account and a group that are neither root's nor the tests' own.
const STRANGER: u32 = 65_533;

fn is_root() -> bool {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !is_root {
        skip("only root can give a file to somebody else");
    }
    is_root
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn world() -> World {
    let world = World::with_patients(["anna"]).set("views.folder", r#""views""#);
    let view = r#"{"resourceType":"ViewDefinition","name":"ages","resource":"Patient","status":"active",
        "select":[{"column":[{"name":"person","path":"getResourceKey()"}]}]}"#;
    world.write("views/ages.json", view);
    world
}

/// All that decides where keys are sent and what is done with records.
const FILES: [&str; 6] =
    ["healthex-sync.toml", "roster.toml", "api-key", "api-secret", "views", "views/ages.json"];

/// Nothing was sent, and nothing written.
#[track_caller]
fn is_untouched(world: &World) {
    assert!(world.sandbox.requests().is_empty());
    assert!(!world.path("data").exists());
}

#[track_caller]
fn refuses(world: &World, file: &str, why: &str, mends: &str) {
    let path = world.path(file);
    let command = format!("{mends} {}", path.display());
    world.run(["sync"]).exits(2).says(&path.display().to_string()).says(why).says(&command);
    is_untouched(world);
    world.run(["check", "--offline"]).exits(2).says(why).says(&command);
    is_untouched(world);
}

#[test]
fn a_file_that_others_can_write_is_refused_before_anything_happens() {
    for file in FILES {
        let world = world();
        let path = world.path(file);
        let before = path.metadata().unwrap().mode() & 0o777;
        set_mode(&path, before | 0o002);
        refuses(&world, file, &format!("mode {:04o}", before | 0o002), "chmod o-w");
        set_mode(&path, before);
        world.run(["sync"]).exits(0);
    }
}

#[test]
fn a_file_that_a_group_can_write_is_refused_unless_the_group_is_private() {
    if !is_root() {
        return;
    }
    for file in FILES {
        let world = world();
        let path = world.path(file);
        let before = path.metadata().unwrap().mode() & 0o777;
        chown(&path, None, Some(STRANGER)).unwrap();
        set_mode(&path, before | 0o020);
        refuses(&world, file, &format!("(owner root, mode {:04o})", before | 0o020), "chmod g-w");
        // Root's own group, as `umask 002` leaves it.
        chown(&path, None, Some(0)).unwrap();
        world.run(["sync"]).exits(0);
    }
}

#[test]
fn a_strangers_file_is_refused_before_anything_happens() {
    if !is_root() {
        return;
    }
    for file in FILES {
        let world = world();
        let path = world.path(file);
        chown(&path, Some(STRANGER), None).unwrap();
        let mode = path.metadata().unwrap().mode() & 0o7777;
        refuses(&world, file, &format!("belongs to #{STRANGER} (mode {mode:04o})"), "chown root");
        if !file.starts_with("api-") {
            let mut daemon = world.daemon();
            daemon.ends().exits(2).says("belongs to");
            is_untouched(&world);
        }
        chown(&path, Some(0), None).unwrap();
        world.run(["sync"]).exits(0);
    }
}

#[test]
fn a_configuration_in_the_current_folder_is_used_unnamed_only_if_it_is_ones_own() {
    if !is_root() {
        return;
    }
    let Some(setpriv) = tool("setpriv") else { return };
    let world = world();
    set_mode(&world.path(""), 0o755);
    let mut program = Command::new(setpriv);
    program.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    program.arg(env!("CARGO_BIN_EXE_healthex-sync")).current_dir(world.path(""));
    // Root's is believed where it is named, and not merely met.
    let unnamed = Running::start(program.arg("status")).ended();
    unnamed.exits(2).says("belongs to root").says("--config healthex-sync.toml");
    let named = Running::start(program.args(["--config", "healthex-sync.toml"])).ended();
    named.exits(5).says("there is no warehouse");

    let mine = world.path("healthex-sync.toml");
    chown(&mine, Some(STRANGER), None).unwrap();
    let mut root = Command::new(env!("CARGO_BIN_EXE_healthex-sync"));
    let met = Running::start(root.arg("sync").current_dir(world.path(""))).ended();
    met.exits(2).says("belongs to").says("chown root healthex-sync.toml");
    is_untouched(&world);
}

/// What root leaves beside a warehouse of the service's account is that account's.
#[test]
fn working_as_root_does_not_lock_the_service_out() {
    if !is_root() {
        return;
    }
    let Some(setpriv) = tool("setpriv") else { return };
    let world = World::with_patients(["anna", "ben"]);
    set_mode(&world.path(""), 0o755);
    let data = world.path("data");
    fs::create_dir(&data).unwrap();
    chown(&data, Some(STRANGER), Some(STRANGER)).unwrap();
    let is_all_its_own = |what: &str| {
        for entry in fs::read_dir(&data).unwrap().map(Result::unwrap) {
            let found = entry.metadata().unwrap();
            assert_eq!(
                (found.uid(), found.gid()),
                (STRANGER, STRANGER),
                "{what}: {}",
                entry.path().display()
            );
        }
    };
    for args in [
        &["sync"][..],
        &["check", "--offline"],
        &["purge", "anna", "--yes"],
        &["verify"],
        &["views", "apply"],
        &["export", "--format", "csv", "out"],
        &["backup", "copy.db"],
        &["restore", "copy.db", "--yes"],
    ] {
        let ran = world.run_inside(args);
        assert_eq!(ran.code, 0, "{ran}");
        is_all_its_own(&format!("{args:?}"));
    }
    fs::remove_file(world.path("data/warehouse.db.purges")).unwrap();
    world.run(["audit", "--new-ledger"]).exits(0);
    is_all_its_own("another ledger");

    for key in ["api-key", "api-secret"] {
        chown(world.path(key), Some(STRANGER), Some(STRANGER)).unwrap();
    }
    let mut service = Command::new(setpriv);
    service.args([&format!("--reuid={STRANGER}"), &format!("--regid={STRANGER}"), "--clear-groups"]);
    service.arg(env!("CARGO_BIN_EXE_healthex-sync")).arg("--config").arg(world.config()).arg("sync");
    Running::start(&mut service).ended().exits(0).says("1 ok");
}

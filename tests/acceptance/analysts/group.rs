//! `warehouse.group`: its members read at any time, and whatever they do, the next cycle goes well.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use super::python::{NO_RSQLITE, has_rsqlite, python};
use crate::support::skip;
use crate::world::{World, observation, project, tool, wait_until};

/// Nobody, as a member of the group `daemon`: both are on every Linux.
const ANALYST: u32 = 65_534;
const GROUP: u32 = 1;

/// Counts the observations as the analyst, with some of the tools.
#[track_caller]
fn observations_read(world: &World, tools: &Tools) -> i64 {
    read_with(world, tools, None)
}

/// Counts them with every tool.
#[track_caller]
fn observations_read_by_all(world: &World, tools: &Tools) -> i64 {
    read_with(world, tools, tools.rscript)
}

#[track_caller]
fn read_with(world: &World, tools: &Tools, rscript: Option<&str>) -> i64 {
    let read = Command::new(&tools.python)
        .arg(project("tests/acceptance/analysts/group_reader.py"))
        .arg(world.warehouse())
        .args([ANALYST.to_string(), GROUP.to_string()])
        .arg(&tools.shell)
        .args(rscript)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success(), "{told}");
    String::from_utf8_lossy(&read.stdout).trim().parse().unwrap()
}

struct Tools {
    python: std::path::PathBuf,
    shell: std::path::PathBuf,
    /// With `RSQLite`.
    rscript: Option<&'static str>,
}

fn tools() -> Option<Tools> {
    if !rustix::process::geteuid().is_root() {
        skip("what a second user may read can only be tried by root");
        return None;
    }
    let python = python().map_err(|why| skip(&format!("members of the group were not tried: {why}"))).ok()?;
    if !has_rsqlite() {
        skip(NO_RSQLITE);
    }
    Some(Tools { python, shell: tool("sqlite3")?, rscript: has_rsqlite().then_some("Rscript") })
}

/// Anna and Ben, after a first cycle. The folder of the warehouse is made by it.
fn world() -> World {
    let world = World::with_patients(["anna", "ben"]).set("warehouse.group", r#""daemon""#);
    fs::set_permissions(world.path(""), Permissions::from_mode(0o711)).unwrap();
    world.run(["sync"]).exits(0);
    world
}

/// The service's files are there, its own, and for the group to read.
#[track_caller]
fn assert_files_are_the_services(world: &World) {
    for suffix in ["", "-wal", "-shm"] {
        let found = fs::metadata(format!("{}{suffix}", world.warehouse().display())).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (0, GROUP, 0o640), "{suffix}");
    }
}

#[test]
fn a_member_of_the_group_reads_between_cycles_during_one_and_after_a_kill() {
    let Some(tools) = tools() else { return };
    let world = world();
    let at_first = world.count("SELECT count(*) FROM observation");
    assert_eq!(observations_read(&world, &tools), at_first, "between cycles");
    assert_files_are_the_services(&world);

    world.sandbox.put("anna", None, &observation("anna", 4_711, "new"));
    world.fault("kind = 'stall_before_headers', seconds = 60, person = 'ben'");
    let sync = world.start(["sync"]);
    wait_until("anna is stored", || world.count("SELECT count(*) FROM observation") > at_first);
    assert_eq!(observations_read_by_all(&world, &tools), at_first + 1, "during a cycle");
    sync.kill();
    assert_eq!(observations_read(&world, &tools), at_first + 1, "after a kill");

    world.sandbox.clear_script();
    world.run(["sync"]).exits(0);
    assert_eq!(observations_read(&world, &tools), at_first + 1, "after the cycle that follows");
    assert_files_are_the_services(&world);
    let daemon = world.daemon();
    daemon.tells("READY=1");
    daemon.stops();
    assert_eq!(observations_read(&world, &tools), at_first + 1, "after the service has stopped");
    assert_files_are_the_services(&world);
}

#[test]
fn a_member_who_may_write_into_the_folder_stops_no_cycle() {
    let Some(tools) = tools() else { return };
    let world = world();
    fs::set_permissions(world.path("data"), Permissions::from_mode(0o700)).unwrap();
    world.run(["check"]).exits(1).says("warehouse.group cannot enter its folder").says("chmod 750");
    fs::set_permissions(world.path("data"), Permissions::from_mode(0o770)).unwrap();
    world.run(["check"]).exits(0);
    // As a restore or a copy leaves it: the reader makes both files, and they are the reader's.
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(format!("{}{suffix}", world.warehouse().display()));
    }
    let at_first = observations_read(&world, &tools);
    world.sandbox.put("anna", None, &observation("anna", 4_711, "new"));
    world.run(["sync"]).exits(0);
    assert_eq!(observations_read(&world, &tools), at_first + 1);
    world.run(["verify"]).exits(0);
}

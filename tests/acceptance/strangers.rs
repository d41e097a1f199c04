//! What somebody else on the machine leaves in the way: links, locks, folders and umasks.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};

use crate::support::skip;
use crate::world::{Ran, Running, World, binary, tool, wait_until};

#[test]
fn what_stands_in_the_place_of_a_lock_is_neither_locked_nor_written() {
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    world.write("precious", "my thesis");
    for (lock, command) in [("warehouse.db.lock", "sync"), ("warehouse.db.run.lock", "run")] {
        let lock = world.path(&format!("data/{lock}"));
        let _ = fs::remove_file(&lock);
        symlink(world.path("precious"), &lock).unwrap();
        world.run([command]).exits(5).says("symbolic link");
        fs::remove_file(&lock).unwrap();
        fs::hard_link(world.path("precious"), &lock).unwrap();
        world.run([command]).exits(5).says("hard link");
        fs::remove_file(&lock).unwrap();
        assert_eq!(fs::read_to_string(world.path("precious")).unwrap(), "my thesis");
    }
    world.run(["sync"]).exits(0);
}

#[test]
fn what_a_lock_says_cannot_steer_a_terminal() {
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    let lock = world.path("data/warehouse.db.lock");
    fs::write(&lock, "1\u{1b}]0;owned\u{7}\u{202e}\n and much more than any process id is long").unwrap();
    let held = File::open(&lock).unwrap();
    flock(&held, FlockOperation::NonBlockingLockExclusive).unwrap();
    let ran = world.run(["sync"]).exits(5).says(r"pid 1\u{1b}]0;owned").says_nothing_of("than any");
    assert!(!ran.stderr.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{ran}");
}

#[test]
fn an_export_goes_through_no_link_and_clears_only_what_is_its_own() {
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    fs::create_dir(world.path("theirs")).unwrap();
    symlink(world.path("theirs"), world.path("out")).unwrap();
    let export = |into: &str| world.run_inside(["export", "--format", "ndjson", into]);
    export("out").exits(2).says("symbolic link");
    assert_eq!(fs::read_dir(world.path("theirs")).unwrap().count(), 0);

    // Left by exports that were killed: mine, a stranger's, and a link.
    let left = |name: &str| world.path(&format!("deep/er/.out.partial-{name}"));
    fs::create_dir_all(left("4000000001")).unwrap();
    fs::create_dir_all(left("4000000002")).unwrap();
    symlink(world.path("theirs"), left("4000000003")).unwrap();
    let is_given = chown(left("4000000002"), Some(65_533), None).is_ok();
    export("deep/er/out").exits(0);
    assert!(!left("4000000001").exists());
    assert!(left("4000000003").is_symlink() && world.path("theirs").exists());
    if is_given {
        assert!(left("4000000002").exists());
    } else {
        skip("only root can give a folder to somebody else");
    }
}

fn run_with_umask(umask: &str, command: &Command) -> Ran {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("umask {umask} && exec \"$@\""), "sh"]).arg(command.get_program());
    shell.args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        shell.current_dir(folder);
    }
    Running::start(&mut shell).ended()
}

/// All files and folders below one, with their modes.
fn modes_below(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        found.push((path.clone(), metadata.mode() & 0o777));
        if metadata.is_dir() {
            found.extend(modes_below(&path));
        }
    }
    found
}

#[test]
fn whatever_the_umask_nobody_else_can_read_or_write_what_is_made() {
    let world = World::with_patients(["anna"]);
    let home = tempfile::tempdir().unwrap();
    let inside = |args: &[&str]| {
        let mut command = world.command(args);
        command.current_dir(home.path());
        run_with_umask("000", &command).exits(0)
    };
    inside(&["init", "study"]);
    inside(&["sync"]);
    inside(&["purge", "anna", "--yes"]);
    inside(&["sync", "--patient", "anna"]);
    inside(&["backup", "copy.db"]);
    for format in ["ndjson", "csv", "parquet"] {
        inside(&["export", "--format", format, &format!("out/{format}")]);
    }
    let mut demo = binary();
    demo.arg("demo").current_dir(home.path());
    run_with_umask("000", &demo).exits(0);

    let mut made = modes_below(home.path());
    assert!(made.len() > 30, "{made:?}");
    made.extend(modes_below(&world.path("data")));
    made.push((world.path("data"), world.path("data").metadata().unwrap().mode() & 0o777));
    for (path, mode) in made {
        // Settings hold no secret.
        let for_others = if path.ends_with("healthex-sync.toml") { 0o022 } else { 0o077 };
        assert_eq!(mode & for_others, 0, "{}: {mode:o}", path.display());
    }
}

#[test]
fn a_sandbox_for_other_machines_has_to_be_asked_for_and_says_where_it_listens() {
    let sandbox = |args: &[&str]| Running::start(binary().args(["sandbox", "--patients", "1"]).args(args));
    sandbox(&["--listen", "0.0.0.0:0"]).ended().exits(2).says("--public");
    let public = sandbox(&["--listen", "0.0.0.0:0", "--public"]);
    wait_until("it listens", || public.stdout().contains("sandbox-0001"));
    assert!(public.stdout().starts_with("listening on http://0.0.0.0:"), "{}", public.stdout());
    public.terminate();
    public.ended().exits(0).says("other machines can read");
}

#[test]
fn a_demo_goes_through_no_link_and_leaves_what_is_not_its_own() {
    let home = tempfile::tempdir().unwrap();
    let demo = |dir: &str| Running::start(binary().current_dir(home.path()).args(["demo", dir])).ended();
    demo("mine").exits(0);
    let mine = home.path().join("mine");
    fs::write(mine.join("query.sql"), "SELECT 1").unwrap();
    demo("mine").exits(0);
    assert_eq!(fs::read_to_string(mine.join("query.sql")).unwrap(), "SELECT 1");

    symlink(&mine, home.path().join("link")).unwrap();
    demo("link").exits(2);
    let marked = home.path().join("marked");
    fs::create_dir(&marked).unwrap();
    fs::write(marked.join("roster.toml"), "mine").unwrap();
    symlink(mine.join(".healthex-sync-demo"), marked.join(".healthex-sync-demo")).unwrap();
    demo("marked").exits(2);
    assert_eq!(fs::read_to_string(marked.join("roster.toml")).unwrap(), "mine");
}

/// SQLite opens its temporary files by the path of their folder, so a trace of the calls shows where.
#[test]
fn no_command_puts_rows_into_tmpdir() {
    let Some(strace) = tool("strace") else { return };
    let world = World::generated(3);
    let aside = world.path("aside");
    fs::create_dir(&aside).unwrap();
    let traced = |args: &[&str]| {
        let trace = world.path("trace");
        let mut command = Command::new(&strace);
        command.args(["-f", "-qq", "-e", "trace=%file", "-o"]).arg(&trace);
        command.arg(env!("CARGO_BIN_EXE_healthex-sync")).arg("--config").arg(world.config()).args(args);
        command.env("TMPDIR", &aside).env("SQLITE_TMPDIR", &aside).current_dir(world.path(""));
        Running::start(&mut command).ended().exits(0);
        let calls = fs::read_to_string(&trace).unwrap();
        assert!(calls.contains("warehouse.db"), "{args:?}: nothing was traced");
        let touched = calls.lines().find(|line| line.contains(aside.to_str().unwrap()));
        assert_eq!(touched, None, "{args:?}");
        calls
    };
    traced(&["sync"]);
    // More than is sorted in memory.
    world.exec(
        "INSERT INTO checkpoint (person_id, state, last_error)
         WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 40000)
         SELECT 'filler-' || n, 'paused', printf('%.*c', 60, 'x') FROM number",
    );
    let calls = traced(&["status", "--json"]);
    let beside = format!("\"{}\", O_RDWR|O_EXCL|O_CLOEXEC|O_TMPFILE", world.path("data").display());
    assert!(calls.contains(&beside), "nothing was put aside at all");
    let view = concat!(env!("CARGO_MANIFEST_DIR"), "/schema/views/conditions.json");
    traced(&["verify", "--deep"]);
    traced(&["views", "run", view]);
    for format in ["csv", "parquet", "ndjson"] {
        traced(&["export", "--format", format, format]);
    }
    traced(&["backup", "copy.db"]);
    world.exec("DELETE FROM checkpoint WHERE state = 'paused'");
    traced(&["purge", "demo-01", "--yes"]);
    traced(&["views", "apply"]);
    traced(&["sync", "--full"]);
    traced(&["restore", "copy.db", "--yes"]);
}

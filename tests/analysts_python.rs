//! DuckDB, pandas and Datasette over a live warehouse.
//!
//! What they need is installed by the test into a virtual environment under `target/`. Without
//! Python or a package index the test says that it was skipped and why; with
//! `HEALTHEX_SYNC_REQUIRE_ALL=1`, as in CI, that is a failure.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![allow(clippy::print_stderr, reason = "what was skipped must be told")]

mod analysts_support;

use std::path::{Path, PathBuf};
use std::process::Command;

use analysts_support::{World, root};

const PACKAGES: [&str; 4] =
    ["duckdb==1.5.5", "duckdb-extension-sqlite-scanner==1.5.5", "pandas>=2,<4", "datasette>=0.65,<0.66"];

#[test]
fn duckdb_pandas_and_datasette_read_the_live_file() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => {
            eprintln!("SKIPPED: DuckDB, pandas and Datasette were not tried: {why}");
            assert!(std::env::var_os("HEALTHEX_SYNC_REQUIRE_ALL").is_none(), "{why}");
            return;
        }
    };
    let world = World::of(12);
    world.ok(&["sync"]);
    // Live: a writer has it open, with a change that is not committed.
    let writer = world.database();
    writer.execute_batch("BEGIN IMMEDIATE; DELETE FROM lab_results").unwrap();
    let read = Command::new(python)
        .arg(root().join("tests/analysts_support/readers.py"))
        .arg(world.path("warehouse.db"))
        .arg(root().join("docs/queries"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success(), "{}{told}", String::from_utf8_lossy(&read.stdout));
    eprintln!("{}", String::from_utf8_lossy(&read.stdout));
    writer.execute_batch("ROLLBACK").unwrap();
}

/// The Python of a virtual environment that has all packages.
fn python() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("analysts-venv");
    let python = folder.join("bin/python");
    let marker = folder.join("complete");
    let wanted = PACKAGES.join("\n");
    if std::fs::read_to_string(&marker).is_ok_and(|complete| complete == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let options =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
    run(Command::new(&python).args(options).args(PACKAGES))?;
    std::fs::write(&marker, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Err(error) => Err(format!("{command:?}: {error}")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

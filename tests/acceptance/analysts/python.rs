//! DuckDB, pandas and Datasette over a live warehouse.
//!
//! What they need is installed by the test into a virtual environment under `target/`. Without
//! Python or a package index the test says that it was skipped and why; with
//! `HEALTHEX_SYNC_REQUIRE_ALL=1`, as in CI, that is a failure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::world;
use crate::support::skip;
use crate::world::project;

const PACKAGES: [&str; 4] =
    ["duckdb==1.5.5", "duckdb-extension-sqlite-scanner==1.5.5", "pandas>=2,<4", "datasette>=0.65,<0.66"];

#[test]
fn duckdb_pandas_and_datasette_read_the_live_file() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return skip(&format!("DuckDB, pandas and Datasette were not tried: {why}")),
    };
    let world = world(12);
    world.run(["sync"]).exits(0);
    // Live: a writer has it open, with a change that is not committed.
    let writer = world.open_to_write();
    writer.execute_batch("BEGIN IMMEDIATE; DELETE FROM observations").unwrap();
    let read = Command::new(python)
        .arg(project("tests/acceptance/analysts/readers.py"))
        .arg(world.warehouse())
        .arg(project("docs/queries"))
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success(), "{}{told}", String::from_utf8_lossy(&read.stdout));
    eprintln!("{}", String::from_utf8_lossy(&read.stdout));
    writer.execute_batch("ROLLBACK").unwrap();
}

/// The Python of a virtual environment that has all packages.
pub(super) fn python() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("analysts-venv");
    let python = folder.join("bin/python");
    let marker = folder.join("complete");
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&marker).is_ok_and(|complete| complete == wanted) {
        return Ok(python);
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let options =
        ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"];
    run(Command::new(&python).args(options).args(PACKAGES))?;
    fs::write(&marker, wanted).map_err(|error| error.to_string())?;
    Ok(python)
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Err(error) => Err(format!("{command:?}: {error}")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}

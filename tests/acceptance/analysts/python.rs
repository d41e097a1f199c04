//! DuckDB, pandas, polars, Datasette, R and sqlite3 over a live warehouse, and a notebook.
//!
//! What Python needs is installed by the test into a virtual environment under `target/`; R with `RSQLite` and
//! sqlite3 are Debian's. Without one of them a test says that it was skipped and why; with
//! `HEALTHEX_SYNC_REQUIRE_ALL=1`, as in CI, that is a failure.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use super::recipes::recipes;
use super::world;
use crate::support::skip;
use crate::world::{World, project, python_with};

const PACKAGES: [&str; 8] = [
    "duckdb==1.5.5",
    "duckdb-extension-sqlite-scanner==1.5.5",
    "pandas>=2,<4",
    "polars>=1,<3",
    "datasette>=0.65,<0.66",
    "matplotlib>=3.8,<4",
    "nbclient>=0.10,<0.12",
    "ipykernel>=6,<8",
];

/// Twelve patients, and a writer that has their file open, with a change that is not committed.
fn while_somebody_writes(read: impl FnOnce(&World)) {
    let world = world(12);
    world.run(["sync"]).exits(0);
    let writer = world.open_to_write();
    writer.execute_batch("BEGIN IMMEDIATE; DELETE FROM observations").unwrap();
    read(&world);
    writer.execute_batch("ROLLBACK").unwrap();
}

#[track_caller]
fn succeeds(command: &mut Command) -> String {
    let ran = command.output().unwrap();
    let (told, complained) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{command:?}: {told}{complained}");
    told.into_owned()
}

#[test]
fn duckdb_pandas_polars_and_datasette_read_the_live_file() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return skip(&format!("DuckDB, pandas, polars and Datasette were not tried: {why}")),
    };
    while_somebody_writes(|world| {
        let reader = project("tests/acceptance/analysts/readers.py");
        let told =
            succeeds(Command::new(&python).arg(reader).arg(world.warehouse()).arg(project("docs/queries")));
        eprintln!("{told}");
    });
}

#[test]
fn the_notebook_runs_and_draws() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return skip(&format!("the notebook was not run: {why}")),
    };
    while_somebody_writes(|world| {
        let runner = project("tests/acceptance/analysts/notebook.py");
        let notebook = project("docs/first-look.ipynb");
        let told = succeeds(Command::new(&python).arg(runner).arg(notebook).arg(world.warehouse()));
        assert!(told.contains("5 plots"), "{told}");
    });
}

pub(super) const NO_RSQLITE: &str =
    "R was not tried: there is no Rscript with RSQLite (Debian: r-cran-rsqlite)";

pub(super) fn has_rsqlite() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let ran = Command::new("Rscript").args(["-e", "library(RSQLite)"]).output();
        ran.is_ok_and(|ran| ran.status.success())
    })
}

/// Dates as Date, times as `POSIXct`, and no NA where there is a value.
#[test]
fn r_reads_the_live_file_with_its_types() {
    if !has_rsqlite() {
        return skip(NO_RSQLITE);
    }
    while_somebody_writes(|world| {
        let reader = project("tests/acceptance/analysts/readers.R");
        let told =
            succeeds(Command::new("Rscript").arg(reader).arg(world.warehouse()).arg(project("docs/queries")));
        eprintln!("{told}");
    });
}

#[test]
fn sqlite3_runs_each_recipe() {
    if Command::new("sqlite3").arg("-version").output().is_err() {
        return skip("sqlite3 was not tried: there is none (Debian: sqlite3)");
    }
    while_somebody_writes(|world| {
        for recipe in recipes() {
            let read = format!(".read {}", recipe.display());
            let told = succeeds(
                Command::new("sqlite3").args(["-readonly", "-bail"]).arg(world.warehouse()).arg(read),
            );
            let rows = world.table(&fs::read_to_string(&recipe).unwrap()).len();
            assert!(told.lines().count() >= rows, "{}", recipe.display());
        }
    });
}

/// The Python of a virtual environment that has all packages.
pub(super) fn python() -> Result<PathBuf, String> {
    python_with("analysts-venv", &PACKAGES)
}

//! The tools that people would use instead, each as its documentation has it: `bench/peers/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use tempfile::TempDir;

use crate::process;
use crate::process::Cost;
use crate::program::scratch;
use crate::server::{Server, TOKEN};
use crate::table::Measured;

pub(crate) struct Peer {
    script: &'static str,
    arguments: &'static [&'static str],
    first: Measured,
    unchanged: Measured,
    /// Of the bench's rounds; the slowest need minutes.
    rounds: usize,
}

/// The result that a script prints.
#[derive(Deserialize)]
struct PeerResult {
    seconds: f64,
    rows: usize,
    versions: String,
}

/// By hand, sqlite-utils, dlt into SQLite and into DuckDB.
pub(crate) fn all() -> [Peer; 4] {
    prepare();
    let peer = |name: &str, script, arguments, rounds| Peer {
        script,
        arguments,
        first: Measured::new(format!("{name}: first load"), "resources"),
        unchanged: Measured::new(format!("{name}: nothing changed, all asked for"), "resources"),
        rounds,
    };
    [
        peer("Python by hand", "by_hand.py", &[], usize::MAX),
        peer("sqlite-utils", "sqlite_utils_upsert.py", &[], usize::MAX),
        peer("dlt, SQLite", "dlt_rest.py", &[], 3),
        peer("dlt, DuckDB", "dlt_rest.py", &["duckdb"], 3),
    ]
}

impl Peer {
    /// A first load and, of those that have a way to ask for everything again, another.
    pub(crate) fn measure(&mut self, round: usize, server: &Server, patients: usize, count: usize) {
        if self.rounds < round {
            return;
        }
        let folder = scratch();
        let (result, cost) = self.run(server, patients, &folder, &[]);
        note(&mut self.first, &result, count, cost);
        if self.script != "dlt_rest.py" {
            let (result, cost) = self.run(server, patients, &folder, &["full"]);
            note(&mut self.unchanged, &result, count, cost);
        }
    }

    fn run(&self, server: &Server, patients: usize, folder: &TempDir, more: &[&str]) -> (PeerResult, Cost) {
        let mut command = Command::new(python());
        command
            .arg(here("peers").join(self.script))
            .args([&server.base_url, TOKEN, &patients.to_string()])
            .arg(folder.path())
            .args(more)
            .args(self.arguments)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        let (printed, cost) = process::run(&mut command, folder.path());
        let result: PeerResult = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        let seconds = result.seconds;
        (result, Cost { seconds, ..cost })
    }

    pub(crate) fn first(&self) -> &Measured {
        &self.first
    }

    pub(crate) fn unchanged(&self) -> &Measured {
        &self.unchanged
    }

    pub(crate) fn into_measured(self) -> [Measured; 2] {
        [self.first, self.unchanged]
    }
}

/// Adds a result. A load that lost rows says so, and no ratio is made of it.
fn note(measured: &mut Measured, result: &PeerResult, count: usize, cost: Cost) {
    let PeerResult { rows, versions, .. } = result;
    measured.note = if *rows == count {
        format!("{versions}; {rows} rows")
    } else {
        format!("{versions}; {rows} rows of {count}: DOES NOT COUNT")
    };
    measured.add(count, cost);
    measured.counts &= *rows == count;
}

fn python() -> PathBuf {
    environment().join("bin/python")
}

fn environment() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers")
}

fn here(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench").join(file)
}

/// A virtual environment with the peers in it, made once and again when their versions change.
fn prepare() {
    let wanted = fs::read_to_string(here("requirements.txt")).unwrap();
    let holds = environment().join("requirements.txt");
    if fs::read_to_string(&holds).is_ok_and(|held| held == wanted) {
        return;
    }
    eprintln!("fetching the peers: bench/requirements.txt");
    let python3 = Command::new("python3").args(["-m", "venv", "--clear"]).arg(environment()).status();
    assert!(python3.is_ok_and(|status| status.success()), "python3 with its venv is needed for the peers");
    let pip = Command::new(python())
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(here("requirements.txt"))
        .status();
    assert!(pip.is_ok_and(|status| status.success()), "the peers could not be installed");
    fs::write(holds, wanted).unwrap();
}

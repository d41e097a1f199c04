//! The program itself, in a folder of its own, against the bench's server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::process;
use crate::process::Cost;
use crate::server::{API_KEY, API_SECRET, Server};

/// The settings that are varied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Configuration {
    pub(crate) concurrency: usize,
    /// `None` is one streamed answer.
    pub(crate) page_size: Option<usize>,
    pub(crate) analyst_tables: bool,
}

/// The configuration of most rows of the table.
pub(crate) const USUAL: Configuration =
    Configuration { concurrency: 4, page_size: Some(500), analyst_tables: false };

pub(crate) struct Program {
    folder: TempDir,
}

/// The result of one cycle, by its own summary.
pub(crate) struct Cycle {
    pub(crate) cost: Cost,
    pub(crate) inserted: u64,
    pub(crate) unchanged: u64,
}

impl Program {
    pub(crate) fn new(
        server: &Server,
        patients: impl Iterator<Item = String>,
        configuration: Configuration,
    ) -> Self {
        let folder = scratch();
        let Configuration { concurrency, page_size, analyst_tables } = configuration;
        let settings = format!(
            "api.base_url = \"{}\"\nsync.concurrency = {concurrency}\nsync.page_size = {}\nviews.built_in = {analyst_tables}\n",
            server.base_url,
            page_size.unwrap_or(0),
        );
        fs::write(folder.path().join("healthex-sync.toml"), settings).unwrap();
        let roster: Vec<String> = patients.map(|id| format!("[[patient]]\nid = \"{id}\"\n")).collect();
        fs::write(folder.path().join("roster.toml"), roster.concat()).unwrap();
        Self { folder }
    }

    /// Has it store in a database, which is empty yet.
    pub(crate) fn over(self, url: &str) -> Self {
        let file = self.folder.path().join("healthex-sync.toml");
        let settings = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{settings}warehouse.url = \"{url}\"\n")).unwrap();
        self.run(&["migrate"]);
        self
    }

    pub(crate) fn warehouse(&self) -> PathBuf {
        self.folder.path().join("warehouse.db")
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> (String, Cost) {
        process::run(program(self.folder.path()).args(arguments), self.folder.path())
    }

    /// Runs `sync --json` with more arguments.
    pub(crate) fn cycle(&self, arguments: &[&str]) -> Cycle {
        let (said, cost) = self.run(&[&["sync", "--json"], arguments].concat());
        let summary: Value = serde_json::from_str(&said).unwrap();
        let count = |name| summary["resources"][name].as_u64().unwrap();
        let others = count("updated") + count("deleted") + count("quarantined");
        assert_eq!(others, 0, "{summary}");
        Cycle { cost, inserted: count("inserted"), unchanged: count("unchanged") }
    }
}

/// Returns the program in a folder, with credentials and no settings of whoever runs this.
pub(crate) fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_healthex-sync"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HEALTHEX")) {
        command.env_remove(name);
    }
    command.current_dir(folder).env("HEALTHEX_API_KEY", API_KEY).env("HEALTHEX_API_SECRET", API_SECRET);
    command
}

/// Makes a folder on the disk that the project is on: `/tmp` may be memory.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}

//! A sandbox, a folder with its configuration, and the program run in it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::Command;

use healthex_sync::sandbox::{Population, Sandbox};
use rusqlite::Connection;

pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    folder: tempfile::TempDir,
}

pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    /// The sandbox's own patients, as `demo` has them: seed 1.
    pub(crate) fn of(patients: usize) -> Self {
        let sandbox =
            Sandbox::start("127.0.0.1:0".parse().unwrap(), Population::generated(patients, 1)).unwrap();
        let world = Self { sandbox, folder: tempfile::tempdir().unwrap() };
        world.configure("");
        let roster: Vec<String> = (1..)
            .zip(world.sandbox.person_ids())
            .map(|(number, id)| format!("[[patient]]\nid = \"{id}\"\nlabel = \"demo-{number:02}\"\n"))
            .collect();
        world.write("roster.toml", &roster.concat());
        world.write("api-key", Sandbox::API_KEY);
        world.write("api-secret", Sandbox::API_SECRET);
        for secret in ["api-key", "api-secret"] {
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(world.path(secret), private).unwrap();
        }
        std::fs::create_dir(world.path("own")).unwrap();
        world
    }

    /// Writes the configuration, with these lines under `[views]`.
    pub(crate) fn configure(&self, views: &str) {
        let base_url = self.sandbox.base_url();
        let text = format!("[api]\nbase_url = \"{base_url}\"\n[views]\nfolder = \"own\"\n{views}\n");
        self.write("healthex-sync.toml", &text);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let output = Command::new(env!("CARGO_BIN_EXE_healthex-sync"))
            .arg("--config")
            .arg(self.path("healthex-sync.toml"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("HEALTHEX_TOKEN")
            .output()
            .unwrap();
        Ran {
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs what must end well.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(arguments);
        assert_eq!(ran.status, 0, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        ran
    }

    pub(crate) fn database(&self) -> Connection {
        Connection::open(self.path("warehouse.db")).unwrap()
    }

    pub(crate) fn count(&self, query: &str) -> i64 {
        self.database().query_row(query, [], |row| row.get(0)).unwrap()
    }
}

/// The rows of a query as text, NULL as nothing.
pub(crate) fn rows(database: &Connection, query: &str) -> Vec<Vec<String>> {
    use rusqlite::types::ValueRef;
    let mut statement = database.prepare(query).unwrap();
    let columns = statement.column_count();
    let mut found = statement.query([]).unwrap();
    let mut rows = Vec::new();
    while let Some(row) = found.next().unwrap() {
        let cell = |at| match row.get_ref(at).unwrap() {
            ValueRef::Null => String::new(),
            ValueRef::Integer(number) => number.to_string(),
            ValueRef::Real(number) => number.to_string(),
            ValueRef::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
            ValueRef::Blob(bytes) => format!("{bytes:?}"),
        };
        rows.push((0..columns).map(cell).collect());
    }
    rows
}

/// The names of the stored views.
pub(crate) fn stored_views(database: &Connection) -> Vec<String> {
    rows(database, "SELECT name FROM analyst_table WHERE name <> 'freshness' ORDER BY name").concat()
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

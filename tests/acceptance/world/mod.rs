//! A temp folder, a sandbox and the real binary, and what can be claimed about the three.
//!
//! Promise: whatever is run, neither of its streams may hold the secret, a token or a name.
//! Deliberately absent: any knowledge of how the program does its work.

mod daemon;
mod machine;
mod process;
mod server;
mod warehouse;

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use healthex_sync::sandbox::{Population, Sandbox};
use tempfile::TempDir;

use crate::postgres::database::Database;

pub(crate) use self::daemon::{Daemon, get};
pub(crate) use self::machine::{faketime, pipe, project, python_with, tool};
pub(crate) use self::process::{Ran, Running, binary, wait_until};
pub(crate) use self::server::{NAME_CANARY, TEXT_CANARY, observation, observation_tail, record};
pub(crate) use self::warehouse::{ago, ask, resource_tables};

/// Nothing that works takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

pub(crate) struct World {
    folder: TempDir,
    pub(crate) sandbox: Sandbox,
    settings: RefCell<BTreeMap<String, String>>,
    /// Bound when the first daemon is started.
    manager: OnceCell<daemon::Manager>,
    /// Where the warehouse is, if it is not a file.
    database: Option<Database>,
}

impl World {
    /// Patients with six resources each; the ids are their names.
    pub(crate) fn with_patients<const N: usize>(persons: [&str; N]) -> Self {
        let mut population = Population::empty();
        for person in persons {
            population.add_person(person, record(person, 4));
        }
        Self::serving(population)
    }

    /// One patient, anna, with so many observations; pages hold ten entries.
    pub(crate) fn with_record(observations: usize) -> Self {
        let mut population = Population::empty();
        population.add_person("anna", record("anna", observations));
        Self::serving(population).set("sync.page_size", "10")
    }

    /// The patients that `demo` has: `sandbox-0001`, on the roster as `demo-01`, and so on.
    pub(crate) fn generated(patients: usize) -> Self {
        let world = Self::serving(Population::generated(patients, 1));
        world.list_generated(patients);
        world
    }

    /// Patients of [`World::generated`] for a daemon that has a status page, and is as patient as
    /// one in use.
    pub(crate) fn for_daemons(patients: usize) -> Self {
        Self::generated(patients)
            .set("http.listen", r#""127.0.0.1:0""#)
            .set("api.retry_initial", r#""10ms""#)
            .set("api.retry_max", r#""100ms""#)
            .set("api.connect_timeout", r#""10s""#)
            .set("api.idle_timeout", r#""60s""#)
            .set("api.page_timeout", r#""30m""#)
            .set("api.max_attempts", "2")
    }

    pub(crate) fn serving(population: Population) -> Self {
        let listen = "127.0.0.1:0".parse().unwrap();
        let ids = population.person_ids();
        let sandbox = Sandbox::start(listen, population).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let world =
            Self { folder, sandbox, settings: RefCell::default(), manager: OnceCell::new(), database: None };
        world.write_keys();
        world.list(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        let base_url = format!("{:?}", world.sandbox.base_url());
        world
            .set("api.base_url", &base_url)
            .set("api.retry_initial", r#""1ms""#)
            .set("api.retry_max", r#""20ms""#)
            .set("api.connect_timeout", r#""2s""#)
            .set("api.idle_timeout", r#""2s""#)
            .set("api.page_timeout", r#""5s""#)
            .set("api.max_attempts", "3")
            .with_warehouse()
    }

    fn with_warehouse(mut self) -> Self {
        self.database = Database::instead_of_a_file();
        match &self.database {
            Some(database) => database.take(&self),
            None => self.change_setting("warehouse.path", r#""data/warehouse.db""#),
        }
        self
    }

    /// Writes a setting into the configuration; `value` is TOML.
    pub(crate) fn set(self, key: &str, value: &str) -> Self {
        self.change_setting(key, value);
        self
    }

    pub(crate) fn change_setting(&self, key: &str, value: &str) {
        self.settings.borrow_mut().insert(key.to_owned(), value.to_owned());
        self.write("healthex-sync.toml", &self.settings_text());
        // On a server an operator makes the tables.
        if let Some(database) = self.database.as_ref().filter(|_| key.starts_with("views.")) {
            database.migrate(self, &[]);
        }
    }

    /// Takes a setting out of the configuration.
    pub(crate) fn without(self, key: &str) -> Self {
        self.remove_setting(key);
        self
    }

    pub(crate) fn remove_setting(&self, key: &str) {
        self.settings.borrow_mut().remove(key);
        self.write("healthex-sync.toml", &self.settings_text());
    }

    /// The configuration as it was last written.
    pub(crate) fn settings_text(&self) -> String {
        let settings = self.settings.borrow();
        settings.iter().flat_map(|(key, value)| [key, " = ", value, "\n"]).collect()
    }

    /// Writes the roster.
    pub(crate) fn list(&self, persons: &[&str]) {
        let patients: Vec<String> =
            persons.iter().map(|id| format!("[[patient]]\nid = \"{id}\"\n")).collect();
        self.write_roster(&patients.join("\n"));
    }

    /// Writes a roster of the first so many patients of [`World::generated`].
    pub(crate) fn list_generated(&self, patients: usize) {
        let entry =
            |number| format!("[[patient]]\nid = \"sandbox-{number:04}\"\nlabel = \"demo-{number:02}\"\n");
        let entries: Vec<String> = (1..=patients).map(entry).collect();
        self.write_roster(&entries.join("\n"));
    }

    pub(crate) fn write_roster(&self, text: &str) {
        self.write("roster.toml", text);
    }

    pub(crate) fn write_keys(&self) {
        self.write_private("api-key", Sandbox::API_KEY);
        self.write_private("api-secret", Sandbox::API_SECRET);
    }

    /// Writes a file that everybody may read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        self.write_with_mode(name, text, 0o644);
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn write_private(&self, name: &str, text: &str) {
        self.write_with_mode(name, text, 0o600);
    }

    /// Put in place as a whole: a daemon may be reading it.
    fn write_with_mode(&self, name: &str, text: &str, mode: u32) {
        let (new, path) = (self.path(&format!("{name}.new")), self.path(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
        fs::rename(&new, path).unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.path("healthex-sync.toml")
    }

    pub(crate) fn warehouse(&self) -> PathBuf {
        self.path("data/warehouse.db")
    }

    pub(crate) fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Command {
        let mut command = binary();
        command.arg("--config").arg(self.config()).args(args);
        command
    }

    pub(crate) fn run<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Ran {
        self.start(args).ended()
    }

    /// Runs it with this world's folder as the working directory, which relative arguments mean.
    pub(crate) fn run_inside<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Ran {
        Running::start(self.command(args).current_dir(self.folder.path())).ended()
    }

    pub(crate) fn start<I: IntoIterator<Item: AsRef<OsStr>>>(&self, args: I) -> Running {
        Running::start(&mut self.command(args))
    }
}

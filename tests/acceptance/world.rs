//! A temp folder, a sandbox and the real binary, and what can be claimed about the three.
//!
//! Promise: whatever is run, neither of its streams may hold the secret, a token or a name.
//! Deliberately absent: any knowledge of how the program does its work.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use healthex_sync::sandbox::{Population, RecordEntry, Sandbox, ScriptedFault, SeenRequest};
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Every patient's family name begins with it; it is never to be seen in an output.
pub(crate) const NAME_CANARY: &str = "Zimtstern";
/// The clinical text of every resource begins with it.
pub(crate) const TEXT_CANARY: &str = "Geheimbefund";
/// How each of the sandbox's tokens begins: `{"alg"…` in base64.
const TOKEN_CANARY: &str = "eyJhbGci";

/// Nothing that works takes longer.
const DEADLINE: Duration = Duration::from_secs(40);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

pub(crate) struct World {
    folder: TempDir,
    pub(crate) sandbox: Sandbox,
    settings: RefCell<BTreeMap<String, String>>,
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

    pub(crate) fn serving(population: Population) -> Self {
        let listen = "127.0.0.1:0".parse().unwrap();
        let ids = population.person_ids();
        let sandbox = Sandbox::start(listen, population).unwrap();
        let folder = tempfile::tempdir().unwrap();
        write_private(&folder.path().join("api-key"), Sandbox::API_KEY);
        write_private(&folder.path().join("api-secret"), Sandbox::API_SECRET);
        let world = Self { folder, sandbox, settings: RefCell::default() };
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
            .set("warehouse.path", r#""data/warehouse.db""#)
    }

    /// Writes a setting into the configuration; `value` is TOML.
    pub(crate) fn set(self, key: &str, value: &str) -> Self {
        self.change_setting(key, value);
        self
    }

    pub(crate) fn change_setting(&self, key: &str, value: &str) {
        self.settings.borrow_mut().insert(key.to_owned(), value.to_owned());
        let lines: Vec<String> =
            self.settings.borrow().iter().map(|(key, value)| format!("{key} = {value}")).collect();
        fs::write(self.config(), lines.join("\n")).unwrap();
    }

    /// Writes the roster.
    pub(crate) fn list(&self, persons: &[&str]) {
        let patients: Vec<String> =
            persons.iter().map(|id| format!("[[patient]]\nid = \"{id}\"\n")).collect();
        self.write_roster(&patients.join("\n"));
    }

    pub(crate) fn write_roster(&self, text: &str) {
        fs::write(self.path("roster.toml"), text).unwrap();
    }

    /// What the server does wrong from now on, as a row of a fault file.
    pub(crate) fn fault(&self, row: &str) {
        let faults = ScriptedFault::parse(&format!("fault = [{{ {row} }}]"));
        for fault in faults.unwrap_or_else(|what| panic!("{row}: {what}")) {
            self.sandbox.script(fault);
        }
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

    pub(crate) fn command<I: IntoIterator<Item: AsRef<std::ffi::OsStr>>>(&self, args: I) -> Command {
        let mut command = binary();
        command.arg("--config").arg(self.config()).args(args);
        command
    }

    pub(crate) fn run<const N: usize>(&self, args: [&str; N]) -> Ran {
        Running::start(&mut self.command(args)).ended()
    }

    pub(crate) fn start<const N: usize>(&self, args: [&str; N]) -> Running {
        Running::start(&mut self.command(args))
    }

    /// A read-only connection, as an analyst has one.
    pub(crate) fn open(&self) -> Connection {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = Connection::open_with_flags(self.warehouse(), flags).unwrap();
        connection.busy_timeout(DEADLINE).unwrap();
        connection
    }

    /// The first column of the first row, as text.
    pub(crate) fn ask(&self, sql: &str) -> Option<String> {
        ask(&self.open(), sql)
    }

    pub(crate) fn count(&self, sql: &str) -> i64 {
        let answer = self.ask(sql).unwrap_or_default();
        answer.parse().unwrap_or_else(|_| panic!("{sql}: {answer}"))
    }

    /// Live rows of a person: key to resource.
    pub(crate) fn rows(&self, person: &str) -> BTreeMap<String, String> {
        let connection = self.open();
        let mut rows = BTreeMap::new();
        for table in resource_tables(&connection) {
            let sql =
                format!("SELECT key, resource FROM \"{table}\" WHERE person_id = ?1 AND deleted_at IS NULL");
            let mut statement = connection.prepare(&sql).unwrap();
            let found = statement.query_map([person], |row| Ok((row.get(0)?, row.get(1)?)));
            rows.extend(found.unwrap().map(Result::unwrap));
        }
        rows
    }

    /// Rows of a person in every table that has a `person_id`, but the three that stay.
    pub(crate) fn rows_anywhere(&self, person: &str) -> i64 {
        let connection = self.open();
        let stays = ["checkpoint", "pull", "purge_log"];
        let tables = tables_with(&connection, "person_id");
        let tables = tables.iter().filter(|table| !stays.contains(&table.as_str()));
        let count = |table: &String| -> i64 {
            let sql = format!("SELECT count(*) FROM \"{table}\" WHERE person_id = ?1");
            connection.query_row(&sql, [person], |row| row.get(0)).unwrap()
        };
        tables.map(count).sum()
    }

    /// What the server holds of a person: key to resource.
    pub(crate) fn oracle(&self, person: &str) -> BTreeMap<String, String> {
        let entries = self.sandbox.entries(person);
        let rows = entries.into_iter().map(|entry| (self.key_of(&entry), entry.resource));
        rows.collect()
    }

    pub(crate) fn key_of(&self, entry: &RecordEntry) -> String {
        let root = format!("{}/FHIR/R4/", self.sandbox.base_url());
        let key = entry.full_url.strip_prefix(&root);
        key.unwrap_or(&entry.full_url).to_owned()
    }

    #[track_caller]
    pub(crate) fn assert_equals_sandbox(&self, person: &str) {
        let (have, want) = (self.rows(person), self.oracle(person));
        let only_in = |left: &BTreeMap<String, String>, right: &BTreeMap<String, String>| {
            let keys = left.iter().filter(|(key, resource)| right.get(*key) != Some(resource));
            keys.map(|(key, _)| key.clone()).take(5).collect::<Vec<_>>()
        };
        assert!(
            have == want,
            "{person}: {} rows, and {} entries on the server; missing or old: {:?}; too many or old: {:?}",
            have.len(),
            want.len(),
            only_in(&want, &have),
            only_in(&have, &want),
        );
    }

    #[track_caller]
    pub(crate) fn assert_sound(&self) {
        assert_eq!(self.ask("PRAGMA integrity_check").as_deref(), Some("ok"), "integrity_check");
        self.run(["verify"]).exits(0);
    }

    /// One column of a patient's checkpoint.
    pub(crate) fn checkpoint(&self, person: &str, column: &str) -> Option<String> {
        self.ask(&format!("SELECT {column} FROM checkpoint WHERE person_id = '{person}'"))
    }

    pub(crate) fn state(&self, person: &str) -> String {
        self.checkpoint(person, "state").unwrap_or_default()
    }

    /// Does any file beside the warehouse hold these bytes, in whatever case?
    pub(crate) fn warehouse_bytes_contain(&self, needle: &str) -> bool {
        let needle = needle.to_ascii_lowercase();
        let files = fs::read_dir(self.path("data")).unwrap();
        files.map(|file| file.unwrap().path()).any(|file| {
            let bytes = fs::read(file).unwrap().to_ascii_lowercase();
            memchr::memmem::find(&bytes, needle.as_bytes()).is_some()
        })
    }

    /// The `$everything` requests for a person since the log was cleared.
    pub(crate) fn asked(&self, person: &str) -> Vec<SeenRequest> {
        let mut requests = self.sandbox.requests();
        requests.retain(|request| request.person.as_deref() == Some(person));
        requests
    }

    /// Their queries alone.
    pub(crate) fn queries(&self, person: &str) -> Vec<String> {
        let asked = self.asked(person).into_iter();
        asked.map(|request| request.query).collect()
    }

    pub(crate) fn tokens_minted(&self) -> usize {
        let requests = self.sandbox.requests();
        let minted = requests.iter().filter(|request| request.path == "/v1/auth/token");
        minted.count()
    }

    pub(crate) fn watermark(&self, person: &str) -> Option<String> {
        self.checkpoint(person, "watermark")
    }

    /// The latest pull of a patient: one of its columns.
    pub(crate) fn pull(&self, person: &str, column: &str) -> Option<String> {
        self.ask(&format!("SELECT {column} FROM pull WHERE person_id = '{person}' ORDER BY id DESC LIMIT 1"))
    }

    pub(crate) fn exec(&self, sql: &str) {
        let connection = Connection::open(self.warehouse()).unwrap();
        connection.busy_timeout(DEADLINE).unwrap();
        connection.execute_batch(sql).unwrap();
    }
}

pub(crate) fn ask(connection: &Connection, sql: &str) -> Option<String> {
    let mut statement = connection.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    let row = rows.next().unwrap()?;
    match row.get::<_, rusqlite::types::Value>(0).unwrap() {
        rusqlite::types::Value::Null => None,
        rusqlite::types::Value::Integer(number) => Some(number.to_string()),
        rusqlite::types::Value::Text(text) => Some(text),
        other => panic!("{sql}: {other:?}"),
    }
}

pub(crate) fn resource_tables(connection: &Connection) -> Vec<String> {
    tables_with(connection, "content_hash")
}

fn tables_with(connection: &Connection, column: &str) -> Vec<String> {
    let sql = "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = ?1";
    let mut statement = connection.prepare(sql).unwrap();
    let names = statement.query_map([column], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_healthex-sync"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HEALTHEX")) {
        command.env_remove(name);
    }
    command
}

pub(crate) fn write_private(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new();
    let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// A Person, a Patient and observations, the even ones with a `meta`.
pub(crate) fn record(person: &str, observations: usize) -> Vec<RecordEntry> {
    let mut entries = vec![
        RecordEntry::new(
            &format!("Person/{person}"),
            &format!(
                r#"{{"resourceType":"Person","id":"{person}","name":[{{"family":"{NAME_CANARY}-{person}"}}]}}"#
            ),
        ),
        RecordEntry::new(
            &format!("Patient/uuid-patient-{person}"),
            &format!(
                r#"{{"resourceType":"Patient","id":"p-{person}","name":[{{"family":"{NAME_CANARY}-{person}"}}]}}"#
            ),
        ),
    ];
    for number in 0..observations {
        let resource = observation(person, number, "as at first");
        entries.push(RecordEntry::new(&observation_tail(person, number), &resource));
    }
    entries
}

pub(crate) fn observation_tail(person: &str, number: usize) -> String {
    format!("Observation/uuid-{person}-{number:04}")
}

pub(crate) fn observation(person: &str, number: usize, text: &str) -> String {
    let meta =
        if number.is_multiple_of(2) { r#""meta":{"lastUpdated":"2025-01-01T00:00:00Z"},"# } else { "" };
    format!(
        r#"{{"resourceType":"Observation","id":"o-{person}-{number}",{meta}"status":"final","subject":{{"reference":"Patient/p-{person}"}},"valueString":"{TEXT_CANARY}-{person}-{number} {text}","valueQuantity":{{"value":1.50}}}}"#
    )
}

/// Looks until it is so. Panics when the time is up.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let ends = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < ends, "waited in vain until {what}");
        thread::sleep(LOOK_AGAIN);
    }
}

/// A process under way. Dropped, it is killed.
pub(crate) struct Running {
    child: Child,
    streams: TempDir,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let streams = tempfile::tempdir().unwrap();
        let stream = |name| File::create(streams.path().join(name)).unwrap();
        let child =
            command.stdin(Stdio::null()).stdout(stream("stdout")).stderr(stream("stderr")).spawn().unwrap();
        Self { child, streams }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stdout(&self) -> String {
        self.stream("stdout")
    }

    pub(crate) fn stderr(&self) -> String {
        self.stream("stderr")
    }

    fn stream(&self, name: &str) -> String {
        let bytes = fs::read(self.streams.path().join(name)).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = Pid::from_raw(self.pid().cast_signed()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.gone();
    }

    #[track_caller]
    pub(crate) fn ended(mut self) -> Ran {
        wait_until("the process has ended", || self.has_ended());
        self.gone()
    }

    #[track_caller]
    fn gone(&mut self) -> Ran {
        let status = self.child.wait().unwrap();
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
        let ran = Ran { code, stdout: self.stream("stdout"), stderr: self.stream("stderr") };
        for canary in [NAME_CANARY, TEXT_CANARY, TOKEN_CANARY, Sandbox::API_SECRET] {
            let leaks = ran.stdout.contains(canary) || ran.stderr.contains(canary);
            assert!(!leaks, "{canary} is in an output:\n{ran}");
        }
        assert!(!ran.stderr.contains("panicked"), "a panic:\n{ran}");
        ran
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

impl Ran {
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// On either stream.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        let said = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(said, "does not say {text:?}: {self}");
        self
    }

    #[track_caller]
    pub(crate) fn says_nothing_of(self, text: &str) -> Self {
        let said = self.stdout.contains(text) || self.stderr.contains(text);
        assert!(!said, "says {text:?}: {self}");
        self
    }

    /// All of stdout as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self}"))
    }

    /// A number in it, by its JSON pointer.
    #[track_caller]
    pub(crate) fn number(&self, pointer: &str) -> u64 {
        let json = self.json();
        let number = json.pointer(pointer).and_then(Value::as_u64);
        number.unwrap_or_else(|| panic!("no number at {pointer}: {json}"))
    }
}

/// What cannot be tried on this machine is said aloud, and is a failure where all is required.
#[track_caller]
pub(crate) fn skip(why: &str) {
    let required = std::env::var("HEALTHEX_SYNC_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!required, "cannot be skipped: {why}");
    let test = thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

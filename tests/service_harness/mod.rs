//! A daemon under test: the real binary, a sandbox in this process, a listener in systemd's place.
//!
//! Facts are waited for with a deadline; nothing is believed to have happened because time passed.

use std::fs;
use std::fs::{File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use healthex_sync::sandbox::{Population, Sandbox};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The place where daemons run, and the server they ask.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    pub(crate) folder: TempDir,
    manager: Arc<Mutex<Vec<String>>>,
}

impl World {
    /// `study-0001`, … with credentials in place.
    pub(crate) fn with_patients(count: usize) -> Self {
        let sandbox =
            Sandbox::start("127.0.0.1:0".parse().unwrap(), Population::generated(count, 7)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let manager = listen_as_manager(&folder.path().join("notify"));
        let world = Self { sandbox, folder, manager };
        world.write_roster(count);
        world.write_keys();
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
        fs::rename(&new, self.path(name)).unwrap();
    }

    pub(crate) fn write_roster(&self, count: usize) {
        let entries: Vec<String> = (1..=count)
            .map(|n| format!("[[patient]]\nid = \"sandbox-{n:04}\"\nlabel = \"study-{n:04}\"\n"))
            .collect();
        self.write("roster.toml", &entries.join("\n"), 0o644);
    }

    pub(crate) fn write_keys(&self) {
        self.write("api-key", Sandbox::API_KEY, 0o600);
        self.write("api-secret", Sandbox::API_SECRET, 0o600);
    }

    /// `more` may hold sections of its own; `[sync]` and `[api]` are written here.
    pub(crate) fn configure(&self, schedule: &str, more: &str) {
        self.configure_more(schedule, "", more);
    }

    /// `sync` may hold more lines for `[sync]`.
    pub(crate) fn configure_more(&self, schedule: &str, sync: &str, more: &str) {
        let base_url = self.sandbox.base_url();
        let api = format!(
            "[api]\nbase_url = \"{base_url}\"\nretry_initial = \"10ms\"\nretry_max = \"100ms\"\nmax_attempts = 2\n"
        );
        self.write(
            "c.toml",
            &format!(
                "{api}[sync]\nschedule = \"{schedule}\"\n{sync}[http]\nlisten = \"127.0.0.1:0\"\n{more}"
            ),
            0o644,
        );
    }

    /// Every patient's live rows are what the server has of it.
    #[track_caller]
    pub(crate) fn equals_sandbox(&self, patients: usize) {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = Connection::open_with_flags(self.path("warehouse.db"), flags).unwrap();
        let tables = "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = 'content_hash'";
        let texts = |sql: &str| -> Vec<String> {
            let mut statement = connection.prepare(sql).unwrap();
            statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
        };
        let tables = texts(tables);
        for person in (1..=patients).map(|number| format!("sandbox-{number:04}")) {
            let select = |table| {
                format!(
                    "SELECT resource FROM \"{table}\" WHERE person_id = '{person}' AND deleted_at IS NULL"
                )
            };
            let mut have: Vec<String> = tables.iter().flat_map(|table| texts(&select(table))).collect();
            let mut want: Vec<String> =
                self.sandbox.entries(&person).into_iter().map(|entry| entry.resource).collect();
            have.sort_unstable();
            want.sort_unstable();
            assert!(have == want, "{person}: {} rows, {} on the server", have.len(), want.len());
        }
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_healthex-sync"));
        command.arg("--config").arg(self.path("c.toml")).env("NO_COLOR", "1");
        command
    }

    pub(crate) fn run(&self) -> Daemon {
        self.start(&mut self.command())
    }

    /// Starts what `command` says, with `run` as its last word.
    pub(crate) fn start(&self, command: &mut Command) -> Daemon {
        self.manager.lock().unwrap().clear();
        let command =
            command.arg("run").env("NOTIFY_SOCKET", self.path("notify")).env("WATCHDOG_USEC", "60000000");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (lines, stderr) = (log.clone(), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Daemon { child, log, manager: self.manager.clone() }
    }
}

fn listen_as_manager(path: &Path) -> Arc<Mutex<Vec<String>>> {
    let socket = UnixDatagram::bind(path).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let lines = told.clone();
    std::thread::spawn(move || {
        let mut datagram = [0; 4096];
        while let Ok(length) = socket.recv(&mut datagram) {
            let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
            lines.lock().unwrap().extend(text.lines().map(str::to_owned));
        }
    });
    told
}

pub(crate) struct Daemon {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    manager: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.manager.lock().unwrap().clone()
    }

    /// Waits for a line of the log.
    pub(crate) fn says(&self, what: &str) -> String {
        self.says_again(what, 0)
    }

    /// Waits for a line of the log that comes after the first `seen` ones.
    pub(crate) fn says_again(&self, what: &str, seen: usize) -> String {
        self.waits(&format!("the log to say {what:?}"), || {
            self.log().into_iter().skip(seen).find(|line| line.contains(what))
        })
    }

    /// Waits for a line that systemd is told.
    pub(crate) fn tells(&self, what: &str) -> String {
        self.waits(&format!("systemd to be told {what:?}"), || {
            self.told().into_iter().find(|line| line.contains(what))
        })
    }

    /// Waits for a fact.
    pub(crate) fn waits<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let ends = Instant::now() + DEADLINE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(
                Instant::now() < ends,
                "waited in vain for {what}; the log:\n{}\ntold: {:?}",
                self.log().join("\n"),
                self.told()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn address(&self) -> String {
        let line = self.says("status page at http://");
        line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        get(&self.address(), path, "")
    }

    pub(crate) fn is_healthy(&self) {
        self.waits("/healthz to be 200", || (self.get("/healthz").status == 200).then_some(()));
    }

    /// Waits for a 503, and returns its reason.
    pub(crate) fn is_unwell(&self) -> String {
        self.waits("/healthz to be 503", || {
            let answer = self.get("/healthz");
            let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            (answer.status == 503).then(|| body["reason"].as_str().unwrap().to_owned())
        })
    }

    /// Waits until a metric's value is as wished.
    pub(crate) fn shows(&self, metric: &str, wish: impl Fn(u64) -> bool) -> u64 {
        self.waits(metric, || {
            let text = self.get("/metrics").body;
            let value =
                text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' ')?.parse().ok());
            value.filter(|value| wish(*value))
        })
    }

    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end.
    pub(crate) fn ends(&mut self) -> ExitStatus {
        let ends = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < ends, "it does not end; the log:\n{}", self.log().join("\n"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn stops(mut self) {
        self.signal("TERM");
        let status = self.ends();
        assert_eq!(status.code(), Some(0), "{:?}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// One request, with `headers` each ended by a line break.
pub(crate) fn get(address: &str, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    let host = if headers.contains("Host:") { String::new() } else { format!("Host: {address}\r\n") };
    write!(stream, "GET {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A tool that not every machine has: without it the test is skipped aloud, or fails where all
/// is demanded.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let found = on_path.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        lacks(name);
    }
    found
}

/// This machine has no such tool.
pub(crate) fn lacks(name: &str) {
    let demanded = std::env::var_os("HEALTHEX_SYNC_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(!demanded, "{name} is not installed, and HEALTHEX_SYNC_REQUIRE_ALL=1");
    eprintln!("SKIPPED: {name} is not installed");
}

/// Has a tool read `input`, and returns what it printed.
pub(crate) fn pipe(command: &mut Command, input: &str) -> (bool, String) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (
        output.status.success(),
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
    )
}

/// A file to which a child may write its log.
pub(crate) fn file(path: &Path) -> File {
    File::options().create(true).append(true).open(path).unwrap()
}

//! The program as a service: a listener in systemd's place, its log, and its status page.
//!
//! Facts are waited for with a deadline; nothing is believed to have happened because time passed.

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, thread};

use rustix::process::Signal;

use super::process::wait_for;
use super::{Ran, Running, World};

/// Each look may be a request to the status page.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

impl World {
    pub(crate) fn daemon(&self) -> Daemon {
        self.daemon_by(&mut self.command(["run"]))
    }

    /// Starts a daemon by this command line, which ends with `run`.
    pub(crate) fn daemon_by(&self, command: &mut Command) -> Daemon {
        let socket = self.path("notify");
        let manager = self.manager.get_or_init(|| Manager::listen(&socket)).clone();
        manager.lines.lock().unwrap().clear();
        command.env("NOTIFY_SOCKET", socket).env("WATCHDOG_USEC", "60000000");
        let token = fs::read_to_string(self.path(PAGE_TOKEN)).ok();
        Daemon { running: Running::start(command), manager, token }
    }

    /// Has daemons ask their visitors for a token, which [`Daemon::get`] sends.
    pub(crate) fn with_page_token(self, token: &str) -> Self {
        self.write_private(PAGE_TOKEN, token);
        self.set("http.token_file", &format!("{PAGE_TOKEN:?}"))
    }
}

const PAGE_TOKEN: &str = "page-token";

/// Who is told what systemd would be.
#[derive(Clone)]
pub(super) struct Manager {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        // A daemon may run as another user.
        fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
        let manager = Self { lines: Arc::default() };
        let lines = manager.lines.clone();
        thread::spawn(move || {
            let mut datagram = [0; 4096];
            while let Ok(length) = socket.recv(&mut datagram) {
                let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
                lines.lock().unwrap().extend(text.lines().map(str::to_owned));
            }
        });
        manager
    }
}

pub(crate) struct Daemon {
    running: Running,
    manager: Manager,
    token: Option<String>,
}

impl Daemon {
    pub(crate) fn log(&self) -> Vec<String> {
        self.running.stderr().lines().map(str::to_owned).collect()
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.manager.lines.lock().unwrap().clone()
    }

    /// Waits for a line of the log.
    #[track_caller]
    pub(crate) fn says(&self, what: &str) -> String {
        self.waits(&format!("the log says {what:?}"), || {
            self.log().into_iter().find(|line| line.contains(what))
        })
    }

    /// Waits for a line that systemd is told.
    #[track_caller]
    pub(crate) fn tells(&self, what: &str) -> String {
        self.waits(&format!("systemd is told {what:?}"), || {
            self.told().into_iter().find(|line| line.contains(what))
        })
    }

    /// Waits for a fact.
    #[track_caller]
    pub(crate) fn waits<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        wait_for(LOOK_AGAIN, look, || {
            format!("{what}; the log:\n{}\ntold: {:?}", self.running.stderr(), self.told())
        })
    }

    pub(crate) fn address(&self) -> String {
        let line = self.says("status page at http://");
        line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        let token = self.token.iter().map(|token| format!("Authorization: Bearer {token}\r\n"));
        get(&self.address(), path, &token.collect::<String>())
    }

    #[track_caller]
    pub(crate) fn is_healthy(&self) {
        self.waits("/healthz is 200", || (self.get("/healthz").status == 200).then_some(()));
    }

    /// Waits for a 503, and returns its reason.
    #[track_caller]
    pub(crate) fn is_unwell(&self) -> String {
        self.waits("/healthz is 503", || {
            let answer = self.get("/healthz");
            let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
            (answer.status == 503).then(|| body["reason"].as_str().unwrap().to_owned())
        })
    }

    /// Waits until a metric's value is as wished.
    #[track_caller]
    pub(crate) fn shows(&self, metric: &str, wish: impl Fn(u64) -> bool) -> u64 {
        self.waits(metric, || {
            let text = self.get("/metrics").body;
            let value =
                text.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' ')?.parse().ok());
            value.filter(|value| wish(*value))
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub(crate) fn hang_up(&self) {
        self.running.signal(Signal::HUP);
    }

    pub(crate) fn terminate(&self) {
        self.running.terminate();
    }

    /// kill -9.
    pub(crate) fn kill(self) {
        self.running.kill();
    }

    /// Waits for the end; what systemd was told can still be looked at.
    #[track_caller]
    pub(crate) fn ends(&mut self) -> Ran {
        self.running.end()
    }

    #[track_caller]
    pub(crate) fn stops(mut self) {
        self.terminate();
        self.ends().exits(0);
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

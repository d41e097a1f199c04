//! The program under way and how it ended.

use std::fmt::{Display, Formatter};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fmt, fs, thread};

use healthex_sync::sandbox::Sandbox;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{DEADLINE, NAME_CANARY, TEXT_CANARY};

/// How each of the sandbox's tokens begins: `{"alg"…` in base64.
const TOKEN_CANARY: &str = "eyJhbGci";

const LOOK_AGAIN: Duration = Duration::from_millis(1);

pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_healthex-sync"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HEALTHEX")) {
        command.env_remove(name);
    }
    for name in ["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name);
    }
    command
}

/// Looks until it is so. Panics when the time is up.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(LOOK_AGAIN, || is_so().then_some(()), || what.to_owned());
}

/// Looks, each time after `pause`, until there is something. Panics with what was missed when the
/// time is up.
#[track_caller]
pub(super) fn wait_for<T>(
    pause: Duration,
    mut look: impl FnMut() -> Option<T>,
    missed: impl FnOnce() -> String,
) -> T {
    let ends = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() <= ends, "waited in vain until {}", missed());
        thread::sleep(pause);
    }
}

/// A process under way. Dropped, it is killed.
pub(crate) struct Running {
    child: Child,
    streams: TempDir,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::start_knowing_stderr(command, |_, _| ())
    }

    /// `prepare` may tell the command which file its standard error will be.
    pub(crate) fn start_knowing_stderr(
        command: &mut Command,
        prepare: impl FnOnce(&mut Command, &File),
    ) -> Self {
        let streams = tempfile::tempdir().unwrap();
        let stream = |name| File::create(streams.path().join(name)).unwrap();
        let stderr = stream("stderr");
        prepare(command, &stderr);
        let child = command.stdin(Stdio::null()).stdout(stream("stdout")).stderr(stderr).spawn().unwrap();
        Self { child, streams }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn stdout(&self) -> String {
        text(&self.streams, "stdout")
    }

    pub(crate) fn stderr(&self) -> String {
        text(&self.streams, "stderr")
    }

    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid().cast_signed()).unwrap(), signal).unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// kill -9.
    pub(crate) fn kill(mut self) -> Ran {
        self.child.kill().unwrap();
        self.gone()
    }

    #[track_caller]
    pub(crate) fn ended(mut self) -> Ran {
        self.end()
    }

    #[track_caller]
    pub(super) fn end(&mut self) -> Ran {
        let Self { child, streams } = self;
        let missed = || format!("the process has ended; it says:\n{}", text(streams, "stderr"));
        wait_for(LOOK_AGAIN, || child.try_wait().unwrap(), missed);
        self.gone()
    }

    #[track_caller]
    fn gone(&mut self) -> Ran {
        let status = self.child.wait().unwrap();
        let code = status.code().unwrap_or_else(|| -status.signal().unwrap_or(0));
        let ran = Ran { code, stdout: text(&self.streams, "stdout"), stderr: text(&self.streams, "stderr") };
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

fn text(streams: &TempDir, name: &str) -> String {
    String::from_utf8_lossy(&fs::read(streams.path().join(name)).unwrap()).into_owned()
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Display for Ran {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
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

    /// A text of the JSON on stdout.
    #[track_caller]
    pub(crate) fn text(&self, pointer: &str) -> String {
        let json: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}:\n{self}"));
        let text = json.pointer(pointer).and_then(Value::as_str);
        text.unwrap_or_else(|| panic!("no text at {pointer}:\n{self}")).to_owned()
    }

    /// A number in it, by its JSON pointer.
    #[track_caller]
    pub(crate) fn number(&self, pointer: &str) -> u64 {
        let json = self.json();
        let number = json.pointer(pointer).and_then(Value::as_u64);
        number.unwrap_or_else(|| panic!("no number at {pointer}: {json}"))
    }
}

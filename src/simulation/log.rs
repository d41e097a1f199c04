//! The log of a simulated process, kept as a hash of all its lines and as the last few of them.

use std::collections::VecDeque;
use std::fmt;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use xxhash_rust::xxh3::Xxh3Default;

use super::stage;

const LINES_KEPT: usize = 60;

/// Hears what the program logs on this thread.
#[derive(Clone)]
pub(super) struct Log(Arc<Mutex<State>>);

struct State {
    hash: Xxh3Default,
    lines: u64,
    last: VecDeque<String>,
    /// The folder of the world, which is another one each time.
    folder: String,
    /// Whether each line is printed, too.
    is_told: bool,
}

impl Log {
    pub(super) fn new(folder: String) -> Self {
        let is_told = std::env::var_os("HEALTHEX_SYNC_SIMULATION_LOG").is_some();
        let state = State { hash: Xxh3Default::new(), lines: 0, last: VecDeque::new(), folder, is_told };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Returns the hash of all lines, and how many there were.
    pub(super) fn hash(&self) -> (u64, u64) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (state.hash.digest(), state.lines)
    }

    pub(super) fn last(&self) -> Vec<String> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.last.iter().cloned().collect()
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with("healthex_sync")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line { message: String::new(), fields: String::new() };
        event.record(&mut line);
        let mut text = format!("{:5} {}{}", event.metadata().level(), line.message, line.fields);
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if text.contains(&state.folder) {
            text = text.replace(&state.folder, "~");
        }
        state.hash.update(text.as_bytes());
        state.hash.update(b"\n");
        state.lines += 1;
        if state.is_told {
            let _ = writeln!(std::io::stderr(), "{} {text}", stage::true_time());
        }
        if state.last.len() == LINES_KEPT {
            state.last.pop_front();
        }
        state.last.push_back(text);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

//! Logs to stderr, as text or JSON. Only this program's own lines: a library's could hold a URL.
//!
//! Under systemd each line begins with its priority, which the journal takes off again; the
//! time is left to the journal too.

mod log_queue;

use std::io::{IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::{LazyLock, OnceLock};

use indicatif::MultiProgress;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use self::log_queue::LossForm;
use crate::settings::LogSettings;

/// Begins to log. `level` overrides the configuration's.
pub(crate) fn start(settings: Option<&LogSettings>, level: Option<&str>) {
    let level = level.unwrap_or_else(|| settings.map_or("info", |settings| settings.level));
    let filter = EnvFilter::new(format!("off,healthex_sync={level}"));
    let is_journal = stderr_is_the_journal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(has_colours(std::io::stderr().is_terminal()))
        // A closed stderr is no reason to end: without this it would be.
        .log_internal_errors(false)
        .with_writer(StderrWriter { is_journal });
    let is_json = settings.is_some_and(|settings| settings.is_json);
    let losses = if is_json { LossForm::Json } else { LossForm::Text };
    log_queue::start(write_to_stderr, losses);
    let result = match (is_json, is_journal) {
        (true, _) => builder.json().flatten_event(true).try_init(),
        (false, true) => builder.without_time().with_level(false).try_init(),
        (false, false) => builder.try_init(),
    };
    // Logging that has begun already, as in a test, goes on as it is.
    drop(result);
}

/// The progress bars on stderr: one for the process, as log lines must be written above them.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Returns the set that a bar is to be added to.
pub(crate) fn bars() -> &'static MultiProgress {
    &BARS
}

/// Returns whether stderr is a terminal, which alone shows bars.
pub(crate) fn bars_are_shown() -> bool {
    std::io::stderr().is_terminal()
}

/// When there are to be colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColourChoice {
    /// On a terminal, unless `NO_COLOR` is set. See <https://no-color.org>.
    Auto,
    Always,
    Never,
}

static COLOURS: OnceLock<ColourChoice> = OnceLock::new();

/// Chooses once, before anything is printed.
pub(crate) fn choose_colours(choice: ColourChoice) {
    // A test that runs several commands in one process keeps the first choice.
    let _ = COLOURS.set(choice);
}

/// Returns whether a stream is to have colours.
pub(crate) fn has_colours(is_terminal: bool) -> bool {
    match COLOURS.get().copied().unwrap_or(ColourChoice::Auto) {
        ColourChoice::Auto => {
            is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
        ColourChoice::Always => true,
        ColourChoice::Never => false,
    }
}

/// Returns whether stderr leads to the journal. `$JOURNAL_STREAM` alone does not say so: children
/// inherit it whose stderr leads elsewhere.
fn stderr_is_the_journal() -> bool {
    let Some(journal) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    journal.to_str() == Some(&format!("{}:{}", stderr.dev(), stderr.ino()))
}

struct StderrWriter {
    is_journal: bool,
}

/// One event, with its priority before it where the journal reads it.
struct EventWriter {
    priority: &'static str,
}

impl<'w> MakeWriter<'w> for StderrWriter {
    type Writer = EventWriter;

    fn make_writer(&'w self) -> EventWriter {
        EventWriter { priority: "" }
    }

    fn make_writer_for(&'w self, event: &Metadata<'_>) -> EventWriter {
        EventWriter { priority: if self.is_journal { priority(*event.level()) } else { "" } }
    }
}

/// Returns the priority as syslog counts it.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

impl Write for EventWriter {
    /// Takes a whole event at a time; a line break inside it would begin a line without a priority.
    fn write(&mut self, event: &[u8]) -> std::io::Result<usize> {
        let mut lines = Vec::with_capacity(event.len() + self.priority.len());
        if self.priority.is_empty() {
            lines.extend_from_slice(event);
        } else {
            for line in event.split_inclusive(|byte| *byte == b'\n') {
                lines.extend_from_slice(self.priority.as_bytes());
                lines.extend_from_slice(line);
            }
        }
        log_queue::write(lines);
        Ok(event.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A closed stderr leaves nobody to tell.
fn write_to_stderr(lines: &[u8]) {
    if bars_are_shown() {
        // A line written over a bar would tear both.
        let _ = BARS.suspend(|| std::io::stderr().write_all(lines));
    } else {
        let _ = std::io::stderr().write_all(lines);
    }
}

/// Says why the program fails, after all that was logged, and waits a moment for somebody to read it.
pub(crate) fn end(failure: Option<&str>) {
    if let Some(why) = failure {
        log_queue::start(write_to_stderr, LossForm::Text);
        let priority = if stderr_is_the_journal() { priority(Level::ERROR) } else { "" };
        let lines = why.lines().enumerate().map(|(number, line)| {
            let program = if number == 0 { "healthex-sync: " } else { "" };
            format!("{priority}{program}{line}\n")
        });
        log_queue::write(lines.collect::<String>().into_bytes());
    }
    log_queue::flush(LAST_WORDS);
}

/// A reader that has stopped does not keep the program from its end for longer.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);

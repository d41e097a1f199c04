//! Logs go to stderr, as text or JSON. Only this program's own lines: a library's could hold a URL.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::settings::LogSettings;

/// Begins to log. `level` wins over the configuration's.
pub fn start(settings: Option<&LogSettings>, level: Option<&str>) {
    let level = level.unwrap_or_else(|| settings.map_or("info", |settings| settings.level.as_str()));
    let filter = EnvFilter::new(format!("off,healthex_sync={level}"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        // A closed stderr is no reason to end: without this it would be.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    let result = if settings.is_some_and(|settings| settings.is_json) {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.try_init()
    };
    // Logging that has begun already, as in a test, goes on as it is.
    drop(result);
}

//! Times and sizes in the words of the status page and the alerts.

use std::time::Duration;

use crate::plan::{Timestamp, stamp};

/// `2026-01-31 08:00:00 UTC`.
pub(super) fn moment(at: Timestamp) -> String {
    stamp(at).replace('T', " ").replace('Z', " UTC")
}

/// The time from `since` to `now`, rounded down.
pub(crate) fn elapsed(now: Timestamp, since: Timestamp) -> String {
    span((now - since).to_std().unwrap_or_default())
}

/// A duration in the largest unit of which there are two, rounded down.
pub(crate) fn span(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds if seconds < 2 * 3600 => format!("{} min", seconds / 60),
        seconds if seconds < 2 * 86_400 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{} kB", bytes / 1_000),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

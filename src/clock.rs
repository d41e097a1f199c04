//! The one place that reads the wall clock. Everything else takes the time as an argument.

use crate::plan::Timestamp;

/// Now, in UTC, in whole seconds: nothing this program stores is finer.
#[expect(clippy::disallowed_methods, reason = "the one place that may read the clock")]
pub fn now() -> Timestamp {
    let now = chrono::Utc::now();
    Timestamp::from_timestamp(now.timestamp(), 0).unwrap_or(now)
}

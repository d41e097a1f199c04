//! The one place that takes time from the machine: what the wall clock says, how long something has
//! lasted, and sleep. Everything else takes the time of day as an argument.
//!
//! In a simulation all of it passes as the simulation wants, and no sleep takes any time.

use crate::plan::Timestamp;

/// The monotonic clock, and what waits by it.
pub(crate) use tokio::time::{
    Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout, timeout_at,
};

/// Now, in UTC, in whole seconds: nothing this program stores is finer.
pub fn now() -> Timestamp {
    let now = wall();
    Timestamp::from_timestamp(now.timestamp(), 0).unwrap_or(now)
}

#[expect(clippy::disallowed_methods, reason = "the one place that may read the clock")]
fn wall() -> Timestamp {
    #[cfg(test)]
    if let Some(now) = crate::simulation::stage::now() {
        return now;
    }
    Timestamp::from(std::time::SystemTime::now())
}

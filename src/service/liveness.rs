//! Tells work that takes long from work that is stuck.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Instant;
use crate::settings::ApiLimits;
use crate::warehouse::Warehouse;
use crate::warehouse::place::WriterActivity;

/// SQLite does not tell how far it has come, and a VACUUM of a large file takes long.
pub(super) const DISK_PATIENCE: Duration = Duration::from_hours(2);

/// Nothing else takes long, beyond what the settings let a server be silent.
const PATIENCE: Duration = Duration::from_mins(2);

/// The work under supervision, by what can be observed of it.
pub(super) enum Activity {
    /// The warehouse is being opened or closed.
    Disk,
    Cycle(Arc<Warehouse>),
}

impl Activity {
    /// Returns whether the disk is at work, and a count that moves with each piece of it.
    pub(super) fn writer(&self) -> WriterActivity {
        match self {
            Self::Disk => WriterActivity::Working { done: 0 },
            Self::Cycle(warehouse) => warehouse.activity(),
        }
    }
}

/// Counters that grow while work goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    pub(super) patients: u64,
    pub(super) writer: WriterActivity,
}

impl Counters {
    fn none() -> Self {
        Self { requests: 0, bytes: 0, patients: 0, writer: WriterActivity::Idle { done: 0 } }
    }
}

/// When something last moved.
pub(super) struct Liveness {
    moved_at: Instant,
    seen: Counters,
    is_reported: bool,
}

impl Default for Liveness {
    fn default() -> Self {
        Self { moved_at: Instant::now(), seen: Counters::none(), is_reported: false }
    }
}

impl Liveness {
    /// Notes the counters as they are now. Returns whether the work is alive; that it is not is
    /// logged once.
    pub(super) fn observe(&mut self, counters: Counters, limits: ApiLimits) -> bool {
        if counters != self.seen {
            *self = Self { moved_at: Instant::now(), seen: counters, is_reported: false };
        }
        let patience = patience(matches!(counters.writer, WriterActivity::Working { .. }), limits);
        let is_alive = self.moved_at.elapsed() < patience;
        if !is_alive && !std::mem::replace(&mut self.is_reported, true) {
            let seconds = patience.as_secs();
            tracing::error!(
                "nothing has moved for {seconds} s: the watchdog is no longer fed; please report it"
            );
        }
        is_alive
    }
}

/// When the watchdog was last fed, for who has no systemd.
pub(super) struct SignOfLife(Mutex<Instant>);

/// So long a sign of life counts, as `WatchdogSec=` of the unit has it.
const FRESH_FOR: Duration = Duration::from_mins(3);

impl Default for SignOfLife {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl SignOfLife {
    pub(super) fn renew(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < FRESH_FOR
    }
}

/// Returns how long nothing may move before the work counts as stuck.
fn patience(disk_is_at_work: bool, limits: ApiLimits) -> Duration {
    if disk_is_at_work {
        return DISK_PATIENCE;
    }
    limits.idle_timeout.max(limits.connect_timeout) + limits.retry_max + PATIENCE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_counts_as_long_as_the_watchdog_waits_for_one() {
        let alive = SignOfLife::default();
        crate::clock::sleep(FRESH_FOR / 2).await;
        assert!(alive.is_fresh());
        alive.renew();
        crate::clock::sleep(FRESH_FOR / 2).await;
        assert!(alive.is_fresh());
        crate::clock::sleep(FRESH_FOR / 2).await;
        assert!(!alive.is_fresh());
    }

    #[test]
    fn a_cycle_is_stuck_in_minutes_and_a_disk_in_hours() {
        let limits = ApiLimits {
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            page_timeout: Duration::from_mins(30),
            max_attempts: 6,
            retry_initial: Duration::from_millis(500),
            retry_max: Duration::from_mins(1),
        };
        assert_eq!(patience(false, limits), Duration::from_mins(4));
        assert_eq!(patience(true, limits), DISK_PATIENCE);
        // Whoever lets a server be silent for an hour is not told that it is stuck.
        let patient = ApiLimits { idle_timeout: Duration::from_hours(1), ..limits };
        assert!(Duration::from_hours(1) < patience(false, patient));
    }
}

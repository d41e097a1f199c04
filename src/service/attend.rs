//! While work is done: signs of life, and an end to the waiting after a signal.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use super::worker::Worker;
use super::{PULSE, systemd};
use crate::settings::ApiLimits;
use crate::warehouse::writer::Warehouse;

/// After the grace for pages in flight, this much is left for VACUUM to give up: ten seconds in all.
const LAST_WAIT: Duration = Duration::from_secs(3);

/// SQLite does not tell how far it has come, and a VACUUM of a large file takes long.
pub(super) const DISK_PATIENCE: Duration = Duration::from_hours(2);

/// Nothing else takes long, beyond what the settings let a server be silent.
const PATIENCE: Duration = Duration::from_mins(2);

/// What is attended to, by what can be seen of it.
pub(super) enum Doing {
    /// The warehouse is being opened or closed.
    Disk,
    Cycle(Arc<Warehouse>),
}

/// When something last moved.
pub(super) struct Life {
    moved_at: Instant,
    /// Requests, bytes, patients, and turns of the warehouse until then.
    seen: [u64; 4],
    is_told: bool,
}

impl Default for Life {
    fn default() -> Self {
        Self { moved_at: Instant::now(), seen: [0; 4], is_told: false }
    }
}

/// How long nothing may move before the work counts as stuck.
fn patience(disk_is_at_work: bool, limits: ApiLimits) -> Duration {
    if disk_is_at_work {
        return DISK_PATIENCE;
    }
    limits.idle_timeout.max(limits.connect_timeout) + limits.retry_max + PATIENCE
}

impl Worker {
    /// Waits for the work, or, after a signal, not longer than ten seconds.
    pub(super) async fn attend<T>(
        &mut self,
        doing: Doing,
        mut work: Pin<Box<impl Future<Output = T>>>,
    ) -> Option<T> {
        let stop = self.stop.clone();
        let overdue = async move {
            stop.at_once.cancelled().await;
            tokio::time::sleep(LAST_WAIT).await;
        };
        tokio::pin!(overdue);
        let mut pulse = tokio::time::interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.life = Life::default();
        loop {
            tokio::select! {
                biased;
                result = &mut work => return Some(result),
                () = &mut overdue => {
                    tracing::warn!("the warehouse takes too long to stop; what is not committed is done again at the next start");
                    return None;
                }
                _ = pulse.tick() => self.pulse(&doing),
            }
        }
    }

    /// Once a second.
    fn pulse(&mut self, doing: &Doing) {
        let progress = self.board.progress.borrow().clone();
        self.count_answers();
        let turns = match doing {
            Doing::Disk => 1,
            Doing::Cycle(warehouse) => warehouse.turns(),
        };
        let (requests, bytes) = self.api.as_ref().map_or((0, 0), |api| {
            (api.meter.requests.load(Ordering::Relaxed), api.meter.bytes.load(Ordering::Relaxed))
        });
        let seen = [requests, bytes, progress.done, turns];
        if seen != self.life.seen {
            self.life = Life { moved_at: Instant::now(), seen, is_told: false };
        }
        let patience = patience(turns % 2 == 1, self.daemon.settings.api.limits);
        if self.life.moved_at.elapsed() < patience {
            systemd::feed_watchdog();
        } else if !std::mem::replace(&mut self.life.is_told, true) {
            let seconds = patience.as_secs();
            tracing::error!(
                "nothing has moved for {seconds} s: the watchdog is no longer fed; please report it"
            );
        }
        let stopping = if self.stop.is_asked() { "stopping; " } else { "" };
        self.status.say(format!(
            "{stopping}cycle: {} of {} patients, {} resources",
            progress.done, progress.total, progress.resources
        ));
    }

    /// What the server has answered since this was last asked.
    pub(super) fn count_answers(&mut self) {
        if let Some(api) = &self.api {
            self.silence.answers += self.board.metrics.count_answers(&api.meter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

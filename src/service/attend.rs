//! While work is done: signs of life, and an end to the waiting after a signal.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::time::MissedTickBehavior;

use super::PULSE;
use super::systemd;
use super::worker::Worker;

/// After the grace for pages in flight, this much is left for VACUUM to give up: ten seconds in all.
const LAST_WAIT: Duration = Duration::from_secs(3);

/// Work in which nothing moves for this long, beyond what settings allow one request, is stuck.
const STUCK_AFTER: Duration = Duration::from_hours(2);

/// When something last moved.
pub(super) struct Life {
    moved_at: Instant,
    /// Requests, bytes and patients until then.
    seen: (u64, u64, u64),
}

impl Default for Life {
    fn default() -> Self {
        Self { moved_at: Instant::now(), seen: (0, 0, 0) }
    }
}

impl Worker {
    /// Waits for the work, or, after a signal, not longer than ten seconds.
    pub(super) async fn attend<T>(&mut self, mut work: Pin<Box<impl Future<Output = T>>>) -> Option<T> {
        let stop = self.stop.clone();
        let overdue = async move {
            stop.at_once.cancelled().await;
            tokio::time::sleep(LAST_WAIT).await;
        };
        tokio::pin!(overdue);
        let mut pulse = tokio::time::interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.life.moved_at = Instant::now();
        loop {
            tokio::select! {
                biased;
                result = &mut work => return Some(result),
                () = &mut overdue => {
                    tracing::warn!("the warehouse takes too long to stop; what is not committed is done again at the next start");
                    return None;
                }
                _ = pulse.tick() => self.pulse(),
            }
        }
    }

    /// Once a second in a cycle.
    pub(super) fn pulse(&mut self) {
        let Some(api) = &self.api else { return };
        self.silence.answers += self.board.metrics.count_answers(&api.meter);
        let progress = self.board.progress.borrow().clone();
        let meter = &api.meter;
        let seen =
            (meter.requests.load(Ordering::Relaxed), meter.bytes.load(Ordering::Relaxed), progress.done);
        if seen != self.life.seen {
            self.life = Life { moved_at: Instant::now(), seen };
        }
        let limits = self.daemon.settings.api.limits;
        if self.life.moved_at.elapsed() < STUCK_AFTER + limits.page_timeout + limits.retry_max {
            systemd::feed_watchdog();
        } else {
            tracing::error!("the cycle has not moved for hours: the watchdog is no longer fed");
        }
        let stopping = if self.stop.is_asked() { "stopping; " } else { "" };
        self.status.say(format!(
            "{stopping}cycle: {} of {} patients, {} resources",
            progress.done, progress.total, progress.resources
        ));
    }
}

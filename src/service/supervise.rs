//! Supervises long work: signs of life to systemd, and an end to the waiting after a signal.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::liveness::{Activity, Counters, Liveness};
use super::worker::Worker;
use super::{poll_interval, systemd};
use crate::clock;
use crate::warehouse::Warehouse;

/// After the grace for pages in flight, this much is left for VACUUM to give up: ten seconds in all.
const LAST_WAIT: Duration = Duration::from_secs(3);

impl Worker {
    /// Waits for the work to end. Returns `None` if it has not ended ten seconds after a signal.
    pub(super) async fn supervise<T>(
        &mut self,
        activity: Activity,
        mut work: Pin<Box<impl Future<Output = T>>>,
    ) -> Option<T> {
        let stop = self.stop.clone();
        let overdue = async move {
            stop.at_once.cancelled().await;
            clock::sleep(LAST_WAIT).await;
        };
        tokio::pin!(overdue);
        let mut poll = clock::interval(poll_interval());
        poll.set_missed_tick_behavior(clock::MissedTickBehavior::Delay);
        self.liveness = Liveness::default();
        loop {
            tokio::select! {
                biased;
                result = &mut work => return Some(result),
                () = &mut overdue => {
                    tracing::warn!("the warehouse takes too long to stop; what is not committed is done again at the next start");
                    return None;
                }
                // What it changes is in force from the next cycle on, and whoever asked is answered now.
                Some(()) = self.hangups.recv() => if let Err(failed) = self.reload().await {
                    tracing::error!("the schedule cannot be followed: {failed:#}");
                },
                _ = poll.tick() => self.check_liveness(&activity),
            }
        }
    }

    /// Feeds the watchdog while something moves, and tells systemd how far the cycle is.
    fn check_liveness(&mut self, activity: &Activity) {
        let progress = self.status.progress.borrow().clone();
        self.count_answers();
        if let Activity::Cycle(warehouse) = activity {
            self.count_costs(warehouse);
        }
        let (requests, bytes) = self.api.as_ref().map_or((0, 0), |api| {
            (api.meter.requests.load(Ordering::Relaxed), api.meter.bytes.load(Ordering::Relaxed))
        });
        let writer = activity.writer();
        let counters = Counters { requests, bytes, patients: progress.done, writer };
        if self.liveness.observe(counters, self.daemon.settings.api.limits) {
            self.feed_watchdog();
        }
        self.tell_run_report();
        let stopping = if self.stop.is_asked() { "stopping; " } else { "" };
        self.status_line.set(format!(
            "{stopping}cycle: {} of {} patients, {} resources",
            progress.done, progress.total, progress.resources
        ));
    }

    /// Tells systemd, and who asks `/healthz?alive`, that the daemon is not stuck.
    pub(super) fn feed_watchdog(&self) {
        systemd::feed_watchdog();
        self.status.alive.renew();
    }

    /// Counts what the server has answered since the last call.
    pub(super) fn count_answers(&mut self) {
        if let Some(api) = &self.api {
            self.outage.answers += self.status.metrics.count_answers(&api.meter);
        }
    }

    /// Counts what a server with the warehouse has cost since the last call.
    pub(super) fn count_costs(&self, warehouse: &Warehouse) {
        if let Some(shared) = warehouse.shared() {
            self.status.metrics.count_costs(&shared.take_costs());
        }
    }
}

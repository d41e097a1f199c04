//! The alarm clock: says when a cycle is due, and counts what it said while nobody listened.
//!
//! tokio-cron-scheduler is all there is to it, and its job only rings: ticks during a cycle
//! cannot pile up. It is mute while the wall clock lies behind where it was, so a tick that does
//! not come in time by the monotonic clock is rung by whoever looks.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context;
use tokio::sync::Notify;
use tokio_cron_scheduler::Job;
use tokio_cron_scheduler::JobScheduler;

use crate::clock;
use crate::plan::Timestamp;
use crate::settings::Schedule;

/// A tick that is this late will not come.
const LATE_AFTER: Duration = Duration::from_secs(30);

/// Wakes the one task that owns the cycles.
pub(super) struct Bell {
    due: Notify,
    in_cycle: AtomicBool,
    skipped: AtomicU64,
    schedule: Mutex<Schedule>,
    /// By the monotonic clock.
    next_by: Mutex<Option<Instant>>,
}

impl Bell {
    fn new(schedule: Schedule) -> Self {
        let bell = Self {
            due: Notify::new(),
            in_cycle: AtomicBool::new(false),
            skipped: AtomicU64::new(0),
            schedule: Mutex::new(schedule),
            next_by: Mutex::new(None),
        };
        bell.expect_next();
        bell
    }

    pub(super) async fn rung(&self) {
        self.due.notified().await;
    }

    /// A cycle is due, or, while there is one, a tick is skipped.
    pub(super) fn ring(&self) {
        self.expect_next();
        if self.in_cycle.load(Ordering::Relaxed) {
            self.skipped.fetch_add(1, Ordering::Relaxed);
        } else {
            self.due.notify_one();
        }
    }

    pub(super) fn cycle_begins(&self) {
        self.in_cycle.store(true, Ordering::Relaxed);
    }

    /// How many ticks passed during it.
    pub(super) fn cycle_ends(&self) -> u64 {
        self.in_cycle.store(false, Ordering::Relaxed);
        self.skipped.swap(0, Ordering::Relaxed)
    }

    pub(super) fn next_tick(&self, now: Timestamp) -> Option<Timestamp> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner).next_after(now)
    }

    fn expect_next(&self) {
        let now = clock::now();
        let wait = self.next_tick(now).and_then(|next| (next - now).to_std().ok());
        let next_by = wait.map(|wait| Instant::now() + wait + LATE_AFTER);
        *self.next_by.lock().unwrap_or_else(PoisonError::into_inner) = next_by;
    }

    /// Rings for a tick that the scheduler has slept through.
    pub(super) fn ring_if_late(&self) {
        let next_by = *self.next_by.lock().unwrap_or_else(PoisonError::into_inner);
        if next_by.is_some_and(|next_by| next_by < Instant::now()) {
            tracing::warn!(
                "a tick of the schedule did not come: the clock of this machine was set back; the cycle runs now"
            );
            self.ring();
        }
    }
}

/// A bell, and the scheduler that rings it.
pub(super) struct Alarm {
    pub(super) bell: Arc<Bell>,
    scheduler: JobScheduler,
}

impl Alarm {
    pub(super) async fn set(schedule: &Schedule) -> anyhow::Result<Self> {
        let bell = Arc::new(Bell::new(schedule.clone()));
        let scheduler = start(schedule, &bell).await?;
        Ok(Self { bell, scheduler })
    }

    /// The same bell by another schedule.
    pub(super) async fn set_anew(&mut self, schedule: &Schedule) -> anyhow::Result<()> {
        let scheduler = start(schedule, &self.bell).await?;
        self.end().await;
        self.scheduler = scheduler;
        *self.bell.schedule.lock().unwrap_or_else(PoisonError::into_inner) = schedule.clone();
        self.bell.expect_next();
        Ok(())
    }

    pub(super) async fn end(&mut self) {
        if let Err(failed) = self.scheduler.shutdown().await {
            tracing::debug!("the scheduler did not stop cleanly: {failed}");
        }
    }
}

async fn start(schedule: &Schedule, bell: &Arc<Bell>) -> anyhow::Result<JobScheduler> {
    let scheduler = JobScheduler::new().await.context("the scheduler cannot be started")?;
    let ring = bell.clone();
    let job = match schedule {
        Schedule::Every(every) => Job::new_repeated(*every, move |_, _| ring.ring()),
        Schedule::Cron(cron) => Job::new(cron.as_str(), move |_, _| ring.ring()),
    };
    scheduler
        .add(job.context("sync.schedule is not understood")?)
        .await
        .context("sync.schedule is not understood")?;
    scheduler.start().await.context("the scheduler cannot be started")?;
    Ok(scheduler)
}

//! The alarm clock: says when a cycle is due, and counts what it said while nobody listened.
//!
//! tokio-cron-scheduler is all there is to it, and its job only rings: ticks during a cycle
//! cannot pile up. It goes by the wall clock alone: set back, it is mute until the clock is where
//! it was; set ahead, it makes up for every tick that was never due. So it is begun anew when
//! the clock was set, and a tick that does not come in time by the monotonic clock is rung by
//! whoever looks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::TimeDelta;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};

use crate::clock;
use crate::plan::Timestamp;
use crate::settings::Schedule;

/// A tick that is this late will not come.
const LATE_AFTER: Duration = Duration::from_secs(30);

/// A smaller difference between the clocks is rounding, or a clock that is being slewed.
const STEP_MIN: TimeDelta = TimeDelta::seconds(10);

/// Wakes the one task that owns the cycles.
pub(super) struct Bell {
    due: Notify,
    /// Rung, and nobody has come yet.
    is_due: AtomicBool,
    in_cycle: AtomicBool,
    skipped: AtomicU64,
    schedule: Mutex<Schedule>,
    /// By the monotonic clock.
    next_by: Mutex<Option<Instant>>,
    /// Only the scheduler that was started last is heeded: one that was shut down looks once more.
    scheduler: AtomicU64,
}

impl Bell {
    fn new(schedule: Schedule) -> Self {
        let bell = Self {
            due: Notify::new(),
            is_due: AtomicBool::new(false),
            in_cycle: AtomicBool::new(false),
            skipped: AtomicU64::new(0),
            schedule: Mutex::new(schedule),
            next_by: Mutex::new(None),
            scheduler: AtomicU64::new(0),
        };
        bell.expect_next();
        bell
    }

    pub(super) async fn rung(&self) {
        self.due.notified().await;
        self.is_due.store(false, Ordering::Relaxed);
    }

    /// A cycle is due, or, while there is one or one is due already, a tick is skipped.
    pub(super) fn ring(&self) {
        self.expect_next();
        if self.in_cycle.load(Ordering::Relaxed) || self.is_due.swap(true, Ordering::Relaxed) {
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
        *self.next_by.lock().unwrap_or_else(PoisonError::into_inner) = self.late_from();
    }

    /// However often the clock is set, the next tick does not get later by it.
    fn expect_next_after_step(&self) {
        let late_from = self.late_from();
        let mut next_by = self.next_by.lock().unwrap_or_else(PoisonError::into_inner);
        *next_by = next_by.into_iter().chain(late_from).min();
    }

    fn late_from(&self) -> Option<Instant> {
        let now = clock::now();
        let wait = self.next_tick(now).and_then(|next| (next - now).to_std().ok());
        wait.map(|wait| Instant::now() + wait + LATE_AFTER)
    }

    /// Rings for a tick that the scheduler has slept through.
    pub(super) fn ring_if_late(&self) {
        let next_by = *self.next_by.lock().unwrap_or_else(PoisonError::into_inner);
        if next_by.is_some_and(|next_by| next_by < Instant::now()) {
            tracing::warn!("a tick of the schedule did not come; the cycle runs now");
            self.ring();
        }
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy)]
struct Reading {
    wall: Timestamp,
    monotonic: Instant,
}

impl Reading {
    fn take() -> Self {
        Self { wall: clock::now(), monotonic: Instant::now() }
    }

    /// By how much the wall clock was set since `earlier`; what is slewed does not count.
    fn step_since(self, earlier: Self) -> Option<TimeDelta> {
        let passed = self.monotonic.saturating_duration_since(earlier.monotonic);
        let step = self.wall - earlier.wall - TimeDelta::from_std(passed).ok()?;
        (step.abs() >= STEP_MIN).then_some(step)
    }

    /// Was a tick due between, by the wall clock?
    fn has_passed_a_tick_since(self, earlier: Self, schedule: &Schedule) -> bool {
        schedule.next_after(earlier.wall).is_some_and(|next| next <= self.wall)
    }
}

/// A bell, and the scheduler that rings it.
pub(super) struct Alarm {
    pub(super) bell: Arc<Bell>,
    scheduler: JobScheduler,
    last_seen: Reading,
}

impl Alarm {
    pub(super) async fn set(schedule: &Schedule) -> anyhow::Result<Self> {
        let bell = Arc::new(Bell::new(schedule.clone()));
        let scheduler = start(schedule, &bell).await?;
        Ok(Self { bell, scheduler, last_seen: Reading::take() })
    }

    /// The same bell by another schedule.
    pub(super) async fn set_anew(&mut self, schedule: &Schedule) -> anyhow::Result<()> {
        self.begin_anew(schedule).await?;
        *self.bell.schedule.lock().unwrap_or_else(PoisonError::into_inner) = schedule.clone();
        self.bell.expect_next();
        Ok(())
    }

    /// By how much the wall clock was set since this was last asked. The schedule begins anew for it.
    pub(super) async fn heed_clock(&mut self) -> anyhow::Result<Option<TimeDelta>> {
        let now = Reading::take();
        let earlier = std::mem::replace(&mut self.last_seen, now);
        let Some(step) = now.step_since(earlier) else { return Ok(None) };
        let (seconds, how) =
            (step.num_seconds().abs(), if step < TimeDelta::zero() { "back" } else { "ahead" });
        tracing::warn!("the clock of this machine was set {how} by {seconds} s; the schedule goes by it");
        let schedule = self.bell.schedule.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.begin_anew(&schedule).await?;
        self.bell.expect_next_after_step();
        if now.has_passed_a_tick_since(earlier, &schedule) {
            self.bell.ring();
        }
        Ok(Some(step))
    }

    async fn begin_anew(&mut self, schedule: &Schedule) -> anyhow::Result<()> {
        let scheduler = start(schedule, &self.bell).await?;
        self.end().await;
        self.scheduler = scheduler;
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
    let number = bell.scheduler.fetch_add(1, Ordering::Relaxed) + 1;
    let heeded = bell.clone();
    let ring = move |_, _| {
        if heeded.scheduler.load(Ordering::Relaxed) == number {
            heeded.ring();
        }
    };
    let job = match schedule {
        Schedule::Every(every) => Job::new_repeated(*every, ring),
        Schedule::Cron(cron) => Job::new(cron.as_str(), ring),
    };
    scheduler
        .add(job.context("sync.schedule is not understood")?)
        .await
        .context("sync.schedule is not understood")?;
    scheduler.start().await.context("the scheduler cannot be started")?;
    Ok(scheduler)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_told_from_time_that_passed() {
        let origin = Instant::now();
        let at = |wall: i64, monotonic: u64| Reading {
            wall: Timestamp::from_timestamp(1_800_000_000 + wall, 0).unwrap(),
            monotonic: origin + Duration::from_secs(monotonic),
        };
        let check = |wall, monotonic, step: Option<i64>| {
            let found = at(wall, monotonic).step_since(at(0, 0));
            assert_eq!(found.map(|step| step.num_seconds()), step, "{wall} s, {monotonic} s");
        };
        check(1, 1, None);
        check(0, 1, None);
        // A cycle of ten hours, in which the clock was slewed.
        check(36_005, 36_000, None);
        check(86_401, 1, Some(86_400));
        check(-3_599, 1, Some(-3_600));
        check(11, 1, Some(10));
    }

    #[test]
    fn a_cycle_that_the_clock_has_jumped_over_is_due_and_one_it_fell_behind_is_not() {
        let origin = Instant::now();
        let at = |wall: i64| Reading {
            wall: Timestamp::from_timestamp(1_800_000_000 + wall, 0).unwrap(),
            monotonic: origin,
        };
        let check = |schedule: &str, wall, due| {
            let schedule = Schedule::parse(schedule).unwrap();
            assert_eq!(at(wall).has_passed_a_tick_since(at(0), &schedule), due, "{schedule:?} {wall}");
        };
        check("every 15m", 86_400, true);
        check("every 15m", 60, false);
        check("every 15m", -3_600, false);
        // It is 08:00 on a Friday.
        check("0 30 8 * * *", 3_600, true);
        check("0 30 8 * * *", 600, false);
        check("0 30 8 * * *", -3_600, false);
    }

    #[tokio::test]
    async fn of_two_ticks_before_anybody_comes_one_counts_as_skipped() {
        let bell = Bell::new(Schedule::Every(Duration::from_secs(1)));
        bell.ring();
        bell.ring();
        bell.rung().await;
        bell.cycle_begins();
        bell.ring();
        assert_eq!(bell.cycle_ends(), 2);
        bell.ring();
        bell.rung().await;
        bell.cycle_begins();
        assert_eq!(bell.cycle_ends(), 0);
    }

    #[tokio::test]
    async fn a_clock_that_is_set_again_and_again_does_not_put_the_next_tick_off() {
        let bell = Bell::new(Schedule::Every(Duration::from_mins(15)));
        let next_by = || *bell.next_by.lock().unwrap();
        let first = next_by();
        bell.expect_next_after_step();
        assert_eq!(next_by(), first);
    }
}

//! Says when a cycle is due, and counts the ticks that come while nobody is listening.
//!
//! tokio-cron-scheduler does the timing, and its job only fires a trigger: ticks during a cycle
//! cannot pile up. It follows the wall clock alone: set back, it is silent until the clock is
//! where it was; set ahead, it makes up for every tick that was never due. So it is restarted
//! when the clock was set, and a tick that is late by the monotonic clock is fired by the worker.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};

use crate::clock;
use crate::clock::Instant;
use crate::plan::Timestamp;
use crate::settings::{Schedule, SimpleSchedule};
use crate::time::TimeDelta;

/// A tick that is this late will not come, …
const LATE_AFTER_MAX: Duration = Duration::from_secs(30);
/// … nor one that is two periods late and at least this much.
const LATE_AFTER_MIN: Duration = Duration::from_secs(5);

/// A smaller difference between the clocks is rounding, or a clock that is being slewed.
const STEP_MIN: TimeDelta = TimeDelta::seconds(10);

/// How often a schedule is looked at that the job scheduler cannot be told of.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Wakes the one task that owns the cycles.
pub(super) struct Trigger {
    due: Notify,
    /// Fired, and not taken up yet.
    is_due: AtomicBool,
    in_cycle: AtomicBool,
    skipped: AtomicU64,
    schedule: Mutex<Schedule>,
    /// When the next tick is due, by the wall clock.
    due_at: Mutex<Option<Timestamp>>,
    /// The next tick is late after this moment of the monotonic clock.
    late_after: Mutex<Option<Instant>>,
    /// Counts the job schedulers started. One that was shut down may still run its job once:
    /// only the last one is listened to.
    generation: AtomicU64,
}

impl Trigger {
    fn new(schedule: Schedule) -> Self {
        let trigger = Self {
            due: Notify::new(),
            is_due: AtomicBool::new(false),
            in_cycle: AtomicBool::new(false),
            skipped: AtomicU64::new(0),
            schedule: Mutex::new(schedule),
            due_at: Mutex::new(None),
            late_after: Mutex::new(None),
            generation: AtomicU64::new(0),
        };
        trigger.expect_next();
        trigger
    }

    /// Waits until a cycle is due.
    pub(super) async fn fired(&self) {
        self.due.notified().await;
        self.is_due.store(false, Ordering::Relaxed);
    }

    /// Makes a cycle due. While one runs or is due already, counts a skipped tick instead.
    pub(super) fn fire(&self) {
        self.expect_next();
        if self.in_cycle.load(Ordering::Relaxed) || self.is_due.swap(true, Ordering::Relaxed) {
            self.skipped.fetch_add(1, Ordering::Relaxed);
        } else {
            self.due.notify_one();
        }
    }

    /// Makes a cycle due as soon as the one under way is over. No tick of the schedule is counted.
    pub(super) fn fire_after_cycle(&self) {
        self.expect_next();
        if !self.is_due.swap(true, Ordering::Relaxed) {
            self.due.notify_one();
        }
    }

    pub(super) fn cycle_begins(&self) {
        self.in_cycle.store(true, Ordering::Relaxed);
    }

    /// Returns how many ticks passed during the cycle.
    pub(super) fn cycle_ends(&self) -> u64 {
        self.in_cycle.store(false, Ordering::Relaxed);
        self.skipped.swap(0, Ordering::Relaxed)
    }

    /// Returns until when no cycle may begin, in the quiet hours.
    pub(super) fn quiet_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner).quiet_until(now)
    }

    pub(super) fn next_tick(&self, now: Timestamp) -> Option<Timestamp> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner).next_after(now)
    }

    fn fire_if_due(&self, now: Timestamp) {
        let due_at = *self.due_at.lock().unwrap_or_else(PoisonError::into_inner);
        if due_at.is_some_and(|due_at| due_at <= now) {
            self.fire();
        }
    }

    fn expect_next(&self) {
        *self.due_at.lock().unwrap_or_else(PoisonError::into_inner) = self.next_tick(clock::now());
        *self.late_after.lock().unwrap_or_else(PoisonError::into_inner) = self.late_from_now();
    }

    /// Expects the next tick after the clock was set, and no later than before: however often
    /// the clock is set, it does not put the tick off.
    fn expect_next_after_step(&self) {
        *self.due_at.lock().unwrap_or_else(PoisonError::into_inner) = self.next_tick(clock::now());
        let from_now = self.late_from_now();
        let mut late_after = self.late_after.lock().unwrap_or_else(PoisonError::into_inner);
        *late_after = late_after.into_iter().chain(from_now).min();
    }

    fn late_from_now(&self) -> Option<Instant> {
        let now = clock::now();
        let wait = self.next_tick(now).and_then(|next| (next - now).to_std().ok());
        let period = self.schedule.lock().unwrap_or_else(PoisonError::into_inner).period(now);
        let patience = (period * 2).clamp(LATE_AFTER_MIN, LATE_AFTER_MAX);
        wait.map(|wait| Instant::now() + wait + patience)
    }

    /// Fires for a tick that the job scheduler has missed. Returns whether it has.
    fn fire_if_late(&self) -> bool {
        let late_after = *self.late_after.lock().unwrap_or_else(PoisonError::into_inner);
        let is_late = late_after.is_some_and(|late_after| late_after < Instant::now());
        if is_late {
            tracing::warn!(
                "a tick of the schedule did not come; the cycle runs now, and the schedule begins anew"
            );
            self.fire();
        }
        is_late
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy)]
struct ClockReading {
    wall: Timestamp,
    monotonic: Instant,
}

impl ClockReading {
    fn take() -> Self {
        Self { wall: clock::now(), monotonic: Instant::now() }
    }

    /// Returns by how much the wall clock was set since `earlier`; slewing does not count.
    fn step_since(self, earlier: Self) -> Option<TimeDelta> {
        let passed = self.monotonic.saturating_duration_since(earlier.monotonic);
        let step = self.wall - earlier.wall - TimeDelta::from_std(passed).ok()?;
        (step.abs() >= STEP_MIN).then_some(step)
    }

    /// Returns whether a tick was due since `earlier`, by the wall clock.
    fn has_passed_a_tick_since(self, earlier: Self, schedule: &Schedule) -> bool {
        schedule.next_after(earlier.wall).is_some_and(|next| next <= self.wall)
    }
}

/// A trigger, and the job scheduler that fires it.
pub(super) struct Scheduler {
    pub(super) trigger: Arc<Trigger>,
    jobs: Jobs,
    last_reading: ClockReading,
}

impl Scheduler {
    pub(super) async fn start(schedule: &Schedule) -> anyhow::Result<Self> {
        let trigger = Arc::new(Trigger::new(schedule.clone()));
        let jobs = start_jobs(schedule, &trigger).await?;
        Ok(Self { trigger, jobs, last_reading: ClockReading::take() })
    }

    /// Fires the same trigger by another schedule.
    pub(super) async fn reschedule(&mut self, schedule: &Schedule) -> anyhow::Result<()> {
        self.restart_jobs(schedule).await?;
        *self.trigger.schedule.lock().unwrap_or_else(PoisonError::into_inner) = schedule.clone();
        self.trigger.expect_next();
        Ok(())
    }

    /// Restarts the schedule if the wall clock was set since the last call, or if a tick did not
    /// come. Returns by how much the clock was set.
    ///
    /// The job scheduler misses all ticks to come after a freeze that was longer than its period.
    pub(super) async fn follow_clock(&mut self) -> anyhow::Result<Option<TimeDelta>> {
        let now = ClockReading::take();
        let earlier = std::mem::replace(&mut self.last_reading, now);
        let Some(step) = now.step_since(earlier) else {
            if self.trigger.fire_if_late() {
                let schedule = self.trigger.schedule.lock().unwrap_or_else(PoisonError::into_inner).clone();
                self.restart_jobs(&schedule).await?;
            }
            return Ok(None);
        };
        let seconds = step.num_seconds().abs();
        let direction = if step < TimeDelta::zero() { "back" } else { "ahead" };
        tracing::warn!(
            "the clock of this machine was set {direction} by {seconds} s; the schedule goes by it"
        );
        let schedule = self.trigger.schedule.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.restart_jobs(&schedule).await?;
        self.trigger.expect_next_after_step();
        if now.has_passed_a_tick_since(earlier, &schedule) {
            self.trigger.fire();
        }
        Ok(Some(step))
    }

    async fn restart_jobs(&mut self, schedule: &Schedule) -> anyhow::Result<()> {
        let jobs = start_jobs(schedule, &self.trigger).await?;
        self.shut_down().await;
        self.jobs = jobs;
        Ok(())
    }

    pub(super) async fn shut_down(&mut self) {
        match &mut self.jobs {
            Jobs::OfTheClock(jobs) => {
                if let Err(failed) = jobs.shutdown().await {
                    tracing::debug!("the scheduler did not stop cleanly: {failed}");
                }
            }
            #[cfg(test)]
            Jobs::Simulated(jobs) => jobs.abort_all(),
        }
    }
}

/// What fires the trigger.
enum Jobs {
    OfTheClock(JobScheduler),
    /// The job scheduler reads the machine's clock by itself, which a simulation's is not.
    #[cfg(test)]
    Simulated(tokio::task::JoinSet<()>),
}

#[cfg(test)]
async fn fire_when_due(schedule: Schedule, trigger: Arc<Trigger>) {
    loop {
        let now = clock::now();
        let Some(next) = schedule.next_after(now) else { return };
        clock::sleep((next - now).to_std().unwrap_or_default()).await;
        trigger.fire();
    }
}

async fn start_jobs(schedule: &Schedule, trigger: &Arc<Trigger>) -> anyhow::Result<Jobs> {
    #[cfg(test)]
    if crate::simulation::stage::is_set() {
        let mut jobs = tokio::task::JoinSet::new();
        jobs.spawn(fire_when_due(schedule.clone(), trigger.clone()));
        return Ok(Jobs::Simulated(jobs));
    }
    let jobs = JobScheduler::new().await.context("the scheduler cannot be started")?;
    let generation = trigger.generation.fetch_add(1, Ordering::Relaxed) + 1;
    let fired = trigger.clone();
    let fire = move |_, _| {
        if fired.generation.load(Ordering::Relaxed) == generation {
            fired.fire();
        }
    };
    let job = match schedule.as_simple() {
        SimpleSchedule::Every(every) => Job::new_repeated(every, fire),
        SimpleSchedule::Cron(cron) => Job::new(cron, fire),
        // In another zone its jobs are an hour off after the clocks are set, and it knows no quiet hours.
        SimpleSchedule::Other => {
            let asked = trigger.clone();
            Job::new_repeated(LOOK_INTERVAL, move |_, _| {
                if asked.generation.load(Ordering::Relaxed) == generation {
                    asked.fire_if_due(clock::now());
                }
            })
        }
    };
    jobs.add(job.context("sync.schedule is not understood")?)
        .await
        .context("sync.schedule is not understood")?;
    jobs.start().await.context("the scheduler cannot be started")?;
    Ok(Jobs::OfTheClock(jobs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_told_from_time_that_passed() {
        let origin = Instant::now();
        let at = |wall: i64, monotonic: u64| ClockReading {
            wall: Timestamp::from_timestamp(1_800_000_000 + wall, 0).unwrap(),
            monotonic: origin + Duration::from_secs(monotonic),
        };
        let check = |wall, monotonic, step: Option<i64>| {
            let found = at(wall, monotonic).step_since(at(0, 0));
            assert_eq!(found.map(TimeDelta::num_seconds), step, "{wall} s, {monotonic} s");
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
        let at = |wall: i64| ClockReading {
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
        let trigger = Trigger::new(Schedule::parse("every 1s").unwrap());
        trigger.fire();
        trigger.fire();
        trigger.fired().await;
        trigger.cycle_begins();
        trigger.fire();
        assert_eq!(trigger.cycle_ends(), 2);
        trigger.fire();
        trigger.fired().await;
        trigger.cycle_begins();
        assert_eq!(trigger.cycle_ends(), 0);
    }

    #[tokio::test]
    async fn a_clock_that_is_set_again_and_again_does_not_put_the_next_tick_off() {
        let trigger = Trigger::new(Schedule::parse("every 15m").unwrap());
        let late_after = || *trigger.late_after.lock().unwrap();
        let first = late_after();
        trigger.expect_next_after_step();
        assert_eq!(late_after(), first);
    }
}

//! The daemon: a cycle when one is due, one at a time, until it is asked to stop.
//!
//! Promise: it waits for what can heal (credentials, the server, a roster, a full disk) and says
//! so; it ends by itself only where a restart would not mend it. One task, the worker, owns the
//! cycles and feeds the watchdog; all others read the status.
//!
//! ```text
//! scheduler ─→ worker ─→ status ─→ http (page, metrics)      systemd: its notifications
//!                 ╰───→ problems ─→ notifier                 health: the verdicts
//! ```

mod access;
mod alert_state;
mod chart;
mod facts;
mod format;
mod health;
mod http;
mod liveness;
mod metrics;
mod notifier;
mod page;
mod port;
mod problems;
mod process_metrics;
mod reload;
mod run_report;
mod scheduler;
mod shared_cycles;
mod state;
mod status;
mod supervise;
mod systemd;
mod told_cycle;
mod told_once;
mod worker;

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::alert_state::AlertRules;
use crate::clock;
use crate::clock::Instant;
use crate::machine;
use crate::plan::Timestamp;
use crate::plan::verdict::NeedsLook;
use crate::roster::Roster;
use crate::settings::{Environment, Schedule, Settings};
use crate::stop::Stop;
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::patient::CycleTimes;
use crate::warehouse::place::{FileIdentity, Place};
use crate::warehouse::service::ServiceMemory;
use crate::warehouse::{ServiceLock, Warehouse, identity};

pub(crate) use format::{elapsed, span};
pub(crate) use http::try_to_listen;
use liveness::DISK_PATIENCE;
pub(crate) use notifier::send_test_alert;
use scheduler::Scheduler;
use status::Status;
pub(crate) use told_cycle::counts;
use worker::Worker;

/// What the daemon is started with.
pub(crate) struct Daemon {
    pub(crate) settings: Arc<Settings>,
    pub(crate) roster: Roster,
    pub(crate) place: Place,
    pub(crate) config: Option<PathBuf>,
    pub(crate) environment: Environment,
}

/// Returns the words for a kind of problem.
pub(crate) fn title(kind: &str) -> &'static str {
    problems::Problem::parse(kind).map_or("a problem of another version", problems::Problem::title)
}

/// How often the worker feeds the watchdog, and looks at clock and schedule.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

fn poll_interval() -> Duration {
    #[cfg(test)]
    if crate::simulation::stage::is_set() {
        // Thirty million looks a year find nothing more.
        return POLL_INTERVAL * 60;
    }
    POLL_INTERVAL
}

/// The signals the daemon obeys: to stop, and to reload.
pub(crate) struct Signals {
    stop: Stop,
    /// Asked to read the configuration again.
    hangups: mpsc::Receiver<()>,
}

impl Signals {
    /// To be called before anything else: until then a signal ends the process without a word.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let mut hangup = signal(SignalKind::hangup())?;
        let (heard, hangups) = mpsc::channel(1);
        tokio::spawn(async move { while hangup.recv().await.is_some() && heard.send(()).await.is_ok() {} });
        Ok(Self { stop: Stop::on_signals()?, hangups })
    }

    #[cfg(test)]
    pub(crate) fn simulated(stop: Stop, hangups: mpsc::Receiver<()>) -> Self {
        Self { stop, hangups }
    }
}

pub(crate) async fn run(daemon: Daemon, signals: Signals) -> anyhow::Result<()> {
    let stop = signals.stop.clone();
    let reading = StartupState::read(&daemon);
    let Some(found) = unless_stopped(&stop, reading).await else { return Ok(()) };
    let found = found?;
    let status = Arc::new(Status::new(daemon.settings.clone(), clock::now())?);
    let scheduler = Scheduler::start(&daemon.settings.sync.schedule).await?;
    tracing::info!(
        patients = daemon.roster.patients.len(),
        "running; the schedule is {}",
        daemon.settings.sync.schedule
    );
    for note in &daemon.roster.notes {
        tracing::warn!("the roster: {note}");
    }
    http::serve(&daemon.settings.http, status.clone(), &daemon.place, stop.gently.clone()).await?;
    let missed_tick = found.missed_tick;
    let trigger = scheduler.trigger.clone();
    let mut worker = Worker::new(daemon, status, scheduler, signals, found)?;
    if missed_tick {
        trigger.fire();
    }
    let mut poll = clock::interval(poll_interval());
    poll.set_missed_tick_behavior(clock::MissedTickBehavior::Delay);
    let result = loop {
        tokio::select! {
            biased;
            () = stop.gently.cancelled() => break Ok(()),
            Some(()) = worker.hangups.recv() => if let Err(failed) = worker.reload().await { break Err(failed) },
            () = trigger.fired() => if let Err(failed) = worker.tick().await { break Err(failed) },
            _ = poll.tick() => {
                if let Err(failed) = worker.follow_clock().await { break Err(failed) }
                worker.idle();
            }
        }
    };
    worker.end().await;
    tracing::info!("stopped");
    result
}

/// Waits for `work`, or returns `None` at a stop. A large warehouse takes long to bring to a new
/// schema, so systemd is asked to wait for it.
async fn unless_stopped<T>(stop: &Stop, work: impl Future<Output = T>) -> Option<T> {
    let started_at = Instant::now();
    let mut poll = clock::interval(poll_interval());
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            () = stop.at_once.cancelled() => {
                tracing::warn!("stopped while the warehouse was being opened; the next start begins again");
                return None;
            }
            _ = poll.tick() => if started_at.elapsed() < DISK_PATIENCE { systemd::still_starting() },
        }
    }
}

/// The state of the warehouse when the daemon starts.
#[derive(Default)]
struct StartupState {
    /// A tick has passed since the last cycle began.
    missed_tick: bool,
    last_well_end: Option<Timestamp>,
    memory: ServiceMemory,
    needs_look: NeedsLook,
    identity: Option<FileIdentity>,
    /// `None` where a full or read-only disk does not let it be taken yet.
    only_daemon: Option<ServiceLock>,
    /// What keeps the warehouse from being used for now: the worker waits for its end.
    waits_for: Option<String>,
}

impl StartupState {
    /// Opens the warehouse, so that one that cannot be used is reported now and not at the first
    /// tick.
    async fn read(daemon: &Daemon) -> anyhow::Result<Self> {
        let place = &daemon.place;
        let only_daemon = match ServiceLock::take(place) {
            Ok(lock) => Some(lock),
            Err(failed) if failed.may_pass() => return Ok(Self::waiting(None, &failed)),
            Err(failed) => return Err(failed.into()),
        };
        let opened_at = place.clone();
        let opening = machine::aside(move || Warehouse::open_to_look(&opened_at, clock::now()));
        let warehouse = match opening.await? {
            Ok(warehouse) => warehouse,
            // A `sync` is running; the first tick looks again.
            Err(OpenFailed::InUse { .. }) => {
                return Ok(Self { missed_tick: true, only_daemon, ..Self::default() });
            }
            Err(failed) if failed.may_pass() => return Ok(Self::waiting(only_daemon, &failed)),
            Err(failed) => return Err(failed.into()),
        };
        let found = Self::of_warehouse(&warehouse, daemon).await;
        machine::aside(move || drop(warehouse)).await?;
        match found {
            Ok(found) => Ok(Self { identity: identity(place), only_daemon, ..found }),
            Err(failed) if failed.may_pass() => Ok(Self::waiting(only_daemon, &failed)),
            Err(failed) => Err(failed.into()),
        }
    }

    async fn of_warehouse(warehouse: &Warehouse, daemon: &Daemon) -> Result<Self, StoreFailed> {
        let Daemon { settings, roster, .. } = daemon;
        let CycleTimes { last_started_at, last_good_end } = warehouse.cycle_times().await?;
        let now = clock::now();
        let rules = AlertRules { stale_after: settings.alert.stale_after, started_at: now, now };
        Ok(Self {
            missed_tick: last_started_at
                .is_none_or(|last| has_missed_a_tick(&settings.sync.schedule, last, now)),
            // An end in the future was noted by a wrong clock, and counts as now.
            last_well_end: last_good_end.map(|end| end.min(now)),
            memory: warehouse.recall().await?,
            needs_look: facts::gather(warehouse, roster, settings, rules).await?.needs_look,
            ..Self::default()
        })
    }

    /// Returns the state of a warehouse that cannot be used yet: its first cycle is the first try
    /// that finds it mended.
    fn waiting(only_daemon: Option<ServiceLock>, failed: &dyn Display) -> Self {
        Self { only_daemon, waits_for: Some(failed.to_string()), ..Self::default() }
    }
}

/// Returns whether a tick has passed since the last cycle began.
fn has_missed_a_tick(schedule: &Schedule, last: Timestamp, now: Timestamp) -> bool {
    // A cycle in the future was noted by a wrong clock.
    last > now || schedule.next_after(last).is_none_or(|next| next <= now)
}

//! The daemon: a cycle when one is due, one at a time, until it is asked to stop.
//!
//! Promise: it waits for what can heal (credentials, the server, a roster, a full disk) and says
//! so; it ends by itself only where a restart would not mend it. One task, the worker, owns the
//! cycles and feeds the watchdog; all others look at the board.
//!
//! ```text
//! alarm ─→ worker ─→ board ─→ http (page, metrics)      systemd: what it is told
//!             ╰───→ problems ─→ alert                   health: the verdicts
//! ```

mod alarm;
mod alert;
mod attend;
mod board;
mod chart;
mod facts;
mod health;
mod http;
mod metrics;
mod page;
mod problems;
mod reload;
mod systemd;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;

use crate::clock;
use crate::plan::Timestamp;
use crate::roster::Roster;
use crate::settings::{Environment, Schedule, Settings};
use crate::stop::Stop;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::lock::{Lock, LockFor};
use crate::warehouse::open::{OtherServer, Place};
use crate::warehouse::writer::Warehouse;
use crate::warehouse::{checkpoint, open};

use alarm::Alarm;
use attend::DISK_PATIENCE;
use board::Board;
use worker::Worker;

pub struct Daemon {
    pub settings: Arc<Settings>,
    pub roster: Roster,
    pub place: Place,
    pub config: Option<PathBuf>,
    pub environment: Environment,
}

/// How often the worker shows that it lives, and looks around.
const PULSE: Duration = Duration::from_secs(1);

/// What the daemon is told from outside.
pub struct Told {
    stop: Stop,
    hangup: Signal,
}

impl Told {
    /// To be the first thing that is done: until then a signal ends the process unsaid.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { stop: Stop::on_signals()?, hangup: signal(SignalKind::hangup())? })
    }
}

pub async fn run(daemon: Daemon, told: Told) -> anyhow::Result<()> {
    let Told { stop, mut hangup } = told;
    open::prepare(&daemon.place.path)?;
    let _only_daemon = Lock::take(&daemon.place.path, LockFor::Daemon)?;
    let looking = Begun::look(&daemon.place, &daemon.settings.sync.schedule);
    let Some(begun) = unless_stopped(&stop, looking).await else { return Ok(()) };
    let begun = begun?;
    let board = Arc::new(Board::new(daemon.settings.clone(), begun.last_good_end, clock::now())?);
    let mut alarm = Alarm::set(&daemon.settings.sync.schedule).await?;
    tracing::info!(
        patients = daemon.roster.patients.len(),
        "running; the schedule is {:?}",
        daemon.settings.sync.schedule
    );
    http::serve(&daemon.settings.http, board.clone(), daemon.place.path.clone(), stop.gently.clone()).await?;
    let mut worker = Worker::new(daemon, board, alarm.bell.clone(), stop.clone(), begun.identity)?;
    if begun.missed {
        alarm.bell.ring();
    }
    let bell = alarm.bell.clone();
    let mut pulse = tokio::time::interval(PULSE);
    pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let result = loop {
        tokio::select! {
            biased;
            () = stop.gently.cancelled() => break Ok(()),
            _ = hangup.recv() => if let Err(failed) = worker.reload(&mut alarm).await { break Err(failed) },
            () = bell.rung() => if let Err(failed) = worker.tick().await { break Err(failed) },
            _ = pulse.tick() => {
                match alarm.heed_clock().await {
                    Ok(Some(step)) => worker.after_clock_step(step),
                    Ok(None) => {}
                    Err(failed) => break Err(failed),
                }
                worker.rest();
            }
        }
    };
    worker.end();
    alarm.end().await;
    tracing::info!("stopped");
    result
}

/// A large warehouse takes long to bring to a new schema: systemd is told to wait for it, and a
/// stop does not.
async fn unless_stopped<T>(stop: &Stop, work: impl Future<Output = T>) -> Option<T> {
    let begun = Instant::now();
    let mut pulse = tokio::time::interval(PULSE);
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Some(done),
            () = stop.at_once.cancelled() => {
                tracing::warn!("stopped while the warehouse was being opened; the next start begins again");
                return None;
            }
            _ = pulse.tick() => if begun.elapsed() < DISK_PATIENCE { systemd::still_starting() },
        }
    }
}

/// What is found at the start.
struct Begun {
    missed: bool,
    last_good_end: Option<Timestamp>,
    identity: Option<(u64, u64)>,
}

impl Begun {
    /// A warehouse that cannot be used is told at once, and not at the first tick.
    async fn look(place: &Place, schedule: &Schedule) -> anyhow::Result<Self> {
        let _lock = match Lock::take(&place.path, LockFor::Writing) {
            Ok(lock) => lock,
            // A `sync` under way; the first tick looks again.
            Err(OpenFailed::InUse { .. }) => {
                return Ok(Self { missed: true, last_good_end: None, identity: None });
            }
            Err(failed) => return Err(failed.into()),
        };
        let opened_at = place.clone();
        let warehouse = spawn_blocking(move || Warehouse::open(&opened_at, OtherServer::Refuse)).await??;
        let (last, last_good_end) = warehouse
            .write(|connection| {
                Ok((checkpoint::last_cycle(connection)?, checkpoint::last_good_cycle(connection)?))
            })
            .await?;
        spawn_blocking(move || drop(warehouse)).await?;
        let now = clock::now();
        let missed = last.is_none_or(|last| missed_since(schedule, last, now));
        // One that lies ahead was noted by a clock that was wrong, and speaks for no longer than now.
        let last_good_end = last_good_end.map(|end| end.min(now));
        Ok(Self { missed, last_good_end, identity: open::identity(&place.path) })
    }
}

/// Has a tick passed since the last cycle began, while nobody was running?
fn missed_since(schedule: &Schedule, last: Timestamp, now: Timestamp) -> bool {
    // A cycle that lies ahead was noted by a clock that was wrong.
    last > now || schedule.next_after(last).is_none_or(|next| next <= now)
}

//! The daemon: a cycle when one is due, one at a time, until it is asked to stop.
//!
//! tokio-cron-scheduler is the alarm clock and nothing more: its job only wakes the one task
//! that owns the cycles, so that ticks during a cycle cannot pile up.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio_cron_scheduler::Job;
use tokio_cron_scheduler::JobScheduler;

use crate::clock;
use crate::cycle;
use crate::cycle::Progress;
use crate::cycle::Summary;
use crate::cycle::Wishes;
use crate::healthex::client::Api;
use crate::plan::Timestamp;
use crate::roster;
use crate::roster::Roster;
use crate::settings;
use crate::settings::Environment;
use crate::settings::Schedule;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::warehouse::checkpoint;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::lock::Lock;
use crate::warehouse::lock::LockFor;
use crate::warehouse::open;
use crate::warehouse::open::OtherServer;
use crate::warehouse::open::Place;
use crate::warehouse::writer::Warehouse;

pub struct Daemon {
    pub settings: Arc<Settings>,
    pub roster: Roster,
    pub api: Arc<Api>,
    pub place: Place,
    pub config: Option<PathBuf>,
    pub environment: Environment,
}

/// Wakes the one task that owns the cycles.
#[derive(Default)]
struct Alarm {
    due: Notify,
    in_cycle: AtomicBool,
    skipped: AtomicU64,
}

impl Alarm {
    fn ring(&self) {
        if self.in_cycle.load(Ordering::Relaxed) {
            self.skipped.fetch_add(1, Ordering::Relaxed);
        } else {
            self.due.notify_one();
        }
    }
}

pub async fn run(mut daemon: Daemon) -> anyhow::Result<()> {
    open::prepare(&daemon.place.path)?;
    let _only_daemon = Lock::take(&daemon.place.path, LockFor::Daemon)?;
    // A warehouse that cannot be used is told at once, and not at the first tick.
    let missed = match Lock::take(&daemon.place.path, LockFor::Writing) {
        Ok(_writing) => {
            let warehouse = Warehouse::open(&daemon.place, OtherServer::Refuse)?;
            missed_a_cycle(&warehouse, &daemon.settings.sync.schedule).await?
        }
        Err(_) => true,
    };
    let stop = Stop::on_signals()?;
    let mut reload = signal(SignalKind::hangup())?;
    let alarm = Arc::new(Alarm::default());
    let mut scheduler = set_alarm(&daemon.settings.sync.schedule, &alarm).await?;
    tracing::info!(
        patients = daemon.roster.patients.len(),
        "running; the schedule is {:?}",
        daemon.settings.sync.schedule
    );
    if missed {
        alarm.due.notify_one();
    }
    loop {
        tokio::select! {
            biased;
            () = stop.gently.cancelled() => break,
            _ = reload.recv() => reload_settings(&mut daemon, &alarm, &mut scheduler).await?,
            () = alarm.due.notified() => {
                alarm.in_cycle.store(true, Ordering::Relaxed);
                cycle_when_free(&mut daemon, &stop).await?;
                alarm.in_cycle.store(false, Ordering::Relaxed);
                match alarm.skipped.swap(0, Ordering::Relaxed) {
                    0 => {}
                    skipped => tracing::warn!(skipped, "{skipped} ticks of the schedule passed during the cycle"),
                }
            }
        }
    }
    if let Err(failed) = scheduler.shutdown().await {
        tracing::debug!("the scheduler did not stop cleanly: {failed}");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Has a tick passed since the last cycle began, while nobody was running?
async fn missed_a_cycle(warehouse: &Warehouse, schedule: &Schedule) -> anyhow::Result<bool> {
    let last: Option<Timestamp> = warehouse.write(checkpoint::last_cycle).await?;
    Ok(last.is_none_or(|last| schedule.next_after(last).is_none_or(|next| next <= clock::now())))
}

async fn set_alarm(schedule: &Schedule, alarm: &Arc<Alarm>) -> anyhow::Result<JobScheduler> {
    let scheduler = JobScheduler::new().await.context("the scheduler cannot be started")?;
    let ring = alarm.clone();
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

/// Another `sync` or `purge` may hold the warehouse: then this tick is left out.
async fn cycle_when_free(daemon: &mut Daemon, stop: &Stop) -> anyhow::Result<()> {
    match roster::load(&daemon.settings.roster) {
        Ok(roster) => daemon.roster = roster,
        Err(complaints) => {
            let complaints = complaints.join("; ");
            tracing::error!("the roster cannot be used, and the last good one is kept: {complaints}");
        }
    }
    let _lock = match Lock::take(&daemon.place.path, LockFor::Writing) {
        Ok(lock) => lock,
        Err(OpenFailed::InUse { pid, .. }) => {
            tracing::warn!("the warehouse is in use (pid {pid}): this cycle is left out");
            return Ok(());
        }
        Err(failed) => return Err(failed.into()),
    };
    let warehouse = match Warehouse::open(&daemon.place, OtherServer::Refuse) {
        Ok(warehouse) => Arc::new(warehouse),
        // A full disk passes; what does not is told with exit status 5.
        Err(OpenFailed::Unusable { source, .. }) => {
            tracing::error!("the warehouse cannot be opened: {source}; trying again at the next tick");
            return Ok(());
        }
        Err(failed) => return Err(failed.into()),
    };
    let (progress, _) = watch::channel(Progress::default());
    let means = cycle::Means {
        settings: daemon.settings.clone(),
        api: daemon.api.clone(),
        warehouse,
        stop: stop.clone(),
        progress,
    };
    let wishes = Wishes { patient: true, ..Wishes::default() };
    match cycle::run(&means, &daemon.roster, &wishes).await {
        Ok(summary) => report(&summary),
        Err(not_begun) => tracing::error!("no cycle: {not_begun}"),
    }
    Ok(())
}

/// One line for a cycle.
fn report(summary: &Summary) {
    let patients = summary.patients;
    let tally = summary.resources;
    let took = Duration::from_millis(u64::try_from(summary.took.as_millis()).unwrap_or(u64::MAX));
    tracing::info!(
        ok = patients.ok,
        revoked = patients.revoked,
        held = patients.held,
        not_found = patients.not_found,
        failed = patients.failed,
        skipped = patients.skipped,
        inserted = tally.inserted,
        updated = tally.updated,
        deleted = tally.deleted,
        quarantined = tally.quarantined,
        requests = summary.requests,
        "cycle of {} patients took {took:?}",
        patients.total
    );
    if let Some(ended) = &summary.ended_early {
        tracing::error!("the cycle ended early: {ended}");
    }
}

/// SIGHUP: settings and rosters are read again, or kept as they are if they are broken.
async fn reload_settings(
    daemon: &mut Daemon,
    alarm: &Arc<Alarm>,
    scheduler: &mut JobScheduler,
) -> anyhow::Result<()> {
    let settings = match settings::load(daemon.config.as_deref(), &daemon.environment) {
        Ok(settings) => settings,
        Err(complaints) => {
            tracing::error!(
                "the configuration cannot be used, and the old one is kept: {}",
                complaints.list.join("; ")
            );
            return Ok(());
        }
    };
    let fixed =
        settings.warehouse.path != daemon.place.path || settings.api.base_url != daemon.settings.api.base_url;
    if fixed {
        tracing::error!(
            "warehouse.path and api.base_url change with a restart only; the old configuration is kept"
        );
        return Ok(());
    }
    match settings.credentials(&daemon.environment) {
        Ok(credentials) => {
            daemon.api = Arc::new(Api::new(settings.api.base_url.clone(), credentials, settings.api.limits)?);
        }
        Err(complaints) => tracing::error!(
            "the credentials cannot be read, and the old ones are kept: {}",
            complaints.join("; ")
        ),
    }
    if settings.sync.schedule != daemon.settings.sync.schedule {
        if let Err(failed) = scheduler.shutdown().await {
            tracing::debug!("the old schedule did not stop cleanly: {failed}");
        }
        *scheduler = set_alarm(&settings.sync.schedule, alarm).await?;
    }
    daemon.settings = Arc::new(settings);
    tracing::info!("the configuration was read again; log settings change with a restart only");
    Ok(())
}

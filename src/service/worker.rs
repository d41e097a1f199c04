//! The one task that owns the cycles.
//!
//! Promise: cycles never overlap, whatever prevents one is reported and tried again at the next
//! tick, and after a signal it is done within ten seconds, even if a VACUUM is not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::health::CycleVerdict;
use super::liveness::{Activity, Liveness};
use super::notifier::Notifier;
use super::problems::{Alert, AlertRules, AlertState, Occasion, Problem};
use super::scheduler::Trigger;
use super::status::Status;
use super::systemd::StatusLine;
use super::{Daemon, POLL_INTERVAL, StartupState, facts, health, problems, systemd};
use crate::clock::Instant;
use crate::cycle::{Cycle, EndedEarly, Summary, SyncRequest};
use crate::healthex::client::Api;
use crate::plan::{Timestamp, stamp};
use crate::stop::Stop;
use crate::time::TimeDelta;
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::place::{Close, FileIdentity, OtherServer};
use crate::warehouse::{ServiceLock, Warehouse, identity};
use crate::{clock, machine, roster};

pub(super) struct Worker {
    pub(super) daemon: Daemon,
    /// `None` until credentials are found.
    pub(super) api: Option<Arc<Api>>,
    pub(super) status: Arc<Status>,
    pub(super) status_line: StatusLine,
    pub(super) alert_state: AlertState,
    notifier: Notifier,
    trigger: Arc<Trigger>,
    pub(super) stop: Stop,
    /// Of the warehouse's file, once it has been opened.
    identity: Option<FileIdentity>,
    only_daemon: Option<ServiceLock>,
    /// What keeps the warehouse from being used, while it is waited for.
    waiting: Option<WarehouseWait>,
    /// The credentials were refused in the last cycle; their files may have been corrected since.
    pub(super) credentials_doubted: bool,
    /// It could be read. Whether a cycle can be run by it is another matter.
    roster_is_good: bool,
    pub(super) outage: OutageBackoff,
    pub(super) liveness: Liveness,
}

/// The growing pauses towards a server that answers nobody.
#[derive(Default)]
pub(super) struct OutageBackoff {
    /// Cycles in a row without an answer.
    rounds: u32,
    until: Option<Instant>,
    /// Answers of this cycle that show a server which works.
    pub(super) answers: u64,
}

/// The growing pauses between two looks at a warehouse that cannot be used for now.
struct WarehouseWait {
    why: String,
    tries: u32,
    until: Instant,
}

/// The first pause between two such looks; the longest is eight times that.
const WAREHOUSE_RETRY: Duration = Duration::from_secs(5);

impl Worker {
    pub(super) fn new(
        daemon: Daemon,
        status: Arc<Status>,
        trigger: Arc<Trigger>,
        stop: Stop,
        found: StartupState,
    ) -> anyhow::Result<Self> {
        let mut worker = Self {
            notifier: Notifier::start()?,
            daemon,
            api: None,
            status,
            status_line: StatusLine::default(),
            alert_state: AlertState::default(),
            trigger,
            stop,
            identity: found.identity,
            only_daemon: found.only_daemon,
            waiting: None,
            credentials_doubted: false,
            outage: OutageBackoff::default(),
            roster_is_good: true,
            liveness: Liveness::default(),
        };
        worker.load_credentials();
        systemd::ready();
        if let Some(why) = found.waits_for {
            worker.wait_for_warehouse(&why);
        }
        worker.idle();
        if let Some(interval) = systemd::watchdog_interval().filter(|interval| *interval < POLL_INTERVAL * 3)
        {
            tracing::warn!(
                "WatchdogSec is {interval:?}; the watchdog is fed once a second, so 10s is the least that makes sense"
            );
        }
        Ok(worker)
    }

    /// Feeds the watchdog between cycles, shows the status, and has another look at a warehouse that is
    /// waited for. To be called once a second.
    pub(super) fn idle(&mut self) {
        systemd::feed_watchdog();
        if let Some(waiting) = self.waiting.as_mut().filter(|waiting| waiting.until <= Instant::now()) {
            waiting.until = Instant::now() + health::pause_after(waiting.tries, WAREHOUSE_RETRY, None);
            self.trigger.fire();
        }
        let now = clock::now();
        let next = self.trigger.next_tick(now);
        let mut state = self.status.state();
        // "every 15m" counts from the last tick and not from now.
        if state.next_tick.is_none_or(|known| known <= now) {
            state.next_tick = next;
        }
        let last = state.cycles.back().map_or_else(
            || "no cycle yet".to_owned(),
            |cycle| {
                let patients = cycle.patients;
                format!(
                    "last cycle at {}: {} ok, {} failed, {} held",
                    stamp(cycle.started_at),
                    patients.ok,
                    patients.failed,
                    patients.held
                )
            },
        );
        let problems = state.problems.len();
        drop(state);
        if let Some(WarehouseWait { why, .. }) = &self.waiting {
            self.status_line.set(format!("waiting for the warehouse: {why}"));
            return;
        }
        let needs =
            if problems == 0 { String::new() } else { format!("; {problems} problems need a person") };
        self.status_line.set(format!("waiting; {last}{needs}"));
    }

    /// Moves what is remembered along with the wall clock. Else, with the clock set back by an hour,
    /// nobody would notice for an hour that no cycle ends well.
    pub(super) fn after_clock_step(&self, step: TimeDelta) {
        let mut state = self.status.state();
        state.started_at += step;
        state.last_good_end = state.last_good_end.map(|end| end + step);
        state.paused_until = state.paused_until.map(|until| until + step);
        state.next_tick = None;
    }

    /// Runs a cycle, unless the server is being left alone.
    pub(super) async fn tick(&mut self) -> anyhow::Result<()> {
        let now = clock::now();
        self.status.state().next_tick = self.trigger.next_tick(now);
        if self.outage.until.is_some_and(|until| Instant::now() < until) {
            self.status.metrics.count_skipped(1);
            return Ok(());
        }
        self.trigger.cycle_begins();
        let result = self.run_cycle().await;
        let skipped = self.trigger.cycle_ends();
        if skipped > 0 {
            self.status.metrics.count_skipped(skipped);
            tracing::warn!(skipped, "{skipped} ticks of the schedule passed during the cycle");
        }
        self.status.state().problems.clone_from(self.alert_state.texts());
        result
    }

    /// Prepares, runs and closes a cycle. Returns only errors that need a restart.
    async fn run_cycle(&mut self) -> anyhow::Result<()> {
        self.reload_roster();
        if self.api.is_none() || self.credentials_doubted {
            self.load_credentials();
        }
        let Some(api) = self.api.clone() else {
            self.status.no_cycle("there are no credentials", clock::now());
            return Ok(());
        };
        let Some(warehouse) = self.open_warehouse().await? else { return Ok(()) };
        let started_at = clock::now();
        self.status.cycle_begins(started_at);
        // While the server is down, the daemon's own pause stands in for those of the patients.
        let waits_after_failures = self.outage.rounds == 0;
        let cycle = Cycle {
            settings: self.daemon.settings.clone(),
            api,
            warehouse: warehouse.clone(),
            stop: self.stop.clone(),
            progress: self.status.progress.clone(),
            request: SyncRequest { waits_after_failures, ..SyncRequest::default() },
            active: Arc::default(),
        };
        let roster = self.daemon.roster.clone();
        self.outage.answers = 0;
        let activity = Activity::Cycle(warehouse.clone());
        let ended = self.supervise(activity, Box::pin(cycle.run(&roster))).await;
        self.count_answers();
        drop(cycle);
        let result = match ended {
            Some(Ok(summary)) => self.after_cycle(&summary, &warehouse).await,
            Some(Err(failed)) => self.after_no_cycle(&failed),
            None => Ok(()),
        };
        self.close(warehouse).await;
        result
    }

    /// Closes the warehouse. That moves the WAL into the file, which takes long after a VACUUM.
    async fn close(&mut self, warehouse: Arc<Warehouse>) {
        if self.stop.at_once.is_cancelled() {
            warehouse.close(Close::Abandon);
            return;
        }
        let closing = machine::aside(move || warehouse.close(Close::Settle));
        // What a stop leaves undone, the next open does.
        self.supervise(Activity::Disk, Box::pin(closing)).await;
    }

    fn after_no_cycle(&mut self, failed: &StoreFailed) -> anyhow::Result<()> {
        if matches!(failed, StoreFailed::Replaced) {
            return Err(StoreFailed::Replaced.into());
        }
        self.wait_for_warehouse(&failed.to_string());
        Ok(())
    }

    /// Tells once what keeps the warehouse from being used, and has another look soon, whatever the
    /// schedule is.
    fn wait_for_warehouse(&mut self, why: &str) {
        let earlier = self.waiting.take();
        let tries = earlier.as_ref().map_or(0, |earlier| earlier.tries) + 1;
        if earlier.is_none_or(|earlier| earlier.why != why) {
            tracing::error!("no cycle: {why}; it is waited for, and tried again within a minute");
            self.status.no_cycle(why, clock::now());
            self.raise(Problem::Warehouse, why);
        } else {
            self.status.metrics.count_skipped(1);
        }
        let until = Instant::now() + health::pause_after(tries, WAREHOUSE_RETRY, None);
        self.waiting = Some(WarehouseWait { why: why.to_owned(), tries, until });
    }

    pub(super) fn reload_roster(&mut self) {
        match roster::load(&self.daemon.settings.roster) {
            Ok(roster) => {
                self.daemon.roster = roster;
                self.roster_is_good = true;
            }
            Err(complaints) => {
                let text = format!(
                    "the roster cannot be used, and the last good one is kept: {}",
                    complaints.join("; ")
                );
                tracing::error!("{text}");
                self.roster_is_good = false;
                self.daemon.roster.is_outdated = true;
                self.raise(Problem::Roster, &text);
            }
        }
    }

    /// Returns `None` where this tick must be skipped: another `sync` or `purge` holds the
    /// warehouse, or the disk is full.
    async fn open_warehouse(&mut self) -> anyhow::Result<Option<Arc<Warehouse>>> {
        let place = self.daemon.place.clone();
        if self.identity.is_some() && identity(&place) != self.identity {
            return Err(StoreFailed::Replaced.into());
        }
        if self.only_daemon.is_none() {
            match ServiceLock::take(&place) {
                Ok(lock) => self.only_daemon = Some(lock),
                Err(failed) => return self.skip_tick(failed).map(|()| None),
            }
        }
        // A WAL that a crash left behind is read through first.
        let opening = machine::aside(move || {
            let warehouse = Warehouse::open(&place, OtherServer::Refuse, clock::now())?;
            Ok((warehouse, identity(&place)))
        });
        let Some(opened) = self.supervise(Activity::Disk, Box::pin(opening)).await else { return Ok(None) };
        match opened.context("opening the warehouse")? {
            Ok((warehouse, identity)) => {
                self.identity = identity;
                Ok(Some(Arc::new(warehouse)))
            }
            Err(OpenFailed::InUse { pid, .. }) => {
                tracing::warn!("the warehouse is in use (pid {pid}): this cycle is left out");
                self.status.metrics.count_skipped(1);
                Ok(None)
            }
            Err(failed) => self.skip_tick(failed).map(|()| None),
        }
    }

    /// Waits for the end of a failure that may pass, such as a full disk. Returns any other, which
    /// ends the daemon with exit status 5.
    fn skip_tick(&mut self, failed: OpenFailed) -> anyhow::Result<()> {
        // What was used before is not given up for any failure to read it.
        let was_used = self.identity.is_some();
        let is_unread = matches!(failed, OpenFailed::Unusable { .. } | OpenFailed::Io { .. });
        if !(failed.may_pass() || was_used && is_unread) {
            return Err(failed.into());
        }
        self.wait_for_warehouse(&failed.to_string());
        Ok(())
    }

    async fn after_cycle(&mut self, summary: &Summary, warehouse: &Warehouse) -> anyhow::Result<()> {
        report(summary);
        let now = clock::now();
        if !matches!(summary.ended_early, Some(EndedEarly::Warehouse(_))) {
            self.waiting = None;
        }
        let verdict = self.status.cycle_ends(summary, now);
        for alert in problems::purge_alerts(&summary.purged) {
            self.send(alert);
        }
        match &summary.ended_early {
            Some(EndedEarly::Warehouse(StoreFailed::Replaced)) => return Err(StoreFailed::Replaced.into()),
            Some(EndedEarly::Warehouse(failed)) => {
                self.raise(Problem::Warehouse, &failed.to_string());
                return Ok(());
            }
            Some(EndedEarly::CredentialsRefused(why)) => {
                self.credentials_doubted = true;
                self.raise(Problem::Credentials, why);
            }
            _ => {
                self.resolve(Problem::Warehouse);
                if summary.record_problems.is_empty() {
                    self.resolve(Problem::Consents);
                } else {
                    self.raise(Problem::Consents, &summary.record_problems.join("; "));
                }
                match &summary.roster_shrunk {
                    Some(shrunk) => self.raise(Problem::Roster, &shrunk.to_string()),
                    None if self.roster_is_good => self.resolve(Problem::Roster),
                    None => {}
                }
                if 0 < self.outage.answers {
                    self.credentials_doubted = false;
                    self.resolve(Problem::Credentials);
                }
            }
        }
        self.update_outage(summary, now);
        if verdict == CycleVerdict::Interrupted {
            return Ok(());
        }
        self.update_problems(warehouse, now).await;
        self.tell_expiring(warehouse, now).await;
        if summary.all_is_well() && summary.scrub_waits.is_none() {
            self.notifier.heartbeat(&self.daemon.settings.alert);
        }
        Ok(())
    }

    /// Begins, prolongs or ends the pause towards a server that answers nobody.
    fn update_outage(&mut self, summary: &Summary, now: Timestamp) {
        let requested = match &summary.ended_early {
            Some(EndedEarly::ToldToWait(wait)) => Some(*wait),
            _ => None,
        };
        let all_failed = summary.patients.failed > 0 && self.outage.answers == 0;
        let is_outage = match &summary.ended_early {
            Some(EndedEarly::CredentialsRefused(_) | EndedEarly::Stopped | EndedEarly::Warehouse(_)) => false,
            Some(EndedEarly::ServerDown | EndedEarly::ToldToWait(_)) => true,
            None => all_failed,
        };
        if !is_outage {
            if self.outage.rounds > 0 && self.outage.answers > 0 {
                tracing::info!("HealthEx answers again");
                self.outage.rounds = 0;
            }
            self.outage.until = None;
            self.status.state().paused_until = None;
            return;
        }
        self.outage.rounds += 1;
        let period = self.daemon.settings.sync.schedule.period(now);
        let pause = health::pause_after(self.outage.rounds, period, requested);
        // The tick at the pause's end is not missed for a few milliseconds.
        self.outage.until = Some(Instant::now() + pause.saturating_sub(POLL_INTERVAL / 2));
        let until = now + TimeDelta::from_std(pause).unwrap_or_default();
        self.status.state().paused_until = Some(until);
        tracing::warn!(
            rounds = self.outage.rounds,
            "HealthEx answers nobody: it is left alone until {}",
            stamp(until)
        );
    }

    /// Tells once a day whose consent runs out soon.
    async fn tell_expiring(&self, warehouse: &Warehouse, now: Timestamp) {
        let warning = TimeDelta::from_std(self.daemon.settings.roster.consent_warning).unwrap_or_default();
        match warehouse.tell_expiring(now + warning, problems::NAMES_MAX, now).await {
            Ok(Some(expiring)) => self.send(problems::expiring_alert(&expiring)),
            Ok(None) => {}
            Err(failed) => tracing::error!("whose consent runs out cannot be told: {failed}"),
        }
    }

    /// Notes a good cycle in the warehouse, and reads from it what needs a person.
    async fn update_problems(&mut self, warehouse: &Warehouse, now: Timestamp) {
        let ended_well = self.status.state().last_good_end == Some(now);
        let facts =
            facts::gather(warehouse, &self.daemon.roster, &self.daemon.settings, ended_well.then_some(now))
                .await;
        let facts = match facts {
            Ok(facts) => facts,
            Err(failed) => {
                tracing::error!("what needs a person cannot be told: {failed}");
                return;
            }
        };
        let started_at = self.status.state().started_at;
        let stale_after = self.daemon.settings.alert.stale_after;
        for alert in self.alert_state.update(&facts, AlertRules { stale_after, started_at, now }) {
            self.send(alert);
        }
    }

    /// Begins a problem of the whole service.
    pub(super) fn raise(&mut self, problem: Problem, text: &str) {
        if let Some(alert) = self.alert_state.raise(problem, text) {
            self.send(alert);
        }
        self.status.state().problems.clone_from(self.alert_state.texts());
    }

    /// Ends a problem of the whole service, if there was one.
    pub(super) fn resolve(&mut self, problem: Problem) {
        if let Some(alert) = self.alert_state.resolve(problem) {
            self.send(alert);
        }
        self.status.state().problems.clone_from(self.alert_state.texts());
    }

    fn send(&self, alert: Alert) {
        let problem = alert.occasion.kind();
        match alert.occasion {
            Occasion::Over(_) => tracing::info!(problem, "over: {}", alert.text),
            Occasion::Began(Problem::Stale | Problem::Scrub) => tracing::error!(problem, "{}", alert.text),
            // These have been logged where they were found.
            Occasion::Began(_) | Occasion::Purge => {}
            Occasion::Expiring => tracing::warn!("{}", alert.text),
        }
        self.notifier.alert(&self.daemon.settings.alert, alert);
    }

    pub(super) fn end(&mut self) {
        self.status_line.stopping();
    }
}

/// Logs one line for a cycle.
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

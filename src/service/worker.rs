//! The one task that owns the cycles.
//!
//! Promise: cycles never overlap, whatever prevents one is reported and tried again at the next
//! tick, and after a signal it is done within ten seconds, even if a VACUUM is not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use tokio::sync::mpsc;

use super::alert_state::{AlertRules, AlertState, Facts};
use super::liveness::{Activity, Liveness};
use super::metrics::GoodAnswers;
use super::notifier::Notifier;
use super::problems::{Alert, Occasion, Problem, purge_alert};
use super::scheduler::{Scheduler, Trigger};
use super::status::{CycleOutcome, Status};
use super::systemd::StatusLine;
use super::told_cycle::{counts, log_cycle};
use super::{Daemon, POLL_INTERVAL, Signals, StartupState, facts, health, systemd};
use crate::clock::Instant;
use crate::cycle::{Cycle, EndedEarly, Share, Summary, SyncRequest};
use crate::healthex::client::Api;
use crate::plan::{Timestamp, stamp};
use crate::settings::Credentials;
use crate::stop::Stop;
use crate::time::TimeDelta;
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::place::{Close, FileIdentity, Location};
use crate::warehouse::service::{RunReport, ServiceNote};
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
    pub(super) scheduler: Scheduler,
    trigger: Arc<Trigger>,
    /// Asked to read the configuration again.
    pub(super) hangups: mpsc::Receiver<()>,
    pub(super) stop: Stop,
    pub(super) is_in_cycle: bool,
    /// What other processes were last told.
    pub(super) told: Option<RunReport>,
    /// Of the warehouse's file, once it has been opened.
    identity: Option<FileIdentity>,
    pub(super) only_daemon: Option<ServiceLock>,
    /// What keeps the warehouse from being used, while it is waited for.
    waiting: Option<WarehouseWait>,
    pub(super) trust: CredentialTrust,
    /// Whether the next cycle is wanted beside the schedule.
    asked_for: bool,
    /// Those that were refused since the last answer, so that none is tried again and again.
    pub(super) refused: Vec<Credentials>,
    /// It could be read. Whether a cycle can be run by it is another matter.
    pub(super) roster_is_good: bool,
    pub(super) outage: OutageBackoff,
    pub(super) liveness: Liveness,
}

/// Whether the credentials in use are to be read again before the next cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CredentialTrust {
    Trusted,
    /// They were refused in the last cycle; their files may have been corrected since.
    Doubted,
    /// They may have changed while a cycle was under way.
    Outdated,
}

/// The growing pauses towards a server that answers nobody.
#[derive(Default)]
pub(super) struct OutageBackoff {
    /// Cycles in a row without an answer.
    rounds: u32,
    until: Option<Instant>,
    /// Answers of this cycle that show a server which works.
    pub(super) answers: GoodAnswers,
}

/// The growing pauses between two looks at a warehouse that cannot be used for now.
struct WarehouseWait {
    why: String,
    tries: u32,
    since: Instant,
    /// Whether a person was told.
    is_problem: bool,
    until: Instant,
}

/// So long a server may be away, as for a restart, before a person is told.
const SERVER_AWAY_MAX: Duration = Duration::from_mins(2);

/// The first pause between two such looks; the longest is eight times that.
const WAREHOUSE_RETRY: Duration = Duration::from_secs(5);

impl Worker {
    pub(super) fn new(
        daemon: Daemon,
        status: Arc<Status>,
        scheduler: Scheduler,
        signals: Signals,
        found: StartupState,
    ) -> anyhow::Result<Self> {
        let Signals { stop, hangups } = signals;
        let alert_state = AlertState::recall(&found.memory.problems);
        {
            let mut state = status.state();
            state.last_well_end = found.last_well_end;
            state.cycles = found.memory.cycles.into();
            state.problems = alert_state.shown();
            state.needs_look = found.needs_look;
        }
        let mut worker = Self {
            notifier: Notifier::start(&daemon.settings.api.network)?,
            daemon,
            api: None,
            status,
            status_line: StatusLine::default(),
            alert_state,
            trigger: scheduler.trigger.clone(),
            scheduler,
            hangups,
            stop,
            is_in_cycle: false,
            told: None,
            identity: found.identity,
            only_daemon: found.only_daemon,
            waiting: None,
            trust: CredentialTrust::Trusted,
            asked_for: false,
            refused: Vec::new(),
            outage: OutageBackoff::default(),
            roster_is_good: true,
            liveness: Liveness::default(),
        };
        // Both were read anew for this start.
        worker.resolve(Problem::Settings);
        worker.resolve(Problem::Roster);
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
        self.feed_watchdog();
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
            |cycle| format!("last cycle at {}: {}", stamp(cycle.started_at), counts(cycle.patients)),
        );
        let problems = state.problems.len();
        state.waits_for = self.waiting.as_ref().map(|waiting| waiting.why.clone());
        drop(state);
        let reminder = self.daemon.settings.alert.reminder;
        for alert in self.alert_state.reminders(reminder, now) {
            self.send(&alert);
        }
        self.tell_run_report();
        if let Some(WarehouseWait { why, .. }) = &self.waiting {
            self.status_line.set(format!("waiting for the warehouse: {why}"));
            return;
        }
        let needs = match problems {
            0 => String::new(),
            1 => "; 1 problem needs a person".to_owned(),
            many => format!("; {many} problems need a person"),
        };
        self.status_line.set(format!("waiting; {last}{needs}"));
    }

    /// Moves what is remembered along with the wall clock. Else, with the clock set back by an hour,
    /// nobody would notice for an hour that no cycle ends well.
    fn after_clock_step(&self, step: TimeDelta) {
        let mut state = self.status.state();
        state.started_at += step;
        state.last_well_end = state.last_well_end.map(|end| end + step);
        state.paused_until = state.paused_until.map(|until| until + step);
        state.next_tick = None;
    }

    /// Runs a cycle, unless the server is being left alone.
    pub(super) async fn tick(&mut self) -> anyhow::Result<()> {
        let now = clock::now();
        self.status.state().next_tick = self.trigger.next_tick(now);
        let is_quiet = self.trigger.quiet_until(now).is_some();
        if is_quiet || self.outage.until.is_some_and(|until| Instant::now() < until) {
            self.status.metrics.count_skipped(1);
            return Ok(());
        }
        self.trigger.cycle_begins();
        self.is_in_cycle = true;
        let result = self.run_cycle().await;
        self.is_in_cycle = false;
        let skipped = self.trigger.cycle_ends();
        if skipped > 0 {
            self.status.metrics.count_skipped(skipped);
            tracing::warn!(skipped, "{skipped} ticks of the schedule passed during the cycle");
        }
        self.show_problems();
        result
    }

    /// Follows the wall clock, which may have been set.
    pub(super) async fn follow_clock(&mut self) -> anyhow::Result<()> {
        if let Some(step) = self.scheduler.follow_clock().await? {
            self.after_clock_step(step);
        }
        Ok(())
    }

    /// Prepares, runs and closes a cycle. Returns only errors that need a restart.
    async fn run_cycle(&mut self) -> anyhow::Result<()> {
        self.reload_roster();
        if self.api.is_none() || self.trust != CredentialTrust::Trusted {
            self.load_credentials();
        }
        let Some(api) = self.api.clone() else {
            self.status.no_cycle("there are no credentials", clock::now());
            return Ok(());
        };
        let Some(warehouse) = self.open_warehouse().await? else { return Ok(()) };
        let started_at = clock::now();
        // One that is asked for beside the schedule is nobody else's.
        let is_asked_for = std::mem::take(&mut self.asked_for);
        let tick = self.daemon.settings.sync.schedule.shared_tick(started_at).filter(|_| !is_asked_for);
        self.status.cycle_begins(started_at);
        // While the server is down, the daemon's own pause stands in for those of the patients.
        let waits_after_failures = self.outage.rounds == 0;
        let cycle = Cycle {
            settings: self.daemon.settings.clone(),
            api,
            warehouse: warehouse.clone(),
            stop: self.stop.clone(),
            progress: self.status.progress.clone(),
            request: SyncRequest { waits_after_failures, tick, ..SyncRequest::default() },
            active: Arc::default(),
            names: Arc::default(),
        };
        let roster = self.daemon.roster.clone();
        self.outage.answers = GoodAnswers::default();
        let activity = Activity::Cycle(warehouse.clone());
        let ended = self.supervise(activity, Box::pin(cycle.run(&roster))).await;
        self.count_answers();
        self.count_costs(&warehouse);
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
    /// schedule is. A server that is away is a problem once it has been for a while.
    fn wait_for_warehouse(&mut self, why: &str) {
        let now = Instant::now();
        let earlier = self.waiting.take();
        let (tries, since) = earlier.as_ref().map_or((0, now), |earlier| (earlier.tries, earlier.since));
        let patience = match self.daemon.place.location {
            Location::File(_) => Duration::ZERO,
            Location::Server(_) => SERVER_AWAY_MAX,
        };
        let is_problem = since + patience <= now;
        let is_told = |earlier: &WarehouseWait| earlier.why == why && earlier.is_problem == is_problem;
        match earlier {
            Some(earlier) if is_told(&earlier) => self.status.metrics.count_skipped(1),
            _ => {
                let text = format!("no cycle: {why}; it is waited for, and tried again within a minute");
                self.status.no_cycle(why, clock::now());
                if is_problem {
                    tracing::error!("{text}");
                    self.raise(Problem::Warehouse, why);
                } else {
                    tracing::warn!("{text}");
                }
            }
        }
        let tries = tries + 1;
        let until = now + health::pause_after(tries, WAREHOUSE_RETRY, None);
        self.waiting = Some(WarehouseWait { why: why.to_owned(), tries, since, is_problem, until });
    }

    /// Reads the roster again. Returns why it cannot be used, if so.
    pub(super) fn reload_roster(&mut self) -> Option<String> {
        match roster::load(&self.daemon.settings.roster) {
            Ok(roster) => {
                let is_told = |note: &String| self.daemon.roster.notes.contains(note);
                for note in roster.notes.iter().filter(|note| !is_told(note)) {
                    tracing::warn!("the roster: {note}");
                }
                self.daemon.roster = roster;
                if !std::mem::replace(&mut self.roster_is_good, true) {
                    self.resolve(Problem::Roster);
                }
                None
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
                Some(text)
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
            let warehouse = Warehouse::open_for_cycle(&place, clock::now())?;
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
    pub(super) fn skip_tick(&mut self, failed: OpenFailed) -> anyhow::Result<()> {
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
        let now = clock::now();
        // Those, too, that this machine's ledger knew and the warehouse did not, whoever led the cycle.
        if let Some(alert) = purge_alert(&summary.purged, now) {
            self.send(&alert);
        }
        match summary.share {
            Share::Whole => log_cycle(summary),
            Share::Part => {
                log_cycle(summary);
                return self.after_part(summary, warehouse, now).await;
            }
            Share::HasBeenRun => {
                tracing::debug!("another worker has run the cycle of this tick");
                return self.learn_of_others(warehouse).await;
            }
        }
        self.resolve_or_raise(summary);
        let facts = self.facts(warehouse, now).await;
        if let Some(facts) = &facts {
            self.update_problems(facts, summary, now);
        }
        let needs_look = facts.map(|facts| facts.needs_look).unwrap_or_default();
        let outcome = self.status.cycle_ends(summary, needs_look, now);
        match &summary.ended_early {
            Some(EndedEarly::Warehouse(StoreFailed::Replaced)) => return Err(StoreFailed::Replaced.into()),
            Some(EndedEarly::Warehouse(_)) => return Ok(()),
            _ => self.update_outage(summary, now),
        }
        if !matches!(summary.ended_early, Some(EndedEarly::Stopped)) {
            self.tell_expiring(warehouse, now).await;
        }
        self.tell_failover(warehouse).await;
        if outcome.is_wholly_good {
            self.notifier.heartbeat(&self.daemon.settings.alert);
        }
        self.remember(warehouse, &outcome, now).await;
        Ok(())
    }

    /// Takes in what the cycle has shown of warehouse, roster and credentials.
    pub(super) fn resolve_or_raise(&mut self, summary: &Summary) {
        match &summary.ended_early {
            Some(EndedEarly::Warehouse(failed)) => {
                return self.raise(Problem::Warehouse, &failed.to_string());
            }
            _ => self.waiting = None,
        }
        if let Some(EndedEarly::CredentialsRefused(why)) = &summary.ended_early {
            self.raise(Problem::Credentials, why);
            self.trust = CredentialTrust::Doubted;
            if self.load_replaced_credentials() {
                // Whoever has replaced them need not wait for the next tick.
                self.asked_for = true;
                self.trigger.fire_after_cycle();
            }
            return;
        }
        self.resolve(Problem::Warehouse);
        if summary.record_problems.is_empty() {
            self.resolve(Problem::Consents);
        } else {
            self.raise(Problem::Consents, &summary.record_problems.join("; "));
        }
        self.judge_roster(summary);
        let GoodAnswers { about_patients, of_records } = self.outage.answers;
        if about_patients + of_records > 0 {
            if self.trust == CredentialTrust::Doubted {
                self.trust = CredentialTrust::Trusted;
            }
            self.refused.clear();
            self.resolve(Problem::Credentials);
        }
    }

    /// Has the warehouse keep what is to be known after a restart.
    async fn remember(&self, warehouse: &Warehouse, outcome: &CycleOutcome, now: Timestamp) {
        let note = ServiceNote {
            well_end: outcome.ended_well.then_some(now),
            cycles: self.status.state().unsaved(),
            problems: self.alert_state.known(),
        };
        match warehouse.remember(note).await {
            Ok(()) => self.status.state().unsaved_cycles = 0,
            Err(failed) => tracing::error!("what the service is to remember was not kept: {failed}"),
        }
    }

    /// Begins, prolongs or ends the pause towards a server that answers nobody.
    pub(super) fn update_outage(&mut self, summary: &Summary, now: Timestamp) {
        let requested = match &summary.ended_early {
            Some(EndedEarly::ToldToWait(wait)) => Some(*wait),
            _ => None,
        };
        let all_failed = summary.patients.failed > 0 && self.outage.answers.about_patients == 0;
        let is_outage = match &summary.ended_early {
            Some(EndedEarly::CredentialsRefused(_) | EndedEarly::Stopped | EndedEarly::Warehouse(_)) => false,
            Some(EndedEarly::ServerDown(_) | EndedEarly::ToldToWait(_)) => true,
            None => all_failed,
        };
        if !is_outage {
            if self.outage.rounds > 0 && self.outage.answers.about_patients > 0 {
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

    /// Reads from the warehouse what needs a person.
    async fn facts(&self, warehouse: &Warehouse, now: Timestamp) -> Option<Facts> {
        let Daemon { roster, settings, .. } = &self.daemon;
        match facts::gather(warehouse, roster, settings, self.alert_rules(now)).await {
            Ok(facts) => Some(facts),
            Err(failed) => {
                tracing::error!("what needs a person cannot be told: {failed}");
                None
            }
        }
    }

    fn alert_rules(&self, now: Timestamp) -> AlertRules {
        let started_at = self.status.state().started_at;
        AlertRules { stale_after: self.daemon.settings.alert.stale_after, started_at, now }
    }

    fn update_problems(&mut self, facts: &Facts, summary: &Summary, now: Timestamp) {
        if matches!(summary.ended_early, Some(EndedEarly::Stopped | EndedEarly::Warehouse(_))) {
            return;
        }
        for alert in self.alert_state.update(facts, self.alert_rules(now)) {
            self.send(&alert);
        }
        self.show_problems();
    }

    fn show_problems(&self) {
        self.status.state().problems = self.alert_state.shown();
    }

    /// Begins a problem of the whole service.
    pub(super) fn raise(&mut self, problem: Problem, text: &str) {
        if let Some(alert) = self.alert_state.raise(problem, text, clock::now()) {
            self.send(&alert);
        }
        self.show_problems();
    }

    /// Ends a problem of the whole service, if there was one.
    pub(super) fn resolve(&mut self, problem: Problem) {
        if let Some(alert) = self.alert_state.resolve(problem) {
            self.send(&alert);
        }
        self.show_problems();
    }

    pub(super) fn send(&self, alert: &Alert) {
        let problem = alert.occasion.kind();
        match alert.occasion {
            Occasion::Over(_) => tracing::info!(problem, "over: {}", alert.text),
            Occasion::Reminder(_) => tracing::error!(problem, "still: {}", alert.text),
            Occasion::Began(Problem::Stale | Problem::Scrub) => tracing::error!(problem, "{}", alert.text),
            // These have been logged where they were found.
            Occasion::Began(_) | Occasion::Purge | Occasion::Failover | Occasion::Test => {}
            Occasion::Expiring => tracing::warn!("{}", alert.text),
        }
        self.notifier.alert(&self.daemon.settings.alert, alert, clock::now());
    }

    pub(super) async fn end(&mut self) {
        self.status_line.stopping();
        self.scheduler.shut_down().await;
    }
}

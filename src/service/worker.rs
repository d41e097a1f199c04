//! The one task that owns the cycles.
//!
//! Promise: cycles never overlap, whatever stands in the way of one is told and tried again at
//! the next tick, and after a signal it is done within ten seconds, even if a VACUUM is not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use chrono::TimeDelta;

use super::alarm::Bell;
use super::alert::Messenger;
use super::attend::{Doing, Life};
use super::board::Board;
use super::health::CycleVerdict;
use super::problems::{Ledger, News, Problem};
use super::systemd::Status;
use super::{Daemon, PULSE, facts, health, systemd};
use crate::cycle::{EndedEarly, NotBegun, Summary, Wishes};
use crate::healthex::client::Api;
use crate::plan::{Timestamp, stamp};
use crate::stop::Stop;
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::lock::{Lock, LockFor};
use crate::warehouse::open;
use crate::warehouse::open::OtherServer;
use crate::warehouse::writer::Warehouse;
use crate::{clock, cycle, roster};

pub(super) struct Worker {
    pub(super) daemon: Daemon,
    /// `None` until credentials are found.
    pub(super) api: Option<Arc<Api>>,
    pub(super) board: Arc<Board>,
    pub(super) status: Status,
    pub(super) ledger: Ledger,
    messenger: Messenger,
    bell: Arc<Bell>,
    pub(super) stop: Stop,
    /// Of the warehouse's file, once it has been opened.
    identity: Option<(u64, u64)>,
    /// The credentials were refused in the last cycle: the files may have been mended since.
    pub(super) credentials_doubted: bool,
    /// It could be read; that a cycle could be run by it is another matter.
    roster_is_good: bool,
    pub(super) silence: Silence,
    pub(super) life: Life,
}

/// A server that does not answer at all.
#[derive(Default)]
pub(super) struct Silence {
    rounds: u32,
    until: Option<Instant>,
    /// Answers of this cycle that show a server which works.
    pub(super) answers: u64,
}

impl Worker {
    pub(super) fn new(
        daemon: Daemon,
        board: Arc<Board>,
        bell: Arc<Bell>,
        stop: Stop,
        identity: Option<(u64, u64)>,
    ) -> anyhow::Result<Self> {
        let mut worker = Self {
            messenger: Messenger::start()?,
            daemon,
            api: None,
            board,
            status: Status::default(),
            ledger: Ledger::default(),
            bell,
            stop,
            identity,
            credentials_doubted: false,
            silence: Silence::default(),
            roster_is_good: true,
            life: Life::default(),
        };
        worker.find_credentials();
        systemd::ready();
        worker.rest();
        if let Some(often) = systemd::watchdog().filter(|often| *often < PULSE * 3) {
            tracing::warn!(
                "WatchdogSec is {often:?}; the watchdog is fed once a second, so 10s is the least that makes sense"
            );
        }
        Ok(worker)
    }

    /// Between cycles, once a second.
    pub(super) fn rest(&mut self) {
        systemd::feed_watchdog();
        self.bell.ring_if_late();
        let now = clock::now();
        let next = self.bell.next_tick(now);
        let mut state = self.board.state();
        // "every 15m" counts from the last tick and not from now.
        if state.next_tick.is_none_or(|known| known <= now) {
            state.next_tick = next;
        }
        let last = state.cycles.back().map_or_else(
            || "no cycle yet".to_owned(),
            |mark| {
                let patients = mark.patients;
                format!(
                    "last cycle at {}: {} ok, {} failed, {} held",
                    stamp(mark.started_at),
                    patients.ok,
                    patients.failed,
                    patients.held
                )
            },
        );
        let problems = state.problems.len();
        drop(state);
        let needs =
            if problems == 0 { String::new() } else { format!("; {problems} problems need a person") };
        self.status.say(format!("waiting; {last}{needs}"));
    }

    /// What is remembered was long ago as long as it was: else, with the clock set back, nobody
    /// would notice for that long that no cycle ends well.
    pub(super) fn after_clock_step(&self, step: TimeDelta) {
        let mut state = self.board.state();
        state.started_at += step;
        state.last_good_end = state.last_good_end.map(|end| end + step);
        state.paused_until = state.paused_until.map(|until| until + step);
        state.next_tick = None;
    }

    pub(super) async fn tick(&mut self) -> anyhow::Result<()> {
        let now = clock::now();
        self.board.state().next_tick = self.bell.next_tick(now);
        if self.silence.until.is_some_and(|until| Instant::now() < until) {
            self.board.metrics.count_skipped(1);
            return Ok(());
        }
        self.bell.cycle_begins();
        let result = self.turn().await;
        let skipped = self.bell.cycle_ends();
        if skipped > 0 {
            self.board.metrics.count_skipped(skipped);
            tracing::warn!(skipped, "{skipped} ticks of the schedule passed during the cycle");
        }
        self.board.state().problems.clone_from(self.ledger.texts());
        result
    }

    /// Everything from a tick to its end. An error is one that a restart must mend.
    async fn turn(&mut self) -> anyhow::Result<()> {
        self.reread_roster();
        if self.api.is_none() || self.credentials_doubted {
            self.find_credentials();
        }
        let Some(api) = self.api.clone() else {
            self.board.no_cycle("there are no credentials", clock::now());
            return Ok(());
        };
        let Some((_lock, warehouse)) = self.open_warehouse().await? else { return Ok(()) };
        let started_at = clock::now();
        self.board.cycle_begins(started_at);
        let means = cycle::Means {
            settings: self.daemon.settings.clone(),
            api,
            warehouse: warehouse.clone(),
            stop: self.stop.clone(),
            progress: self.board.progress.clone(),
        };
        // While the server is down, the daemon's own pause stands in for those of the patients.
        let wishes = Wishes { patient: self.silence.rounds == 0, ..Wishes::default() };
        let roster = self.daemon.roster.clone();
        self.silence.answers = 0;
        let doing = Doing::Cycle(warehouse.clone());
        let cycle = self.attend(doing, Box::pin(cycle::run(&means, &roster, &wishes))).await;
        self.count_answers();
        drop(means);
        let result = match cycle {
            Some(Ok(summary)) => self.after_cycle(&summary, &warehouse).await,
            Some(Err(not_begun)) => self.after_no_cycle(&not_begun),
            None => Ok(()),
        };
        self.close(warehouse).await;
        result
    }

    /// Closing moves the WAL into the file, which takes its time after a VACUUM.
    async fn close(&mut self, warehouse: Arc<Warehouse>) {
        if self.stop.at_once.is_cancelled() {
            warehouse.abandon();
            return;
        }
        let closing = tokio::task::spawn_blocking(move || drop(warehouse));
        // What a stop leaves undone, the next open does.
        self.attend(Doing::Disk, Box::pin(closing)).await;
    }

    fn after_no_cycle(&mut self, not_begun: &NotBegun) -> anyhow::Result<()> {
        let problem = match not_begun {
            NotBegun::Warehouse(StoreFailed::Replaced) => return Err(StoreFailed::Replaced.into()),
            NotBegun::Warehouse(_) => Problem::Warehouse,
            NotBegun::RosterShrunk { .. } => Problem::Roster,
        };
        tracing::error!("no cycle: {not_begun}");
        self.board.no_cycle(&not_begun.to_string(), clock::now());
        self.tell(problem, Some(&not_begun.to_string()));
        Ok(())
    }

    pub(super) fn reread_roster(&mut self) {
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
                self.tell(Problem::Roster, Some(&text));
            }
        }
    }

    /// Another `sync` or `purge` may hold the warehouse, or the disk be full: then this tick is left out.
    async fn open_warehouse(&mut self) -> anyhow::Result<Option<(Lock, Arc<Warehouse>)>> {
        let place = &self.daemon.place;
        if self.identity.is_some() && open::identity(&place.path) != self.identity {
            return Err(StoreFailed::Replaced.into());
        }
        let lock = match Lock::take(&place.path, LockFor::Writing) {
            Ok(lock) => lock,
            Err(OpenFailed::InUse { pid, .. }) => {
                tracing::warn!("the warehouse is in use (pid {pid}): this cycle is left out");
                self.board.metrics.count_skipped(1);
                return Ok(None);
            }
            Err(failed) => return self.leave_out(failed),
        };
        let place = place.clone();
        let path = place.path.clone();
        // A WAL that a crash left behind is read through first.
        let opening = tokio::task::spawn_blocking(move || Warehouse::open(&place, OtherServer::Refuse));
        let Some(opened) = self.attend(Doing::Disk, Box::pin(opening)).await else { return Ok(None) };
        match opened.context("opening the warehouse")? {
            Ok(warehouse) => {
                self.identity = open::identity(&path);
                Ok(Some((lock, Arc::new(warehouse))))
            }
            Err(failed) => self.leave_out(failed),
        }
    }

    /// A full disk passes; what does not is told with exit status 5.
    fn leave_out<T>(&mut self, failed: OpenFailed) -> anyhow::Result<Option<T>> {
        if !matches!(failed, OpenFailed::Unusable { .. } | OpenFailed::Io { .. }) {
            return Err(failed.into());
        }
        let text = format!("{failed}; trying again at the next tick");
        tracing::error!("{text}");
        self.board.no_cycle(&text, clock::now());
        self.tell(Problem::Warehouse, Some(&text));
        Ok(None)
    }

    async fn after_cycle(&mut self, summary: &Summary, warehouse: &Warehouse) -> anyhow::Result<()> {
        report(summary);
        let now = clock::now();
        let verdict = self.board.cycle_ends(summary, now);
        match &summary.ended_early {
            Some(EndedEarly::Warehouse(StoreFailed::Replaced)) => return Err(StoreFailed::Replaced.into()),
            Some(EndedEarly::Warehouse(failed)) => {
                self.tell(Problem::Warehouse, Some(&failed.to_string()));
                return Ok(());
            }
            Some(EndedEarly::CredentialsRefused(why)) => {
                self.credentials_doubted = true;
                self.tell(Problem::Credentials, Some(why));
            }
            _ => {
                self.tell(Problem::Warehouse, None);
                if self.roster_is_good {
                    self.tell(Problem::Roster, None);
                }
                if 0 < self.silence.answers {
                    self.credentials_doubted = false;
                    self.tell(Problem::Credentials, None);
                }
            }
        }
        self.heed_silence(summary, now);
        if verdict == CycleVerdict::Interrupted {
            return Ok(());
        }
        self.remember(warehouse, now).await;
        if summary.all_is_well() && summary.scrub_waits.is_none() {
            self.messenger.heartbeat(&self.daemon.settings.alert);
        }
        Ok(())
    }

    /// Leaves a server alone that answers nobody.
    fn heed_silence(&mut self, summary: &Summary, now: Timestamp) {
        let told = match &summary.ended_early {
            Some(EndedEarly::ToldToWait(wait)) => Some(*wait),
            _ => None,
        };
        let tried_in_vain = summary.patients.failed > 0 && self.silence.answers == 0;
        let is_silent = match &summary.ended_early {
            Some(EndedEarly::CredentialsRefused(_) | EndedEarly::Stopped | EndedEarly::Warehouse(_)) => false,
            Some(EndedEarly::ServerDown | EndedEarly::ToldToWait(_)) => true,
            None => tried_in_vain,
        };
        if !is_silent {
            if self.silence.rounds > 0 && self.silence.answers > 0 {
                tracing::info!("HealthEx answers again");
                self.silence.rounds = 0;
            }
            self.silence.until = None;
            self.board.state().paused_until = None;
            return;
        }
        self.silence.rounds += 1;
        let period = self.daemon.settings.sync.schedule.period(now);
        let pause = health::pause_after(self.silence.rounds, period, told);
        // The tick at the pause's end is not missed for a few milliseconds.
        self.silence.until = Some(Instant::now() + pause.saturating_sub(PULSE / 2));
        let until = now + TimeDelta::from_std(pause).unwrap_or_default();
        self.board.state().paused_until = Some(until);
        tracing::warn!(
            rounds = self.silence.rounds,
            "HealthEx answers nobody: it is left alone until {}",
            stamp(until)
        );
    }

    /// Notes a good cycle in the warehouse, and looks there for what needs a person.
    async fn remember(&mut self, warehouse: &Warehouse, now: Timestamp) {
        let is_well = self.board.state().last_good_end == Some(now);
        let facts =
            facts::gather(warehouse, &self.daemon.roster, &self.daemon.settings, is_well.then_some(now))
                .await;
        let facts = match facts {
            Ok(facts) => facts,
            Err(failed) => {
                tracing::error!("what needs a person cannot be told: {failed}");
                return;
            }
        };
        let started_at = self.board.state().started_at;
        let stale_after = self.daemon.settings.alert.stale_after;
        for news in self.ledger.take(&facts, stale_after, started_at, now) {
            self.send(news);
        }
    }

    /// Has a problem of the whole service told, or (`None`) its end.
    pub(super) fn tell(&mut self, problem: Problem, text: Option<&str>) {
        if let Some(news) = self.ledger.note(problem, text) {
            self.send(news);
        }
        self.board.state().problems.clone_from(self.ledger.texts());
    }

    fn send(&self, news: News) {
        if news.is_over {
            tracing::info!(problem = news.problem.as_str(), "over: {}", news.text);
        } else if news.problem == Problem::Stale || news.problem == Problem::Scrub {
            // The others have been logged where they were found.
            tracing::error!(problem = news.problem.as_str(), "{}", news.text);
        }
        self.messenger.alert(&self.daemon.settings.alert, news);
    }

    pub(super) fn end(&mut self) {
        self.status.stopping();
    }
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

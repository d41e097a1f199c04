//! One cycle: who is due, pulls side by side, refusals asked again, withdrawals judged,
//! purges, and the last bytes.
//!
//! Promise: nothing is purged on one refusal or on many at once, a patient that fails keeps
//! what it has, and the summary counts what was done and nothing else. Over a rehearsal the
//! same is decided and nothing is done. Absent on purpose: HTTP, SQL, and rules.

pub(crate) mod held;
mod patient;
pub(crate) mod progress;
mod round;
mod summary;
mod tally;
mod tasks;
mod workers;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use tokio::sync::watch;

use self::patient::Refusal;
use self::progress::Progress;
pub(crate) use self::summary::{EndedEarly, PatientCounts, PurgeNote, Summary};
use self::tally::CycleTally;
use self::tasks::{Task, count_idle};
use crate::clock;
use crate::healthex::client::Api;
use crate::plan::due::Due;
use crate::plan::failure::failure_delay;
use crate::plan::shrink::has_shrunk_suspiciously;
use crate::plan::state::PurgeReason;
use crate::plan::{PersonId, Timestamp};
use crate::roster::Roster;
use crate::settings::{OnRemoved, Settings};
use crate::stop::Stop;
use crate::warehouse::Warehouse;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::patient::{Listed, RosterChange};
use crate::warehouse::pull::Lease;
use crate::warehouse::purge::{Scrub, Scrubbed};

/// A cycle, with what it works with.
#[derive(Clone)]
pub(crate) struct Cycle {
    pub settings: Arc<Settings>,
    pub api: Arc<Api>,
    pub warehouse: Arc<Warehouse>,
    pub stop: Stop,
    pub progress: watch::Sender<Progress>,
    pub request: SyncRequest,
}

/// How a cycle was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct SyncRequest {
    /// Only these; empty is the whole roster.
    pub named: Vec<PersonId>,
    pub full: bool,
    /// Whether delays after failures are waited out.
    pub waits_after_failures: bool,
    pub allow_shrunk_roster: bool,
}

/// A cycle that was not begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotBegun {
    #[error(
        "the roster has lost {gone} of {known} patients at once, and roster.on_removed is \"purge\"; nothing was purged or pulled. If they are meant to go, run `healthex-sync sync --allow-shrunk-roster`"
    )]
    RosterShrunk { known: usize, gone: usize },
    #[error(transparent)]
    Warehouse(#[from] StoreFailed),
}

/// Requests and bytes until now.
#[derive(Clone, Copy)]
struct Traffic {
    requests: u64,
    bytes: u64,
}

impl Traffic {
    fn of(api: &Api) -> Self {
        let (requests, bytes) = (&api.meter.requests, &api.meter.bytes);
        Self { requests: requests.load(Ordering::Relaxed), bytes: bytes.load(Ordering::Relaxed) }
    }
}

impl Cycle {
    /// Deals with every patient of the roster that is due.
    pub(crate) async fn run(&self, roster: &Roster) -> Result<Summary, NotBegun> {
        let begun = Instant::now();
        let before = Traffic::of(&self.api);
        self.api.begin_cycle();
        let mut summary = Summary { is_rehearsal: self.warehouse.is_rehearsal(), ..Summary::default() };
        let patients = self.take_roster(roster, &mut summary).await?;
        // A purge that a crash or a reader kept from its end comes before anything else.
        self.scrub(&mut summary).await;
        let tasks = tasks::tasks(self, roster, patients, clock::now());
        count_idle(&tasks, &mut summary);
        let due: Vec<Task> = tasks.into_iter().filter(|task| !matches!(task.due, Due::Nothing(_))).collect();
        self.progress.send_replace(Progress { total: due.len() as u64, ..Progress::default() });
        let tally = self.deal_with_all(due).await;
        tally.say_held();
        tally.settle(&mut summary);
        if !matches!(summary.ended_early, Some(EndedEarly::Warehouse(_))) {
            if let Err(failed) = self.warehouse.end_cycle().await {
                tracing::warn!("old rows of `pull` could not be removed: {failed}");
            }
            self.settle_views().await;
            self.scrub(&mut summary).await;
        }
        let after = Traffic::of(&self.api);
        summary.requests = after.requests - before.requests;
        summary.bytes = after.bytes - before.bytes;
        summary.took = begun.elapsed();
        Ok(summary)
    }

    /// Asks those again that are refused, pulls all others, and asks those again that were
    /// refused meanwhile.
    async fn deal_with_all(&self, due: Vec<Task>) -> CycleTally {
        let (again, others): (Vec<Task>, Vec<Task>) =
            due.into_iter().partition(|task| matches!(task.due, Due::AskAgain(_)));
        let mut tally = CycleTally::default();
        let now = clock::now();
        for task in again {
            tally.refuse(Refusal::earlier(task, now));
        }
        round::hold_round(self, &mut tally).await;
        if tally.ended.is_none() {
            tally = workers::pull_all(self, others, tally).await;
        } else {
            tally.not_reached += others.len() as u64;
        }
        if tally.may_hold_round() {
            round::hold_round(self, &mut tally).await;
        }
        tally
    }

    /// Returns when a patient is asked again that has failed so many times in a row.
    fn next_attempt_after(&self, failures: u32) -> Timestamp {
        let now = clock::now();
        let wait = failure_delay(failures, self.settings.sync.schedule.period(now));
        now + TimeDelta::from_std(wait).unwrap_or_default()
    }

    /// Takes the roster over, and purges who has left it where that is wanted.
    async fn take_roster(&self, roster: &Roster, summary: &mut Summary) -> Result<Vec<Lease>, NotBegun> {
        let listed: Vec<Listed> = roster
            .patients
            .iter()
            .map(|patient| Listed { person: patient.person.clone(), label: patient.label.clone() })
            .collect();
        let RosterChange { known, gone } = match self.settings.roster.on_removed {
            OnRemoved::Purge => self.warehouse.roster_change(&listed).await?,
            OnRemoved::Keep => RosterChange::default(),
        };
        if has_shrunk_suspiciously(known, gone.len()) && !self.request.allow_shrunk_roster {
            return Err(NotBegun::RosterShrunk { known, gone: gone.len() });
        }
        let patients = self.warehouse.begin_cycle(listed, clock::now()).await?;
        for patient in gone {
            let reason = PurgeReason::Roster;
            if let Some(purged) =
                self.warehouse.purge(&patient.person, reason, "healthex-sync", clock::now()).await?
            {
                summary.purged.push(self.say_purged(&purged.name, reason, purged.erased.rows()));
            }
        }
        Ok(patients)
    }

    /// Says in the log that a patient was purged, or would be.
    fn say_purged(&self, name: &str, reason: PurgeReason, rows: u64) -> PurgeNote {
        let was = if self.warehouse.is_rehearsal() { "would be" } else { "was" };
        let reason_text = reason.as_str();
        tracing::warn!(
            person = name,
            rows,
            reason = reason_text,
            "{name} {was} purged: {rows} rows ({reason_text})"
        );
        PurgeNote { name: name.to_owned(), reason, rows }
    }

    /// Removes the last bytes of purged patients, if it is time for it.
    /// Finishes the analysts' tables that are under build, and makes the indexes that a first fill
    /// goes without.
    async fn settle_views(&self) {
        let result = tokio::select! {
            biased;
            // What a stop leaves undone, the next start does.
            () = self.stop.gently.cancelled() => return,
            result = self.warehouse.settle_views(clock::now()) => result,
        };
        if let Err(failed) = result {
            tracing::warn!("the analysts' tables are not built to their end: {failed}");
        }
    }

    async fn scrub(&self, summary: &mut Summary) {
        let result = tokio::select! {
            result = self.scrub_if_due() => result,
            () = self.interrupt_when_stopped() => return,
        };
        summary.scrub_waits = match result {
            Ok(Scrub::NothingToDo) => None,
            Ok(Scrub::Done(Scrubbed { purges, by, pages })) => {
                let by_name = by.name();
                tracing::info!(
                    purges,
                    by = by.as_str(),
                    pages,
                    "the last bytes of purged patients are gone, by {by_name}"
                );
                None
            }
            Ok(Scrub::Waits(waits)) => {
                tracing::warn!("bytes of purged patients are still in the file: {waits}");
                Some(waits.to_string())
            }
            Err(failed) => {
                tracing::warn!("bytes of purged patients are still in the file: {failed}");
                Some(failed.to_string())
            }
        };
    }

    async fn scrub_if_due(&self) -> Result<Scrub, StoreFailed> {
        let Some(since) = self.warehouse.unscrubbed().await? else { return Ok(Scrub::NothingToDo) };
        let is_due = |now: Timestamp| match &self.settings.consent.scrub {
            None => true,
            Some(schedule) => schedule.next_after(since).is_some_and(|next| next <= now),
        };
        if is_due(clock::now()) { self.warehouse.scrub(clock::now).await } else { Ok(Scrub::NothingToDo) }
    }

    /// Keeps a scrub from holding up a shutdown: it is begun again at the next start.
    async fn interrupt_when_stopped(&self) {
        self.stop.at_once.cancelled().await;
        loop {
            // Between two statements there is nothing to interrupt, so it is done again until it has worked.
            self.warehouse.interrupt();
            tokio::time::sleep(INTERRUPT_EVERY).await;
        }
    }
}

const INTERRUPT_EVERY: Duration = Duration::from_millis(100);

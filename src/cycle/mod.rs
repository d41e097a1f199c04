//! One cycle: who is due, pulls side by side, refusals asked again, withdrawals judged,
//! purges, and the last bytes.
//!
//! Promise: nothing is purged on one refusal or on many at once, a patient that fails keeps
//! what it has, and the summary counts what was done and nothing else. Over a rehearsal the
//! same is decided and nothing is done. Absent on purpose: HTTP, SQL, and rules.

pub(crate) mod held;
mod leavers;
mod names;
mod orders;
mod patient;
pub(crate) mod progress;
pub(crate) mod records;
pub(crate) mod rosters;
mod round;
mod summary;
mod tally;
mod tasks;
mod turns;
mod workers;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use self::names::Names;
pub(crate) use self::orders::ActivePatients;
use self::patient::Refusal;
use self::progress::Progress;
use self::records::Reading;
pub(crate) use self::summary::{EndedEarly, FailedWhy, PurgeNote, RosterFault, Share, ShrunkRoster, Summary};
use self::tally::CycleTally;
use self::tasks::{Others, Planner, Tasks};
use self::turns::Turns;
use crate::clock;
use crate::clock::Instant;
use crate::healthex::client::Api;
use crate::plan::failure::failure_delay;
use crate::plan::records::RecordsNow;
use crate::plan::state::PurgeReason;
use crate::plan::verdict::PatientCounts;
use crate::plan::{PersonId, Timestamp};
use crate::roster::Roster;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::time::TimeDelta;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::patient::{CycleEnd, Forgotten, RosterReading};
use crate::warehouse::pull::Lease;
use crate::warehouse::purge::{CarriedOut, Scrub, Scrubbed};
use crate::warehouse::turn::{Announced, Planned, Turn};
use crate::warehouse::{Sharing, Warehouse};

/// A cycle, with what it works with.
#[derive(Clone)]
pub(crate) struct Cycle {
    pub settings: Arc<Settings>,
    pub api: Arc<Api>,
    pub warehouse: Arc<Warehouse>,
    pub stop: Stop,
    pub progress: watch::Sender<Progress>,
    pub request: SyncRequest,
    /// Who is being dealt with, for an operator's purge that comes meanwhile.
    pub active: Arc<ActivePatients>,
    pub names: Arc<Names>,
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
    pub records: RecordsAsked,
    /// The moment of the schedule that it is for, of which several workers run one cycle together.
    pub tick: Option<Timestamp>,
}

/// When a cycle reads the consent records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RecordsAsked {
    /// Where they were not read within `roster.consents_every`.
    #[default]
    WhenDue,
    /// However lately they were.
    Now,
}

/// What a cycle is to do.
struct Plan {
    /// How many have a turn.
    due: u64,
    turns: Turns,
    others: Others,
}

/// Requests and bytes until now.
#[derive(Clone, Copy, Default)]
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
    /// Deals with every patient of the roster that is due. The error says that it was not begun.
    /// Operators' purges are heeded meanwhile.
    pub(crate) async fn run(&self, roster: &Roster) -> Result<Summary, StoreFailed> {
        let over = CancellationToken::new();
        let cycle = async {
            let ended = self.run_alone(roster).await;
            over.cancel();
            ended
        };
        let (ended, purged) = tokio::join!(cycle, orders::heed(self, over.clone()));
        let mut summary = ended?;
        if !purged.is_empty() && !matches!(summary.ended_early, Some(EndedEarly::Warehouse(_))) {
            // The last may have come after the cycle's own scrub.
            self.scrub(&mut summary).await;
        }
        summary.purged.extend(purged);
        Ok(summary)
    }

    async fn run_alone(&self, roster: &Roster) -> Result<Summary, StoreFailed> {
        let begun = Instant::now();
        let tally = CycleTally::since(Traffic::of(&self.api));
        self.api.begin_cycle();
        let mut summary = Summary { is_rehearsal: self.warehouse.is_rehearsal(), ..Summary::default() };
        self.take_carried_out(&mut summary);
        let roster = &*self.agree_on_roster(roster, &mut summary).await?;
        let leads = self.warehouse.shared().is_none_or(Sharing::leads);
        if leads && matches!(summary.roster_fault, Some(RosterFault::None)) {
            // Whoever has one is to lead: those who took part would find that there is nothing to do.
            return Ok(summary);
        }
        let announced = if leads {
            self.warehouse.announce_cycle(self.request.tick, clock::now()).await?
        } else {
            Announced::GoesOn
        };
        let before = tally.before;
        match announced {
            Announced::HasBeenRun => summary.share = Share::HasBeenRun,
            Announced::GoesOn => self.go_on(tally, &mut summary).await?,
            Announced::Alone | Announced::Shared => {
                let tally = self.begin(roster, announced, tally, &mut summary).await?;
                self.finish(tally, &mut summary).await?;
            }
        }
        let after = Traffic::of(&self.api);
        summary.requests += after.requests - before.requests;
        summary.bytes += after.bytes - before.bytes;
        summary.took = begun.elapsed();
        Ok(summary)
    }

    /// Reads records and roster, decides who is due, and deals with them.
    async fn begin(
        &self,
        roster: &Roster,
        announced: Announced,
        tally: CycleTally,
        summary: &mut Summary,
    ) -> Result<CycleTally, StoreFailed> {
        let Reading { mut records, credentials_refused } = records::read(self, &roster.patients).await?;
        summary.record_problems.append(&mut records.problems);
        let roster = roster.with_records(&records);
        self.names.go_by(roster.patients.clone());
        self.take_roster(&roster, &records, summary).await?;
        // A purge that a crash or a reader kept from its end comes before anything else.
        self.scrub(summary).await;
        let planner = Planner::new(self, roster, records, clock::now());
        let mut tally = match self.plan(planner, announced).await {
            Ok(plan) => self.deal_with_all(plan, tally, summary).await,
            Err(failed) => {
                let mut tally = tally;
                tally.end(EndedEarly::Warehouse(failed));
                tally
            }
        };
        if let Some(why) = credentials_refused {
            tally.end(EndedEarly::CredentialsRefused(why));
        }
        Ok(tally)
    }

    /// Adds the purges that a ledger knew and the warehouse did not.
    fn take_carried_out(&self, summary: &mut Summary) {
        let carried_out = self.warehouse.carried_out().into_iter();
        summary.purged.extend(carried_out.map(|CarriedOut { person, reason, rows }| PurgeNote {
            name: person.to_string(),
            reason,
            rows,
        }));
    }

    /// Takes part in a cycle that another has begun, and leads it to its end where that one has gone.
    async fn go_on(&self, tally: CycleTally, summary: &mut Summary) -> Result<(), StoreFailed> {
        let tally = workers::pull_all(self, Turns::shared(), tally).await;
        if let Some(shared) = self.warehouse.shared() {
            summary.patients.total = shared.progress().await?.0.total;
        }
        self.finish(tally, summary).await
    }

    /// Holds the last round and ends the cycle, unless that is another worker's.
    async fn finish(&self, mut tally: CycleTally, summary: &mut Summary) -> Result<(), StoreFailed> {
        if let Some(shared) = self.warehouse.shared()
            && !matches!(tally.ended, Some(EndedEarly::Warehouse(_)))
        {
            if let Some(ended @ (EndedEarly::ServerDown(_) | EndedEarly::CredentialsRefused(_))) =
                &tally.ended
            {
                shared.tell_problem(&ended.to_string()).await?;
            }
            if !self.leads_to_the_end(shared, &tally).await? {
                tally.not_reached = 0;
                summary.patients.total = 0;
                summary.patients.skipped = 0;
                tally.settle(summary);
                summary.patients.total = summary.patients.counted();
                summary.share = Share::Part;
                return Ok(());
            }
            self.take_in_others(shared, &mut tally, summary).await?;
        }
        if tally.may_hold_round() {
            workers::hold_round(self, &mut tally).await;
        }
        tally.say_held(self.warehouse.is_rehearsal());
        tally.settle(summary);
        self.take_carried_out(summary);
        if !matches!(summary.ended_early, Some(EndedEarly::Warehouse(_))) {
            self.end_cycle(self.got_through(summary)).await;
            summary.still_refused = self.warehouse.refused().await.unwrap_or_default();
            self.settle_views().await;
            self.scrub(summary).await;
        }
        Ok(())
    }

    /// Returns whether this process ends the cycle. What keeps it from asking is its own matter, where others can go on.
    async fn leads_to_the_end(&self, shared: Sharing<'_>, tally: &CycleTally) -> Result<bool, StoreFailed> {
        if !shared.leads() {
            return Ok(false);
        }
        let is_its_own = matches!(
            tally.ended,
            Some(EndedEarly::Stopped | EndedEarly::ServerDown(_) | EndedEarly::CredentialsRefused(_))
        );
        if is_its_own && shared.progress().await?.1 > 0 {
            shared.leave_lead().await;
            return Ok(false);
        }
        Ok(true)
    }

    /// Adds what the other workers did, and whom they were refused.
    async fn take_in_others(
        &self,
        shared: Sharing<'_>,
        tally: &mut CycleTally,
        summary: &mut Summary,
    ) -> Result<(), StoreFailed> {
        for part in shared.parts_of_others().await? {
            summary.requests += part.requests;
            summary.bytes += part.bytes;
            summary.by_others += part.clone();
            tally.add(part);
        }
        for (person, rows) in shared.purged_meanwhile().await? {
            let note = self.say_purged(&self.names.of(&person), PurgeReason::Operator, rows);
            summary.purged.push(note);
        }
        let now = clock::now();
        for task in turns::refused_by_others(self).await? {
            if !tally.known_refused.contains(task.person()) {
                tally.refuse(Refusal::earlier(task, now));
            }
        }
        let (progress, _) = shared.progress().await?;
        if tally.ended.is_some() {
            tally.not_reached += progress.total - progress.given_out;
        }
        // What a worker has come to an end with and could not tell any more, or what was void.
        let due = summary.patients.total - summary.patients.skipped;
        tally.skipped += due.saturating_sub(tally.counted());
        Ok(())
    }

    /// Decides about everybody. Turns that others may take too are written down.
    async fn plan(&self, planner: Planner, announced: Announced) -> Result<Plan, StoreFailed> {
        let Some(shared) = self.warehouse.shared().filter(|_| announced == Announced::Shared) else {
            let mut patients = Vec::new();
            self.warehouse.visit_patients(|patient| patients.push(Lease::alone(patient))).await?;
            // Those first that have waited longest, never-pulled ones before.
            patients.sort_by_key(|patient: &Lease| patient.checkpoint.last_success_at);
            let Tasks { due, others } = planner.plan(patients);
            return Ok(Plan { due: due.len() as u64, turns: Turns::own(due), others });
        };
        let plan = move |patients| {
            let Tasks { due, others } = planner.plan(patients);
            let turns: Vec<Turn> = due.into_iter().filter_map(turns::turn_of).collect();
            Planned { others: (turns.len() as u64, others), turns }
        };
        let (mut due, mut others) = (0, Others::default());
        for (turns, more) in shared.plan_turns(Arc::new(plan), clock::now()).await? {
            due += turns;
            others += more;
        }
        Ok(Plan { due, turns: Turns::shared(), others })
    }

    /// Asks those again that are refused, and pulls all others.
    async fn deal_with_all(&self, plan: Plan, mut tally: CycleTally, summary: &mut Summary) -> CycleTally {
        let Plan { due, turns, others: Others { again, skipped, not_found_before } } = plan;
        let due = due + again.len() as u64;
        summary.patients.total = due + skipped;
        summary.patients.skipped = skipped;
        summary.not_found_before = not_found_before;
        self.progress.send_replace(Progress { total: due, ..Progress::default() });
        let now = clock::now();
        for task in again {
            tally.refuse(Refusal::earlier(task, now));
        }
        workers::hold_round(self, &mut tally).await;
        if tally.ended.is_none() {
            tally = workers::pull_all(self, turns, tally).await;
        } else {
            tally.not_reached += turns.len() as u64;
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
    async fn take_roster(
        &self,
        roster: &Roster,
        records: &RecordsNow,
        summary: &mut Summary,
    ) -> Result<(), StoreFailed> {
        let by = (0..roster.patients.len()).map(|at| roster.listed_by(at, records)).collect();
        // A roster that cannot be read purges nobody, nor one that lists nobody, nor records that were
        // read before.
        let is_new = !roster.is_outdated && records.is_new && !roster.patients.is_empty();
        let (patients, version) = (roster.patients.clone(), roster.version.clone());
        let reading = RosterReading { patients, by, is_new, version, unsure: records.unreadable.clone() };
        let taken = self.warehouse.begin_cycle(reading, clock::now()).await?;
        if is_new {
            leavers::purge_leavers(self, taken.missing, summary).await?;
        }
        if roster.patients.is_empty() && taken.knows_anybody && summary.roster_fault.is_none() {
            let why = "no file lists a patient, and no record is of one who consents; nobody counts as gone";
            summary.record_problems.push(why.to_owned());
        }
        Ok(())
    }

    /// Returns whether the whole roster was dealt with, and somebody could be asked.
    fn got_through(&self, summary: &Summary) -> bool {
        let PatientCounts { ok, revoked, held, not_found, .. } = summary.patients;
        self.request.named.is_empty() && summary.ended_early.is_none() && ok + revoked + held + not_found > 0
    }

    /// Notes the end, for a service that is started next, and removes what is kept for a while only. What is left is
    /// removed at the next end.
    async fn end_cycle(&self, got_through: bool) {
        let keep_deleted = self.settings.sync.keep_deleted;
        let end = CycleEnd { now: clock::now(), keep_deleted, got_through };
        match self.warehouse.end_cycle(end).await {
            Ok(Forgotten { deleted_rows: 0 }) => {}
            Ok(Forgotten { deleted_rows }) => tracing::info!(
                deleted_rows,
                "{deleted_rows} rows were marked as deleted for longer than sync.keep_deleted, and are removed"
            ),
            Err(failed) => tracing::warn!("old rows could not be removed: {failed}"),
        }
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

    /// Removes the last bytes of purged patients, if it is time for it.
    async fn scrub(&self, summary: &mut Summary) {
        let result = tokio::select! {
            biased;
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
                tracing::warn!("bytes of purged patients are not gone yet: {waits}");
                Some(waits.to_string())
            }
            Err(failed) => {
                tracing::warn!("bytes of purged patients are not gone yet: {failed}");
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
            clock::sleep(INTERRUPT_EVERY).await;
        }
    }
}

const INTERRUPT_EVERY: Duration = Duration::from_millis(100);

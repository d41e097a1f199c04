//! One patient of a cycle: pulled, or asked for its consent, and what came of it recorded.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::progress::Onlookers;
use super::tasks::Task;
use super::{Cycle, EndedEarly};
use crate::clock;
use crate::clock::Instant;
use crate::healthex::meter::Budget;
use crate::healthex::token::AccessToken;
use crate::healthex::{FailureStage, RequestFailed};
use crate::plan::breaker::Contact;
use crate::plan::due::{Due, may_pull_renamed};
use crate::plan::failure::{Effect, Failure, judge_failure};
use crate::plan::paging::Query;
use crate::plan::resume::{can_resume, mode_of};
use crate::plan::since::IGNORED_TOLD;
use crate::plan::state::{Event, PatientState};
use crate::plan::{PersonId, PullMode, Timestamp};
use crate::pull::{Pull, PullContext, PullFailed, PullPlan, PullRules, ResumePoint, WalkEnd};
use crate::settings::Settings;
use crate::time::TimeDelta;
use crate::warehouse::failure::{Concern, StoreFailed};
use crate::warehouse::page::Tally;
use crate::warehouse::pull::{Fenced, PullCost, PullEnded, PullHead, PullOutcome, Setback};

/// How one patient's turn in a cycle ended.
pub(super) enum PatientOutcome {
    Ok,
    /// Asked for its consent only, which stands.
    Permitted,
    /// Purged before, asked again, and still refused.
    StillRevoked,
    Refused(Box<Refusal>),
    NotFound,
    Failed {
        contact: Contact,
        why: String,
    },
    /// This ends the cycle for all.
    Ends(EndedEarly),
    Interrupted,
    /// An operator has ordered its purge, or another worker deals with it: nothing more is done about it here.
    LeftToOthers,
}

/// What one patient's turn has come to.
pub(super) struct PatientReport {
    pub(super) person: PersonId,
    pub(super) outcome: PatientOutcome,
    pub(super) tally: Tally,
    pub(super) pages: u64,
    /// Given back once this has been counted, so that nobody begins before.
    permit: Option<OwnedSemaphorePermit>,
}

impl PatientReport {
    /// Returns whether it has come to some end. Else another worker may begin it anew.
    pub(super) fn is_over(&self) -> bool {
        match &self.outcome {
            PatientOutcome::Interrupted => false,
            PatientOutcome::Ends(ended) => matches!(ended, EndedEarly::ToldToWait(_)),
            _ => true,
        }
    }

    fn without_pull(person: PersonId, outcome: PatientOutcome, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { person, outcome, tally: Tally::default(), pages: 0, permit }
    }
}

/// A patient whose pull, or question about its consent, ended in a 403.
pub(super) struct Refusal {
    pub(super) task: Task,
    pub(super) head: PullHead,
    pub(super) cost: PullCost,
    /// Whether the pull has stored anything.
    is_marked: bool,
    /// Whether it was refused before a round asks. Else the round is held for what its record says.
    pub(super) was_refused: bool,
    /// Of the first in the unbroken row of refusals.
    pub(super) refused_at: Timestamp,
}

impl Refusal {
    /// Returns the refusal of an earlier cycle, to be asked about again, or what there is instead: a record
    /// that says that the consent has ended.
    pub(super) fn earlier(task: Task, now: Timestamp) -> Self {
        let (was_refused, refused_at) =
            (task.lease.checkpoint.refused_at.is_some(), first_refused(&task, now));
        let head = head_of_question(&task, now);
        Self { task, head, cost: PullCost::default(), is_marked: false, was_refused, refused_at }
    }

    /// Writes down that it is refused, for the first time.
    pub(super) async fn note(self, cycle: &Cycle) -> PatientReport {
        let person = self.task.person().clone();
        let asked = Asked { task: &self.task, head: self.head, cost: self.cost };
        PatientReport::without_pull(person, note_refusal(cycle, asked).await, None)
    }

    /// Returns the end of the pull that was refused.
    pub(super) fn ended(&self, outcome: PullOutcome, error: Option<String>) -> PullEnded {
        let (head, cost, is_marked) = (self.head.clone(), self.cost, self.is_marked);
        PullEnded { head, cost, is_marked, outcome, error, setback: None }
    }
}

/// Returns when the first of a patient's unbroken row of refusals was, of which the latest is of `now`.
fn first_refused(task: &Task, now: Timestamp) -> Timestamp {
    // One that lies ahead was noted by a wrong clock.
    task.lease.checkpoint.refused_at.map_or(now, |first| first.min(now))
}

/// Returns what one question about a consent may cost.
pub(super) fn consent_budget() -> Budget {
    Budget::new(u64::MAX, Instant::now() + Duration::from_hours(1))
}

/// Does what is due about one patient, unless an operator orders its purge. Further pulls wait for a
/// permit of `permits`.
pub(super) async fn deal_with(
    cycle: &Cycle,
    task: Task,
    permits: &Arc<Semaphore>,
    permit: OwnedSemaphorePermit,
) -> PatientReport {
    let person = task.person().clone();
    unless_ordered(cycle, person, do_what_is_due(cycle, task, permits, permit)).await
}

/// Waits for `work` on a patient, and drops it where an operator orders the patient's purge.
async fn unless_ordered(
    cycle: &Cycle,
    person: PersonId,
    work: impl Future<Output = PatientReport>,
) -> PatientReport {
    // In a block of its own: the work is dropped before the patient is free to be purged.
    let active = cycle.active.begin(&person);
    let report = match &active {
        None => None,
        Some(active) => tokio::select! {
            biased;
            () = active.ordered() => None,
            report = work => Some(report),
        },
    };
    report.unwrap_or_else(|| PatientReport::without_pull(person, PatientOutcome::LeftToOthers, None))
}

async fn do_what_is_due(
    cycle: &Cycle,
    task: Task,
    permits: &Arc<Semaphore>,
    permit: OwnedSemaphorePermit,
) -> PatientReport {
    match task.due {
        Due::Pull(mode) => pull_patient(cycle, task, mode, permits, permit).await,
        Due::AskConsent | Due::AskAgain(_) | Due::Nothing(_) => {
            let person = task.person().clone();
            PatientReport::without_pull(person, ask_consent(cycle, task).await, Some(permit))
        }
    }
}

/// Pulls one patient that nobody else is pulled beside.
pub(super) async fn pull_alone(cycle: &Cycle, task: Task, mode: PullMode) -> PatientReport {
    let (permits, person) = (Arc::new(Semaphore::new(1)), task.person().clone());
    match permits.clone().acquire_owned().await {
        Ok(permit) => unless_ordered(cycle, person, pull_patient(cycle, task, mode, &permits, permit)).await,
        Err(_closed) => PatientReport::without_pull(person, PatientOutcome::Interrupted, None),
    }
}

/// Pulls one patient, and in full at once if entries seem to have been renamed.
async fn pull_patient(
    cycle: &Cycle,
    task: Task,
    mode: PullMode,
    permits: &Arc<Semaphore>,
    permit: OwnedSemaphorePermit,
) -> PatientReport {
    let pulled = pull_once(cycle, &task, mode, permits, permit).await;
    let renamed_full_at = task.lease.checkpoint.renamed_full_at;
    let asks_for_full = pulled.met_renamed_entries && mode == PullMode::Incremental;
    if !asks_for_full || !may_pull_renamed(renamed_full_at, clock::now()) {
        return pulled.report;
    }
    let mut report = pulled.report;
    match cycle.warehouse.note_renamed_full(task.person(), clock::now()).await {
        Ok(Fenced::Kept(())) => {}
        Ok(Fenced::Superseded) => return report,
        Err(failed) => {
            report.outcome = PatientOutcome::Ends(EndedEarly::Warehouse(failed));
            return report;
        }
    }
    let name = task.name();
    tracing::info!(person = %name, "{name}: entries have new names; a full pull follows");
    drop(report.permit.take());
    // No semaphore of ours is ever closed.
    let Ok(permit) = permits.clone().acquire_owned().await else { return report };
    let mut full = pull_once(cycle, &task, PullMode::Full, permits, permit).await.report;
    full.tally += report.tally;
    full.pages += report.pages;
    full
}

struct PulledOnce {
    report: PatientReport,
    met_renamed_entries: bool,
}

async fn pull_once(
    cycle: &Cycle,
    task: &Task,
    mode: PullMode,
    permits: &Arc<Semaphore>,
    permit: OwnedSemaphorePermit,
) -> PulledOnce {
    let plan = match plan_pull(cycle, task, mode).await {
        Ok(plan) => plan,
        Err(failed) => {
            let outcome = PatientOutcome::Ends(EndedEarly::Warehouse(failed));
            let report = PatientReport::without_pull(task.person().clone(), outcome, Some(permit));
            return PulledOnce { report, met_renamed_entries: false };
        }
    };
    let onlookers = Onlookers::show(&cycle.progress, task.name());
    let context = PullContext {
        api: cycle.api.clone(),
        warehouse: cycle.warehouse.clone(),
        rules: pull_rules(&cycle.settings),
        stop: cycle.stop.clone(),
        pace: onlookers.pace.clone(),
        name: task.name().to_owned(),
    };
    let mut pull = Pull::new(&context, plan);
    let mut permit = Some(permit);
    let ended = walk_to_the_end(&mut pull, permits, &mut permit).await;
    let (tally, pages) = (pull.tally(), pull.cost().pages);
    let met_renamed_entries = ended.is_ok() && pull.met_renamed_entries();
    let outcome = match ended {
        Ok(guarded) => {
            say_finished(task, &pull, guarded);
            PatientOutcome::Ok
        }
        Err(failed) => {
            let asked = Asked { task, head: pull.head().clone(), cost: pull.cost() };
            record_failure(cycle, asked, failed).await
        }
    };
    let report = PatientReport { person: task.person().clone(), outcome, tally, pages, permit };
    PulledOnce { report, met_renamed_entries }
}

/// Walks until the pull is over. The permit is given back as soon as nothing but the end of the
/// pull is left to be stored: waiting for the disk, it holds nothing, and the next patient can
/// be asked meanwhile. Returns how many rows looked vanished and were not marked.
async fn walk_to_the_end(
    pull: &mut Pull<'_>,
    permits: &Arc<Semaphore>,
    permit: &mut Option<OwnedSemaphorePermit>,
) -> Result<Option<u64>, PullFailed> {
    loop {
        if permit.is_none() {
            *permit = permits.clone().acquire_owned().await.ok();
        }
        let walked = pull.walk().await?;
        if !walked.holds_entries() {
            *permit = None;
        }
        if let WalkEnd::Finished { guarded } = pull.end_walk(walked).await? {
            return Ok(guarded);
        }
    }
}

fn say_finished(task: &Task, pull: &Pull<'_>, guarded: Option<u64>) {
    let (name, tally, mode) = (task.name(), pull.tally(), pull.head().mode);
    tracing::debug!(
        person = %name, mode = mode.as_str(), pages = pull.cost().pages, inserted = tally.inserted,
        updated = tally.updated, deleted = tally.deleted, "pull of {name} finished"
    );
    if pull.since_ignored() == IGNORED_TOLD {
        tracing::warn!(person = %name, "{name}: the server ignores _since: each pull brings everything, unchanged");
    }
    if let Some(rows) = guarded {
        tracing::warn!(person = %name, rows, "{name}: {rows} resources were gone at once; nothing is marked as deleted for 24 hours");
    }
}

fn pull_rules(settings: &Settings) -> PullRules {
    PullRules {
        page_size: settings.sync.page_size,
        overlap: settings.sync.overlap,
        pages_max: settings.sync.pages_max,
        bytes_max: settings.sync.bytes_max,
        time_max: settings.sync.time_max,
    }
}

async fn plan_pull(cycle: &Cycle, task: &Task, due: PullMode) -> Result<PullPlan, StoreFailed> {
    let checkpoint = &task.lease.checkpoint;
    let mode = mode_of(checkpoint, due);
    let mut plan = PullPlan {
        person: checkpoint.person.clone(),
        mode,
        types: task.types.clone(),
        since: checkpoint.watermark.filter(|_| mode == PullMode::Incremental),
        resume: None,
        short_since: checkpoint.short_since,
    };
    if let Some(unfinished) = &checkpoint.unfinished
        && let Some(next_url) = &unfinished.next_url
        && can_resume(unfinished, mode, &task.types, clock::now())
    {
        let walks = cycle.warehouse.unfinished_walks(&checkpoint.person).await?;
        plan.since = unfinished.since;
        let (unfinished, next_url) = (unfinished.clone(), next_url.clone());
        plan.resume = Some(ResumePoint { unfinished, next_url, walks });
    }
    Ok(plan)
}

/// What was asked about a patient, and failed.
pub(super) struct Asked<'t> {
    pub(super) task: &'t Task,
    pub(super) head: PullHead,
    pub(super) cost: PullCost,
}

impl Asked<'_> {
    /// Returns whether the pull has stored anything.
    fn is_marked(&self) -> bool {
        self.head.is_resumed || self.cost.row.is_some()
    }
}

/// Records how a pull ended that did not finish.
async fn record_failure(cycle: &Cycle, asked: Asked<'_>, failed: PullFailed) -> PatientOutcome {
    let is_marked = asked.is_marked();
    let Asked { task, head, cost } = asked;
    if matches!(failed, PullFailed::Request(RequestFailed::Forbidden)) {
        return note_refusal(cycle, Asked { task, head, cost }).await;
    }
    let (now, name, why) = (clock::now(), task.name(), failed.to_string());
    if matches!(failed, PullFailed::Superseded) {
        tracing::info!(person = %name, "{name}: {why}, or an operator has purged it; what was not stored is left to that");
        return PatientOutcome::LeftToOthers;
    }
    let period = cycle.settings.sync.schedule.period(now);
    let failure = failure_of(&failed);
    let verdict = judge_failure(failure, task.lease.checkpoint.failures + 1, period);
    // Who is not pulled is not failing.
    let is_check = matches!(task.due, Due::AskConsent);
    let event_of = |event| if is_check && event == Event::PullFailed { Event::CheckFailed } else { event };
    let setback = verdict.event.map(event_of).map(|event| Setback {
        event,
        error: Some(why.clone()),
        next_attempt_at: verdict.delay.map(|delay| now + TimeDelta::from_std(delay).unwrap_or_default()),
        was_answered: event == Event::PersonUnknown,
        was_permitted: false,
        breaks_row: failed.is_other_answer(),
        forgets_pull: matches!(failed, PullFailed::Unsteady(_) | PullFailed::Short { .. }),
        short: failed.short_note(),
    });
    let outcome = match failure {
        Failure::CredentialsRefused | Failure::Warehouse => return PatientOutcome::Ends(end_of(failed)),
        Failure::PersonUnknown => PullOutcome::NotFound,
        Failure::Stopped => PullOutcome::Interrupted,
        _ => PullOutcome::Failed,
    };
    let error = if failure == Failure::Stopped { "asked to stop".to_owned() } else { why.clone() };
    if failure != Failure::Stopped {
        tracing::warn!(person = %name, "{name}: {why}; what it has is kept");
    }
    let ended = PullEnded { head, cost, is_marked, outcome, error: Some(error), setback };
    match cycle.warehouse.end_pull(ended, now).await {
        Ok(Fenced::Kept(())) => {}
        Ok(Fenced::Superseded) => tracing::warn!(person = %name, "{name}: {}", PullFailed::Superseded),
        Err(failed) => return PatientOutcome::Ends(EndedEarly::Warehouse(failed)),
    }
    let failed_by = |contact| PatientOutcome::Failed { contact, why };
    match (failure, verdict.effect) {
        (_, Effect::EndsCycle) => PatientOutcome::Ends(end_of(failed)),
        (_, Effect::CountsAsSilent) => failed_by(Contact::Silent),
        (_, Effect::CountsAsTokenRefused) => failed_by(Contact::TokenRefused),
        (Failure::PersonUnknown, Effect::None) => PatientOutcome::NotFound,
        (Failure::Stopped, Effect::None) => PatientOutcome::Interrupted,
        (_, Effect::None) => failed_by(Contact::Answered),
    }
}

fn failure_of(failed: &PullFailed) -> Failure {
    match failed {
        PullFailed::Request(RequestFailed::PersonUnknown) => Failure::PersonUnknown,
        PullFailed::Request(RequestFailed::TokenRefused) => Failure::TokenRefused,
        PullFailed::Request(RequestFailed::CredentialsRefused { .. }) => Failure::CredentialsRefused,
        PullFailed::Request(RequestFailed::Stopped) => Failure::Stopped,
        PullFailed::Request(RequestFailed::WaitTooLong { wait, all_workers, .. }) => {
            Failure::ToldToWait { wait: *wait, everyone: *all_workers }
        }
        PullFailed::Request(RequestFailed::Transient { stage: FailureStage::NoAnswer, .. }) => {
            Failure::Silent
        }
        PullFailed::Store(failed) if failed.concern() != Concern::Patient => Failure::Warehouse,
        _ => Failure::Other,
    }
}

/// Returns why the cycle ends, for a failure that ends it.
fn end_of(failed: PullFailed) -> EndedEarly {
    match failed {
        PullFailed::Store(failed) => EndedEarly::Warehouse(failed),
        PullFailed::Request(RequestFailed::WaitTooLong { wait, .. }) => EndedEarly::ToldToWait(wait),
        failed => EndedEarly::CredentialsRefused(failed.to_string()),
    }
}

async fn ask_consent(cycle: &Cycle, task: Task) -> PatientOutcome {
    let head = head_of_question(&task, clock::now());
    match question(cycle, task.person(), None).await {
        Ok(()) => match note_permitted(cycle, task.person()).await {
            Ok(_) => PatientOutcome::Permitted,
            Err(failed) => PatientOutcome::Ends(EndedEarly::Warehouse(failed)),
        },
        Err(RequestFailed::Stopped) => PatientOutcome::Interrupted,
        Err(failed) => {
            let asked = Asked { task: &task, head, cost: PullCost::default() };
            record_failure(cycle, asked, failed.into()).await
        }
    }
}

/// Asks whether a patient may be read, with this token or the present one. A refusal is
/// [`RequestFailed::Forbidden`].
pub(super) async fn question(
    cycle: &Cycle,
    person: &PersonId,
    token: Option<&Arc<AccessToken>>,
) -> Result<(), RequestFailed> {
    let url = Query::of_consent(person).first_url(cycle.api.base_url());
    cycle
        .api
        .ask_consent(
            &url,
            token.map(Arc::as_ref),
            &consent_budget().named(&cycle.names.of(person)),
            &cycle.stop,
        )
        .await
}

fn head_of_question(task: &Task, now: Timestamp) -> PullHead {
    PullHead {
        person: task.person().clone(),
        mode: PullMode::Incremental,
        types: task.types.clone(),
        started_at: now,
        since: None,
        is_resumed: false,
    }
}

/// Writes a refusal down, so that no restart forgets it. Of a patient that is purged already
/// there is nothing to write.
pub(super) async fn note_refusal(cycle: &Cycle, asked: Asked<'_>) -> PatientOutcome {
    let is_marked = asked.is_marked();
    let Asked { task, head, mut cost } = asked;
    let (now, name) = (clock::now(), task.name());
    tracing::debug!(person = %name, "{name}: refused (403)");
    // One that consents again, by the records, is to be permitted.
    if task.lease.checkpoint.state == PatientState::Revoked && !task.consents {
        let (outcome, setback) = (PullOutcome::Revoked, Some(Setback::answered(Event::Refused)));
        let ended = PullEnded { head, cost, is_marked, outcome, error: None, setback };
        return match cycle.warehouse.end_pull(ended, now).await {
            Ok(Fenced::Kept(()) | Fenced::Superseded) => PatientOutcome::StillRevoked,
            Err(failed) => PatientOutcome::Ends(EndedEarly::Warehouse(failed)),
        };
    }
    match cycle.warehouse.note_refusal(&head, cost, now).await {
        Ok(row) => cost.row = row,
        Err(failed) => return PatientOutcome::Ends(EndedEarly::Warehouse(failed)),
    }
    let refused_at = first_refused(task, now);
    let (task, was_refused) = (task.clone(), true);
    PatientOutcome::Refused(Box::new(Refusal { task, head, cost, is_marked, was_refused, refused_at }))
}

/// Notes that a question about a consent was permitted. Where another has taken the patient over, that is its to note.
pub(super) async fn note_permitted(cycle: &Cycle, person: &PersonId) -> Result<Fenced<()>, StoreFailed> {
    let answer = Setback::answered(Event::StillPermitted);
    cycle.warehouse.note_answer(person, answer, clock::now()).await
}

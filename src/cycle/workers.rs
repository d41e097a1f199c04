//! The patients of a cycle, some at once: what each pull taught is recorded as it ends.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::TimeDelta;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::progress::Seen;
use super::{EndedEarly, Means, SILENT_ROUNDS_MAX, Summary, Task, pull_rules};
use crate::healthex::{FailureStage, RequestFailed};
use crate::plan::due::{Due, failure_delay, may_resume};
use crate::plan::paging::Query;
use crate::plan::{Learned, PullMode, Timestamp};
use crate::pull::{Ending, Order, PullFailed, Pulled, Resume, Sink};
use crate::slot::Slot;
use crate::warehouse::checkpoint::Lesson;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::Tally;
use crate::warehouse::pulls::{PullOrigin, PullOutcome, PullRow};
use crate::warehouse::{checkpoint, pulls};
use crate::{clock, pull};

/// A full pull for the sake of renamed entries is made at most this often.
const RENAMED_FULL_EVERY: TimeDelta = TimeDelta::hours(24);

/// Pulls beyond `concurrency` that have only to be noted as done: waiting together for the
/// disk, they share a commit.
const ENDINGS_WAITING_MAX: usize = 64;

/// What all workers of a cycle have done together.
#[derive(Default)]
pub(super) struct Work {
    pub(super) ok: u64,
    pub(super) revoked: u64,
    pub(super) held: u64,
    pub(super) not_found: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
    pub(super) not_reached: u64,
    pub(super) tally: Tally,
    pub(super) pages: u64,
    /// To be asked again before anyone believes it.
    pub(super) refused: Vec<Refused>,
    pub(super) ended: Option<EndedEarly>,
    /// Somebody got an answer that a working token gets.
    got_through: bool,
    silent: usize,
    token_refused: usize,
}

/// A patient whose pull ended in a 403.
pub(super) struct Refused {
    pub(super) task: Task,
    pub(super) mode: PullMode,
    pub(super) row: PullRow,
    pub(super) started_at: Timestamp,
}

/// How one patient's turn ended.
pub(super) enum Turn {
    Ok,
    /// Asked for its consent only, which stands.
    Permitted,
    Refused(Box<Refused>),
    NotFound,
    Failed {
        silent: bool,
    },
    TokenRefused(String),
    /// This ends the cycle for all.
    Ends(EndedEarly),
    Interrupted,
}

/// Deals with all tasks, on a worker thread: the main thread would have to be woken up for each
/// patient, which costs as much as asking. Dropped, it takes all pulls along.
pub(super) async fn work(means: &Means, tasks: Vec<Task>) -> Work {
    let means = means.clone();
    let mut alone = JoinSet::new();
    alone.spawn(async move { pull_side_by_side(&means, tasks).await });
    match alone.join_next().await {
        Some(Ok(work)) => work,
        Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
        None => Work::default(),
    }
}

async fn pull_side_by_side(means: &Means, tasks: Vec<Task>) -> Work {
    let mut work = Work::default();
    let mut waiting: VecDeque<Task> = tasks.into();
    let mut running = JoinSet::new();
    let concurrency = means.settings.sync.concurrency;
    let slots = Arc::new(Semaphore::new(concurrency));
    loop {
        let may_begin = !waiting.is_empty()
            && running.len() < concurrency + ENDINGS_WAITING_MAX
            && work.ended.is_none()
            && !means.stop.is_asked();
        tokio::select! {
            // What has ended may mean that nobody else is to begin.
            biased;
            Some(joined) = running.join_next() => {
                match joined {
                    Ok(((turn, tally, pages), _slot)) => {
                        work.tally += tally;
                        work.pages += pages;
                        work.count(turn, concurrency);
                    }
                    Err(panicked) => {
                        tracing::error!("a pull ended in a bug of this program: {panicked}; please report it");
                        work.failed += 1;
                    }
                }
                means.progress.send_modify(|progress| {
                    progress.done += 1;
                    progress.resources = work.tally.inserted + work.tally.updated + work.tally.unchanged;
                });
            }
            mut slot = Slot::take(&slots), if may_begin => {
                if !means.stop.is_asked() && let Some(task) = waiting.pop_front() {
                    let means = means.clone();
                    running.spawn(async move { (turn(&means, task, &mut slot).await, slot) });
                }
            }
            else => break,
        }
    }
    work.not_reached += waiting.len() as u64;
    if work.ended.is_none() && work.not_reached > 0 {
        work.ended = Some(EndedEarly::Stopped);
    }
    if work.ended.is_none() && work.token_refused > 0 && !work.got_through {
        work.ended = Some(EndedEarly::CredentialsRefused(RequestFailed::TokenRefused.to_string()));
    }
    work
}

impl Work {
    /// How many patients have been tried, those that were refused among them.
    pub(super) fn tried(&self) -> usize {
        let others = self.ok + self.not_found + self.failed + self.skipped;
        self.refused.len() + usize::try_from(others).unwrap_or(usize::MAX)
    }

    fn count(&mut self, turn: Turn, concurrency: usize) {
        let many = SILENT_ROUNDS_MAX * concurrency;
        let silent = std::mem::take(&mut self.silent);
        match turn {
            Turn::Ok => self.ok += 1,
            Turn::Permitted => self.skipped += 1,
            Turn::NotFound => self.not_found += 1,
            Turn::Refused(refused) => self.refused.push(*refused),
            Turn::Failed { silent: false } => {
                self.failed += 1;
                return;
            }
            Turn::Failed { silent: true } => {
                self.failed += 1;
                self.silent = silent + 1;
                if self.silent >= many {
                    self.end(EndedEarly::ServerDown);
                }
                return;
            }
            Turn::TokenRefused(why) => {
                self.failed += 1;
                self.token_refused += 1;
                if !self.got_through && self.token_refused >= many {
                    self.end(EndedEarly::CredentialsRefused(why));
                }
                return;
            }
            Turn::Ends(ended) => {
                // Told to wait, this patient has had an answer; otherwise nobody was to blame.
                if matches!(ended, EndedEarly::ToldToWait(_)) {
                    self.failed += 1;
                } else {
                    self.not_reached += 1;
                }
                self.end(ended);
                return;
            }
            Turn::Interrupted => {
                self.not_reached += 1;
                return;
            }
        }
        self.got_through = true;
    }

    fn end(&mut self, ended: EndedEarly) {
        self.ended.get_or_insert(ended);
    }

    pub(super) fn settle(self, summary: &mut Summary) {
        let patients = &mut summary.patients;
        patients.ok += self.ok;
        patients.revoked += self.revoked;
        patients.held += self.held;
        patients.not_found += self.not_found;
        patients.failed += self.failed;
        patients.skipped += self.skipped + self.not_reached;
        summary.not_reached = self.not_reached;
        summary.resources += self.tally;
        summary.pages += self.pages;
        summary.ended_early = self.ended;
    }
}

async fn turn(means: &Means, task: Task, slot: &mut Slot) -> (Turn, Tally, u64) {
    match task.due.clone() {
        Due::Pull(mode) => pull_patient(means, task, mode, slot).await,
        Due::AskConsent | Due::Nothing(_) => (ask_consent(means, task).await, Tally::default(), 0),
    }
}

/// Pulls one patient, and in full at once if entries seem to have been renamed.
pub(super) async fn pull_patient(
    means: &Means,
    task: Task,
    mode: PullMode,
    slot: &mut Slot,
) -> (Turn, Tally, u64) {
    let (turn, mut tally, mut pages, renamed) = pull_once(means, &task, mode, slot).await;
    let today = |at: Timestamp| clock::now() - at < RENAMED_FULL_EVERY && at <= clock::now();
    if !renamed || mode == PullMode::Full || task.patient.renamed_full_at.is_some_and(today) {
        return (turn, tally, pages);
    }
    let person = task.patient.person.clone();
    let noted = means
        .warehouse
        .write(move |connection| checkpoint::note_renamed_full(connection, &person, clock::now()))
        .await;
    if let Err(failed) = noted {
        return (Turn::Ends(EndedEarly::Warehouse(failed)), tally, pages);
    }
    tracing::info!(person = %task.name, "{}: entries have new names; a full pull follows", task.name);
    let (turn, more, more_pages, _) = pull_once(means, &task, PullMode::Full, slot).await;
    tally += more;
    pages += more_pages;
    (turn, tally, pages)
}

async fn pull_once(means: &Means, task: &Task, mode: PullMode, slot: &mut Slot) -> (Turn, Tally, u64, bool) {
    let order = match order(means, task, mode).await {
        Ok(order) => order,
        Err(failed) => return (Turn::Ends(EndedEarly::Warehouse(failed)), Tally::default(), 0, false),
    };
    let seen = Seen::begin(&means.progress, &task.name);
    let pull_means = pull::Means {
        api: means.api.clone(),
        sink: Sink::Warehouse(Arc::clone(&means.warehouse)),
        rules: pull_rules(&means.settings),
        stop: means.stop.clone(),
        pace: seen.pace.clone(),
    };
    let pulled = pull::pull(&pull_means, order, slot).await;
    let (tally, pages) = (pulled.tally, pulled.row.pages);
    let renamed = matches!(pulled.ending, Ending::Finished { renamed: true, .. });
    (learn(means, task, mode, pulled).await, tally, pages, renamed)
}

async fn order(means: &Means, task: &Task, mode: PullMode) -> Result<Order, StoreFailed> {
    let standing = &task.patient.standing;
    let since = match mode {
        PullMode::Full => None,
        PullMode::Incremental => standing.watermark,
    };
    // An interrupted full pull is gone on with where an incremental one would do: it sees more.
    let unfinished = standing.under_way.as_ref().filter(|under_way| under_way.next_url.is_some());
    let mode = unfinished
        .map_or(mode, |under_way| if under_way.mode == PullMode::Full { PullMode::Full } else { mode });
    let since = since.filter(|_| mode == PullMode::Incremental);
    let mut order =
        Order { person: task.patient.person.clone(), mode, types: task.types.clone(), since, resume: None };
    let Some(mut under_way) = standing.under_way.clone() else { return Ok(order) };
    let Some(next_url) = under_way.next_url.clone() else { return Ok(order) };
    let person = task.patient.person.clone();
    let walks = means.warehouse.write(move |connection| checkpoint::walks(connection, &person)).await?;
    under_way.has_total = walks.last().is_some_and(|walk| walk.total.is_some());
    if may_resume(&under_way, mode, &task.types, clock::now()) {
        order.since = under_way.since;
        order.resume = Some(Resume { under_way, next_url, walks });
    }
    Ok(order)
}

/// Records how a pull ended.
async fn learn(means: &Means, task: &Task, mode: PullMode, pulled: Pulled) -> Turn {
    let name = &task.name;
    let (row, tally) = (pulled.row, pulled.tally);
    let failed = match pulled.ending {
        Ending::Finished { guarded, .. } => {
            tracing::debug!(
                person = %name, mode = mode.as_str(), pages = row.pages, inserted = tally.inserted,
                updated = tally.updated, deleted = tally.deleted, "pull of {name} finished"
            );
            if let Some(rows) = guarded {
                tracing::warn!(person = %name, rows, "{name}: {rows} resources were gone at once; nothing is marked as deleted for 24 hours");
            }
            return Turn::Ok;
        }
        Ending::Failed(failed) => failed,
    };
    let refused =
        |row, started_at| Turn::Refused(Box::new(Refused { task: task.clone(), mode, row, started_at }));
    match failed {
        PullFailed::Request(RequestFailed::Forbidden) => refused(row, pulled.started_at),
        PullFailed::Store(failed) if failed.is_about_the_file() => Turn::Ends(EndedEarly::Warehouse(failed)),
        PullFailed::Request(RequestFailed::CredentialsRefused { .. }) => {
            Turn::Ends(EndedEarly::CredentialsRefused(failed.to_string()))
        }
        PullFailed::Request(RequestFailed::Stopped) => {
            let end = (PullOutcome::Interrupted, "asked to stop");
            record(means, task, (mode, row, pulled.started_at), end, None).await.unwrap_or(Turn::Interrupted)
        }
        failed => learn_failure(means, task, (mode, row, pulled.started_at), failed).await,
    }
}

type PullFacts = (PullMode, PullRow, Timestamp);

async fn learn_failure(means: &Means, task: &Task, facts: PullFacts, failed: PullFailed) -> Turn {
    let name = &task.name;
    let why = failed.to_string();
    let now = clock::now();
    let (outcome, learned, turn) = match &failed {
        PullFailed::Request(RequestFailed::PersonUnknown) => {
            (PullOutcome::NotFound, Learned::PersonUnknown, Turn::NotFound)
        }
        PullFailed::Request(RequestFailed::TokenRefused) => {
            (PullOutcome::Failed, Learned::PullFailed, Turn::TokenRefused(why.clone()))
        }
        PullFailed::Request(RequestFailed::WaitTooLong { wait, all_workers: true, .. }) => {
            (PullOutcome::Failed, Learned::PullFailed, Turn::Ends(EndedEarly::ToldToWait(*wait)))
        }
        PullFailed::Request(RequestFailed::Transient { stage: FailureStage::NoAnswer, .. }) => {
            (PullOutcome::Failed, Learned::PullFailed, Turn::Failed { silent: true })
        }
        _ => (PullOutcome::Failed, Learned::PullFailed, Turn::Failed { silent: false }),
    };
    tracing::warn!(person = %name, "{name}: {why}; what it has is kept");
    let wait = match &failed {
        PullFailed::Request(RequestFailed::WaitTooLong { wait, .. }) => *wait,
        _ => failure_delay(task.patient.failures + 1, means.settings.sync.schedule.period(now)),
    };
    let lesson = Lesson {
        person: task.patient.person.clone(),
        learned,
        error: Some(why.clone()),
        next_attempt_at: (learned == Learned::PullFailed)
            .then(|| now + TimeDelta::from_std(wait).unwrap_or_default()),
        was_answered: learned == Learned::PersonUnknown,
    };
    let begins_again = matches!(failed, PullFailed::Incomplete { .. });
    record(means, task, facts, (outcome, &why), Some((lesson, begins_again))).await.unwrap_or(turn)
}

/// Writes the end of a pull that did not finish. Gives a turn back only if that failed.
async fn record(
    means: &Means,
    task: &Task,
    (mode, row, started_at): PullFacts,
    (outcome, error): (PullOutcome, &str),
    lesson: Option<(Lesson, bool)>,
) -> Option<Turn> {
    let since = task.patient.standing.watermark.filter(|_| mode == PullMode::Incremental);
    let origin = PullOrigin { person: task.patient.person.clone(), mode, since, started_at };
    let error = error.to_owned();
    let written = means
        .warehouse
        .write(move |connection| {
            let now = clock::now();
            let ended = (outcome, Some(error.as_str()), now);
            pulls::note(connection, &origin, &row, Tally::default(), Some(ended))?;
            if let Some((lesson, begins_again)) = &lesson {
                if *begins_again {
                    checkpoint::drop_pull(connection, &origin.person)?;
                }
                checkpoint::count_link_failure(connection, &origin.person)?;
                checkpoint::learn(connection, lesson, now)?;
            }
            Ok(())
        })
        .await;
    match written {
        Ok(()) => None,
        Err(failed) => Some(Turn::Ends(EndedEarly::Warehouse(failed))),
    }
}

async fn ask_consent(means: &Means, task: Task) -> Turn {
    let url = Query::of_consent(&task.patient.person).first_url(means.api.base_url());
    let budget = super::confirm::budget();
    let started_at = clock::now();
    let Means { api, stop, .. } = means;
    let answer = api.retry(api.attempts(), stop, || api.open_page(&url, &budget, stop)).await;
    match answer.map(drop) {
        Ok(()) => super::confirm::still_permitted(means, &task).await.unwrap_or(Turn::Permitted),
        Err(RequestFailed::Forbidden) => {
            let row = PullRow::default();
            Turn::Refused(Box::new(Refused { task, mode: PullMode::Incremental, row, started_at }))
        }
        Err(RequestFailed::Stopped) => Turn::Interrupted,
        Err(failed @ RequestFailed::CredentialsRefused { .. }) => {
            Turn::Ends(EndedEarly::CredentialsRefused(failed.to_string()))
        }
        Err(failed) => {
            let facts = (PullMode::Incremental, PullRow::default(), started_at);
            learn_failure(means, &task, facts, failed.into()).await
        }
    }
}

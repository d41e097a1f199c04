//! The patients of a cycle, some at once, and what they have come to together.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::patient::{PatientOutcome, PatientReport, Refusal, deal_with};
use super::tasks::Task;
use super::{Cycle, EndedEarly, PurgeNote, Summary};
use crate::healthex::RequestFailed;
use crate::plan::breaker::{Breaker, Contact, Trip};
use crate::warehouse::page::Tally;

/// Pulls beyond `concurrency` that have only to be noted as done: waiting together for the
/// disk, they share a commit.
const ENDINGS_WAITING_MAX: usize = 64;

/// What the patients of a cycle have come to.
#[derive(Default)]
pub(super) struct CycleTally {
    pub(super) ok: u64,
    pub(super) revoked: u64,
    pub(super) held: u64,
    pub(super) not_found: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
    pub(super) not_reached: u64,
    pub(super) resources: Tally,
    pub(super) pages: u64,
    /// To be asked again before anyone believes it.
    pub(super) refused: Vec<Refusal>,
    pub(super) purged: Vec<PurgeNote>,
    pub(super) ended: Option<EndedEarly>,
}

impl CycleTally {
    /// Returns how many patients have been tried, those that were refused among them.
    pub(super) fn tried(&self) -> usize {
        let others = self.ok + self.not_found + self.failed + self.skipped;
        self.refused.len() + usize::try_from(others).unwrap_or(usize::MAX)
    }

    /// Returns whether somebody was refused, and the warehouse can still be written.
    pub(super) fn may_confirm(&self) -> bool {
        !self.refused.is_empty() && !matches!(self.ended, Some(EndedEarly::Warehouse(_)))
    }

    /// Counts one patient, and returns what it has shown of the server.
    pub(super) fn count(&mut self, report: PatientReport) -> Option<Contact> {
        self.resources += report.tally;
        self.pages += report.pages;
        match report.outcome {
            PatientOutcome::Ok => self.ok += 1,
            PatientOutcome::Permitted => self.skipped += 1,
            PatientOutcome::NotFound => self.not_found += 1,
            PatientOutcome::Refused(refusal) => self.refused.push(*refusal),
            PatientOutcome::Failed(contact) => {
                self.failed += 1;
                return Some(contact);
            }
            PatientOutcome::Ends(ended) => {
                // Told to wait, this patient has had an answer; otherwise nobody was to blame.
                if matches!(ended, EndedEarly::ToldToWait(_)) {
                    self.failed += 1;
                } else {
                    self.not_reached += 1;
                }
                self.end(ended);
                return None;
            }
            PatientOutcome::Interrupted => {
                self.not_reached += 1;
                return None;
            }
        }
        Some(Contact::GotThrough)
    }

    pub(super) fn end(&mut self, ended: EndedEarly) {
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
        summary.resources += self.resources;
        summary.pages += self.pages;
        summary.purged.extend(self.purged);
        summary.ended_early = self.ended;
    }
}

/// Deals with all tasks, on a worker thread: the main thread would have to be woken up for each
/// patient, which costs as much as asking. Dropped, it takes all pulls along.
pub(super) async fn pull_all(cycle: &Cycle, tasks: Vec<Task>) -> CycleTally {
    let cycle = cycle.clone();
    let mut alone = JoinSet::new();
    alone.spawn(async move { pull_side_by_side(&cycle, tasks).await });
    match alone.join_next().await {
        Some(Ok(tally)) => tally,
        Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
        None => CycleTally::default(),
    }
}

async fn pull_side_by_side(cycle: &Cycle, tasks: Vec<Task>) -> CycleTally {
    let mut tally = CycleTally::default();
    let mut waiting: VecDeque<Task> = tasks.into();
    let mut running = JoinSet::new();
    let concurrency = cycle.settings.sync.concurrency;
    let mut breaker = Breaker::new(concurrency);
    let permits = Arc::new(Semaphore::new(concurrency));
    loop {
        let may_begin = !waiting.is_empty()
            && running.len() < concurrency + ENDINGS_WAITING_MAX
            && tally.ended.is_none()
            && !cycle.stop.is_asked();
        tokio::select! {
            // What has ended may mean that nobody else is to begin.
            biased;
            Some(joined) = running.join_next() => {
                match joined {
                    Ok(report) => {
                        let contact = tally.count(report);
                        if let Some(trip) = contact.and_then(|contact| breaker.observe(contact)) {
                            tally.end(ended_by(trip));
                        }
                    }
                    Err(panicked) => {
                        tracing::error!("a pull ended in a bug of this program: {panicked}; please report it");
                        tally.failed += 1;
                    }
                }
                cycle.progress.send_modify(|progress| {
                    progress.done += 1;
                    let Tally { inserted, updated, unchanged, .. } = tally.resources;
                    progress.resources = inserted + updated + unchanged;
                });
            }
            Ok(permit) = permits.clone().acquire_owned(), if may_begin => {
                if !cycle.stop.is_asked() && let Some(task) = waiting.pop_front() {
                    let (cycle, permits) = (cycle.clone(), permits.clone());
                    running.spawn(async move { deal_with(&cycle, task, &permits, permit).await });
                }
            }
            else => break,
        }
    }
    tally.not_reached += waiting.len() as u64;
    if tally.ended.is_none() && tally.not_reached > 0 {
        tally.ended = Some(EndedEarly::Stopped);
    }
    if let Some(trip) = breaker.at_end() {
        tally.end(ended_by(trip));
    }
    tally
}

fn ended_by(trip: Trip) -> EndedEarly {
    match trip {
        Trip::ServerDown => EndedEarly::ServerDown,
        Trip::CredentialsRefused => EndedEarly::CredentialsRefused(RequestFailed::TokenRefused.to_string()),
    }
}

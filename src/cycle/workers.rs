//! The patients of a cycle, some at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

use super::patient::{PatientOutcome, PatientReport, Refusal, deal_with};
use super::tally::CycleTally;
use super::turns::{Answer, Turns};
use super::{Cycle, EndedEarly, round};
use crate::clock;
use crate::clock::Instant;
use crate::healthex::RequestFailed;
use crate::plan::breaker::{Breaker, Trip};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::Tally;
use crate::warehouse::turn::Claimed;

/// Pulls beyond `concurrency` that have only to be noted as done: waiting together for the
/// disk, they share a commit.
const ENDINGS_WAITING_MAX: usize = 64;

/// Holds a round about those that are refused and that nobody has ordered to be purged.
pub(super) async fn hold_round(cycle: &Cycle, tally: &mut CycleTally) {
    let _round = cycle.active.begin_round(tally.refused_persons());
    tally.forget_ordered(&cycle.active);
    let Some(shared) = cycle.warehouse.shared() else { return round::hold_round(cycle, tally).await };
    let refused = tally.refused_fences();
    if refused.is_empty() {
        return;
    }
    let persons = refused.iter().map(|(person, _)| person.clone()).collect();
    let held = match shared.hold_refused(refused).await {
        Ok(held) => held,
        Err(failed) => return tally.end(EndedEarly::Warehouse(failed)),
    };
    tally.take_fences(&held);
    round::hold_round(cycle, tally).await;
    if let Err(failed) = shared.give_back(persons).await {
        tally.end(EndedEarly::Warehouse(failed));
    }
}

/// Deals with everybody, on a worker thread: the main thread would have to be woken up for each
/// patient, which costs as much as asking. Dropped, it takes all pulls along.
pub(super) async fn pull_all(cycle: &Cycle, turns: Turns, tally: CycleTally) -> CycleTally {
    let cycle = cycle.clone();
    let mut alone = JoinSet::new();
    alone.spawn(async move { SideBySide::new(&cycle, turns, tally).pull().await });
    match alone.join_next().await {
        Some(Ok(tally)) => tally,
        Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
        None => CycleTally::default(),
    }
}

/// Pulls that run side by side.
struct SideBySide<'c> {
    cycle: &'c Cycle,
    turns: Turns,
    tally: CycleTally,
    breaker: Breaker,
    running: JoinSet<PatientReport>,
    permits: Arc<Semaphore>,
}

impl<'c> SideBySide<'c> {
    fn new(cycle: &'c Cycle, turns: Turns, tally: CycleTally) -> Self {
        let concurrency = cycle.settings.sync.concurrency;
        Self {
            cycle,
            turns,
            tally,
            breaker: Breaker::new(concurrency),
            running: JoinSet::new(),
            permits: Arc::new(Semaphore::new(concurrency)),
        }
    }

    fn may_go_on(&self) -> bool {
        self.tally.ended.is_none() && !self.cycle.stop.is_asked()
    }

    fn may_begin(&self) -> bool {
        let most = self.cycle.settings.sync.concurrency + ENDINGS_WAITING_MAX;
        !self.turns.is_empty() && self.running.len() < most && self.may_go_on()
    }

    async fn pull(mut self) -> CycleTally {
        let cycle = self.cycle;
        loop {
            if self.may_go_on() {
                self.turns.ask(cycle, || self.tally.part(&cycle.api));
            }
            let (may_begin, is_asking) = (self.may_begin(), self.turns.is_asking() && self.may_go_on());
            let is_at_work = may_begin || is_asking || !self.running.is_empty();
            tokio::select! {
                // What has ended may mean that nobody else is to begin.
                biased;
                Some(joined) = self.running.join_next() => self.count(joined),
                answer = self.turns.answer(), if is_asking => self.take(answer),
                Ok(permit) = self.permits.clone().acquire_owned(), if may_begin => self.begin(permit),
                // Those that still wait for their turn may take hours.
                () = until(self.tally.round_at()), if self.tally.may_hold_round() && is_at_work => {
                    hold_round(cycle, &mut self.tally).await;
                }
                () = cycle.stop.gently.cancelled(), if is_asking => {}
                else => break,
            }
        }
        self.end().await
    }

    fn begin(&mut self, permit: OwnedSemaphorePermit) {
        if !self.cycle.stop.is_asked()
            && let Some(task) = self.turns.next()
        {
            let (cycle, permits) = (self.cycle.clone(), self.permits.clone());
            self.running.spawn(async move { Box::pin(deal_with(&cycle, task, &permits, permit)).await });
        }
    }

    fn count(&mut self, joined: Result<PatientReport, JoinError>) {
        match joined {
            Ok(report) => {
                let person = report.person.clone();
                let is_over = report.is_over();
                if matches!(report.outcome, PatientOutcome::Refused(_)) {
                    self.turns.is_refused(&person);
                }
                let contact = self.tally.count(report);
                if let Some(trip) = contact.and_then(|contact| self.breaker.observe(contact)) {
                    self.tally.end(ended_by(trip, &self.tally));
                }
                if is_over {
                    self.turns.is_over(person);
                }
                if self.cycle.warehouse.shared().is_some_and(|shared| !shared.leads()) {
                    // Whoever leads finds them noted.
                    drop(self.tally.take_refused());
                }
            }
            Err(panicked) => {
                tracing::error!("a pull ended in a bug of this program: {panicked}; please report it");
                self.tally.failed += 1;
            }
        }
        let tally = &self.tally;
        self.cycle.progress.send_modify(|progress| {
            progress.done += 1;
            let Tally { inserted, updated, unchanged, .. } = tally.resources;
            progress.resources = inserted + updated + unchanged;
        });
    }

    fn take(&mut self, answer: Result<Answer, StoreFailed>) {
        let Answer { claimed, refused } = match answer {
            Ok(answer) => answer,
            Err(failed) => return self.tally.end(EndedEarly::Warehouse(failed)),
        };
        let now = clock::now();
        for task in self.turns.unknown(refused) {
            self.tally.refuse(Refusal::earlier(task, now));
        }
        match claimed {
            Claimed::Turns(turns) => self.turns.take(self.cycle, turns),
            Claimed::ToldToWait(wait) => self.tally.end(EndedEarly::ToldToWait(wait)),
            Claimed::OthersAtWork | Claimed::NothingLeft | Claimed::Closed => {}
        }
    }

    async fn end(self) -> CycleTally {
        let Self { cycle, mut turns, mut tally, breaker, .. } = self;
        tally.not_reached += turns.len() as u64;
        if tally.ended.is_none() && (tally.not_reached > 0 || cycle.stop.is_asked() && turns.is_asking()) {
            tally.ended = Some(EndedEarly::Stopped);
        }
        if let Some(trip) = breaker.at_end() {
            tally.end(ended_by(trip, &tally));
        }
        turns.end();
        if let Some(shared) = cycle.warehouse.shared() {
            tally.known_refused = turns.refused();
            let settled = turns.settle(cycle, tally.part(&cycle.api)).await;
            let told = match &tally.ended {
                Some(EndedEarly::ToldToWait(wait)) => shared.let_alone(*wait).await,
                _ => Ok(()),
            };
            if let Err(failed) = settled.and(told) {
                tally.end(EndedEarly::Warehouse(failed));
            }
        }
        tally
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => clock::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn ended_by(trip: Trip, tally: &CycleTally) -> EndedEarly {
    match trip {
        Trip::ServerDown => EndedEarly::ServerDown(tally.last_failure().to_owned()),
        Trip::CredentialsRefused => EndedEarly::CredentialsRefused(RequestFailed::TokenRefused.to_string()),
    }
}

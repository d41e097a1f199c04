//! The patients of a cycle, some at once.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::patient::deal_with;
use super::tally::CycleTally;
use super::tasks::Task;
use super::{Cycle, EndedEarly, round};
use crate::clock;
use crate::clock::Instant;
use crate::healthex::RequestFailed;
use crate::plan::breaker::{Breaker, Trip};
use crate::warehouse::page::Tally;

/// Pulls beyond `concurrency` that have only to be noted as done: waiting together for the
/// disk, they share a commit.
const ENDINGS_WAITING_MAX: usize = 64;

/// Holds a round about those that are refused and that nobody has ordered to be purged.
pub(super) async fn hold_round(cycle: &Cycle, tally: &mut CycleTally) {
    let _round = cycle.active.begin_round(tally.refused_persons());
    tally.forget_ordered(&cycle.active);
    round::hold_round(cycle, tally).await;
}

/// Deals with all tasks, on a worker thread: the main thread would have to be woken up for each
/// patient, which costs as much as asking. Dropped, it takes all pulls along.
pub(super) async fn pull_all(cycle: &Cycle, tasks: Vec<Task>, tally: CycleTally) -> CycleTally {
    let cycle = cycle.clone();
    let mut alone = JoinSet::new();
    alone.spawn(async move { pull_side_by_side(&cycle, tasks, tally).await });
    match alone.join_next().await {
        Some(Ok(tally)) => tally,
        Some(Err(panicked)) => std::panic::resume_unwind(panicked.into_panic()),
        None => CycleTally::default(),
    }
}

async fn pull_side_by_side(cycle: &Cycle, tasks: Vec<Task>, mut tally: CycleTally) -> CycleTally {
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
                            tally.end(ended_by(trip, &tally));
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
                    running.spawn(async move { Box::pin(deal_with(&cycle, task, &permits, permit)).await });
                }
            }
            // Those that still wait for their turn may take hours.
            () = until(tally.round_at()), if tally.may_hold_round() && (may_begin || !running.is_empty()) => {
                hold_round(cycle, &mut tally).await;
            }
            else => break,
        }
    }
    tally.not_reached += waiting.len() as u64;
    if tally.ended.is_none() && tally.not_reached > 0 {
        tally.ended = Some(EndedEarly::Stopped);
    }
    if let Some(trip) = breaker.at_end() {
        tally.end(ended_by(trip, &tally));
    }
    tally
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

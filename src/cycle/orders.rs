//! Operators' orders to purge a patient, heeded while a cycle is under way.
//!
//! Promise: a patient's pull is over before its rows go, and none begins afterwards, so that nothing
//! of it is stored behind the purge. A round that is asking about a patient comes to its end first.
//! Absent on purpose: where the orders are left, which is the warehouse's to know.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Cycle, PurgeNote};
use crate::clock;
use crate::plan::PersonId;
use crate::plan::state::PurgeReason;
use crate::warehouse::purge::{PurgeAnswer, PurgeRequest};

const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Who is being dealt with, and who was ordered to be purged.
#[derive(Debug, Default)]
pub(crate) struct ActivePatients {
    state: Mutex<State>,
    /// Told whenever somebody has been dealt with.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    active: HashMap<PersonId, CancellationToken>,
    in_round: HashSet<PersonId>,
    ordered: HashSet<PersonId>,
}

impl ActivePatients {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to deal with a patient; `None` where it was ordered to be purged.
    pub(super) fn begin(&self, person: &PersonId) -> Option<ActivePatient<'_>> {
        let mut state = self.state();
        if state.ordered.contains(person) {
            return None;
        }
        let purged = CancellationToken::new();
        state.active.insert(person.clone(), purged.clone());
        Some(ActivePatient { all: self, person: person.clone(), purged })
    }

    /// Keeps purges of these waiting until the round is over.
    pub(super) fn begin_round(&self, persons: impl Iterator<Item = PersonId>) -> ActiveRound<'_> {
        self.state().in_round.extend(persons);
        ActiveRound { all: self }
    }

    /// Returns whether a patient was ordered to be purged in this cycle.
    pub(super) fn is_ordered(&self, person: &PersonId) -> bool {
        self.state().ordered.contains(person)
    }

    /// Ends what is being done about everybody: others do it.
    fn end_all(&self) {
        self.state().active.values().for_each(CancellationToken::cancel);
    }

    /// Ends what is being done about a patient: others do it.
    fn end(&self, person: &PersonId) {
        if let Some(active) = self.state().active.get(person) {
            active.cancel();
        }
    }

    /// Ends what is being done about a patient, and waits until nothing is.
    async fn clear(&self, person: &PersonId) {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state();
                state.ordered.insert(person.clone());
                let active = state.active.get(person);
                if let Some(purged) = active {
                    purged.cancel();
                }
                if active.is_none() && !state.in_round.contains(person) {
                    return;
                }
            }
            changed.await;
        }
    }
}

/// A patient that is being dealt with, until this is dropped.
pub(super) struct ActivePatient<'a> {
    all: &'a ActivePatients,
    person: PersonId,
    purged: CancellationToken,
}

impl ActivePatient<'_> {
    /// Waits until somebody orders its purge. What is done about it is then to be dropped: a page
    /// that waits to be stored is stored before the purge or not at all.
    pub(super) async fn ordered(&self) {
        self.purged.cancelled().await;
    }
}

impl Drop for ActivePatient<'_> {
    fn drop(&mut self) {
        self.all.state().active.remove(&self.person);
        self.all.changed.notify_waiters();
    }
}

/// A round, until this is dropped.
pub(super) struct ActiveRound<'a> {
    all: &'a ActivePatients,
}

impl Drop for ActiveRound<'_> {
    fn drop(&mut self) {
        self.all.state().in_round.clear();
        self.all.changed.notify_waiters();
    }
}

/// Carries out orders as they come, until the cycle is `over`; and ends what others have taken over. Returns who was
/// purged.
pub(super) async fn heed(cycle: &Cycle, over: CancellationToken) -> Vec<PurgeNote> {
    let mut purged = Vec::new();
    loop {
        if let Some(shared) = cycle.warehouse.shared() {
            if shared.is_superseded() {
                cycle.active.end_all();
            }
            for person in shared.take_superseded() {
                let name = cycle.names.of(&person);
                tracing::info!(person = %name, "{name}: another worker, or a purge, has taken this patient; nothing more is stored here");
                cycle.active.end(&person);
            }
        }
        for request in cycle.warehouse.take_purge_requests(clock::now()) {
            purged.extend(carry_out(cycle, request).await);
        }
        tokio::select! {
            biased;
            () = over.cancelled() => return purged,
            () = clock::sleep(LOOK_AGAIN) => {}
        }
    }
}

async fn carry_out(cycle: &Cycle, request: PurgeRequest) -> Option<PurgeNote> {
    let PurgeRequest { person, by, .. } = &request;
    let name = cycle.names.of(person);
    tracing::info!(person = %name, by, "{by} has ordered a purge; it does not wait for the cycle's end");
    cycle.active.clear(person).await;
    let reason = PurgeReason::Operator;
    let (answer, note) = match cycle.warehouse.purge(person, reason, by, clock::now()).await {
        Ok(Some(purged)) => {
            let rows = purged.erased.rows();
            let note = cycle.say_purged(&purged.name, reason, rows);
            (PurgeAnswer::Purged { name: purged.name, rows }, Some(note))
        }
        Ok(None) => (PurgeAnswer::Unknown, None),
        Err(failed) => {
            tracing::error!(person = %name, "a purge of {name} that {by} has ordered was not done: {failed}");
            (PurgeAnswer::Failed(failed.to_string()), None)
        }
    };
    cycle.warehouse.answer_purge_request(&request, &answer, clock::now());
    note
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn anna() -> PersonId {
        PersonId::parse("anna").unwrap()
    }

    #[tokio::test]
    async fn a_purge_waits_for_the_pull_that_it_stops_and_none_begins_after_it() {
        let all = Arc::new(ActivePatients::default());
        let pull = all.begin(&anna()).unwrap();
        let anna = anna();
        let clearing = all.clear(&anna);
        tokio::pin!(clearing);
        tokio::select! {
            biased;
            () = &mut clearing => panic!("the pull is still under way"),
            () = pull.ordered() => {}
        }
        drop(pull);
        clearing.await;
        assert!(all.begin(&anna).is_none() && all.is_ordered(&anna));
    }

    #[tokio::test]
    async fn a_round_comes_to_its_end_first() {
        let all = ActivePatients::default();
        let round = all.begin_round([anna()].into_iter());
        let anna = anna();
        let clearing = all.clear(&anna);
        tokio::pin!(clearing);
        assert!(futures_util::poll!(&mut clearing).is_pending());
        drop(round);
        clearing.await;
    }
}

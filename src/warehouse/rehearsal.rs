//! A warehouse that changes nothing: every write is answered from a reader.
//!
//! Promise: a cycle over it takes the same decisions as one over the warehouse would. Absent on
//! purpose: a lock, and the counts of what was stored earlier in the same rehearsal.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::failure::{OpenFailed, StoreFailed};
use super::page::{Batch, PullProgress, StoredBatch, SweepOutcome};
use super::patient::{MissingPatient, RosterReading, RosterTaken};
use super::place::{OtherServer, Place};
use super::pull::{Fenced, Lease, PullHead};
use super::purge::{Erased, PurgedPatient};
use super::rosters::{OwnRoster, RosterInForce};
use super::{Reader, looks};
use crate::plan::checkpoint::Checkpoint;
use crate::plan::completeness::Walk;
use crate::plan::consent::Withdrawals;
use crate::plan::records::{ConsentToLookAt, ConsentsUpdate, KeptConsents, ScopesSeen};
use crate::plan::row::KeyHash;
use crate::plan::state::PatientState;
use crate::plan::{PersonId, Timestamp};

/// What the operations of a rehearsal look at.
pub struct Rehearsal {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` where there is no warehouse yet.
    reader: Option<Reader>,
    /// Another server filled it, whose watermarks mean nothing.
    adopts: bool,
    /// As a cycle that has begun would have noted them.
    everybody: Vec<Checkpoint>,
    /// What the consent records would have changed, had they been kept: since when a patient's consent
    /// has ended, if it has, and who would be pulled in full.
    consent_ended: HashMap<PersonId, Option<Timestamp>>,
    other_scopes: HashSet<PersonId>,
    /// What each pull under way has compared already, by key hash.
    compared: HashMap<PersonId, HashSet<KeyHash>>,
}

impl Rehearsal {
    pub(super) fn open(place: &Place, other_server: OtherServer) -> Result<Self, OpenFailed> {
        let reader = match Reader::open(&place.location) {
            Ok(reader) => Some(reader),
            Err(OpenFailed::Missing(_)) => None,
            Err(failed) => return Err(failed),
        };
        let (reader, adopts) = match reader.as_ref().map(|reader| reader.check_server(place)) {
            Some(Err(OpenFailed::OtherServer { .. })) if other_server == OtherServer::Adopt => (reader, true),
            Some(Err(failed)) => return Err(failed),
            // What it knows is of no patient of this server.
            Some(Ok(false)) => (None, false),
            None | Some(Ok(true)) => (reader, false),
        };
        Ok(Self { state: Mutex::new(State { reader, adopts, ..State::default() }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers by the reader, or as an empty warehouse would.
    fn ask<T: Default>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreFailed>,
    ) -> Result<T, StoreFailed> {
        self.state().reader.as_ref().map_or_else(|| Ok(T::default()), read)
    }

    pub(super) fn begin_cycle(
        &self,
        roster: &RosterReading,
        now: Timestamp,
    ) -> Result<RosterTaken, StoreFailed> {
        let listed = &roster.patients;
        let mut known = self.ask(Reader::checkpoints)?;
        for checkpoint in &mut known {
            self.catch_up(checkpoint);
            let entry = listed.of(&checkpoint.person);
            checkpoint.listed = entry.is_some();
            checkpoint.missing = match entry {
                Some(_) if roster.is_new => None,
                Some(_) => checkpoint.missing,
                None => roster.missing_after(checkpoint.person.as_str(), checkpoint.missing, now),
            };
            if let Some(entry) = entry {
                checkpoint.label.clone_from(&entry.label);
            }
        }
        let all: HashSet<PersonId> = known.iter().map(|checkpoint| checkpoint.person.clone()).collect();
        let new = listed.iter().filter(|patient| !all.contains(&patient.person));
        known.extend(new.map(|patient| {
            let mut checkpoint = Checkpoint::unknown(patient.person.clone(), patient.label.clone());
            self.catch_up(&mut checkpoint);
            checkpoint
        }));
        known.sort_by(|one, other| one.person.cmp(&other.person));
        let missing = known.iter().filter(|checkpoint| checkpoint.holds_rows).filter_map(|checkpoint| {
            Some(MissingPatient { person: checkpoint.person.clone(), missing: checkpoint.missing? })
        });
        let taken = RosterTaken { missing: missing.collect(), knows_anybody: !known.is_empty() };
        self.state().everybody = known;
        Ok(taken)
    }

    /// Returns everybody, as the cycle that has begun would have noted them.
    pub(super) fn everybody(&self) -> Vec<Checkpoint> {
        self.state().everybody.clone()
    }

    pub(super) fn claim(&self, person: &PersonId) -> Result<Option<Lease>, StoreFailed> {
        let found = self.ask(|reader| reader.checkpoint(person))?;
        let mut checkpoint = found.unwrap_or_else(|| Checkpoint::unknown(person.clone(), None));
        self.catch_up(&mut checkpoint);
        Ok(Some(Lease::alone(checkpoint)))
    }

    /// Changes what was read into what it would be by now.
    fn catch_up(&self, checkpoint: &mut Checkpoint) {
        let state = self.state();
        if state.adopts {
            checkpoint.forget_server();
        }
        if let Some(ended_at) = state.consent_ended.get(&checkpoint.person) {
            checkpoint.consent_ended_at = *ended_at;
            if ended_at.is_none() {
                (checkpoint.last_asked_at, checkpoint.next_attempt_at) = (None, None);
            }
        }
        if state.other_scopes.contains(&checkpoint.person) {
            (checkpoint.watermark, checkpoint.unfinished) = (None, None);
        }
    }

    /// Returns the roster that the cycle would go by.
    pub(super) fn roster_in_force(&self, own: Option<OwnRoster<'_>>) -> Result<RosterInForce, StoreFailed> {
        self.state().reader.as_ref().map_or(Ok(RosterInForce::Own), |reader| reader.roster_in_force(own))
    }

    pub(super) fn consents(&self) -> Result<KeptConsents, StoreFailed> {
        self.ask(Reader::consents)
    }

    pub(super) fn note_consents(&self, update: ConsentsUpdate, now: Timestamp) {
        let mut state = self.state();
        state.consent_ended.extend(update.ended.into_iter().map(|person| (person, Some(now))));
        state.consent_ended.extend(update.open.into_iter().map(|person| (person, None)));
    }

    pub(super) fn consents_to_look_at(&self, most: usize) -> Result<Vec<ConsentToLookAt>, StoreFailed> {
        self.ask(|reader| reader.consents_to_look_at(most))
    }

    pub(super) fn note_scopes(&self, seen: &[ScopesSeen]) -> Result<Vec<PersonId>, StoreFailed> {
        let changed = self.ask(|reader| reader.changed_scopes(seen))?;
        self.state().other_scopes.extend(changed.iter().cloned());
        Ok(changed)
    }

    pub(super) fn unfinished_walks(&self, person: &PersonId) -> Result<Vec<Walk>, StoreFailed> {
        self.ask(|reader| reader.unfinished_walks(person))
    }

    pub(super) fn store_page(
        &self,
        head: &PullHead,
        batch: &Batch,
        now: Timestamp,
    ) -> Result<Fenced<StoredBatch>, StoreFailed> {
        let mut state = self.state();
        let State { reader, compared, .. } = &mut *state;
        let compared_before = compared.entry(head.person.clone()).or_default();
        let stored = looks::compare_page(reader.as_ref(), head, batch, compared_before, now)?;
        if matches!(batch.progress, PullProgress::End(_)) && stored.sweep != SweepOutcome::WalkAgain {
            compared.remove(&head.person);
        }
        Ok(Fenced::Kept(stored))
    }

    pub(super) fn end_pull(&self, person: &PersonId) {
        self.state().compared.remove(person);
    }

    /// Returns what a purge would remove.
    pub(super) fn erasable(&self, person: &PersonId) -> Result<Option<Erased>, StoreFailed> {
        self.ask(|reader| reader.erasable(person))
    }

    pub(super) fn purgeable(&self, person: &PersonId) -> Result<Option<PurgedPatient>, StoreFailed> {
        let found = self.ask(|reader| Ok(reader.checkpoint(person)?.zip(reader.erasable(person)?)))?;
        Ok(found.map(|(checkpoint, erased)| PurgedPatient { name: checkpoint.name().to_owned(), erased }))
    }

    pub(super) fn withdrawals(&self, now: Timestamp) -> Result<Withdrawals, StoreFailed> {
        self.ask(|reader| reader.withdrawals(now))
    }

    pub(super) fn departures(
        &self,
        missing_since: Timestamp,
        now: Timestamp,
    ) -> Result<Withdrawals, StoreFailed> {
        self.ask(|reader| reader.departures(missing_since, now))
    }

    pub(super) fn latest_pulled(&self, most: usize) -> Result<Vec<PersonId>, StoreFailed> {
        self.ask(|reader| reader.latest_pulled(most))
    }

    pub(super) fn held(&self) -> Result<Vec<Lease>, StoreFailed> {
        let all = self.ask(Reader::checkpoints)?;
        let held = all.into_iter().filter(|patient| patient.state == PatientState::Held);
        Ok(held.map(Lease::alone).collect())
    }

    pub(super) fn unscrubbed(&self) -> Result<Option<Timestamp>, StoreFailed> {
        self.ask(Reader::unscrubbed)
    }
}

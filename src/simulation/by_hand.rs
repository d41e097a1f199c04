//! What is always true of purges that an operator has ordered.

use std::collections::{BTreeMap, BTreeSet};

use super::heard::Heard;
use super::look::{Patient, Purge};
use super::moment::{CLOCK_MAX, DAY, Moment, Untrue, untrue};
use super::network::{Answered, With};
use super::people::{ByHand, Person};
use crate::time::{TimeDelta, Timestamp};

/// What operators have ordered, and may be carried out still.
#[derive(Default)]
pub(super) struct Orders {
    /// Whose purge, and when it was ordered.
    of: BTreeMap<String, Timestamp>,
    /// Of whom the operator was told since the last look.
    done: BTreeSet<String>,
    held: Held,
}

/// Whether a purge of all who are held may be under way.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Held {
    #[default]
    Unasked,
    Ordered,
    Done,
}

impl Orders {
    pub(super) fn note(&mut self, person: &str, now: Timestamp) {
        self.of.insert(person.to_owned(), now);
        self.done.remove(person);
    }

    pub(super) fn note_done(&mut self, person: &str) {
        self.done.insert(person.to_owned());
    }

    pub(super) fn note_held(&mut self) {
        self.held = Held::Ordered;
    }

    pub(super) fn note_held_done(&mut self) {
        self.held = Held::Done;
    }

    /// Returns whether a purge may be carried out: an order that was not answered stands for a day.
    fn stands(&self, person: &str, now: Timestamp, every: TimeDelta) -> bool {
        self.of.get(person).is_some_and(|at| now - *at <= DAY + CLOCK_MAX + every * 2)
    }

    /// "An operator's purge of one patient": of that one, and once.
    pub(super) fn a_purge_was_ordered(
        &self,
        moment: &Moment<'_>,
        purge: &Purge,
        every: TimeDelta,
    ) -> Result<(), Untrue> {
        if self.stands(&purge.person, moment.now, every) {
            return Ok(());
        }
        let shows = format!("{} was purged at {}", purge.person, purge.purged_at);
        untrue("an operator's purge was ordered, and is made once", shows)
    }

    /// "`purge --held --yes` asks each held patient again first, with a fresh token."
    pub(super) fn who_is_held_is_asked_again(
        &self,
        moment: &Moment<'_>,
        purge: &Purge,
        heard: &Heard,
    ) -> Result<(), Untrue> {
        const TRUTH: &str = "purge --held asks again first, with a fresh token";
        if self.held == Held::Unasked {
            return untrue(TRUTH, format!("{}, and nobody has ordered it", purge.person));
        }
        let purged_at = moment.stage.true_time_of(purge.purged_at);
        let mut told = heard.of(&purge.person).rev().filter(|answer| answer.at <= purged_at);
        let last = told.find(|answer| answer.is_question);
        // Who is held for what its record says may never have been refused before.
        let is_fresh = |last: &Answered| {
            let earlier = heard.of(&purge.person).filter(|answer| answer.at < last.at);
            let mut refusals = earlier.filter(|answer| answer.with == With::Refusal);
            last.with == With::Refusal && refusals.all(|answer| answer.token < last.token)
        };
        if last.is_some_and(is_fresh) {
            return Ok(());
        }
        untrue(TRUTH, format!("{}, whose last answer is {last:?}", purge.person))
    }

    /// Takes it that a patient is as any other once no order stands and it is not paused.
    pub(super) fn settle(
        &mut self,
        moment: &Moment<'_>,
        person: &mut Person,
        patient: &Patient,
        every: TimeDelta,
    ) {
        let is_open = matches!(person.by_hand, ByHand::Ordered(_));
        if is_open && patient.state != "paused" && !self.stands(&person.id, moment.now, every) {
            (person.by_hand, person.listed_since) = (ByHand::Untouched, moment.now);
        }
    }

    /// Forgets what was carried out: whatever came of it has been looked at.
    pub(super) fn end(&mut self) {
        for person in std::mem::take(&mut self.done) {
            self.of.remove(&person);
        }
        if self.held == Held::Done {
            self.held = Held::Unasked;
        }
    }
}

/// "After an operator's purge the state is `paused` until `sync --patient ID` asks for it."
pub(super) fn a_purge_by_hand_stands(
    moment: &Moment<'_>,
    person: &Person,
    patient: &Patient,
    heard: &Heard,
) -> Result<(), Untrue> {
    const TRUTH: &str = "who an operator has purged is not pulled until that is asked for";
    if patient.state == "paused" && (person.by_hand == ByHand::Untouched || patient.holds_rows) {
        return untrue("who is paused was purged by an operator", patient.person.clone());
    }
    let ByHand::Purged(since) = person.by_hand else { return Ok(()) };
    let mut after = heard.of(&person.id).rev().take_while(|answer| answer.at > since);
    if let Some(pulled) = after.find(|answer| !answer.is_question) {
        return untrue(TRUTH, format!("{} was purged by {since}, and pulled at {}", person.id, pulled.at));
    }
    if patient.holds_rows || patient.state != "paused" && moment.look.patients.contains_key(&person.id) {
        return untrue(TRUTH, format!("{} was purged by {since}, and is {}", person.id, patient.state));
    }
    Ok(())
}

//! What patients were answered with in the last days.

use std::collections::{BTreeMap, VecDeque};

use super::network::Answered;
use crate::time::{TimeDelta, Timestamp};

/// Nothing that is judged goes back further.
const REMEMBERED: TimeDelta = TimeDelta::days(8);

/// Answers by patient, the oldest first.
#[derive(Default)]
pub(super) struct Heard(BTreeMap<String, VecDeque<Answered>>);

impl Heard {
    pub(super) fn add(&mut self, answered: Vec<Answered>, now: Timestamp) {
        for answer in answered {
            match self.0.get_mut(&answer.person) {
                Some(of_person) => of_person.push_back(answer),
                None => drop(self.0.insert(answer.person.clone(), VecDeque::from([answer]))),
            }
        }
        for of_person in self.0.values_mut() {
            while of_person.front().is_some_and(|answer| now - answer.at > REMEMBERED) {
                of_person.pop_front();
            }
        }
    }

    /// Returns what a patient was answered with.
    pub(super) fn of(&self, person: &str) -> impl DoubleEndedIterator<Item = &Answered> {
        self.0.get(person).into_iter().flatten()
    }

    /// Returns what anybody was answered with, patient by patient.
    pub(super) fn all(&self) -> impl Iterator<Item = &Answered> {
        self.0.values().flatten()
    }
}

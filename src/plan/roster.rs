//! Which roster is in force, where several workers have files of their own and one warehouse.
//!
//! A roster that nobody has seen is the newest. One that was seen and replaced is an old copy, and is never taken back
//! by itself: else the files that one machine has kept would purge whoever has joined since. Only where a machine's own
//! files were the newest before were they changed there on purpose, as whoever puts a mistake right does.

use std::fmt::Write;
use std::ops::Deref;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{PersonId, Timestamp, TypeFilter};

/// A line of a roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterPatient {
    pub person: PersonId,
    pub label: Option<String>,
    /// Overrides `sync.types`.
    pub types: Option<TypeFilter>,
    pub enabled: bool,
}

impl RosterPatient {
    /// Returns the name of this patient in logs and tables.
    pub fn name(&self) -> &str {
        self.label.as_deref().unwrap_or(self.person.as_str())
    }
}

impl From<PersonId> for RosterPatient {
    /// Lists a patient, and says nothing else of it.
    fn from(person: PersonId) -> Self {
        Self { person, label: None, types: None, enabled: true }
    }
}

/// The patients of a roster, in its order. They are cloned at no cost, however many they are.
#[derive(Clone, Debug, Default)]
pub struct RosterPatients {
    patients: Arc<Vec<RosterPatient>>,
    /// Their places, in the order of the ids.
    by_person: Arc<Vec<usize>>,
}

impl RosterPatients {
    /// Returns the place of the patient with this id.
    pub fn place_of(&self, id: &str) -> Option<usize> {
        let found = self.by_person.binary_search_by(|at| self.patients[*at].person.as_str().cmp(id)).ok()?;
        Some(self.by_person[found])
    }

    pub fn of(&self, person: &PersonId) -> Option<&RosterPatient> {
        self.place_of(person.as_str()).map(|at| &self.patients[at])
    }

    fn in_order_of_ids(&self) -> impl Iterator<Item = &RosterPatient> {
        self.by_person.iter().map(|at| &self.patients[*at])
    }
}

impl From<Vec<RosterPatient>> for RosterPatients {
    fn from(mut patients: Vec<RosterPatient>) -> Self {
        patients.shrink_to_fit();
        let mut by_person: Vec<usize> = (0..patients.len()).collect();
        by_person.sort_unstable_by(|one, other| patients[*one].person.cmp(&patients[*other].person));
        Self { patients: Arc::new(patients), by_person: Arc::new(by_person) }
    }
}

impl Deref for RosterPatients {
    type Target = [RosterPatient];

    fn deref(&self) -> &[RosterPatient] {
        &self.patients
    }
}

/// By what two rosters are told apart: the same for the same patients, in whatever order and in whatever files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterHash(String);

impl RosterHash {
    pub fn of(patients: &RosterPatients) -> Self {
        let mut digest = Sha256::new();
        for RosterPatient { person, label, types, enabled } in patients.in_order_of_ids() {
            // Each of a length that is told, so that none can be mistaken for its neighbour.
            let types = types.as_ref().map(ToString::to_string);
            for text in [Some(person.as_str()), label.as_deref(), types.as_deref()] {
                digest.update(text.map_or(u64::MAX, |text| text.len() as u64).to_be_bytes());
                digest.update(text.unwrap_or_default());
            }
            digest.update([u8::from(*enabled)]);
        }
        let mut text = String::new();
        for byte in digest.finalize() {
            // Writing into a text does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// Reads what [`as_str`](Self::as_str) gave.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A roster that was in force, or is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterVersion {
    pub hash: RosterHash,
    /// When it took the place of another, and on which machine.
    pub seen_at: Timestamp,
    pub seen_by: String,
    pub patients: u64,
}

/// What a worker's own roster is to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RosterStanding {
    InForce,
    /// It is the newest from now on.
    New,
    /// It was in force, and was replaced.
    Old,
}

/// What a worker's roster is judged by, beside itself.
#[derive(Clone, Copy, Debug)]
pub struct RosterFacts<'r> {
    pub newest: Option<&'r RosterHash>,
    /// Whether it was in force before.
    pub was_seen: bool,
    /// Which roster this machine's files were when they last were in force.
    pub remembered: Option<&'r RosterHash>,
    /// Whether it was read for this: one that stands in for files which cannot be read is no news.
    pub is_new_reading: bool,
}

/// Judges a worker's roster.
pub fn judge_roster(own: &RosterHash, facts: RosterFacts<'_>) -> RosterStanding {
    let RosterFacts { newest, was_seen, remembered, is_new_reading } = facts;
    let were_newest = remembered.is_some() && remembered == newest;
    match newest {
        Some(newest) if newest == own => RosterStanding::InForce,
        Some(_) if !is_new_reading || was_seen && !were_newest => RosterStanding::Old,
        None if !is_new_reading => RosterStanding::InForce,
        Some(_) | None => RosterStanding::New,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, label: Option<&str>, types: Option<&str>, enabled: bool) -> RosterPatient {
        RosterPatient {
            person: PersonId::parse(id).unwrap(),
            label: label.map(str::to_owned),
            types: types.map(TypeFilter::parse),
            enabled,
        }
    }

    #[test]
    fn a_patient_is_found_wherever_the_roster_lists_it() {
        let ids = ["ben", "Cora", "anna", "anna-2"];
        let roster = RosterPatients::from(ids.map(|id| line(id, None, None, true)).to_vec());
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(roster.place_of(id), Some(at), "{id}");
            assert_eq!(roster[at].person.as_str(), *id);
            assert_eq!(roster.of(&roster[at].person), Some(&roster[at]));
        }
        assert_eq!(roster.place_of("anna-1"), None);
        assert_eq!(RosterPatients::default().place_of("anna"), None);
        assert_eq!(RosterPatients::default().of(&roster[0].person), None);
    }

    #[test]
    fn a_patient_goes_by_its_label_and_without_one_by_its_id() {
        assert_eq!(line("anna", Some("study-1"), None, true).name(), "study-1");
        assert_eq!(line("anna", None, None, true).name(), "anna");
    }

    #[test]
    fn rosters_are_the_same_in_whatever_order_and_differ_in_each_word() {
        let (anna, ben) =
            (line("anna", Some("one"), None, true), line("ben", None, Some("Observation"), true));
        let hash = |lines: &[&RosterPatient]| {
            let lines: Vec<RosterPatient> = lines.iter().map(|line| (*line).clone()).collect();
            RosterHash::of(&lines.into())
        };
        assert_eq!(hash(&[&anna, &ben]), hash(&[&ben, &anna]));
        assert_eq!(hash(&[&anna]).as_str().len(), 64);
        let others = [
            line("annb", Some("one"), None, true),
            line("anna", Some("two"), None, true),
            line("anna", None, None, true),
            line("anna", Some(""), None, true),
            line("anna", Some("one"), Some(""), true),
            line("anna", Some("one"), Some("Observation"), true),
            line("anna", Some("one"), None, false),
            line("annaone", None, None, true),
        ];
        let mut hashes: Vec<String> =
            others.iter().chain([&anna, &ben]).map(|line| hash(&[line]).0).collect();
        hashes.push(hash(&[&anna, &ben]).0);
        hashes.push(hash(&[]).0);
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), others.len() + 4);
    }

    #[test]
    fn what_was_replaced_is_never_taken_back_by_itself() {
        let [own, other, third] = ["own", "other", "third"].map(|name| RosterHash::stored(name.to_owned()));
        let check = |newest: Option<&RosterHash>, was_seen, remembered: Option<&RosterHash>, expected| {
            let facts = RosterFacts { newest, was_seen, remembered, is_new_reading: true };
            assert_eq!(judge_roster(&own, facts), expected, "{facts:?}");
        };
        check(None, false, None, RosterStanding::New);
        check(Some(&own), true, None, RosterStanding::InForce);
        check(Some(&other), false, None, RosterStanding::New);
        check(Some(&other), true, None, RosterStanding::Old);
        // The files are as they were when another took their place.
        check(Some(&other), true, Some(&own), RosterStanding::Old);
        check(Some(&other), true, Some(&third), RosterStanding::Old);
        // They were the newest, and are changed back.
        check(Some(&other), true, Some(&other), RosterStanding::New);
        // They cannot be read, and what they said last is no news.
        for (newest, expected) in [
            (None, RosterStanding::InForce),
            (Some(&own), RosterStanding::InForce),
            (Some(&other), RosterStanding::Old),
        ] {
            for was_seen in [false, true] {
                let facts = RosterFacts { newest, was_seen, remembered: newest, is_new_reading: false };
                assert_eq!(judge_roster(&own, facts), expected, "{facts:?}");
            }
        }
    }
}

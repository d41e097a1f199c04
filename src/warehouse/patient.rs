//! The words for patients, the roster and a cycle's two ends.

use std::time::Duration;

use super::failure::LedgerFault;
pub use crate::plan::leaver::ListedBy;
use crate::plan::leaver::{Missing, REMEMBERED_FOR, after_reading};
use crate::plan::roster::{RosterHash, RosterPatient, RosterPatients};
use crate::plan::{PersonId, Timestamp};
use crate::time::TimeDelta;

/// Patients that are read, or written down, together: of all there are, so many are in memory.
pub(super) const PATIENTS_AT_ONCE: usize = 10_000;

/// A patient of the roster, as the checkpoint needs to know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listed<'r> {
    pub(super) patient: &'r RosterPatient,
    pub(super) by: ListedBy,
}

/// The roster, as a cycle takes it over.
#[derive(Clone, Debug)]
pub struct RosterReading {
    pub patients: RosterPatients,
    /// Who lists each of them.
    pub by: Vec<ListedBy>,
    /// Whether it was read for this cycle. One that stands in for a roster which cannot be read says
    /// nothing about who is missing.
    pub is_new: bool,
    /// Which roster it is, where others may have put another in force meanwhile.
    pub version: Option<RosterHash>,
    /// Who may be on it or not, in the order of the ids: nobody of them is missing.
    pub unsure: Vec<PersonId>,
}

impl RosterReading {
    /// Returns one that was read from files just now.
    pub fn of_files(patients: Vec<RosterPatient>) -> Self {
        let by = vec![ListedBy::File; patients.len()];
        Self { patients: patients.into(), by, is_new: true, version: None, unsure: Vec::new() }
    }

    /// Returns those whom it lists.
    pub(super) fn listed(&self) -> impl Iterator<Item = Listed<'_>> {
        self.patients.iter().zip(&self.by).map(|(patient, by)| Listed { patient, by: *by })
    }

    /// Returns since when, and how often, a patient that it does not list is missing.
    pub(super) fn missing_after(
        &self,
        person: &str,
        before: Option<Missing>,
        now: Timestamp,
    ) -> Option<Missing> {
        let is_unsure = self.unsure.binary_search_by(|other| other.as_str().cmp(person)).is_ok();
        if self.is_new { after_reading(before, is_unsure, now) } else { before }
    }

    /// Returns since when readings must have lacked a patient whom an operator has purged for that to be
    /// forgotten; `None` where this one does not say whom it lacks.
    pub(super) fn paused_lacked_since(&self, now: Timestamp) -> Option<Timestamp> {
        self.is_new.then(|| now - REMEMBERED_FOR)
    }
}

/// What taking the roster over needs of a checkpoint.
pub(super) struct KnownPatient {
    pub(super) label: Option<String>,
    pub(super) listed: bool,
    pub(super) is_purged: bool,
    pub(super) missing: Option<Missing>,
    pub(super) listed_by: String,
}

impl KnownPatient {
    /// Returns whether the roster says of it what is known. The label of a purged patient is not written
    /// down again until something of it is stored.
    fn is_as(&self, listed: Listed<'_>) -> bool {
        self.listed
            && self.missing.is_none()
            && self.listed_by == listed.by.as_str()
            && (self.is_purged && self.label.is_none() || self.label == listed.patient.label)
    }
}

/// A roster that is compared with what is known, one patient after the other.
pub(super) struct RosterComparison<'r> {
    roster: &'r RosterReading,
    /// Whether it says who is missing.
    is_in_force: bool,
    now: Timestamp,
    /// Whether what is known of a patient, by its place in the roster, is what the roster says.
    is_known: Vec<bool>,
}

/// What is to be noted of a patient whom the roster lacks.
pub(super) struct Unlisted {
    pub(super) missing: Option<Missing>,
}

impl<'r> RosterComparison<'r> {
    pub(super) fn new(roster: &'r RosterReading, is_in_force: bool, now: Timestamp) -> Self {
        Self { roster, is_in_force, now, is_known: vec![false; roster.patients.len()] }
    }

    /// Takes in a patient who is known. Returns what is to be noted where the roster lacks it, if that is anything new.
    pub(super) fn compare(&mut self, person: &str, known: &KnownPatient) -> Option<Unlisted> {
        let Self { roster, is_in_force, now, is_known } = self;
        if let Some(at) = roster.patients.place_of(person) {
            is_known[at] = known.is_as(Listed { patient: &roster.patients[at], by: roster.by[at] });
            return None;
        }
        let missing =
            if *is_in_force { roster.missing_after(person, known.missing, *now) } else { known.missing };
        (known.listed || missing != known.missing).then_some(Unlisted { missing })
    }

    /// Returns those whom the roster lists and of whom something else is known, or nothing, once everybody who is known
    /// was taken in.
    pub(super) fn others(self) -> Vec<Listed<'r>> {
        let listed = self.roster.listed().zip(self.is_known);
        listed.filter(|(_, is_known)| !is_known).map(|(listed, _)| listed).collect()
    }
}

/// A patient with rows whom the roster in force lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingPatient {
    pub person: PersonId,
    pub missing: Missing,
}

/// What taking a roster over has shown.
#[derive(Clone, Debug, Default)]
pub struct RosterTaken {
    /// In the order of the ids.
    pub missing: Vec<MissingPatient>,
    /// Whether anybody is known, on the roster or not.
    pub knows_anybody: bool,
}

/// The end of a cycle.
#[derive(Clone, Copy, Debug)]
pub struct CycleEnd {
    pub now: Timestamp,
    /// How long rows that vanished at the source stay, marked; `None` is for ever.
    pub keep_deleted: Option<Duration>,
    /// Whether the whole roster was dealt with, and somebody could be asked.
    pub got_through: bool,
}

impl CycleEnd {
    /// Returns the time before which a row must have been marked to go; `None` where all of them stay.
    pub(super) fn deleted_before(self) -> Option<Timestamp> {
        let kept = TimeDelta::from_std(self.keep_deleted?).ok()?;
        self.now.checked_sub_signed(kept)
    }
}

/// What the end of a cycle has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Rows that were marked as deleted for too long.
    pub deleted_rows: u64,
}

/// When cycles last began and ended well, so that a restart does not forget it.
#[derive(Clone, Copy, Debug, Default)]
pub struct CycleTimes {
    pub last_started_at: Option<Timestamp>,
    pub last_good_end: Option<Timestamp>,
}

/// What the warehouse knows at the end of a cycle about what needs a person, beside the patients.
#[derive(Clone, Debug, Default)]
pub struct Attention {
    /// Since when the bytes of a purged patient wait to be removed.
    pub oldest_unscrubbed: Option<Timestamp>,
    pub ledger_fault: Option<LedgerFault>,
}

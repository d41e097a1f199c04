//! The words for patients, the roster and a cycle's two ends.

use std::time::Duration;

use super::failure::LedgerFault;
use crate::plan::checkpoint::Checkpoint;
pub use crate::plan::leaver::ListedBy;
use crate::plan::leaver::{Missing, REMEMBERED_FOR, after_reading};
use crate::plan::roster::RosterHash;
use crate::plan::{PersonId, Timestamp};
use crate::time::TimeDelta;

/// A patient of the roster, as the checkpoint needs to know it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub person: PersonId,
    pub label: Option<String>,
    pub by: ListedBy,
}

/// The roster, as a cycle takes it over.
#[derive(Clone, Debug)]
pub struct RosterReading {
    pub listed: Vec<Listed>,
    /// Whether it was read for this cycle. One that stands in for a roster which cannot be read says
    /// nothing about who is missing.
    pub is_new: bool,
    /// Which roster it is, where others may have put another in force meanwhile.
    pub version: Option<RosterHash>,
}

impl RosterReading {
    /// Returns since when, and how often, a patient that it lacks is missing.
    pub(super) fn missing_after(&self, before: Option<Missing>, now: Timestamp) -> Option<Missing> {
        if self.is_new { after_reading(before, false, now) } else { before }
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
    pub(super) fn is_as(&self, patient: &Listed) -> bool {
        self.listed
            && self.missing.is_none()
            && self.listed_by == patient.by.as_str()
            && (self.is_purged && self.label.is_none() || self.label == patient.label)
    }
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

/// What the warehouse knows at the end of a cycle about who needs a person.
#[derive(Clone, Debug, Default)]
pub struct Attention {
    pub patients: Vec<Checkpoint>,
    /// Since when the bytes of a purged patient wait to be removed.
    pub oldest_unscrubbed: Option<Timestamp>,
    pub ledger_fault: Option<LedgerFault>,
}

//! The words for patients, the roster and a cycle's two ends.

use super::failure::LedgerFault;
use crate::plan::checkpoint::Checkpoint;
use crate::plan::{PersonId, Timestamp};

/// A patient of the roster, as the checkpoint needs to know it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub person: PersonId,
    pub label: Option<String>,
}

/// How the roster differs from the one of the last cycle.
#[derive(Clone, Debug, Default)]
pub struct RosterChange {
    /// Patients that are listed, or were, or have rows.
    pub known: usize,
    /// No longer listed, and listed until now or rows are left.
    pub gone: Vec<Checkpoint>,
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

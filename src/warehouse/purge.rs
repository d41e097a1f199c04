//! The words for erasing a patient.

use std::collections::BTreeMap;
use std::fmt;

use super::failure::LedgerFault;
use crate::plan::state::PurgeReason;
use crate::plan::{PersonId, Timestamp};

/// Tables whose rows a purge removes and does not count: they say how a patient was pulled.
pub(super) const BOOKKEEPING: [&str; 6] =
    ["consent_record", "live_resources", "problem_patient", "pull", "seen", "walk"];

/// Tables whose rows a purge leaves: the roster without what names a patient. A turn is void by the purge, and goes with
/// its cycle.
pub(super) const OUTLIVE_A_PURGE: [&str; 4] = ["checkpoint", "purge_log", "roster", "turn"];

/// A purge, as `purge_log` tells it.
pub(super) struct Purge<'p> {
    pub(super) person: &'p PersonId,
    pub(super) reason: PurgeReason,
    /// The account that asked for it, or this program.
    pub(super) by: &'p str,
    /// When the patient was first refused.
    pub(super) refused_at: Option<Timestamp>,
    /// When the second refusal came, or the operator's word.
    pub(super) confirmed_at: Timestamp,
    pub(super) now: Timestamp,
    /// When it is carried out once more, for a purge that the ledger knows.
    pub(super) carried_out_at: Option<Timestamp>,
}

/// Who purges where nobody has typed it.
pub(super) const BY_ITSELF: &str = "healthex-sync";

/// What a purge has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    pub rows_by_table: BTreeMap<String, u64>,
}

impl Erased {
    pub fn rows(&self) -> u64 {
        self.rows_by_table.values().sum()
    }
}

/// A patient that was purged, by the name it went by.
#[derive(Clone, Debug)]
pub struct PurgedPatient {
    pub name: String,
    pub erased: Erased,
}

/// An operator's order to purge a patient, left for the process that holds the warehouse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PurgeRequest {
    pub person: PersonId,
    /// The account that typed it.
    pub by: String,
    pub requested_at: Timestamp,
}

/// What came of such an order.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PurgeAnswer {
    Purged {
        name: String,
        rows: u64,
    },
    /// The warehouse does not know the patient.
    Unknown,
    Failed(String),
}

/// How far such an order has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestProgress {
    Waits,
    /// It is being carried out, or was when its holder was killed.
    Taken,
    Answered(PurgeAnswer),
}

/// A purge of the ledger that the file did not know, and that was carried out when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedOut {
    pub person: PersonId,
    pub reason: PurgeReason,
    pub rows: u64,
}

/// What the ledger and a warehouse show of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerReport {
    pub fault: Option<LedgerFault>,
    /// Purges in the ledger.
    pub purges: u64,
    /// Those that the warehouse does not know: the next cycle carries them out.
    pub unknown: u64,
}

/// Whether the last bytes are gone, or why they are still there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scrub {
    NothingToDo,
    Done(Scrubbed),
    Waits(ScrubWaits),
}

/// The end of a scrub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    pub purges: u64,
    pub by: ScrubbedBy,
    /// Pages that zeroing has changed.
    pub pages: u64,
}

/// The way in which the last bytes were removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrubbedBy {
    /// What nothing refers to was overwritten in place.
    Zeroing,
    /// The whole file was written anew.
    Vacuum,
}

impl ScrubbedBy {
    /// Returns the way as `purge_log` names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Zeroing => "zeroing",
            Self::Vacuum => "vacuum",
        }
    }

    /// Returns the way as a person names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zeroing => "zeroing",
            Self::Vacuum => "VACUUM",
        }
    }
}

/// What keeps the last bytes in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScrubWaits {
    Reader,
    Writer,
    Room(DiskRoom),
    /// On a server: who can still see what was purged.
    Snapshot(String),
    /// On a server: whoever asks may not write the tables anew.
    Owner,
    /// On a server: a table could not be had alone.
    Table(String),
    Stopped,
    Failed(String),
}

impl fmt::Display for ScrubWaits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reader => {
                f.write_str("a reader has the warehouse open; the last bytes go when it has closed it")
            }
            Self::Writer => f.write_str(
                "the warehouse is written to all the while; the last bytes go when that has ended",
            ),
            Self::Room(DiskRoom { needed, free, by }) => write!(
                f,
                "{} needs {} MB free beside the warehouse and finds {} MB; make room",
                by.name(),
                needed.div_ceil(1_000_000),
                free / 1_000_000
            ),
            Self::Snapshot(by) => write!(
                f,
                "{by} can still see what was purged; the last bytes go with the first scrub after its end"
            ),
            Self::Owner => {
                f.write_str("the tables are written anew by `healthex-sync scrub`, run as their owner")
            }
            Self::Table(why) => {
                write!(f, "a table is in use all the while ({why}); the last bytes go with the next scrub")
            }
            Self::Stopped => {
                f.write_str("the program was stopped; the last bytes go when it is started again")
            }
            Self::Failed(what) => write!(f, "VACUUM failed ({what}); it is tried again after the next cycle"),
        }
    }
}

/// Bytes on the disk of a warehouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    /// What a scrub may need.
    pub needed: u64,
    pub free: u64,
    /// The way that needs it.
    pub by: ScrubbedBy,
}

impl DiskRoom {
    pub fn is_enough(self) -> bool {
        self.needed <= self.free
    }
}

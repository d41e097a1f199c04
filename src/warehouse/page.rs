//! The words for a page on its way into the warehouse.

use std::collections::HashSet;
use std::ops::AddAssign;
use std::sync::Arc;

use crate::plan::Timestamp;
use crate::plan::completeness::{ShortSince, Walk, WalkCounts};
use crate::plan::row::{KeyHash, Quarantined, Row};

/// A row, and whether this walk has already met its key.
#[derive(Debug)]
pub struct IncomingRow {
    pub row: Row,
    pub is_repeat: bool,
}

/// Some or all entries of a page, and what storing them means for the pull.
#[derive(Debug)]
pub struct Batch {
    /// No two that are one thing.
    pub rows: Vec<IncomingRow>,
    pub quarantined: Vec<Quarantined>,
    pub progress: PullProgress,
    /// Whether most rows are likely to be new or changed. What they give the analysts' tables is then
    /// worked out beside the one thread that writes.
    pub is_mostly_changes: bool,
}

/// What the pull has reached when a batch is stored.
#[derive(Debug)]
pub enum PullProgress {
    /// More of the same page follows.
    Partial,
    /// The page is whole and this link is next. `keys` are the page's, `walk` includes it.
    Next { url: String, keys: Vec<KeyHash>, walk: WalkMark },
    /// The walk is over and is to be run again.
    WalkAgain { keys: Vec<KeyHash>, walk: WalkMark },
    /// The pull is over, unless the sweep asks for another walk.
    End(Completion),
}

/// The end of a complete pull.
#[derive(Debug)]
pub struct Completion {
    pub watermark: Timestamp,
    /// Said in `pull.error` beside the outcome `ok`.
    pub note: Option<String>,
    /// Present for a full pull that may mark what it did not see.
    pub sweep: Option<SweepRequest>,
    /// The keys of the last page; `None` where all of the walk's are.
    pub keys: Option<Vec<KeyHash>>,
    pub walk: WalkMark,
    pub shortfall: ShortfallChange,
    /// What came, to tell whether the server heeds `_since`. `None` where not all of it was met in one go.
    pub brought: Option<Brought>,
}

impl Completion {
    /// Returns what is said beside the outcome `ok`, when this has become of the sweep.
    pub(super) fn note_beside(&self, sweep: SweepOutcome) -> Option<String> {
        let held = match sweep {
            SweepOutcome::Guarded(unseen) => Some(format!(
                "{unseen} resources were gone at once; nothing is marked as deleted for 24 hours"
            )),
            SweepOutcome::Done | SweepOutcome::WalkAgain => None,
        };
        let notes: Vec<String> = self.note.iter().cloned().chain(held).collect();
        (!notes.is_empty()).then(|| notes.join("; "))
    }
}

/// What a complete pull leaves behind.
pub(super) struct Finished {
    /// Whether the pull was marked as under way, and so must still be.
    pub(super) is_marked: bool,
    pub(super) watermark: Timestamp,
    /// Whether its last batch has stored anything.
    pub(super) stored_rows: bool,
    /// Whether it has looked for what had vanished.
    pub(super) swept: bool,
    pub(super) shortfall: ShortfallChange,
    pub(super) now: Timestamp,
}

/// What a pull has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Brought {
    pub entries: u64,
    /// The latest `meta.lastUpdated`.
    pub newest: Option<Timestamp>,
}

/// By how much, and since when, a patient's pulls have fallen short of the server's count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortNote {
    pub by: u64,
    /// `None` where the server counts otherwise, and nothing is thought to be missing.
    pub since: Option<ShortSince>,
}

/// What a pull does to what is noted of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortfallChange {
    Keep,
    /// It added up. An incremental pull says nothing about what a full one lacked.
    Clear,
    Note(ShortNote),
}

/// What a full pull has seen, by key hash, one set a walk.
#[derive(Clone, Debug)]
pub struct SweepRequest {
    pub seen: Arc<Vec<HashSet<KeyHash>>>,
    pub walk: u32,
    /// How many rows the walk that has just ended brought, less what the batches before this one
    /// quarantined. `None` where two of them may share type and `id`.
    pub arrived: Option<u64>,
}

/// The counts of one walk, as kept across a restart.
#[derive(Clone, Copy, Debug)]
pub struct WalkMark {
    /// From 1.
    pub number: u32,
    pub counts: WalkCounts,
}

impl WalkMark {
    pub fn of(walk: &Walk, number: u32) -> Self {
        Self { number, counts: walk.counts }
    }
}

/// How many resources were changed, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    pub inserted: u64,
    pub updated: u64,
    pub unchanged: u64,
    pub deleted: u64,
    pub quarantined: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, more: Self) {
        self.inserted += more.inserted;
        self.updated += more.updated;
        self.unchanged += more.unchanged;
        self.deleted += more.deleted;
        self.quarantined += more.quarantined;
    }
}

/// What a batch has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredBatch {
    /// The pull's row in `pull`.
    pub row: Option<i64>,
    pub tally: Tally,
    /// An incremental pull met a new key for a type and id that is live under another one.
    pub renamed: bool,
    /// What the sweep at the end of a pull asks for.
    pub sweep: SweepOutcome,
    /// Pulls in a row to which the server has sent everything, whatever was asked for.
    pub since_ignored: u64,
}

/// What became of the sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SweepOutcome {
    /// It marked what had vanished, or there was none to make.
    #[default]
    Done,
    /// It wants the walk repeated before it marks anything.
    WalkAgain,
    /// It was held back: this many rows looked vanished.
    Guarded(u64),
}

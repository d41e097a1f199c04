//! The words for what a warehouse tells of itself.

use std::collections::BTreeMap;

use super::purge::DiskRoom;
use crate::plan::Timestamp;
use crate::plan::checkpoint::Checkpoint;
use crate::views::Dropped;

/// One patient in `status`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PatientLine {
    pub id: String,
    pub label: Option<String>,
    pub state: String,
    pub watermark: Option<String>,
    pub last_success_at: Option<String>,
    pub failures: u32,
    pub next_attempt_at: Option<String>,
    pub last_error: Option<String>,
    pub resources: u64,
    /// Since when a suspiciously large sweep is held back.
    pub sweep_guarded_at: Option<String>,
    /// How many entries fewer than the server counts have come.
    pub short_by: Option<u64>,
    /// Since when they are thought to be missing; without it the server counts otherwise.
    pub short_since: Option<String>,
    pub last_full_at: Option<String>,
    /// When a full pull last looked for what had vanished.
    pub deletions_seen_at: Option<String>,
    /// Pulls in a row to which the server has sent everything, whatever was asked for.
    pub since_ignored: u64,
    #[serde(skip)]
    pub listed: bool,
}

/// What `status` tells.
#[derive(Debug, Default)]
pub struct StatusReport {
    pub patients: Vec<PatientLine>,
    /// Live rows by table.
    pub resources: BTreeMap<String, u64>,
    pub quarantined: u64,
    pub unscrubbed: u64,
    /// What the bytes of purged patients wait for.
    pub scrub_waits_for: Option<String>,
    pub last_scrub: Option<LastScrub>,
}

/// When the last bytes of purged patients were last removed.
#[derive(Debug, Clone, serde::Serialize)]
pub struct LastScrub {
    pub at: String,
    /// `zeroing` or `vacuum`.
    pub by: String,
}

/// One purge, as an auditor asks for it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct PurgeLine {
    pub person_id: String,
    pub label: Option<String>,
    pub reason: String,
    pub confirmed_at: String,
    pub purged_at: String,
    pub scrubbed_at: Option<String>,
    /// `zeroing` or `vacuum`.
    pub scrubbed_by: Option<String>,
    pub rows_by_table: BTreeMap<String, u64>,
}

/// What an onlooker sees: counts, and who is behind.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    pub states: BTreeMap<String, u64>,
    /// Of those that are pulled.
    pub oldest_watermark: Option<Timestamp>,
    pub quarantined: u64,
    pub unscrubbed: u64,
    pub oldest_unscrubbed: Option<Timestamp>,
    /// Of the database and its WAL.
    pub bytes: Vec<FileSize>,
    /// On the roster and not active, or active and not pulled since then; the longest wait first.
    pub behind: Vec<PatientBehind>,
    /// How many of these there are in all.
    pub behind_total: u64,
}

/// The size of one file of a warehouse.
#[derive(Clone, Copy, Debug)]
pub struct FileSize {
    pub file: &'static str,
    pub bytes: u64,
}

/// A patient that somebody may want to look at.
#[derive(Clone, Debug)]
pub struct PatientBehind {
    pub name: String,
    pub state: String,
    pub last_success_at: Option<Timestamp>,
    pub failures: u32,
    pub next_attempt_at: Option<Timestamp>,
    pub last_error: Option<String>,
}

/// What `check` wants to know before a cycle uses a warehouse.
#[derive(Debug)]
pub struct Preflight {
    pub schema: i64,
    /// The schema that this program writes.
    pub schema_known: i64,
    pub room: Option<DiskRoom>,
    pub patients: Vec<Checkpoint>,
    /// The file's permission bits.
    pub mode: u32,
    pub access: Access,
}

/// Whom the file's mode lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    AsWanted,
    /// The next cycle opens it to `warehouse.group`.
    TooNarrow,
    /// A group may read it, and `warehouse.group` names none.
    GroupUnasked,
    /// A group other than `warehouse.group` may read it.
    OtherGroup,
    TooWide,
}

/// What `verify` has found.
#[derive(Debug, Default)]
pub struct Findings {
    pub rows: u64,
    /// One sentence each: table, key and what is wrong; nothing clinical.
    pub wrong: Vec<String>,
    /// Findings beyond those that are told.
    pub more: u64,
    /// Of a check that goes down to the pages of the file.
    pub pages: Option<Pages>,
}

/// How far down `verify` checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyDepth {
    Rows,
    /// To the last byte of the file.
    Pages,
}

/// What is in the pages of the file beside what is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pages {
    /// So many, and in how many of them there are bytes of what was deleted or replaced.
    Seen { all: u64, with_remains: u64 },
    /// They cannot be looked at, and why.
    Unseen(String),
}

impl Findings {
    /// Findings beyond this many are only counted.
    const SHOWN_MAX: usize = 20;

    pub(super) fn add(&mut self, finding: String) {
        if self.wrong.len() < Self::SHOWN_MAX {
            self.wrong.push(finding);
        } else {
            self.more += 1;
        }
    }

    pub fn is_sound(&self) -> bool {
        self.wrong.is_empty()
    }
}

/// One analysts' table, as `views` lists it.
#[derive(Debug)]
pub struct StoredTable {
    pub name: String,
    pub resource: String,
    pub built_at: String,
    /// How far it is built; `None` if it is whole.
    pub percent_built: Option<u8>,
    pub rows: u64,
    pub columns: u64,
}

/// A view that cannot be a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewRefused {
    pub name: String,
    pub why: String,
}

/// How far a number of steps has come.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    pub done: usize,
    pub of: usize,
}

/// What the rows of a view are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowFormat {
    Csv,
    Json,
}

/// What a view gave that is stored nowhere.
#[derive(Debug, Default)]
pub struct ViewRun {
    pub rows: u64,
    /// Where there was more than the one value that was kept.
    pub dropped: Dropped,
}

/// What `export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    Ndjson,
    Csv,
    Parquet,
}

/// What `export` has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    pub files: u64,
    pub rows: u64,
}

//! The words for what a warehouse tells of itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::time::TimeDelta;

use super::failover::Failover;
use super::failure::LedgerFault;
use super::purge::{CarriedOut, DiskRoom};
use super::workers_told::{WorkerTold, WorkersTold};
use crate::plan::checkpoint::Checkpoint;
use crate::plan::leaver::Missing;
use crate::plan::state::HeldKind;
use crate::plan::{PersonId, Timestamp};
use crate::views::Dropped;

/// What `migrate` has come to.
#[derive(Debug, Clone)]
pub struct Migrated {
    pub server: String,
    pub version: i64,
    /// `None` where there was no schema.
    pub from_version: Option<i64>,
    /// Of each table of resources; 0 where they are in one piece.
    pub partitions: u32,
    /// As whom it was made.
    pub role: String,
    /// The analysts' tables, and those that cannot be made.
    pub tables: usize,
    pub refused: Vec<ViewRefused>,
    /// What has to be carried out by somebody who may create roles.
    pub missing_roles: Option<String>,
}

/// What a move from a file to a server has come to.
#[derive(Debug, Clone, Default)]
pub struct Moved {
    pub rows: u64,
    pub patients: u64,
    /// Of the log of purges.
    pub purges: u64,
    /// Resources that PostgreSQL cannot read, which are in quarantine.
    pub unreadable: u64,
    /// The analysts' tables that cannot be made.
    pub refused: Vec<ViewRefused>,
}

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
    /// Of the first in an unbroken row of refusals.
    pub refused_at: Option<String>,
    /// Why a refused patient is not purged.
    pub held_why: Option<String>,
    /// Since when readings of the roster have lacked it.
    pub missing_since: Option<String>,
    #[serde(skip)]
    pub missing: Option<Missing>,
    /// How many entries fewer than the server counts have come.
    pub short_by: Option<u64>,
    /// Since when they are thought to be missing; without it the server counts otherwise.
    pub short_since: Option<String>,
    pub last_full_at: Option<String>,
    /// When a full pull last looked for what had vanished.
    pub deletions_seen_at: Option<String>,
    /// Pulls in a row to which the server has sent everything, whatever was asked for.
    pub since_ignored: u64,
    /// `file`, `study` or `both`: who lists it.
    pub source: String,
    /// The study whose consent record counts, what it says, and until when the consent is given.
    pub study: Option<String>,
    pub consent: Option<&'static str>,
    pub consent_expires_at: Option<String>,
    /// Since when the records have said that there is no consent.
    pub consent_ended_at: Option<String>,
    #[serde(skip)]
    pub listed: bool,
    #[serde(skip)]
    pub holds_rows: bool,
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
    pub oldest_unscrubbed: Option<Timestamp>,
    pub last_scrub: Option<LastScrub>,
    pub reader: Option<StayingReader>,
    /// The last change of the server's history.
    pub failover: Option<Failover>,
    /// Who shares the roster; `None` of a file, which is one process's.
    pub workers: Option<WorkersTold>,
}

/// A program that goes on reading the warehouse, and keeps its WAL from being emptied.
#[derive(Debug, Clone, serde::Serialize)]
pub struct StayingReader {
    /// When that was first seen.
    pub since: String,
    pub wal_bytes: u64,
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
    pub by: String,
    pub refused_at: Option<String>,
    pub confirmed_at: String,
    pub purged_at: String,
    pub scrubbed_at: Option<String>,
    /// Since when there were rows, where that is known.
    pub first_row_at: Option<String>,
    /// When it was carried out once more on a file that did not know it.
    pub carried_out_at: Option<String>,
    /// `zeroing` or `vacuum`.
    pub scrubbed_by: Option<String>,
    pub rows_by_table: BTreeMap<String, u64>,
    /// The copies made while there were rows; told of one patient alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<Vec<CopyLine>>,
}

/// How much of a warehouse an onlooker sees.
#[derive(Clone, Copy, Debug)]
pub struct OverviewRequest {
    /// Active patients that were not pulled since then are behind.
    pub behind_since: Timestamp,
    /// So many of those that are behind are listed, of each state.
    pub behind_max: usize,
    /// How far a watermark lies before what its patient is complete up to.
    pub overlap: TimeDelta,
    pub purged_since: Timestamp,
    /// Consents that run out between these two are told, and so many of them listed.
    pub now: Timestamp,
    pub expiring_until: Timestamp,
    pub expiring_max: usize,
    /// So many purges since then are listed.
    pub purges_max: usize,
}

/// What an onlooker sees: counts, who is behind, and who was purged.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    pub states: BTreeMap<String, u64>,
    pub held: BTreeMap<HeldKind, u64>,
    /// What every one of those that are pulled is complete up to.
    pub complete_up_to: Option<Timestamp>,
    pub quarantined: u64,
    /// Patients whose server sends everything, whatever was asked for, and patients that are short.
    pub since_ignored: u64,
    pub short: u64,
    pub unscrubbed: u64,
    pub oldest_unscrubbed: Option<Timestamp>,
    /// Purges that took longer than they may.
    pub late_purges: u64,
    /// Of the database and its WAL.
    pub bytes: Vec<FileSize>,
    /// Room for this account on its disk; `None` where that does not tell.
    pub disk_free: Option<u64>,
    /// On the roster and not active, or active and not pulled since then; by state, the longest wait
    /// first.
    pub behind: Vec<PatientBehind>,
    /// How many of these there are in all, by state.
    pub behind_total: BTreeMap<String, u64>,
    pub purges: RecentPurges,
    pub expiring: ExpiringConsents,
    /// The last change of the server's history.
    pub failover: Option<Failover>,
    /// Who shares the roster; `None` of a file, which is one process's.
    pub workers: Option<WorkersTold>,
}

/// Consents that run out soon.
#[derive(Clone, Debug, Default)]
pub struct ExpiringConsents {
    /// The first to run out first.
    pub shown: Vec<ExpiringConsent>,
    /// How many there are in all.
    pub total: u64,
}

#[derive(Clone, Debug, serde::Serialize)]
pub struct ExpiringConsent {
    pub name: String,
    pub expires_at: String,
}

/// The latest purges.
#[derive(Clone, Debug, Default)]
pub struct RecentPurges {
    /// The latest first.
    pub shown: Vec<RecentPurge>,
    /// How many there are in all.
    pub total: u64,
}

/// One of the latest purges. The label went with the rows.
#[derive(Clone, Debug)]
pub struct RecentPurge {
    pub person_id: String,
    pub reason: String,
    pub purged_at: Option<Timestamp>,
    pub rows: u64,
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
    pub unscrubbed: u64,
    pub oldest_unscrubbed: Option<Timestamp>,
    pub scrub_waits_for: Option<String>,
    pub reader: Option<StayingReader>,
}

/// What `check` wants to know before a cycle uses a warehouse on a server.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
pub struct ServerPreflight {
    pub version: String,
    /// Which version the schema has.
    pub schema: i64,
    pub role: String,
    pub way: Way,
    /// Whether the server itself has the port that the URL names.
    pub is_direct: bool,
    /// Whether the role may change what tables there are.
    pub may_define: bool,
    /// What the role may not do, and has to.
    pub lacking: Vec<String>,
    /// Whether the role has what `migrate` sets for a worker.
    pub has_settings: bool,
    /// The analysts' tables that are not as this program makes them.
    pub other_tables: Vec<String>,
    pub has_checksums: bool,
    pub has_fsync: bool,
    pub standbys: Standbys,
    /// Whether it can be noticed that another server has taken over.
    pub tells_failovers: bool,
    /// Whether the server's log may hold what statements store.
    pub logs_values: bool,
    pub patients: Vec<Checkpoint>,
    /// Those of the last day.
    pub workers: Vec<WorkerTold>,
}

/// The standbys of a server, and what a commit has to do with them.
#[derive(Clone, Debug)]
pub struct Standbys {
    /// `synchronous_standby_names`, where a commit waits for any.
    pub names: Option<String>,
    /// `synchronous_commit`: what a commit waits for.
    pub commits: String,
    /// Connections that replicate, whatever for.
    pub connected: i64,
    /// How many of these a commit waits for; `None` where the role is not told.
    pub waited_for: Option<i64>,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// In clear, and never over a network.
    ThisMachine,
    /// By TLS to what lends its own connections, which says nothing of them.
    ThroughAnother,
    /// By this version of TLS.
    Tls(String),
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
    /// `warehouse.group` may read the file and not enter its folder.
    ClosedFolder,
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
#[derive(Debug, serde::Serialize)]
pub struct StoredTable {
    pub name: String,
    pub resource: String,
    pub built_at: String,
    /// How far it is built; `None` if it is whole.
    pub percent_built: Option<u8>,
    pub rows: u64,
    pub columns: u64,
    /// Resources that gave it no rows, for their size.
    pub left_out: u64,
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

/// What a copy was made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyKind {
    Backup,
    Export,
    /// The file that a restore took the place of.
    Restore,
}

impl CopyKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Export => "export",
            Self::Restore => "restore",
        }
    }
}

/// A copy of rows that leaves the warehouse.
#[derive(Clone, Debug)]
pub struct PatientCopy<'c> {
    pub kind: CopyKind,
    pub place: &'c Path,
    /// `None` is everybody.
    pub person: Option<&'c PersonId>,
}

/// A copy, as the register tells it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CopyLine {
    pub begun_at: String,
    /// `None` where nothing is known of its end: part of it may be there.
    pub made_at: Option<String>,
    pub kind: String,
    pub place: String,
    /// `None` is everybody.
    pub person_id: Option<String>,
}

/// What `backup` has written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackedUp {
    pub bytes: u64,
    /// Why bytes of purged patients are in the copy still.
    pub unscrubbed: Option<String>,
}

/// What `restore` has done.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// The purges that the restored file did not know.
    pub purged: Vec<CarriedOut>,
    /// Where the former file is now.
    pub former: Option<PathBuf>,
    /// There was no ledger to carry out.
    pub ledger_was_missing: bool,
    pub ledger_fault: Option<LedgerFault>,
}

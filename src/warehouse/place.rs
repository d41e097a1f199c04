//! Where a warehouse is, and what it is opened for.

use std::path::{Path, PathBuf};

use crate::views::AnalystTable;

/// Where a warehouse is, whom it is filled from, and who may read it.
#[derive(Clone, Debug)]
pub struct Place {
    pub path: PathBuf,
    pub base_url: String,
    /// A Unix group that may read: the file is then 0640.
    pub group: Option<u32>,
    /// Where the ledger of purges is; `None` is beside the warehouse.
    pub ledger: Option<PathBuf>,
    /// Whether former versions of resources are kept.
    pub history: bool,
    /// The analysts' tables that are kept up with the resources.
    pub views: Vec<AnalystTable>,
}

/// What to do with a warehouse that another server filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherServer {
    Refuse,
    /// Clear the watermarks, keep the rows.
    Adopt,
}

/// How a warehouse is let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Waits until everything is in its place.
    Settle,
    /// The process is about to end and cannot wait. What is committed stays; what is not, the
    /// next open takes back.
    Abandon,
}

/// Whether the writer is at work, and a count that moves with each piece of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriterActivity {
    Idle { done: u64 },
    Working { done: u64 },
}

/// Which file a path named when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileIdentity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// Returns where a file or folder is: `.` for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

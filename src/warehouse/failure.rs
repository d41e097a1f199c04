//! Why the warehouse could not be opened, or did not keep what it was given.

use std::io::ErrorKind;
use std::path::PathBuf;

/// The warehouse cannot be used at all: exit status 5.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailed {
    #[error("{} is in use by another healthex-sync (pid {pid}); wait for it or stop it", .path.display())]
    InUse { path: PathBuf, pid: String },
    #[error("{} is a symbolic link to a file that is not there; nothing was made in its place; mend the link, or correct [warehouse] path", .0.display())]
    DanglingLink(PathBuf),
    #[error("{} is a directory; [warehouse] path names a file", .0.display())]
    IsDirectory(PathBuf),
    #[error("{} is empty, so it is not a warehouse; move it away, or correct [warehouse] path", .0.display())]
    IsEmpty(PathBuf),
    #[error("{} is not a healthex-sync warehouse; nothing was written; correct [warehouse] path", .0.display())]
    NotOurs(PathBuf),
    #[error("{} was filled from {filled_from}, and api.base_url is {base_url}; its keys and watermarks mean nothing there. Correct api.base_url, or run `healthex-sync sync --new-server` to keep the rows and pull everything in full", .path.display())]
    OtherServer { path: PathBuf, filled_from: String, base_url: String },
    #[error("{} has schema version {version}, and this healthex-sync knows {known}; install the newer program", .path.display())]
    NewerSchema { path: PathBuf, version: i64, known: i64 },
    #[error("there is no warehouse at {} yet; `healthex-sync sync` makes it", .0.display())]
    Missing(PathBuf),
    #[error("{} is the ledger of purges of another warehouse than {}; correct consent.ledger, or put this warehouse's own ledger there", .ledger.display(), .path.display())]
    OtherLedger { path: PathBuf, ledger: PathBuf },
    #[error("there is no warehouse at {}, and {} tells of the purges of one; put that warehouse back with `healthex-sync restore FILE`, or, if it is to be given up, move the ledger away and keep it", .path.display(), .ledger.display())]
    LedgerWithoutWarehouse { path: PathBuf, ledger: PathBuf },
    #[error("cannot use {server}: {why}")]
    Server { server: String, why: String, may_pass: bool },
    #[error("{server} has no warehouse of this version; run `healthex-sync migrate` as its owner")]
    NotMigrated { server: String },
    #[error(
        "{server} has schema version {version}, and this healthex-sync knows {known}; install the newer program"
    )]
    NewerServerSchema { server: String, version: i64, known: i64 },
    #[error("cannot use {}: {source}; check that the folder exists, is writable and has room", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("cannot use {}: {source}", .path.display())]
    Unusable { path: PathBuf, source: StoreFailed },
}

/// A read or write that did not happen.
#[derive(Debug, thiserror::Error, Clone)]
pub enum StoreFailed {
    #[error("the disk of the warehouse is full; what was committed before is kept; make room and it goes on")]
    DiskFull,
    #[error("the warehouse cannot be written: the file or its folder is read-only")]
    ReadOnly,
    #[error("the warehouse file is damaged ({0}); restore it from a backup, or move it away and sync anew")]
    Damaged(String),
    #[error("the warehouse file was replaced or removed while in use; restart to use the new one")]
    Replaced,
    #[error(
        "another healthex-sync has taken the warehouse over, because this one was silent for too long; what was committed before is kept"
    )]
    TakenOver,
    #[error("the warehouse is busy: {0}")]
    Busy(String),
    #[error("{0}")]
    Away(String),
    #[error("{0}")]
    Refused(String),
    #[error("the warehouse failed: {0}")]
    Engine(String),
    #[error("the warehouse cannot hold what this patient's record has: {0}")]
    Data(String),
    #[error("the warehouse's writer has stopped")]
    WriterGone,
    #[error(
        "nobody is purged, and nobody who was purged is pulled again, without a line in the ledger of purges: {0}"
    )]
    Ledger(LedgerFault),
}

/// What is wrong with the ledger of purges. What can be read of it has been carried out.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum LedgerFault {
    #[error("{} is missing, and this warehouse has purges; put it back from a copy, or, if there is none, begin another with `healthex-sync audit --new-ledger`", .0.display())]
    Missing(PathBuf),
    #[error("{} is damaged in line {line}: {what}; put it back from a copy, or, if there is none, begin another with `healthex-sync audit --new-ledger`", .path.display())]
    Damaged { path: PathBuf, line: usize, what: &'static str },
    #[error("{} lacks the last line that this warehouse knows: its end was changed or cut off; put it back from a copy, or, if there is none, begin another with `healthex-sync audit --new-ledger`", .0.display())]
    CutOff(PathBuf),
    #[error("{} is the ledger of another warehouse", .0.display())]
    OfAnother(PathBuf),
    #[error("{} cannot be used: {why}; mend that", .path.display())]
    Unusable { path: PathBuf, why: String },
}

/// A copy that was not made.
#[derive(Debug, thiserror::Error)]
pub enum CopyFailed {
    #[error("no copy was made, because it cannot be noted in {}: {why}; mend that", .path.display())]
    NotNoted { path: PathBuf, why: String },
    #[error("{} is there already; a backup never replaces a file: name another", .0.display())]
    Exists(PathBuf),
    #[error("{}: {source}; the unfinished copy was removed", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("asked to stop; the unfinished copy was removed")]
    Stopped,
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

/// A restore that was not made: the warehouse is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFailed {
    #[error("{} cannot be restored: {why}; nothing was changed", .file.display())]
    NotAWarehouse { file: PathBuf, why: String },
    #[error("a reader has {} open; close it and restore again; nothing was changed", .0.display())]
    ReadersOpen(PathBuf),
    #[error(
        "the last bytes of purged patients cannot be taken out of the restored file: {0}; nothing was changed"
    )]
    NotScrubbed(String),
    #[error("{}: {source}; nothing was changed", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Copy(#[from] CopyFailed),
    #[error(transparent)]
    Open(#[from] OpenFailed),
    #[error(transparent)]
    Store(#[from] StoreFailed),
}

impl OpenFailed {
    /// Returns whether it may be over without anybody seeing to the warehouse itself, so that it is
    /// worth waiting for.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unusable { source, .. } => source.may_pass(),
            Self::Server { may_pass, .. } => *may_pass,
            Self::Io { source, .. } => matches!(
                source.kind(),
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem
            ),
            _ => false,
        }
    }
}

/// Whom a failure concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// This patient's data alone: the next one is pulled.
    Patient,
    /// Everybody for now: a later cycle may find it mended.
    Cycle,
    /// The file itself, which somebody has to see to.
    File,
}

impl StoreFailed {
    /// Returns whether it may be over without anybody seeing to the warehouse itself.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::DiskFull | Self::ReadOnly | Self::Busy(_) | Self::Away(_))
    }

    /// Returns whom the failure concerns, and with that what it ends.
    pub fn concern(&self) -> Concern {
        match self {
            Self::Data(_) | Self::Ledger(_) => Concern::Patient,
            Self::DiskFull
            | Self::ReadOnly
            | Self::Busy(_)
            | Self::TakenOver
            | Self::Away(_)
            | Self::Refused(_)
            | Self::Engine(_)
            | Self::WriterGone => Concern::Cycle,
            Self::Damaged(_) | Self::Replaced => Concern::File,
        }
    }
}

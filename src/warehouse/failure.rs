//! Why the warehouse could not be opened, or did not keep what it was given.

use std::path::PathBuf;

use rusqlite::ErrorCode;

/// The warehouse cannot be used at all: exit status 5.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailed {
    #[error("{} is in use by another healthex-sync (pid {pid}); wait for it or stop it", .path.display())]
    InUse { path: PathBuf, pid: String },
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
    #[error("the pull was superseded by another one")]
    Superseded,
    #[error("the warehouse is busy: {0}")]
    Busy(String),
    #[error("the warehouse failed: {0}")]
    Sqlite(String),
    #[error("the warehouse's writer has stopped")]
    WriterGone,
}

impl StoreFailed {
    /// Does it concern every patient, so that going on with the next makes no sense?
    pub fn is_about_the_file(&self) -> bool {
        !matches!(self, Self::Superseded)
    }
}

impl From<rusqlite::Error> for StoreFailed {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => Self::ReadOnly,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(text),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy(text),
            _ => Self::Sqlite(text),
        }
    }
}

//! Where a warehouse is, and what it is opened for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;

use super::failure::{OpenFailed, StoreFailed};
use crate::views::AnalystTable;

/// Where a warehouse is, whom it is filled from, and who may read it.
#[derive(Clone, Debug)]
pub struct Place {
    pub location: Location,
    pub base_url: String,
    /// A Unix group that may read: the file is then 0640.
    pub group: Option<u32>,
    /// Where the ledger of purges is; `None` is beside the warehouse.
    pub ledger: Option<PathBuf>,
    /// Whether former versions of resources are kept.
    pub history: bool,
    /// The analysts' tables that are kept up with the resources.
    pub views: Arc<[AnalystTable]>,
}

impl Place {
    /// Returns the file, or what this machine's own files are named after.
    pub fn path(&self) -> &Path {
        self.location.path()
    }
}

/// Where a warehouse is. Written, it names no secret.
#[derive(Clone, Debug)]
pub enum Location {
    /// One SQLite file.
    File(PathBuf),
    /// A schema of a PostgreSQL server.
    Server(Arc<Server>),
}

impl Location {
    /// Returns the file, or what this machine's own files are named after: its ledger of purges, its
    /// register of copies, what its service tells of itself.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Server(server) => &server.beside,
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Server(server) => server.fmt(f),
        }
    }
}

/// A schema of a PostgreSQL server, and how it is reached.
#[derive(Clone, Debug)]
pub struct Server {
    /// Without a password.
    pub url: String,
    pub password: Option<SecretString>,
    /// What to do where it asks for a password and there is none, or another.
    pub asked_for: String,
    /// Who may vouch for the server beside those that the system trusts.
    pub ca_file: Option<PathBuf>,
    pub schema: String,
    /// As which role statements are carried out, where that is another than the URL's.
    pub acting_as: Option<String>,
    /// Whether statements are kept prepared by name. Not through a pooler that lends each transaction
    /// another connection, and does not know them.
    pub prepared: bool,
    /// A worker of a shared cycle that is silent for so long loses its patients to others.
    pub lease: std::time::Duration,
    /// How long backups and archives of the server keep what was purged, where that is stated.
    pub retention: Option<std::time::Duration>,
    /// What this machine's own files are named after.
    pub beside: PathBuf,
}

/// How long a worker may be silent, where nothing else is said.
pub const LEASE: std::time::Duration = std::time::Duration::from_mins(2);

impl Server {
    /// Returns a server that is reached by a URL alone, with everything else as it is by default.
    pub fn at(url: String, beside: PathBuf) -> Self {
        Self {
            url,
            password: None,
            asked_for: String::new(),
            ca_file: None,
            schema: "healthex".to_owned(),
            acting_as: None,
            prepared: true,
            lease: LEASE,
            retention: None,
            beside,
        }
    }

    /// Returns the failure to use it, which somebody has to see to.
    pub(super) fn unusable(&self, why: impl fmt::Display) -> OpenFailed {
        OpenFailed::Server { server: self.to_string(), why: why.to_string(), may_pass: false }
    }

    /// Returns the failure to use it, which may be over by itself.
    pub(super) fn away(&self, why: impl fmt::Display) -> OpenFailed {
        OpenFailed::Server { server: self.to_string(), why: why.to_string(), may_pass: true }
    }

    /// Returns the failure to use it for what it has answered, or not.
    pub(super) fn failed(&self, failed: StoreFailed) -> OpenFailed {
        if failed.may_pass() { self.away(failed) } else { self.unusable(failed) }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (schema {})", self.url, self.schema)
    }
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

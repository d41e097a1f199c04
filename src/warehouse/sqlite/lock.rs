//! Who may write: one process at a time, held by `flock`, so that a killed holder frees it.
//!
//! Promise: no file is locked or written but the lock itself, whatever others put in its place, and
//! what it says is only told as text.

use std::fs::File;
use std::io::{Error, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::open;
use crate::warehouse::beside::files::{careful, checked, give_to_owner, with_suffix};
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::place::{Location, Place};

/// The right to write, for a cycle or a purge. Held until dropped.
#[derive(Debug)]
pub(super) struct WriterLock {
    _file: File,
}

impl WriterLock {
    /// Takes the lock at once, or says whose it is.
    pub(super) fn take(warehouse: &Path) -> Result<Self, OpenFailed> {
        take(warehouse, ".lock").map(|file| Self { _file: file })
    }
}

/// Behind the warehouse's name: the lock that a `run` holds for life.
pub(super) const SERVICE_LOCK: &str = ".run.lock";

/// A look at a lock holds it for a moment, which is no reason to give up.
const TRIES: u32 = 5;
const TRY_INTERVAL: Duration = Duration::from_millis(30);

/// The right to be the one daemon of a warehouse. Held until dropped.
#[derive(Debug)]
pub struct ServiceLock {
    _file: File,
}

impl ServiceLock {
    /// Takes the lock at once, or says whose it is.
    pub fn take(place: &Place) -> Result<Self, OpenFailed> {
        if let Location::Server(server) = &place.location {
            return Self::take_beside(&server.beside);
        }
        let place = open::resolve_place(place)?;
        open::prepare(&place)?;
        Self::take_beside(place.path())
    }

    /// Takes the lock of whatever is in the warehouse's place.
    pub(super) fn take_beside(warehouse: &Path) -> Result<Self, OpenFailed> {
        take(warehouse, SERVICE_LOCK).map(|file| Self { _file: file })
    }
}

/// Takes the writer's lock for a moment.
pub(in crate::warehouse) fn try_lock(place: &Place) -> Result<(), OpenFailed> {
    WriterLock::take(&open::resolve(place.path())?).map(drop)
}

fn take(warehouse: &Path, suffix: &str) -> Result<File, OpenFailed> {
    let path = with_suffix(warehouse, suffix);
    let failed = |source| OpenFailed::Io { path: path.clone(), source };
    let mut file = open_lock(&path).map_err(failed)?;
    match lock_soon(&file) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(OpenFailed::InUse { path: warehouse.to_owned(), pid: holder(&file) });
        }
        Err(errno) => return Err(failed(errno.into())),
    }
    let pid = std::process::id().to_string();
    // The pid only tells others whom to look for; on a full disk the lock holds without it.
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(pid.as_bytes()));
    Ok(file)
}

/// Tries for a moment.
fn lock_soon(file: &File) -> rustix::io::Result<()> {
    for _ in 1..TRIES {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(TRY_INTERVAL),
            locked => return locked,
        }
    }
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// Opens a lock, and makes one where there is none.
fn open_lock(path: &Path) -> std::io::Result<File> {
    let file = checked(path, careful().read(true).write(true).create(true).truncate(false).open(path))?;
    // The pid would be written into whatever has that other name.
    if file.metadata()?.nlink() > 1 {
        return Err(Error::other("the lock has another name too (a hard link); remove it"));
    }
    give_to_owner(&file, path)?;
    Ok(file)
}

/// Returns what a lock says of who holds it, fit for a terminal.
fn holder(file: &File) -> String {
    let mut said = Vec::new();
    // The holder may be between taking the lock and writing its pid.
    let _ = file.take(PID_LENGTH_MAX).read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    match said.trim() {
        "" => "unknown".to_owned(),
        pid => pid.escape_default().to_string(),
    }
}

const PID_LENGTH_MAX: u64 = 32;

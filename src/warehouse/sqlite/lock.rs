//! Who may write: one process at a time, held by `flock`, so that a killed holder frees it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::open;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::place::Place;

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

/// The right to be the one daemon of a warehouse. Held until dropped.
#[derive(Debug)]
pub struct ServiceLock {
    _file: File,
}

impl ServiceLock {
    /// Takes the lock at once, or says whose it is.
    pub fn take(place: &Place) -> Result<Self, OpenFailed> {
        let place = open::resolve_place(place)?;
        open::prepare(&place)?;
        Self::take_beside(&place.path)
    }

    /// Takes the lock of whatever is in the warehouse's place.
    pub(super) fn take_beside(warehouse: &Path) -> Result<Self, OpenFailed> {
        take(warehouse, ".run.lock").map(|file| Self { _file: file })
    }
}

/// Takes the writer's lock for a moment.
pub(in crate::warehouse) fn try_lock(place: &Place) -> Result<(), OpenFailed> {
    WriterLock::take(&open::resolve(&place.path)?).map(drop)
}

fn take(warehouse: &Path, suffix: &str) -> Result<File, OpenFailed> {
    let mut path = warehouse.as_os_str().to_owned();
    path.push(suffix);
    let path = PathBuf::from(path);
    let failed = |source| OpenFailed::Io { path: path.clone(), source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // The holder may be between taking the lock and writing its pid.
            let _ = file.read_to_string(&mut pid);
            let pid = Some(pid.trim()).filter(|pid| !pid.is_empty()).unwrap_or("unknown").to_owned();
            return Err(OpenFailed::InUse { path: warehouse.to_owned(), pid });
        }
        Err(errno) => return Err(failed(errno.into())),
    }
    let pid = std::process::id().to_string();
    // The pid only tells others whom to look for; on a full disk the lock holds without it.
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(pid.as_bytes()));
    Ok(file)
}

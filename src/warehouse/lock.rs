//! Who may write: one process at a time, held by `flock`, so that a killed holder frees it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::failure::OpenFailed;

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// What a lock keeps others from.
#[derive(Clone, Copy, Debug)]
pub enum LockFor {
    /// Writing: held during a cycle or a purge.
    Writing,
    /// Being the daemon: held for its life.
    Daemon,
}

impl Lock {
    /// Takes the lock at once, or says whose it is.
    pub fn take(warehouse: &Path, purpose: LockFor) -> Result<Self, OpenFailed> {
        let path = lock_path(warehouse, purpose);
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
        Ok(Self { _file: file })
    }
}

fn lock_path(warehouse: &Path, purpose: LockFor) -> PathBuf {
    let mut path = warehouse.as_os_str().to_owned();
    path.push(match purpose {
        LockFor::Writing => ".lock",
        LockFor::Daemon => ".run.lock",
    });
    path.into()
}

//! What a running service tells of itself, in a file beside the warehouse that is replaced as a whole.
//!
//! Absent on purpose: durability. It is told again within a second, and the service's lock, not this
//! file, says whether it is alive.

use std::fs;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::lock::SERVICE_LOCK;
use super::open;
use crate::warehouse::beside::files::{MODE, with_suffix};
use crate::warehouse::place::Place;
use crate::warehouse::service::{RunReport, RunState};

const REPORT: &str = ".run.json";
/// Nothing that this program writes is longer.
const REPORT_BYTES_MAX: u64 = 1024 * 1024;

/// Replaces what was told before. Whoever may read the warehouse may read it.
pub(in crate::warehouse) fn tell(place: &Place, report: &RunReport) -> std::io::Result<()> {
    let path = open::resolve(place.path()).map_err(|failed| std::io::Error::other(failed.to_string()))?;
    let (told, new) = (with_suffix(&path, REPORT), with_suffix(&path, ".run.json.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&new)?;
    if place.group.is_some() {
        fchown(&file, None, place.group)?;
        file.set_permissions(Permissions::from_mode(open::MODE_FOR_GROUP))?;
    }
    let text = serde_json::to_vec(report).map_err(std::io::Error::other)?;
    file.write_all(&text)?;
    fs::rename(&new, &told)
}

/// Returns whether a `run` is alive, and what it tells of itself.
pub(in crate::warehouse) fn look(warehouse: &Path) -> RunState {
    let Ok(path) = open::resolve(warehouse) else { return RunState::NotRunning { last: None } };
    let report = read(&with_suffix(&path, REPORT));
    let lock = match File::open(with_suffix(&path, SERVICE_LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return RunState::NotRunning { last: report },
        Err(error) => return RunState::Unknown(error.to_string()),
    };
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Ok(()) => RunState::NotRunning { last: report },
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            // The holder may be between taking the lock and writing its pid.
            let _ = lock.take(32).read_to_string(&mut pid);
            let pid: String = pid.trim().chars().filter(char::is_ascii_digit).collect();
            let report = report.filter(|report| report.pid.to_string() == pid);
            RunState::Alive { pid, report }
        }
        Err(errno) => RunState::Unknown(errno.to_string()),
    }
}

fn read(path: &Path) -> Option<RunReport> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(REPORT_BYTES_MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

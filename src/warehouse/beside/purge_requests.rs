//! An operator's order to purge a patient, left beside the lock for the process that holds it.
//!
//! One file a person id, in a folder of its own that only the owner may enter. The holder renames it
//! to say that it has taken it, purges, leaves an outcome, and removes it; a `=` in a name is what no
//! id has. An order of a command that was killed stands: whoever holds the lock next carries it out,
//! unless a day has passed. Promise: a file that somebody else could have written is no order.

use std::fs;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::plan::{PersonId, Timestamp, parse_stamp, stamp};
use crate::time::TimeDelta;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::place::{Place, folder_of};
use crate::warehouse::purge::{PurgeAnswer, PurgeRequest, RequestProgress};

/// Orders that may wait; one more is refused.
const REQUESTS_MAX: usize = 1000;
const FILE_BYTES_MAX: u64 = 4096;
/// An older order is not carried out: nobody expects it any more.
const REQUEST_AGE_MAX: TimeDelta = TimeDelta::days(1);
/// An outcome that nobody has fetched, or an order that was never finished.
const LEFTOVER_AGE_MAX: TimeDelta = TimeDelta::hours(1);
const BY_LENGTH_MAX: usize = 100;

const TAKEN: &str = "=taken";
const OUTCOME: &str = "=outcome";
const NEW: &str = "=new";

#[derive(Serialize, Deserialize)]
struct RequestFile {
    by: String,
    requested_at: String,
}

/// The folder of the orders for one warehouse.
pub(in crate::warehouse) struct Requests {
    folder: PathBuf,
}

impl Requests {
    pub(in crate::warehouse) fn beside(warehouse: &Path) -> Self {
        Self { folder: super::beside(warehouse, ".purge-requests") }
    }

    fn file(&self, person: &PersonId, suffix: &str) -> PathBuf {
        self.folder.join(format!("{person}{suffix}"))
    }

    /// Takes the orders that are there, those that a holder before had taken and not answered too.
    pub(in crate::warehouse) fn take(&self, now: Timestamp) -> Vec<PurgeRequest> {
        if !self.is_ours() {
            return Vec::new();
        }
        let Ok(entries) = fs::read_dir(&self.folder) else { return Vec::new() };
        let names =
            entries.take(REQUESTS_MAX * 4).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut requests = Vec::new();
        for name in names {
            if name.ends_with(OUTCOME) || name.ends_with(NEW) {
                self.expire(&name, now);
            } else if let Ok(person) = PersonId::parse(name.strip_suffix(TAKEN).unwrap_or(&name)) {
                requests.extend(self.take_one(person, &name, now));
            }
        }
        requests
    }

    fn take_one(&self, person: PersonId, name: &str, now: Timestamp) -> Option<PurgeRequest> {
        let path = self.folder.join(name);
        let found: Option<RequestFile> = self.read(&path);
        let request = found.and_then(|file| {
            let by: String = file.by.chars().filter(|one| !one.is_control()).take(BY_LENGTH_MAX).collect();
            Some(PurgeRequest { person, by, requested_at: parse_stamp(&file.requested_at)? })
        });
        let Some(request) = request else {
            tracing::warn!("{} is no order to purge that can be believed; it was removed", path.display());
            remove(&path);
            return None;
        };
        if now - request.requested_at > REQUEST_AGE_MAX {
            tracing::warn!(
                person = %request.person,
                "the order of {} to purge {} is older than a day and was not carried out; run `healthex-sync purge` again",
                request.by,
                request.person
            );
            remove(&path);
            return None;
        }
        fs::rename(&path, self.file(&request.person, TAKEN)).ok()?;
        Some(request)
    }

    /// Leaves the outcome of an order for the command that waits for it.
    pub(in crate::warehouse) fn answer(&self, request: &PurgeRequest, answer: &PurgeAnswer, now: Timestamp) {
        let (new, path) = (self.file(&request.person, NEW), self.file(&request.person, OUTCOME));
        remove(&new);
        let left = write(&new, answer, now)
            .and_then(|file| self.give_to_owner(&file))
            .and_then(|()| fs::rename(&new, &path));
        if let Err(error) = left {
            tracing::warn!("the outcome of a purge could not be left at {}: {error}", path.display());
        }
        remove(&self.file(&request.person, TAKEN));
    }

    fn expire(&self, name: &str, now: Timestamp) {
        let path = self.folder.join(name);
        let written_at = fs::symlink_metadata(&path).and_then(|found| found.modified());
        if written_at.is_ok_and(|at| now - Timestamp::from(at) > LEFTOVER_AGE_MAX) {
            remove(&path);
        }
    }

    /// Leaves an order. One that is there already is shared.
    fn leave(&self, request: &PurgeRequest) -> std::io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.folder) {
            Ok(()) => self.give_to_owner(&File::open(&self.folder)?)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        if !self.is_ours() {
            let what = "it is not a folder that its owner alone may enter; remove it";
            return Err(std::io::Error::new(ErrorKind::PermissionDenied, what));
        }
        if fs::read_dir(&self.folder)?.count() >= REQUESTS_MAX {
            return Err(std::io::Error::other(format!("{REQUESTS_MAX} orders wait already")));
        }
        remove(&self.file(&request.person, OUTCOME));
        let path = self.file(&request.person, NEW);
        remove(&path);
        let file = RequestFile { by: request.by.clone(), requested_at: stamp(request.requested_at) };
        write(&path, &file, request.requested_at).and_then(|file| self.give_to_owner(&file))?;
        // Whole under its name or not there; an earlier order for the same patient stays.
        match fs::hard_link(&path, self.file(&request.person, "")) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => {
                remove(&path);
                Ok(())
            }
        }
    }

    /// Returns whether the folder is this account's, or root's, and nobody else may write there.
    fn is_ours(&self) -> bool {
        fs::symlink_metadata(&self.folder).is_ok_and(|found| found.is_dir() && self.is_private(&found))
    }

    /// Returns whether nobody but this account, root and the warehouse's owner can have written it.
    fn is_private(&self, found: &fs::Metadata) -> bool {
        let owner = self.owner().map(|owner| owner.uid());
        let is_trusted = [rustix::process::geteuid().as_raw(), 0].contains(&found.uid())
            || owner.is_ok_and(|owner| owner == found.uid());
        let for_others = found.mode() & 0o077;
        is_trusted && for_others == 0
    }

    /// Returns to whom the warehouse belongs: its file, or, where it is none, the folder that it would be in.
    fn owner(&self) -> std::io::Result<fs::Metadata> {
        let file = fs::metadata(self.folder.with_extension(""));
        file.or_else(|_| fs::metadata(folder_of(&self.folder)))
    }

    /// Reads a file that nobody else can have written; `None` where it is no such file.
    fn read<T: for<'t> Deserialize<'t>>(&self, path: &Path) -> Option<T> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path).ok()?;
        let found = file.metadata().ok()?;
        if !found.is_file() || !self.is_private(&found) || found.len() > FILE_BYTES_MAX {
            return None;
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Hands what root has made to whom the warehouse belongs, who is to read and remove it.
    fn give_to_owner(&self, file: &File) -> std::io::Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let owner = self.owner()?;
        fchown(file, Some(owner.uid()), Some(owner.gid()))
    }
}

/// An order that was left, for the command that waits for its outcome. Dropped, it stands.
pub(crate) struct LeftRequest {
    requests: Requests,
    person: PersonId,
}

impl LeftRequest {
    pub(crate) fn leave(place: &Place, request: &PurgeRequest) -> Result<Self, OpenFailed> {
        let requests = Requests::beside(place.path());
        let left = requests.leave(request);
        left.map_err(|source| OpenFailed::Io { path: requests.folder.clone(), source })?;
        Ok(Self { requests, person: request.person.clone() })
    }

    /// Returns how far it has come.
    pub(crate) fn progress(&self) -> RequestProgress {
        let file = |suffix| self.requests.file(&self.person, suffix);
        if let Some(answer) = self.requests.read(&file(OUTCOME)) {
            return RequestProgress::Answered(answer);
        }
        if file(TAKEN).exists() { RequestProgress::Taken } else { RequestProgress::Waits }
    }

    /// Takes the order back, and clears away what is left of it. Returns whether nobody had taken it.
    pub(crate) fn withdraw(self) -> bool {
        let was_waiting = fs::remove_file(self.requests.file(&self.person, "")).is_ok();
        remove(&self.requests.file(&self.person, OUTCOME));
        // Others' orders keep the folder.
        let _ = fs::remove_dir(&self.requests.folder);
        was_waiting
    }

    /// Clears away what was ordered for a patient, also by a command that was killed or for a holder
    /// that was. To be called by the holder of the lock, which purges by itself.
    pub(crate) fn take_over(place: &Place, person: &PersonId) {
        let left = Self { requests: Requests::beside(place.path()), person: person.clone() };
        if left.requests.is_ours() {
            remove(&left.requests.file(&left.person, TAKEN));
            left.withdraw();
        }
    }
}

/// Writes a file whose age is told by our own clock: that of a file server may be another.
fn write(path: &Path, content: &impl Serialize, now: Timestamp) -> std::io::Result<File> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(flags).open(path)?;
    file.write_all(&serde_json::to_vec(content)?)?;
    file.set_modified(now.into())?;
    file.sync_all()?;
    Ok(file)
}

/// What is gone already is removed as well.
fn remove(path: &Path) {
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn order() -> PurgeRequest {
        let person = PersonId::parse("anna").unwrap();
        PurgeRequest { person, by: "nina".to_owned(), requested_at: at(0) }
    }

    fn left() -> (tempfile::TempDir, LeftRequest) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("warehouse.db");
        fs::write(&path, "").unwrap();
        let requests = Requests::beside(&path);
        requests.leave(&order()).unwrap();
        (folder, LeftRequest { requests, person: order().person })
    }

    #[test]
    fn an_order_is_taken_answered_and_gone() {
        let (folder, left) = left();
        assert_eq!(left.progress(), RequestProgress::Waits);
        assert_eq!(left.requests.take(at(1)), [order()]);
        assert_eq!(left.progress(), RequestProgress::Taken);
        // The holder was killed: the next one carries it out.
        assert_eq!(left.requests.take(at(2)), [order()]);
        left.requests.answer(&order(), &PurgeAnswer::Unknown, at(3));
        assert_eq!(left.progress(), RequestProgress::Answered(PurgeAnswer::Unknown));
        assert_eq!(left.requests.take(at(4)), []);
        assert!(!left.withdraw());
        assert!(!folder.path().join("warehouse.db.purge-requests").exists());
    }

    #[test]
    fn an_order_can_be_taken_back_and_stands_for_a_day() {
        let (_folder, left) = left();
        assert_eq!(left.requests.take(at(86_401)), []);
        assert!(!left.requests.file(&order().person, "").exists());
        left.requests.leave(&order()).unwrap();
        assert!(left.withdraw());
    }

    #[test]
    fn what_somebody_else_could_have_written_is_no_order() {
        let (folder, left) = left();
        let path = left.requests.file(&order().person, "");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        assert_eq!(left.requests.take(at(1)), []);
        let elsewhere = folder.path().join("elsewhere");
        write(&elsewhere, &RequestFile { by: "x".to_owned(), requested_at: stamp(at(0)) }, at(0)).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert_eq!(left.requests.take(at(1)), []);
        left.requests.leave(&order()).unwrap();
        fs::set_permissions(&left.requests.folder, fs::Permissions::from_mode(0o770)).unwrap();
        assert_eq!(left.requests.take(at(1)), []);
    }
}

//! A consistent copy of a warehouse that may be written to meanwhile.
//!
//! Promise: the copy is of one moment, a single file that only its owner can read, on the disk when
//! this returns, and gone if it fails. A file that is there is never replaced. What purged
//! patients left in the gaps of the warehouse's pages is not in the copy.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::{open, scrub};
use crate::plan::Timestamp;
use crate::warehouse::beside::{appended, files};
use crate::warehouse::failure::{CopyFailed, StoreFailed};
use crate::warehouse::purge::Scrub;
use crate::warehouse::report::{BackedUp, Steps};

/// So many pages are copied between two looks at whether to go on.
const PAGES_AT_ONCE: i32 = 256;

/// Copies what `source` holds into a new file. `told` hears how far it has come, and says whether
/// to go on.
pub(super) fn backup(
    source: &Connection,
    file: &Path,
    clock: fn() -> Timestamp,
    told: impl FnMut(Steps) -> bool,
) -> Result<BackedUp, CopyFailed> {
    let failed = |source| CopyFailed::Io { path: file.to_owned(), source };
    files::make_private(file).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CopyFailed::Exists(file.to_owned()),
        _ => failed(error),
    })?;
    let unfinished = Unfinished(file);
    copy(source, file, told)?;
    let unscrubbed = settle(file, clock)?;
    File::open(file).and_then(|copied| copied.sync_all()).map_err(failed)?;
    appended::sync_folder(file).map_err(failed)?;
    let bytes = std::fs::metadata(file).map_err(failed)?.len();
    std::mem::forget(unfinished);
    Ok(BackedUp { bytes, unscrubbed })
}

/// Copies every page of `source` into the empty file `target`.
pub(super) fn copy(
    source: &Connection,
    target: &Path,
    mut told: impl FnMut(Steps) -> bool,
) -> Result<(), CopyFailed> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut copied = Connection::open_with_flags(target, flags).map_err(StoreFailed::from)?;
    // A copy that is cut off is thrown away, and a journal beside it would hold rows.
    copied.pragma_update(None, "journal_mode", "OFF").map_err(StoreFailed::from)?;
    copied.pragma_update(None, "synchronous", "OFF").map_err(StoreFailed::from)?;
    // One snapshot from the first page to the last: else each commit would begin the copy anew.
    let snapshot = source.unchecked_transaction().map_err(StoreFailed::from)?;
    snapshot
        .query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0))
        .map_err(StoreFailed::from)?;
    let backup = Backup::new(&snapshot, &mut copied).map_err(StoreFailed::from)?;
    loop {
        let step = backup.step(PAGES_AT_ONCE).map_err(StoreFailed::from)?;
        let progress = backup.progress();
        let pages = |count: i32| usize::try_from(count).unwrap_or_default();
        let of = pages(progress.pagecount);
        let goes_on = told(Steps { done: of - pages(progress.remaining).min(of), of });
        match step {
            StepResult::Done => return Ok(()),
            _ if !goes_on => return Err(CopyFailed::Stopped),
            StepResult::More => {}
            _ => return Err(StoreFailed::Busy("another program has the copy open".to_owned()).into()),
        }
    }
}

/// Makes the copy a single file that needs none beside it, without what purged patients left.
/// Returns why that is still there.
fn settle(file: &Path, clock: fn() -> Timestamp) -> Result<Option<String>, StoreFailed> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    open::set_pragmas(&connection, file)?;
    let waits = match scrub::scrub_private(&connection, file, clock)? {
        Scrub::Waits(waits) => Some(waits.to_string()),
        Scrub::NothingToDo | Scrub::Done(_) => None,
    };
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(waits)
}

/// A file that is removed unless it is finished.
pub(super) struct Unfinished<'f>(pub(super) &'f Path);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Err(error) = files::remove_with_sides(self.0) {
            tracing::warn!("{}: {error}; remove it", self.0.display());
        }
    }
}

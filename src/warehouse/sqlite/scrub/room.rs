//! The room on the disk that a scrub may need.

use std::path::Path;

use rusqlite::Connection;

use super::database::{Unfit, unfit};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::place::folder_of;
use crate::warehouse::purge::{DiskRoom, ScrubbedBy};

/// Of a slice in the WAL, and of what others store meanwhile, whatever the size of the file.
const ZEROING_MAX: u64 = 100_000_000;

/// Returns what room the next scrub needs and finds; `None` where the disk does not tell.
pub(in crate::warehouse::sqlite) fn room(
    connection: &Connection,
    path: &Path,
) -> Result<Option<DiskRoom>, StoreFailed> {
    let by = match unfit(connection)? {
        // Without the room for VACUUM the file is zeroed in place, and stays as large as it is.
        None | Some(Unfit::MuchIsFree) => ScrubbedBy::Zeroing,
        Some(Unfit::NoModule | Unfit::Defensive | Unfit::NoWal) => ScrubbedBy::Vacuum,
    };
    room_for(connection, path, by)
}

/// Returns what room one way of scrubbing needs and finds.
pub(super) fn room_for(
    connection: &Connection,
    path: &Path,
    by: ScrubbedBy,
) -> Result<Option<DiskRoom>, StoreFailed> {
    let pages: u64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
    let page_size: u64 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
    let free_pages: u64 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    let needed = match by {
        // At most every page once more in the WAL.
        ScrubbedBy::Zeroing => (pages * page_size * 11 / 10).min(ZEROING_MAX),
        // A copy in a temporary file and the same again in the WAL, of the pages that are in use.
        ScrubbedBy::Vacuum => pages.saturating_sub(free_pages) * page_size * 22 / 10,
    };
    let Ok(disk) = rustix::fs::statvfs(folder_of(path)) else { return Ok(None) };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    Ok(Some(DiskRoom { needed, free, by }))
}

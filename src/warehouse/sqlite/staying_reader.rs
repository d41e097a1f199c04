//! A program that goes on reading: until it ends, the WAL cannot be emptied, and grows.

use std::path::Path;

use rusqlite::Connection;

use super::{cycle_ends, scrub};
use crate::plan::{Timestamp, stamp};
use crate::warehouse::beside::files::with_suffix;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::report::StayingReader;

/// Empties the WAL, and notes since when somebody keeps it from being emptied.
pub(super) fn look(connection: &Connection, now: Timestamp) -> Result<(), StoreFailed> {
    if scrub::wal_is_empty(connection)? {
        cycle_ends::note_no_reader(connection)
    } else {
        cycle_ends::note_reader(connection, now)
    }
}

/// Returns who was reading when it was last looked, unless the WAL has been emptied since.
pub(super) fn find(connection: &Connection, path: &Path) -> Result<Option<StayingReader>, StoreFailed> {
    let wal_bytes = std::fs::metadata(with_suffix(path, "-wal")).map_or(0, |found| found.len());
    let since = cycle_ends::reader_since(connection)?.filter(|_| wal_bytes > 0);
    Ok(since.map(|since| StayingReader { since: stamp(since), wal_bytes }))
}

//! Writes the whole file anew: what is done where it cannot be zeroed in place.

use std::path::Path;

use rusqlite::Connection;

use super::super::view_build;
use super::room::room_for;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::purge::{ScrubWaits, ScrubbedBy};

/// Returns what the file waits for, if it could not be written anew.
pub(super) fn vacuum(connection: &Connection, path: &Path) -> Result<Option<ScrubWaits>, StoreFailed> {
    let room = room_for(connection, path, ScrubbedBy::Vacuum)?;
    if let Some(room) = room.filter(|room| !room.is_enough()) {
        return Ok(Some(ScrubWaits::Room(room)));
    }
    view_build::restart_all(connection)?;
    Ok(connection.execute_batch("VACUUM").err().map(|error| ScrubWaits::Failed(error.to_string())))
}

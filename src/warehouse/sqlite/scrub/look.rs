//! Looks through the database for unallocated bytes that are not zero. Reads only.
//!
//! Promise: all pages are those of one snapshot, so that writers may go on meanwhile.

use rusqlite::Connection;

use super::database::{Reader, page_count, page_size, roots};
use super::page::Flaw;
use super::walk::{Refused, Remains, Walk};
use crate::warehouse::failure::StoreFailed;

#[derive(Debug)]
pub(super) enum Look {
    Sound(Remains),
    Refused(Refused),
    /// It was told not to go on.
    Stopped,
}

/// Walks through the whole file, for as long as `goes_on` says so.
pub(super) fn look(connection: &Connection, goes_on: impl Fn() -> bool) -> Result<Look, StoreFailed> {
    let transaction = connection.unchecked_transaction()?;
    // The roots are read first: a statement that reads a table begins the snapshot.
    let roots = roots(&transaction)?;
    let mut walk = match Walk::new(page_size(&transaction)?, page_count(&transaction)?, &roots) {
        Ok(walk) => walk,
        Err(refused) => return Ok(Look::Refused(refused)),
    };
    let mut reader = Reader::new(&transaction)?;
    while let Some(page) = walk.wants() {
        if !goes_on() {
            return Ok(Look::Stopped);
        }
        let taken = reader.read(page, |bytes| walk.take(bytes))?;
        if let Err(refused) = taken.unwrap_or(Err(Refused { page, flaw: Flaw::OutOfFile })) {
            return Ok(Look::Refused(refused));
        }
    }
    Ok(match walk.finish() {
        Ok(remains) => Look::Sound(remains),
        Err(refused) => Look::Refused(refused),
    })
}

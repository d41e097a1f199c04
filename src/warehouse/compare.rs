//! What a page would change: the reading half of storing it, for a dry run.

use rusqlite::Connection;

use super::failure::StoreFailed;
use super::page::PlacedRow;
use super::page::Tally;
use super::page::keep_winners;
use super::page::lookup;
use super::tables;

pub fn compare(connection: &Connection, person: &str, rows: Vec<PlacedRow>) -> Result<Tally, StoreFailed> {
    let mut tally = Tally::default();
    for PlacedRow { row, is_repeat } in keep_winners(rows) {
        let known = match tables::exists(connection, row.table)? {
            true => lookup(connection, row.table, person, &row.key)?,
            false => None,
        };
        match known {
            // A repeat of a new entry is not new twice.
            None if is_repeat => tally.unchanged += 1,
            None => tally.inserted += 1,
            Some(known) if known.content_hash == row.content_hash && !known.is_deleted => tally.unchanged += 1,
            Some(_) => tally.updated += 1,
        }
    }
    Ok(tally)
}

//! What SQLite's planner is told of the analysts' tables: how many rows a value of an index has.
//!
//! Not told, it takes ten rows a person for granted, and a join that asks for visits of one class reads
//! all of a person's observations for each of them.
//!
//! Promise: counts alone are kept. An ANALYZE with a limit takes no samples of what is in an index, so
//! nothing of a patient outlives its purge here.
//!
//! Absent on purpose: the tables of resources, which have one index.

use rusqlite::Connection;

use super::view_build::in_transaction;
use super::view_table::ViewTable;
use crate::warehouse::failure::StoreFailed;

/// Counts the tables that were never counted, or have ten times the rows that they had, or a tenth.
pub(super) fn count_anew(known: &[ViewTable], connection: &mut Connection) -> Result<(), StoreFailed> {
    connection.execute_batch("PRAGMA analysis_limit = 1000")?;
    let due: Vec<&ViewTable> = {
        // Asked of all tables (0x10000) which ANALYZE (2) is due, and told (1), not done.
        let mut statement = connection.prepare("PRAGMA main.optimize(0x10003)")?;
        let told = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        let is_due = |table: &&ViewTable| {
            let said = format!("ANALYZE \"main\".\"{}\"", table.name);
            told.iter().any(|one| one.trim_end_matches(';') == said)
        };
        known.iter().filter(is_due).collect()
    };
    if due.is_empty() {
        return Ok(());
    }
    in_transaction(connection, |connection| {
        due.iter().try_for_each(|table| Ok(connection.execute_batch(&format!("ANALYZE \"{}\"", table.name))?))
    })
}

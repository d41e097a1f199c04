//! Removes rows that have been marked as deleted for longer than `sync.keep_deleted`.
//!
//! The analysts' tables and the counts of live rows left them out when they were marked, so that
//! nothing else changes. Absent on purpose: a scrub. The patients' consent stands, and what has
//! vanished at the source need not be gone from the file to the last byte.

use rusqlite::{Connection, params};

use super::{history, removed, tables};
use crate::plan::resource_type::ResourceType;
use crate::warehouse::failure::StoreFailed;

/// Rows that are removed in one transaction: beside it, others want to write.
pub(super) const BATCH_ROWS: u64 = 1000;

/// Makes the index that finds marked rows, where it is missing, and returns the tables that have any.
///
/// A row's mark lies beyond its resource's first page as often as not: without the index, each end
/// of a cycle would read the whole warehouse. It has nothing but marked rows, so that a pull which
/// marks none does not pay for it.
pub(super) fn prepare(connection: &Connection) -> Result<Vec<&'static str>, StoreFailed> {
    let mut with_marked = Vec::new();
    for ResourceType { table, .. } in tables::resource_tables(connection)? {
        let index = tables::fill_in(include_str!("../../../schema/deleted_index.sql"), table);
        connection.execute_batch(&index)?;
        let any = format!("SELECT 1 FROM \"{table}\" WHERE deleted_at IS NOT NULL");
        if connection.prepare(&any)?.exists([])? {
            with_marked.push(table.as_str());
        }
    }
    Ok(with_marked)
}

/// Removes at most [`BATCH_ROWS`] rows that were marked before `limit`, and returns how many.
pub(super) fn remove_some(connection: &Connection, table: &str, limit: &str) -> Result<u64, StoreFailed> {
    let statement = tables::fill_in(include_str!("../../../schema/forget_deleted.sql"), table);
    let mut statement = connection.prepare_cached(&statement)?;
    let rows = statement.query_map(params![limit, BATCH_ROWS], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows = rows.collect::<Result<Vec<(String, String)>, _>>()?;
    for (person, key) in &rows {
        history::forget(connection, table, person, key)?;
    }
    if !rows.is_empty() {
        removed::forget_before(connection, limit)?;
    }
    Ok(rows.len() as u64)
}

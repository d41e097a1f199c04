//! Removes rows that have been marked as deleted for longer than `sync.keep_deleted`.
//!
//! The analysts' tables and the counts of live rows left them out when they were marked, so that
//! nothing else changes.

use std::collections::BTreeMap;

use super::failure::Undone;
use super::session::Session;
use super::{history, removed};
use crate::plan::Timestamp;
use crate::plan::resource_type::ResourceType;

/// Rows that are removed in one transaction: beside it, others want to write.
pub(super) const BATCH_ROWS: u64 = 1000;

/// Returns the tables that have rows which were marked before `limit`.
pub(super) async fn tables_with_marked(
    session: &Session,
    limit: Timestamp,
) -> Result<Vec<&'static str>, Undone> {
    let mut with_marked = Vec::new();
    for ResourceType { table, .. } in ResourceType::all() {
        let any = format!("SELECT 1 FROM \"{table}\" WHERE deleted_at < $1 LIMIT 1");
        if session.row_or_none(&any, &[&limit]).await?.is_some() {
            with_marked.push(table.as_str());
        }
    }
    Ok(with_marked)
}

/// Removes at most [`BATCH_ROWS`] rows that were marked before `limit`, and returns how many.
pub(super) async fn remove_some(session: &Session, table: &str, limit: Timestamp) -> Result<u64, Undone> {
    let some = format!("SELECT person_id, key FROM \"{table}\" WHERE deleted_at < $1 LIMIT {BATCH_ROWS}");
    let mut by_person: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in session.rows(&some, &[&limit]).await? {
        by_person.entry(row.try_get(0)?).or_default().push(row.try_get(1)?);
    }
    let mut rows = 0;
    for (person, keys) in &by_person {
        let person = person.as_str();
        // Else a pull that brings one back meanwhile would lose it.
        session.execute("SELECT 1 FROM checkpoint WHERE person_id = $1 FOR UPDATE", &[&person]).await?;
        let remove = format!(
            "DELETE FROM \"{table}\" WHERE person_id = $1 AND key = ANY($2) AND deleted_at < $3 RETURNING key"
        );
        let gone = session.rows(&remove, &[&person, keys, &limit]).await?;
        let gone = gone.iter().map(|row| row.try_get(0)).collect::<Result<Vec<&str>, _>>()?;
        rows += gone.len() as u64;
        history::forget(session, table, person, gone).await?;
    }
    if rows > 0 {
        removed::forget_before(session, limit).await?;
    }
    Ok(rows)
}

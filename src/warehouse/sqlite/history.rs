//! The former versions of resources, where `warehouse.history` keeps them.
//!
//! Promise: a version is kept in the transaction that replaces it, and goes with its patient and with the row that
//! it was of. Absent on purpose: a version of what merely vanished, came back or has another name now, because it says the same.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::tables;
use crate::plan::resource_type::ResourceType;
use crate::warehouse::changes::History;
use crate::warehouse::failure::StoreFailed;

/// Keeps what is stored under a key and is about to be replaced.
pub(super) fn keep(
    history: History,
    connection: &Connection,
    table: &str,
    person: &str,
    key: &str,
    now: &str,
) -> Result<(), StoreFailed> {
    if history == History::Kept {
        let statement = tables::fill_in(include_str!("../../../schema/keep_former.sql"), table);
        connection.prepare_cached(&statement)?.execute(params![person, key, type_name(table), now])?;
    }
    Ok(())
}

/// Counts by id and content what a person's resources of one type say now; none where nothing is kept.
pub(super) fn contents(
    history: History,
    connection: &Connection,
    table: &str,
    person: &str,
) -> Result<HashMap<Content, usize>, StoreFailed> {
    if history == History::Forgotten {
        return Ok(HashMap::new());
    }
    let statement = format!(
        "SELECT id, content_hash FROM \"{table}\" WHERE person_id = ?1 AND id IS NOT NULL AND deleted_at IS NULL"
    );
    let mut statement = connection.prepare_cached(&statement)?;
    let mut rows = statement.query([person])?;
    let mut contents = HashMap::new();
    while let Some(row) = rows.next()? {
        *contents.entry(Content { id: row.get(0)?, content_hash: row.get(1)? }).or_default() += 1;
    }
    Ok(contents)
}

/// What a resource of an id says.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Content {
    pub(super) id: String,
    pub(super) content_hash: [u8; 16],
}

/// Forgets what a row that is removed once said.
pub(super) fn forget(
    connection: &Connection,
    table: &str,
    person: &str,
    key: &str,
) -> Result<(), StoreFailed> {
    let statement = "DELETE FROM history WHERE person_id = ?1 AND type = ?2 AND key = ?3";
    connection.prepare_cached(statement)?.execute([person, type_name(table), key])?;
    Ok(())
}

fn type_name(table: &str) -> &str {
    ResourceType::by_table(table).map_or(table, |known| known.name)
}

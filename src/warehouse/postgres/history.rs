//! The former versions of resources, where `warehouse.history` keeps them.
//!
//! Promise: a version is kept in the transaction that replaces it, and goes with its patient and with the row that
//! it was of. Absent on purpose: a version of what merely vanished, came back or has another name now, because it says the same.

use std::collections::HashMap;

use super::failure::Undone;
use super::session::Session;
use super::tables::fill_in;
use crate::plan::Timestamp;
use crate::plan::resource_type::ResourceType;
use crate::warehouse::changes::History;

/// Keeps what is stored under keys and is about to be replaced.
pub(super) async fn keep(
    history: History,
    session: &Session,
    table: &str,
    person: &str,
    keys: Vec<&str>,
    now: Timestamp,
) -> Result<(), Undone> {
    if history == History::Kept && !keys.is_empty() {
        let statement = fill_in(include_str!("../../../schema/postgres/keep_former.sql"), table);
        session.execute(&statement, &[&person, &keys, &type_name(table), &now]).await?;
    }
    Ok(())
}

/// Counts by id and content what a person's resources of one type say now; none where nothing is kept.
pub(super) async fn contents(
    history: History,
    session: &Session,
    table: &str,
    person: &str,
) -> Result<HashMap<Content, usize>, Undone> {
    let mut contents = HashMap::new();
    if history == History::Forgotten {
        return Ok(contents);
    }
    let statement = format!(
        "SELECT id, content_hash FROM \"{table}\" WHERE person_id = $1 AND id IS NOT NULL AND deleted_at IS NULL"
    );
    for row in session.rows(&statement, &[&person]).await? {
        let content = Content { id: row.try_get(0)?, content_hash: row.try_get(1)? };
        *contents.entry(content).or_default() += 1;
    }
    Ok(contents)
}

/// What a resource of an id says.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Content {
    pub(super) id: String,
    pub(super) content_hash: Vec<u8>,
}

/// Forgets what rows that are removed once said.
pub(super) async fn forget(
    session: &Session,
    table: &str,
    person: &str,
    keys: Vec<&str>,
) -> Result<(), Undone> {
    let statement = "DELETE FROM history WHERE person_id = $1 AND type = $2 AND key = ANY($3)";
    session.execute(statement, &[&person, &type_name(table), &keys]).await?;
    Ok(())
}

fn type_name(table: &str) -> &str {
    ResourceType::by_table(table).map_or(table, |known| known.name)
}

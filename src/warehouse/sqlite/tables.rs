//! The tables of resources, and every table that has rows of a patient.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::plan::resource_type::ResourceType;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::purge::OUTLIVE_A_PURGE;

/// Makes the table of a type where it is missing. `table` comes from the R4 type list.
pub(super) fn ensure(connection: &Connection, table: &str) -> Result<(), StoreFailed> {
    Ok(connection.execute_batch(&fill_in(include_str!("../../../schema/resource_table.sql"), table))?)
}

/// Puts the name of a table into a statement from `schema/`.
pub(super) fn fill_in(statement: &str, table: &str) -> String {
    statement.replace("{table}", table)
}

pub(super) fn exists(connection: &Connection, table: &str) -> Result<bool, StoreFailed> {
    let statement = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
    Ok(connection.prepare_cached(statement)?.exists([table])?)
}

/// Returns whether a table has a column of that name.
pub(super) fn has_column(connection: &Connection, table: &str, column: &str) -> Result<bool, StoreFailed> {
    let statement = "SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2";
    Ok(connection.prepare_cached(statement)?.exists([table, column])?)
}

/// The resource types that have a table in this warehouse, by name.
pub(super) fn resource_tables(connection: &Connection) -> Result<Vec<&'static ResourceType>, StoreFailed> {
    let mut statement =
        connection.prepare_cached("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(names.iter().filter_map(|name| ResourceType::by_table(name)).collect())
}

/// Adds the column `superseded_at`, for a warehouse that did not have it.
pub(super) fn add_superseded_at(connection: &Connection) -> Result<(), StoreFailed> {
    for known in resource_tables(connection)? {
        if !connection.column_exists(None::<&str>, known.table.as_str(), "superseded_at")? {
            connection
                .execute_batch(&format!("ALTER TABLE \"{}\" ADD COLUMN superseded_at TEXT", known.table))?;
        }
    }
    Ok(())
}

/// Every table that holds rows of patients and goes with them, found from the schema itself,
/// so that one added later cannot be forgotten.
pub(super) fn purged_tables(connection: &Connection) -> Result<Vec<String>, StoreFailed> {
    let mut statement = connection.prepare(
        "SELECT m.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c
          WHERE m.type = 'table' AND c.name = 'person_id' ORDER BY m.name",
    )?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(names.into_iter().filter(|name| !OUTLIVE_A_PURGE.contains(&name.as_str())).collect())
}

/// Counts the rows of a patient, live or not, by the index alone.
pub(super) fn rows_of(connection: &Connection, table: &str, person: &str) -> Result<u64, StoreFailed> {
    let statement = format!("SELECT count(*) FROM \"{table}\" WHERE person_id = ?1");
    Ok(connection.prepare_cached(&statement)?.query_row([person], |row| row.get(0))?)
}

pub(super) fn live_rows_of(connection: &Connection, table: &str, person: &str) -> Result<u64, StoreFailed> {
    let statement = format!("SELECT count(*) FROM \"{table}\" WHERE person_id = ?1 AND deleted_at IS NULL");
    Ok(connection.prepare_cached(&statement)?.query_row([person], |row| row.get(0))?)
}

/// Live rows by table, and by person.
pub(super) fn live_rows(connection: &Connection) -> Result<LiveRows, StoreFailed> {
    let mut rows = LiveRows::default();
    for known in resource_tables(connection)? {
        let table = &known.table;
        let statement = format!(
            "SELECT person_id, count(*) FROM \"{table}\" WHERE deleted_at IS NULL GROUP BY person_id"
        );
        let mut statement = connection.prepare(&statement)?;
        let mut counts = statement.query([])?;
        while let Some(row) = counts.next()? {
            let count: u64 = row.get(1)?;
            *rows.by_table.entry(table.clone()).or_default() += count;
            *rows.by_person.entry(row.get(0)?).or_default() += count;
        }
    }
    Ok(rows)
}

#[derive(Debug, Default)]
pub(super) struct LiveRows {
    pub(super) by_table: BTreeMap<String, u64>,
    pub(super) by_person: BTreeMap<String, u64>,
}

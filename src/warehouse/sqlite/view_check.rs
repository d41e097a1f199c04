//! Whether an analysts' table holds what its resources give. Reads only.
//!
//! Promise: memory holds the rows of one resource.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::view_table::{ViewTable, analysts_spelling};
use super::{medicines, tables, view_rows};
use crate::plan::Timestamp;
use crate::views::{Cell, TapeMemory};
use crate::warehouse::failure::StoreFailed;

/// Returns the tables that hold other rows than their resources give now. What the next start builds
/// anew, or goes on building, is not asked.
pub(super) fn stale_tables(
    known: &[ViewTable],
    connection: &Connection,
    now: Timestamp,
) -> Result<Vec<String>, StoreFailed> {
    if !tables::exists(connection, "analyst_build")? {
        return Ok(Vec::new());
    }
    let mut differing = Vec::new();
    for table in known {
        if is_whole(connection, &table.name, &table.definition)? && differs(connection, table, now)? {
            differing.push(table.name.clone());
        }
    }
    Ok(differing)
}

/// Returns whether a table was built from a definition, and to its end.
pub(super) fn is_whole(connection: &Connection, name: &str, definition: &str) -> Result<bool, StoreFailed> {
    let statement = "SELECT 1 FROM analyst_table WHERE name = ?1 AND definition = ?2
        AND name NOT IN (SELECT name FROM analyst_build) AND name IN (SELECT name FROM sqlite_master)";
    Ok(connection.prepare_cached(statement)?.exists([name, definition])?)
}

fn differs(connection: &Connection, table: &ViewTable, now: Timestamp) -> Result<bool, StoreFailed> {
    let mut expected = 0u64;
    for known in tables::resource_tables(connection)?.iter().filter(|known| table.is_of(&known.table)) {
        match rows_of_source(connection, table, &known.table, now)? {
            Some(rows) => expected += rows,
            None => return Ok(true),
        }
    }
    if medicines::TABLES.contains(&table.name.as_str()) && medicines::differs(connection, &table.name)? {
        return Ok(true);
    }
    // Rows of a resource that is gone.
    let count: u64 =
        connection.query_row(&format!("SELECT count(*) FROM \"{}\"", table.name), [], |row| row.get(0))?;
    Ok(count != expected)
}

/// Returns how many rows the resources of a source give, or `None` if others are stored.
fn rows_of_source(
    connection: &Connection,
    table: &ViewTable,
    source: &str,
    now: Timestamp,
) -> Result<Option<u64>, StoreFailed> {
    let resources = format!(
        "SELECT person_id, key, resource, changed_at FROM \"{source}\"
          WHERE deleted_at IS NULL AND superseded_at IS NULL"
    );
    let mut resources = connection.prepare(&resources)?;
    let kept = format!(
        "SELECT * FROM \"{}\" WHERE person_id = ?1 AND \"key\" = ?2{}",
        table.name,
        table.of_source(source)
    );
    let mut kept = connection.prepare(&kept)?;
    let (mut memory, mut expected) = (TapeMemory::default(), 0u64);
    let mut found = resources.query([])?;
    while let Some(row) = found.next()? {
        let (person, key): (String, String) = (row.get(0)?, row.get(1)?);
        let resource = row.get_ref(2)?.as_str().unwrap_or_default();
        let changed_at = table.has_changed_at.then(|| row.get::<_, String>(3)).transpose()?;
        let changed_at = changed_at.map(|at| Value::Text(analysts_spelling(&at)));
        let rows = view_rows::evaluate(std::iter::once(table), &key, resource, now, &mut memory);
        let fresh: Vec<Vec<Value>> = rows
            .rows(0, table.source.columns().len())
            .map(|row| row.map(|cell| value(&cell)).chain(changed_at.clone()).collect())
            .map(|row| of_resource(table, row))
            .collect();
        expected += fresh.len() as u64;
        if !are_kept(&mut kept, table, &[&person, &key], fresh)? {
            return Ok(None);
        }
    }
    Ok(Some(expected))
}

/// Whether the rows of one resource are these, in any order.
fn are_kept(
    statement: &mut rusqlite::Statement<'_>,
    table: &ViewTable,
    resource: &[&String],
    mut fresh: Vec<Vec<Value>>,
) -> Result<bool, StoreFailed> {
    let columns = statement.column_count();
    let mut rows = statement.query(params_from_iter(resource))?;
    while let Some(row) = rows.next()? {
        let cells = (2..columns).map(|at| row.get(at)).collect::<Result<Vec<Value>, _>>()?;
        let cells = of_resource(table, cells);
        let Some(same) = fresh.iter().position(|fresh| *fresh == cells) else { return Ok(false) };
        fresh.swap_remove(same);
    }
    Ok(fresh.is_empty())
}

/// The cells of a row less those that are filled in from another resource.
fn of_resource(table: &ViewTable, mut cells: Vec<Value>) -> Vec<Value> {
    if !medicines::TABLES.contains(&table.name.as_str()) {
        return cells;
    }
    let named = |name: &str| table.source.columns().iter().position(|column| column.name == name);
    let refers = named("medication_id").is_some_and(|at| cells[at] != Value::Null);
    for at in medicines::COLUMNS.into_iter().filter(|_| refers).filter_map(named) {
        cells[at] = Value::Null;
    }
    cells
}

fn value(cell: &Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Integer(number) => Value::Integer(*number),
        Cell::Boolean(value) => Value::Integer(i64::from(*value)),
        Cell::Real(number, _) => Value::Real(*number),
        Cell::Text(text) => Value::Text(text.to_string()),
    }
}

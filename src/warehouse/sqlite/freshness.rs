//! How many live rows each patient has, as the view `freshness` tells them.
//!
//! Promise: counted in the transaction that changes the rows. Absent on purpose: purges, which
//! find the table by `person_id`.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, params};

use super::tables;
use crate::warehouse::failure::StoreFailed;

/// The view's name, and its line in `analyst_table`.
pub(super) const NAME: &str = "freshness";

/// The types of the columns that the view computes, which SQLite does not declare.
pub(super) const COMPUTED: [(&str, &str); 6] = [
    ("is_complete", "INTEGER"),
    ("types", "TEXT"),
    ("age_hours", "REAL"),
    ("live_resources", "INTEGER"),
    ("quarantined", "INTEGER"),
    ("first_full_pull_completed", "INTEGER"),
];

/// Rows that came to life, less those that were marked or removed.
pub(super) fn count(connection: &Connection, person: &str, change: i64) -> Result<(), StoreFailed> {
    if change != 0 {
        let statement = "INSERT INTO live_resources (person_id, resources) VALUES (?1, ?2)
             ON CONFLICT (person_id) DO UPDATE SET resources = resources + excluded.resources";
        connection.prepare_cached(statement)?.execute(params![person, change])?;
    }
    Ok(())
}

/// Returns how many live rows a person has.
pub(super) fn live(connection: &Connection, person: &str) -> Result<i64, StoreFailed> {
    let statement = "SELECT coalesce(sum(resources), 0) FROM live_resources WHERE person_id = ?1";
    Ok(connection.prepare_cached(statement)?.query_row([person], |row| row.get(0))?)
}

/// Counts everyone's rows anew.
pub(super) fn recount(connection: &Connection) -> Result<(), StoreFailed> {
    connection.execute("DELETE FROM live_resources", [])?;
    for (person, rows) in tables::live_rows(connection)?.by_person {
        let statement = "INSERT INTO live_resources (person_id, resources) VALUES (?1, ?2)";
        connection.prepare_cached(statement)?.execute(params![person, rows])?;
    }
    Ok(())
}

/// Whose count is not the number of rows.
pub(super) fn miscounted(connection: &Connection) -> Result<Vec<String>, StoreFailed> {
    let counted = tables::live_rows(connection)?.by_person;
    let mut statement = connection.prepare("SELECT person_id, resources FROM live_resources")?;
    let told = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let told = told.collect::<Result<BTreeMap<String, i64>, _>>()?;
    let differs = |person: &&String| {
        let counted = counted.get(*person).copied().unwrap_or_default();
        told.get(*person).copied().unwrap_or_default() != i64::try_from(counted).unwrap_or(i64::MAX)
    };
    let everyone: BTreeSet<&String> = counted.keys().chain(told.keys()).collect();
    Ok(everyone.into_iter().filter(differs).cloned().collect())
}

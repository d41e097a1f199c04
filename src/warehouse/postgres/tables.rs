//! The tables of resources, and every table that has rows of a patient.

use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use super::failure::Undone;
use super::session::Session;
use super::values::counted;
use crate::plan::Timestamp;
use crate::plan::resource_type::{ResourceType, US_CORE};

/// Puts the name of a table into a statement from `schema/`.
pub(super) fn fill_in(statement: &str, table: &str) -> String {
    statement.replace("{table}", table)
}

/// Returns the resource types, all of which have a table.
pub(super) fn resource_tables() -> impl Iterator<Item = &'static ResourceType> {
    ResourceType::all()
}

/// Returns the types whose tables have rows, or had some, and those that every warehouse may be asked for.
pub(super) async fn with_rows(session: &Session) -> Result<Vec<&'static ResourceType>, Undone> {
    let found = session.rows(&WITH_ROWS, &[]).await?;
    let found = found.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<&str>, _>>()?;
    let is_there =
        |known: &&ResourceType| found.contains(known.table.as_str()) || US_CORE.contains(&known.name);
    Ok(resource_tables().filter(is_there).collect())
}

static WITH_ROWS: LazyLock<String> = LazyLock::new(|| {
    let looks = resource_tables().map(|ResourceType { table, .. }| {
        format!("SELECT '{table}' AS name, EXISTS (SELECT 1 FROM \"{table}\") AS has_rows")
    });
    let looks: Vec<String> = looks.collect();
    format!(
        "SELECT name FROM ({}) AS looked WHERE has_rows UNION SELECT type FROM removed",
        looks.join("\nUNION ALL ")
    )
});

/// A table that has rows of a patient.
pub(super) struct RowsOf {
    pub(super) known: &'static ResourceType,
    pub(super) rows: u64,
    pub(super) live: u64,
}

/// Returns the tables that have rows of a patient, and how many.
pub(super) async fn with_rows_of(session: &Session, person: &str) -> Result<Vec<RowsOf>, Undone> {
    let mut found = Vec::new();
    for row in session.rows(&COUNT_ALL, &[&person]).await? {
        let (table, rows, live): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if let Some(known) = ResourceType::by_table(&table) {
            found.push(RowsOf { known, rows: counted(rows), live: counted(live) });
        }
    }
    Ok(found)
}

/// One statement for all tables: a round trip for each would take longer than the rest of a pull's end.
static COUNT_ALL: LazyLock<String> = LazyLock::new(|| {
    let counts = resource_tables().map(|ResourceType { table, .. }| {
        format!(
            "SELECT '{table}' AS name, count(*) AS all_rows, count(*) FILTER (WHERE deleted_at IS NULL) AS live
               FROM \"{table}\" WHERE person_id = $1"
        )
    });
    let counts: Vec<String> = counts.collect();
    format!("SELECT * FROM ({}) AS counted WHERE all_rows > 0", counts.join("\nUNION ALL "))
});

/// Returns since when there are rows of a patient, if there are any.
pub(super) async fn first_row_at(session: &Session, person: &str) -> Result<Option<Timestamp>, Undone> {
    Ok(session.row(&FIRST_ROW, &[&person]).await?.try_get(0)?)
}

static FIRST_ROW: LazyLock<String> = LazyLock::new(|| {
    let firsts = resource_tables().map(|ResourceType { table, .. }| {
        format!(" UNION ALL SELECT min(first_seen_at) FROM \"{table}\" WHERE person_id = $1")
    });
    let firsts: String = firsts.collect();
    format!(
        "SELECT min(first) FROM (SELECT min(received_at) AS first FROM quarantine WHERE person_id = $1{firsts}) AS all_of_them"
    )
});

/// Returns how many rows of each table are not marked as deleted; tables without any are left out.
pub(super) async fn live_rows(session: &Session) -> Result<BTreeMap<String, u64>, Undone> {
    let rows = session.rows(&COUNT_LIVE, &[]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, counted(row.try_get(1)?)))).collect()
}

static COUNT_LIVE: LazyLock<String> = LazyLock::new(|| {
    let counts = resource_tables().map(|ResourceType { table, .. }| {
        format!("SELECT '{table}' AS name, count(*) AS live FROM \"{table}\" WHERE deleted_at IS NULL")
    });
    let counts: Vec<String> = counts.collect();
    format!("SELECT * FROM ({}) AS counted WHERE live > 0", counts.join("\nUNION ALL "))
});

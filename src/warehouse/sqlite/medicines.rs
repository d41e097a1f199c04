//! The code and the name of a medicine where a row refers to a Medication of its own: filled in from the
//! table `medications`, in whatever order the two come.
//!
//! Promise: a row with a `medication_id` holds what `medications` has under it, or nothing. Absent on
//! purpose: what is told in place or contained, which the view itself gives.

use rusqlite::{Connection, named_params};

use crate::warehouse::failure::StoreFailed;
pub(super) use crate::warehouse::medicines::{COLUMNS, MEDICATIONS, SOURCE, TABLES};

const FILL_IN: &str = include_str!("../../../schema/fill_in_medicine.sql");
const MEDICINE: &str = include_str!("../../../schema/medicine.sql");

/// Rows of one person.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which<'k> {
    All,
    /// Of some resources: a JSON array of their keys.
    Keys(&'k str),
    /// Those that refer to one of some Medications: a JSON array of their ids.
    OfMedications(&'k str),
}

/// Fills in the medicines of rows of a table.
pub(super) fn fill_in(
    connection: &Connection,
    table: &str,
    person: &str,
    which: Which<'_>,
) -> Result<(), StoreFailed> {
    let (and, list) = match which {
        Which::All => ("\n   AND :list IS NULL", None),
        Which::Keys(keys) => ("\n   AND \"key\" IN (SELECT value FROM json_each(:list))", Some(keys)),
        Which::OfMedications(ids) => {
            ("\n   AND medication_id IN (SELECT value FROM json_each(:list))", Some(ids))
        }
    };
    let statement = FILL_IN.replace("{medicine}", MEDICINE).replace("{table}", table).replace("{which}", and);
    connection.prepare_cached(&statement)?.execute(named_params! { ":person_id": person, ":list": list })?;
    Ok(())
}

/// Returns whether rows hold another medicine than the one they refer to.
pub(super) fn differs(connection: &Connection, table: &str) -> Result<bool, StoreFailed> {
    let statement = format!(
        "SELECT 1 FROM \"{table}\" WHERE medication_id IS NOT NULL AND ({}) IS NOT ({}) LIMIT 1",
        COLUMNS.join(", "),
        MEDICINE.replace("{table}", table)
    );
    Ok(connection.prepare(&statement)?.exists([])?)
}

/// The indexes that filling in uses, there from the start.
pub(super) fn indexes(table: &str) -> String {
    if table == MEDICATIONS {
        return format!("\nCREATE INDEX \"{table}_by_person_id\" ON \"{table}\" (person_id, \"id\");");
    }
    if TABLES.contains(&table) {
        return format!(
            "\nCREATE INDEX \"{table}_of_medication\" ON \"{table}\" (person_id, medication_id)
                WHERE medication_id IS NOT NULL;"
        );
    }
    String::new()
}

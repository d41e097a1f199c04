//! The code and the name of a medicine where a row refers to a Medication of its own: filled in from the
//! table `medications`, in whatever order the two come.
//!
//! Promise: a row with a `medication_id` holds what `medications` has under it, or nothing.

use crate::warehouse::medicines::{MEDICATIONS, TABLES};

/// Rows of one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// Of resources with some keys.
    Keys,
    /// Those that refer to Medications with some ids.
    OfMedications,
}

/// Returns what fills in the medicines of rows of a table. It takes a person and, but for all of them, a list.
pub(super) fn fill_in(table: &str, medications: &str, which: Which) -> String {
    let which = match which {
        Which::All => "",
        Which::Keys => "\n   AND r.\"key\" = ANY($2)",
        Which::OfMedications => "\n   AND r.medication_id = ANY($2)",
    };
    include_str!("../../../schema/postgres/fill_in_medicine.sql")
        .replace("{table}", table)
        .replace("{medicine_of}", MEDICINE_OF)
        .replace("{medications}", medications)
        .replace("{which}", which)
}

const MEDICINE_OF: &str = include_str!("../../../schema/postgres/medicine_of.sql");

/// The columns that are filled in.
pub(super) const FILLED: [&str; 7] = ["code", "code_system", "display", "text", "rxnorm", "ndc", "snomed"];

/// Returns what asks whether a row of a person holds another medicine than the one that it refers to.
pub(super) fn differs(table: &str) -> String {
    format!(
        "SELECT EXISTS (SELECT 1 FROM \"{table}\" AS r {MEDICINE_OF}
  WHERE r.person_id = $1 AND r.medication_id IS NOT NULL
    AND (r.code, r.code_system, r.display, r.text, r.rxnorm, r.ndc, r.snomed) IS DISTINCT FROM
        (m.code, m.code_system, m.display, coalesce(m.text, r.medication_display), m.rxnorm, m.ndc, m.snomed))"
    )
    .replace("{medications}", MEDICATIONS)
}

/// Returns whether a table's medicines are filled in.
pub(super) fn are_filled_in(table: &str) -> bool {
    TABLES.contains(&table)
}

/// The indexes that filling in uses, there from the start.
pub(super) fn indexes(table: &str, name: &str) -> String {
    if table == MEDICATIONS {
        return format!("\nCREATE INDEX ON \"{name}\" (person_id, \"id\");");
    }
    if TABLES.contains(&table) {
        return format!(
            "\nCREATE INDEX ON \"{name}\" (person_id, medication_id) WHERE medication_id IS NOT NULL;"
        );
    }
    String::new()
}

/// Returns whether one of those indexes has a column.
pub(super) fn is_indexed(table: &str, column: &str) -> bool {
    table == MEDICATIONS && column == "id" || TABLES.contains(&table) && column == "medication_id"
}

//! Which of the analysts' tables refer to a Medication, and what is filled in there from the table of those.

/// The tables whose rows refer to a Medication.
pub(super) const TABLES: [&str; 4] =
    ["medication_administrations", "medication_dispenses", "medication_requests", "medication_statements"];
/// The table of what they refer to, and that of its resources.
pub(super) const SOURCE: &str = "medication";
pub(super) const MEDICATIONS: &str = "medications";
/// What is filled in, in the order of `schema/medicine.sql`.
pub(super) const COLUMNS: [&str; 7] = ["code", "code_system", "display", "text", "rxnorm", "ndc", "snomed"];

//! The R4 resource types: their tables and where each refers to its patient.
//!
//! The facts are generated (`r4_types.tsv` names its source). Nothing from the wire ever
//! becomes a table name: a type that is not in the list has no `ResourceType`.

use std::collections::HashMap;
use std::sync::LazyLock;

/// One of the 146 concrete resource types of R4.
#[derive(Debug)]
pub struct ResourceType {
    pub name: &'static str,
    /// The name in `snake_case`. Quote it in SQL: `group` is a keyword.
    pub table: String,
    /// Paths of elements to look for a reference to the Patient, in order.
    pub patient_paths: Vec<Vec<&'static str>>,
}

static TYPES: LazyLock<Vec<ResourceType>> = LazyLock::new(|| {
    include_str!("r4_types.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, paths) = line.split_once('\t').unwrap_or((line, ""));
            ResourceType {
                name,
                table: snake_case(name),
                patient_paths: paths.split_whitespace().map(|path| path.split('.').collect()).collect(),
            }
        })
        .collect()
});

static BY_NAME: LazyLock<HashMap<&'static str, &'static ResourceType>> =
    LazyLock::new(|| TYPES.iter().map(|known| (known.name, known)).collect());

static BY_TABLE: LazyLock<HashMap<&'static str, &'static ResourceType>> =
    LazyLock::new(|| TYPES.iter().map(|known| (known.table.as_str(), known)).collect());

/// Tables that every warehouse has from the start: the types US Core 7 profiles.
pub const US_CORE: [&str; 27] = [
    "AllergyIntolerance",
    "CarePlan",
    "CareTeam",
    "Condition",
    "Coverage",
    "Device",
    "DiagnosticReport",
    "DocumentReference",
    "Encounter",
    "Goal",
    "Immunization",
    "Location",
    "Media",
    "Medication",
    "MedicationDispense",
    "MedicationRequest",
    "Observation",
    "Organization",
    "Patient",
    "Person",
    "Practitioner",
    "PractitionerRole",
    "Procedure",
    "Provenance",
    "QuestionnaireResponse",
    "RelatedPerson",
    "ServiceRequest",
];

impl ResourceType {
    pub fn by_name(name: &str) -> Option<&'static Self> {
        BY_NAME.get(name).copied()
    }

    pub fn by_table(table: &str) -> Option<&'static Self> {
        BY_TABLE.get(table).copied()
    }

    pub fn all() -> impl Iterator<Item = &'static Self> {
        TYPES.iter()
    }
}

fn snake_case(name: &str) -> String {
    let mut table = String::with_capacity(name.len() + 4);
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            table.push('_');
        }
        table.push(letter.to_ascii_lowercase());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_r4_type_has_a_table_of_its_own() {
        assert_eq!(ResourceType::all().count(), 146);
        assert_eq!(BY_TABLE.len(), 146);
        assert_eq!(
            ResourceType::by_name("MedicationRequest").map(|known| known.table.as_str()),
            Some("medication_request")
        );
        assert!(ResourceType::by_name("observation").is_none());
        assert!(US_CORE.iter().all(|name| ResourceType::by_name(name).is_some()));
    }

    #[test]
    fn a_type_is_found_by_its_table_too() {
        let name = |table| ResourceType::by_table(table).map(|known| known.name);
        assert_eq!(name("medication_request"), Some("MedicationRequest"));
        assert_eq!(name("MedicationRequest"), None);
    }
}

//! The views that come with the program, from `schema/views/`, in sets.
//!
//! Promise: each compiles, and warns of nothing (tests hold both). Compiled when first asked for.

use std::sync::{Arc, OnceLock};

use super::{Refused, View, ViewDefinition};
use crate::plan::table_set::TableSet;

/// A view of ours.
#[derive(Debug)]
pub struct BuiltIn {
    pub set: TableSet,
    /// Also its table's name.
    pub name: &'static str,
    /// The ViewDefinition as it stands in `schema/views/`.
    pub json: &'static str,
    compiled: OnceLock<Result<Arc<View>, Refused>>,
}

impl BuiltIn {
    const fn of(set: TableSet, name: &'static str, json: &'static str) -> Self {
        Self { set, name, json, compiled: OnceLock::new() }
    }

    /// Returns the view, compiled.
    pub fn view(&self) -> Result<&Arc<View>, Refused> {
        let compile = || View::compile(&ViewDefinition::parse(self.json)?).map(Arc::new);
        self.compiled.get_or_init(compile).as_ref().map_err(Refused::clone)
    }
}

static CATALOGUE: [BuiltIn; 22] = [
    BuiltIn::of(TableSet::Clinical, "allergies", include_str!("../../schema/views/allergies.json")),
    BuiltIn::of(TableSet::Clinical, "conditions", include_str!("../../schema/views/conditions.json")),
    BuiltIn::of(TableSet::Clinical, "coverages", include_str!("../../schema/views/coverages.json")),
    BuiltIn::of(
        TableSet::Clinical,
        "diagnostic_reports",
        include_str!("../../schema/views/diagnostic_reports.json"),
    ),
    BuiltIn::of(TableSet::Texts, "document_texts", include_str!("../../schema/views/document_texts.json")),
    BuiltIn::of(TableSet::Clinical, "documents", include_str!("../../schema/views/documents.json")),
    BuiltIn::of(
        TableSet::Clinical,
        "encounter_diagnoses",
        include_str!("../../schema/views/encounter_diagnoses.json"),
    ),
    BuiltIn::of(TableSet::Clinical, "encounters", include_str!("../../schema/views/encounters.json")),
    BuiltIn::of(TableSet::Clinical, "identifiers", include_str!("../../schema/views/identifiers.json")),
    BuiltIn::of(TableSet::Clinical, "immunizations", include_str!("../../schema/views/immunizations.json")),
    BuiltIn::of(TableSet::Clinical, "locations", include_str!("../../schema/views/locations.json")),
    BuiltIn::of(
        TableSet::Clinical,
        "medication_administrations",
        include_str!("../../schema/views/medication_administrations.json"),
    ),
    BuiltIn::of(
        TableSet::Clinical,
        "medication_dispenses",
        include_str!("../../schema/views/medication_dispenses.json"),
    ),
    BuiltIn::of(
        TableSet::Clinical,
        "medication_requests",
        include_str!("../../schema/views/medication_requests.json"),
    ),
    BuiltIn::of(
        TableSet::Clinical,
        "medication_statements",
        include_str!("../../schema/views/medication_statements.json"),
    ),
    BuiltIn::of(TableSet::Clinical, "medications", include_str!("../../schema/views/medications.json")),
    BuiltIn::of(TableSet::Clinical, "observations", include_str!("../../schema/views/observations.json")),
    BuiltIn::of(TableSet::Clinical, "organizations", include_str!("../../schema/views/organizations.json")),
    BuiltIn::of(TableSet::Clinical, "patients", include_str!("../../schema/views/patients.json")),
    BuiltIn::of(TableSet::Clinical, "practitioners", include_str!("../../schema/views/practitioners.json")),
    BuiltIn::of(TableSet::Clinical, "procedures", include_str!("../../schema/views/procedures.json")),
    BuiltIn::of(TableSet::Clinical, "report_results", include_str!("../../schema/views/report_results.json")),
];

/// All of them, by name.
pub fn catalogue() -> &'static [BuiltIn] {
    &CATALOGUE
}

/// The one of that name.
pub fn built_in(name: &str) -> Option<&'static BuiltIn> {
    CATALOGUE.iter().find(|view| view.name == name)
}

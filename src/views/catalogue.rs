//! The twelve views that come with the program, from `schema/views/`.
//!
//! Promise: each compiles, and warns of nothing (tests hold both). Compiled when first asked for.

use std::sync::{Arc, OnceLock};

use super::{Refused, View, ViewDefinition};

/// A view of ours.
#[derive(Debug)]
pub struct BuiltIn {
    /// Also its table's name.
    pub name: &'static str,
    /// The ViewDefinition as it stands in `schema/views/`.
    pub json: &'static str,
    compiled: OnceLock<Result<Arc<View>, Refused>>,
}

impl BuiltIn {
    const fn of(name: &'static str, json: &'static str) -> Self {
        Self { name, json, compiled: OnceLock::new() }
    }

    /// Returns the view, compiled.
    pub fn view(&self) -> Result<&Arc<View>, Refused> {
        let compile = || View::compile(&ViewDefinition::parse(self.json)?).map(Arc::new);
        self.compiled.get_or_init(compile).as_ref().map_err(Refused::clone)
    }
}

static CATALOGUE: [BuiltIn; 12] = [
    BuiltIn::of("allergies", include_str!("../../schema/views/allergies.json")),
    BuiltIn::of("conditions", include_str!("../../schema/views/conditions.json")),
    BuiltIn::of("coverages", include_str!("../../schema/views/coverages.json")),
    BuiltIn::of("diagnostic_reports", include_str!("../../schema/views/diagnostic_reports.json")),
    BuiltIn::of("documents", include_str!("../../schema/views/documents.json")),
    BuiltIn::of("encounters", include_str!("../../schema/views/encounters.json")),
    BuiltIn::of("immunizations", include_str!("../../schema/views/immunizations.json")),
    BuiltIn::of("lab_results", include_str!("../../schema/views/lab_results.json")),
    BuiltIn::of("medication_requests", include_str!("../../schema/views/medication_requests.json")),
    BuiltIn::of("patients", include_str!("../../schema/views/patients.json")),
    BuiltIn::of("procedures", include_str!("../../schema/views/procedures.json")),
    BuiltIn::of("vital_signs", include_str!("../../schema/views/vital_signs.json")),
];

/// All of them, by name.
pub fn catalogue() -> &'static [BuiltIn] {
    &CATALOGUE
}

/// The one of that name.
pub fn built_in(name: &str) -> Option<&'static BuiltIn> {
    CATALOGUE.iter().find(|view| view.name == name)
}

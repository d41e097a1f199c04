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

static CATALOGUE: [BuiltIn; 34] = [
    BuiltIn::of(TableSet::Clinical, "allergies", include_str!("../../schema/views/allergies.json")),
    BuiltIn::of(TableSet::Care, "care_plans", include_str!("../../schema/views/care_plans.json")),
    BuiltIn::of(TableSet::Care, "care_teams", include_str!("../../schema/views/care_teams.json")),
    BuiltIn::of(TableSet::Claims, "claim_items", include_str!("../../schema/views/claim_items.json")),
    BuiltIn::of(TableSet::Claims, "claims", include_str!("../../schema/views/claims.json")),
    BuiltIn::of(TableSet::Clinical, "conditions", include_str!("../../schema/views/conditions.json")),
    BuiltIn::of(TableSet::Clinical, "coverages", include_str!("../../schema/views/coverages.json")),
    BuiltIn::of(TableSet::Care, "devices", include_str!("../../schema/views/devices.json")),
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
    BuiltIn::of(
        TableSet::Claims,
        "explanation_items",
        include_str!("../../schema/views/explanation_items.json"),
    ),
    BuiltIn::of(
        TableSet::Claims,
        "explanations_of_benefit",
        include_str!("../../schema/views/explanations_of_benefit.json"),
    ),
    BuiltIn::of(TableSet::Care, "family_history", include_str!("../../schema/views/family_history.json")),
    BuiltIn::of(TableSet::Care, "goals", include_str!("../../schema/views/goals.json")),
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
    BuiltIn::of(
        TableSet::Surveys,
        "questionnaire_answers",
        include_str!("../../schema/views/questionnaire_answers.json"),
    ),
    BuiltIn::of(TableSet::Clinical, "report_results", include_str!("../../schema/views/report_results.json")),
    BuiltIn::of(TableSet::Care, "service_requests", include_str!("../../schema/views/service_requests.json")),
    BuiltIn::of(TableSet::Care, "specimens", include_str!("../../schema/views/specimens.json")),
];

/// All of them, by name.
pub fn catalogue() -> &'static [BuiltIn] {
    &CATALOGUE
}

/// The one of that name.
pub fn built_in(name: &str) -> Option<&'static BuiltIn> {
    CATALOGUE.iter().find(|view| view.name == name)
}

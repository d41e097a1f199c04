//! Which patient is a resource about?

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::resource_type::ResourceType;
use super::scan::{Repeated, Scanned};

/// The patient a resource is about: the first reference to a Patient where its type may hold one.
///
/// The reference is given as received. One that does not say what it points to (`urn:uuid:…`)
/// counts where its own `type` says Patient.
pub(super) fn find_patient(
    known: &ResourceType,
    resource: &Scanned<'_>,
    id: Option<&str>,
) -> Result<Option<String>, Repeated> {
    if known.name == "Patient" {
        return Ok(id.map(|id| format!("Patient/{id}")));
    }
    for path in &known.patient_paths {
        if let [first, rest @ ..] = path.as_slice()
            && let Some(found) = resource.element(first)?.and_then(|value| patient_under(value, rest))
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Follows `path` below a value, through arrays, to the first reference to a Patient.
fn patient_under(value: &str, path: &[&str]) -> Option<String> {
    #[derive(Deserialize)]
    struct Reference {
        reference: Option<String>,
        r#type: Option<String>,
    }
    if value.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(value).ok()?;
        return items.into_iter().find_map(|item| patient_under(item.get(), path));
    }
    if let [first, rest @ ..] = path {
        let elements: HashMap<String, &RawValue> = serde_json::from_str(value).ok()?;
        return elements.get(*first).and_then(|element| patient_under(element.get(), rest));
    }
    let found: Reference = serde_json::from_str(value).ok()?;
    let reference = found.reference?;
    let names_patient = reference.starts_with("Patient/") || reference.contains("/Patient/");
    (names_patient || found.r#type.as_deref() == Some("Patient")).then_some(reference)
}

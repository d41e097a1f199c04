//! Which patient is a resource about?

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::resource_type::ResourceType;
use super::scan::{Repeated, Scanned};

/// Returns the first reference to a Patient where the type of a resource may hold one.
///
/// The reference is given as received. One that does not say what it points to (`urn:uuid:…`)
/// counts where its own `type` says Patient.
pub(super) fn patient_of(
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

#[cfg(test)]
mod tests {
    use crate::plan::row::row_of;

    #[test]
    fn the_patient_is_the_first_reference_to_one() {
        let check = |resource: &str, patient: Option<&str>| {
            assert_eq!(row_of("k", resource).unwrap().patient.as_deref(), patient, "{resource}");
        };
        check(r#"{"resourceType":"Patient","id":"p"}"#, Some("Patient/p"));
        check(r#"{"resourceType":"Observation","subject":{"reference":"Patient/p"}}"#, Some("Patient/p"));
        check(r#"{"resourceType":"Observation","subject":{"reference":"Group/g"}}"#, None);
        check(
            r#"{"resourceType":"Observation","subject":{"reference":"Group/g"},"performer":[{"reference":"Practitioner/x"},{"reference":"Patient/q"}]}"#,
            Some("Patient/q"),
        );
        check(
            r#"{"resourceType":"Coverage","beneficiary":{"reference":"https://h/Patient/p/_history/2"}}"#,
            Some("https://h/Patient/p/_history/2"),
        );
        check(
            r#"{"resourceType":"Appointment","participant":[{"actor":{"reference":"Location/l"}},{"actor":{"reference":"Patient/p"}}]}"#,
            Some("Patient/p"),
        );
        check(
            r#"{"resourceType":"Claim","patient":{"reference":"urn:uuid:1","type":"Patient"}}"#,
            Some("urn:uuid:1"),
        );
        check(r#"{"resourceType":"Claim","patient":"nonsense"}"#, None);
        check(r#"{"resourceType":"Organization","patient":{"reference":"Patient/p"}}"#, None);
    }
}

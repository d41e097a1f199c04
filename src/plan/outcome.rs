//! What an OperationOutcome says of the answer it came in.
//!
//! Absent on purpose: the server's own text, which may name the patient.

use serde::Deserialize;
use serde_json::value::RawValue;

/// An OperationOutcome. The server's own text is left behind: it may name the patient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `severity/code` of each issue.
    pub issues: Vec<String>,
    /// The page is broken.
    pub is_error: bool,
    /// The answer is not the whole record: nothing is swept, and the pull is short.
    pub is_incomplete: bool,
}

/// Returns whether an entry of a Bundle is an OperationOutcome that makes its page a broken one.
pub(crate) fn is_error_entry(entry: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow)]
        resource: &'a RawValue,
    }
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(rename = "resourceType")]
        resource_type: std::borrow::Cow<'a, str>,
    }
    serde_json::from_slice::<Shape<'_>>(entry).is_ok_and(|Shape { resource }| {
        serde_json::from_str::<Kind<'_>>(resource.get())
            .is_ok_and(|kind| kind.resource_type == "OperationOutcome")
            && read_outcome(resource).is_error
    })
}

/// Codes of an issue that say that the answer is not the whole record.
const INCOMPLETE_CODES: [&str; 7] =
    ["incomplete", "timeout", "transient", "throttled", "exception", "no-store", "lock-error"];

pub(super) fn read_outcome(resource: &RawValue) -> Outcome {
    #[derive(Deserialize)]
    struct Shape {
        #[serde(default)]
        issue: Vec<serde_json::Value>,
    }
    let issues = serde_json::from_str::<Shape>(resource.get()).map(|shape| shape.issue).unwrap_or_default();
    let severity = |issue: &serde_json::Value| issue.get("severity")?.as_str().map(str::to_owned);
    let code = |issue: &serde_json::Value| issue.get("code")?.as_str().map(str::to_owned);
    let is_error =
        issues.iter().filter_map(severity).any(|severity| matches!(severity.as_str(), "error" | "fatal"));
    let is_incomplete = issues.iter().filter_map(code).any(|code| INCOMPLETE_CODES.contains(&code.as_str()));
    // Both come from closed lists in FHIR; anything else could be text about the patient.
    let word = |word: Option<String>| {
        word.filter(|word| word.len() <= 24 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
            .unwrap_or_else(|| "?".to_owned())
    };
    let issues = issues.iter().take(8);
    let issues = issues.map(|issue| format!("{}/{}", word(severity(issue)), word(code(issue)))).collect();
    Outcome { issues, is_error, is_incomplete }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_no_permission() {
        let entry = |kind: &str, severity: &str| {
            format!(
                r#"{{"resource":{{"resourceType":"{kind}","issue":[{{"severity":"{severity}","code":"processing"}}]}}}}"#
            )
        };
        assert!(is_error_entry(entry("OperationOutcome", "fatal").as_bytes()));
        assert!(is_error_entry(entry("OperationOutcome", "error").as_bytes()));
        assert!(!is_error_entry(entry("OperationOutcome", "warning").as_bytes()));
        assert!(!is_error_entry(entry("Patient", "fatal").as_bytes()));
        assert!(!is_error_entry(b"{}"));
    }
}

//! What an OperationOutcome says of the answer that it came in.
//!
//! Promise: the server's own text is left behind, because it may name the patient.

use serde::Deserialize;

/// The issues of an OperationOutcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues {
    /// `severity/code` of each.
    pub named: Vec<String>,
    /// The page is broken.
    pub is_error: bool,
    /// The answer is not the whole record: nothing is swept, and the pull is short.
    pub is_incomplete: bool,
}

/// Codes of an issue that say that the answer is not the whole record.
const INCOMPLETE_CODES: [&str; 7] =
    ["incomplete", "timeout", "transient", "throttled", "exception", "no-store", "lock-error"];

/// Reads the issues of an OperationOutcome. What cannot be read is no issue.
pub(super) fn read_issues(resource: &str) -> Issues {
    #[derive(Deserialize)]
    struct Shape {
        #[serde(default)]
        issue: Vec<serde_json::Value>,
    }
    let issues = serde_json::from_str::<Shape>(resource).map(|shape| shape.issue).unwrap_or_default();
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
    let named = issues.map(|issue| format!("{}/{}", word(severity(issue)), word(code(issue)))).collect();
    Issues { named, is_error, is_incomplete }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issues(issues: &str) -> Issues {
        read_issues(&format!(r#"{{"resourceType":"OperationOutcome","issue":[{issues}]}}"#))
    }

    #[test]
    fn the_codes_of_an_outcome_say_whether_the_answer_is_the_whole_record() {
        let check = |text: &str, is_error, is_incomplete| {
            let issues = issues(text);
            assert_eq!((issues.is_error, issues.is_incomplete), (is_error, is_incomplete), "{text}");
        };
        for code in ["incomplete", "timeout", "transient", "throttled", "exception", "no-store", "lock-error"]
        {
            check(&format!(r#"{{"severity":"warning","code":"{code}"}}"#), false, true);
            check(&format!(r#"7,{{"severity":3,"code":"{code}"}}"#), false, true);
        }
        for code in ["informational", "processing", "suppressed", "forbidden"] {
            check(&format!(r#"{{"severity":"information","code":"{code}"}}"#), false, false);
        }
        check(r#"{"severity":"error","code":"processing"}"#, true, false);
        check(r#"{"severity":"fatal"}"#, true, false);
        check("", false, false);
    }

    #[test]
    fn an_outcome_is_noted_by_severity_and_code_alone() {
        let text = r#"{"severity":"warning","code":"processing","diagnostics":"Anna"},{"severity":"fatal","code":"Anna"}"#;
        assert_eq!(issues(text).named, ["warning/processing", "fatal/?"]);
    }
}

//! One line at `debug` for each request: whom it was about, what was asked, how it was answered.
//!
//! Promise: no line holds a token, or an id where the patient has a label. Of a query only what this
//! program itself writes is told with its values: a server's own link may hold anything.

use std::time::Duration;

use url::Url;

/// The parameters that are told with their values.
const TOLD: [&str; 4] = ["_count", "_since", "_type", "_offset"];

/// A request that was answered, or was not.
pub(super) struct Sent<'s> {
    pub(super) method: &'static str,
    pub(super) url: &'s Url,
    /// The name of the patient, if it was about one.
    pub(super) name: Option<&'s str>,
    /// The how manieth try it was.
    pub(super) attempt: u32,
    /// 0 where no answer came.
    pub(super) status: u16,
    pub(super) took: Duration,
}

impl Sent<'_> {
    pub(super) fn log(&self) {
        if !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        let Self { method, name, attempt, status, .. } = *self;
        let (target, ms) = (target(self.url), self.took.as_millis());
        let answer = if status == 0 { "no answer".to_owned() } else { status.to_string() };
        if let Some(name) = name {
            tracing::debug!(person = %name, attempt, ms, "{method} {target} {answer}");
        } else {
            tracing::debug!(attempt, ms, "{method} {target} {answer}");
        }
    }
}

/// Returns path and query, without the id of the patient or of its consent record.
fn target(url: &Url) -> String {
    let mut before_id = false;
    let segments = url.path().split('/').map(|segment| {
        let begins = ["Person", "consents"].iter().any(|one| segment.eq_ignore_ascii_case(one));
        let is_id = std::mem::replace(&mut before_id, begins);
        if is_id { "*" } else { segment }
    });
    let path = segments.collect::<Vec<_>>().join("/");
    let query = url.query_pairs().map(|(name, value)| {
        if TOLD.contains(&name.as_ref()) { format!("{name}={value}") } else { format!("{name}=…") }
    });
    let query = query.collect::<Vec<_>>().join("&");
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_names_no_patient_and_no_secret() {
        let check = |url: &str, expected: &str| assert_eq!(target(&Url::parse(url).unwrap()), expected);
        check(
            "https://h/FHIR/R4/Person/19cff418-7d80/$everything?_count=500&_since=2026-01-01T00:00:00Z&cursor=canary",
            "/FHIR/R4/Person/*/$everything?_count=500&_since=2026-01-01T00:00:00Z&cursor=…",
        );
        check("https://h/v1/auth/token", "/v1/auth/token");
        check("https://h/v1/consents", "/v1/consents");
        check("https://h/v1/consents/4711", "/v1/consents/*");
    }
}

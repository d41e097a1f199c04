//! What a 403 is: this patient's refusal, a limiter that uses the wrong number, or a stranger's page.
//!
//! A refusal leads to a purge, so whatever says that it may pass is believed before it.

use serde::Deserialize;

/// An answer with status 403.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForbiddenAnswer<'a> {
    /// Names and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// `None` when it was longer than anyone's OperationOutcome.
    pub body: Option<&'a [u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ForbiddenMeans {
    /// As a 429.
    SlowDown,
    /// No permission for this patient, to be asked again before anyone believes it.
    Refused,
    /// A proxy's page, say: it refuses nothing.
    NotTheServers,
}

/// Codes of an OperationOutcome that speak of this moment and not of a permission.
const PASSING_CODES: [&str; 4] = ["throttled", "transient", "timeout", "lock-error"];
/// What `x-amzn-errortype` says of a permission; its other values are a gateway's own troubles.
const GATEWAY_REFUSALS: [&str; 2] = ["AccessDeniedException", "ForbiddenException"];

pub(crate) fn judge_forbidden(answer: ForbiddenAnswer<'_>) -> ForbiddenMeans {
    let body = answer.body.map(|body| body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body).trim_ascii());
    if answer.headers.iter().any(|(name, value)| says_wait(name, value)) || body.is_some_and(has_passing_code)
    {
        return ForbiddenMeans::SlowDown;
    }
    match body {
        Some(body) if body.is_empty() || is_json(body) => ForbiddenMeans::Refused,
        _ => ForbiddenMeans::NotTheServers,
    }
}

fn says_wait(name: &str, value: &str) -> bool {
    match name.to_ascii_lowercase().as_str() {
        "retry-after" => true,
        "x-amzn-errortype" => {
            let kind = value.split(':').next().unwrap_or_default().trim();
            !GATEWAY_REFUSALS.contains(&kind)
        }
        name => is_rate_limit(name) && none_are_left(name, value),
    }
}

fn is_rate_limit(name: &str) -> bool {
    let name = name.strip_prefix("x-").unwrap_or(name);
    name.starts_with("ratelimit") || name.starts_with("rate-limit")
}

/// `RateLimit-Remaining: 0` and its like, `RateLimit: limit=10, remaining=0`, `RateLimit: "day";r=0`.
fn none_are_left(name: &str, value: &str) -> bool {
    let is_zero = |text: &str| text.trim().parse::<f64>().is_ok_and(|left| left <= 0.0);
    if name.contains("remaining") {
        return value.split([',', ';']).next().is_some_and(is_zero);
    }
    let mut parameters = value.split([',', ';']).filter_map(|parameter| parameter.split_once('='));
    parameters.any(|(name, value)| matches!(name.trim(), "remaining" | "r") && is_zero(value))
}

fn has_passing_code(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Outcome {
        #[serde(rename = "resourceType")]
        resource_type: String,
        issue: Vec<Issue>,
    }
    #[derive(Deserialize)]
    struct Issue {
        code: Option<String>,
    }
    serde_json::from_slice::<Outcome>(body).is_ok_and(|outcome| {
        let mut codes = outcome.issue.iter().filter_map(|issue| issue.code.as_deref());
        outcome.resource_type == "OperationOutcome" && codes.any(|code| PASSING_CODES.contains(&code))
    })
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

#[cfg(test)]
mod tests {
    use super::ForbiddenMeans::*;
    use super::*;

    fn check(headers: &[(&str, &str)], body: &str, means: ForbiddenMeans) {
        let answer = ForbiddenAnswer { headers, body: Some(body.as_bytes()) };
        assert_eq!(judge_forbidden(answer), means, "{headers:?} {body:?}");
    }

    fn outcome(code: &str) -> String {
        let issues =
            format!(r#"[{{"severity":"error","code":"login"}},{{"severity":"error","code":"{code}"}}]"#);
        format!(r#"{{"resourceType":"OperationOutcome","issue":{issues}}}"#)
    }

    #[test]
    fn an_outcome_other_json_or_nothing_refuses() {
        check(&[], "", Refused);
        check(&[], " \n", Refused);
        check(&[], &outcome("forbidden"), Refused);
        check(&[], &outcome("suppressed"), Refused);
        check(&[], r#"{"resourceType":"OperationOutcome"}"#, Refused);
        check(&[], "\u{feff}{\"message\":\"no\"}", Refused);
        check(&[], r#"{"issue":[{"code":"throttled"}],"resourceType":"Patient"}"#, Refused);
    }

    #[test]
    fn a_page_of_somebody_else_refuses_nothing() {
        check(&[], "<html>blocked</html>", NotTheServers);
        check(&[], r#"{"resourceType":"Operation"#, NotTheServers);
        check(&[], "Forbidden", NotTheServers);
        assert_eq!(judge_forbidden(ForbiddenAnswer { headers: &[], body: None }), NotTheServers);
    }

    #[test]
    fn what_may_pass_is_waited_for() {
        for code in ["throttled", "transient", "timeout", "lock-error"] {
            check(&[], &outcome(code), SlowDown);
        }
        for body in ["", "{}", "<html>", &outcome("forbidden")] {
            check(&[("Retry-After", "3")], body, SlowDown);
        }
        for (name, value) in [
            ("RateLimit-Remaining", "0"),
            ("X-RateLimit-Remaining", " 0 "),
            ("X-RateLimit-Remaining", "-1"),
            ("X-RateLimit-Remaining", "0.0"),
            ("x-ratelimit-remaining-minute", "0"),
            ("X-Rate-Limit-Remaining", "0, 0;w=60"),
            ("RateLimit", "limit=10, remaining=0, reset=50"),
            ("RateLimit", "\"default\";r=0;t=50"),
        ] {
            check(&[("date", "today"), (name, value)], "", SlowDown);
        }
        for (name, value) in [
            ("X-RateLimit-Remaining", "4998"),
            ("X-RateLimit-Limit", "0"),
            ("X-RateLimit-Remaining", ""),
            ("RateLimit", "limit=0, remaining=9"),
            ("RateLimit-Policy", "10;w=0"),
            ("x-remaining", "0"),
        ] {
            check(&[(name, value)], "", Refused);
        }
    }

    #[test]
    fn a_gateways_own_troubles_are_no_refusal() {
        for kind in ["ThrottlingException", "LimitExceededException", "InternalFailure:http://aws", ""] {
            check(&[("x-amzn-ErrorType", kind)], r#"{"message":"no"}"#, SlowDown);
        }
        for kind in ["AccessDeniedException", "ForbiddenException", "ForbiddenException:http://aws/"] {
            check(&[("x-amzn-ErrorType", kind)], r#"{"Message":"no"}"#, Refused);
        }
        check(&[("x-amzn-ErrorType", "ForbiddenException")], "<html>", NotTheServers);
    }
}

//! One 403, two 403s, many 403s: a withdrawn consent, or our own access that is broken.

/// When many withdrawals at once are held instead of purged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HoldRule {
    /// From this many confirmed 403s in one cycle on, …
    pub hold_after: u32,
    /// … if they are at least this share of the patients tried.
    pub hold_fraction: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PurgeVerdict {
    Purge,
    Hold,
}

/// Are these withdrawals, or is our own access broken?
///
/// One patient withdrawing is ordinary. Half a roster within one cycle is more likely a
/// token with too little scope, and a purge cannot be taken back.
pub(crate) fn judge_withdrawals(confirmed: u32, tried: u32, rule: HoldRule) -> PurgeVerdict {
    let many = rule.hold_after <= confirmed;
    let large_share = rule.hold_fraction * f64::from(tried) <= f64::from(confirmed);
    if many && large_share { PurgeVerdict::Hold } else { PurgeVerdict::Purge }
}

/// Can this body of a 403 be HealthEx's own? A proxy's page of HTML refuses nothing.
///
/// `body` is `None` when it was longer than anyone's OperationOutcome.
pub(crate) fn body_is_a_refusal(body: Option<&[u8]>) -> bool {
    let Some(body) = body else { return false };
    let text = body.trim_ascii();
    text.is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_and_a_large_share_are_held() {
        let rule = HoldRule { hold_after: 5, hold_fraction: 0.5 };
        let check = |confirmed, tried, verdict| {
            assert_eq!(judge_withdrawals(confirmed, tried, rule), verdict, "{confirmed} of {tried}");
        };
        check(1, 1, PurgeVerdict::Purge);
        check(4, 4, PurgeVerdict::Purge);
        check(5, 10, PurgeVerdict::Hold);
        check(5, 11, PurgeVerdict::Purge);
        check(20, 20, PurgeVerdict::Hold);
    }

    #[test]
    fn only_json_or_nothing_refuses() {
        let check =
            |body: &str, refuses| assert_eq!(body_is_a_refusal(Some(body.as_bytes())), refuses, "{body:?}");
        check("", true);
        check(" \n", true);
        check(r#"{"resourceType":"OperationOutcome"}"#, true);
        check(r#"{"message":"no"}"#, true);
        check("<html>blocked</html>", false);
        check(r#"{"resourceType":"Operation"#, false);
        check("Forbidden", false);
        assert!(!body_is_a_refusal(None));
    }
}

//! Wait how long before a request is sent again, or give up.
//!
//! The growing delays themselves come from `backon`; here a server's `Retry-After` and
//! chance are applied to one of them.

use std::time::Duration;

use super::Timestamp;

/// What to do after an attempt that failed in a way that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterFailure {
    Wait(Duration),
    /// The server named a time beyond `retry_max`: this patient is not asked before it.
    TooLong(Duration),
    GiveUp,
}

/// `planned` is the exponential delay, `None` when the attempts are used up; `chance` is in 0..1.
pub(crate) fn after_failure(
    planned: Option<Duration>,
    retry_after: Option<Duration>,
    retry_max: Duration,
    chance: f64,
) -> AfterFailure {
    match (retry_after, planned) {
        (Some(asked), _) if asked > retry_max => AfterFailure::TooLong(asked),
        (_, None) => AfterFailure::GiveUp,
        // Full jitter on top of what was asked for, or workers that were told the same
        // second come back in the same instant.
        (Some(asked), Some(planned)) => {
            AfterFailure::Wait((asked + planned.mul_f64(chance * 0.1)).min(retry_max))
        }
        (None, Some(planned)) => AfterFailure::Wait(planned.mul_f64(chance)),
    }
}

/// A wait that a server named is never believed beyond this.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

/// `Retry-After` as seconds, or as an HTTP date against the server's own `Date`.
///
/// A past date, a negative number or garbage is no answer, and our own delay applies.
pub(crate) fn parse_retry_after(value: &str, server_date: Option<Timestamp>) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are a long time all the same.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let until = Timestamp::from(httpdate::parse_http_date(value).ok()?);
    (until - server_date?).to_std().ok().map(|wait| wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_against_the_servers_clock() {
        let date = Timestamp::from_timestamp(784_111_777, 0); // Sun, 06 Nov 1994 08:49:37 GMT
        let check = |value: &str, seconds: Option<u64>| {
            assert_eq!(parse_retry_after(value, date), seconds.map(Duration::from_secs), "{value:?}");
        };
        check("120", Some(120));
        check(" 0 ", Some(0));
        check("Sun, 06 Nov 1994 08:50:37 GMT", Some(60));
        check("Sun, 06 Nov 1994 08:49:00 GMT", None);
        check("-1", None);
        check("soon", None);
        check("", None);
        check("100000000000000000000", Some(86_400));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:50:37 GMT", None), None);
    }

    #[test]
    fn a_wait_beyond_the_limit_is_left_to_the_next_cycle() {
        let second = Duration::from_secs(1);
        let max = Duration::from_mins(1);
        assert_eq!(after_failure(Some(second), Some(max * 2), max, 0.5), AfterFailure::TooLong(max * 2));
        assert_eq!(after_failure(None, Some(max * 2), max, 0.5), AfterFailure::TooLong(max * 2));
        assert_eq!(after_failure(None, None, max, 0.5), AfterFailure::GiveUp);
        assert_eq!(after_failure(Some(second), None, max, 0.5), AfterFailure::Wait(second / 2));
        assert_eq!(after_failure(Some(second), Some(second * 3), max, 0.0), AfterFailure::Wait(second * 3));
        assert_eq!(after_failure(Some(second), Some(max), max, 0.5), AfterFailure::Wait(max));
        // A twentieth of our own delay on top of what was asked for.
        let together = AfterFailure::Wait(second * 7 / 2);
        assert_eq!(after_failure(Some(second * 10), Some(second * 3), max, 0.5), together);
    }
}

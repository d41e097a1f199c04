//! What does a failure mean for its patient, and for the cycle?

use std::time::Duration;

use super::state::Event;

/// The longest wait after failures.
pub(crate) const FAILURE_DELAY_MAX: Duration = Duration::from_hours(6);

/// Returns how long a patient that has failed `failures` times in a row is left alone: from one
/// cycle's length, doubling, to six hours.
pub(crate) fn failure_delay(failures: u32, period: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    period.saturating_mul(1 << doublings).min(FAILURE_DELAY_MAX)
}

/// How a pull or a question about a consent failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// 404: the server does not know the patient.
    PersonUnknown,
    /// 401, and again with a fresh token.
    TokenRefused,
    /// No key or secret that the token endpoint accepts.
    CredentialsRefused,
    /// The server named a wait beyond `api.retry_max`.
    ToldToWait { wait: Duration, everyone: bool },
    /// No byte of an answer.
    Silent,
    /// Something this patient's data or link has caused.
    Other,
    /// The program is asked to stop.
    Stopped,
    /// The warehouse cannot go on with anybody.
    Warehouse,
}

/// What a failure means for the cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The next patient is asked.
    None,
    /// One more without an answer: see `breaker`.
    CountsAsSilent,
    /// One more whose token was refused: see `breaker`.
    CountsAsTokenRefused,
    /// Nobody else is asked.
    EndsCycle,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FailureVerdict {
    /// What it does to the patient's state; `None` where it is nobody's fault.
    pub event: Option<Event>,
    /// How long the patient is left alone by the daemon.
    pub delay: Option<Duration>,
    pub effect: Effect,
}

/// Decides what a failure means. `failures` counts this one; `period` is a cycle's length.
pub(crate) fn judge_failure(failure: Failure, failures: u32, period: Duration) -> FailureVerdict {
    let failed =
        |delay, effect| FailureVerdict { event: Some(Event::PullFailed), delay: Some(delay), effect };
    let delay = failure_delay(failures, period);
    match failure {
        Failure::PersonUnknown => {
            FailureVerdict { event: Some(Event::PersonUnknown), delay: None, effect: Effect::None }
        }
        Failure::TokenRefused => failed(delay, Effect::CountsAsTokenRefused),
        Failure::ToldToWait { wait, everyone: true } => failed(wait, Effect::EndsCycle),
        Failure::ToldToWait { wait, everyone: false } => failed(wait, Effect::None),
        Failure::Silent => failed(delay, Effect::CountsAsSilent),
        Failure::Other => failed(delay, Effect::None),
        Failure::CredentialsRefused | Failure::Warehouse => {
            FailureVerdict { event: None, delay: None, effect: Effect::EndsCycle }
        }
        // The cycle sees the signal by itself.
        Failure::Stopped => FailureVerdict { event: None, delay: None, effect: Effect::None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_from_one_cycle_to_six_hours() {
        let period = Duration::from_mins(15);
        assert_eq!(failure_delay(1, period), period);
        assert_eq!(failure_delay(3, period), period * 4);
        assert_eq!(failure_delay(30, period), FAILURE_DELAY_MAX);
    }

    #[test]
    fn a_failure_is_its_patients_unless_it_concerns_everybody() {
        let (period, wait) = (Duration::from_mins(15), Duration::from_mins(90));
        let check = |failure, event, delay, effect| {
            let verdict = FailureVerdict { event, delay, effect };
            assert_eq!(judge_failure(failure, 2, period), verdict, "{failure:?}");
        };
        let (failed, twice) = (Some(Event::PullFailed), Some(period * 2));
        check(Failure::PersonUnknown, Some(Event::PersonUnknown), None, Effect::None);
        check(Failure::TokenRefused, failed, twice, Effect::CountsAsTokenRefused);
        check(Failure::CredentialsRefused, None, None, Effect::EndsCycle);
        check(Failure::ToldToWait { wait, everyone: true }, failed, Some(wait), Effect::EndsCycle);
        check(Failure::ToldToWait { wait, everyone: false }, failed, Some(wait), Effect::None);
        check(Failure::Silent, failed, twice, Effect::CountsAsSilent);
        check(Failure::Other, failed, twice, Effect::None);
        check(Failure::Stopped, None, None, Effect::None);
        check(Failure::Warehouse, None, None, Effect::EndsCycle);
    }
}

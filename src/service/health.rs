//! Judges the service from its cycles. Facts in, verdicts out: no IO, no clock.

use std::time::Duration;

use super::state::ServiceState;
use crate::plan::verdict::NeedsLook;
use crate::plan::{Timestamp, stamp};
use crate::settings::Schedule;
use crate::time::TimeDelta;

/// Times are kept in whole seconds, and a tick is not prompt to the second.
const SLACK: TimeDelta = TimeDelta::seconds(3);

/// Returns until when a cycle that ended well keeps the service healthy: two ticks of the schedule.
pub(super) fn healthy_until(schedule: &Schedule, last_good: Timestamp) -> Timestamp {
    let twice = schedule.next_after(last_good).and_then(|next| schedule.next_after(next));
    // A schedule that is about to end has no two ticks left: the last cycle counts for ever.
    twice.map_or(Timestamp::MAX_UTC, |twice| twice + SLACK)
}

/// Returns why the service is not healthy, or `None` while it is.
pub(super) fn unhealthy_reason(
    schedule: &Schedule,
    last_good: Option<Timestamp>,
    now: Timestamp,
) -> Option<String> {
    match last_good {
        None => Some("no cycle has ended well yet".to_owned()),
        Some(last_good) if now <= healthy_until(schedule, last_good) => None,
        Some(last_good) => Some(format!("no cycle has ended well since {}", stamp(last_good))),
    }
}

/// Returns, in one line, what a person is needed for.
pub(super) fn why_a_person(state: &ServiceState) -> String {
    let NeedsLook { failing, not_found, refused, held } = state.needs_look;
    let counts = [(held, "held"), (refused, "refused"), (not_found, "not found"), (failing, "failing")];
    let titles = state.problems.keys().map(|problem| problem.title().to_owned());
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let counts = counts.map(|(count, what)| format!("{count} {what}"));
    let bad = state.cycles.back().and_then(|cycle| cycle.verdict.why());
    let bad = bad.map(|why| format!("the last cycle failed: {why}"));
    titles.chain(counts).chain(bad).collect::<Vec<_>>().join("; ")
}

/// Returns how long the daemon sends nothing to a server that has not answered for `rounds` cycles.
pub(super) fn pause_after(rounds: u32, period: Duration, requested: Option<Duration>) -> Duration {
    let doublings = rounds.saturating_sub(1).min(16);
    let grown =
        period.saturating_mul(1 << doublings).min(period.saturating_mul(PAUSE_PERIODS_MAX)).min(PAUSE_MAX);
    requested.unwrap_or_default().max(grown)
}

const PAUSE_PERIODS_MAX: u32 = 8;
/// A server that is back is noticed within this.
const PAUSE_MAX: Duration = Duration::from_hours(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_cycle_speaks_for_twice_the_schedule() {
        let at = |seconds: i64| Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        let every = Schedule::parse("every 15m").unwrap();
        assert!(unhealthy_reason(&every, None, at(0)).is_some());
        assert_eq!(unhealthy_reason(&every, Some(at(0)), at(1800)), None);
        assert!(unhealthy_reason(&every, Some(at(0)), at(1804)).is_some());
        assert_eq!(unhealthy_reason(&every, Some(at(5000)), at(0)), None);
        // 1 800 000 000 is a Friday, 08:00 UTC: the second weekday after it is Tuesday.
        let weekdays = Schedule::parse("0 0 8 * * 1-5").unwrap();
        assert_eq!(unhealthy_reason(&weekdays, Some(at(60)), at(3 * 86_400)), None);
        assert!(unhealthy_reason(&weekdays, Some(at(60)), at(5 * 86_400)).is_some());
    }

    #[test]
    fn a_dead_server_is_left_alone_longer_and_longer() {
        let minute = Duration::from_mins(1);
        assert_eq!(pause_after(1, minute, None), minute);
        assert_eq!(pause_after(3, minute, None), minute * 4);
        assert_eq!(pause_after(9, minute, None), minute * 8);
        assert_eq!(pause_after(9, minute * 15, None), minute * 60);
        assert_eq!(pause_after(1, minute, Some(minute * 90)), minute * 90);
    }
}

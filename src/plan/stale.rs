//! Is anybody in step at all? A service that ended weeks ago leaves patients behind who all look well.

use std::time::Duration;

use crate::time::TimeDelta;

use super::Timestamp;

/// What is known of those who are to be kept in step.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Freshness {
    /// Listed, enabled, and neither purged nor paused.
    pub(crate) expected: u64,
    /// The latest success of any of them.
    pub(crate) newest: Option<Timestamp>,
    /// When the oldest pull began that is known: since then somebody tries.
    pub(crate) first_pull_at: Option<Timestamp>,
}

impl Freshness {
    /// Takes in one patient who is to be kept in step.
    pub(crate) fn expect(&mut self, last_success_at: Option<Timestamp>) {
        self.expected += 1;
        self.newest = self.newest.max(last_success_at);
    }

    /// Returns since when nobody was pulled, if that is longer than `stale_after`.
    pub(crate) fn stale_since(self, stale_after: Duration, now: Timestamp) -> Option<Timestamp> {
        let since = self.newest.or(self.first_pull_at).filter(|_| self.expected > 0)?;
        TimeDelta::from_std(stale_after).is_ok_and(|patience| now - since > patience).then_some(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_who_is_in_step_speaks_for_all_and_nobody_expected_is_not_stale() {
        let at = |hours: i64| Timestamp::from_timestamp(1_800_000_000 + hours * 3_600, 0).unwrap();
        let check = |successes: &[Option<i64>], first_pull: Option<i64>, stale: Option<i64>| {
            let mut freshness = Freshness { first_pull_at: first_pull.map(at), ..Freshness::default() };
            for success in successes {
                freshness.expect(success.map(at));
            }
            let found = freshness.stale_since(Duration::from_hours(24), at(100));
            assert_eq!(found, stale.map(at), "{successes:?} {first_pull:?}");
        };
        check(&[Some(99), Some(1)], Some(0), None);
        check(&[Some(76)], Some(0), None);
        check(&[Some(75), Some(1), None], Some(0), Some(75));
        // Nobody was ever pulled: since the first try.
        check(&[None], Some(0), Some(0));
        check(&[None], Some(90), None);
        check(&[None], None, None);
        check(&[], Some(0), None);
    }
}

//! Is a refusal a withdrawn consent, or is it our own access that is broken?
//!
//! A purge cannot be taken back, and a withdrawal that is missed cannot be excused. So a refusal
//! is written down at once, asked again in a round, believed on evidence only, and then acted on
//! without delay.

use std::time::Duration;

use chrono::TimeDelta;

use super::Timestamp;
use super::state::HeldWhy;

/// A round begins at the latest so long after the first refusal that waits for one.
pub(crate) const ROUND_DELAY: Duration = Duration::from_mins(10);

/// How many patients are asked beside the refused ones, where nobody was permitted in the cycle.
pub(crate) const WITNESSES_MAX: usize = 3;

/// Confirmed withdrawals of so long are counted together.
pub(crate) const HOLD_WINDOW: TimeDelta = TimeDelta::hours(24);

/// A patient purged on refusals is asked again in each cycle for so long.
pub(crate) const HEAL_WINDOW: TimeDelta = TimeDelta::hours(24);

/// What a question about a consent was answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A searchset Bundle.
    Permitted,
    Refused,
    /// Anything else, or nothing: it says nothing about the consent.
    None,
}

/// Which token a round asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoundToken {
    /// Minted after all the refusals.
    Fresh,
    /// The one that was refused: no other is to be had.
    Unchanged,
}

/// What a round has seen of one refused patient and of those asked beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundFacts {
    pub(crate) answer: Answer,
    /// Whether any witness was permitted.
    pub(crate) witness_permitted: bool,
    pub(crate) token: RoundToken,
    /// Of the first in the unbroken row of refusals.
    pub(crate) refused_at: Timestamp,
    pub(crate) now: Timestamp,
}

/// What a refusal is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalVerdict {
    /// A stray refusal: the patient is pulled now.
    Stray,
    /// The consent is withdrawn.
    Confirmed,
    Held(HeldWhy),
    /// Nothing was learned: asked again by the next cycle.
    Unanswered,
}

/// Judges one refused patient by what a round has seen. `alone_after` is how long a refusal
/// without a witness must have lasted to be believed.
pub(crate) fn judge_refusal(facts: RoundFacts, alone_after: Duration) -> RefusalVerdict {
    match facts.answer {
        Answer::Permitted => RefusalVerdict::Stray,
        Answer::None => RefusalVerdict::Unanswered,
        Answer::Refused if facts.token == RoundToken::Unchanged => RefusalVerdict::Held(HeldWhy::Token),
        Answer::Refused if facts.witness_permitted => RefusalVerdict::Confirmed,
        Answer::Refused => {
            let alone_for = facts.now - facts.refused_at;
            let is_believed = TimeDelta::from_std(alone_after).is_ok_and(|after| after <= alone_for);
            if is_believed { RefusalVerdict::Confirmed } else { RefusalVerdict::Held(HeldWhy::Alone) }
        }
    }
}

/// When many withdrawals at once are held instead of purged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct HoldRule {
    /// From this many confirmed withdrawals in [`HOLD_WINDOW`] on, …
    pub(crate) hold_after: u32,
    /// … if they are at least this share of the patients that have rows, or had them.
    pub(crate) hold_fraction: f64,
}

/// The withdrawals that are counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Withdrawals {
    /// Patients with rows whose withdrawal this round has confirmed.
    pub(crate) confirmed: u64,
    /// Patients purged for a withdrawn consent in the last [`HOLD_WINDOW`].
    pub(crate) purged_lately: u64,
    /// Patients that have rows now.
    pub(crate) holders: u64,
}

impl Withdrawals {
    /// Returns how many withdrawals count together.
    pub(crate) fn counted(self) -> u64 {
        self.confirmed + self.purged_lately
    }

    /// Returns how many patients have rows, or had them when the window began.
    pub(crate) fn of(self) -> u64 {
        self.holders + self.purged_lately
    }
}

/// Returns whether so many withdrawals look like broken access, so that those of this round
/// are held.
///
/// One patient withdrawing is ordinary. A share of a roster within a day is more likely a token
/// with too little scope.
pub(crate) fn are_too_many(withdrawals: Withdrawals, rule: HoldRule) -> bool {
    let counted = withdrawals.counted();
    #[expect(clippy::cast_precision_loss, reason = "a fraction of patients")]
    let is_large_share = rule.hold_fraction * withdrawals.of() as f64 <= counted as f64;
    u64::from(rule.hold_after) <= counted && is_large_share
}

/// Returns whether a patient that was purged on refusals is asked again in each cycle, so that a
/// mistake heals by itself.
pub(crate) fn is_healing(purged_at: Timestamp, now: Timestamp) -> bool {
    // A purge that lies ahead was noted by a wrong clock.
    purged_at > now || now - purged_at < HEAL_WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn a_refusal_is_believed_on_a_witness_or_after_a_day_alone() {
        use RefusalVerdict::{Confirmed, Held, Stray, Unanswered};
        let check = |answer, witness_permitted, token, refused_before: i64, verdict| {
            let refused_at = at(-refused_before);
            let facts = RoundFacts { answer, witness_permitted, token, refused_at, now: at(0) };
            assert_eq!(judge_refusal(facts, Duration::from_hours(24)), verdict, "{facts:?}");
        };
        let (fresh, unchanged) = (RoundToken::Fresh, RoundToken::Unchanged);
        check(Answer::Permitted, false, fresh, 0, Stray);
        check(Answer::Permitted, true, unchanged, 48 * HOUR, Stray);
        check(Answer::None, true, fresh, 48 * HOUR, Unanswered);
        check(Answer::Refused, true, fresh, 0, Confirmed);
        check(Answer::Refused, false, fresh, 0, Held(HeldWhy::Alone));
        check(Answer::Refused, false, fresh, 24 * HOUR - 1, Held(HeldWhy::Alone));
        check(Answer::Refused, false, fresh, 24 * HOUR, Confirmed);
        check(Answer::Refused, true, unchanged, 48 * HOUR, Held(HeldWhy::Token));
        check(Answer::Refused, false, unchanged, 48 * HOUR, Held(HeldWhy::Token));
        // A clock that was set back has refused it in the future.
        check(Answer::Refused, false, fresh, -HOUR, Held(HeldWhy::Alone));
    }

    #[test]
    fn alone_after_may_be_nothing() {
        let facts = RoundFacts {
            answer: Answer::Refused,
            witness_permitted: false,
            token: RoundToken::Fresh,
            refused_at: at(0),
            now: at(0),
        };
        assert_eq!(judge_refusal(facts, Duration::ZERO), RefusalVerdict::Confirmed);
    }

    #[test]
    fn many_in_a_day_and_a_large_share_are_held() {
        let rule = HoldRule { hold_after: 5, hold_fraction: 0.02 };
        let check = |confirmed, purged_lately, holders, held| {
            let withdrawals = Withdrawals { confirmed, purged_lately, holders };
            assert_eq!(are_too_many(withdrawals, rule), held, "{withdrawals:?}");
        };
        check(1, 0, 1, false);
        check(4, 0, 4, false);
        check(5, 0, 5, true);
        check(5, 0, 250, true);
        check(5, 0, 251, false);
        // Four a cycle, cycle after cycle.
        check(1, 4, 96, true);
        check(1, 3, 96, false);
        check(2, 4, 300, false);
        check(0, 9, 10, true);
    }

    #[test]
    fn a_purge_is_doubted_for_a_day() {
        assert!(is_healing(at(-24 * HOUR + 1), at(0)));
        assert!(!is_healing(at(-24 * HOUR), at(0)));
        assert!(is_healing(at(HOUR), at(0)));
    }
}

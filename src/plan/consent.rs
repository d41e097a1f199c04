//! Is a refusal a withdrawn consent, or is it our own access that is broken?
//!
//! A purge cannot be taken back, and a withdrawal that is missed cannot be excused. So a refusal
//! is written down at once, asked again in a round, believed on evidence only, and then acted on
//! without delay.

use std::time::Duration;

use super::Timestamp;
use super::state::HeldWhy;
use crate::time::TimeDelta;

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
    /// A 404: the server does not know the patient, or not any more.
    Unknown,
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

/// What HealthEx's consent records say of a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Consented,
    /// Given, and its time is over.
    Expired,
    Withdrawn,
}

impl Standing {
    /// Returns the word for people and for JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Consented => "consented",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }

    pub(crate) fn is_consent(self) -> bool {
        self == Self::Consented
    }
}

/// What HealthEx's consent records say of a patient in a round, where they were asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordSays {
    /// They were not asked or did not answer, or know nothing of the patient.
    Nothing,
    Consented,
    /// Withdrawn or expired, without a break since then; `None` where that is not said now.
    Ended {
        since: Option<Timestamp>,
    },
}

/// Returns what a record that was kept before a round says in it, where the records do not answer
/// now. What was read before a refusal knows nothing of it, and nothing is purged for the word of a
/// record alone that is not said now.
pub(crate) fn kept_says(
    standing: Standing,
    seen_at: Timestamp,
    answer: Answer,
    refused_at: Timestamp,
) -> RecordSays {
    let ended = RecordSays::Ended { since: None };
    match (answer, standing) {
        (Answer::Permitted, Standing::Withdrawn | Standing::Expired) => ended,
        _ if seen_at < refused_at => RecordSays::Nothing,
        (_, Standing::Consented) => RecordSays::Consented,
        (_, Standing::Withdrawn | Standing::Expired) => ended,
    }
}

/// What a round has seen of one refused patient and of those asked beside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundFacts {
    pub(crate) answer: Answer,
    pub(crate) record: RecordSays,
    /// Whether any witness was permitted.
    pub(crate) witness_permitted: bool,
    pub(crate) token: RoundToken,
    /// Whether it was refused before this round asked. Who was asked for what its record said was not.
    pub(crate) was_refused: bool,
    /// Of the first in the unbroken row of refusals.
    pub(crate) refused_at: Timestamp,
    pub(crate) now: Timestamp,
}

/// What a refusal is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalVerdict {
    /// A stray refusal: the patient is pulled now.
    Stray,
    /// Refused for the first time: noted, and asked again as whoever is refused.
    First,
    /// The consent is withdrawn.
    Confirmed,
    Held(HeldWhy),
    /// Nothing was learned: asked again by the next cycle.
    Unanswered,
}

/// Judges one patient by what a round has seen. `alone_after` is how long a refusal without a
/// witness, or a record that `$everything` contradicts, must have lasted to be believed.
pub(crate) fn judge_refusal(facts: RoundFacts, alone_after: Duration) -> RefusalVerdict {
    let has_lasted =
        |since| TimeDelta::from_std(alone_after).is_ok_and(|after: TimeDelta| after <= facts.now - since);
    match (facts.answer, facts.record) {
        (Answer::Permitted | Answer::Unknown, RecordSays::Ended { since: Some(since) })
            if has_lasted(since) =>
        {
            RefusalVerdict::Confirmed
        }
        (Answer::None | Answer::Unknown, _) => RefusalVerdict::Unanswered,
        (Answer::Permitted, RecordSays::Ended { .. }) => RefusalVerdict::Held(HeldWhy::Contradicted),
        (Answer::Permitted, _) => RefusalVerdict::Stray,
        (Answer::Refused, RecordSays::Ended { .. }) => RefusalVerdict::Confirmed,
        (Answer::Refused, RecordSays::Consented) => RefusalVerdict::Held(HeldWhy::Contradicted),
        (Answer::Refused, RecordSays::Nothing) if !facts.was_refused => RefusalVerdict::First,
        (Answer::Refused, RecordSays::Nothing) if facts.token == RoundToken::Unchanged => {
            RefusalVerdict::Held(HeldWhy::Token)
        }
        (Answer::Refused, RecordSays::Nothing) if facts.witness_permitted => RefusalVerdict::Confirmed,
        (Answer::Refused, RecordSays::Nothing) if has_lasted(facts.refused_at) => RefusalVerdict::Confirmed,
        (Answer::Refused, RecordSays::Nothing) => RefusalVerdict::Held(HeldWhy::Alone),
    }
}

/// When many withdrawals at once are held instead of purged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
    // One that lies ahead was noted by a wrong clock, and is as young.
    now - purged_at < HEAL_WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    /// Of somebody who was refused a moment ago, asked again with a fresh token and without a witness.
    fn facts(answer: Answer, record: RecordSays) -> RoundFacts {
        let (witness_permitted, token, was_refused) = (false, RoundToken::Fresh, true);
        RoundFacts { answer, record, witness_permitted, token, was_refused, refused_at: at(0), now: at(0) }
    }

    fn is_judged(facts: RoundFacts, verdict: RefusalVerdict) {
        assert_eq!(judge_refusal(facts, Duration::from_hours(24)), verdict, "{facts:?}");
    }

    #[test]
    fn a_refusal_is_believed_on_a_witness_or_after_a_day_alone() {
        use RefusalVerdict::{Confirmed, Held, Stray, Unanswered};
        let check = |answer, witness_permitted, token, refused_before: i64, verdict| {
            let (refused_at, facts) = (at(-refused_before), facts(answer, RecordSays::Nothing));
            is_judged(RoundFacts { witness_permitted, token, refused_at, ..facts }, verdict);
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
    fn a_record_outweighs_any_witness_and_a_contradiction_is_held() {
        use RefusalVerdict::{Confirmed, Held, Stray, Unanswered};
        let check = |answer, record, verdict| {
            // Whatever else a round has seen.
            for (witness_permitted, token, hours) in [
                (false, RoundToken::Fresh, 0),
                (true, RoundToken::Fresh, 0),
                (true, RoundToken::Fresh, 48),
                (false, RoundToken::Unchanged, 48),
            ] {
                let (refused_at, facts) = (at(-hours * HOUR), facts(answer, record));
                is_judged(RoundFacts { witness_permitted, token, refused_at, ..facts }, verdict);
            }
        };
        let ended = |seconds: i64| RecordSays::Ended { since: Some(at(-seconds)) };
        let before = RecordSays::Ended { since: None };
        check(Answer::Refused, before, Confirmed);
        check(Answer::Permitted, before, Held(HeldWhy::Contradicted));
        check(Answer::Refused, ended(0), Confirmed);
        check(Answer::Refused, ended(48 * HOUR), Confirmed);
        check(Answer::Refused, RecordSays::Consented, Held(HeldWhy::Contradicted));
        check(Answer::Permitted, RecordSays::Nothing, Stray);
        check(Answer::Permitted, RecordSays::Consented, Stray);
        check(Answer::Permitted, ended(0), Held(HeldWhy::Contradicted));
        check(Answer::Permitted, ended(24 * HOUR - 1), Held(HeldWhy::Contradicted));
        check(Answer::Permitted, ended(24 * HOUR), Confirmed);
        // Noted by a clock that was ahead.
        check(Answer::Permitted, ended(-HOUR), Held(HeldWhy::Contradicted));
        for record in [RecordSays::Nothing, RecordSays::Consented, ended(48 * HOUR)] {
            check(Answer::None, record, Unanswered);
        }
        // Whom the server does not know any more, the record alone speaks of.
        for record in [RecordSays::Nothing, RecordSays::Consented, before, ended(24 * HOUR - 1)] {
            check(Answer::Unknown, record, Unanswered);
        }
        check(Answer::Unknown, ended(24 * HOUR), Confirmed);
    }

    #[test]
    fn who_is_asked_for_its_record_alone_is_not_purged_on_its_first_refusal() {
        use RefusalVerdict::{Confirmed, First, Held, Stray, Unanswered};
        let check = |answer, record, token, verdict| {
            let (witness_permitted, was_refused) = (true, false);
            let facts = RoundFacts { witness_permitted, token, was_refused, ..facts(answer, record) };
            // However little is waited for.
            for alone_after in [Duration::ZERO, Duration::from_hours(24)] {
                assert_eq!(judge_refusal(facts, alone_after), verdict, "{facts:?}");
            }
        };
        for token in [RoundToken::Fresh, RoundToken::Unchanged] {
            check(Answer::Refused, RecordSays::Nothing, token, First);
            check(Answer::Refused, RecordSays::Consented, token, Held(HeldWhy::Contradicted));
            // Two witnesses: HealthEx, and the record that says so now.
            check(Answer::Refused, RecordSays::Ended { since: Some(at(0)) }, token, Confirmed);
            check(Answer::Permitted, RecordSays::Nothing, token, Stray);
            check(Answer::None, RecordSays::Nothing, token, Unanswered);
        }
    }

    #[test]
    fn a_record_that_was_read_before_the_refusal_says_nothing_about_it() {
        let ended = RecordSays::Ended { since: None };
        let says = |standing, seen_at, answer| kept_says(standing, at(seen_at), answer, at(0));
        for (standing, said) in [(Standing::Consented, RecordSays::Consented), (Standing::Withdrawn, ended)] {
            assert_eq!(says(standing, -1, Answer::Refused), RecordSays::Nothing);
            assert_eq!(says(standing, 0, Answer::Refused), said);
        }
        // Who is held for what the record says stays so while it says nothing.
        assert_eq!(says(Standing::Expired, -1, Answer::Permitted), ended);
        assert_eq!(says(Standing::Consented, -1, Answer::Permitted), RecordSays::Nothing);
    }

    #[test]
    fn alone_after_may_be_nothing() {
        let facts = facts(Answer::Refused, RecordSays::Nothing);
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

    #[test]
    fn a_standing_has_a_word() {
        use Standing::*;
        let words = [Consented, Expired, Withdrawn].map(Standing::as_str);
        assert_eq!(words, ["consented", "expired", "withdrawn"]);
    }
}

//! May this full pull mark what it did not see, and is it suspiciously much?

/// Up to this many rows vanish without further question, unless they are all there is.
pub(crate) const UNSUSPICIOUS_MAX: u64 = 20;

/// A sweep that was held back for this long goes through.
pub(crate) const GUARD_HOURS: i64 = 24;

/// What is known when a complete full pull is about to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SweepFacts {
    /// Live rows of the types asked for that no walk of this pull saw, renamed ones left out.
    pub(crate) unseen: u64,
    /// Those of them that are neither the Person nor a Patient.
    pub(crate) unseen_clinical: u64,
    /// All live rows of the patient before the sweep, renamed ones left out.
    pub(crate) live: u64,
    /// Those of them, of the types asked for, that are neither the Person nor a Patient.
    pub(crate) live_clinical: u64,
    /// Which walk of this pull has just ended, from 1.
    pub(crate) walk: u32,
    /// An earlier sweep of this patient was held back, `GUARD_HOURS` or longer ago.
    pub guard_expired: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SweepVerdict {
    Mark,
    /// One walk proves no absence: what it missed may still be there.
    WalkAgain,
    /// An emptied answer looks like this too: nothing is marked for a day.
    Guard,
}

pub(crate) fn judge_sweep(facts: SweepFacts) -> SweepVerdict {
    if facts.unseen == 0 {
        return SweepVerdict::Mark;
    }
    if facts.walk == 1 {
        return SweepVerdict::WalkAgain;
    }
    let many = facts.unseen > UNSUSPICIOUS_MAX && facts.unseen * 2 > facts.live;
    let all_clinical = facts.unseen_clinical > 0 && facts.unseen_clinical == facts.live_clinical;
    let is_suspicious = many || all_clinical || facts.unseen == facts.live;
    if is_suspicious && !facts.guard_expired { SweepVerdict::Guard } else { SweepVerdict::Mark }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of the record proper, beside a Person and a Patient, and how many of each were not seen.
    fn facts(live: u64, unseen: u64, unseen_persons: u64) -> SweepFacts {
        SweepFacts {
            unseen: unseen + unseen_persons,
            unseen_clinical: unseen,
            live: live + 2,
            live_clinical: live,
            walk: 2,
            guard_expired: false,
        }
    }

    #[track_caller]
    fn check(facts: SweepFacts, verdict: SweepVerdict) {
        assert_eq!(judge_sweep(facts), verdict, "{facts:?}");
    }

    #[test]
    fn one_walk_marks_nothing() {
        for (live, unseen) in [(100, 1), (100, 99), (1, 1)] {
            check(SweepFacts { walk: 1, ..facts(live, unseen, 0) }, SweepVerdict::WalkAgain);
        }
        check(SweepFacts { walk: 1, ..facts(100, 0, 0) }, SweepVerdict::Mark);
        check(facts(100, 1, 0), SweepVerdict::Mark);
        check(SweepFacts { walk: 3, ..facts(100, 1, 0) }, SweepVerdict::Mark);
    }

    #[test]
    fn what_vanished_is_marked_unless_an_emptied_answer_explains_it() {
        let verdict_of = |live, unseen, persons, verdict| {
            check(facts(live, unseen, persons), verdict);
            // A day later it is believed.
            check(SweepFacts { guard_expired: true, ..facts(live, unseen, persons) }, SweepVerdict::Mark);
        };
        verdict_of(21, 20, 0, SweepVerdict::Mark);
        verdict_of(40, 21, 0, SweepVerdict::Mark);
        verdict_of(39, 21, 0, SweepVerdict::Guard);
        verdict_of(38, 19, 2, SweepVerdict::Guard);
        // All of it, however little that is.
        verdict_of(20, 20, 0, SweepVerdict::Guard);
        verdict_of(20, 20, 2, SweepVerdict::Guard);
        verdict_of(1, 1, 0, SweepVerdict::Guard);
        verdict_of(5, 4, 2, SweepVerdict::Mark);
        // A record of a Person and a Patient has nothing else to lose.
        verdict_of(0, 0, 2, SweepVerdict::Guard);
        verdict_of(0, 0, 1, SweepVerdict::Mark);
    }
}

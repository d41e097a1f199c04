//! May this full pull mark what it did not see, and is it suspiciously much?

/// Up to this many rows vanish without further question.
pub(crate) const UNSUSPICIOUS_MAX: u64 = 20;

/// A sweep that was held back for this long goes through.
pub(crate) const GUARD_HOURS: i64 = 24;

/// What is known when a complete full pull is about to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SweepFacts {
    /// Live rows of the types asked for that no walk of this pull saw, renamed ones left out.
    pub unseen: u64,
    /// All live rows of the patient before the sweep.
    pub live: u64,
    /// Pages of the walk that has just ended.
    pub pages: u64,
    /// Which walk of this pull that was, from 1.
    pub walk: u32,
    /// An earlier sweep of this patient was held back, `GUARD_HOURS` or longer ago.
    pub guard_expired: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SweepVerdict {
    Mark,
    /// Offsets can slide under a walk of several pages: what it missed may still be there.
    WalkAgain,
    /// An emptied answer looks like this too: nothing is marked for a day.
    Guard,
}

pub(crate) fn judge_sweep(facts: SweepFacts) -> SweepVerdict {
    if facts.unseen == 0 {
        return SweepVerdict::Mark;
    }
    if facts.pages > 1 && facts.walk == 1 {
        return SweepVerdict::WalkAgain;
    }
    let many = facts.unseen > UNSUSPICIOUS_MAX && facts.unseen * 2 > facts.live;
    if many && !facts.guard_expired { SweepVerdict::Guard } else { SweepVerdict::Mark }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_vanished_is_marked_unless_a_slide_or_an_emptied_answer_explains_it() {
        let check = |unseen, live, pages, walk, guard_expired, verdict| {
            let facts = SweepFacts { unseen, live, pages, walk, guard_expired };
            assert_eq!(judge_sweep(facts), verdict, "{facts:?}");
        };
        check(0, 100, 3, 1, false, SweepVerdict::Mark);
        check(1, 100, 1, 1, false, SweepVerdict::Mark);
        check(1, 100, 3, 1, false, SweepVerdict::WalkAgain);
        check(1, 100, 3, 2, false, SweepVerdict::Mark);
        check(20, 20, 1, 1, false, SweepVerdict::Mark);
        check(21, 42, 1, 1, false, SweepVerdict::Mark);
        check(21, 41, 1, 1, false, SweepVerdict::Guard);
        check(21, 41, 1, 1, true, SweepVerdict::Mark);
    }
}

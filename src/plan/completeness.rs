//! Was this the whole answer? A walk of pages is held against the server's own count.
//!
//! Entries move between offset pages while a walk runs, so a walk that does not add up is
//! walked again. Two walks that agree with each other and not with `total` mean that the
//! count is off, and they are believed.

use std::collections::HashSet;

use super::row::KeyHash;

/// A walk whose count does not add up is repeated this often.
pub(crate) const REPEATS_MAX: u32 = 2;

/// What one walk, from a first page to a last one, has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Hashes of the keys of all entries but outcomes; quarantined ones count.
    pub seen: HashSet<KeyHash>,
    /// Entries as received, repeats counted.
    pub received: u64,
    /// The first `total` of the walk, if any page had one.
    pub total: Option<u64>,
    /// Whether a later page had another one.
    pub total_changed: bool,
    pub pages: u64,
}

impl Walk {
    /// `received` are the entries of the page, repeats counted.
    pub fn add_page(&mut self, keys: HashSet<KeyHash>, received: u64, total: Option<u64>) {
        // The only page of a long answer is taken over as it is.
        if self.seen.is_empty() {
            self.seen = keys;
        } else {
            self.seen.extend(keys);
        }
        self.received += received;
        self.pages += 1;
        match (self.total, total) {
            (None, Some(_)) => self.total = total,
            (Some(first), Some(now)) if first != now => self.total_changed = true,
            _ => {}
        }
    }

    /// Does `total` say that the walk has not seen everything yet?
    pub fn promises_more(&self) -> bool {
        self.total.is_some_and(|total| total > self.distinct())
    }

    fn distinct(&self) -> u64 {
        self.seen.len() as u64
    }

    fn adds_up(&self) -> bool {
        !self.total_changed && self.total == Some(self.distinct())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Coverage {
    /// As many distinct entries as the server said. May sweep.
    Whole,
    /// No page had a `total`: taken as complete, but it proves no absence.
    Uncounted,
    /// Two walks agree and `total` does not. May sweep if the entries received are as many.
    TotalIsOff { total: u64, distinct: u64, may_sweep: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WalkVerdict {
    Complete(Coverage),
    WalkAgain,
    /// Never the same answer twice, and never as many as `total`.
    Incomplete {
        total: u64,
        distinct: u64,
    },
}

/// `before` are the earlier walks of this pull, the latest last.
pub(crate) fn judge_walk(walk: &Walk, before: &[Walk]) -> WalkVerdict {
    let Some(total) = walk.total else {
        return WalkVerdict::Complete(Coverage::Uncounted);
    };
    if walk.adds_up() {
        return WalkVerdict::Complete(Coverage::Whole);
    }
    let distinct = walk.distinct();
    if let Some(previous) = before.last() {
        let same_total = !walk.total_changed && !previous.total_changed && walk.total == previous.total;
        if same_total && walk.seen == previous.seen {
            let may_sweep = walk.received == total;
            return WalkVerdict::Complete(Coverage::TotalIsOff { total, distinct, may_sweep });
        }
    }
    let repeats = u32::try_from(before.len()).unwrap_or(u32::MAX);
    if repeats < REPEATS_MAX { WalkVerdict::WalkAgain } else { WalkVerdict::Incomplete { total, distinct } }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A walk of pages, each its keys and its total.
    fn walk(pages: &[(&[KeyHash], Option<u64>)]) -> Walk {
        let mut walk = Walk::default();
        for (keys, total) in pages {
            walk.add_page(keys.iter().copied().collect(), keys.len() as u64, *total);
        }
        walk
    }

    #[test]
    fn a_walk_that_adds_up_is_whole() {
        assert_eq!(
            judge_walk(&walk(&[(&[1, 2], Some(3)), (&[3], Some(3))]), &[]),
            WalkVerdict::Complete(Coverage::Whole)
        );
        assert_eq!(judge_walk(&walk(&[(&[], Some(0))]), &[]), WalkVerdict::Complete(Coverage::Whole));
        assert_eq!(judge_walk(&walk(&[(&[1], None)]), &[]), WalkVerdict::Complete(Coverage::Uncounted));
    }

    #[test]
    fn a_total_that_moves_is_never_whole() {
        let moved = walk(&[(&[1, 2], Some(4)), (&[3], Some(3))]);
        assert_eq!(judge_walk(&moved, &[]), WalkVerdict::WalkAgain);
        assert_eq!(judge_walk(&moved, std::slice::from_ref(&moved)), WalkVerdict::WalkAgain);
        assert_eq!(
            judge_walk(&moved, &[moved.clone(), moved.clone()]),
            WalkVerdict::Incomplete { total: 4, distinct: 3 }
        );
    }

    #[test]
    fn a_repeat_hides_a_skip() {
        let slid = walk(&[(&[1, 2], Some(4)), (&[2, 3], Some(4))]);
        assert_eq!(judge_walk(&slid, &[]), WalkVerdict::WalkAgain);
        let whole = walk(&[(&[1, 2], Some(4)), (&[3, 4], Some(4))]);
        assert_eq!(judge_walk(&whole, &[slid]), WalkVerdict::Complete(Coverage::Whole));
    }

    #[test]
    fn two_walks_that_agree_outvote_the_total() {
        let off = walk(&[(&[1, 2, 3], Some(5))]);
        let verdict = WalkVerdict::Complete(Coverage::TotalIsOff { total: 5, distinct: 3, may_sweep: false });
        assert_eq!(judge_walk(&off, std::slice::from_ref(&off)), verdict);
        let repeats_counted = walk(&[(&[1, 2, 2], Some(3))]);
        let verdict = WalkVerdict::Complete(Coverage::TotalIsOff { total: 3, distinct: 2, may_sweep: true });
        assert_eq!(judge_walk(&repeats_counted, std::slice::from_ref(&repeats_counted)), verdict);
        let other_set = walk(&[(&[1, 2, 4], Some(5))]);
        assert_eq!(judge_walk(&off, &[other_set]), WalkVerdict::WalkAgain);
    }
}

//! Was this the whole answer? A walk of pages is held against the server's own count.
//!
//! Entries move between offset pages while a walk runs, so a walk that does not add up is
//! walked again. Two walks that agree with each other and not with `total` mean that the count
//! is off, or that the server was cut off; how its pages end tells which.

use std::collections::HashSet;

use super::identity::KeyHash;
use super::{PullMode, Timestamp};
use crate::time::TimeDelta;

/// A walk whose count does not add up is repeated this often.
pub const REPEATS_MAX: usize = 2;

/// A record that was short by the same entries in every pull for so long is all there is.
pub const SHORT_BELIEVED_AFTER: TimeDelta = TimeDelta::hours(24);

/// What one walk, from a first page to a last one, has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Hashes of the identities of all entries but outcomes; quarantined ones count.
    pub seen: HashSet<KeyHash>,
    pub counts: WalkCounts,
}

/// The numbers of a walk, as kept across a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkCounts {
    pub pages: u64,
    /// How many of what was seen are includes, beside which a `total` stands.
    pub includes: u64,
    /// Entries but includes, repeats counted.
    pub received: u64,
    /// The largest `total` of the walk, if any page had one.
    pub total: Option<u64>,
    /// Whether two pages had different ones.
    pub total_changed: bool,
    /// Entries of the last page and of the one before it, whatever they are.
    pub last_page: u64,
    pub page_before: u64,
    /// An outcome said that the answer is not the whole record.
    pub told_incomplete: bool,
    /// Outcomes that do not call themselves so: a `total` may count them.
    pub stray_outcomes: u64,
    /// An entry that could not be read may be any row that is stored.
    pub hides_any: bool,
}

/// What one page brings to its walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageCounts {
    /// Identities of its entries but outcomes.
    pub keys: HashSet<KeyHash>,
    /// Those of them that are includes.
    pub includes: HashSet<KeyHash>,
    /// Entries, includes among them, repeats counted.
    pub received: u64,
    pub received_includes: u64,
    pub total: Option<u64>,
    pub told_incomplete: bool,
    pub stray_outcomes: u64,
    pub hides_any: bool,
}

impl Walk {
    pub fn add_page(&mut self, page: PageCounts) {
        let counts = &mut self.counts;
        counts.includes += page.includes.iter().filter(|key| !self.seen.contains(key)).count() as u64;
        // The only page of a long answer is taken over as it is.
        if self.seen.is_empty() {
            self.seen = page.keys;
        } else {
            self.seen.extend(page.keys);
        }
        counts.pages += 1;
        counts.received += page.received.saturating_sub(page.received_includes);
        counts.total_changed |= page.total.is_some() && counts.total.is_some() && page.total != counts.total;
        counts.total = counts.total.max(page.total);
        (counts.page_before, counts.last_page) = (counts.last_page, page.received);
        counts.told_incomplete |= page.told_incomplete;
        counts.stray_outcomes += page.stray_outcomes;
        counts.hides_any |= page.hides_any;
    }

    /// Returns whether `total` says that the walk has not seen everything yet.
    pub fn promises_more(&self) -> bool {
        self.counts.total.is_some_and(|total| total > self.counted())
    }

    /// The distinct entries that a `total` counts.
    pub fn counted(&self) -> u64 {
        (self.seen.len() as u64).saturating_sub(self.counts.includes)
    }

    /// A number that two walks share only if they have seen the same.
    pub fn fingerprint(&self) -> u64 {
        self.seen.iter().fold(self.seen.len() as u64, |sum, key| sum.wrapping_add(*key))
    }

    fn adds_up(&self) -> bool {
        !self.counts.total_changed && self.counts.total == Some(self.counted())
    }

    /// A last page that holds less than it could, and less than the one before it, is the end of
    /// what the server has; a full one, or the only one, may be where it was cut off.
    fn came_to_its_end(&self, page_size: Option<u32>) -> bool {
        // Before an only page there are no entries.
        let WalkCounts { last_page, page_before, .. } = self.counts;
        last_page < page_before && page_size.is_none_or(|size| last_page < u64::from(size))
    }
}

/// What the walks of a pull, taken together, show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkVerdict {
    Complete(Coverage),
    WalkAgain,
    /// Cut off: fewer entries, twice the same ones, than the server counts.
    Short(Shortfall),
    /// Never the same answer twice, and never as many as `total`.
    Unsteady(Shortfall),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// As many entries as the server said. May sweep.
    Whole,
    /// Without any `total`, twice the same. May sweep.
    SameTwice,
    /// Without any `total`: taken as complete, but it proves no absence.
    Uncounted,
    /// Twice the same entries, and with repeats they are as many as `total` or more. May sweep.
    TotalIsOff(Shortfall),
    /// Twice the same entries, and `total` differs from page to page. Proves no absence.
    TotalMoves(Shortfall),
    /// Twice the same entries, fewer than `total`, and the server came to its end: it counts what
    /// it does not send. Proves no absence.
    CountsOtherwise(Shortfall),
}

impl Coverage {
    pub fn may_sweep(self) -> bool {
        matches!(self, Self::Whole | Self::SameTwice | Self::TotalIsOff(_))
    }
}

/// How many entries were counted, and how many were promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    pub counted: u64,
    /// `None` where only an outcome said that there is more.
    pub total: Option<u64>,
}

/// `before` are the earlier walks of this pull, the latest last; `page_size` is the `_count` sent.
pub fn judge_walk(walk: &Walk, before: &[Walk], mode: PullMode, page_size: Option<u32>) -> WalkVerdict {
    let previous = before.last();
    let is_same = previous.is_some_and(|previous| previous.seen == walk.seen);
    let may_repeat = before.len() < REPEATS_MAX;
    let total = walk.counts.total.max(previous.and_then(|previous| previous.counts.total));
    let shortfall = Shortfall { counted: walk.counted(), total };
    if walk.counts.told_incomplete {
        return if may_repeat && !is_same { WalkVerdict::WalkAgain } else { WalkVerdict::Short(shortfall) };
    }
    if walk.adds_up() {
        return WalkVerdict::Complete(Coverage::Whole);
    }
    match total {
        None if mode == PullMode::Incremental => WalkVerdict::Complete(Coverage::Uncounted),
        None if is_same => WalkVerdict::Complete(Coverage::SameTwice),
        Some(total) if is_same => {
            let total_moves = previous.is_some_and(|previous| previous.counts.total_changed);
            judge_agreeing(walk, total, walk.counts.total_changed || total_moves, page_size)
        }
        _ if may_repeat => WalkVerdict::WalkAgain,
        _ => WalkVerdict::Unsteady(shortfall),
    }
}

/// The last two walks have seen the same, and that is not `total`, the largest that either was told.
fn judge_agreeing(walk: &Walk, total: u64, total_moves: bool, page_size: Option<u32>) -> WalkVerdict {
    let counted = walk.counted();
    let shortfall = Shortfall { counted, total: Some(total) };
    if total_moves {
        return WalkVerdict::Complete(Coverage::TotalMoves(shortfall));
    }
    if total <= counted.max(walk.counts.received) {
        return WalkVerdict::Complete(Coverage::TotalIsOff(shortfall));
    }
    if walk.came_to_its_end(page_size) || total <= counted + walk.counts.stray_outcomes {
        return WalkVerdict::Complete(Coverage::CountsOtherwise(shortfall));
    }
    WalkVerdict::Short(shortfall)
}

/// Since when every pull of a patient was short, and by the fingerprint of what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShortSince {
    pub since: Timestamp,
    pub fingerprint: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShortVerdict {
    /// The patient fails and keeps its watermark.
    Fails(ShortSince),
    /// The watermark moves, and nothing is swept.
    Believed(ShortSince),
}

/// `earlier` is what was noted of the pulls before, if each of them was short.
pub fn judge_short(earlier: Option<ShortSince>, fingerprint: u64, now: Timestamp) -> ShortVerdict {
    match earlier.filter(|earlier| earlier.fingerprint == fingerprint && earlier.since <= now) {
        Some(earlier) if now - earlier.since >= SHORT_BELIEVED_AFTER => ShortVerdict::Believed(earlier),
        Some(earlier) => ShortVerdict::Fails(earlier),
        None => ShortVerdict::Fails(ShortSince { since: now, fingerprint }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PullMode::{Full, Incremental};

    type PageOf<'a> = (&'a [KeyHash], Option<u64>);

    fn page((keys, total): &PageOf<'_>) -> PageCounts {
        let received = keys.len() as u64;
        PageCounts { keys: keys.iter().copied().collect(), received, total: *total, ..PageCounts::default() }
    }

    fn walk_of(pages: impl IntoIterator<Item = PageCounts>) -> Walk {
        let mut walk = Walk::default();
        pages.into_iter().for_each(|page| walk.add_page(page));
        walk
    }

    fn walk(pages: &[PageOf<'_>]) -> Walk {
        walk_of(pages.iter().map(page))
    }

    /// The verdict after the last of the walks, each of which follows from `WalkAgain`.
    #[track_caller]
    fn check(mode: PullMode, page_size: u32, walks: &[Walk], verdict: WalkVerdict) {
        let page_size = (page_size > 0).then_some(page_size);
        for (at, walk) in walks.iter().enumerate() {
            let expected = if at + 1 == walks.len() { verdict } else { WalkVerdict::WalkAgain };
            assert_eq!(
                judge_walk(walk, &walks[..at], mode, page_size),
                expected,
                "walk {} of {walks:?}",
                at + 1
            );
        }
    }

    fn complete(coverage: Coverage) -> WalkVerdict {
        WalkVerdict::Complete(coverage)
    }

    fn fall(counted: u64, total: u64) -> Shortfall {
        Shortfall { counted, total: Some(total) }
    }

    #[test]
    fn a_walk_that_adds_up_is_whole() {
        for mode in [Full, Incremental] {
            let whole = complete(Coverage::Whole);
            check(mode, 2, &[walk(&[(&[1, 2], Some(3)), (&[3], Some(3))])], whole);
            check(mode, 2, &[walk(&[(&[1, 2], None), (&[3], Some(3))])], whole);
            check(mode, 2, &[walk(&[(&[], Some(0))])], whole);
            let slid = walk(&[(&[1, 2], Some(4)), (&[2, 3], Some(4))]);
            check(mode, 2, &[slid, walk(&[(&[1, 2], Some(4)), (&[3, 4], Some(4))])], whole);
        }
    }

    #[test]
    fn as_many_as_the_largest_total_twice_is_complete_with_a_note() {
        let repeats_counted = walk(&[(&[1, 2, 2], Some(3))]);
        check(
            Full,
            5,
            &[repeats_counted.clone(), repeats_counted],
            complete(Coverage::TotalIsOff(fall(2, 3))),
        );
        let more_than_told = walk(&[(&[1, 2], Some(2)), (&[3], Some(2))]);
        check(Full, 2, &[more_than_told.clone(), more_than_told], complete(Coverage::TotalIsOff(fall(3, 2))));
        // The total of either walk counts, and each walk has its own.
        let [told_2, told_4] = [2, 4].map(|total| walk(&[(&[1, 2, 3], Some(total))]));
        check(Full, 5, &[told_2.clone(), told_4.clone()], WalkVerdict::Short(fall(3, 4)));
        check(Full, 5, &[told_4, told_2], WalkVerdict::Short(fall(3, 4)));
    }

    #[test]
    fn fewer_twice_is_believed_of_a_server_that_came_to_its_end() {
        let check = |page_size, sizes: &[usize], verdict: fn(Shortfall) -> WalkVerdict| {
            let mut keys = 1..;
            let pages = sizes.iter().map(|size| {
                let keys: Vec<KeyHash> = keys.by_ref().take(*size).collect();
                page(&(&keys, Some(20)))
            });
            let walk = walk_of(pages);
            let counted = sizes.iter().sum::<usize>() as u64;
            check(Incremental, page_size, &[walk.clone(), walk], verdict(fall(counted, 20)));
        };
        let otherwise = |shortfall| complete(Coverage::CountsOtherwise(shortfall));
        check(5, &[5, 5, 2], otherwise);
        check(5, &[5, 5, 0], otherwise);
        // The server caps `_count`, or none was sent.
        check(100, &[5, 5, 2], otherwise);
        check(0, &[5, 2], otherwise);
        check(5, &[5, 5, 5], WalkVerdict::Short);
        check(5, &[9, 5], WalkVerdict::Short);
        check(100, &[5, 5], WalkVerdict::Short);
        check(5, &[5, 0, 0], WalkVerdict::Short);
        check(5, &[2, 4], WalkVerdict::Short);
        // Of an only page nobody knows how full it could be.
        check(500, &[4], WalkVerdict::Short);
        check(0, &[4], WalkVerdict::Short);
        check(500, &[0], WalkVerdict::Short);
    }

    #[test]
    fn a_total_that_moves_is_accepted_for_the_same_set_and_proves_no_absence() {
        for totals in [[4, 3], [3, 4], [9, 8], [2, 1]] {
            let moved = walk(&[(&[1, 2], Some(totals[0])), (&[3], Some(totals[1]))]);
            let fall = fall(3, totals[0].max(totals[1]));
            check(Full, 2, &[moved.clone(), moved], complete(Coverage::TotalMoves(fall)));
        }
        // It moved in one of the two.
        let [moved, steady] = [3, 4].map(|last| walk(&[(&[1, 2], Some(4)), (&[3], Some(last))]));
        for walks in [[moved.clone(), steady.clone()], [steady, moved.clone()]] {
            check(Full, 2, &walks, complete(Coverage::TotalMoves(fall(3, 4))));
        }
        check(Full, 2, &[moved, walk(&[(&[1, 2], Some(3)), (&[3], Some(3))])], complete(Coverage::Whole));
    }

    #[test]
    fn without_a_total_a_full_pull_is_walked_twice() {
        let bare = walk(&[(&[1, 2], None), (&[3], None)]);
        check(Incremental, 2, std::slice::from_ref(&bare), complete(Coverage::Uncounted));
        check(Full, 2, &[bare.clone(), bare.clone()], complete(Coverage::SameTwice));
        let [other, third] = [walk(&[(&[1, 2], None)]), walk(&[(&[2], None)])];
        check(Full, 2, &[other.clone(), bare.clone(), bare.clone()], complete(Coverage::SameTwice));
        check(Full, 2, &[bare, other, third], WalkVerdict::Unsteady(Shortfall { counted: 1, total: None }));
    }

    #[test]
    fn three_walks_of_which_none_is_like_the_one_before_are_nothing_to_rely_on() {
        let [a, b, c] = [3, 4, 5].map(|last| walk(&[(&[1, 2, last], Some(5))]));
        check(Full, 9, &[a.clone(), b.clone(), c], WalkVerdict::Unsteady(fall(3, 5)));
        check(Full, 9, &[a.clone(), b.clone(), a.clone()], WalkVerdict::Unsteady(fall(3, 5)));
        check(Full, 9, &[a, b.clone(), b], WalkVerdict::Short(fall(3, 5)));
    }

    #[test]
    fn includes_stand_beside_the_total() {
        let with_includes = |matches: &[KeyHash], total| {
            let includes = HashSet::from([100, 101]);
            let mut page = page(&(matches, Some(total)));
            page.keys.extend(&includes);
            PageCounts { includes, received: page.received + 3, received_includes: 3, ..page }
        };
        check(Full, 9, &[walk_of([with_includes(&[1, 2, 3], 3)])], complete(Coverage::Whole));
        let twice_on_two_pages = walk_of([with_includes(&[1, 2], 3), with_includes(&[3], 3)]);
        check(Full, 9, &[twice_on_two_pages], complete(Coverage::Whole));
        // They do not make up for matches that are missing.
        let short = walk_of([with_includes(&[1, 2, 3], 5)]);
        check(Full, 9, &[short.clone(), short], WalkVerdict::Short(fall(3, 5)));
    }

    #[test]
    fn an_outcome_that_says_incomplete_makes_a_pull_short_whatever_is_counted() {
        let told = |total| PageCounts { told_incomplete: true, ..page(&(&[1, 2], total)) };
        let [counted, uncounted] = [Some(2), None].map(|total| walk_of([told(total)]));
        check(Full, 9, &[counted.clone(), counted.clone()], WalkVerdict::Short(fall(2, 2)));
        check(
            Incremental,
            9,
            &[uncounted.clone(), uncounted],
            WalkVerdict::Short(Shortfall { counted: 2, total: None }),
        );
        // It has passed.
        check(Full, 9, &[counted.clone(), walk(&[(&[1, 2], Some(2))])], complete(Coverage::Whole));
        let other = walk_of([PageCounts { told_incomplete: true, ..page(&(&[1], Some(2))) }]);
        check(Full, 9, &[counted.clone(), other, counted], WalkVerdict::Short(fall(2, 2)));
    }

    #[test]
    fn an_outcome_that_a_total_counts_makes_no_pull_short() {
        let stray = walk_of([PageCounts { stray_outcomes: 1, ..page(&(&[1, 2], Some(3))) }]);
        check(Full, 9, &[stray.clone(), stray], complete(Coverage::CountsOtherwise(fall(2, 3))));
    }

    #[test]
    fn more_is_promised_until_as_many_were_counted() {
        let check = |keys: &[KeyHash], total, promises| {
            assert_eq!(walk(&[(keys, total)]).promises_more(), promises, "{keys:?} of {total:?}");
        };
        check(&[1, 2], Some(3), true);
        check(&[1, 2, 3], Some(3), false);
        check(&[1, 2, 3, 4], Some(3), false);
        check(&[1, 2], None, false);
    }

    #[test]
    fn a_walk_hides_something_if_one_of_its_pages_does() {
        let page = |hides_any| PageCounts { hides_any, ..page(&(&[1], None)) };
        for hides in [[true, false], [false, true], [true, true], [false, false]] {
            assert_eq!(walk_of(hides.map(page)).counts.hides_any, hides.contains(&true), "{hides:?}");
        }
    }

    #[test]
    fn only_what_was_counted_or_seen_twice_may_sweep() {
        let fall = fall(1, 2);
        for (coverage, may_sweep) in [
            (Coverage::Whole, true),
            (Coverage::SameTwice, true),
            (Coverage::TotalIsOff(fall), true),
            (Coverage::Uncounted, false),
            (Coverage::TotalMoves(fall), false),
            (Coverage::CountsOtherwise(fall), false),
        ] {
            assert_eq!(coverage.may_sweep(), may_sweep, "{coverage:?}");
        }
    }

    #[test]
    fn a_record_that_is_short_in_the_same_way_for_a_day_is_believed() {
        let at = |hours: i64| Timestamp::from_timestamp(1_800_000_000 + hours * 3600, 0).unwrap();
        let short = |hours| ShortSince { since: at(hours), fingerprint: 7 };
        let check = |earlier, fingerprint, hours, verdict| {
            assert_eq!(judge_short(earlier, fingerprint, at(hours)), verdict, "{earlier:?}, {hours} h");
        };
        check(None, 7, 0, ShortVerdict::Fails(short(0)));
        check(Some(short(0)), 7, 23, ShortVerdict::Fails(short(0)));
        check(Some(short(0)), 7, 24, ShortVerdict::Believed(short(0)));
        // More or other entries: it is still filling.
        let other = ShortSince { since: at(24), fingerprint: 8 };
        check(Some(short(0)), 8, 24, ShortVerdict::Fails(other));
        // The clock was ahead when it was written.
        check(Some(short(9)), 7, 5, ShortVerdict::Fails(short(5)));
        let [one, same, more] = [[1, 2], [2, 1], [1, 3]].map(|keys| walk(&[(&keys, None)]).fingerprint());
        assert!(one == same && one != more);
    }
}

//! Can an interrupted pull be resumed, and when does one begin again instead?

use super::checkpoint::{Checkpoint, UnfinishedPull};
use super::{PullMode, Timestamp, TypeFilter};

/// A link that failed in this many attempts of its patient is dropped.
pub(crate) const LINK_ATTEMPTS_MAX: u32 = 2;

/// Returns the mode to pull in where `due` is due: an unfinished full pull is resumed where an
/// incremental one would do, because it sees more.
pub(crate) fn mode_of(checkpoint: &Checkpoint, due: PullMode) -> PullMode {
    match &checkpoint.unfinished {
        Some(UnfinishedPull { mode: PullMode::Full, next_url: Some(_), .. }) => PullMode::Full,
        _ => due,
    }
}

/// Returns whether an interrupted pull can be resumed.
///
/// A pull goes on only with the mode and the filter it began with. A bundle without `total`
/// cannot be proven whole across a restart, so it begins again.
pub(crate) fn can_resume(
    unfinished: &UnfinishedPull,
    mode: PullMode,
    types: &TypeFilter,
    now: Timestamp,
) -> bool {
    unfinished.mode == mode
        && unfinished.types == *types
        && unfinished.next_url.is_some()
        && unfinished.has_total
        && unfinished.started_at <= now
}

/// Why a pull did not get beyond the page at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stumble {
    /// 400, 404 or 410: the link no longer leads anywhere.
    LinkGone,
    /// Another refused request, attempts used up, or a link that may not be followed.
    PageFailed,
    /// The walks never added up.
    Incomplete,
    Other,
}

/// What is known when a pull stumbles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StumbleFacts {
    pub stumble: Stumble,
    /// The page at hand is the first one, which no link led to.
    pub at_first_page: bool,
    /// The pull has begun again before.
    pub has_restarted: bool,
    /// The pull was resumed.
    pub is_resumed: bool,
    /// Earlier attempts of this patient that ended at the same link.
    pub link_failures: u32,
}

/// Returns whether the pull begins again from its first page: once, and only where what it went
/// on from is at fault.
pub(crate) fn begins_again(facts: StumbleFacts) -> bool {
    if facts.at_first_page || facts.has_restarted {
        return false;
    }
    match facts.stumble {
        Stumble::LinkGone => true,
        // Much may have changed on the server since the walk that was resumed began.
        Stumble::Incomplete => facts.is_resumed,
        Stumble::PageFailed => facts.link_failures + 1 >= LINK_ATTEMPTS_MAX,
        Stumble::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PersonId;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn unfinished(mode: PullMode) -> UnfinishedPull {
        UnfinishedPull {
            mode,
            types: TypeFilter::default(),
            started_at: at(-60),
            since: None,
            next_url: Some("https://h/x".to_owned()),
            pages: 3,
            walk: 1,
            has_total: true,
            renamed: false,
            link_failures: 0,
        }
    }

    #[test]
    fn a_pull_is_resumed_only_as_what_it_began_as() {
        let check = |unfinished: &UnfinishedPull, mode, types: &str, resumes| {
            assert_eq!(
                can_resume(unfinished, mode, &TypeFilter::parse(types), at(0)),
                resumes,
                "{unfinished:?}"
            );
        };
        let full = unfinished(PullMode::Full);
        check(&full, PullMode::Full, "", true);
        check(&full, PullMode::Incremental, "", false);
        check(&full, PullMode::Full, "Observation", false);
        check(&UnfinishedPull { has_total: false, ..full.clone() }, PullMode::Full, "", false);
        check(&UnfinishedPull { next_url: None, ..full.clone() }, PullMode::Full, "", false);
        check(&UnfinishedPull { started_at: at(1), ..full.clone() }, PullMode::Full, "", false);
    }

    #[test]
    fn an_unfinished_full_pull_stands_in_for_an_incremental_one() {
        let check = |unfinished: Option<UnfinishedPull>, due, mode| {
            let person = PersonId::parse("p").unwrap();
            let checkpoint = Checkpoint { unfinished, ..Checkpoint::unknown(person, None) };
            assert_eq!(mode_of(&checkpoint, due), mode, "{checkpoint:?}");
        };
        let (full, incremental) = (PullMode::Full, PullMode::Incremental);
        check(None, incremental, incremental);
        check(Some(unfinished(full)), incremental, full);
        check(Some(unfinished(full)), full, full);
        check(Some(unfinished(incremental)), full, full);
        check(Some(UnfinishedPull { next_url: None, ..unfinished(full) }), incremental, incremental);
    }

    #[test]
    fn a_pull_begins_again_once_and_not_at_its_first_page() {
        let facts = StumbleFacts {
            stumble: Stumble::LinkGone,
            at_first_page: false,
            has_restarted: false,
            is_resumed: false,
            link_failures: 0,
        };
        let check = |facts, again| assert_eq!(begins_again(facts), again, "{facts:?}");
        check(facts, true);
        check(StumbleFacts { at_first_page: true, ..facts }, false);
        check(StumbleFacts { has_restarted: true, ..facts }, false);
        let page = StumbleFacts { stumble: Stumble::PageFailed, ..facts };
        check(page, false);
        check(StumbleFacts { link_failures: 1, ..page }, true);
        let incomplete = StumbleFacts { stumble: Stumble::Incomplete, ..facts };
        check(incomplete, false);
        check(StumbleFacts { is_resumed: true, ..incomplete }, true);
        check(StumbleFacts { stumble: Stumble::Other, link_failures: 9, is_resumed: true, ..facts }, false);
    }
}

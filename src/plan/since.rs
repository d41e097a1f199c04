//! Does the server heed `_since`? One that does not brings everything each time, unchanged.

use super::Timestamp;

/// Pulls in a row that bring everything before anybody is told.
pub(crate) const IGNORED_TOLD: u64 = 2;

/// What an incremental pull has brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SinceFacts {
    pub since: Timestamp,
    /// Entries of this pull, and of the last full one.
    pub entries: u64,
    pub full_entries: u64,
    /// Whether anything was new or had changed.
    pub brought_news: bool,
    /// The latest `meta.lastUpdated` that came.
    pub newest: Option<Timestamp>,
    pub last_full_at: Timestamp,
}

/// Returns whether the pull shows that `_since` was ignored.
///
/// What changed within the overlap is sent again by right. So it must be older than `_since` by its
/// own word, or have been stored before `_since` began.
fn is_ignored(facts: SinceFacts) -> bool {
    let is_all = facts.full_entries > 0 && facts.full_entries <= facts.entries;
    let is_old = facts.newest.map_or(facts.last_full_at < facts.since, |newest| newest < facts.since);
    is_all && is_old && !facts.brought_news
}

/// Returns how many pulls in a row have brought everything, whatever was asked for, after so many before.
pub(crate) fn pulls_ignored(before: u64, facts: SinceFacts) -> u64 {
    if is_ignored(facts) { before + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_again_and_nothing_newer_was_not_asked_for() {
        let at = |hours: i64| Timestamp::from_timestamp(1_800_000_000 + hours * 3600, 0).unwrap();
        let facts = SinceFacts {
            since: at(0),
            entries: 9,
            full_entries: 9,
            brought_news: false,
            newest: Some(at(-50)),
            last_full_at: at(1),
        };
        let check = |facts: SinceFacts, ignored| {
            let (none, two) = if ignored { (1, 3) } else { (0, 0) };
            assert_eq!((pulls_ignored(0, facts), pulls_ignored(2, facts)), (none, two), "{facts:?}");
        };
        check(facts, true);
        check(SinceFacts { entries: 12, ..facts }, true);
        check(SinceFacts { entries: 8, ..facts }, false);
        check(SinceFacts { brought_news: true, ..facts }, false);
        check(SinceFacts { entries: 0, full_entries: 0, ..facts }, false);
        // It may have changed within the overlap.
        check(SinceFacts { newest: Some(at(0)), ..facts }, false);
        check(SinceFacts { newest: None, ..facts }, false);
        check(SinceFacts { newest: None, last_full_at: at(0), ..facts }, false);
        check(SinceFacts { newest: None, last_full_at: at(-1), ..facts }, true);
    }
}

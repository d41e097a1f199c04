//! Which of two entries of one name is kept?

use super::parse_stamp;

/// Returns whether the entry that came later replaces the one that came before it, by the
/// `meta.lastUpdated` of each: it does, unless both say that it is the older one.
pub(crate) fn replaces(later: Option<&str>, earlier: Option<&str>) -> bool {
    match (later.and_then(parse_stamp), earlier.and_then(parse_stamp)) {
        (Some(later), Some(earlier)) => earlier <= later,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_version_wins_and_of_equals_the_later_arrival() {
        let check =
            |later, earlier, wins| assert_eq!(replaces(later, earlier), wins, "{later:?} {earlier:?}");
        let (old, new) = (Some("2026-01-01T00:00:00Z"), Some("2026-01-01T00:00:01Z"));
        check(new, old, true);
        check(old, new, false);
        check(old, old, true);
        check(None, new, true);
        check(old, None, true);
        check(Some("yesterday"), new, true);
        check(Some("2026-01-01T01:00:00+01:00"), old, true);
    }
}

//! What a walk has brought, counted, so that a sweep that has nothing to mark need not read the rows.
//!
//! Promise: an [`Arrivals::count`] is never more than the rows that are stored of the walk, once
//! what was quarantined is taken off; so where a patient has as many rows, each of them was seen.

use std::collections::HashSet;

use super::identity::{Identity, KeyHash};

/// The `id`s of larger walks are not kept: their rows are read instead.
const IDS_MAX: usize = 100_000;

/// Things that one walk has brought, each counted once.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    things: u64,
    /// Hashes of their types and `id`s.
    ids: HashSet<KeyHash>,
    /// Two of them share type and `id`, or that is not known.
    may_hold_twins: bool,
}

impl Arrivals {
    /// Of a walk whose beginning was not met.
    pub(crate) fn unknown() -> Self {
        Self { may_hold_twins: true, ..Self::default() }
    }

    /// Counts a thing that this walk has not brought before.
    pub(crate) fn add(&mut self, thing: Identity<'_>) {
        self.things += 1;
        if thing.id.is_some() {
            self.add_id(Identity { name: "", ..thing }.hash());
        }
    }

    /// Adds those of a page.
    pub(crate) fn append(&mut self, page: Self) {
        self.things += page.things;
        self.may_hold_twins |= page.may_hold_twins;
        for id in page.ids {
            self.add_id(id);
        }
    }

    fn add_id(&mut self, id: KeyHash) {
        if !self.may_hold_twins && (!self.ids.insert(id) || self.ids.len() > IDS_MAX) {
            self.may_hold_twins = true;
            self.ids = HashSet::new();
        }
    }

    /// Returns how many there are; `None` where two of them may share type and `id`.
    pub(crate) fn count(&self) -> Option<u64> {
        (!self.may_hold_twins).then_some(self.things)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(things: &[(&str, &str, Option<&str>)]) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for &(name, table, id) in things {
            arrivals.add(Identity { name, table, id });
        }
        arrivals
    }

    #[test]
    fn things_that_share_an_id_are_told_from_things_that_do_not() {
        let apart = [("n", "observation", Some("a")), ("m", "observation", Some("b"))];
        assert_eq!(arrivals(&apart).count(), Some(2));
        assert_eq!(
            arrivals(&[("n", "observation", Some("a")), ("m", "condition", Some("a"))]).count(),
            Some(2)
        );
        assert_eq!(arrivals(&[("n", "observation", None), ("m", "observation", None)]).count(), Some(2));
        assert_eq!(
            arrivals(&[("n", "observation", Some("a")), ("m", "observation", Some("a"))]).count(),
            None
        );
        assert_eq!(arrivals(&[]).count(), Some(0));
    }

    #[test]
    fn pages_add_up_to_their_walk() {
        let page = |id| arrivals(&[(id, "observation", Some(id)), ("n", "patient", None)]);
        let mut walk = Arrivals::default();
        walk.append(page("a"));
        walk.append(page("b"));
        assert_eq!(walk.count(), Some(4));
        walk.append(page("a"));
        assert_eq!(walk.count(), None);
        walk.append(page("c"));
        assert_eq!(walk.count(), None);
        let mut resumed = Arrivals::unknown();
        resumed.append(page("a"));
        assert_eq!(resumed.count(), None);
    }

    #[test]
    fn memory_is_bounded() {
        let ids: Vec<String> = (0..=IDS_MAX).map(|id| id.to_string()).collect();
        let things: Vec<_> = ids.iter().map(|id| (id.as_str(), "observation", Some(id.as_str()))).collect();
        assert_eq!(arrivals(&things[1..]).count(), Some(IDS_MAX as u64));
        let more = arrivals(&things);
        assert_eq!((more.count(), more.ids.capacity()), (None, 0));
    }
}

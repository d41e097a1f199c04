//! What a consent lets through, looked at so that a change of it is seen.

use std::collections::BTreeSet;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::plan::PersonId;

/// What a consent lets through may be looked at of so many records in one reading: each costs a request.
pub(crate) const SCOPES_LOOKED_AT_MAX: usize = 100;

/// Returns a hash of what a consent lets through, or `None` where neither list is told. The order in
/// which they are told means nothing.
pub(crate) fn scopes_hash(resources: Option<Vec<String>>, sensitivities: Option<Vec<String>>) -> Option<u64> {
    if resources.is_none() && sensitivities.is_none() {
        return None;
    }
    let list = |scopes: Option<Vec<String>>| {
        let scopes: BTreeSet<String> = scopes.unwrap_or_default().into_iter().collect();
        scopes.into_iter().collect::<Vec<_>>().join("\n")
    };
    Some(xxh3_64(format!("{}\n\n{}", list(resources), list(sensitivities)).as_bytes()))
}

/// A consent whose scopes are to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConsentToLookAt {
    pub(crate) person: PersonId,
    pub(crate) study: Arc<str>,
    pub(crate) record_id: String,
}

/// What a consent was seen to let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScopesSeen {
    pub(crate) person: PersonId,
    pub(crate) study: Arc<str>,
    /// `None` where the record does not say.
    pub(crate) scopes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_consent_lets_through_is_the_same_in_whatever_order() {
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(scopes_hash(None, None), None);
        let all = [
            scopes_hash(list(&["a", "b"]), None),
            scopes_hash(None, list(&["a", "b"])),
            scopes_hash(list(&["a"]), list(&["b"])),
            scopes_hash(list(&[]), None),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(one.is_some() && !all[..at].contains(one), "{at}");
        }
        assert_eq!(scopes_hash(list(&["b", "a", "b"]), None), all[0]);
    }
}

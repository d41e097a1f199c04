//! Which thing an entry is, and under which key that thing is stored.
//!
//! A thing is known by the name its entry gives it (`fullUrl`, or what stands in for one), its
//! type and its `id`. A careless server gives many things one name. The first of them to be
//! stored has the name as its key, and each other has its `id` behind the name.
//!
//! Promise: a thing keeps the key it was first stored under, in whatever order the walks, the
//! pages and the restarts to come bring it; two things never share one. Absent on purpose: what
//! is stored; whoever asks looks it up.

use std::collections::HashSet;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Longer keys are refused: nothing real comes near, and not every engine could index them.
pub const KEY_BYTES_MAX: usize = 2000;

/// What an entry is counted as when a walk is held against `total`: the hash of its identity.
///
/// Of a million two have the same hash in one of 37 million pulls, and a walk is repeated
/// for nothing. Twice the bits would halve how long an answer may be.
pub type KeyHash = u64;

/// What tells one thing of a patient from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    pub name: &'a str,
    /// The table of its type; empty where its type is none or cannot be read.
    pub table: &'a str,
    pub id: Option<&'a str>,
}

/// Stands between the name and the `id` in the key of a thing that was not the first of its name.
const ID_FOLLOWS: char = '#';

impl<'a> Identity<'a> {
    pub fn hash(self) -> KeyHash {
        // An empty id is another one than none, and neither runs into the name.
        let of_type = xxh3_64_with_seed(self.table.as_bytes(), u64::from(self.id.is_some()));
        let named = xxh3_64_with_seed(self.name.as_bytes(), of_type);
        self.id.map_or(named, |id| xxh3_64_with_seed(id.as_bytes(), named))
    }

    /// The key it has where something else has its name.
    pub fn key_with_id(self) -> String {
        format!("{}{ID_FOLLOWS}{}", self.name, self.id.unwrap_or_default())
    }

    /// The identities that a stored row may have: it has its name for a key, or its name and its `id`.
    pub fn of_stored(key: &'a str, table: &'a str, id: Option<&'a str>) -> impl Iterator<Item = Self> {
        let name = key.strip_suffix(id.unwrap_or_default()).and_then(|rest| rest.strip_suffix(ID_FOLLOWS));
        [Some(key), name].into_iter().flatten().map(move |name| Identity { name, table, id })
    }

    /// Returns whether one of the walks has met what is stored as this.
    pub fn was_seen(key: &'a str, table: &'a str, id: Option<&'a str>, walks: &[HashSet<KeyHash>]) -> bool {
        Self::of_stored(key, table, id).any(|it| walks.iter().any(|walk| walk.contains(&it.hash())))
    }
}

/// What is stored, live or not, under one of the two keys that a thing may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Nothing,
    /// The thing itself.
    Itself,
    /// Another thing of the same name, or one whose name reads like this key.
    Another,
}

impl Holder {
    /// `stored` is the `id` of the row under that key, if there is a row.
    pub fn of(stored: Option<Option<&str>>, id: Option<&str>) -> Self {
        match stored {
            None => Self::Nothing,
            Some(stored) if stored == id => Self::Itself,
            Some(_) => Self::Another,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    Name,
    NameAndId,
    /// Each of the two is another thing's: this one is quarantined.
    Neither,
}

/// Chooses the key of a thing by what is stored under its name, and under its name and `id`.
pub fn choose_key(at_name: Holder, at_name_and_id: Holder) -> KeyForm {
    match (at_name, at_name_and_id) {
        (Holder::Itself, _) => KeyForm::Name,
        // Also where the first of that name is gone for good: the others keep the keys they have.
        (_, Holder::Itself) => KeyForm::NameAndId,
        (Holder::Nothing, _) => KeyForm::Name,
        (Holder::Another, Holder::Nothing) => KeyForm::NameAndId,
        (Holder::Another, Holder::Another) => KeyForm::Neither,
    }
}

/// The name in a `fullUrl`: without the server's root and without a version at its end.
pub fn name_in(full_url: &str, fhir_root: &str) -> String {
    let before_version = full_url.rsplit_once('/').and_then(|(rest, _)| rest.strip_suffix("/_history"));
    let unversioned = before_version.filter(|rest| !rest.is_empty()).unwrap_or(full_url);
    let name = unversioned.strip_prefix(fhir_root).filter(|rest| !rest.is_empty());
    name.unwrap_or(unversioned).to_owned()
}

pub fn key_hash(key: &str) -> KeyHash {
    xxh3_64(key.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_version_is_no_part_of_a_name() {
        let check = |url: &str, name: &str| assert_eq!(name_in(url, "https://h/FHIR/R4/"), name, "{url}");
        check("https://h/FHIR/R4/Observation/u1", "Observation/u1");
        check("https://h/FHIR/R4/Observation/u1/_history/3", "Observation/u1");
        check("https://other/R4/Observation/u1/_history/W%2F3", "https://other/R4/Observation/u1");
        check("urn:uuid:1", "urn:uuid:1");
        check("https://h/FHIR/R4/Observation/u1/_history/", "Observation/u1");
        check("https://h/FHIR/R4/Observation/_history/3/x", "Observation/_history/3/x");
        check("https://h/FHIR/R4/Observation/u1/_history", "Observation/u1/_history");
        check("https://h/FHIR/R4/", "https://h/FHIR/R4/");
    }

    #[test]
    fn things_that_differ_in_anything_are_counted_apart() {
        let identity = |name, table, id| Identity { name, table, id }.hash();
        let all = [
            identity("Observation/undefined", "observation", Some("a")),
            identity("Observation/undefined", "observation", Some("b")),
            identity("Observation/undefined", "observation", Some("")),
            identity("Observation/undefined", "observation", None),
            identity("Observation/undefined", "condition", Some("a")),
            identity("Observation/undefineda", "observation", None),
            identity("Observation/undefined#a", "observation", None),
            identity("Observation/undefined", "", None),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn a_stored_row_is_recognised_by_either_key() {
        let check = |key: &str, id: Option<&str>, name: &str, seen| {
            let walk = HashSet::from([Identity { name, table: "t", id }.hash()]);
            assert_eq!(
                Identity::was_seen(key, "t", id, &[HashSet::new(), walk]),
                seen,
                "{key} {id:?} {name}"
            );
        };
        check("Observation/u", Some("a"), "Observation/u", true);
        check("Observation/u#a", Some("a"), "Observation/u", true);
        // A name may end like that by itself.
        check("urn:x#a", Some("a"), "urn:x#a", true);
        check("Observation/u#b", Some("a"), "Observation/u", false);
        check("Observation/u#", None, "Observation/u", true);
        check("Observation/u", None, "Observation/v", false);
        check("a", Some("a"), "", false);
    }

    #[test]
    fn who_was_stored_first_keeps_the_name() {
        use Holder::*;
        let check = |at_name, with_id, form| {
            assert_eq!(choose_key(at_name, with_id), form, "{at_name:?} {with_id:?}");
        };
        check(Nothing, Nothing, KeyForm::Name);
        check(Nothing, Itself, KeyForm::NameAndId);
        check(Nothing, Another, KeyForm::Name);
        check(Itself, Nothing, KeyForm::Name);
        check(Itself, Itself, KeyForm::Name);
        check(Itself, Another, KeyForm::Name);
        check(Another, Nothing, KeyForm::NameAndId);
        check(Another, Itself, KeyForm::NameAndId);
        check(Another, Another, KeyForm::Neither);
        assert_eq!(Holder::of(None, Some("a")), Nothing);
        assert_eq!(Holder::of(Some(Some("a")), Some("a")), Itself);
        assert_eq!(Holder::of(Some(None), None), Itself);
        assert_eq!(Holder::of(Some(None), Some("a")), Another);
        assert_eq!(Holder::of(Some(Some("a")), None), Another);
    }

    /// What a warehouse does with one entry.
    fn store(rows: &mut BTreeMap<String, Option<String>>, thing: Identity<'_>) -> Option<String> {
        let holder = |key: &str| Holder::of(rows.get(key).map(Option::as_deref), thing.id);
        let key = match choose_key(holder(thing.name), holder(&thing.key_with_id())) {
            KeyForm::Name => thing.name.to_owned(),
            KeyForm::NameAndId => thing.key_with_id(),
            KeyForm::Neither => return None,
        };
        rows.insert(key.clone(), thing.id.map(str::to_owned));
        Some(key)
    }

    #[test]
    fn a_name_that_reads_like_a_key_replaces_nothing() {
        let mut rows = BTreeMap::new();
        let mut store = |name, id| store(&mut rows, Identity { name, table: "t", id: Some(id) });
        assert_eq!(store("n#a", "c").as_deref(), Some("n#a"));
        assert_eq!(store("n", "b").as_deref(), Some("n"));
        assert_eq!(store("n", "a"), None);
        assert_eq!(store("n", "d").as_deref(), Some("n#d"));
        assert_eq!(store("n#d", "e").as_deref(), Some("n#d#e"));
    }

    proptest! {
        /// Things of three names; some are removed for good between two pulls.
        #[test]
        fn a_thing_keeps_its_key_in_whatever_order_it_comes(
            pulls in prop::collection::vec(prop::collection::vec((0..3usize, 0..4usize), 0..12), 1..6),
            removed in prop::collection::vec(0..12usize, 6),
        ) {
            let (names, ids) = (["n", "m", "n/o"], [None, Some("a"), Some("b"), Some("a#b")]);
            let mut rows = BTreeMap::new();
            let mut keys: BTreeMap<(usize, usize), String> = BTreeMap::new();
            for (pull, removed) in pulls.iter().zip(removed) {
                for &(name, id) in pull {
                    let thing = Identity { name: names[name], table: "t", id: ids[id] };
                    let key = store(&mut rows, thing).unwrap();
                    prop_assert!(Identity::of_stored(&key, "t", thing.id).any(|it| it == thing));
                    prop_assert_eq!(keys.entry((name, id)).or_insert_with(|| key.clone()), &key);
                }
                prop_assert_eq!(keys.values().collect::<HashSet<_>>().len(), keys.len());
                prop_assert_eq!(rows.len(), keys.len());
                if let Some(thing) = keys.keys().nth(removed).copied() {
                    rows.remove(&keys.remove(&thing).unwrap());
                }
            }
        }
    }

    #[test]
    fn keys_that_differ_have_hashes_that_differ() {
        let hashes = ["", "Observation/1", "Observation/2"].map(key_hash);
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2]);
        assert_eq!(hashes[1], key_hash("Observation/1"));
    }
}

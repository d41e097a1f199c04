//! An entry that cannot be stored as what it claims to be, and what can be made out of it.

use std::fmt;

use xxhash_rust::xxh3::xxh3_128;

use super::identity::{Identity, KEY_BYTES_MAX, name_in};
use super::resource_type::ResourceType;
use super::scan::scan_text;

/// Said of an entry that is not JSON though its end is known.
pub(super) const NOT_JSON: &str = "not JSON";
pub(super) const NOT_UTF_8: &str = "not UTF-8";
pub(super) const TOO_LARGE: &str = "entry too large";

/// An entry that cannot be stored as what it claims to be.
#[derive(Clone, PartialEq, Eq)]
pub struct Quarantined {
    pub key: String,
    pub reason: &'static str,
    /// The bytes as they came, or none where they were too many to keep.
    pub entry: Vec<u8>,
    /// Whether `key` is the name of a thing, and no mere hash of what came.
    pub is_named: bool,
    /// As far as they can be made out, the table of its type and its `id`.
    pub table: Option<&'static str>,
    pub id: Option<String>,
}

impl Quarantined {
    pub fn identity(&self) -> Identity<'_> {
        Identity { name: &self.key, table: self.table.unwrap_or_default(), id: self.id.as_deref() }
    }

    /// Returns whether this may be a new version of any row that is stored: it could not be read,
    /// and has no name that says which.
    pub fn may_be_any(&self) -> bool {
        !self.is_named && [NOT_JSON, NOT_UTF_8, TOO_LARGE].contains(&self.reason)
    }
}

impl fmt::Debug for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quarantined({}: {}, {} bytes)", self.key, self.reason, self.entry.len())
    }
}

/// What of an entry can be made out, be it JSON or not.
#[derive(Default)]
pub(super) struct Outline {
    /// Its name, else its type and `id`, else a hash of its bytes.
    pub(super) key: String,
    pub(super) is_named: bool,
    table: Option<&'static str>,
    id: Option<String>,
}

impl Outline {
    pub(super) fn of(text: &str, fhir_root: &str) -> Self {
        let entry = scan_text(text);
        let resource = entry.element("resource").ok().flatten().map(scan_text);
        let element = |name: &str| resource.as_ref()?.element(name).ok().flatten().and_then(string);
        let known = element("resourceType").as_deref().and_then(ResourceType::by_name);
        let id = element("id").filter(|id| is_usable(id));
        let url = entry.element("fullUrl").ok().flatten().and_then(string);
        let name = url.map(|url| name_in(&url, fhir_root)).or_else(|| {
            let (known, id) = (known?, id.as_deref()?);
            Some(format!("{}/{id}", known.name))
        });
        let name = name.filter(|name| is_usable(name));
        let is_named = name.is_some();
        let key = name.unwrap_or_else(|| hash_key(known.map_or("", |known| known.name), text.as_bytes()));
        Self { key, is_named, table: known.map(|known| &*known.table), id }
    }

    pub(super) fn identity(&self) -> Identity<'_> {
        Identity { name: &self.key, table: self.table.unwrap_or_default(), id: self.id.as_deref() }
    }

    pub(super) fn quarantined(self, reason: &'static str, entry: Vec<u8>) -> Quarantined {
        let Self { key, is_named, table, id } = self;
        Quarantined { key, reason, entry, is_named, table, id }
    }
}

/// May this be part of a key, in every engine?
fn is_usable(name: &str) -> bool {
    !name.is_empty() && name.len() <= KEY_BYTES_MAX && !name.contains('\0')
}

pub(super) fn hash_key(type_name: &str, bytes: &[u8]) -> String {
    format!("{type_name}/#{:032x}", xxh3_128(bytes))
}

fn string(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quarantined(reason: &'static str, is_named: bool) -> Quarantined {
        let (key, entry) = ("Observation/1".to_owned(), b"Anna".to_vec());
        Quarantined { key, reason, entry, is_named, table: None, id: None }
    }

    #[test]
    fn only_what_cannot_be_read_and_has_no_name_may_be_any_row() {
        for unreadable in [NOT_JSON, NOT_UTF_8, TOO_LARGE] {
            assert!(quarantined(unreadable, false).may_be_any(), "{unreadable}");
            assert!(!quarantined(unreadable, true).may_be_any(), "{unreadable}");
        }
        assert!(!quarantined("nested too deeply", false).may_be_any());
        assert!(!quarantined("nested too deeply", true).may_be_any());
    }

    #[test]
    fn nothing_of_an_entry_is_in_what_is_told_of_it() {
        let told = format!("{:?}", quarantined(NOT_JSON, true));
        assert!(told.contains("Observation/1") && told.contains("4 bytes"), "{told}");
        assert!(!told.contains("Anna"), "{told}");
    }
}

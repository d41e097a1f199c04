//! One entry of a Bundle becomes a row, or what is to be quarantined, or a note.
//!
//! The resource is never rebuilt: its bytes are stored as they came, and only a few
//! elements are read from them.

use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use super::identity::{Identity, KEY_BYTES_MAX, name_in};
pub use super::identity::{KeyHash, key_hash};
use super::outcome::{Outcome, read_outcome};
use super::patient_reference::find_patient;
pub use super::quarantine::Quarantined;
use super::quarantine::{NOT_JSON, NOT_UTF_8, Outline, TOO_LARGE};
use super::resource_type::ResourceType;
use super::scan::{Repeated, scan};

/// One element of `entry`, as it came.
pub struct Entry {
    pub bytes: Vec<u8>,
    /// Its full size; more than `bytes` when it was too large to be kept.
    pub size: u64,
    /// How deep its arrays and objects nest.
    pub depth: u32,
}

/// One resource, ready to be stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    pub table: &'static str,
    /// The name its entry gives it; where that is another thing's, its `id` is to follow.
    pub key: String,
    pub id: Option<String>,
    pub version_id: Option<String>,
    pub last_updated: Option<String>,
    pub source: Option<String>,
    pub patient: Option<String>,
    pub resource: String,
    pub content_hash: [u8; 16],
}

impl Row {
    pub fn identity(&self) -> Identity<'_> {
        Identity { name: &self.key, table: self.table, id: self.id.as_deref() }
    }

    /// Returns what is kept of a row that cannot be stored.
    pub fn quarantined(&self, reason: &'static str) -> Quarantined {
        Quarantined {
            key: self.key.clone(),
            reason,
            entry: self.resource.clone().into_bytes(),
            is_named: false,
            table: Some(self.table),
            id: self.id.clone(),
        }
    }
}

#[derive(Debug)]
pub enum Sorted {
    Row(Row),
    Quarantined(Quarantined),
    Outcome {
        outcome: Outcome,
        /// It does not call itself an outcome, so that a `total` may count it.
        is_stray: bool,
        /// One that the search matched, with an `id`, is part of the record as well.
        row: Option<Row>,
    },
    /// An entry without a `resource`.
    NoResource,
    /// No JSON, which breaks the page; quarantined where it is none in every attempt.
    Unreadable(Quarantined),
}

/// An entry, and what it counts as.
#[derive(Debug)]
pub struct SortedEntry {
    pub sorted: Sorted,
    /// `None` for what is about the answer.
    pub identity: Option<KeyHash>,
    /// Beside what the search matched; a `total` does not count it.
    pub is_include: bool,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({} bytes)", self.size)
    }
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Row({} {}, {} bytes)", self.table, self.key, self.resource.len())
    }
}

/// How entries of one server are named and what is too much.
#[derive(Clone, Debug)]
pub struct EntryRules {
    /// `{base}/FHIR/R4/`, which is cut from a `fullUrl` to make its key.
    pub fhir_root: String,
    /// Larger entries are quarantined without their bytes.
    pub entry_bytes_max: u64,
    /// Deeper nesting is quarantined: SQLite's own JSON functions would stumble over it.
    pub depth_max: u32,
}

#[derive(Deserialize)]
struct EntryShape<'a> {
    #[serde(borrow, rename = "fullUrl")]
    full_url: Option<&'a RawValue>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow)]
    search: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct SearchShape {
    mode: Option<String>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "versionId")]
    version_id: Option<&'a RawValue>,
    #[serde(borrow, rename = "lastUpdated")]
    last_updated: Option<&'a RawValue>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
}

pub fn sort_entry(entry: Entry, rules: &EntryRules) -> SortedEntry {
    if entry.size > rules.entry_bytes_max {
        // Most of its bytes are gone. Its name is among the first; else the size keeps two such
        // entries of one page apart.
        let mut outline = Outline::of(&String::from_utf8_lossy(&entry.bytes), &rules.fhir_root);
        if !outline.is_named {
            outline.key = format!("#too-large-{:032x}-{}", xxh3_128(&entry.bytes), entry.size);
        }
        return SortedEntry::apart(outline.quarantined(TOO_LARGE, Vec::new()));
    }
    let text = match String::from_utf8(entry.bytes) {
        Ok(text) => text,
        Err(broken) => {
            let outline = Outline::of(&String::from_utf8_lossy(broken.as_bytes()), &rules.fhir_root);
            return SortedEntry::apart(outline.quarantined(NOT_UTF_8, broken.into_bytes()));
        }
    };
    let quarantine = |reason| {
        SortedEntry::apart(
            Outline::of(&text, &rules.fhir_root).quarantined(reason, text.clone().into_bytes()),
        )
    };
    if entry.depth > rules.depth_max {
        return if is_json(&text) {
            quarantine("nested too deeply")
        } else {
            quarantine(NOT_JSON).breaks_page()
        };
    }
    let Ok(shape) = serde_json::from_str::<EntryShape<'_>>(&text) else {
        return if is_json(&text) { quarantine("not an entry") } else { quarantine(NOT_JSON).breaks_page() };
    };
    let mode = search_mode(shape.search);
    let is_include = mode.as_deref() == Some("include");
    let sorted = |sorted, identity| SortedEntry { sorted, identity, is_include };
    let Some(resource) = shape.resource.filter(|resource| resource.get() != "null") else {
        return sorted(Sorted::NoResource, Some(Outline::of(&text, &rules.fhir_root).identity().hash()));
    };
    let name = shape.full_url.and_then(raw_string).filter(|url| !url.is_empty());
    let row = sort_resource(resource, name.map(|url| name_in(&url, &rules.fhir_root))).and_then(checked);
    if is_outcome(&row, mode.as_deref()) {
        let row = row.ok().filter(|row| mode.as_deref() == Some("match") && row.id.is_some());
        let identity = row.as_ref().map(|row| row.identity().hash());
        let is_stray = row.is_none() && mode.as_deref() != Some("outcome");
        let outcome = read_outcome(resource);
        return sorted(Sorted::Outcome { outcome, is_stray, row }, identity);
    }
    match row {
        Ok(row) => {
            let identity = row.identity().hash();
            sorted(Sorted::Row(row), Some(identity))
        }
        Err(Refused { reason, .. }) => SortedEntry { is_include, ..quarantine(reason) },
    }
}

impl SortedEntry {
    fn apart(entry: Quarantined) -> Self {
        let identity = Some(entry.identity().hash());
        Self { sorted: Sorted::Quarantined(entry), identity, is_include: false }
    }

    fn breaks_page(self) -> Self {
        match self.sorted {
            Sorted::Quarantined(entry) => Self { sorted: Sorted::Unreadable(entry), ..self },
            _ => self,
        }
    }
}

/// Whatever its `search.mode`, an OperationOutcome is about the answer; so is what calls itself an
/// outcome and is of no other type.
fn is_outcome(row: &Result<Row, Refused>, mode: Option<&str>) -> bool {
    match row {
        Ok(row) => row.table == OUTCOME_TABLE,
        Err(refused) => {
            refused.table == Some(OUTCOME_TABLE) || refused.table.is_none() && mode == Some("outcome")
        }
    }
}

const OUTCOME_TABLE: &str = "operation_outcome";

struct Refused {
    reason: &'static str,
    table: Option<&'static str>,
}

fn sort_resource(resource: &RawValue, name: Option<String>) -> Result<Row, Refused> {
    let text = resource.get();
    let refuse = |reason, table| Refused { reason, table };
    if !text.starts_with('{') {
        return Err(refuse("resource is not an object", None));
    }
    let scanned = scan(resource);
    let repeats = |table| move |Repeated| refuse("resource repeats an element", table);
    let Some(type_name) = scanned.element("resourceType").map_err(repeats(None))?.and_then(string) else {
        return Err(refuse("no resourceType", None));
    };
    let Some(known) = ResourceType::by_name(&type_name) else {
        return Err(refuse("resourceType is not an R4 type", None));
    };
    let table = Some(&*known.table);
    let id = scanned.element("id").map_err(repeats(table))?.and_then(string).filter(|id| !id.is_empty());
    let key = match (name, &id) {
        (Some(name), _) => name,
        (None, Some(id)) => format!("{type_name}/{id}"),
        (None, None) => format!("{type_name}/#{}", hex(&scanned.content_hash)),
    };
    let meta = scanned.element("meta").map_err(repeats(table))?;
    let meta = meta.and_then(|meta| serde_json::from_str::<Meta<'_>>(meta).ok());
    let (version_id, last_updated, source) = meta.map_or((None, None, None), |meta| {
        let Meta { version_id, last_updated, source } = meta;
        (version_id.and_then(raw_string), last_updated.and_then(raw_string), source.and_then(raw_string))
    });
    let patient = find_patient(known, &scanned, id.as_deref()).map_err(repeats(table))?;
    Ok(Row {
        table: &known.table,
        key,
        id,
        version_id,
        last_updated,
        source,
        patient,
        resource: text.to_owned(),
        content_hash: scanned.content_hash,
    })
}

/// Said of a thing whose key would be longer than every engine can index.
pub(crate) const NAME_TOO_LONG: &str = "fullUrl or id too long";

/// Refuses names that some engine could not keep as they are.
fn checked(row: Row) -> Result<Row, Refused> {
    let Row { key, id, version_id, last_updated, source, patient, .. } = &row;
    let table = Some(row.table);
    if [id, version_id, last_updated, source, patient]
        .into_iter()
        .flatten()
        .chain([key])
        .any(|name| name.contains('\0'))
    {
        return Err(Refused { reason: "a name holds U+0000", table });
    }
    let too_long = |name: &String| name.len() > KEY_BYTES_MAX;
    if too_long(key) || id.as_ref().is_some_and(too_long) {
        return Err(Refused { reason: NAME_TOO_LONG, table });
    }
    Ok(row)
}

/// The row that a resource makes under its key, received or stored; `None` if it makes none.
pub fn row_of(key: &str, resource: &str) -> Option<Row> {
    let resource: &RawValue = serde_json::from_str(resource).ok()?;
    sort_resource(resource, Some(key.to_owned())).ok()
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn raw_string(raw: &RawValue) -> Option<String> {
    string(raw.get())
}

fn string(json: &str) -> Option<String> {
    serde_json::from_str(json).ok()
}

fn search_mode(search: Option<&RawValue>) -> Option<String> {
    serde_json::from_str::<SearchShape>(search?.get()).ok()?.mode
}

/// Returns bytes in lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests;

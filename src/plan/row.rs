//! One entry of a Bundle becomes a row, or what is to be quarantined, or a note.
//!
//! The resource is never rebuilt: its bytes are stored as they came, and only a few
//! elements are read from them.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::resource_type::ResourceType;
use super::scan::{Repeated, Scanned, scan};

/// Identities longer than this are refused: nothing real comes near.
pub const KEY_LENGTH_MAX: usize = 4096;

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
    pub key: String,
    pub id: Option<String>,
    pub version_id: Option<String>,
    pub last_updated: Option<String>,
    pub source: Option<String>,
    pub patient: Option<String>,
    pub resource: String,
    pub content_hash: [u8; 16],
}

/// An entry that cannot be stored as what it claims to be.
#[derive(Clone, PartialEq, Eq)]
pub struct Quarantined {
    pub key: String,
    pub reason: &'static str,
    /// The bytes as text, or nothing where they were too many to keep.
    pub entry: String,
}

/// An OperationOutcome about the answer. The server's own text is left behind: it may name the patient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// `severity/code` of each issue.
    pub issues: Vec<String>,
    pub is_error: bool,
}

#[derive(Debug)]
pub enum Sorted {
    Row(Row),
    Quarantined(Quarantined),
    Outcome(Outcome),
    /// An entry without a `resource`, by the hash of its identity.
    NoResource(KeyHash),
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

impl fmt::Debug for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Quarantined({}: {}, {} bytes)", self.key, self.reason, self.entry.len())
    }
}

/// What an entry is counted as when a walk is held against `total`.
///
/// Of a million keys two have the same hash in one of 37 million pulls, and a walk is repeated
/// for nothing. Twice the bits would halve how long an answer may be.
pub type KeyHash = u64;

pub fn key_hash(key: &str) -> KeyHash {
    xxh3_64(key.as_bytes())
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

/// The JSON of an entry is not JSON: the page is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry is not JSON")]
pub struct NotJson;

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

pub fn sort_entry(entry: Entry, rules: &EntryRules) -> Result<Sorted, NotJson> {
    if entry.size > rules.entry_bytes_max {
        // Its bytes are gone; the size keeps two such entries of one page apart.
        let key = format!("#too-large-{:032x}-{}", xxh3_128(&entry.bytes), entry.size);
        return Ok(quarantined(key, "entry too large", String::new()));
    }
    let text = match String::from_utf8(entry.bytes) {
        Ok(text) => text,
        Err(broken) => {
            let text = String::from_utf8_lossy(broken.as_bytes()).into_owned();
            let key = read_identity(&text, rules).unwrap_or_else(|| hash_key("", text.as_bytes()));
            return Ok(quarantined(key, "not UTF-8", text));
        }
    };
    if entry.depth > rules.depth_max {
        is_json(&text)?;
        let key = read_identity(&text, rules).unwrap_or_else(|| hash_key("", text.as_bytes()));
        return Ok(quarantined(key, "nested too deeply", text));
    }
    let Ok(shape) = serde_json::from_str::<EntryShape<'_>>(&text) else {
        is_json(&text)?;
        let key = hash_key("", text.as_bytes());
        return Ok(quarantined(key, "not an entry", text));
    };
    let Some(resource) = shape.resource.filter(|resource| resource.get() != "null") else {
        let identity = read_identity(&text, rules).unwrap_or_else(|| hash_key("", text.as_bytes()));
        return Ok(Sorted::NoResource(key_hash(&identity)));
    };
    if search_mode(shape.search).as_deref() == Some("outcome") {
        return Ok(Sorted::Outcome(read_outcome(resource)));
    }
    let full_url = shape.full_url.and_then(raw_string);
    Ok(sort_resource(resource, full_url.as_deref(), rules).unwrap_or_else(|refused| {
        let key = refused.key;
        quarantined(key, refused.reason, text.clone())
    }))
}

struct Refused {
    key: String,
    reason: &'static str,
}

fn sort_resource(resource: &RawValue, full_url: Option<&str>, rules: &EntryRules) -> Result<Sorted, Refused> {
    let text = resource.get();
    let named = full_url.filter(|url| !url.is_empty()).map(|url| cut_root(url, rules));
    let refuse = |type_name: &str, reason| {
        let key = named.clone().filter(|key| key.len() <= KEY_LENGTH_MAX);
        Refused { key: key.unwrap_or_else(|| hash_key(type_name, text.as_bytes())), reason }
    };
    if !text.starts_with('{') {
        return Err(refuse("", "resource is not an object"));
    }
    let scanned = scan(resource);
    let repeats = |Repeated| refuse("", "resource repeats an element");
    let Some(type_name) = scanned.element("resourceType").map_err(repeats)?.and_then(string) else {
        return Err(refuse("", "no resourceType"));
    };
    let Some(known) = ResourceType::by_name(&type_name) else {
        return Err(refuse("", "resourceType is not an R4 type"));
    };
    let id = scanned.element("id").map_err(repeats)?.and_then(string).filter(|id| !id.is_empty());
    let key = match (named.clone(), &id) {
        (Some(key), _) => key,
        (None, Some(id)) => format!("{type_name}/{id}"),
        (None, None) => format!("{type_name}/#{}", hex(&scanned.content_hash)),
    };
    if key.len() > KEY_LENGTH_MAX {
        return Err(refuse(&type_name, "fullUrl or id too long"));
    }
    let meta = scanned.element("meta").map_err(repeats)?;
    let meta = meta.and_then(|meta| serde_json::from_str::<Meta<'_>>(meta).ok());
    let (version_id, last_updated, source) = meta.map_or((None, None, None), |meta| {
        let Meta { version_id, last_updated, source } = meta;
        (version_id.and_then(raw_string), last_updated.and_then(raw_string), source.and_then(raw_string))
    });
    let patient = find_patient(known, &scanned, id.as_deref()).map_err(repeats)?;
    Ok(Sorted::Row(Row {
        table: &known.table,
        key,
        id,
        version_id,
        last_updated,
        source,
        patient,
        resource: text.to_owned(),
        content_hash: scanned.content_hash,
    }))
}

/// The row that a resource makes under its key, received or stored; `None` if it makes none.
pub fn row_of(key: &str, resource: &str) -> Option<Row> {
    let resource: &RawValue = serde_json::from_str(resource).ok()?;
    let rules = EntryRules { fhir_root: String::new(), entry_bytes_max: u64::MAX, depth_max: u32::MAX };
    match sort_resource(resource, Some(key), &rules) {
        Ok(Sorted::Row(row)) => Some(row),
        _ => None,
    }
}

fn quarantined(key: String, reason: &'static str, entry: String) -> Sorted {
    Sorted::Quarantined(Quarantined { key, reason, entry })
}

fn is_json(text: &str) -> Result<(), NotJson> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map(|_| ()).map_err(|_| NotJson)
}

/// The `fullUrl` of an entry that is not otherwise readable.
fn read_identity(text: &str, rules: &EntryRules) -> Option<String> {
    let shape: EntryShape<'_> = serde_json::from_str(text).ok()?;
    let url = shape.full_url.and_then(raw_string);
    let url = url.filter(|url| !url.is_empty() && url.len() <= KEY_LENGTH_MAX)?;
    Some(cut_root(&url, rules))
}

fn cut_root(full_url: &str, rules: &EntryRules) -> String {
    full_url.strip_prefix(&rules.fhir_root).filter(|rest| !rest.is_empty()).unwrap_or(full_url).to_owned()
}

fn hash_key(type_name: &str, bytes: &[u8]) -> String {
    format!("{type_name}/#{:032x}", xxh3_128(bytes))
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

/// The patient a resource is about: the first reference to a Patient where its type may hold one.
///
/// The reference is given as received. One that does not say what it points to (`urn:uuid:…`)
/// counts where its own `type` says Patient.
fn find_patient(
    known: &ResourceType,
    resource: &Scanned<'_>,
    id: Option<&str>,
) -> Result<Option<String>, Repeated> {
    if known.name == "Patient" {
        return Ok(id.map(|id| format!("Patient/{id}")));
    }
    for path in &known.patient_paths {
        if let [first, rest @ ..] = path.as_slice()
            && let Some(found) = resource.element(first)?.and_then(|value| patient_under(value, rest))
        {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Follows `path` below a value, through arrays, to the first reference to a Patient.
fn patient_under(value: &str, path: &[&str]) -> Option<String> {
    #[derive(Deserialize)]
    struct Reference {
        reference: Option<String>,
        r#type: Option<String>,
    }
    if value.starts_with('[') {
        let items: Vec<&RawValue> = serde_json::from_str(value).ok()?;
        return items.into_iter().find_map(|item| patient_under(item.get(), path));
    }
    if let [first, rest @ ..] = path {
        let elements: HashMap<String, &RawValue> = serde_json::from_str(value).ok()?;
        return elements.get(*first).and_then(|element| patient_under(element.get(), rest));
    }
    let found: Reference = serde_json::from_str(value).ok()?;
    let reference = found.reference?;
    let names_patient = reference.starts_with("Patient/") || reference.contains("/Patient/");
    (names_patient || found.r#type.as_deref() == Some("Patient")).then_some(reference)
}

fn read_outcome(resource: &RawValue) -> Outcome {
    #[derive(Deserialize)]
    struct Shape {
        #[serde(default)]
        issue: Vec<Issue>,
    }
    #[derive(Deserialize)]
    struct Issue {
        severity: Option<String>,
        code: Option<String>,
    }
    let issues = serde_json::from_str::<Shape>(resource.get()).map(|shape| shape.issue).unwrap_or_default();
    // Both come from closed lists in FHIR; anything else could be text about the patient.
    let word = |word: Option<String>| {
        word.filter(|word| word.len() <= 24 && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
            .unwrap_or_else(|| "?".to_owned())
    };
    let is_error = issues.iter().any(|issue| matches!(issue.severity.as_deref(), Some("error" | "fatal")));
    let issues = issues
        .into_iter()
        .take(8)
        .map(|issue| format!("{}/{}", word(issue.severity), word(issue.code)))
        .collect();
    Outcome { issues, is_error }
}

pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> EntryRules {
        EntryRules { fhir_root: "https://h/FHIR/R4/".to_owned(), entry_bytes_max: 1000, depth_max: 20 }
    }

    fn sorted(text: &str) -> Result<Sorted, NotJson> {
        let bytes = text.as_bytes().to_vec();
        let size = bytes.len() as u64;
        sort_entry(Entry { bytes, size, depth: 3 }, &rules())
    }

    fn row(text: &str) -> Row {
        match sorted(text) {
            Ok(Sorted::Row(row)) => row,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_is_the_full_url_else_the_id_else_the_hash() {
        let check = |text: &str, key: &str| assert_eq!(row(text).key, key);
        let resource = r#""resource":{"resourceType":"Observation","id":"o.1"}"#;
        check(&format!(r#"{{"fullUrl":"https://h/FHIR/R4/Observation/u1",{resource}}}"#), "Observation/u1");
        check(&format!(r#"{{"fullUrl":"urn:uuid:1",{resource}}}"#), "urn:uuid:1");
        check(
            &format!(r#"{{"fullUrl":"https://other/FHIR/R4/Observation/u1",{resource}}}"#),
            "https://other/FHIR/R4/Observation/u1",
        );
        check(&format!("{{{resource}}}"), "Observation/o.1");
        let bare = r#"{"resourceType":"Observation"}"#;
        check(&format!(r#"{{"resource":{bare}}}"#), &hash_key("Observation", bare.as_bytes()));
    }

    #[test]
    fn bytes_in_are_bytes_stored() {
        let resource =
            r#"{"resourceType":"Observation", "valueQuantity" : {"value":1.50},"x":"\u0000 \"  "}"#;
        assert_eq!(row(&format!(r#"{{"resource": {resource} }}"#)).resource, resource);
    }

    #[test]
    fn the_patient_is_the_first_reference_to_one() {
        let check = |resource: &str, patient: Option<&str>| {
            assert_eq!(
                row(&format!(r#"{{"resource":{resource}}}"#)).patient.as_deref(),
                patient,
                "{resource}"
            );
        };
        check(r#"{"resourceType":"Patient","id":"p"}"#, Some("Patient/p"));
        check(r#"{"resourceType":"Observation","subject":{"reference":"Patient/p"}}"#, Some("Patient/p"));
        check(r#"{"resourceType":"Observation","subject":{"reference":"Group/g"}}"#, None);
        check(
            r#"{"resourceType":"Observation","subject":{"reference":"Group/g"},"performer":[{"reference":"Practitioner/x"},{"reference":"Patient/q"}]}"#,
            Some("Patient/q"),
        );
        check(
            r#"{"resourceType":"Coverage","beneficiary":{"reference":"https://h/Patient/p/_history/2"}}"#,
            Some("https://h/Patient/p/_history/2"),
        );
        check(
            r#"{"resourceType":"Appointment","participant":[{"actor":{"reference":"Location/l"}},{"actor":{"reference":"Patient/p"}}]}"#,
            Some("Patient/p"),
        );
        check(
            r#"{"resourceType":"Claim","patient":{"reference":"urn:uuid:1","type":"Patient"}}"#,
            Some("urn:uuid:1"),
        );
        check(r#"{"resourceType":"Claim","patient":"nonsense"}"#, None);
        check(r#"{"resourceType":"Organization","patient":{"reference":"Patient/p"}}"#, None);
    }

    #[test]
    fn what_cannot_be_stored_as_what_it_claims_is_quarantined() {
        let check = |text: &str, reason: &str| match sorted(text) {
            Ok(Sorted::Quarantined(entry)) => {
                assert_eq!((entry.reason, entry.entry.as_str()), (reason, text));
                assert!(!entry.key.is_empty());
            }
            other => panic!("{text}: {other:?}"),
        };
        check(r#"{"resource":{"resourceType":"Nonsense"}}"#, "resourceType is not an R4 type");
        check(r#"{"resource":{"id":"x"}}"#, "no resourceType");
        check(r#"{"resource":{"resourceType":7}}"#, "no resourceType");
        check(r#"{"resource":"text"}"#, "resource is not an object");
        check(r#"{"resource":{"resourceType":"Patient","id":"a","id":"b"}}"#, "resource repeats an element");
        check(r#""text""#, "not an entry");
        check("[1]", "not an entry");
        assert!(matches!(sorted(r#"{"resource":{"resourceType"}}"#), Err(NotJson)));
        assert!(matches!(sorted("{\"resource\":{\"resourceType\":\"Patient\0\"}}"), Err(NotJson)));
        assert!(matches!(sorted(r#"{"fullUrl":"x"}"#), Ok(Sorted::NoResource(_))));
        let broken = Entry {
            bytes: b"{\"fullUrl\":\"urn:x\",\"resource\":{\"resourceType\":\"Patient\",\"id\":\"\xff\"}}"
                .to_vec(),
            size: 60,
            depth: 2,
        };
        assert!(
            matches!(sort_entry(broken, &rules()), Ok(Sorted::Quarantined(entry)) if entry.key == "urn:x")
        );
    }

    #[test]
    fn an_outcome_is_noted_by_severity_and_code_alone() {
        let text = r#"{"search":{"mode":"outcome"},"resource":{"resourceType":"OperationOutcome","issue":[{"severity":"warning","code":"processing","diagnostics":"Anna"},{"severity":"fatal","code":"Anna"}]}}"#;
        match sorted(text) {
            Ok(Sorted::Outcome(outcome)) => {
                assert_eq!(outcome.issues, ["warning/processing", "fatal/?"]);
                assert!(outcome.is_error);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(
            row(r#"{"search":{"mode":"match"},"resource":{"resourceType":"OperationOutcome"}}"#).table,
            "operation_outcome"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_sorted_without_a_panic(bytes in proptest::collection::vec(0u8..=255, 0..200)) {
            let size = bytes.len() as u64;
            let _ = sort_entry(Entry { bytes, size, depth: 1 }, &rules());
        }
    }
}

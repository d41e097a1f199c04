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
mod tests {
    use super::*;

    fn rules() -> EntryRules {
        EntryRules { fhir_root: "https://h/FHIR/R4/".to_owned(), entry_bytes_max: 10_000, depth_max: 20 }
    }

    fn sorted_entry(bytes: &[u8]) -> SortedEntry {
        let entry = Entry { bytes: bytes.to_vec(), size: bytes.len() as u64, depth: 3 };
        sort_entry(entry, &rules())
    }

    fn sorted(text: &str) -> Sorted {
        sorted_entry(text.as_bytes()).sorted
    }

    fn row(text: &str) -> Row {
        match sorted(text) {
            Sorted::Row(row) => row,
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
        check(
            &format!(r#"{{"resource":{bare}}}"#),
            &super::super::quarantine::hash_key("Observation", bare.as_bytes()),
        );
        check(
            &format!(r#"{{"fullUrl":"https://h/FHIR/R4/Observation/u1/_history/7",{resource}}}"#),
            "Observation/u1",
        );
    }

    #[test]
    fn an_identity_is_the_name_the_type_and_the_id() {
        let identity = |name: &str, of: &str, id: &str| {
            let text = format!(r#"{{"fullUrl":"{name}","resource":{{"resourceType":"{of}","id":"{id}"}}}}"#);
            sorted_entry(text.as_bytes()).identity.unwrap()
        };
        let all = [
            identity("Observation/undefined", "Observation", "a"),
            identity("Observation/undefined", "Observation", "b"),
            identity("Observation/undefined", "Condition", "a"),
            identity("Observation/null", "Observation", "a"),
            // Quarantined ones are counted by the same rule.
            identity("Observation/undefined", "Nonsense", "a"),
            identity("Observation/undefined", "Nonsense", "b"),
        ];
        assert_eq!(all.iter().collect::<std::collections::HashSet<_>>().len(), all.len());
        let version = identity("Observation/undefined/_history/2", "Observation", "a");
        assert_eq!(version, all[0]);
    }

    #[test]
    fn only_includes_are_counted_apart() {
        for (mode, is_include) in [("match", false), ("include", true), ("outcome", false), ("", false)] {
            for resource in [r#"{"resourceType":"Patient"}"#, "null", "7"] {
                let text = format!(r#"{{"search":{{"mode":"{mode}"}},"resource":{resource}}}"#);
                assert_eq!(sorted_entry(text.as_bytes()).is_include, is_include, "{text}");
            }
        }
    }

    #[test]
    fn a_name_that_no_engine_could_keep_is_quarantined() {
        let long = "x".repeat(KEY_BYTES_MAX + 1);
        let fits = "x".repeat(KEY_BYTES_MAX);
        let rest = r#""resourceType":"Observation""#;
        let check = |text: &str, reason: &str| match sorted_entry(text.as_bytes()) {
            SortedEntry { sorted: Sorted::Quarantined(entry), identity: Some(_), .. } => {
                assert_eq!((entry.reason, entry.table), (reason, Some("observation")), "{text}");
                assert_eq!(entry.entry, text.as_bytes());
                assert!(!entry.key.contains('\0') && entry.key.len() <= KEY_BYTES_MAX, "{text}");
            }
            other => panic!("{text}: {other:?}"),
        };
        for text in [
            format!(r#"{{"fullUrl":"a\u0000b","resource":{{{rest}}}}}"#),
            format!(r#"{{"fullUrl":"u","resource":{{{rest},"id":"\u0000"}}}}"#),
            format!(r#"{{"resource":{{{rest},"id":"\u0000"}}}}"#),
            format!(r#"{{"resource":{{{rest},"id":"i","meta":{{"source":"\u0000"}}}}}}"#),
            format!(r#"{{"resource":{{{rest},"id":"i","meta":{{"versionId":"1\u0000"}}}}}}"#),
            format!(r#"{{"resource":{{{rest},"id":"i","meta":{{"lastUpdated":"\u0000"}}}}}}"#),
            format!(r#"{{"resource":{{{rest},"subject":{{"reference":"Patient/\u0000"}}}}}}"#),
        ] {
            check(&text, "a name holds U+0000");
        }
        check(&format!(r#"{{"fullUrl":"{long}","resource":{{{rest}}}}}"#), "fullUrl or id too long");
        check(&format!(r#"{{"fullUrl":"u","resource":{{{rest},"id":"{long}"}}}}"#), "fullUrl or id too long");
        check(&format!(r#"{{"resource":{{{rest},"id":"{fits}"}}}}"#), "fullUrl or id too long");
        assert_eq!(row(&format!(r#"{{"fullUrl":"{fits}","resource":{{{rest}}}}}"#)).key, fits);
        // Elsewhere it is a letter like any other.
        row(&format!(r#"{{"resource":{{{rest},"note":"\u0000"}}}}"#));
    }

    #[test]
    fn what_is_no_json_is_named_as_far_as_it_can_be_read() {
        let check = |text: &str, key: Option<&str>, id: Option<&str>| match sorted_entry(text.as_bytes()) {
            SortedEntry { sorted: Sorted::Unreadable(entry), identity: Some(identity), .. } => {
                assert_eq!((entry.id.as_deref(), entry.entry.as_slice()), (id, text.as_bytes()), "{text}");
                assert_eq!(entry.is_named, key.is_some(), "{text}");
                assert!(key.is_none_or(|key| entry.key == key), "{text}: {}", entry.key);
                assert_eq!(identity, entry.identity().hash());
            }
            other => panic!("{text}: {other:?}"),
        };
        let bad = |number: &str| {
            format!(
                r#"{{"fullUrl":"https://h/FHIR/R4/Observation/u","resource":{{"resourceType":"Observation","id":"i","value":{number}}}}}"#
            )
        };
        for number in ["+3.0", ".5", "NaN", "01", "3.", "-", "", "Infinity", "'x'", "\"\t\""] {
            check(&bad(number), Some("Observation/u"), Some("i"));
        }
        check(
            r#"{"resource":{"id":"i","resourceType":"Observation","value":+3}}"#,
            Some("Observation/i"),
            Some("i"),
        );
        check(r#"{"resource":{"resourceType"}}"#, None, None);
        check("+3.0", None, None);
        let readable = bad("3.0");
        assert_eq!(sorted_entry(readable.as_bytes()).identity, sorted_entry(bad("+3.0").as_bytes()).identity);
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
            Sorted::Quarantined(entry) => {
                assert_eq!((entry.reason, entry.entry.as_slice()), (reason, text.as_bytes()));
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
        assert!(matches!(sorted("{\"resource\":{\"resourceType\":\"Patient\0\"}}"), Sorted::Unreadable(_)));
        assert!(matches!(sorted(r#"{"fullUrl":"x"}"#), Sorted::NoResource));
        let broken = b"{\"fullUrl\":\"urn:x\",\"resource\":{\"resourceType\":\"Patient\",\"id\":\"i\",\"x\":\"\xff\"}}";
        match sorted_entry(broken).sorted {
            Sorted::Quarantined(entry) => {
                assert_eq!((entry.key.as_str(), entry.id.as_deref()), ("urn:x", Some("i")));
                assert_eq!(entry.entry, broken, "its bytes, and not what they look like");
            }
            other => panic!("{other:?}"),
        }
    }

    fn outcome(mode: &str, id: &str, issues: &str) -> SortedEntry {
        let search =
            if mode.is_empty() { String::new() } else { format!(r#""search":{{"mode":"{mode}"}},"#) };
        let id = if id.is_empty() { String::new() } else { format!(r#""id":"{id}","#) };
        let text =
            format!(r#"{{{search}"resource":{{{id}"resourceType":"OperationOutcome","issue":[{issues}]}}}}"#);
        sorted_entry(text.as_bytes())
    }

    #[test]
    fn an_outcome_is_about_the_answer_whatever_its_mode() {
        for (mode, id, is_stored) in [
            ("outcome", "o", false),
            ("match", "o", true),
            ("match", "", false),
            ("include", "o", false),
            ("", "o", false),
        ] {
            match outcome(mode, id, r#"{"severity":"warning","code":"incomplete","diagnostics":"Anna"}"#) {
                SortedEntry { sorted: Sorted::Outcome { outcome, row, .. }, identity, .. } => {
                    assert_eq!(outcome.issues, ["warning/incomplete"]);
                    assert!(outcome.is_incomplete && !outcome.is_error);
                    assert_eq!((row.is_some(), identity.is_some()), (is_stored, is_stored), "{mode} {id}");
                }
                other => panic!("{mode}: {other:?}"),
            }
        }
        assert!(matches!(
            sorted(r#"{"search":{"mode":"outcome"},"resource":{"issue":[]}}"#),
            Sorted::Outcome { .. }
        ));
        // A resource does not become an outcome by being called one.
        row(r#"{"search":{"mode":"outcome"},"resource":{"resourceType":"Observation"}}"#);
    }

    #[test]
    fn the_codes_of_an_outcome_say_whether_the_answer_is_the_whole_record() {
        let check = |issues: &str, is_error, is_incomplete| match outcome("", "", issues).sorted {
            Sorted::Outcome { outcome, .. } => {
                assert_eq!((outcome.is_error, outcome.is_incomplete), (is_error, is_incomplete), "{issues}");
            }
            other => panic!("{other:?}"),
        };
        for code in ["incomplete", "timeout", "transient", "throttled", "exception", "no-store", "lock-error"]
        {
            check(&format!(r#"{{"severity":"warning","code":"{code}"}}"#), false, true);
            check(&format!(r#"7,{{"severity":3,"code":"{code}"}}"#), false, true);
        }
        for code in ["informational", "processing", "suppressed", "forbidden"] {
            check(&format!(r#"{{"severity":"information","code":"{code}"}}"#), false, false);
        }
        check(r#"{"severity":"error","code":"processing"}"#, true, false);
        check(r#"{"severity":"fatal"}"#, true, false);
        check("", false, false);
    }

    #[test]
    fn an_outcome_is_noted_by_severity_and_code_alone() {
        let issues = r#"{"severity":"warning","code":"processing","diagnostics":"Anna"},{"severity":"fatal","code":"Anna"}"#;
        match outcome("outcome", "", issues).sorted {
            Sorted::Outcome { outcome, .. } => assert_eq!(outcome.issues, ["warning/processing", "fatal/?"]),
            other => panic!("{other:?}"),
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_sorted_without_a_panic(bytes in proptest::collection::vec(0u8..=255, 0..200)) {
            let size = bytes.len() as u64;
            let _ = sort_entry(Entry { bytes, size, depth: 1 }, &rules());
        }
    }
}

//! Faults of entries: those that a well-behaved server would not send, as bytes.
//!
//! Deliberately absent: the decision where they are put (`page_faults.rs`).

use axum::body::Bytes;

use super::faults::{FaultKind, NamePlace, Unstorable};
use super::page::write_entry;
use super::population::StoredEntry;
use super::text::{object, operation_outcome, quoted};

/// Returns the entry that a kind adds to a page, or `None` for kinds that add none.
pub(super) fn entry(kind: &FaultKind, base: &str) -> Option<Bytes> {
    let full_url = |kind: &str| format!("{base}/FHIR/R4/{kind}/5a9db0c5-0000-4000-8000-000000000001");
    let basic = |resource: &[u8]| {
        let mut bytes = Vec::with_capacity(resource.len() + 200);
        write_entry(&mut bytes, Some(&full_url("Basic")), resource);
        Bytes::from(bytes)
    };
    let entry = match kind {
        FaultKind::DeepNesting { depth } => {
            let (open, close) = ("[".repeat(*depth), "]".repeat(*depth));
            basic(format!(r#"{{"resourceType":"Basic","id":"deep","extension":{open}{close}}}"#).as_bytes())
        }
        FaultKind::InvalidUtf8 => {
            basic(b"{\"resourceType\":\"Basic\",\"id\":\"utf8\",\"code\":{\"text\":\"\xff\xfe\xc3\"}}")
        }
        FaultKind::NulByte => {
            basic(b"{\"resourceType\":\"Basic\",\"id\":\"nul\",\"code\":{\"text\":\"a\0b\"}}")
        }
        FaultKind::EntryWithoutId => {
            basic(br#"{"resourceType":"Basic","code":{"text":"nobody gave it an id"}}"#)
        }
        FaultKind::UnknownTypeEntry => basic(br#"{"resourceType":"Horoscope","id":"leo"}"#),
        FaultKind::BigResource { bytes } => {
            let text = "x".repeat(*bytes);
            basic(format!(r#"{{"resourceType":"Basic","id":"big","code":{{"text":"{text}"}}}}"#).as_bytes())
        }
        FaultKind::EntryNoResource => Bytes::from(object(&[
            ("fullUrl", quoted(&full_url("Basic"))),
            ("search", r#"{"mode":"match"}"#.to_owned()),
        ])),
        FaultKind::EntryNotObject => Bytes::from_static(b"\"not an object\""),
        FaultKind::ErrorOutcomeEntry => outcome("error", "exception", "the record could not be read"),
        FaultKind::WarningOutcomeEntry => outcome("warning", "processing", "a facility writes dates oddly"),
        FaultKind::OutcomeEntry { severity, code, mode, id } => {
            let mut outcome = operation_outcome(severity, code, "a facility did not answer");
            if let Some(id) = id {
                outcome = outcome.replacen('{', &format!(r#"{{"id":{},"#, quoted(id)), 1);
            }
            let mut fields = vec![("resource", outcome)];
            fields.extend(mode.as_ref().map(|mode| ("search", object(&[("mode", quoted(mode))]))));
            Bytes::from(object(&fields))
        }
        FaultKind::NumberNotJson { number } => basic(
            format!(r#"{{"resourceType":"Basic","id":"number","extension":[{{"valueDecimal":{number}}}]}}"#)
                .as_bytes(),
        ),
        FaultKind::HalfSurrogate => {
            basic(br#"{"resourceType":"Basic","id":"half","code":{"text":"cut off \ud83d"}}"#)
        }
        FaultKind::NulInName { place } => nul_in_name(*place, base),
        FaultKind::LongName { bytes } => Bytes::from(object(&[
            ("fullUrl", quoted(&full_url(&"x".repeat(*bytes)))),
            ("resource", r#"{"resourceType":"Basic","id":"long"}"#.to_owned()),
        ])),
        FaultKind::BrokenJson => Bytes::from(format!(
            r#"{{"fullUrl":{},"resource":{{"resourceType":}},"#,
            quoted(&full_url("Basic"))
        )),
        _ => return None,
    };
    Some(entry)
}

fn nul_in_name(place: NamePlace, base: &str) -> Bytes {
    let name = |at, name: &str| if place == at { format!(r#""{name}\u0000""#) } else { quoted(name) };
    let meta = object(&[
        ("versionId", name(NamePlace::VersionId, "1")),
        ("source", name(NamePlace::Source, "urn:source")),
    ]);
    let resource = object(&[
        ("resourceType", quoted("Basic")),
        ("id", name(NamePlace::Id, "nul-in-name")),
        ("meta", meta),
    ]);
    let full_url = name(NamePlace::FullUrl, &format!("{base}/FHIR/R4/Basic/nul-in-name"));
    Bytes::from(object(&[("fullUrl", full_url), ("resource", resource)]))
}

/// Returns what a search brings beside its matches.
pub(super) fn included(number: usize, base: &str) -> Bytes {
    let resource = format!(r#"{{"resourceType":"Practitioner","id":"included-{number}"}}"#);
    Bytes::from(object(&[
        ("fullUrl", quoted(&format!("{base}/FHIR/R4/Practitioner/included-{number}"))),
        ("resource", resource),
        ("search", r#"{"mode":"include"}"#.to_owned()),
    ]))
}

/// Returns a version of an entry that nobody can store.
pub(super) fn unstorable(entry: &StoredEntry, how: Unstorable, base: &str) -> Bytes {
    let text = String::from_utf8_lossy(&entry.resource).into_owned();
    let with = |bytes: &[u8]| {
        let end = text.trim_end().len() - 1;
        [&text.as_bytes()[..end], br#","extension":"#, bytes, b"}"].concat()
    };
    let resource = match how {
        Unstorable::NotUtf8 => with(b"[{\"valueString\":\"\xff\xfe\"}]"),
        Unstorable::NotJson => with(b"[{\"valueDecimal\":.5}]"),
        Unstorable::TooDeep => with(format!("{}{}", "[".repeat(200), "]".repeat(200)).as_bytes()),
        Unstorable::NoType => text.replacen("\"resourceType\"", "\"kind\"", 1).into_bytes(),
    };
    let mut bytes = Vec::new();
    write_entry(&mut bytes, Some(&entry.full_url(base)), &resource);
    Bytes::from(bytes)
}

fn outcome(severity: &str, code: &str, diagnostics: &str) -> Bytes {
    Bytes::from(object(&[
        ("resource", operation_outcome(severity, code, diagnostics)),
        ("search", r#"{"mode":"outcome"}"#.to_owned()),
    ]))
}

const LAST_UPDATED: &str = "\"lastUpdated\":\"";

/// Returns an entry in an older state, at the same address.
///
/// Where the resource says when it was updated, the older one has a time long before.
pub(super) fn older_state(newer: &StoredEntry, base: &str) -> Bytes {
    let text = String::from_utf8_lossy(&newer.resource);
    let dated = text.split_once(LAST_UPDATED).and_then(|(before, after)| {
        let rest = after.split_once('"')?.1;
        Some(format!("{before}{LAST_UPDATED}1999-12-31T00:00:00Z\"{rest}"))
    });
    let marked = dated.unwrap_or_else(|| text.into_owned());
    let marked = marked.replacen('{', r#"{"implicitRules":"http://example.org/as-it-was-before","#, 1);
    let mut bytes = Vec::new();
    write_entry(&mut bytes, Some(&newer.full_url(base)), marked.as_bytes());
    Bytes::from(bytes)
}

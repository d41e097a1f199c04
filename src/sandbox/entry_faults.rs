//! Faults of entries: those that a well-behaved server would not send, as bytes.
//!
//! Deliberately absent: the decision where they are put (`page_faults.rs`).

use axum::body::Bytes;

use super::faults::FaultKind;
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
        FaultKind::WarningOutcomeEntry => outcome("warning", "incomplete", "a facility did not answer"),
        FaultKind::BrokenJson => Bytes::from(format!(
            r#"{{"fullUrl":{},"resource":{{"resourceType":}},"#,
            quoted(&full_url("Basic"))
        )),
        _ => return None,
    };
    Some(entry)
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

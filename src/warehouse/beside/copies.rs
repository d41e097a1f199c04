//! The register of copies: what this program has written elsewhere, of whom, and when.
//!
//! Promise: a copy is in the register before it is made. Absent on purpose: copies that others
//! make, and whether a copy is still there.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::appended;
use super::beside;
use crate::plan::{Timestamp, stamp};
use crate::warehouse::failure::{CopyFailed, StoreFailed};
use crate::warehouse::report::{CopyLine, PatientCopy};

/// One line: a copy has begun, is made, or has failed and was removed.
#[derive(Serialize, Deserialize)]
struct Line {
    time: String,
    copy: String,
    #[serde(rename = "where")]
    place: String,
    /// A patient's id; without it everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    person: Option<String>,
    step: CopyStep,
}

/// How far a copy has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::warehouse) enum CopyStep {
    Begun,
    Made,
    Failed,
}

fn register_of(warehouse: &Path) -> PathBuf {
    beside(warehouse, ".copies")
}

/// Notes a step of a copy. `Ok` means that it is on the disk.
fn note(register: &Path, copy: &PatientCopy<'_>, step: CopyStep, now: Timestamp) -> Result<(), CopyFailed> {
    let failed = |why: String| CopyFailed::NotNoted { path: register.to_owned(), why };
    let place = std::path::absolute(copy.place).map_err(|error| failed(error.to_string()))?;
    let line = Line {
        time: stamp(now),
        copy: copy.kind.as_str().to_owned(),
        place: place.to_string_lossy().into_owned(),
        person: copy.person.map(ToString::to_string),
        step,
    };
    let text = serde_json::to_string(&line).map_err(|error| failed(error.to_string()))?;
    appended::append_or_create(register, &format!("{text}\n")).map_err(|error| failed(error.to_string()))
}

/// Notes a step of a copy of a warehouse whose own files are named after `warehouse`.
pub(in crate::warehouse) fn note_copy(
    warehouse: &Path,
    copy: &PatientCopy<'_>,
    step: CopyStep,
    now: Timestamp,
) -> Result<(), CopyFailed> {
    note(&register_of(warehouse), copy, step, now)
}

/// Returns every copy that was made, or may have been. A line that cannot be read is left out.
fn list(register: &Path) -> std::io::Result<Vec<CopyLine>> {
    let bytes = appended::read(register)?.unwrap_or_default();
    Ok(copies_in(&bytes))
}

fn copies_in(bytes: &[u8]) -> Vec<CopyLine> {
    let mut copies: Vec<CopyLine> = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(Line { time, copy, place, person, step }) = serde_json::from_slice(line) else { continue };
        if step == CopyStep::Begun {
            copies.push(CopyLine { begun_at: time, made_at: None, kind: copy, place, person_id: person });
            continue;
        }
        let is_it = |one: &CopyLine| one.made_at.is_none() && one.kind == copy && one.place == place;
        let Some(at) = copies.iter().rposition(is_it) else { continue };
        if step == CopyStep::Made {
            copies[at].made_at = Some(time);
        } else {
            copies.remove(at);
        }
    }
    copies
}

/// While a patient had rows.
#[derive(Clone, Copy, Debug)]
pub(in crate::warehouse) struct Presence<'p> {
    pub(in crate::warehouse) person: &'p str,
    /// `None` is not known: it may be always.
    pub(in crate::warehouse) first_row_at: Option<&'p str>,
    /// `None` is up to now.
    pub(in crate::warehouse) purged_at: Option<&'p str>,
}

/// Returns the copies of a warehouse whose own files are named after `warehouse` that may hold rows of a patient.
pub(in crate::warehouse) fn copies_with(
    warehouse: &Path,
    presence: Presence<'_>,
) -> Result<Vec<CopyLine>, StoreFailed> {
    let register = register_of(warehouse);
    let unreadable = |error| StoreFailed::Engine(format!("{}: {error}", register.display()));
    let mut copies = list(&register).map_err(unreadable)?;
    copies.retain(|copy| may_hold(copy, presence));
    Ok(copies)
}

/// Returns whether a copy may hold rows of a patient.
fn may_hold(copy: &CopyLine, presence: Presence<'_>) -> bool {
    let is_of = copy.person_id.as_deref().is_none_or(|person| person == presence.person);
    let ends_before = match (&copy.made_at, presence.first_row_at) {
        (Some(made), Some(first)) => made.as_str() < first,
        _ => false,
    };
    let begins_after = presence.purged_at.is_some_and(|purged| copy.begun_at.as_str() > purged);
    is_of && !ends_before && !begins_after
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(time: &str, step: &str, rest: &str) -> String {
        format!(r#"{{"time":"{time}","copy":"backup","where":"/b","step":"{step}"{rest}}}"#)
    }

    #[test]
    fn what_failed_is_no_copy_and_what_did_not_end_may_be_one() {
        let text = [
            line("2026-01-01T00:00:00Z", "begun", ""),
            line("2026-01-01T00:00:01Z", "failed", ""),
            line("2026-01-02T00:00:00Z", "begun", ""),
            "half a li".to_owned(),
            line("2026-01-03T00:00:00Z", "begun", r#","person":"anna""#),
            line("2026-01-03T00:00:09Z", "made", r#","person":"anna""#),
        ];
        let found = copies_in(text.join("\n").as_bytes());
        let told: Vec<_> =
            found.iter().map(|copy| (copy.begun_at.as_str(), copy.made_at.as_deref())).collect();
        let third = ("2026-01-03T00:00:00Z", Some("2026-01-03T00:00:09Z"));
        assert_eq!(told, [("2026-01-02T00:00:00Z", None), third]);
        assert_eq!(found[1].person_id.as_deref(), Some("anna"));
    }

    #[test]
    fn a_copy_holds_whoever_had_rows_while_it_was_made() {
        let check = |begun: &str, made: Option<&str>, of: Option<&str>, holds: bool| {
            let copy = CopyLine {
                begun_at: begun.to_owned(),
                made_at: made.map(str::to_owned),
                kind: "backup".to_owned(),
                place: "/b".to_owned(),
                person_id: of.map(str::to_owned),
            };
            let presence = Presence { person: "anna", first_row_at: Some("3"), purged_at: Some("6") };
            assert_eq!(may_hold(&copy, presence), holds, "{copy:?}");
        };
        check("4", Some("5"), None, true);
        check("4", Some("5"), Some("anna"), true);
        check("4", Some("5"), Some("ben"), false);
        // Begun before the first row or ended after the purge, it may have read in between.
        check("2", Some("3"), None, true);
        check("6", Some("7"), None, true);
        check("1", Some("2"), None, false);
        check("7", Some("8"), None, false);
        check("1", None, None, true);
        check("7", None, None, false);
        let always = Presence { person: "anna", first_row_at: None, purged_at: None };
        let copy = copies_in(line("2026-01-02T00:00:00Z", "begun", "").as_bytes()).remove(0);
        assert!(may_hold(&copy, always));
    }
}

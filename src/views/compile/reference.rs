//! The key of a reference, as `getReferenceKey()` gives it: the id of what it points at.
//!
//! `Patient/1`, `https://x/fhir/Patient/1` and `Patient/1/_history/2` give `1`;
//! `urn:uuid:…` gives the UUID, whose type nothing says unless `Reference.type` does.
//!
//! Absent on purpose: contained (`#a`) and conditional references (`Patient?identifier=…`).
//! They name no row and give NULL.

use super::node::{Item, Place, quoted};
use crate::views::elements::Kind;

/// SQL of the key of the Reference at `place`, NULL if it points at another type than `wanted`.
pub(super) fn key(place: &Place, wanted: Option<&str>) -> Result<String, String> {
    let reference = Item::Node(place.step("reference"), Kind::String).value()?;
    let stated = Item::Node(place.step("type"), Kind::String).value()?;
    let key = match wanted {
        None => key_of_written("('/' || folder) GLOB '*/[A-Z]*/'", "1"),
        Some(name) => {
            let (folder, length) = (quoted(&format!("/{name}/")), name.len() + 2);
            let any = key_of_written(
                &format!("substr('/' || folder, -{length}) = {folder}"),
                &format!("COALESCE({stated}, {0}) = {0}", quoted(name)),
            );
            // Nearly all references are told at sight; taking one apart costs twenty times that.
            let behind = format!("substr(written, instr(written, {folder}) + {length})");
            format!(
                "CASE WHEN written GLOB '{name}/?*' AND written NOT GLOB '{name}/*[/?#|]*' \
                 THEN substr(written, {length}) \
                 WHEN written GLOB '*/{name}/?*' AND written NOT GLOB '*[?#|]*' AND {behind} NOT GLOB '*/*' \
                 THEN {behind} ELSE {any} END"
            )
        }
    };
    Ok(format!("(SELECT {key} FROM (SELECT {reference} AS written))"))
}

/// `folder`, in the condition `typed`, is everything up to and including the last slash.
fn key_of_written(typed: &str, uuid: &str) -> String {
    format!(
        "(SELECT CASE WHEN whole GLOB 'urn:uuid:?*' THEN CASE WHEN {uuid} THEN substr(whole, 10) END \
         WHEN whole GLOB '*[?#|]*' OR whole = folder THEN NULL \
         WHEN {typed} THEN substr(whole, length(folder) + 1) END \
         FROM (SELECT whole, rtrim(whole, replace(whole, '/', '')) AS folder \
         FROM (SELECT CASE instr(written, '/_history/') WHEN 0 THEN written \
         ELSE substr(written, 1, instr(written, '/_history/') - 1) END AS whole)))"
    )
}

//! The key of a reference, as `getReferenceKey()` gives it: the id of what it points at.
//!
//! `Patient/1`, `https://x/fhir/Patient/1` and `Patient/1/_history/2` give `1`;
//! `urn:uuid:…` gives the UUID, whose type nothing says unless `Reference.type` does.
//!
//! Absent on purpose: contained (`#a`) and conditional references (`Patient?identifier=…`).
//! They name no row and give nothing.

use std::borrow::Cow;

use super::Evaluator;
use crate::views::elements::Kind;
use crate::views::item::{Item, Place};
use crate::views::tape::{At, Json};

const UUID: &str = "urn:uuid:";

impl<'d> Evaluator<'d> {
    /// The key of a Reference, `None` if it points at another type than `wanted`.
    pub(super) fn reference_key(&self, item: &Item<'d>, wanted: Option<&str>) -> Option<Cow<'d, str>> {
        let Item::Node(Place { at: Some(at), kind: Kind::Complex("Reference"), .. }) = item else {
            return None;
        };
        let written = self.text_member(*at, "reference")?;
        let stated = || self.text_member(*at, "type");
        match written {
            Cow::Borrowed(written) => key(written, wanted, stated).map(Cow::Borrowed),
            Cow::Owned(written) => key(&written, wanted, stated).map(|key| key.to_owned().into()),
        }
    }

    pub(super) fn text_member(&self, owner: At, name: &str) -> Option<Cow<'d, str>> {
        let found = self.tape.member(owner, name).filter(|at| self.tape.json(*at) == Json::Text)?;
        Some(self.tape.text(found))
    }
}

fn key<'w, 'd>(
    written: &'w str,
    wanted: Option<&str>,
    stated: impl Fn() -> Option<Cow<'d, str>>,
) -> Option<&'w str> {
    if let Some(name) = wanted
        && let Some(key) = plain_key(written, name)
    {
        return Some(key);
    }
    let whole = written.split_once("/_history/").map_or(written, |(whole, _)| whole);
    if let Some(uuid) = whole.strip_prefix(UUID).filter(|uuid| !uuid.is_empty()) {
        let is_wanted = wanted.is_none_or(|name| stated().is_none_or(|stated| stated == name));
        return is_wanted.then_some(uuid);
    }
    if whole.contains(['?', '#', '|']) {
        return None;
    }
    let (folder, id) = whole.rsplit_once('/').filter(|(_, id)| !id.is_empty())?;
    let is_wanted = match wanted {
        Some(name) => folder.rsplit('/').next() == Some(name),
        // Somewhere before the id stands what may be a type.
        None => folder.split('/').any(|part| part.starts_with(|first: char| first.is_ascii_uppercase())),
    };
    is_wanted.then_some(id)
}

/// `Type/id`, whatever is before it: nearly all references are this.
fn plain_key<'w>(written: &'w str, name: &str) -> Option<&'w str> {
    let relative = written.strip_prefix(name).and_then(|rest| rest.strip_prefix('/'));
    relative.filter(|id| !id.is_empty() && !id.contains(['/', '?', '#', '|']))
}

//! The codings of a resource of any type, wherever they stand: what `codings` holds.
//!
//! Promise: one row for each Coding, alone or in a `CodeableConcept`, that has a system, a code or a
//! display; none of a resource that was entered in error. Absent on purpose: a ViewDefinition, which
//! is over one type.

use std::borrow::Cow;
use std::ops::ControlFlow;

use super::cell::Cell;
use super::elements;
use super::elements::Kind;
use super::rows::{NotEvaluated, ROWS_MAX, TOO_MANY_ROWS};
use super::tape::{At, Json, Tape};

/// Elements below elements that are looked at.
const DEPTH_MAX: usize = 100;

/// Hands on the rows of the resource on the tape.
pub(super) fn rows<'d>(
    tape: &'d Tape<'d>,
    take: &mut dyn FnMut(&[Cell<'_>]) -> ControlFlow<()>,
) -> Result<(), NotEvaluated> {
    let root = tape.root();
    let Some(resource_type) = type_of(tape, root) else { return Ok(()) };
    if is_retracted(tape, root) {
        return Ok(());
    }
    let source = tape.member(root, "meta").and_then(|meta| text(tape, meta, "source"));
    let mut walk = Walk { tape, resource_type, source, path: String::new(), depth: 0, rows: 0, take };
    match walk.members(root, resource_type) {
        ControlFlow::Break(()) if ROWS_MAX < walk.rows => {
            Err(NotEvaluated::of("codings", resource_type, tape, TOO_MANY_ROWS))
        }
        _ => Ok(()),
    }
}

fn type_of(tape: &Tape<'_>, at: At) -> Option<&'static str> {
    elements::resource_type(&text(tape, at, "resourceType")?)
}

fn text<'d>(tape: &Tape<'d>, owner: At, name: &str) -> Option<Cow<'d, str>> {
    let found = tape.member(owner, name).filter(|at| tape.json(*at) == Json::Text)?;
    Some(tape.text(found))
}

/// Returns whether the resource says that it was entered in error.
fn is_retracted(tape: &Tape<'_>, root: At) -> bool {
    const RETRACTED: &str = "entered-in-error";
    let says = |name: &str| text(tape, root, name).is_some_and(|status| status == RETRACTED);
    let codings = tape.member(root, "verificationStatus").and_then(|status| tape.member(status, "coding"));
    let codes = || codings.into_iter().flat_map(|codings| tape.elements(codings));
    ["status", "docStatus", "lifecycleStatus"].into_iter().any(says)
        || codes().any(|coding| text(tape, coding, "code").is_some_and(|code| code == RETRACTED))
}

struct Walk<'d, 't> {
    tape: &'d Tape<'d>,
    resource_type: &'static str,
    source: Option<Cow<'d, str>>,
    /// The names that lead to where the walk is, dots between them.
    path: String,
    depth: usize,
    rows: usize,
    take: &'t mut dyn FnMut(&[Cell<'_>]) -> ControlFlow<()>,
}

impl Walk<'_, '_> {
    /// Looks through the elements of something of a type.
    fn members(&mut self, owner: At, type_name: &str) -> ControlFlow<()> {
        if DEPTH_MAX <= self.depth {
            return ControlFlow::Continue(());
        }
        self.depth += 1;
        let tape = self.tape;
        for (name, found) in tape.members(owner) {
            if !matches!(tape.json(found), Json::Object | Json::Array) {
                continue;
            }
            let Some(element) = elements::element(type_name, &name) else { continue };
            let Kind::Complex(kind) = element.kind else { continue };
            let before = self.path.len();
            if before > 0 {
                self.path.push('.');
            }
            self.path.push_str(&name);
            if element.repeats {
                tape.elements(found).try_for_each(|at| self.element(at, kind))?;
            } else {
                self.element(found, kind)?;
            }
            self.path.truncate(before);
        }
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn element(&mut self, at: At, kind: &'static str) -> ControlFlow<()> {
        match kind {
            "CodeableConcept" => {
                let around = text(self.tape, at, "text");
                if let Some(codings) = self.tape.member(at, "coding") {
                    let tape = self.tape;
                    tape.elements(codings).try_for_each(|coding| self.coding(coding, around.as_deref()))?;
                }
                ControlFlow::Continue(())
            }
            "Coding" => self.coding(at, None),
            "Resource" => match type_of(self.tape, at) {
                Some(resource_type) => self.members(at, resource_type),
                None => ControlFlow::Continue(()),
            },
            kind => self.members(at, kind),
        }
    }

    fn coding(&mut self, at: At, around: Option<&str>) -> ControlFlow<()> {
        let said = |name: &str| text(self.tape, at, name).map_or(Cell::Null, Cell::Text);
        let [system, code, display] = ["system", "code", "display"].map(said);
        if [&system, &code, &display].into_iter().all(|cell| *cell == Cell::Null) {
            return ControlFlow::Continue(());
        }
        self.rows += 1;
        if ROWS_MAX < self.rows {
            return ControlFlow::Break(());
        }
        let selected = self.tape.member(at, "userSelected").map(|at| self.tape.json(at));
        let user_selected = match selected {
            Some(Json::True) => Cell::Boolean(true),
            Some(Json::False) => Cell::Boolean(false),
            _ => Cell::Null,
        };
        (self.take)(&[
            Cell::Text(self.resource_type.into()),
            Cell::Text(self.path.as_str().into()),
            system,
            code,
            display,
            user_selected,
            around.map_or(Cell::Null, |text| Cell::Text(text.into())),
            self.source.as_deref().map_or(Cell::Null, |source| Cell::Text(source.into())),
        ])
    }
}

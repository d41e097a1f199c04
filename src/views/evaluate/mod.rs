//! A program over one resource: what an expression gives, element by element.
//!
//! Promise: it never fails and never panics, whatever the resource holds. A value of another
//! JSON type than its element's is not there. Elements are handed on as they are found, so
//! `first()` and `exists()` stop at the first.
//!
//! Absent on purpose: any look at another resource, a clock, and errors. What goes beyond a limit
//! ends the evaluation, and [`Evaluator::is_exhausted`] tells.

mod ancestors;
mod arithmetic;
mod collections;
mod compare;
mod functions;
mod reference;
mod steps;

use std::cell::Cell;
use std::ops::ControlFlow;

use super::elements::Kind;
use super::item::{Item, Place};
use super::program::{Logic, MatchOf, Node, Pattern, TypeTest};
use super::tape::Tape;
use super::{build, elements};
use crate::plan::Timestamp;

/// Steps that one resource may cost a view. A large one of a megabyte costs some ten thousand.
const STEPS_MAX: u64 = 50_000_000;

/// Longest text that an expression may put together.
const TEXT_BYTES_MAX: usize = 64 << 20;

/// Whether to go on.
type Flow = ControlFlow<()>;

/// Takes what an expression gives.
type Sink<'s, 'd> = &'s mut dyn FnMut(Item<'d>) -> Flow;

/// What an expression is evaluated on.
#[derive(Clone, Debug)]
pub(super) struct Focus<'d> {
    /// `None` where a `forEachOrNull` found nothing.
    pub(super) this: Option<Item<'d>>,
    pub(super) row_index: usize,
}

impl<'d> Focus<'d> {
    fn on(&self, item: Item<'d>) -> Self {
        Self { this: Some(item), row_index: self.row_index }
    }
}

pub(super) struct Evaluator<'d> {
    pub(super) tape: &'d Tape<'d>,
    resource_type: &'static str,
    now: Timestamp,
    /// Looks for the second of several values where one is wanted.
    is_strict: bool,
    met_several: Cell<bool>,
    steps_left: Cell<u64>,
    /// The place in its array of the element handed on last.
    position: Cell<usize>,
}

impl<'d> Evaluator<'d> {
    pub(super) fn new(
        tape: &'d Tape<'d>,
        resource_type: &'static str,
        now: Timestamp,
        is_strict: bool,
    ) -> Self {
        Self {
            tape,
            resource_type,
            now,
            is_strict,
            met_several: Cell::new(false),
            steps_left: Cell::new(STEPS_MAX),
            position: Cell::new(0),
        }
    }

    pub(super) fn root(&self) -> Item<'d> {
        Item::node(self.tape.root(), Kind::Complex(self.resource_type))
    }

    pub(super) fn position(&self) -> usize {
        self.position.get()
    }

    /// Returns whether several values were met where one is wanted, once.
    pub(super) fn take_met_several(&self) -> bool {
        self.met_several.take()
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.steps_left.get() == 0
    }

    fn spend(&self, steps: u64) -> Flow {
        let left = self.steps_left.get().saturating_sub(steps);
        self.steps_left.set(left);
        if left == 0 { Flow::Break(()) } else { Flow::Continue(()) }
    }

    /// Hands on what an expression gives.
    pub(super) fn each(&self, node: &'d Node, focus: &Focus<'d>, sink: Sink<'_, 'd>) -> Flow {
        self.spend(1)?;
        match node {
            Node::Empty => Flow::Continue(()),
            Node::Literal(item) => sink(borrowed(item)),
            Node::This => focus.this.clone().map_or(Flow::Continue(()), sink),
            Node::Resource => sink(self.root()),
            Node::RowIndex => sink(Item::integer(i64::try_from(focus.row_index).unwrap_or(i64::MAX))),
            Node::Step(step) => match (&step.base, &focus.this) {
                (Node::This, Some(this)) => self.step(step, this, sink),
                (base, _) => self.each(base, focus, &mut |item| self.step(step, &item, sink)),
            },
            Node::OneOf(base, choice) => self.each(base, focus, &mut |item| self.one_of(choice, &item, sink)),
            Node::AnyStep(base, name) => self.each(base, focus, &mut |item| self.any_step(name, &item, sink)),
            Node::Extension(base, url) => {
                let Some(url) = self.text(url, focus) else { return Flow::Continue(()) };
                self.each(base, focus, &mut |item| {
                    if self.has_url(&item, &url) { sink(item) } else { Flow::Continue(()) }
                })
            }
            Node::Where(base, criterion) => self.each(base, focus, &mut |item| {
                let inner = focus.on(item.clone());
                if self.truth(criterion, &inner) == Some(true) { sink(item) } else { Flow::Continue(()) }
            }),
            Node::Select(base, projection) => {
                self.each(base, focus, &mut |item| self.each(projection, &focus.on(item), sink))
            }
            Node::Repeat(base, projection) => self.repeat(base, projection, focus, sink),
            Node::OfType(base, test) => self.each(base, focus, &mut |item| {
                if is_of(&item, test) { sink(item) } else { Flow::Continue(()) }
            }),
            Node::ResourceKey(base) => self.each(base, focus, &mut |item| self.any_step("id", &item, sink)),
            Node::ReferenceKey(base, wanted) => {
                self.each(base, focus, &mut |item| match self.reference_key(&item, *wanted) {
                    Some(key) => sink(Item::text(key)),
                    None => Flow::Continue(()),
                })
            }
            Node::Call(function, base, arguments) => self.call(*function, base, arguments, focus, sink),
            Node::Iif(condition, then, otherwise) => {
                let chosen = if self.condition(condition, focus) == Some(true) { then } else { otherwise };
                self.each(chosen, focus, sink)
            }
            one => self.value(one, focus).map_or(Flow::Continue(()), sink),
        }
    }

    /// Returns what gives one value or none.
    fn value(&self, node: &'d Node, focus: &Focus<'d>) -> Option<Item<'d>> {
        let boolean = match node {
            Node::All(base, criterion) => {
                let mut holds = true;
                let _ = self.each(base, focus, &mut |item| {
                    holds = self.truth(criterion, &focus.on(item)) == Some(true);
                    if holds { Flow::Continue(()) } else { Flow::Break(()) }
                });
                Some(holds)
            }
            Node::Is(base, test) => self.single(base, focus).map(|item| is_of(&item, test)),
            Node::Logic(logic, left, right) => self.logic(*logic, left, right, focus),
            Node::Compare(comparison, left, right) => self.compare(*comparison, left, right, focus),
            Node::Member { element, of } => self.is_member(element, of, focus),
            Node::Matches(base, pattern, whole) => self.matches(base, pattern, *whole, focus),
            Node::ReplaceMatches(base, pattern, with) => {
                return self.replace_matches(base, pattern, with, focus);
            }
            Node::Arithmetic(arithmetic, left, right) => {
                return self.arithmetic(*arithmetic, left, right, focus);
            }
            Node::Negative(operand) => {
                let item = self.single(operand, focus)?;
                return Some(Item::Number(item.as_number(self.tape)?.negative(), item.kind()));
            }
            _ => None,
        };
        boolean.map(Item::Boolean)
    }

    /// Returns the first of what an expression gives.
    pub(super) fn first(&self, node: &'d Node, focus: &Focus<'d>) -> Option<Item<'d>> {
        let mut found = None;
        let _ = self.each(node, focus, &mut |item| {
            found = Some(item);
            Flow::Break(())
        });
        found
    }

    /// Returns the one value of an operand: of several the first, which is remembered if strict.
    pub(super) fn single(&self, node: &'d Node, focus: &Focus<'d>) -> Option<Item<'d>> {
        if !self.is_strict {
            return self.first(node, focus);
        }
        let (found, has_more) = self.first_and_more(node, focus);
        self.met_several.set(self.met_several.get() || has_more);
        found
    }

    /// Returns the first value, and whether there are others.
    pub(super) fn first_and_more(&self, node: &'d Node, focus: &Focus<'d>) -> (Option<Item<'d>>, bool) {
        let (mut found, mut has_more) = (None, false);
        let _ = self.each(node, focus, &mut |item| {
            has_more = found.is_some();
            if has_more {
                return Flow::Break(());
            }
            found = Some(item);
            Flow::Continue(())
        });
        (found, has_more)
    }

    pub(super) fn exists(&self, node: &'d Node, focus: &Focus<'d>) -> bool {
        let mut found = false;
        let _ = self.each(node, focus, &mut |_| {
            found = true;
            Flow::Break(())
        });
        found
    }

    fn all_of(&self, node: &'d Node, focus: &Focus<'d>) -> Vec<Item<'d>> {
        let mut items = Vec::new();
        let _ = self.each(node, focus, &mut |item| {
            items.push(item);
            Flow::Continue(())
        });
        items
    }

    fn text(&self, node: &'d Node, focus: &Focus<'d>) -> Option<std::borrow::Cow<'d, str>> {
        self.single(node, focus)?.as_text(self.tape)
    }

    /// Returns a criterion: a boolean and nothing else.
    pub(super) fn truth(&self, node: &'d Node, focus: &Focus<'d>) -> Option<bool> {
        self.single(node, focus)?.as_boolean(self.tape)
    }

    /// Returns a condition; a single element that is no boolean counts as true.
    fn condition(&self, node: &'d Node, focus: &Focus<'d>) -> Option<bool> {
        let item = self.single(node, focus)?;
        Some(item.kind() != Kind::Boolean || item.as_boolean(self.tape)?)
    }

    /// Three-valued, as FHIRPath's is.
    fn logic(&self, logic: Logic, left: &'d Node, right: &'d Node, focus: &Focus<'d>) -> Option<bool> {
        let left = self.condition(left, focus);
        match (logic, left) {
            (Logic::And, Some(false)) => return Some(false),
            (Logic::Or, Some(true)) => return Some(true),
            (Logic::Implies, Some(false)) => return Some(true),
            _ => {}
        }
        let right = self.condition(right, focus);
        match (logic, left, right) {
            (Logic::And, _, Some(false)) => Some(false),
            (Logic::And, Some(true), right) => right,
            (Logic::Or, _, Some(true)) => Some(true),
            (Logic::Or, Some(false), right) => right,
            (Logic::Implies, _, Some(true)) => Some(true),
            (Logic::Implies, Some(true), right) => right,
            (Logic::Xor, Some(left), Some(right)) => Some(left != right),
            _ => None,
        }
    }

    fn matches(
        &self,
        base: &'d Node,
        pattern: &'d Pattern,
        whole: MatchOf,
        focus: &Focus<'d>,
    ) -> Option<bool> {
        let text = self.text(base, focus)?;
        match pattern {
            Pattern::Fixed(regex) => Some(regex.is_match(&text)),
            Pattern::Worked(node) => Some(build::regex_of(&self.text(node, focus)?, whole)?.is_match(&text)),
        }
    }

    fn replace_matches(
        &self,
        base: &'d Node,
        pattern: &'d Pattern,
        with: &'d Node,
        focus: &Focus<'d>,
    ) -> Option<Item<'d>> {
        let (text, with) = (self.text(base, focus)?, self.text(with, focus)?);
        let worked;
        let regex = match pattern {
            Pattern::Fixed(regex) => regex,
            Pattern::Worked(node) => {
                worked = build::regex_of(&self.text(node, focus)?, MatchOf::Part)?;
                &worked
            }
        };
        // At worst every group stands for the whole text.
        let groups = with.matches('$').count() + 1;
        let longest = regex.find_iter(&text).count().checked_mul(with.len())?;
        let longest = longest.checked_add(text.len().checked_mul(groups)?)?;
        if TEXT_BYTES_MAX < longest {
            return None;
        }
        Some(Item::text(regex.replace_all(&text, with.as_ref()).into_owned()))
    }
}

fn borrowed<'d>(item: &'d Item<'static>) -> Item<'d> {
    match item {
        Item::Text(text, kind) => Item::Text(std::borrow::Cow::Borrowed(text), *kind),
        Item::Node(Place { at, kind, companion }) => {
            Item::Node(Place { at: *at, kind: *kind, companion: *companion })
        }
        Item::Boolean(value) => Item::Boolean(*value),
        Item::Number(number, kind) => Item::Number(*number, *kind),
    }
}

fn is_of(item: &Item<'_>, test: &TypeTest) -> bool {
    match (test, item.kind()) {
        (TypeTest::Kind(wanted), kind) => *wanted == kind,
        (TypeTest::Resource(wanted), Kind::Complex(name)) => *wanted == name,
        (TypeTest::AnyResource, Kind::Complex(name)) => elements::is_resource(name),
        _ => false,
    }
}

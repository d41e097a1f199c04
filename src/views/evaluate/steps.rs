//! From an element to the elements below it.

use std::collections::HashSet;

use super::{Evaluator, Flow, Focus, Sink};
use crate::views::elements;
use crate::views::elements::{Element, Kind};
use crate::views::item::{Item, Place, fits};
use crate::views::program::{Choice, Node, Step};
use crate::views::tape::{At, Json};

const EXTENSION: Element = Element::plain("extension", Kind::Complex("Extension"), true);
const ID: Element = Element::plain("id", Kind::String, false);
const RESOURCE_TYPE: Element = Element::plain("resourceType", Kind::String, false);

impl<'d> Evaluator<'d> {
    pub(super) fn step(&self, step: &Step, item: &Item<'d>, sink: Sink<'_, 'd>) -> Flow {
        let Item::Node(Place { at: Some(owner), .. }) = item else { return Flow::Continue(()) };
        if step.with_companion {
            return self.with_companions(*owner, &step.element, sink);
        }
        let Some(found) = self.tape.member(*owner, step.element.name) else { return Flow::Continue(()) };
        match step.only {
            Some(position) => {
                let found =
                    self.array(found).nth(position).filter(|at| fits(self.tape, *at, step.element.kind));
                found.map_or(Flow::Continue(()), |at| sink(self.node(at, step.element.kind)))
            }
            None => self.elements(found, &step.element, sink),
        }
    }

    fn array(&self, at: At) -> impl Iterator<Item = At> {
        self.tape.elements(at)
    }

    /// Hands on an element's value, or each of its values that are of its kind.
    fn elements(&self, found: At, element: &Element, sink: Sink<'_, 'd>) -> Flow {
        if !element.repeats {
            self.position.set(0);
            let is_fit = fits(self.tape, found, element.kind);
            return if is_fit { sink(self.node(found, element.kind)) } else { Flow::Continue(()) };
        }
        for (position, at) in self.array(found).enumerate() {
            if fits(self.tape, at, element.kind) {
                self.position.set(position);
                sink(self.node(at, element.kind))?;
            }
        }
        Flow::Continue(())
    }

    /// What is contained is of the type that it says itself.
    pub(super) fn node(&self, at: At, kind: Kind) -> Item<'d> {
        if !matches!(kind, Kind::Complex("Resource")) {
            return Item::node(at, kind);
        }
        let written = self.tape.member(at, "resourceType").filter(|at| self.tape.json(*at) == Json::Text);
        let known = written.and_then(|at| elements::resource_type(&self.tape.text(at)));
        Item::node(at, known.map_or(kind, Kind::Complex))
    }

    /// A primitive with the `_name` beside it, or what is there of both.
    fn with_companions(&self, owner: At, element: &Element, sink: Sink<'_, 'd>) -> Flow {
        let kind = element.kind;
        let value = self.tape.member(owner, element.name);
        let beside = self.tape.member(owner, &format!("_{}", element.name));
        let mut hand_on = |at: Option<At>, companion: Option<At>| {
            let at = at.filter(|at| fits(self.tape, *at, kind));
            let companion = companion.filter(|at| self.tape.json(*at) == Json::Object);
            if at.is_none() && companion.is_none() {
                return Flow::Continue(());
            }
            sink(Item::Node(Place { at, kind, companion }))
        };
        if !element.repeats {
            return hand_on(value, beside);
        }
        let array = |at: Option<At>| at.into_iter().flat_map(|at| self.array(at));
        let (mut values, mut companions) = (array(value), array(beside));
        for position in 0.. {
            let (value, companion) = (values.next(), companions.next());
            if value.is_none() && companion.is_none() {
                break;
            }
            self.position.set(position);
            hand_on(value, companion)?;
        }
        Flow::Continue(())
    }

    fn element(&self, owner: At, element: &Element, sink: Sink<'_, 'd>) -> Flow {
        if !matches!(element.kind, Kind::Complex(_)) {
            return self.with_companions(owner, element, sink);
        }
        self.tape
            .member(owner, element.name)
            .map_or(Flow::Continue(()), |found| self.elements(found, element, sink))
    }

    /// An element by its name alone, of whatever the item is.
    pub(super) fn any_step(&self, name: &str, item: &Item<'d>, sink: Sink<'_, 'd>) -> Flow {
        match item {
            Item::Node(Place { at: Some(owner), kind: Kind::Complex(type_name), .. }) => {
                if name == RESOURCE_TYPE.name && elements::is_resource(type_name) {
                    return self.element(*owner, &RESOURCE_TYPE, sink);
                }
                if let Some(element) = elements::element(type_name, name) {
                    return self.element(*owner, &element, sink);
                }
                for element in elements::choice(type_name, name) {
                    self.element(*owner, &element, sink)?;
                }
                Flow::Continue(())
            }
            Item::Node(Place { companion: Some(companion), .. }) if name == EXTENSION.name => {
                self.element(*companion, &EXTENSION, sink)
            }
            Item::Node(Place { companion: Some(companion), .. }) if name == ID.name => {
                self.element(*companion, &ID, sink)
            }
            _ => Flow::Continue(()),
        }
    }

    /// Whichever of a choice is there.
    pub(super) fn one_of(&self, choice: &Choice, item: &Item<'d>, sink: Sink<'_, 'd>) -> Flow {
        let Item::Node(Place { at: Some(owner), .. }) = item else { return Flow::Continue(()) };
        for (name, at) in self.tape.members(*owner) {
            if !name.starts_with(&choice.name) {
                continue;
            }
            if let Some(element) = choice.elements.iter().find(|element| element.name == name) {
                self.elements(at, element, sink)?;
            }
        }
        Flow::Continue(())
    }

    pub(super) fn has_url(&self, extension: &Item<'d>, url: &str) -> bool {
        let Item::Node(Place { at: Some(at), .. }) = extension else { return false };
        let written = self.tape.member(*at, "url").filter(|at| self.tape.json(*at) == Json::Text);
        written.is_some_and(|written| self.tape.text(written) == url)
    }

    /// All elements directly below.
    pub(super) fn children(&self, item: &Item<'d>, sink: Sink<'_, 'd>) -> Flow {
        match item {
            Item::Node(Place { at: Some(owner), kind: Kind::Complex(type_name), .. }) => {
                for (name, _) in self.tape.members(*owner) {
                    self.spend(1)?;
                    let name = name.strip_prefix('_').unwrap_or(&name);
                    let Some(element) = elements::element(type_name, name) else { continue };
                    self.element(*owner, &element, sink)?;
                }
                Flow::Continue(())
            }
            Item::Node(Place { companion: Some(_), .. }) => {
                self.any_step(ID.name, item, sink)?;
                self.any_step(EXTENSION.name, item, sink)
            }
            _ => Flow::Continue(()),
        }
    }

    /// What `next` gives of what `start` gives, and again, parents before their children.
    ///
    /// A stack of its own: a resource may nest deeper than a thread's.
    pub(in crate::views) fn descend(
        &self,
        start: impl Fn(Sink<'_, 'd>) -> Flow,
        next: impl Fn(&Item<'d>, Sink<'_, 'd>) -> Flow,
        sink: Sink<'_, 'd>,
    ) -> Flow {
        let mut waiting = Vec::new();
        let mut seen: HashSet<(Option<At>, Option<At>)> = HashSet::new();
        let mut seen_values: Vec<Item<'d>> = Vec::new();
        let mut found = Vec::new();
        start(&mut |item| {
            found.push(item);
            Flow::Continue(())
        })?;
        loop {
            waiting.extend(found.drain(..).rev());
            let Some(item) = waiting.pop() else { return Flow::Continue(()) };
            self.spend(1)?;
            let is_new = if let Item::Node(Place { at, companion, .. }) = &item {
                seen.insert((*at, *companion))
            } else {
                self.is_new(&item, &mut seen_values)?
            };
            if !is_new {
                continue;
            }
            sink(item.clone())?;
            next(&item, &mut |item| {
                found.push(item);
                Flow::Continue(())
            })?;
        }
    }

    pub(super) fn repeat(
        &self,
        base: &'d Node,
        projection: &'d Node,
        focus: &Focus<'d>,
        sink: Sink<'_, 'd>,
    ) -> Flow {
        let next = |item: &Item<'d>, sink: Sink<'_, 'd>| self.each(projection, &focus.on(item.clone()), sink);
        self.descend(|sink| self.each(base, focus, &mut |item| next(&item, sink)), next, sink)
    }
}

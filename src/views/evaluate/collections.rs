//! The functions that look at a collection as a whole.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use super::{Evaluator, Flow, Focus, Sink, TEXT_BYTES_MAX};
use crate::views::elements::Kind;
use crate::views::item::{Item, Place};
use crate::views::number::Number;
use crate::views::program::{Function, Node};

impl<'d> Evaluator<'d> {
    pub(super) fn call(
        &self,
        function: Function,
        base: &'d Node,
        arguments: &'d [Node],
        focus: &Focus<'d>,
        sink: Sink<'_, 'd>,
    ) -> Flow {
        let done = Flow::Continue(());
        match function {
            Function::First => self.first(base, focus).map_or(done, sink),
            Function::Last => {
                let mut last = None;
                self.each(base, focus, &mut |item| {
                    last = Some(item);
                    Flow::Continue(())
                })?;
                last.map_or(done, sink)
            }
            Function::Single => self.single(base, focus).map_or(done, sink),
            Function::Tail => self.slice(base, 1, usize::MAX, focus, sink),
            Function::Skip | Function::Take | Function::Index => {
                let Some(count) = arguments.first().and_then(|count| self.count(count, focus)) else {
                    return done;
                };
                match (function, usize::try_from(count)) {
                    // `skip(-1)` skips nothing; nothing is before the first.
                    (Function::Skip, count) => self.slice(base, count.unwrap_or(0), usize::MAX, focus, sink),
                    (_, Err(_)) => done,
                    (Function::Take, Ok(count)) => self.slice(base, 0, count, focus, sink),
                    (_, Ok(position)) => self.slice(base, position, 1, focus, sink),
                }
            }
            Function::Distinct | Function::Union | Function::Combine => {
                let all = std::iter::once(base).chain(arguments);
                self.united(function == Function::Combine, all, focus, sink)
            }
            Function::Intersect | Function::Exclude => {
                let Some(others) = arguments.first() else { return done };
                self.compared(function, base, others, focus, sink)
            }
            Function::Coalesce => {
                for node in std::iter::once(base).chain(arguments) {
                    let mut is_filled = false;
                    self.each(node, focus, &mut |item| {
                        is_filled = true;
                        sink(item)
                    })?;
                    if is_filled {
                        break;
                    }
                }
                done
            }
            Function::Children => self.each(base, focus, &mut |item| self.children(&item, sink)),
            Function::Ancestors => self.each(base, focus, &mut |item| self.ancestors(&item, sink)),
            Function::Descendants => {
                let start =
                    |sink: Sink<'_, 'd>| self.each(base, focus, &mut |item| self.children(&item, sink));
                self.descend(start, |item, sink| self.children(item, sink), sink)
            }
            Function::Resolve => self.each(base, focus, &mut |item| self.resolved(&item, sink)),
            Function::Split | Function::ToChars => {
                let Some(text) = self.text(base, focus) else { return done };
                self.pieces(function, &text, arguments, focus, sink)
            }
            one => self.whole(one, base, arguments, focus).map_or(done, sink),
        }
    }

    /// All of several collections, each element once unless they are only put together.
    fn united(
        &self,
        keeps_repeats: bool,
        nodes: impl Iterator<Item = &'d Node>,
        focus: &Focus<'d>,
        sink: Sink<'_, 'd>,
    ) -> Flow {
        let mut seen = Vec::new();
        for node in nodes {
            self.each(node, focus, &mut |item| {
                let is_wanted = keeps_repeats || self.is_new(&item, &mut seen)?;
                if is_wanted { sink(item) } else { Flow::Continue(()) }
            })?;
        }
        Flow::Continue(())
    }

    /// What is in the other collection too, each element once; or what is not.
    fn compared(
        &self,
        function: Function,
        base: &'d Node,
        others: &'d Node,
        focus: &Focus<'d>,
        sink: Sink<'_, 'd>,
    ) -> Flow {
        let others = self.all_of(others, focus);
        let mut seen = Vec::new();
        self.each(base, focus, &mut |item| {
            self.spend(others.len() as u64)?;
            let is_there = self.is_among(&item, &others);
            let is_wanted = match function {
                Function::Intersect => is_there && self.is_new(&item, &mut seen)?,
                _ => !is_there,
            };
            if is_wanted { sink(item) } else { Flow::Continue(()) }
        })
    }

    fn count(&self, node: &'d Node, focus: &Focus<'d>) -> Option<i64> {
        self.single(node, focus)?.as_number(self.tape)?.as_i64()
    }

    /// So many elements behind the first ones.
    fn slice(&self, base: &'d Node, skip: usize, take: usize, focus: &Focus<'d>, sink: Sink<'_, 'd>) -> Flow {
        let (mut position, mut is_over) = (0usize, false);
        let end = skip.saturating_add(take);
        let flow = self.each(base, focus, &mut |item| {
            is_over = end <= position;
            if is_over {
                return Flow::Break(());
            }
            position += 1;
            if skip < position { sink(item) } else { Flow::Continue(()) }
        });
        if is_over { Flow::Continue(()) } else { flow }
    }

    fn is_among(&self, item: &Item<'d>, others: &[Item<'d>]) -> bool {
        others.iter().any(|other| self.is_equal(item, other) == Some(true))
    }

    /// The functions that give one value.
    fn whole(
        &self,
        function: Function,
        base: &'d Node,
        arguments: &'d [Node],
        focus: &Focus<'d>,
    ) -> Option<Item<'d>> {
        let boolean = match function {
            Function::Exists => self.exists(base, focus),
            Function::Empty => !self.exists(base, focus),
            Function::HasValue => {
                !matches!(self.first(base, focus), None | Some(Item::Node(Place { at: None, .. })))
            }
            Function::IsDistinct => {
                let (items, mut seen) = (self.all_of(base, focus), Vec::new());
                items.iter().all(|item| matches!(self.is_new(item, &mut seen), ControlFlow::Continue(true)))
            }
            Function::SubsetOf | Function::SupersetOf => {
                let (mut inner, mut outer) =
                    (self.all_of(base, focus), self.all_of(arguments.first()?, focus));
                if function == Function::SupersetOf {
                    std::mem::swap(&mut inner, &mut outer);
                }
                let costs = inner.len() as u64 * outer.len() as u64;
                self.spend(costs).is_continue() && inner.iter().all(|item| self.is_among(item, &outer))
            }
            Function::AllTrue => !self.is_any(base, false, focus),
            Function::AnyTrue => self.is_any(base, true, focus),
            Function::AllFalse => !self.is_any(base, true, focus),
            Function::AnyFalse => self.is_any(base, false, focus),
            Function::Count => {
                let mut count = 0;
                let _ = self.each(base, focus, &mut |_| {
                    count += 1;
                    Flow::Continue(())
                });
                return Some(Item::integer(count));
            }
            Function::Join => return self.join(base, arguments.first(), focus),
            Function::Sum | Function::Average => return self.sum(function, base, focus),
            Function::Min => return self.extreme(base, Ordering::Less, focus),
            Function::Max => return self.extreme(base, Ordering::Greater, focus),
            Function::Not => !self.condition(base, focus)?,
            Function::Now | Function::Today | Function::TimeOfDay => return self.time(function),
            scalar => {
                let item = self.single(base, focus)?;
                let mut values = [None, None];
                for (value, argument) in values.iter_mut().zip(arguments) {
                    *value = Some(self.single(argument, focus)?);
                }
                return self.scalar(scalar, &item, &values);
            }
        };
        Some(Item::Boolean(boolean))
    }

    fn is_any(&self, base: &'d Node, wanted: bool, focus: &Focus<'d>) -> bool {
        let mut found = false;
        let _ = self.each(base, focus, &mut |item| {
            found = item.as_boolean(self.tape) == Some(wanted);
            if found { Flow::Break(()) } else { Flow::Continue(()) }
        });
        found
    }

    /// Of nothing there is nothing, as FHIRPath says.
    fn join(&self, base: &'d Node, separator: Option<&'d Node>, focus: &Focus<'d>) -> Option<Item<'d>> {
        let separator = match separator {
            Some(separator) => self.text(separator, focus)?,
            None => "".into(),
        };
        let mut joined: Option<String> = None;
        let flow = self.each(base, focus, &mut |item| {
            let Some(words) = item.in_words(self.tape) else { return Flow::Continue(()) };
            match &mut joined {
                None => joined = Some(words.into_owned()),
                Some(joined) if TEXT_BYTES_MAX < joined.len() + separator.len() + words.len() => {
                    return Flow::Break(());
                }
                Some(joined) => joined.extend([separator.as_ref(), words.as_ref()]),
            }
            Flow::Continue(())
        });
        joined.filter(|_| flow.is_continue()).map(Item::text)
    }

    fn sum(&self, function: Function, base: &'d Node, focus: &Focus<'d>) -> Option<Item<'d>> {
        let (mut sum, mut count) = (None, 0);
        let mut kind = Kind::Integer;
        for item in self.all_of(base, focus) {
            let number = item.as_number(self.tape)?;
            if item.kind() == Kind::Decimal {
                kind = Kind::Decimal;
            }
            count += 1;
            sum = Some(match sum {
                None => number,
                Some(sum) => number.add(sum)?,
            });
        }
        match function {
            Function::Average => Some(Item::Number(sum?.divide(Number::whole(count))?, Kind::Decimal)),
            _ => Some(Item::Number(sum?, kind)),
        }
    }

    /// The smallest or the largest; none where two cannot be compared.
    fn extreme(&self, base: &'d Node, wanted: Ordering, focus: &Focus<'d>) -> Option<Item<'d>> {
        let mut items = self.all_of(base, focus).into_iter();
        let mut extreme = items.next()?;
        for item in items {
            if self.order(&item, &extreme)? == wanted {
                extreme = item;
            }
        }
        Some(extreme)
    }

    /// The contained resource that a reference names.
    fn resolved(&self, item: &Item<'d>, sink: Sink<'_, 'd>) -> Flow {
        let written = match item {
            Item::Node(Place { at: Some(at), kind: Kind::Complex("Reference"), .. }) => {
                self.text_member(*at, "reference")
            }
            item => item.as_text(self.tape),
        };
        let Some(id) = written.as_deref().and_then(|written| written.strip_prefix('#')) else {
            return Flow::Continue(());
        };
        if id.is_empty() {
            return sink(self.root());
        }
        let mut found = None;
        let _ = self.any_step("contained", &self.root(), &mut |contained| {
            let Item::Node(Place { at: Some(at), .. }) = &contained else { return Flow::Continue(()) };
            if self.text_member(*at, "id").is_none_or(|other| other != id) {
                return Flow::Continue(());
            }
            found = Some(contained);
            Flow::Break(())
        });
        found.map_or(Flow::Continue(()), sink)
    }
}

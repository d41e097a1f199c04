//! Whether elements are the same, and which of two comes first.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use super::{Evaluator, Flow, Focus};
use crate::views::elements::Kind;
use crate::views::item::{Item, Place};
use crate::views::moment;
use crate::views::program::{Comparison, Node};

impl<'d> Evaluator<'d> {
    pub(super) fn compare(
        &self,
        comparison: Comparison,
        left: &'d Node,
        right: &'d Node,
        focus: &Focus<'d>,
    ) -> Option<bool> {
        match comparison {
            Comparison::Equal => self.equal(left, right, focus),
            Comparison::NotEqual => Some(!self.equal(left, right, focus)?),
            Comparison::Equivalent => Some(self.equivalent(left, right, focus)),
            Comparison::NotEquivalent => Some(!self.equivalent(left, right, focus)),
            ordered => {
                let (left, right) = (self.single(left, focus)?, self.single(right, focus)?);
                let order = self.order(&left, &right)?;
                Some(match ordered {
                    Comparison::Less => order == Ordering::Less,
                    Comparison::LessOrEqual => order != Ordering::Greater,
                    Comparison::Greater => order == Ordering::Greater,
                    _ => order != Ordering::Less,
                })
            }
        }
    }

    /// Collections are equal element by element.
    fn equal(&self, left: &'d Node, right: &'d Node, focus: &Focus<'d>) -> Option<bool> {
        let (one, has_more) = self.first_and_more(left, focus);
        let (other, others_have_more) = self.first_and_more(right, focus);
        let (one, other) = (one?, other?);
        if has_more != others_have_more {
            return Some(false);
        }
        if !has_more {
            return self.is_equal(&one, &other);
        }
        let (all, others) = (self.all_of(left, focus), self.all_of(right, focus));
        if all.len() != others.len() {
            return Some(false);
        }
        let mut is_known = true;
        for (one, other) in all.iter().zip(&others) {
            match self.is_equal(one, other) {
                Some(false) => return Some(false),
                equal => is_known &= equal.is_some(),
            }
        }
        is_known.then_some(true)
    }

    /// Order and case do not count; nothing is equivalent to nothing.
    fn equivalent(&self, left: &'d Node, right: &'d Node, focus: &Focus<'d>) -> bool {
        let (all, mut others) = (self.all_of(left, focus), self.all_of(right, focus));
        if all.len() != others.len() || self.spend(all.len() as u64 * others.len() as u64).is_break() {
            return false;
        }
        all.iter().all(|one| {
            let found = others.iter().position(|other| self.is_equivalent(one, other));
            found.map(|at| others.swap_remove(at)).is_some()
        })
    }

    fn is_equivalent(&self, one: &Item<'d>, other: &Item<'d>) -> bool {
        match (one.as_text(self.tape), other.as_text(self.tape)) {
            (Some(one), Some(other)) => one == other || one.to_lowercase() == other.to_lowercase(),
            _ => self.is_equal(one, other) == Some(true),
        }
    }

    /// Returns whether two elements are equal, as far as both say.
    pub(super) fn is_equal(&self, one: &Item<'d>, other: &Item<'d>) -> Option<bool> {
        let (kind, other_kind) = (one.kind(), other.kind());
        if kind.is_text() && other_kind.is_text() {
            if !kind.is_temporal() && !other_kind.is_temporal() {
                return Some(one.as_text(self.tape)? == other.as_text(self.tape)?);
            }
            return self.order(one, other).map(|order| order == Ordering::Equal);
        }
        if kind.is_number() && other_kind.is_number() {
            return self.order(one, other).map(|order| order == Ordering::Equal);
        }
        match (one, other) {
            (
                Item::Node(Place { at: Some(one), kind: Kind::Complex(_), .. }),
                Item::Node(Place { at: Some(other), kind: Kind::Complex(_), .. }),
            ) => Some(self.tape.same(*one, *other)),
            _ if kind == Kind::Boolean && other_kind == Kind::Boolean => {
                Some(one.as_boolean(self.tape)? == other.as_boolean(self.tape)?)
            }
            _ => Some(false),
        }
    }

    /// Returns which comes first, of two numbers, texts, dates or times.
    pub(super) fn order(&self, one: &Item<'d>, other: &Item<'d>) -> Option<Ordering> {
        let (kind, other_kind) = (one.kind(), other.kind());
        if kind.is_number() && other_kind.is_number() {
            return one.as_number(self.tape)?.compare(other.as_number(self.tape)?);
        }
        let (one, other) = (one.as_text(self.tape)?, other.as_text(self.tape)?);
        if kind == Kind::Time || other_kind == Kind::Time {
            return moment::compare_times(&one, &other);
        }
        if kind.is_temporal() || other_kind.is_temporal() {
            return moment::compare_dates(&one, &other);
        }
        Some(one.cmp(&other))
    }

    /// Whether the one element is in a collection; `None` without an element.
    pub(super) fn is_member(&self, element: &'d Node, of: &'d Node, focus: &Focus<'d>) -> Option<bool> {
        let element = self.single(element, focus)?;
        let mut found = false;
        let _ = self.each(of, focus, &mut |item| {
            found = self.is_equal(&element, &item) == Some(true);
            if found { Flow::Break(()) } else { Flow::Continue(()) }
        });
        Some(found)
    }

    /// Whether an element was not met yet, which it then is.
    pub(super) fn is_new(&self, item: &Item<'d>, seen: &mut Vec<Item<'d>>) -> ControlFlow<(), bool> {
        self.spend(seen.len() as u64)?;
        if seen.iter().any(|other| self.is_equal(item, other) == Some(true)) {
            return ControlFlow::Continue(false);
        }
        seen.push(item.clone());
        ControlFlow::Continue(true)
    }
}

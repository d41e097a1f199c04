//! The elements that an element stands within.

use super::{Evaluator, Flow, Sink};
use crate::views::elements;
use crate::views::elements::Kind;
use crate::views::item::{Item, Place};
use crate::views::tape::{At, Json};

impl<'d> Evaluator<'d> {
    /// Hands on what an element stands within, the resource first.
    pub(super) fn ancestors(&self, item: &Item<'d>, sink: Sink<'_, 'd>) -> Flow {
        let Item::Node(Place { at, companion, .. }) = item else { return Flow::Continue(()) };
        let Some(wanted) = at.or(*companion) else { return Flow::Continue(()) };
        let mut around = self.root();
        while let Item::Node(Place { at: Some(at), kind: Kind::Complex(type_name), .. }) = around
            && at != wanted
        {
            sink(around)?;
            let (next, looked_at) = self.towards(at, type_name, wanted);
            self.spend(looked_at / 8 + 1)?;
            let Some(next) = next else { break };
            around = next;
        }
        Flow::Continue(())
    }

    /// The element of `owner` that holds what is wanted, and how many others were looked at.
    fn towards(&self, owner: At, type_name: &str, wanted: At) -> (Option<Item<'d>>, u64) {
        let mut looked_at = 0;
        let mut holds = |at: At| {
            looked_at += 1;
            self.tape.holds(at, wanted)
        };
        let found = self.tape.members(owner).find(|(_, value)| holds(*value)).and_then(|(name, value)| {
            let element = elements::element(type_name, &name)?;
            let within = match self.tape.json(value) {
                Json::Array => self.tape.elements(value).find(|at| holds(*at))?,
                _ => value,
            };
            Some(self.node(within, element.kind))
        });
        (found, looked_at)
    }
}

//! The operators of numbers and texts.

use super::{Evaluator, Focus, TEXT_BYTES_MAX};
use crate::views::elements::Kind;
use crate::views::item::Item;
use crate::views::program::{Arithmetic, Node};

impl<'d> Evaluator<'d> {
    pub(super) fn arithmetic(
        &self,
        arithmetic: Arithmetic,
        left: &'d Node,
        right: &'d Node,
        focus: &Focus<'d>,
    ) -> Option<Item<'d>> {
        let (left, right) = (self.single(left, focus), self.single(right, focus));
        if arithmetic == Arithmetic::Concatenate {
            let text =
                |item: Option<Item<'d>>| item.and_then(|item| item.in_words(self.tape)).unwrap_or_default();
            return concatenated(&text(left), &text(right));
        }
        let (left, right) = (left?, right?);
        if arithmetic == Arithmetic::Add && left.kind().is_text() {
            return concatenated(&left.as_text(self.tape)?, &right.as_text(self.tape)?);
        }
        let is_decimal = [&left, &right].into_iter().any(|item| item.kind() == Kind::Decimal);
        let kind = if is_decimal { Kind::Decimal } else { Kind::Integer };
        let (a, b) = (left.as_number(self.tape)?, right.as_number(self.tape)?);
        Some(match arithmetic {
            Arithmetic::Add => Item::Number(a.add(b)?, kind),
            Arithmetic::Subtract => Item::Number(a.add(b.negative())?, kind),
            Arithmetic::Multiply => Item::Number(a.multiply(b)?, kind),
            Arithmetic::Divide => Item::Number(a.divide(b)?, Kind::Decimal),
            Arithmetic::Div => Item::Number(a.whole_quotient(b)?, Kind::Integer),
            Arithmetic::Mod => Item::Number(a.remainder(b)?, kind),
            Arithmetic::Concatenate => return None,
        })
    }
}

fn concatenated<'d>(one: &str, other: &str) -> Option<Item<'d>> {
    let fits = one.len() + other.len() <= TEXT_BYTES_MAX;
    fits.then(|| Item::text([one, other].concat()))
}

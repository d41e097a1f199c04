//! The operators of FHIRPath in SQL, whose three-valued logic is FHIRPath's.
//!
//! Absent on purpose: `|`, `in` and `contains` over collections, which need sets.

use super::eval::{Compiler, Focus};
use super::node::Collection;
use super::temporal;
use crate::views::elements::Kind;
use crate::views::fhirpath::{Expr, Operator};

impl Compiler<'_> {
    pub(super) fn negative(&mut self, operand: &Expr, focus: &Focus) -> Result<Collection, String> {
        let (value, kind) = self.single(operand, focus)?;
        if !kind.is_number() && kind != Kind::Nothing {
            return Err(format!("`-` is for numbers, this is a {}", kind.name()));
        }
        Ok(Collection::value(format!("(- {value})"), kind))
    }

    pub(super) fn binary(
        &mut self,
        left: &Expr,
        operator: Operator,
        right: &Expr,
        focus: &Focus,
    ) -> Result<Collection, String> {
        use Operator::*;
        match operator {
            And | Or | Xor | Implies => self.logic(left, operator, right, focus),
            Equal | NotEqual | Equivalent | NotEquivalent | Less | LessOrEqual | Greater | GreaterOrEqual => {
                self.comparison(left, operator, right, focus)
            }
            Add | Subtract | Multiply | Divide | Div | Mod | Concatenate => {
                self.arithmetic(left, operator, right, focus)
            }
            Union | In | Contains => Err(format!("the operator `{}` is not supported", operator.symbol())),
        }
    }

    fn logic(
        &mut self,
        left: &Expr,
        operator: Operator,
        right: &Expr,
        focus: &Focus,
    ) -> Result<Collection, String> {
        let a = self.condition(left, focus)?;
        let b = self.condition(right, focus)?;
        let sql = match operator {
            Operator::And => format!("(({a}) AND ({b}))"),
            Operator::Or => format!("(({a}) OR ({b}))"),
            Operator::Xor => format!("(({a}) <> ({b}))"),
            _ => format!("(NOT ({a}) OR ({b}))"),
        };
        Ok(Collection::value(sql, Kind::Boolean))
    }

    fn comparison(
        &mut self,
        left: &Expr,
        operator: Operator,
        right: &Expr,
        focus: &Focus,
    ) -> Result<Collection, String> {
        let (a, left_kind) = self.single(left, focus)?;
        let (b, right_kind) = self.single(right, focus)?;
        let sign = match operator {
            Operator::Equal => "=",
            Operator::NotEqual => "<>",
            Operator::Equivalent => "IS",
            Operator::NotEquivalent => "IS NOT",
            other => other.symbol(),
        };
        let ordered = !matches!(sign, "=" | "<>" | "IS" | "IS NOT");
        let known = left_kind != Kind::Nothing && right_kind != Kind::Nothing;
        if ordered && known && !comparable(left_kind, right_kind) {
            let (a, b) = (left_kind.name(), right_kind.name());
            return Err(format!("`{sign}` cannot compare a {a} with a {b}"));
        }
        let sql = match (left_kind, right_kind) {
            // `~` ignores case and asks for no precision; two absent values are equivalent.
            _ if sign.starts_with("IS") => equivalence(sign, &a, left_kind, &b, right_kind),
            (Kind::Time, other) | (other, Kind::Time) if other.is_text() => {
                temporal::compare_times(sign, &a, &b)
            }
            (a_kind, b_kind)
                if (a_kind.is_temporal() || b_kind.is_temporal()) && a_kind.is_text() && b_kind.is_text() =>
            {
                temporal::compare_dates(sign, &a, &b)
            }
            _ => format!("(({a}) {sign} ({b}))"),
        };
        Ok(Collection::value(sql, Kind::Boolean))
    }

    fn arithmetic(
        &mut self,
        left: &Expr,
        operator: Operator,
        right: &Expr,
        focus: &Focus,
    ) -> Result<Collection, String> {
        let (a, left_kind) = self.single(left, focus)?;
        let (b, right_kind) = self.single(right, focus)?;
        if operator == Operator::Concatenate {
            return Ok(Collection::value(format!("(COALESCE({a}, '') || COALESCE({b}, ''))"), Kind::String));
        }
        let texts =
            [left_kind, right_kind].into_iter().all(|kind| matches!(kind, Kind::String | Kind::Nothing));
        if operator == Operator::Add && texts {
            return Ok(Collection::value(format!("({a} || {b})"), Kind::String));
        }
        if ![left_kind, right_kind].into_iter().all(|kind| kind.is_number() || kind == Kind::Nothing) {
            let (a, b) = (left_kind.name(), right_kind.name());
            return Err(format!("`{}` is for numbers, not for a {a} and a {b}", operator.symbol()));
        }
        let whole = left_kind != Kind::Decimal && right_kind != Kind::Decimal;
        let kind = if whole { Kind::Integer } else { Kind::Decimal };
        let (sql, kind) = match operator {
            Operator::Divide => (format!("(CAST({a} AS REAL) / {b})"), Kind::Decimal),
            Operator::Div => (format!("CAST(({a}) / ({b}) AS INTEGER)"), Kind::Integer),
            // SQLite's `%` would cut both to whole numbers first.
            Operator::Mod => (format!("(({a}) - CAST(({a}) / ({b}) AS INTEGER) * ({b}))"), kind),
            other => (format!("(({a}) {} ({b}))", other.symbol()), kind),
        };
        Ok(Collection::value(sql, kind))
    }
}

fn comparable(a: Kind, b: Kind) -> bool {
    a.is_number() && b.is_number() || a.is_text() && b.is_text()
}

fn equivalence(sign: &str, a: &str, a_kind: Kind, b: &str, b_kind: Kind) -> String {
    if a_kind.is_text() && b_kind.is_text() {
        format!("(lower({a}) {sign} lower({b}))")
    } else {
        format!("(({a}) {sign} ({b}))")
    }
}

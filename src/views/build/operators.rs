//! The operators of FHIRPath, held against the kinds of what is on their sides.

use super::{Builder, Built, Type};
use crate::views::elements::Kind;
use crate::views::fhirpath::{Expr, Operator};
use crate::views::item::Item;
use crate::views::program::{Arithmetic, Comparison, Function, Logic, Node};

impl Builder<'_> {
    pub(super) fn negative(&mut self, operand: &Expr, this: &Type) -> Result<Built, String> {
        let operand = self.build(operand, this)?;
        if let Some(kind) = operand.gives.kind().filter(|kind| !kind.is_number() && *kind != Kind::Nothing) {
            return Err(format!("`-` is for numbers, this is a {}", kind.name()));
        }
        self.note_several(&operand);
        if let Node::Literal(Item::Number(number, kind)) = operand.node {
            return Ok(Built { node: Node::Literal(Item::Number(number.negative(), kind)), ..operand });
        }
        Ok(Built { is_many: false, ..operand.with(Node::Negative) })
    }

    pub(super) fn binary(
        &mut self,
        left: &Expr,
        operator: Operator,
        right: &Expr,
        this: &Type,
    ) -> Result<Built, String> {
        let left = self.build(left, this)?;
        let right = self.build(right, this)?;
        match operator {
            Operator::And => Ok(logic(Logic::And, left, right)),
            Operator::Or => Ok(logic(Logic::Or, left, right)),
            Operator::Xor => Ok(logic(Logic::Xor, left, right)),
            Operator::Implies => Ok(logic(Logic::Implies, left, right)),
            Operator::Equal => self.comparison(Comparison::Equal, operator, left, right),
            Operator::NotEqual => self.comparison(Comparison::NotEqual, operator, left, right),
            Operator::Equivalent => self.comparison(Comparison::Equivalent, operator, left, right),
            Operator::NotEquivalent => self.comparison(Comparison::NotEquivalent, operator, left, right),
            Operator::Less => self.comparison(Comparison::Less, operator, left, right),
            Operator::LessOrEqual => self.comparison(Comparison::LessOrEqual, operator, left, right),
            Operator::Greater => self.comparison(Comparison::Greater, operator, left, right),
            Operator::GreaterOrEqual => self.comparison(Comparison::GreaterOrEqual, operator, left, right),
            Operator::Add => self.arithmetic(Arithmetic::Add, operator, left, right),
            Operator::Subtract => self.arithmetic(Arithmetic::Subtract, operator, left, right),
            Operator::Multiply => self.arithmetic(Arithmetic::Multiply, operator, left, right),
            Operator::Divide => self.arithmetic(Arithmetic::Divide, operator, left, right),
            Operator::Div => self.arithmetic(Arithmetic::Div, operator, left, right),
            Operator::Mod => self.arithmetic(Arithmetic::Mod, operator, left, right),
            Operator::Concatenate => self.arithmetic(Arithmetic::Concatenate, operator, left, right),
            Operator::Union => {
                let gives = left.gives.or(&right.gives);
                let node = Node::Call(Function::Union, Box::new(left.node), vec![right.node]);
                Ok(Built { node, gives, is_many: true })
            }
            Operator::In => Ok(member(left, right)),
            Operator::Contains => Ok(member(right, left)),
        }
    }

    fn comparison(
        &mut self,
        comparison: Comparison,
        operator: Operator,
        left: Built,
        right: Built,
    ) -> Result<Built, String> {
        use Comparison::{Greater, GreaterOrEqual, Less, LessOrEqual};
        if matches!(comparison, Less | LessOrEqual | Greater | GreaterOrEqual) {
            if let (Type::Known(a), Type::Known(b)) = (&left.gives, &right.gives)
                && *a != Kind::Nothing
                && *b != Kind::Nothing
                && !(a.is_number() && b.is_number() || a.is_text() && b.is_text())
            {
                let symbol = operator.symbol();
                return Err(format!("`{symbol}` cannot compare a {} with a {}", a.name(), b.name()));
            }
            self.note_several(&left);
            self.note_several(&right);
        }
        let node = Node::Compare(comparison, Box::new(left.node), Box::new(right.node));
        Ok(Built::one(node, Kind::Boolean))
    }

    fn arithmetic(
        &mut self,
        arithmetic: Arithmetic,
        operator: Operator,
        left: Built,
        right: Built,
    ) -> Result<Built, String> {
        self.note_several(&left);
        self.note_several(&right);
        let kinds = [left.gives.kind(), right.gives.kind()];
        let are = |wanted: fn(Kind) -> bool| {
            kinds.iter().flatten().all(|kind| wanted(*kind) || *kind == Kind::Nothing)
        };
        let gives = if arithmetic == Arithmetic::Concatenate {
            Type::Known(Kind::String)
        } else if arithmetic == Arithmetic::Add && are(|kind| kind == Kind::String) {
            if kinds.contains(&None) { Type::Any } else { Type::Known(Kind::String) }
        } else if are(Kind::is_number) {
            match arithmetic {
                Arithmetic::Divide => Type::Known(Kind::Decimal),
                Arithmetic::Div => Type::Known(Kind::Integer),
                _ if kinds.contains(&None) => Type::Any,
                _ if kinds.contains(&Some(Kind::Decimal)) => Type::Known(Kind::Decimal),
                _ => Type::Known(Kind::Integer),
            }
        } else {
            let name = |kind: Option<Kind>| kind.map_or("value of several types", Kind::name);
            let (a, b) = (name(kinds[0]), name(kinds[1]));
            return Err(format!("`{}` is for numbers, not for a {a} and a {b}", operator.symbol()));
        };
        let node = Node::Arithmetic(arithmetic, Box::new(left.node), Box::new(right.node));
        Ok(Built { node, gives, is_many: false })
    }
}

fn logic(logic: Logic, left: Built, right: Built) -> Built {
    Built::one(Node::Logic(logic, Box::new(left.node), Box::new(right.node)), Kind::Boolean)
}

fn member(element: Built, of: Built) -> Built {
    let node = Node::Member { element: Box::new(element.node), of: Box::new(of.node) };
    Built::one(node, Kind::Boolean)
}

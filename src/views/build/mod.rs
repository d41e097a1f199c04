//! Expressions into programs: names are looked up in the facts of FHIR R4, constants put in.
//!
//! Promise: whatever can be known to be wrong without a resource is refused here, in words.
//! What an expression gives is known as narrowly as the facts allow; the rest is looked up when
//! it is evaluated.

mod calls;
mod functions;
mod operators;

use std::collections::{BTreeMap, HashMap};

use regex::Regex;

pub(super) use self::calls::regex_of;
use super::definition::Constant;
use super::elements;
use super::elements::{Element, Kind};
use super::fhirpath::Expr;
use super::item::Item;
use super::number::Number;
use super::program::{Choice, Function, MatchOf, Node, Step};

/// What an element of a collection can be.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    Known(Kind),
    /// One of a choice such as `value[x]`: its owner and its name.
    Choice(&'static str, String),
    /// Known when it is met.
    Any,
}

impl Type {
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Known(kind) => Some(*kind),
            Self::Choice(..) | Self::Any => None,
        }
    }

    fn is_nothing(&self) -> bool {
        *self == Self::Known(Kind::Nothing)
    }

    /// What something is that is one or the other.
    fn or(&self, other: &Self) -> Self {
        match (self, other) {
            (one, other) if one == other || other.is_nothing() => one.clone(),
            (one, other) if one.is_nothing() => other.clone(),
            (Self::Known(one), Self::Known(other)) if one.is_number() && other.is_number() => {
                Self::Known(Kind::Decimal)
            }
            _ => Self::Any,
        }
    }
}

/// An expression as built.
#[derive(Clone, Debug)]
pub(super) struct Built {
    pub(super) node: Node,
    pub(super) gives: Type,
    /// It can give more than one element.
    pub(super) is_many: bool,
}

impl Built {
    fn one(node: Node, kind: Kind) -> Self {
        Self { node, gives: Type::Known(kind), is_many: false }
    }

    fn nothing() -> Self {
        Self::one(Node::Empty, Kind::Nothing)
    }

    fn with(self, wrap: impl FnOnce(Box<Node>) -> Node) -> Self {
        Self { node: wrap(Box::new(self.node)), ..self }
    }
}

/// What builds the expressions of one view.
pub(super) struct Builder<'a> {
    pub(super) resource_type: &'static str,
    pub(super) constants: &'a BTreeMap<String, Constant>,
    /// An element the schema does not have is empty, not refused: in `repeat` alone.
    pub(super) is_lenient: bool,
    /// It asks for the time.
    pub(super) depends_on_time: bool,
    /// What takes the first of several values, or follows no reference.
    pub(super) notes: Vec<String>,
    /// Compiled once, however many columns name the same one.
    patterns: HashMap<(String, MatchOf), Regex>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(resource_type: &'static str, constants: &'a BTreeMap<String, Constant>) -> Self {
        Self {
            resource_type,
            constants,
            is_lenient: false,
            depends_on_time: false,
            notes: Vec::new(),
            patterns: HashMap::new(),
        }
    }

    /// Builds an expression that is evaluated on an element of type `this`.
    pub(super) fn build(&mut self, expr: &Expr, this: &Type) -> Result<Built, String> {
        let literal = |item, kind| Ok(Built::one(Node::Literal(item), kind));
        let text = |text: &str, kind| literal(Item::Text(text.to_owned().into(), kind), kind);
        match expr {
            Expr::Empty => Ok(Built::nothing()),
            Expr::Text(written) => text(written, Kind::String),
            Expr::Boolean(value) => literal(Item::Boolean(*value), Kind::Boolean),
            Expr::Integer(digits) => literal(Item::integer(integer(digits)?), Kind::Integer),
            Expr::Decimal(digits) => literal(Item::Number(decimal(digits)?, Kind::Decimal), Kind::Decimal),
            Expr::Date(written) => text(written, Kind::Date),
            Expr::DateTime(written) => text(written, Kind::DateTime),
            Expr::Time(written) => text(written, Kind::Time),
            Expr::Constant(name) => self.constant(name),
            Expr::This => Ok(Self::this(this)),
            Expr::Member(base, name) => self.member(base.as_deref(), name, this),
            Expr::Call(base, name, arguments) => self.call(base.as_deref(), name, arguments, this),
            Expr::Index(base, index) => self.index(base, index, this),
            Expr::Negative(operand) => self.negative(operand, this),
            Expr::Binary(left, operator, right) => self.binary(left, *operator, right, this),
            Expr::Typed(operand, operator, type_name) => {
                let operand = self.build(operand, this)?;
                calls::typed(operand, *operator, type_name)
            }
        }
    }

    /// Of a choice too: what `where()` looks at was chosen before.
    fn this(this: &Type) -> Built {
        Built { node: Node::This, gives: this.clone(), is_many: false }
    }

    fn base(&mut self, base: Option<&Expr>, this: &Type) -> Result<Built, String> {
        base.map_or_else(|| Ok(Self::this(this)), |base| self.build(base, this))
    }

    fn constant(&self, name: &str) -> Result<Built, String> {
        match name {
            "rowIndex" => return Ok(Built::one(Node::RowIndex, Kind::Integer)),
            "resource" | "rootResource" | "context" => {
                return Ok(Built::one(Node::Resource, Kind::Complex(self.resource_type)));
            }
            _ => {}
        }
        let text =
            |text: &str, kind| Built::one(Node::Literal(Item::Text(text.to_owned().into(), kind)), kind);
        if let Some(Constant { kind, text: written }) = self.constants.get(name) {
            let item = match kind {
                Kind::Boolean => Item::Boolean(written == "1"),
                Kind::Integer => Item::integer(integer(written)?),
                Kind::Decimal => Item::Number(decimal(written)?, Kind::Decimal),
                kind => return Ok(text(written, *kind)),
            };
            return Ok(Built::one(Node::Literal(item), *kind));
        }
        // FHIRPath's own.
        match name {
            "sct" => Ok(text("http://snomed.info/sct", Kind::String)),
            "loinc" => Ok(text("http://loinc.org", Kind::String)),
            "ucum" => Ok(text("http://unitsofmeasure.org", Kind::String)),
            _ => Err(format!("there is no constant `%{name}`")),
        }
    }

    fn member(&mut self, base: Option<&Expr>, name: &str, this: &Type) -> Result<Built, String> {
        // `Patient.name` is `name` where the focus is a Patient.
        if base.is_none()
            && this.kind() == Some(Kind::Complex(self.resource_type))
            && name == self.resource_type
        {
            return Ok(Self::this(this));
        }
        let base = self.base(base, this)?;
        self.step(base, name)
    }

    /// The element `name` of what `base` gives.
    fn step(&mut self, base: Built, name: &str) -> Result<Built, String> {
        match &base.gives {
            Type::Known(Kind::Nothing) => Ok(Built::nothing()),
            Type::Known(Kind::Complex(owner)) => self.step_of(base.clone(), owner, name),
            Type::Known(kind) => {
                let Some((gives, repeats)) = known_step(*kind, name) else {
                    return Err(format!("a {} has no element `{name}`", kind.name()));
                };
                let mut base = base;
                with_companions(&mut base.node);
                Ok(any_step(base, name, gives, repeats))
            }
            Type::Choice(owner, group) => {
                let members = elements::choice(owner, group);
                let found = members.iter().filter_map(|member| known_step(member.kind, name));
                let mut gives = Type::Known(Kind::Nothing);
                let (mut is_many, mut any) = (false, false);
                for (found, repeats) in found {
                    (gives, is_many, any) = (gives.or(&found), is_many || repeats, true);
                }
                if !any && !self.is_lenient {
                    return Err(format!("none of the types of {owner}.{group}[x] has an element `{name}`"));
                }
                Ok(any_step(base, name, gives, is_many))
            }
            Type::Any if elements::is_named_anywhere(name) => Ok(any_step(base, name, Type::Any, true)),
            Type::Any => Err(format!("no type of FHIR R4 has an element `{name}`")),
        }
    }

    fn step_of(&mut self, base: Built, owner: &'static str, name: &str) -> Result<Built, String> {
        let is_resource = elements::is_resource(owner);
        if let Some(element) = elements::element(owner, name) {
            let is_many = base.is_many || element.repeats;
            let step = Step { base: base.node, element, only: None, with_companion: false };
            return Ok(Built { node: Node::Step(Box::new(step)), gives: Type::Known(element.kind), is_many });
        }
        let choice = elements::choice(owner, name);
        if !choice.is_empty() {
            let gives = Type::Choice(owner, name.to_owned());
            return Ok(Built {
                gives,
                ..base.with(|base| Node::OneOf(base, Choice { name: name.to_owned(), elements: choice }))
            });
        }
        if is_resource && name == "resourceType" {
            return Ok(any_step(base, name, Type::Known(Kind::String), false));
        }
        // What is contained is of a type that its resource alone tells.
        if matches!(owner, "Resource" | "DomainResource") && elements::is_named_anywhere(name) {
            return Ok(any_step(base, name, Type::Any, true));
        }
        if self.is_lenient {
            return Ok(Built::nothing());
        }
        Err(format!("{owner} has no element `{name}` in FHIR R4"))
    }

    fn index(&mut self, base: &Expr, index: &Expr, this: &Type) -> Result<Built, String> {
        let base = self.build(base, this)?;
        let index = self.build(index, this)?;
        if let Node::Literal(Item::Number(number, Kind::Integer)) = &index.node {
            let Some(position) = number.as_i64().and_then(|position| usize::try_from(position).ok()) else {
                return Ok(Built::nothing());
            };
            return Ok(nth(base, position));
        }
        if !matches!(index.gives.kind(), None | Some(Kind::Integer | Kind::Nothing)) {
            return Err("an index must be a whole number".to_owned());
        }
        let base = Built { is_many: false, ..base };
        Ok(base.with(|base| Node::Call(Function::Index, base, vec![index.node])))
    }

    /// Notes that one value is wanted where several can come.
    fn note_several(&mut self, operand: &Built) {
        if operand.is_many {
            self.notes.push("can have several values: the first is taken".to_owned());
        }
    }
}

/// The element at `position`.
fn nth(base: Built, position: usize) -> Built {
    let base = Built { is_many: false, ..base };
    match base.node {
        // Of elements that have elements, the place in the array counts, whatever stands there.
        Node::Step(step) if is_plain_array(&step) => {
            let step = Step { only: Some(position), ..*step };
            Built { node: Node::Step(Box::new(step)), ..base }
        }
        node if position == 0 => {
            Built { node: Node::Call(Function::First, Box::new(node), Vec::new()), ..base }
        }
        node => {
            let position = Node::Literal(Item::integer(i64::try_from(position).unwrap_or(i64::MAX)));
            Built { node: Node::Call(Function::Index, Box::new(node), vec![position]), ..base }
        }
    }
}

/// Whether a step gives the elements of one array.
pub(super) fn is_plain_array(step: &Step) -> bool {
    let mut base = &step.base;
    let is_one_array = loop {
        match base {
            Node::This | Node::Resource => break true,
            Node::Step(step) if !step.element.repeats || step.only.is_some() => base = &step.base,
            _ => break false,
        }
    };
    is_one_array
        && step.element.repeats
        && step.only.is_none()
        && matches!(step.element.kind, Kind::Complex(_))
}

fn any_step(base: Built, name: &str, gives: Type, repeats: bool) -> Built {
    let is_many = base.is_many || repeats;
    Built { gives, is_many, ..base.with(|base| Node::AnyStep(base, name.to_owned())) }
}

/// What the element of a type is, and whether it repeats.
fn known_step(owner: Kind, name: &str) -> Option<(Type, bool)> {
    let Kind::Complex(owner) = owner else {
        return match name {
            "extension" => Some((Type::Known(Kind::Complex("Extension")), true)),
            "id" => Some((Type::Known(Kind::String), false)),
            _ => None,
        };
    };
    match elements::element(owner, name) {
        Some(Element { kind, repeats, .. }) => Some((Type::Known(kind), repeats)),
        None if elements::choice(owner, name).is_empty() => None,
        None => Some((Type::Any, false)),
    }
}

fn integer(digits: &str) -> Result<i64, String> {
    digits.parse().map_err(|_| format!("{digits} does not fit into 64 bits"))
}

fn decimal(digits: &str) -> Result<Number, String> {
    Number::read(digits).ok_or_else(|| format!("{digits} is no number that can be calculated with"))
}

/// Has the `_name` of primitives looked up, whose extensions are asked for.
fn with_companions(node: &mut Node) {
    match node {
        Node::Step(step) => step.with_companion = !matches!(step.element.kind, Kind::Complex(_)),
        Node::Where(base, _) | Node::OfType(base, _) | Node::Call(_, base, _) => with_companions(base),
        _ => {}
    }
}

/// Whether an expression, evaluated on a primitive, names what only its `_name` holds.
fn asks_for_companions(expr: &Expr) -> bool {
    let any = |base: &Option<Box<Expr>>| base.as_deref().is_some_and(asks_for_companions);
    match expr {
        Expr::Member(base, name) => matches!(name.as_str(), "extension" | "id") || any(base),
        Expr::Call(base, name, arguments) => {
            name == "extension" || any(base) || arguments.iter().any(asks_for_companions)
        }
        Expr::Index(left, right) | Expr::Binary(left, _, right) => {
            asks_for_companions(left) || asks_for_companions(right)
        }
        Expr::Negative(operand) | Expr::Typed(operand, ..) => asks_for_companions(operand),
        _ => false,
    }
}

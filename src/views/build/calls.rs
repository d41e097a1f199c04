//! The functions that change what the expression inside of them is evaluated on, and types.

use regex::{Regex, RegexBuilder};

use super::{Builder, Built, Type, asks_for_companions, with_companions};
use crate::views::elements;
use crate::views::elements::Kind;
use crate::views::fhirpath::{Expr, TypeOperator};
use crate::views::item::Item;
use crate::views::program::{MatchOf, Node, Pattern, TypeTest};

/// Longest compiled regular expression, in bytes.
const PATTERN_BYTES_MAX: usize = 1_000_000;

/// Returns why a function that is known is not to be had.
fn never(name: &str) -> Option<&'static str> {
    match name {
        "memberOf" | "subsumes" | "subsumedBy" => {
            Some("it needs a terminology server: list the codes instead")
        }
        "conformsTo" | "htmlChecks" => Some("it needs a validator"),
        "toQuantity" | "convertsToQuantity" | "comparable" => {
            Some("quantities with units (UCUM) are not calculated with: use `.value` and `.code`")
        }
        "aggregate" | "trace" | "defineVariable" => Some("views are single expressions"),
        _ => None,
    }
}

impl Builder<'_> {
    pub(super) fn call(
        &mut self,
        base: Option<&Expr>,
        name: &str,
        arguments: &[Expr],
        this: &Type,
    ) -> Result<Built, String> {
        if let Some(why) = never(name) {
            return Err(format!("{name}() is not supported: {why}"));
        }
        let base = self.base(base, this)?;
        match (name, arguments) {
            ("where", [criterion]) => self.filtered(base, criterion),
            ("exists", [criterion]) => {
                let found = self.filtered(base, criterion)?;
                self.function(found, "exists", &[], this)
            }
            ("select", [projection]) => {
                let inner = self.build(projection, &base.gives)?;
                let is_many = base.is_many || inner.is_many;
                let node = Node::Select(Box::new(base.node), Box::new(inner.node));
                Ok(Built { node, gives: inner.gives, is_many })
            }
            ("all", [criterion]) => {
                let criterion = self.criterion(criterion, &base.gives)?;
                let node = Node::All(Box::new(base.node), Box::new(criterion));
                Ok(Built::one(node, Kind::Boolean))
            }
            ("repeat", [projection]) => self.repeat(base, projection),
            ("extension", [url]) => self.extension(base, url, this),
            ("ofType" | "as", [type_name]) => typed(base, TypeOperator::As, type_name),
            ("is", [type_name]) => typed(base, TypeOperator::Is, type_name),
            ("getReferenceKey", [] | [_]) => reference_key(base, arguments.first()),
            ("getResourceKey", []) => resource_key(base),
            ("matches" | "matchesFull", [pattern]) => {
                let whole = if name == "matches" { MatchOf::Part } else { MatchOf::Whole };
                let pattern = self.pattern(pattern, whole, this)?;
                self.note_several(&base);
                let node = Node::Matches(Box::new(base.node), pattern, whole);
                Ok(Built::one(node, Kind::Boolean))
            }
            ("replaceMatches", [pattern, with]) => {
                let pattern = self.pattern(pattern, MatchOf::Part, this)?;
                let with = Box::new(self.build(with, this)?.node);
                self.note_several(&base);
                let node = Node::ReplaceMatches(Box::new(base.node), pattern, with);
                Ok(Built::one(node, Kind::String))
            }
            ("iif", [condition, rest @ ..]) if (1..=2).contains(&rest.len()) => {
                self.iif(condition, rest, &base)
            }
            _ => self.function(base, name, arguments, this),
        }
    }

    /// A criterion, as `where()` takes it: a boolean and nothing else.
    pub(in crate::views) fn criterion(&mut self, expr: &Expr, this: &Type) -> Result<Node, String> {
        let built = self.build(expr, this)?;
        match &built.gives {
            Type::Known(Kind::Boolean | Kind::Nothing) | Type::Any => {
                self.note_several(&built);
                Ok(built.node)
            }
            Type::Known(kind) => {
                Err(format!("a condition must give a boolean, this gives a {}", kind.name()))
            }
            Type::Choice(..) => {
                Err("a condition must give a boolean: compare it, or ask exists()".to_owned())
            }
        }
    }

    fn filtered(&mut self, mut base: Built, criterion: &Expr) -> Result<Built, String> {
        if asks_for_companions(criterion)
            && base.gives.kind().is_some_and(|kind| !matches!(kind, Kind::Complex(_)))
        {
            with_companions(&mut base.node);
        }
        let criterion = self.criterion(criterion, &base.gives)?;
        Ok(base.with(|base| Node::Where(base, Box::new(criterion))))
    }

    fn extension(&mut self, base: Built, url: &Expr, this: &Type) -> Result<Built, String> {
        let url = self.build(url, this)?;
        if !matches!(url.gives, Type::Known(Kind::String | Kind::Nothing) | Type::Any) {
            return Err("extension() takes the extension's url as a text".to_owned());
        }
        let mut extensions = self.step(base, "extension")?;
        extensions.gives = Type::Known(Kind::Complex("Extension"));
        Ok(extensions.with(|extensions| Node::Extension(extensions, Box::new(url.node))))
    }

    /// The projection is built for elements of any type: what it leads to need not be what it
    /// starts from.
    fn repeat(&mut self, base: Built, projection: &Expr) -> Result<Built, String> {
        let gives = self.reached(&[projection], &base.gives)?;
        let projection = self.build(projection, &Type::Any)?;
        let node = Node::Repeat(Box::new(base.node), Box::new(projection.node));
        Ok(Built { node, gives, is_many: true })
    }

    /// What paths lead to, and from there again.
    pub(in crate::views) fn reached(&mut self, paths: &[&Expr], start: &Type) -> Result<Type, String> {
        const TYPES_MAX: usize = 16;
        let mut found = vec![start.clone()];
        let mut gives = Type::Known(Kind::Nothing);
        let mut seen = 0;
        while let Some(from) = found.get(seen).cloned() {
            // Only where it starts must each path be known; below, one of several may be.
            let is_lenient = self.is_lenient;
            self.is_lenient |= 0 < seen;
            for path in paths {
                let to = self.build(path, &from)?.gives;
                gives = gives.or(&to);
                if !to.is_nothing() && !found.contains(&to) && found.len() < TYPES_MAX {
                    found.push(to);
                }
            }
            self.is_lenient = is_lenient;
            seen += 1;
        }
        Ok(gives)
    }

    fn iif(&mut self, condition: &Expr, branches: &[Expr], base: &Built) -> Result<Built, String> {
        let condition = self.build(condition, &base.gives)?;
        let mut built = Vec::new();
        for branch in branches {
            built.push(self.build(branch, &base.gives)?);
        }
        let otherwise = built.get(1).cloned().unwrap_or_else(Built::nothing);
        let then = built.swap_remove(0);
        let gives = then.gives.or(&otherwise.gives);
        let is_many = then.is_many || otherwise.is_many;
        let node = Node::Iif(Box::new(condition.node), Box::new(then.node), Box::new(otherwise.node));
        // `value.iif(…)` is evaluated on the value.
        let node = match &base.node {
            Node::This => node,
            other => Node::Select(Box::new(other.clone()), Box::new(node)),
        };
        Ok(Built { node, gives, is_many })
    }

    fn pattern(&mut self, expr: &Expr, whole: MatchOf, this: &Type) -> Result<Pattern, String> {
        let built = self.build(expr, this)?;
        let Node::Literal(Item::Text(text, _)) = &built.node else {
            return Ok(Pattern::Worked(Box::new(built.node)));
        };
        let key = (text.to_string(), whole);
        if let Some(known) = self.patterns.get(&key) {
            return Ok(Pattern::Fixed(known.clone()));
        }
        let regex = regex_of(text, whole)
            .ok_or_else(|| format!("'{text}' is not a regular expression that can be used"))?;
        self.patterns.insert(key, regex.clone());
        Ok(Pattern::Fixed(regex))
    }
}

/// Reads a regular expression; `None` for one that is none, or that is too large.
pub(in crate::views) fn regex_of(text: &str, whole: MatchOf) -> Option<Regex> {
    let text = match whole {
        MatchOf::Part => text.to_owned(),
        MatchOf::Whole => format!("^(?:{text})$"),
    };
    // As FHIRPath asks: a dot is also a line break.
    RegexBuilder::new(&text).dot_matches_new_line(true).size_limit(PATTERN_BYTES_MAX).build().ok()
}

/// `operand is Type`, `operand as Type`, `operand.ofType(Type)`.
pub(super) fn typed(operand: Built, operator: TypeOperator, type_name: &Expr) -> Result<Built, String> {
    let name = type_name_of(type_name)?;
    let chosen = match &operand.gives {
        Type::Choice(owner, group) => Some(
            elements::chosen(owner, group, &name)
                .ok_or_else(|| format!("{owner}.{group}[x] cannot be a {name} in FHIR R4"))?,
        ),
        _ => None,
    };
    let is_many = operand.is_many;
    let built = match (chosen, operand.node) {
        // The element itself: `valueQuantity`.
        (Some(element), Node::OneOf(base, _)) => {
            let step = super::Step { base: *base, element, only: None, with_companion: false };
            Built { node: Node::Step(Box::new(step)), gives: Type::Known(element.kind), is_many }
        }
        (Some(element), node) => {
            let node = Node::OfType(Box::new(node), TypeTest::Kind(element.kind));
            Built { node, gives: Type::Known(element.kind), is_many }
        }
        (None, node) => {
            let (test, gives) = test_of(&operand.gives, &name)?;
            Built { node: Node::OfType(Box::new(node), test), gives, is_many }
        }
    };
    Ok(match operator {
        TypeOperator::As => built,
        TypeOperator::Is => match built.node {
            Node::OfType(operand, test) => Built::one(Node::Is(operand, test), Kind::Boolean),
            step => {
                let exists = crate::views::program::Function::Exists;
                Built::one(Node::Call(exists, Box::new(step), Vec::new()), Kind::Boolean)
            }
        },
    })
}

/// The question whether something is of the named type, and what it then is.
fn test_of(operand: &Type, name: &str) -> Result<(TypeTest, Type), String> {
    let never = Ok((TypeTest::Never, Type::Known(Kind::Nothing)));
    match operand {
        Type::Known(Kind::Complex("Resource" | "DomainResource")) => {
            if matches!(name, "Resource" | "DomainResource") {
                return Ok((TypeTest::AnyResource, operand.clone()));
            }
            let Some(resource_type) = elements::resource_type(name) else {
                return Err(format!("{name} is not a resource type of FHIR R4"));
            };
            Ok((TypeTest::Resource(resource_type), Type::Known(Kind::Complex(resource_type))))
        }
        Type::Known(Kind::Complex(owner)) if matches!(name, "Resource" | "DomainResource") => {
            if elements::is_resource(owner) {
                Ok((TypeTest::AnyResource, operand.clone()))
            } else {
                never
            }
        }
        Type::Known(kind) if is_of(*kind, name) => Ok((TypeTest::Kind(*kind), operand.clone())),
        Type::Known(_) => never,
        Type::Choice(..) | Type::Any => {
            if let Some(resource_type) = elements::resource_type(name) {
                return Ok((TypeTest::Resource(resource_type), Type::Known(Kind::Complex(resource_type))));
            }
            let Some(kind) = kind_named(name) else {
                return Err(format!("{name} is not a type of FHIR R4"));
            };
            Ok((TypeTest::Kind(kind), Type::Known(kind)))
        }
    }
}

fn reference_key(base: Built, type_name: Option<&Expr>) -> Result<Built, String> {
    let wanted = match type_name.map(type_name_of).transpose()? {
        None => None,
        Some(name) => Some(
            elements::resource_type(&name)
                .ok_or_else(|| format!("getReferenceKey(): {name} is not a resource type of FHIR R4"))?,
        ),
    };
    match &base.gives {
        Type::Known(Kind::Nothing) => Ok(Built::nothing()),
        Type::Known(Kind::Complex("Reference")) | Type::Any | Type::Choice(..) => {
            let gives = Type::Known(Kind::String);
            Ok(Built { gives, ..base.with(|base| Node::ReferenceKey(base, wanted)) })
        }
        Type::Known(_) => Err("getReferenceKey() is for references".to_owned()),
    }
}

fn resource_key(base: Built) -> Result<Built, String> {
    match &base.gives {
        Type::Known(Kind::Complex(name)) if elements::is_resource(name) => {}
        Type::Any => {}
        _ => return Err("getResourceKey() is for a resource".to_owned()),
    }
    Ok(Built { gives: Type::Known(Kind::String), ..base.with(Node::ResourceKey) })
}

fn type_name_of(expr: &Expr) -> Result<String, String> {
    match expr {
        Expr::Member(None, name) => Ok(name.clone()),
        Expr::Member(Some(space), name) if **space == Expr::Member(None, "FHIR".to_owned()) => {
            Ok(name.clone())
        }
        Expr::Member(Some(space), name) if **space == Expr::Member(None, "System".to_owned()) => {
            let mut letters = name.chars();
            let first = letters.next().map(|letter| letter.to_ascii_lowercase());
            Ok(first.into_iter().chain(letters).collect())
        }
        _ => Err("a type's name is expected, such as Quantity or dateTime".to_owned()),
    }
}

const STRINGS: [&str; 10] =
    ["string", "code", "id", "uri", "url", "uuid", "oid", "canonical", "markdown", "base64Binary"];
const INTEGERS: [&str; 3] = ["integer", "positiveInt", "unsignedInt"];

pub(in crate::views) fn is_of(kind: Kind, name: &str) -> bool {
    // FHIRPath's own types begin with a capital.
    match kind {
        Kind::String => STRINGS.contains(&name) || name == "String",
        Kind::Integer => INTEGERS.contains(&name) || name == "Integer",
        Kind::Boolean => matches!(name, "boolean" | "Boolean"),
        Kind::Decimal => matches!(name, "decimal" | "Decimal"),
        Kind::Date => matches!(name, "date" | "Date"),
        Kind::DateTime => matches!(name, "dateTime" | "DateTime"),
        Kind::Time => matches!(name, "time" | "Time"),
        _ => kind.name() == name,
    }
}

fn kind_named(name: &str) -> Option<Kind> {
    let simple = [
        Kind::String,
        Kind::Integer,
        Kind::Boolean,
        Kind::Decimal,
        Kind::Date,
        Kind::DateTime,
        Kind::Instant,
        Kind::Time,
    ];
    let simple = simple.into_iter().find(|kind| is_of(*kind, name));
    simple.or_else(|| elements::complex_type(name).map(Kind::Complex))
}

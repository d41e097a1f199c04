//! The functions whose arguments are evaluated as any expression is, by name.

use super::{Builder, Built, Type, nth};
use crate::views::elements::Kind;
use crate::views::fhirpath::Expr;
use crate::views::program::{Function, Node};

const SUPPORTED: &str = "where, select, repeat, exists, empty, all, allTrue, anyTrue, allFalse, anyFalse, not, first, last, \
     single, skip, take, tail, count, distinct, isDistinct, union, combine, intersect, exclude, subsetOf, \
     supersetOf, join, split, coalesce, iif, sum, min, max, avg, children, descendants, ancestors, extension, resolve, ofType, \
     as, is, hasValue, getValue, getResourceKey, getReferenceKey, lowBoundary, highBoundary, startsWith, endsWith, \
     contains, indexOf, lastIndexOf, length, lower, upper, trim, replace, matches, matchesFull, replaceMatches, \
     substring, toChars, encode, decode, toString, toInteger, toDecimal, toBoolean, toDate, toDateTime, toTime, \
     convertsTo…, duration, abs, round, ceiling, floor, truncate, sqrt, power, exp, ln, log, today, now, timeOfDay";

/// What a function gives.
enum Gives {
    Kind(Kind),
    /// What it is asked of.
    Same,
    /// What it is asked of, or what its arguments give.
    Both,
    Any,
}

/// How many elements it looks at, and how many it gives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arity {
    /// A collection to a collection.
    ManyToMany,
    /// A collection to one value.
    ManyToOne,
    /// One value to one value.
    One,
    /// One value to a collection.
    OneToMany,
}

/// Returns what a function of that name and so many arguments is.
fn of_collections(name: &str, arguments: usize) -> Option<(Function, Arity, Gives)> {
    use Arity::{ManyToMany, ManyToOne};
    use Function::*;
    let boolean = Gives::Kind(Kind::Boolean);
    Some(match (name, arguments) {
        ("exists", 0) => (Exists, ManyToOne, boolean),
        ("empty", 0) => (Empty, ManyToOne, boolean),
        ("hasValue", 0) => (HasValue, ManyToOne, boolean),
        ("count", 0) => (Count, ManyToOne, Gives::Kind(Kind::Integer)),
        ("distinct", 0) => (Distinct, ManyToMany, Gives::Same),
        ("isDistinct", 0) => (IsDistinct, ManyToOne, boolean),
        ("last", 0) => (Last, ManyToOne, Gives::Same),
        ("single" | "getValue", 0) => (Single, ManyToOne, Gives::Same),
        ("tail", 0) => (Tail, ManyToMany, Gives::Same),
        ("skip", 1) => (Skip, ManyToMany, Gives::Same),
        ("take", 1) => (Take, ManyToMany, Gives::Same),
        ("union", 1) => (Union, ManyToMany, Gives::Both),
        ("combine", 1) => (Combine, ManyToMany, Gives::Both),
        ("intersect", 1) => (Intersect, ManyToMany, Gives::Same),
        ("exclude", 1) => (Exclude, ManyToMany, Gives::Same),
        ("subsetOf", 1) => (SubsetOf, ManyToOne, boolean),
        ("supersetOf", 1) => (SupersetOf, ManyToOne, boolean),
        ("coalesce", 1..) => (Coalesce, ManyToMany, Gives::Both),
        ("join", 0 | 1) => (Join, ManyToOne, Gives::Kind(Kind::String)),
        ("sum", 0) => (Sum, ManyToOne, Gives::Same),
        ("min", 0) => (Min, ManyToOne, Gives::Same),
        ("max", 0) => (Max, ManyToOne, Gives::Same),
        ("avg", 0) => (Average, ManyToOne, Gives::Kind(Kind::Decimal)),
        ("allTrue", 0) => (AllTrue, ManyToOne, boolean),
        ("anyTrue", 0) => (AnyTrue, ManyToOne, boolean),
        ("allFalse", 0) => (AllFalse, ManyToOne, boolean),
        ("anyFalse", 0) => (AnyFalse, ManyToOne, boolean),
        ("children", 0) => (Children, ManyToMany, Gives::Any),
        ("descendants", 0) => (Descendants, ManyToMany, Gives::Any),
        ("ancestors", 0) => (Ancestors, ManyToMany, Gives::Any),
        ("resolve", 0) => (Resolve, ManyToMany, Gives::Kind(Kind::Complex("Resource"))),
        _ => return None,
    })
}

fn of_texts(name: &str, arguments: usize) -> Option<(Function, Arity, Gives)> {
    use Arity::{One, OneToMany};
    use Function::*;
    let (boolean, integer, text) =
        (Gives::Kind(Kind::Boolean), Gives::Kind(Kind::Integer), Gives::Kind(Kind::String));
    Some(match (name, arguments) {
        ("startsWith", 1) => (StartsWith, One, boolean),
        ("endsWith", 1) => (EndsWith, One, boolean),
        ("contains", 1) => (Contains, One, boolean),
        ("indexOf", 1) => (IndexOf, One, integer),
        ("lastIndexOf", 1) => (LastIndexOf, One, integer),
        ("length", 0) => (Length, One, integer),
        ("lower", 0) => (Lower, One, text),
        ("upper", 0) => (Upper, One, text),
        ("trim", 0) => (Trim, One, text),
        ("replace", 2) => (Replace, One, text),
        ("substring", 1 | 2) => (Substring, One, text),
        ("split", 1) => (Split, OneToMany, text),
        ("toChars", 0) => (ToChars, OneToMany, text),
        ("encode", 1) => (Encode, One, text),
        ("decode", 1) => (Decode, One, text),
        _ => return None,
    })
}

fn of_values(name: &str, arguments: usize) -> Option<(Function, Arity, Gives)> {
    use Arity::One;
    use Function::*;
    let (integer, decimal) = (Gives::Kind(Kind::Integer), Gives::Kind(Kind::Decimal));
    Some(match (name, arguments) {
        ("not", 0) => (Not, One, Gives::Kind(Kind::Boolean)),
        ("lowBoundary", 0) => (LowBoundary, One, Gives::Same),
        ("highBoundary", 0) => (HighBoundary, One, Gives::Same),
        ("toString", 0) => (ToText, One, Gives::Kind(Kind::String)),
        ("toInteger" | "toLong", 0) => (ToInteger, One, integer),
        ("toDecimal", 0) => (ToDecimal, One, decimal),
        ("toBoolean", 0) => (ToBoolean, One, Gives::Kind(Kind::Boolean)),
        ("toDate", 0) => (ToDate, One, Gives::Kind(Kind::Date)),
        ("toDateTime", 0) => (ToDateTime, One, Gives::Kind(Kind::DateTime)),
        ("toTime", 0) => (ToTime, One, Gives::Kind(Kind::Time)),
        ("duration", 2) => (Duration, One, integer),
        ("abs", 0) => (Abs, One, Gives::Same),
        ("round", 0 | 1) => (Round, One, decimal),
        ("ceiling", 0) => (Ceiling, One, integer),
        ("floor", 0) => (Floor, One, integer),
        ("truncate", 0) => (Truncate, One, integer),
        ("sqrt", 0) => (SquareRoot, One, decimal),
        ("power", 1) => (Power, One, decimal),
        ("exp", 0) => (Exponential, One, decimal),
        ("ln", 0) => (NaturalLogarithm, One, decimal),
        ("log", 1) => (Logarithm, One, decimal),
        ("now", 0) => (Now, One, Gives::Kind(Kind::DateTime)),
        ("today", 0) => (Today, One, Gives::Kind(Kind::Date)),
        ("timeOfDay", 0) => (TimeOfDay, One, Gives::Kind(Kind::Time)),
        _ => return None,
    })
}

impl Builder<'_> {
    pub(super) fn function(
        &mut self,
        base: Built,
        name: &str,
        arguments: &[Expr],
        this: &Type,
    ) -> Result<Built, String> {
        if (name, arguments) == ("first", &[]) {
            return Ok(nth(base, 0));
        }
        if let Some(rest) = name.strip_prefix("convertsTo") {
            let converted = self.function(base, &format!("to{rest}"), arguments, this)?;
            return self.function(converted, "exists", &[], this);
        }
        let count = arguments.len();
        let found =
            of_collections(name, count).or_else(|| of_texts(name, count)).or_else(|| of_values(name, count));
        let Some((function, arity, gives)) = found else {
            return Err(format!(
                "{name}() with {count} argument(s) is not supported; there are: {SUPPORTED}"
            ));
        };
        check_operand(function, name, &base.gives)?;
        if matches!(function, Function::Now | Function::Today | Function::TimeOfDay) {
            self.depends_on_time = true;
        }
        if function == Function::Resolve {
            self.notes.push("resolve() finds contained resources, and nothing else".to_owned());
        }
        let mut nodes = Vec::new();
        let mut both = base.gives.clone();
        let mut is_any_many = base.is_many;
        for argument in arguments {
            let built = self.build(argument, this)?;
            both = both.or(&built.gives);
            is_any_many |= built.is_many;
            nodes.push(built.node);
        }
        if matches!(arity, Arity::One | Arity::OneToMany) || function == Function::Single {
            self.note_several(&base);
        }
        let gives = match gives {
            // Alone, it is a list of what is there.
            Gives::Both if function == Function::Coalesce && matches!(base.node, Node::This) => {
                self.arguments_type(arguments, this)?
            }
            Gives::Kind(kind) => Type::Known(kind),
            Gives::Same => base.gives.clone(),
            Gives::Both => both,
            Gives::Any => Type::Any,
        };
        let is_many = match arity {
            Arity::ManyToMany if matches!(function, Function::Resolve | Function::Coalesce) => is_any_many,
            Arity::ManyToMany => true,
            Arity::OneToMany => true,
            Arity::ManyToOne | Arity::One => false,
        };
        // `coalesce(a, b)` looks at its arguments alone, `a.coalesce(b)` at `a` first.
        let subject = match (function, base.node) {
            (Function::Coalesce, Node::This) => Node::Empty,
            (_, node) => node,
        };
        Ok(Built { node: Node::Call(function, Box::new(subject), nodes), gives, is_many })
    }

    fn arguments_type(&mut self, arguments: &[Expr], this: &Type) -> Result<Type, String> {
        let mut gives = Type::Known(Kind::Nothing);
        for argument in arguments {
            gives = gives.or(&self.build(argument, this)?.gives);
        }
        Ok(gives)
    }
}

/// Refuses what a function can never give a value of.
fn check_operand(function: Function, name: &str, operand: &Type) -> Result<(), String> {
    use Function::*;
    let Type::Known(kind) = operand else { return Ok(()) };
    if *kind == Kind::Nothing {
        return Ok(());
    }
    let is_complex = matches!(kind, Kind::Complex(_));
    let has_boundaries = *kind == Kind::Decimal || kind.is_temporal();
    let takes = match function {
        LowBoundary | HighBoundary if !has_boundaries => {
            return Err(format!("a {} has no boundaries", kind.name()));
        }
        Abs | Round | Ceiling | Floor | Truncate | SquareRoot | Power | Exponential | NaturalLogarithm
        | Logarithm | Sum | Average
            if !kind.is_number() =>
        {
            "numbers"
        }
        Duration if !kind.is_temporal() => "dates and times",
        Resolve if !matches!(kind, Kind::Complex("Reference") | Kind::String) => "references",
        StartsWith | EndsWith | Contains | IndexOf | LastIndexOf | Length | Lower | Upper | Trim
        | Replace | Substring | Split | ToChars | Encode | Decode | Join
            if is_complex =>
        {
            "texts"
        }
        _ => return Ok(()),
    };
    Err(format!("{name}() is for {takes}, this is a {}", kind.name()))
}

//! An expression with its names resolved and its constants put in: what is evaluated.
//!
//! Absent on purpose: types. They are settled when a program is built; what could not be settled
//! then (an element of several types) is a node of its own.

use regex::Regex;

use super::elements::{Element, Kind};
use super::item::Item;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Empty,
    Literal(Item<'static>),
    /// `$this`
    This,
    /// `%resource`
    Resource,
    /// `%rowIndex`
    RowIndex,
    Step(Box<Step>),
    /// An element of several types that no `ofType()` has settled.
    OneOf(Box<Node>, Choice),
    /// An element of what is known only when it is met.
    AnyStep(Box<Node>, String),
    /// `base.extension(url)`
    Extension(Box<Node>, Box<Node>),
    Where(Box<Node>, Box<Node>),
    Select(Box<Node>, Box<Node>),
    All(Box<Node>, Box<Node>),
    /// Again and again on what it gives, each node once.
    Repeat(Box<Node>, Box<Node>),
    /// The elements of a type.
    OfType(Box<Node>, TypeTest),
    /// Whether the one element is of a type.
    Is(Box<Node>, TypeTest),
    ResourceKey(Box<Node>),
    ReferenceKey(Box<Node>, Option<&'static str>),
    Matches(Box<Node>, Pattern, MatchOf),
    ReplaceMatches(Box<Node>, Pattern, Box<Node>),
    Call(Function, Box<Node>, Vec<Node>),
    Iif(Box<Node>, Box<Node>, Box<Node>),
    Logic(Logic, Box<Node>, Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    Arithmetic(Arithmetic, Box<Node>, Box<Node>),
    Negative(Box<Node>),
    /// `element in collection`
    Member {
        element: Box<Node>,
        of: Box<Node>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) base: Node,
    pub(super) element: Element,
    /// The place in the array that alone is looked at.
    pub(super) only: Option<usize>,
    /// Whether the `_name` of a primitive element is looked up beside it.
    pub(super) with_companion: bool,
}

/// A choice such as `value[x]`: what its elements' names begin with, and what they can be.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) name: String,
    pub(super) elements: Vec<Element>,
}

/// A type that an element may be asked for.
#[derive(Clone, Debug)]
pub(super) enum TypeTest {
    Kind(Kind),
    /// A resource of that type.
    Resource(&'static str),
    /// `Resource` or `DomainResource`.
    AnyResource,
    Never,
}

/// A regular expression, compiled once where it is written out.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Fixed(Regex),
    Worked(Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum MatchOf {
    Part,
    Whole,
}

/// Functions whose arguments are evaluated as any expression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    // Of a whole collection.
    Exists,
    Empty,
    HasValue,
    Count,
    Distinct,
    IsDistinct,
    First,
    Last,
    Single,
    Tail,
    Skip,
    Take,
    Index,
    Union,
    Combine,
    Intersect,
    Exclude,
    SubsetOf,
    SupersetOf,
    Coalesce,
    Join,
    Sum,
    Min,
    Max,
    Average,
    AllTrue,
    AnyTrue,
    AllFalse,
    AnyFalse,
    Children,
    Descendants,
    /// Ours: what an element stands within.
    Ancestors,
    Resolve,
    // Of one value.
    Not,
    LowBoundary,
    HighBoundary,
    StartsWith,
    EndsWith,
    Contains,
    IndexOf,
    LastIndexOf,
    Length,
    Lower,
    Upper,
    Trim,
    Replace,
    Substring,
    Split,
    ToChars,
    Encode,
    Decode,
    ToText,
    ToInteger,
    ToDecimal,
    ToBoolean,
    ToDate,
    ToDateTime,
    ToTime,
    /// From one time to another, in whole units.
    Duration,
    Abs,
    Round,
    Ceiling,
    Floor,
    Truncate,
    SquareRoot,
    Power,
    Exponential,
    NaturalLogarithm,
    Logarithm,
    // Of the day it is asked.
    Now,
    Today,
    TimeOfDay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logic {
    And,
    Or,
    Xor,
    Implies,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Equivalent,
    NotEquivalent,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Div,
    Mod,
    Concatenate,
}

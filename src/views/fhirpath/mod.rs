//! FHIRPath, read into a tree.
//!
//! Promise: any text gives a tree or a sentence about what is wrong, never a panic and never
//! a deep recursion. What the tree means, and which functions exist, is decided in `build`.
//!
//! Absent on purpose: quantities with units (refused by name), comments in expressions, and
//! positions: an expression is one line long.

mod lexer;
mod parser;

pub(super) use parser::parse;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// `{}`
    Empty,
    Text(String),
    Boolean(bool),
    /// The digits as written.
    Integer(String),
    Decimal(String),
    /// `@2020-01-01`, without the `@`.
    Date(String),
    /// `@2020-01-01T10:00:00Z`, without the `@`.
    DateTime(String),
    /// `@T10:00`, without the `@T`.
    Time(String),
    /// `%name`
    Constant(String),
    /// `$this`
    This,
    /// `base.name`, or `name` of what the expression is evaluated on.
    Member(Option<Box<Expr>>, String),
    /// `base.name(arguments)`
    Call(Option<Box<Expr>>, String, Vec<Expr>),
    /// `base[index]`
    Index(Box<Expr>, Box<Expr>),
    /// `-operand`
    Negative(Box<Expr>),
    Binary(Box<Expr>, Operator, Box<Expr>),
    /// `operand is Type`, `operand as Type`
    Typed(Box<Expr>, TypeOperator, Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TypeOperator {
    Is,
    As,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Implies,
    Or,
    Xor,
    And,
    In,
    Contains,
    Equal,
    NotEqual,
    Equivalent,
    NotEquivalent,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Union,
    Add,
    Subtract,
    Concatenate,
    Multiply,
    Divide,
    Div,
    Mod,
}

impl Operator {
    /// As it is written.
    pub(super) fn symbol(self) -> &'static str {
        match self {
            Self::Implies => "implies",
            Self::Or => "or",
            Self::Xor => "xor",
            Self::And => "and",
            Self::In => "in",
            Self::Contains => "contains",
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Equivalent => "~",
            Self::NotEquivalent => "!~",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Union => "|",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Concatenate => "&",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Div => "div",
            Self::Mod => "mod",
        }
    }
}

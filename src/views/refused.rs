//! Why a ViewDefinition is not compiled: the column, the expression, and what is wrong with it.
//!
//! Absent on purpose: positions in a file. Whoever read the file adds its name.

use std::fmt;

/// A ViewDefinition we do not compile. What it prints ends in what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refused {
    /// The column at fault, where it is one.
    pub column: Option<String>,
    /// The FHIRPath expression at fault, as written, where it is one.
    pub expression: Option<String>,
    /// What is wrong.
    pub why: String,
}

impl Refused {
    pub(super) fn because(why: impl Into<String>) -> Self {
        Self { column: None, expression: None, why: why.into() }
    }

    /// Names the expression, unless a narrower one is named already.
    pub(super) fn in_expression(mut self, expression: &str) -> Self {
        self.expression.get_or_insert_with(|| expression.to_owned());
        self
    }

    /// Names the column, unless it is named already.
    pub(super) fn in_column(mut self, column: &str) -> Self {
        self.column.get_or_insert_with(|| column.to_owned());
        self
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(column) = &self.column {
            write!(out, "column `{column}`: ")?;
        }
        if let Some(expression) = &self.expression {
            write!(out, "in `{expression}`: ")?;
        }
        out.write_str(&self.why)
    }
}

//! Cells and columns on their way into a file.

use std::borrow::Cow;

use crate::warehouse::extract::StoredCell;

/// A cell to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'c> {
    Null,
    Integer(i64),
    Real(f64),
    Text(Cow<'c, str>),
}

impl<'c> From<StoredCell<'c>> for Cell<'c> {
    fn from(stored: StoredCell<'c>) -> Self {
        match stored {
            StoredCell::Null => Self::Null,
            StoredCell::Integer(number) => Self::Integer(number),
            StoredCell::Real(number) => Self::Real(number),
            StoredCell::Text(text) => Self::Text(text.into()),
        }
    }
}

impl<'c> From<Option<&'c str>> for Cell<'c> {
    fn from(text: Option<&'c str>) -> Self {
        text.map_or(Self::Null, |text| Self::Text(text.into()))
    }
}

/// A column to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: ColumnKind,
}

impl Column {
    pub(crate) fn new(name: &str, kind: ColumnKind) -> Self {
        Self { name: name.to_owned(), kind }
    }
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    Text,
    Real,
    Integer,
    /// Stored as 0 and 1.
    Boolean,
    Date,
    DateTime,
}

impl ColumnKind {
    /// Returns what a declared type holds.
    pub(crate) fn declared(declared: &str) -> Self {
        match declared.to_ascii_uppercase().as_str() {
            "REAL" => Self::Real,
            "INTEGER" => Self::Integer,
            "BOOLEAN" => Self::Boolean,
            "DATE" => Self::Date,
            "DATETIME" => Self::DateTime,
            _ => Self::Text,
        }
    }
}

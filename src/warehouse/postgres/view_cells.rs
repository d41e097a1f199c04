//! The cells of an analysts' table on their way into it: a typed array a column.
//!
//! Promise: whatever a resource holds, the server takes it. What does not fit is NULL, U+0000 becomes U+FFFD, and
//! a text that an index could not take is NULL. Absent on purpose: statements.

use std::borrow::Cow;

use super::values::Param;
use crate::plan::Timestamp;
use crate::time::Day;
use crate::views::{Cell, Column, Declared};

/// A longer text does not fit beside a person into an entry of an index.
pub(super) const INDEXED_BYTES_MAX: usize = 2_000;
/// Digits and exponents beyond what a measured value has; PostgreSQL's own limits are further away.
const DIGITS_MAX: usize = 400;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text, up to a limit where an index has it.
    Text(Option<usize>),
    Number,
    Integer,
    Boolean,
    Day,
    Moment,
}

impl Kind {
    pub(super) fn of(column: &Column) -> Self {
        match column.declared {
            Declared::Text => Self::Text(None),
            Declared::Real => Self::Number,
            Declared::Integer if column.boolean => Self::Boolean,
            Declared::Integer => Self::Integer,
            Declared::Date => Self::Day,
            Declared::DateTime => Self::Moment,
        }
    }

    /// Returns the type as it stands in CREATE TABLE.
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Number => "numeric",
            Self::Integer => "bigint",
            Self::Boolean => "boolean",
            Self::Day => "date",
            Self::Moment => "timestamptz",
        }
    }

    /// Returns what an element of the array becomes in a row.
    pub(super) fn cast(self) -> &'static str {
        // The digits are sent as they were received.
        if self == Self::Number { "::numeric" } else { "" }
    }
}

/// The cells of one column.
#[derive(Debug)]
pub(super) enum Cells<'r> {
    Text(Vec<Option<Cow<'r, str>>>),
    Integer(Vec<Option<i64>>),
    Boolean(Vec<Option<bool>>),
    Day(Vec<Option<Day>>),
    Moment(Vec<Option<Timestamp>>),
}

impl<'r> Cells<'r> {
    pub(super) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Text(_) | Kind::Number => Self::Text(Vec::new()),
            Kind::Integer => Self::Integer(Vec::new()),
            Kind::Boolean => Self::Boolean(Vec::new()),
            Kind::Day => Self::Day(Vec::new()),
            Kind::Moment => Self::Moment(Vec::new()),
        }
    }

    pub(super) fn push(&mut self, kind: Kind, cell: Cell<'r>) {
        match self {
            Self::Text(cells) => cells.push(text(kind, cell)),
            Self::Integer(cells) => cells.push(match cell {
                Cell::Integer(number) => Some(number),
                Cell::Boolean(value) => Some(i64::from(value)),
                _ => None,
            }),
            Self::Boolean(cells) => cells.push(match cell {
                Cell::Boolean(value) => Some(value),
                Cell::Integer(0) => Some(false),
                Cell::Integer(1) => Some(true),
                _ => None,
            }),
            Self::Day(cells) => cells.push(match cell {
                Cell::Text(text) => day(&text),
                _ => None,
            }),
            Self::Moment(cells) => cells.push(match cell {
                Cell::Text(text) => Timestamp::parse_with_a_blank(&text),
                _ => None,
            }),
        }
    }

    pub(super) fn into_param(self) -> Box<dyn Param + 'r> {
        match self {
            Self::Text(cells) => Box::new(cells),
            Self::Integer(cells) => Box::new(cells),
            Self::Boolean(cells) => Box::new(cells),
            Self::Day(cells) => Box::new(cells),
            Self::Moment(cells) => Box::new(cells),
        }
    }
}

fn text(kind: Kind, cell: Cell<'_>) -> Option<Cow<'_, str>> {
    match (kind, cell) {
        (Kind::Number, Cell::Real(number, digits)) => Some(numeric(number, digits)),
        (Kind::Number, Cell::Integer(number)) => Some(number.to_string().into()),
        (Kind::Text(limit), Cell::Text(text)) => {
            let fits = limit.is_none_or(|limit| text.len() <= limit);
            fits.then(|| if text.contains('\0') { text.replace('\0', "\u{FFFD}").into() } else { text })
        }
        _ => None,
    }
}

/// Returns a number with its digits, or with fewer where it has more than anybody measures.
fn numeric(number: f64, digits: Cow<'_, str>) -> Cow<'_, str> {
    let exponent = digits.split_once(['e', 'E']).map(|(_, exponent)| exponent.parse::<i32>());
    let is_usual = exponent
        .is_none_or(|exponent| exponent.is_ok_and(|exponent| exponent.unsigned_abs() as usize <= DIGITS_MAX));
    if is_usual && digits.len() <= DIGITS_MAX { digits } else { number.to_string().into() }
}

/// Returns a day that PostgreSQL can tell: it has no year 0.
pub(super) fn day(text: &str) -> Option<Day> {
    Day::parse(text).filter(|day| day.year() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_becomes_what_its_column_holds_or_null() {
        let pushed = |kind: Kind, cell: Cell<'static>| {
            let mut cells = Cells::of(kind);
            cells.push(kind, cell);
            format!("{cells:?}")
        };
        let written = |text: &str| Cell::Text(text.to_owned().into());
        let real = |digits: &str| Cell::Real(digits.parse().unwrap(), digits.to_owned().into());
        let long = "x".repeat(INDEXED_BYTES_MAX + 1);
        for (kind, cell, expected) in [
            (Kind::Text(None), written("a\0b"), "Text([Some(\"a\u{FFFD}b\")])"),
            (Kind::Text(Some(INDEXED_BYTES_MAX)), written(&long), "Text([None])"),
            (Kind::Text(Some(1)), written("a"), "Text([Some(\"a\")])"),
            (Kind::Number, real("5.40"), "Text([Some(\"5.40\")])"),
            (Kind::Number, real("1e-99999"), "Text([Some(\"0\")])"),
            (Kind::Number, written("5"), "Text([None])"),
            (Kind::Integer, Cell::Integer(7), "Integer([Some(7)])"),
            (Kind::Boolean, Cell::Boolean(true), "Boolean([Some(true)])"),
            (Kind::Boolean, Cell::Integer(2), "Boolean([None])"),
            (Kind::Day, written("2024-02-30"), "Day([None])"),
            (Kind::Day, written("0000-02-03"), "Day([None])"),
            (Kind::Moment, written("2024-03-01"), "Moment([None])"),
            (Kind::Moment, Cell::Null, "Moment([None])"),
        ] {
            assert_eq!(pushed(kind, cell), expected);
        }
        let mut cells = Cells::of(Kind::Moment);
        cells.push(Kind::Moment, written("2024-03-01 08:30:00"));
        assert!(
            matches!(cells, Cells::Moment(found) if found[0].unwrap().with_a_blank() == "2024-03-01 08:30:00")
        );
    }
}

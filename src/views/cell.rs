//! A cell of a row: what a column of a view may hold, by its declared type.
//!
//! The declared type follows the standard's `type`; the standard's tag `ansi/type` narrows it:
//! a `dateTime` may be partial and is TEXT as received, unless it is tagged TIMESTAMP, when it
//! is a full time in UTC or NULL; a `date` is TEXT unless it is tagged DATE, when it is a full
//! date or NULL.
//!
//! Promise: whatever the resource holds, a REAL column holds reals, an INTEGER column 64-bit
//! integers, a DATE column `YYYY-MM-DD`, a DATETIME column `YYYY-MM-DD HH:MM:SS` in UTC, or NULL.

use std::borrow::Cow;

use super::definition::ColumnDefinition;
use super::elements::Kind;
use super::item::Item;
use super::number::Number;
use super::tape::Tape;
use super::{Declared, moment};

/// The standard's own tag for a column's SQL type.
const TYPE_TAG: &str = "ansi/type";

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'d> {
    Null,
    Text(Cow<'d, str>),
    Integer(i64),
    Boolean(bool),
    /// A number, and its digits as they were received.
    Real(f64, Cow<'d, str>),
}

/// Returns the type of a column whose expression gives `kind`, where that is known.
pub(super) fn declared(column: &ColumnDefinition, kind: Option<Kind>) -> Result<Declared, String> {
    let declared = if let Some(tag) = column.tag(TYPE_TAG) {
        tagged(tag).ok_or_else(|| format!("the tag {TYPE_TAG} has a type we do not know: {tag:?}"))?
    } else {
        match (stated(column), kind) {
            (Some("boolean" | "integer" | "positiveInt" | "unsignedInt" | "integer64"), _) => {
                Declared::Integer
            }
            (Some("decimal"), _) => Declared::Real,
            (Some(_), _) => Declared::Text,
            (None, Some(Kind::Boolean | Kind::Integer)) => Declared::Integer,
            (None, Some(Kind::Decimal)) => Declared::Real,
            (None, _) => Declared::Text,
        }
    };
    match kind {
        Some(Kind::Complex(name)) => {
            Err(format!("it gives a whole {name}, which is no single value: name one of its elements"))
        }
        Some(kind) if !can_hold(declared, kind) => {
            Err(format!("a {} does not fit into a column declared {}", kind.name(), declared.sql()))
        }
        _ => Ok(declared),
    }
}

/// Returns whether a column's integers are 0 and 1.
pub(super) fn is_boolean(column: &ColumnDefinition, declared: Declared, kind: Option<Kind>) -> bool {
    let is_said = || {
        stated(column) == Some("boolean")
            || column.tag(TYPE_TAG).is_some_and(|tag| tag.eq_ignore_ascii_case("BOOLEAN"))
    };
    declared == Declared::Integer && kind.map_or_else(is_said, |kind| kind == Kind::Boolean)
}

fn stated(column: &ColumnDefinition) -> Option<&str> {
    column.fhir_type.as_deref().map(|url| url.rsplit(['/', '.']).next().unwrap_or(url))
}

fn tagged(tag: &str) -> Option<Declared> {
    let upper = tag.to_ascii_uppercase();
    match upper.split([' ', '(']).next()? {
        "DATE" => Some(Declared::Date),
        "TIMESTAMP" | "DATETIME" => Some(Declared::DateTime),
        "DOUBLE" | "REAL" | "FLOAT" | "DECIMAL" | "NUMERIC" => Some(Declared::Real),
        "INTEGER" | "INT" | "BIGINT" | "SMALLINT" | "BOOLEAN" => Some(Declared::Integer),
        "CHARACTER" | "CHAR" | "VARCHAR" | "TEXT" | "CLOB" | "TIME" => Some(Declared::Text),
        _ => None,
    }
}

fn can_hold(declared: Declared, kind: Kind) -> bool {
    match declared {
        Declared::Text => true,
        Declared::Real => kind.is_number() || kind == Kind::Nothing,
        Declared::Integer => kind.is_number() || matches!(kind, Kind::Boolean | Kind::Nothing),
        Declared::Date | Declared::DateTime => kind.is_text() && kind != Kind::Time || kind == Kind::Nothing,
    }
}

/// Returns the value of an element as a column of that type holds it.
pub(super) fn fitted<'d>(item: &Item<'d>, declared: Declared, tape: &Tape<'d>) -> Cell<'d> {
    let fitted = match declared {
        Declared::Text => item.in_words(tape).map(Cell::Text),
        Declared::Real => real(item, tape),
        Declared::Integer => match item.as_boolean(tape) {
            Some(value) => Some(Cell::Boolean(value)),
            None => item.as_number(tape).and_then(Number::as_i64).map(Cell::Integer),
        },
        // People send a time where a date is asked for: its day is what counts.
        Declared::Date => item.as_text(tape).and_then(|text| match text {
            Cow::Borrowed(text) => moment::date_of(text).map(|date| Cell::Text(Cow::Borrowed(date))),
            Cow::Owned(text) => moment::date_of(&text).map(|date| Cell::Text(Cow::Owned(date.to_owned()))),
        }),
        Declared::DateTime => {
            let utc = item.as_text(tape).and_then(|text| moment::utc(&text));
            utc.map(|utc| Cell::Text(Cow::Owned(utc)))
        }
    };
    fitted.unwrap_or(Cell::Null)
}

fn real<'d>(item: &Item<'d>, tape: &Tape<'d>) -> Option<Cell<'d>> {
    let digits = item.digits(tape)?;
    let value: f64 = match item {
        Item::Number(number, _) => number.as_f64(),
        _ => digits.parse().ok()?,
    };
    value.is_finite().then_some(Cell::Real(value, digits))
}

//! What goes into statements and comes out of rows: each type by the type of its column.

use std::borrow::Cow;
use std::error::Error;
use std::time::Duration;

use bytes::BytesMut;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, FromSqlOwned, IsNull, ToSql, Type, to_sql_checked};

use super::failure::Undone;
use crate::plan::Timestamp;
use crate::time::{Day, TimeDelta};

type Conversion<T> = Result<T, Box<dyn Error + Sync + Send>>;

/// A parameter that knows its type, so that statements need no round trip to learn it.
pub(super) trait Param: ToSql + Sync + Send {
    fn kind(&self) -> Type;
}

macro_rules! params {
    ($($rust:ty => $one:ident, $many:ident;)*) => {$(
        impl Param for $rust {
            fn kind(&self) -> Type {
                Type::$one
            }
        }
        impl Param for Option<$rust> {
            fn kind(&self) -> Type {
                Type::$one
            }
        }
        impl Param for Vec<$rust> {
            fn kind(&self) -> Type {
                Type::$many
            }
        }
        impl Param for Vec<Option<$rust>> {
            fn kind(&self) -> Type {
                Type::$many
            }
        }
    )*};
}

params! {
    &str => TEXT, TEXT_ARRAY;
    String => TEXT, TEXT_ARRAY;
    Cow<'_, str> => TEXT, TEXT_ARRAY;
    i64 => INT8, INT8_ARRAY;
    f64 => FLOAT8, FLOAT8_ARRAY;
    bool => BOOL, BOOL_ARRAY;
    Timestamp => TIMESTAMPTZ, TIMESTAMPTZ_ARRAY;
    Day => DATE, DATE_ARRAY;
    &[u8] => BYTEA, BYTEA_ARRAY;
    Vec<u8> => BYTEA, BYTEA_ARRAY;
}

/// Whole seconds between 1970 and 2000, where PostgreSQL's clock begins.
const SECONDS_TO_2000: i64 = 946_684_800;

impl ToSql for Timestamp {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Conversion<IsNull> {
        let micros = self.timestamp_micros() - SECONDS_TO_2000 * 1_000_000;
        out.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Timestamp {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Conversion<Self> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        let (seconds, rest) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
        let nanoseconds = u32::try_from(rest * 1_000)?;
        let found = Self::from_timestamp(seconds.saturating_add(SECONDS_TO_2000), nanoseconds);
        found.ok_or_else(|| "a time beyond what can be told".into())
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::TIMESTAMPTZ
    }
}

/// Days between 1970 and 2000, where PostgreSQL's calendar begins.
const DAYS_TO_2000: i32 = 10_957;

impl ToSql for Day {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Conversion<IsNull> {
        let days = self.since_1970() - DAYS_TO_2000;
        out.extend_from_slice(&days.to_be_bytes());
        Ok(IsNull::No)
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::DATE
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Day {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Conversion<Self> {
        let days = i32::from_be_bytes(raw.try_into()?);
        let found = days.checked_add(DAYS_TO_2000).and_then(Self::after_1970);
        found.ok_or_else(|| "a day beyond what can be told".into())
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::DATE
    }
}

/// A decimal number, as the nearest that a machine calculates with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decimal(pub(super) f64);

impl<'a> FromSql<'a> for Decimal {
    /// Reads digits to the base of 10,000 behind how many there are, the power of the first, the sign, and how many
    /// decimals are told.
    fn from_sql(_: &Type, raw: &'a [u8]) -> Conversion<Self> {
        const NEGATIVE: u16 = 0x4000;
        let (words, rest) = raw.as_chunks::<2>();
        let words: Vec<u16> = words.iter().map(|word| u16::from_be_bytes(*word)).collect();
        let [_, weight, sign, _, digits @ ..] = words.as_slice() else { return Err("a short number".into()) };
        if !rest.is_empty() || ![0, NEGATIVE].contains(sign) {
            return Err("no number".into());
        }
        let minus = if *sign == NEGATIVE { "-" } else { "" };
        let written: Vec<String> = digits.iter().map(|digit| format!("{digit:04}")).collect();
        let behind = i32::from(weight.cast_signed()) + 1 - i32::try_from(digits.len())?;
        Ok(Self(format!("{minus}0{}e{}", written.concat(), behind * 4).parse()?))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::NUMERIC
    }
}

/// Returns a count as the column for it has it.
pub(super) fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Returns a count that was stored. None is below zero.
pub(super) fn counted(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

/// Returns a duration as a span between two times.
pub(super) fn span(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// The columns of a row, by name.
pub(super) struct Columns<'r>(pub(super) &'r Row);

impl Columns<'_> {
    pub(super) fn get<T: FromSqlOwned>(&self, name: &str) -> Result<T, Undone> {
        Ok(self.0.try_get(name)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parse_stamp;

    #[test]
    fn a_day_comes_back() {
        for text in ["0001-01-01", "1969-12-31", "2000-02-29", "9999-12-31"] {
            let day = Day::parse(text).unwrap();
            let mut bytes = BytesMut::new();
            day.to_sql(&Type::DATE, &mut bytes).unwrap();
            assert_eq!(Day::from_sql(&Type::DATE, &bytes).unwrap(), day, "{text}");
        }
    }

    #[test]
    fn a_decimal_is_read_as_the_server_sends_it() {
        for (words, expected) in [
            (&[0u16, 0, 0, 0][..], 0.0),
            (&[2, 0, 0, 2, 5, 4000], 5.4),
            (&[2, 0, 0x4000, 2, 5, 4000], -5.4),
            (&[1, 0xFFFF, 0, 4, 25], 0.0025),
            (&[1, 2, 0, 0, 7], 7e8),
        ] {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            assert_eq!(Decimal::from_sql(&Type::NUMERIC, &bytes).unwrap(), Decimal(expected));
        }
    }

    #[test]
    fn a_time_comes_back_to_the_microsecond() {
        for text in ["1969-12-31T23:59:59.999999Z", "2000-01-01T00:00:00Z", "2026-11-26T10:20:30.123456Z"] {
            let time = parse_stamp(text).unwrap();
            let mut bytes = BytesMut::new();
            time.to_sql(&Type::TIMESTAMPTZ, &mut bytes).unwrap();
            assert_eq!(Timestamp::from_sql(&Type::TIMESTAMPTZ, &bytes).unwrap(), time, "{text}");
        }
    }
}

//! What goes into statements and comes out of rows: each type by the type of its column.

use std::error::Error;
use std::time::Duration;

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::plan::Timestamp;
use crate::time::TimeDelta;

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
    i64 => INT8, INT8_ARRAY;
    f64 => FLOAT8, FLOAT8_ARRAY;
    bool => BOOL, BOOL_ARRAY;
    Timestamp => TIMESTAMPTZ, TIMESTAMPTZ_ARRAY;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::parse_stamp;

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

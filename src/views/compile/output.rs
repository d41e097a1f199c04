//! A column as it leaves the SELECT: its declared type, and values that fit it.
//!
//! The declared type follows the standard's `type`; the standard's tag `ansi/type` narrows it:
//! a `dateTime` may be partial and is TEXT as received, unless it is tagged TIMESTAMP, when it
//! is a full time in UTC or NULL; a `date` is TEXT unless it is tagged DATE, when it is a full
//! date or NULL.
//!
//! Promise: whatever the resource holds, a REAL column holds reals, an INTEGER column 64-bit
//! integers, a DATE column `YYYY-MM-DD`, a DATETIME column `YYYY-MM-DDTHH:MM:SSZ`, or NULL.

use super::temporal;
use crate::views::definition::ColumnDefinition;
use crate::views::elements::Kind;
use crate::views::refused::Refused;
use crate::views::{Declared, Index};

/// The standard's own tag for a column's SQL type.
const TYPE_TAG: &str = "ansi/type";
/// Ours: `true` for an index on the column.
const INDEX_TAG: &str = "healthex-sync/index";

#[derive(Clone, Debug)]
pub(super) struct OutputColumn {
    pub(super) name: String,
    pub(super) sql: String,
    pub(super) declared: Declared,
    pub(super) collection: bool,
    pub(super) boolean: bool,
    pub(super) index: Index,
    pub(super) description: Option<String>,
}

impl OutputColumn {
    fn new(column: &ColumnDefinition, sql: String, declared: Declared) -> Self {
        Self {
            name: column.name.clone(),
            sql,
            declared,
            collection: column.collection,
            boolean: false,
            index: match column.tag(INDEX_TAG) {
                Some("true") => Index::Single,
                _ => Index::None,
            },
            description: column.description.clone(),
        }
    }

    pub(super) fn of_collection(column: &ColumnDefinition, json_array: String) -> Self {
        Self::new(column, json_array, Declared::Text)
    }

    pub(super) fn of_value(column: &ColumnDefinition, value: &str, kind: Kind) -> Result<Self, String> {
        let declared = declared(column, kind)?;
        let sql = fitted(value, kind, declared)?;
        let boolean = kind == Kind::Boolean && declared == Declared::Integer;
        Ok(Self { boolean, ..Self::new(column, sql, declared) })
    }
}

/// One column's type in all branches of a unionAll.
pub(super) fn same_type<'a>(mut columns: impl Iterator<Item = &'a OutputColumn>) -> Result<(), Refused> {
    let Some(first) = columns.next() else {
        return Ok(());
    };
    match columns.find(|other| other.declared != first.declared || other.collection != first.collection) {
        None => Ok(()),
        Some(other) => Err(Refused::because(format!(
            "the members of its unionAll give it different types, {} and {}",
            first.declared.sql(),
            other.declared.sql(),
        ))
        .in_column(&first.name)),
    }
}

fn declared(column: &ColumnDefinition, kind: Kind) -> Result<Declared, String> {
    if let Some(tag) = column.tag(TYPE_TAG) {
        return tagged(tag).ok_or_else(|| format!("the tag {TYPE_TAG} has a type we do not know: {tag:?}"));
    }
    let stated = column.fhir_type.as_deref().map(|url| url.rsplit(['/', '.']).next().unwrap_or(url));
    Ok(match (stated, kind) {
        (Some("boolean" | "integer" | "positiveInt" | "unsignedInt" | "integer64"), _) => Declared::Integer,
        (Some("decimal"), _) => Declared::Real,
        (Some(_), _) => Declared::Text,
        (None, Kind::Boolean | Kind::Integer) => Declared::Integer,
        (None, Kind::Decimal) => Declared::Real,
        (None, _) => Declared::Text,
    })
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

/// `value` of `kind`, as a column of type `declared` may hold it.
fn fitted(value: &str, kind: Kind, declared: Declared) -> Result<String, String> {
    match (declared, kind) {
        (_, Kind::Nothing) => Ok("NULL".to_owned()),
        (Declared::Text, Kind::Boolean) => {
            Ok(format!("CASE {value} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END"))
        }
        (Declared::Text, Kind::Integer | Kind::Decimal) => Ok(format!("CAST({value} AS TEXT)")),
        (Declared::Text, _) => Ok(value.to_owned()),
        (Declared::Real, Kind::Integer | Kind::Decimal) => Ok(format!("CAST({value} AS REAL)")),
        (Declared::Integer, Kind::Boolean) => Ok(value.to_owned()),
        (Declared::Integer, Kind::Integer | Kind::Decimal) => Ok(format!(
            "(SELECT CASE WHEN typeof(v) = 'integer' THEN v WHEN abs(v) < 9e15 AND CAST(v AS INTEGER) = v \
             THEN CAST(v AS INTEGER) END FROM (SELECT {value} AS v))"
        )),
        (Declared::Date, Kind::Date) => Ok(temporal::full_date(value)),
        (Declared::Date, Kind::DateTime | Kind::Instant | Kind::String) => {
            Ok(temporal::date_of_date_time(value))
        }
        (Declared::DateTime, Kind::Date | Kind::DateTime | Kind::Instant | Kind::String) => {
            Ok(temporal::utc(value))
        }
        (declared, kind) => {
            Err(format!("a {} does not fit into a column declared {}", kind.name(), declared.sql()))
        }
    }
}

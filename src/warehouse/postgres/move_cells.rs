//! The cells of a row that moves here from a file: by the types of their columns, as arrays, and hashed.

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};
use xxhash_rust::xxh3::xxh3_128;

use super::failure::Undone;
use super::session::Session;
use super::values::Param;
use super::workers::OF_WORKERS;
use crate::plan::{Timestamp, parse_stamp, stamp};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::moved::MovedCell;

/// The columns of a table that are moved.
pub(in crate::warehouse) struct MoveColumns {
    pub(super) table: String,
    pub(super) columns: Vec<(String, Type)>,
}

impl MoveColumns {
    pub(in crate::warehouse) fn names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|(name, _)| name.as_str())
    }

    pub(super) async fn of(session: &Session, table: &str) -> Result<Self, Undone> {
        let statement = "SELECT attname::text, atttypid::bigint FROM pg_attribute
              WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped
                AND ($1 <> 'checkpoint' OR attname <> ALL ($2)) ORDER BY attname";
        let rows = session.rows(statement, &[&table, &OF_WORKERS.to_vec()]).await?;
        let columns = rows.iter().map(|row| {
            let kind = u32::try_from(row.try_get::<_, i64>(1)?).ok().and_then(Type::from_oid);
            let unknown = || StoreFailed::Engine(format!("{table} has a column of an unknown type"));
            Ok::<_, Undone>((row.try_get(0)?, kind.ok_or_else(unknown)?))
        });
        Ok(Self { table: table.to_owned(), columns: columns.collect::<Result<_, _>>()? })
    }

    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|(column, _)| column == name)
    }

    /// Takes an array for each column. Numbers of rows stay as they are.
    pub(super) fn insert(&self) -> String {
        let names: Vec<String> = self.names().map(|name| format!("\"{name}\"")).collect();
        let cells = self.columns.iter().enumerate().map(|(at, (_, kind))| match *kind {
            Type::JSON => format!("u.c{at}::json"),
            _ => format!("u.c{at}"),
        });
        let arrays: Vec<String> = (1..=names.len()).map(|number| format!("${number}")).collect();
        let aliases: Vec<String> = (0..names.len()).map(|at| format!("c{at}")).collect();
        format!(
            "INSERT INTO \"{}\" ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM unnest({}) AS u({})",
            self.table,
            names.join(", "),
            cells.collect::<Vec<_>>().join(", "),
            arrays.join(", "),
            aliases.join(", ")
        )
    }

    /// Returns the arrays of some rows.
    pub(super) fn arrays(&self, rows: &[Vec<TypedCell>]) -> Vec<Box<dyn Param>> {
        let columns = self.columns.iter().enumerate();
        columns.map(|(at, (_, kind))| array(kind, rows.iter().map(|row| &row[at]))).collect()
    }

    /// Returns a hash of a row, whichever engine it was read from.
    pub(super) fn hash(&self, row: &[TypedCell]) -> u128 {
        let cells = self.columns.iter().zip(row).map(|((name, _), cell)| format!("{name} {cell:?}\n"));
        xxh3_128(cells.collect::<Vec<_>>().concat().as_bytes())
    }
}

/// A cell by the type of its column. Written as Rust writes it, it is hashed.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TypedCell {
    Null,
    Text(String),
    Integer(i64),
    Real(f64),
    Boolean(bool),
    /// In whole seconds, as a file has it.
    Moment(String),
    Bytes(Vec<u8>),
}

impl TypedCell {
    /// Returns a cell of a file as a column takes it.
    pub(super) fn of(kind: &Type, cell: MovedCell) -> Option<Self> {
        Some(match (kind, cell) {
            (_, MovedCell::Null) => Self::Null,
            (&Type::TEXT | &Type::JSON, MovedCell::Text(text)) => Self::Text(text),
            (&Type::TEXT, MovedCell::Integer(number)) => Self::Text(number.to_string()),
            (&Type::TIMESTAMPTZ, MovedCell::Text(text)) => Self::Moment(stamp(parse_stamp(&text)?)),
            (&Type::BOOL, MovedCell::Integer(number)) => Self::Boolean(number != 0),
            (&Type::INT8, MovedCell::Integer(number)) => Self::Integer(number),
            (&Type::FLOAT8, MovedCell::Real(number)) => Self::Real(number),
            #[expect(clippy::cast_precision_loss, reason = "SQLite gives whole numbers so")]
            (&Type::FLOAT8, MovedCell::Integer(number)) => Self::Real(number as f64),
            (&Type::BYTEA, MovedCell::Bytes(bytes)) => Self::Bytes(bytes),
            (&Type::BYTEA, MovedCell::Text(text)) => Self::Bytes(text.into_bytes()),
            _ => return None,
        })
    }

    /// Reads a cell that is stored.
    pub(super) fn stored(row: &Row, at: usize) -> Result<Self, Undone> {
        let cell = match *row.columns()[at].type_() {
            Type::TEXT => row.try_get::<_, Option<String>>(at)?.map(Self::Text),
            Type::JSON => row.try_get::<_, Option<AsWritten>>(at)?.map(|text| Self::Text(text.0)),
            Type::INT8 => row.try_get::<_, Option<i64>>(at)?.map(Self::Integer),
            Type::FLOAT8 => row.try_get::<_, Option<f64>>(at)?.map(Self::Real),
            Type::BOOL => row.try_get::<_, Option<bool>>(at)?.map(Self::Boolean),
            Type::TIMESTAMPTZ => {
                row.try_get::<_, Option<Timestamp>>(at)?.map(|time| Self::Moment(stamp(time)))
            }
            _ => row.try_get::<_, Option<Vec<u8>>>(at)?.map(Self::Bytes),
        };
        Ok(cell.unwrap_or(Self::Null))
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

fn array<'c>(kind: &Type, cells: impl Iterator<Item = &'c TypedCell>) -> Box<dyn Param> {
    macro_rules! of {
        ($variant:ident, $read:expr) => {
            Box::new(
                cells
                    .map(|cell| match cell {
                        TypedCell::$variant(value) => $read(value),
                        _ => None,
                    })
                    .collect::<Vec<_>>(),
            )
        };
    }
    match *kind {
        Type::INT8 => of!(Integer, |number: &i64| Some(*number)),
        Type::FLOAT8 => of!(Real, |number: &f64| Some(*number)),
        Type::BOOL => of!(Boolean, |value: &bool| Some(*value)),
        Type::TIMESTAMPTZ => of!(Moment, |text: &String| parse_stamp(text)),
        Type::BYTEA => of!(Bytes, |bytes: &Vec<u8>| Some(bytes.clone())),
        _ => of!(Text, |text: &String| Some(text.clone())),
    }
}

/// JSON as it is stored, to the last blank.
struct AsWritten(String);

impl<'a> FromSql<'a> for AsWritten {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(kind: &Type) -> bool {
        *kind == Type::JSON
    }
}

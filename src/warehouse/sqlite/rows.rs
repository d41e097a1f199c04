//! The rows of a stored table as CSV, one at a time.
//!
//! Promise: memory does not grow with the number of rows.

use std::io::Write;

use rusqlite::Connection;
use rusqlite::types::ValueRef;

use crate::views::NotEvaluated;
use crate::warehouse::failure::StoreFailed;

/// Why rows did not get where they should.
#[derive(Debug, thiserror::Error)]
pub enum RowsFailed {
    #[error(transparent)]
    Store(#[from] StoreFailed),
    #[error(transparent)]
    View(#[from] NotEvaluated),
    #[error(
        "the analysts' table {0} is still being built: `sync` goes on with it, `views apply` builds it now"
    )]
    Unfinished(String),
    #[error("writing rows: {0}")]
    Io(#[from] std::io::Error),
    #[error("writing rows: {0}")]
    Csv(#[from] csv::Error),
    #[error("writing rows: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
}

impl From<rusqlite::Error> for RowsFailed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Writes the rows of a SELECT with a header line; NULL is an empty field. Returns how many there are.
pub(super) fn write_csv(
    connection: &Connection,
    select: &str,
    person: Option<&str>,
    out: &mut dyn Write,
) -> Result<u64, RowsFailed> {
    let mut csv = csv::Writer::from_writer(out);
    let mut statement = connection.prepare(select)?;
    csv.write_record(statement.column_names())?;
    let columns = statement.column_count();
    let mut count = 0;
    let mut rows = statement.query(rusqlite::params_from_iter(person))?;
    while let Some(row) = rows.next()? {
        for at in 0..columns {
            csv.write_field(as_text(row.get_ref(at)?))?;
        }
        csv.write_record(None::<&[u8]>)?;
        count += 1;
    }
    csv.flush()?;
    Ok(count)
}

fn as_text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null | ValueRef::Blob(_) => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
    }
}

//! The rows of a SELECT as CSV or JSON, one at a time: what `views run` and `export` print.
//!
//! Promise: memory does not grow with the number of rows.

use std::io::Write;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::Value;

use crate::warehouse::failure::StoreFailed;

/// Why rows did not get where they should.
#[derive(Debug, thiserror::Error)]
pub enum RowsFailed {
    #[error(transparent)]
    Store(#[from] StoreFailed),
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

/// What to write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'q> {
    pub(super) select: &'q str,
    /// For `?1`, if there is one.
    pub(super) person: Option<&'q str>,
    /// Columns that are not shown.
    pub(super) hidden: &'q [&'q str],
}

/// With a header line; NULL is an empty field. Returns the number of rows.
pub(super) fn write_csv(
    connection: &Connection,
    query: Query<'_>,
    out: &mut dyn Write,
) -> Result<u64, RowsFailed> {
    let mut csv = csv::Writer::from_writer(out);
    let rows = each(connection, query, |names, cells| {
        match cells {
            None => csv.write_record(names)?,
            Some(cells) => csv.write_record(cells.iter().map(|cell| as_text(*cell)))?,
        }
        Ok(())
    })?;
    csv.flush()?;
    Ok(rows)
}

/// An array of objects. Returns the number of rows.
pub(super) fn write_json(
    connection: &Connection,
    query: Query<'_>,
    out: &mut dyn Write,
) -> Result<u64, RowsFailed> {
    let mut separator = "[\n";
    let rows = each(connection, query, |names, cells| {
        let Some(cells) = cells else { return Ok(()) };
        out.write_all(separator.as_bytes())?;
        separator = ",\n";
        // Not a map, which would sort the columns.
        let mut before = "{";
        for (name, cell) in names.iter().zip(cells) {
            write!(out, "{before}{}:{}", Value::from(name.as_str()), as_json(*cell))?;
            before = ",";
        }
        Ok(out.write_all(b"}")?)
    })?;
    out.write_all(if rows == 0 { b"[]\n" } else { b"\n]\n" })?;
    Ok(rows)
}

/// Calls `take` once without cells, and then with those of each row.
fn each(
    connection: &Connection,
    query: Query<'_>,
    mut take: impl FnMut(&[String], Option<&[ValueRef<'_>]>) -> Result<(), RowsFailed>,
) -> Result<u64, RowsFailed> {
    let mut statement = connection.prepare(query.select)?;
    let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let shown: Vec<usize> =
        (0..names.len()).filter(|at| !query.hidden.contains(&names[*at].as_str())).collect();
    let names: Vec<String> = shown.iter().map(|at| names[*at].clone()).collect();
    take(&names, None)?;
    let mut count = 0;
    let mut rows = statement.query(rusqlite::params_from_iter(query.person))?;
    while let Some(row) = rows.next()? {
        let cells = shown.iter().map(|at| row.get_ref(*at)).collect::<Result<Vec<_>, _>>()?;
        take(&names, Some(&cells))?;
        count += 1;
    }
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

fn as_json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null | ValueRef::Blob(_) => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
    }
}

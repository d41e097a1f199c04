//! The rows of a view that is stored nowhere, on their way out: as CSV, or as a JSON array.

use std::io::Write;

use serde_json::Value;

use super::failure::StoreFailed;
use super::report::RowFormat;
use crate::views::{Cell, NotEvaluated};

/// Why rows did not get where they should.
#[derive(Debug, thiserror::Error)]
pub enum RowsFailed {
    #[error(transparent)]
    Store(#[from] StoreFailed),
    #[error(transparent)]
    View(#[from] NotEvaluated),
    #[error("writing rows: {0}")]
    Io(#[from] std::io::Error),
    #[error("writing rows: {0}")]
    Csv(#[from] csv::Error),
}

/// What rows are written as.
pub(super) enum RowWriter<'o> {
    /// With a header line; NULL is an empty field.
    Csv(Box<csv::Writer<&'o mut dyn Write>>),
    /// An array of objects whose members have the order of the columns.
    Json { out: &'o mut dyn Write, names: Vec<String>, separator: &'static str },
}

impl<'o> RowWriter<'o> {
    pub(super) fn begin(
        format: RowFormat,
        names: Vec<&str>,
        out: &'o mut dyn Write,
    ) -> Result<Self, RowsFailed> {
        match format {
            RowFormat::Csv => {
                let mut csv = csv::Writer::from_writer(out);
                csv.write_record(names)?;
                Ok(Self::Csv(Box::new(csv)))
            }
            RowFormat::Json => {
                let names = names.into_iter().map(|name| Value::from(name).to_string()).collect();
                Ok(Self::Json { out, names, separator: "[\n" })
            }
        }
    }

    pub(super) fn row(&mut self, person: &str, cells: &[Cell<'_>]) -> Result<(), RowsFailed> {
        let person = Cell::Text(person.into());
        let cells = std::iter::once(&person).chain(cells);
        match self {
            Self::Csv(csv) => {
                for cell in cells {
                    match cell {
                        Cell::Null => csv.write_field("")?,
                        Cell::Text(text) => csv.write_field(text.as_ref())?,
                        number => csv.write_field(as_json(number).to_string())?,
                    }
                }
                csv.write_record(None::<&[u8]>)?;
            }
            Self::Json { out, names, separator } => {
                out.write_all(std::mem::replace(separator, ",\n").as_bytes())?;
                let mut before = "{";
                for (name, cell) in names.iter().zip(cells) {
                    write!(out, "{before}{name}:{}", as_json(cell))?;
                    before = ",";
                }
                out.write_all(b"}")?;
            }
        }
        Ok(())
    }

    pub(super) fn end(self, rows: u64) -> Result<(), RowsFailed> {
        match self {
            Self::Csv(mut csv) => csv.flush()?,
            Self::Json { out, .. } => out.write_all(if rows == 0 { b"[]\n" } else { b"\n]\n" })?,
        }
        Ok(())
    }
}

fn as_json(cell: &Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Integer(number) => (*number).into(),
        Cell::Boolean(value) => i64::from(*value).into(),
        Cell::Real(number, _) => (*number).into(),
        Cell::Text(text) => text.as_ref().into(),
    }
}

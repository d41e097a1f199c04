//! Rows as a Parquet file: typed columns, Snappy, all of them optional.
//!
//! Promise: memory holds one row group, whatever the table's length and however long its texts. A DATE or
//! TIMESTAMP cell that is no full date is null. Absent on purpose: nesting.

use std::fmt::Write as _;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use super::cell::{Cell, Column, ColumnKind};
use super::output::HashedFile;
use crate::plan::parse_stamp;
use crate::time::{Day, Timestamp};

/// A row group ends at so many rows, or at so many bytes of text.
const GROUP_ROWS: usize = 20_000;
const GROUP_BYTES: usize = 16 * 1024 * 1024;

pub(super) struct ParquetFile {
    writer: SerializedFileWriter<HashedFile>,
    columns: Vec<WaitingColumn>,
    rows: usize,
    text_bytes: usize,
}

struct WaitingColumn {
    /// 1 where there is a value, 0 where there is none.
    present: Vec<i16>,
    values: Values,
}

enum Values {
    Text(Vec<ByteArray>),
    Real(Vec<f64>),
    Integer(Vec<i64>),
    Boolean(Vec<bool>),
    Date(Vec<i32>),
    DateTime(Vec<i64>),
}

impl ParquetFile {
    pub(super) fn begin(file: HashedFile, columns: &[Column]) -> Result<Self, ParquetError> {
        let mut schema = "message row {\n".to_owned();
        for Column { name, kind } in columns {
            let parquet_type = match kind {
                ColumnKind::Real => format!("DOUBLE {name}"),
                ColumnKind::Integer => format!("INT64 {name}"),
                ColumnKind::Boolean => format!("BOOLEAN {name}"),
                ColumnKind::Date => format!("INT32 {name} (DATE)"),
                ColumnKind::DateTime => format!("INT64 {name} (TIMESTAMP(MICROS,true))"),
                ColumnKind::Text => format!("BYTE_ARRAY {name} (UTF8)"),
            };
            let _ = writeln!(schema, "  OPTIONAL {parquet_type};");
        }
        schema.push('}');
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let schema = Arc::new(parse_message_type(&schema)?);
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
        let columns = columns.iter().map(|column| WaitingColumn::of(column.kind)).collect();
        Ok(Self { writer, columns, rows: 0, text_bytes: 0 })
    }

    /// Takes the row's cells in the order of the columns.
    pub(super) fn add(&mut self, cells: &[Cell<'_>]) -> Result<(), ParquetError> {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            if let Cell::Text(text) = cell {
                self.text_bytes += text.len();
            }
            let present = column.values.push(cell);
            column.present.push(i16::from(present));
        }
        self.rows += 1;
        if self.rows >= GROUP_ROWS || self.text_bytes >= GROUP_BYTES { self.flush() } else { Ok(()) }
    }

    /// Returns how large the file is so far, without the row group that is not written yet.
    pub(super) fn bytes(&self) -> u64 {
        self.writer.bytes_written() as u64
    }

    pub(super) fn finish(mut self) -> Result<HashedFile, ParquetError> {
        if self.rows > 0 {
            self.flush()?;
        }
        self.writer.into_inner()
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            column.write(&mut group)?;
        }
        group.close()?;
        (self.rows, self.text_bytes) = (0, 0);
        Ok(())
    }
}

impl WaitingColumn {
    fn of(kind: ColumnKind) -> Self {
        let values = match kind {
            ColumnKind::Real => Values::Real(Vec::new()),
            ColumnKind::Integer => Values::Integer(Vec::new()),
            ColumnKind::Boolean => Values::Boolean(Vec::new()),
            ColumnKind::Date => Values::Date(Vec::new()),
            ColumnKind::DateTime => Values::DateTime(Vec::new()),
            ColumnKind::Text => Values::Text(Vec::new()),
        };
        Self { present: Vec::new(), values }
    }

    fn write(&mut self, group: &mut SerializedRowGroupWriter<'_, HashedFile>) -> Result<(), ParquetError> {
        let missing = || ParquetError::General("a column too many".to_owned());
        let mut writer = group.next_column()?.ok_or_else(missing)?;
        let present = Some(self.present.as_slice());
        match &mut self.values {
            Values::Text(values) => {
                writer.typed::<ByteArrayType>().write_batch(values, present, None)?;
                values.clear();
            }
            Values::Real(values) => {
                writer.typed::<DoubleType>().write_batch(values, present, None)?;
                values.clear();
            }
            Values::Integer(values) | Values::DateTime(values) => {
                writer.typed::<Int64Type>().write_batch(values, present, None)?;
                values.clear();
            }
            Values::Boolean(values) => {
                writer.typed::<BoolType>().write_batch(values, present, None)?;
                values.clear();
            }
            Values::Date(values) => {
                writer.typed::<Int32Type>().write_batch(values, present, None)?;
                values.clear();
            }
        }
        self.present.clear();
        writer.close()
    }
}

impl Values {
    /// Was there one?
    fn push(&mut self, cell: &Cell<'_>) -> bool {
        match self {
            Self::Text(values) => keep(values, as_bytes(cell)),
            Self::Real(values) => keep(values, as_real(cell)),
            Self::Integer(values) => keep(values, as_integer(cell)),
            Self::Boolean(values) => keep(values, as_integer(cell).map(|number| number != 0)),
            Self::Date(values) => keep(values, as_text(cell).and_then(days)),
            Self::DateTime(values) => keep(values, as_text(cell).and_then(microseconds)),
        }
    }
}

fn keep<T>(values: &mut Vec<T>, value: Option<T>) -> bool {
    let present = value.is_some();
    values.extend(value);
    present
}

fn as_text<'c>(cell: &'c Cell<'_>) -> Option<&'c str> {
    if let Cell::Text(text) = cell { Some(text) } else { None }
}

fn as_integer(cell: &Cell<'_>) -> Option<i64> {
    if let Cell::Integer(number) = cell { Some(*number) } else { None }
}

/// A whole number is stored without a point, whatever its column's type.
#[expect(clippy::cast_precision_loss, reason = "SQLite made an integer of what was a REAL, without loss")]
fn as_real(cell: &Cell<'_>) -> Option<f64> {
    match cell {
        Cell::Real(number) => Some(*number),
        Cell::Integer(number) => Some(*number as f64),
        Cell::Null | Cell::Text(_) => None,
    }
}

/// A cell of another type than its column's is kept as its text.
fn as_bytes(cell: &Cell<'_>) -> Option<ByteArray> {
    match cell {
        Cell::Null => None,
        Cell::Integer(number) => Some(number.to_string().into_bytes().into()),
        Cell::Real(number) => Some(number.to_string().into_bytes().into()),
        Cell::Text(text) => Some(text.as_bytes().to_vec().into()),
    }
}

fn days(text: &str) -> Option<i32> {
    Day::parse(text).map(Day::since_1970)
}

/// Of an RFC 3339 time, or of one in UTC that is written as SQLite does.
fn microseconds(text: &str) -> Option<i64> {
    let at = parse_stamp(text).or_else(|| Timestamp::parse_with_a_blank(text))?;
    Some(at.timestamp_micros())
}

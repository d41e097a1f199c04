//! An analysts' table as a Parquet file: typed columns, Snappy, all of them optional.
//!
//! Promise: memory holds one row group, whatever the table's length. A DATE or DATETIME cell
//! that is no full date, which our views never give, is null. Absent on purpose: nesting.

use std::fmt::Write as _;
use std::fs::File;
use std::sync::Arc;

use chrono::{Datelike, NaiveDate};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use rusqlite::Row;
use rusqlite::types::ValueRef;

use crate::plan::parse_stamp;

/// Rows of one row group.
const GROUP_ROWS: usize = 20_000;

/// Days of 1970-01-01 in chrono's count from year 1.
const EPOCH_DAY: i32 = 719_163;

pub(super) struct ParquetFile {
    writer: SerializedFileWriter<File>,
    columns: Vec<Column>,
    waiting: usize,
}

struct Column {
    /// 1 where there is a value, 0 where there is none.
    present: Vec<i16>,
    values: Values,
}

enum Values {
    Text(Vec<ByteArray>),
    Real(Vec<f64>),
    Integer(Vec<i64>),
    Date(Vec<i32>),
    DateTime(Vec<i64>),
}

impl ParquetFile {
    /// `columns` are names and their declared types.
    pub(super) fn begin(file: File, columns: &[(String, String)]) -> Result<Self, ParquetError> {
        let mut schema = "message row {\n".to_owned();
        for (name, declared) in columns {
            let parquet_type = match declared.as_str() {
                "REAL" => format!("DOUBLE {name}"),
                "INTEGER" => format!("INT64 {name}"),
                "DATE" => format!("INT32 {name} (DATE)"),
                "DATETIME" => format!("INT64 {name} (TIMESTAMP(MICROS,true))"),
                _ => format!("BYTE_ARRAY {name} (UTF8)"),
            };
            let _ = writeln!(schema, "  OPTIONAL {parquet_type};");
        }
        schema.push('}');
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let schema = Arc::new(parse_message_type(&schema)?);
        let writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
        let columns = columns.iter().map(|(_, declared)| Column::declared(declared)).collect();
        Ok(Self { writer, columns, waiting: 0 })
    }

    /// Takes the row's columns in their order.
    pub(super) fn add(&mut self, row: &Row<'_>) -> Result<(), ParquetError> {
        for (at, column) in self.columns.iter_mut().enumerate() {
            let cell = row.get_ref(at).map_err(|error| ParquetError::External(Box::new(error)))?;
            let present = column.values.push(cell);
            column.present.push(i16::from(present));
        }
        self.waiting += 1;
        if self.waiting >= GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    pub(super) fn finish(mut self) -> Result<File, ParquetError> {
        if self.waiting > 0 {
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
        self.waiting = 0;
        Ok(())
    }
}

impl Column {
    fn declared(declared: &str) -> Self {
        let values = match declared {
            "REAL" => Values::Real(Vec::new()),
            "INTEGER" => Values::Integer(Vec::new()),
            "DATE" => Values::Date(Vec::new()),
            "DATETIME" => Values::DateTime(Vec::new()),
            _ => Values::Text(Vec::new()),
        };
        Self { present: Vec::new(), values }
    }

    fn write(&mut self, group: &mut SerializedRowGroupWriter<'_, File>) -> Result<(), ParquetError> {
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
    fn push(&mut self, cell: ValueRef<'_>) -> bool {
        let text = cell.as_str().ok();
        match self {
            Self::Text(values) => keep(values, as_bytes(cell)),
            Self::Real(values) => keep(values, cell.as_f64().ok()),
            Self::Integer(values) => keep(values, cell.as_i64().ok()),
            Self::Date(values) => keep(values, text.and_then(days)),
            Self::DateTime(values) => {
                keep(values, text.and_then(parse_stamp).map(|at| at.timestamp_micros()))
            }
        }
    }
}

fn keep<T>(values: &mut Vec<T>, value: Option<T>) -> bool {
    let present = value.is_some();
    values.extend(value);
    present
}

/// A cell of another type than its column's is kept as its text.
fn as_bytes(cell: ValueRef<'_>) -> Option<ByteArray> {
    match cell {
        ValueRef::Null | ValueRef::Blob(_) => None,
        ValueRef::Integer(number) => Some(number.to_string().into_bytes().into()),
        ValueRef::Real(number) => Some(number.to_string().into_bytes().into()),
        ValueRef::Text(text) => Some(text.to_vec().into()),
    }
}

fn days(text: &str) -> Option<i32> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.num_days_from_ce() - EPOCH_DAY)
}

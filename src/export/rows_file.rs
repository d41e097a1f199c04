//! Rows as CSV, NDJSON or Parquet, in as many files as it takes.
//!
//! Promise: no file goes on once it has reached the size at which it is split, and each can be read by itself.

use std::path::Path;

use serde_json::Value;

use super::ExportFailed;
use super::cell::{Cell, Column};
use super::output::{Content, FileName, HashedFile, WrittenFile};
use super::parquet_file::ParquetFile;
use super::spreadsheet;

/// What rows are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowsFormat {
    Csv,
    /// For a spreadsheet, which takes some texts for formulas.
    SafeCsv,
    Ndjson,
    Parquet,
}

impl RowsFormat {
    fn suffix(self) -> &'static str {
        match self {
            Self::Csv | Self::SafeCsv => "csv",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
        }
    }
}

/// Where rows go, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'t> {
    pub(crate) folder: &'t Path,
    pub(crate) format: RowsFormat,
    /// A file that has grown so large is followed by another.
    pub(crate) split_bytes: u64,
}

/// The files of one table or type: `name.csv`, and where it is split `name.2.csv` and so on.
pub(crate) struct RowsFiles<'t> {
    target: Target<'t>,
    /// The name of the files, without what follows the first point.
    stem: String,
    of: String,
    content: Content,
    columns: Vec<Column>,
    open: Option<OpenFile>,
    written: Vec<WrittenFile>,
}

struct OpenFile {
    rows: Rows,
    count: u64,
}

enum Rows {
    Csv(Box<csv::Writer<HashedFile>>),
    Ndjson(HashedFile),
    Parquet(Box<ParquetFile>),
}

impl<'t> RowsFiles<'t> {
    pub(crate) fn new(
        target: Target<'t>,
        stem: &str,
        of: &str,
        content: Content,
        columns: Vec<Column>,
    ) -> Self {
        let (stem, of) = (stem.to_owned(), of.to_owned());
        Self { target, stem, of, content, columns, open: None, written: Vec::new() }
    }

    /// Returns the name of the file that the next row goes into, and which row of it that is, from 1.
    pub(crate) fn place(&mut self) -> Result<(String, u64), ExportFailed> {
        let count = self.open()?.count;
        Ok((self.file_name(), count + 1))
    }

    pub(crate) fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), ExportFailed> {
        let is_safe = self.target.format == RowsFormat::SafeCsv;
        self.open()?;
        let columns = &self.columns;
        let Some(open) = &mut self.open else { return Ok(()) };
        match &mut open.rows {
            Rows::Csv(csv) => {
                for cell in cells {
                    csv.write_field(csv_field(cell, is_safe).as_ref())?;
                }
                csv.write_record(None::<&[u8]>)?;
            }
            Rows::Ndjson(file) => json_row(columns, cells, file)?,
            Rows::Parquet(parquet) => parquet.add(cells)?,
        }
        open.count += 1;
        self.split()
    }

    /// Writes a line as it is, in NDJSON.
    pub(crate) fn line<'p>(&mut self, parts: impl IntoIterator<Item = &'p str>) -> Result<(), ExportFailed> {
        use std::io::Write as _;
        let open = self.open()?;
        if let Rows::Ndjson(file) = &mut open.rows {
            for part in parts {
                file.write_all(part.as_bytes())?;
            }
            file.write_all(b"\n")?;
        }
        open.count += 1;
        self.split()
    }

    /// Ends the last file. Without a row there is one only if `even_empty`.
    pub(crate) fn finish(mut self, even_empty: bool) -> Result<Vec<WrittenFile>, ExportFailed> {
        if even_empty && self.written.is_empty() {
            self.open()?;
        }
        self.close()?;
        Ok(self.written)
    }

    fn file_name(&self) -> String {
        let suffix = self.target.format.suffix();
        match self.written.len() {
            0 => format!("{}.{suffix}", self.stem),
            before => format!("{}.{}.{suffix}", self.stem, before + 1),
        }
    }

    fn open(&mut self) -> Result<&mut OpenFile, ExportFailed> {
        if self.open.is_none() {
            let file = HashedFile::create(self.target.folder, &self.file_name())?;
            let rows = match self.target.format {
                RowsFormat::Csv | RowsFormat::SafeCsv => {
                    let quoted = self.target.format == RowsFormat::SafeCsv;
                    // Where a semicolon separates, an unquoted text would begin another cell.
                    let style = if quoted { csv::QuoteStyle::Always } else { csv::QuoteStyle::Necessary };
                    let mut csv = csv::WriterBuilder::new().quote_style(style).from_writer(file);
                    csv.write_record(self.columns.iter().map(|column| &column.name))?;
                    Rows::Csv(Box::new(csv))
                }
                RowsFormat::Ndjson => Rows::Ndjson(file),
                RowsFormat::Parquet => Rows::Parquet(Box::new(ParquetFile::begin(file, &self.columns)?)),
            };
            self.open = Some(OpenFile { rows, count: 0 });
        }
        self.open.as_mut().ok_or_else(|| ExportFailed::Io(std::io::Error::other("no file is open")))
    }

    fn split(&mut self) -> Result<(), ExportFailed> {
        let bytes = match &self.open {
            Some(OpenFile { rows: Rows::Csv(csv), .. }) => csv.get_ref().bytes(),
            Some(OpenFile { rows: Rows::Ndjson(file), .. }) => file.bytes(),
            Some(OpenFile { rows: Rows::Parquet(parquet), .. }) => parquet.bytes(),
            None => 0,
        };
        if bytes >= self.target.split_bytes { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), ExportFailed> {
        let file_name = self.file_name();
        let Some(OpenFile { rows, count }) = self.open.take() else { return Ok(()) };
        let file = match rows {
            Rows::Csv(csv) => csv.into_inner().map_err(csv::IntoInnerError::into_error)?,
            Rows::Ndjson(file) => file,
            Rows::Parquet(parquet) => parquet.finish()?,
        };
        let name = FileName {
            file: &file_name,
            of: Some(self.of.as_str()).filter(|of| !of.is_empty()),
            content: self.content,
        };
        self.written.push(file.finish(name, count)?);
        Ok(())
    }
}

fn csv_field<'c>(cell: &'c Cell<'_>, is_safe: bool) -> std::borrow::Cow<'c, str> {
    match cell {
        Cell::Null => "".into(),
        Cell::Integer(number) => number.to_string().into(),
        Cell::Real(number) => number.to_string().into(),
        Cell::Text(text) if is_safe => spreadsheet::harmless(text),
        Cell::Text(text) => text.as_ref().into(),
    }
}

fn json_row(columns: &[Column], cells: &[Cell<'_>], file: &mut HashedFile) -> std::io::Result<()> {
    use std::io::Write as _;
    let mut before = "{";
    for (column, cell) in columns.iter().zip(cells) {
        let value = match cell {
            Cell::Null => Value::Null,
            Cell::Integer(number) => (*number).into(),
            Cell::Real(number) => (*number).into(),
            Cell::Text(text) => text.as_ref().into(),
        };
        write!(file, "{before}{}:{value}", Value::from(column.name.as_str()))?;
        before = ",";
    }
    file.write_all(b"}\n")
}

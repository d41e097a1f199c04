//! A view that is stored nowhere, over all resources of its type: as CSV, or as a JSON array.
//!
//! Promise: memory does not grow with the number of rows. The first of several values where a strict
//! view wants one ends it.

use std::io::Write;
use std::ops::ControlFlow;

use rusqlite::Connection;
use serde_json::Value;

use super::rows::RowsFailed;
use super::tables;
use crate::plan::resource_type::ResourceType;
use crate::views::{Cell, Evaluation, NotEvaluated, Tape, TapeMemory, View};
use crate::warehouse::report::{RowFormat, ViewRun};

/// Writes the rows of a view, each behind the id of its person.
pub(super) fn run(
    connection: &Connection,
    view: &View,
    evaluation: Evaluation,
    format: RowFormat,
    out: &mut dyn Write,
) -> Result<ViewRun, RowsFailed> {
    let names = std::iter::once("person_id").chain(view.columns.iter().map(|column| column.name.as_str()));
    let mut writer = RowWriter::begin(format, names.collect(), out)?;
    let mut run = ViewRun::default();
    let known = ResourceType::by_name(view.resource_type);
    // Of a type that never arrived there is no table, and no row.
    if let Some(known) = known
        && tables::exists(connection, &known.table)?
    {
        let select = format!(
            "SELECT person_id, key, resource FROM \"{}\" WHERE deleted_at IS NULL AND superseded_at IS NULL",
            known.table
        );
        let mut statement = connection.prepare(&select)?;
        let mut resources = statement.query([])?;
        let mut memory = TapeMemory::default();
        while let Some(row) = resources.next()? {
            let text = |at| row.get_ref(at).map(|cell| cell.as_str().unwrap_or_default());
            let (person, key) = (text(0)?, text(1)?);
            let Ok(tape) = Tape::read(text(2)?, &mut memory) else { continue };
            let mut written = Ok(());
            let evaluated = view.rows(&tape, evaluation, &mut run.dropped, &mut |cells| {
                run.rows += 1;
                written = writer.row(person, cells);
                if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            written?;
            // By its key the warehouse finds the resource, whatever its id is.
            evaluated.map_err(|failed| NotEvaluated { resource: key.to_owned(), ..failed })?;
        }
    }
    writer.end(run.rows)?;
    Ok(run)
}

/// What rows are written as.
enum RowWriter<'o> {
    /// With a header line; NULL is an empty field.
    Csv(Box<csv::Writer<&'o mut dyn Write>>),
    /// An array of objects whose members have the order of the columns.
    Json { out: &'o mut dyn Write, names: Vec<String>, separator: &'static str },
}

impl<'o> RowWriter<'o> {
    fn begin(format: RowFormat, names: Vec<&str>, out: &'o mut dyn Write) -> Result<Self, RowsFailed> {
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

    fn row(&mut self, person: &str, cells: &[Cell<'_>]) -> Result<(), RowsFailed> {
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

    fn end(self, rows: u64) -> Result<(), RowsFailed> {
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

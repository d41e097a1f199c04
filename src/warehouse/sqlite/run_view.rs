//! A view that is stored nowhere, over all resources of its type: as CSV, or as a JSON array.
//!
//! Promise: memory does not grow with the number of rows. The first of several values where a strict
//! view wants one ends it.

use std::io::Write;
use std::ops::ControlFlow;

use rusqlite::Connection;

use super::tables;
use crate::plan::resource_type::ResourceType;
use crate::views::{Evaluation, NotEvaluated, Tape, TapeMemory, View};
use crate::warehouse::report::{RowFormat, ViewRun};
use crate::warehouse::rows::{RowWriter, RowsFailed};

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

impl From<rusqlite::Error> for RowsFailed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

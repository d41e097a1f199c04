//! A view that is stored nowhere, over all resources of its type: as CSV, or as a JSON array.
//!
//! Promise: memory does not grow with the number of rows. The first of several values where a strict
//! view wants one ends it.

use std::io::Write;
use std::ops::ControlFlow;

use super::session::Session;
use super::stream::each_row;
use crate::plan::resource_type::ResourceType;
use crate::views::{Evaluation, NotEvaluated, Tape, TapeMemory, View};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::report::{RowFormat, ViewRun};
use crate::warehouse::rows::{RowWriter, RowsFailed};

/// Writes the rows of a view, each behind the id of its person.
pub(super) fn run(
    session: &Session,
    view: &View,
    evaluation: Evaluation,
    format: RowFormat,
    out: &mut dyn Write,
) -> Result<ViewRun, RowsFailed> {
    let names = std::iter::once("person_id").chain(view.columns.iter().map(|column| column.name.as_str()));
    let mut writer = RowWriter::begin(format, names.collect(), out)?;
    let mut run = ViewRun::default();
    if let Some(known) = ResourceType::by_name(view.resource_type) {
        let select = format!(
            "SELECT person_id, key, resource::text FROM \"{}\"
              WHERE deleted_at IS NULL AND superseded_at IS NULL ORDER BY person_id, key",
            known.table
        );
        let mut memory = TapeMemory::default();
        each_row(session, &select, &[], |row| {
            let text = |at: usize| row.try_get::<_, &str>(at).map_err(unreadable);
            let (person, key) = (text(0)?, text(1)?);
            let Ok(tape) = Tape::read(text(2)?, &mut memory) else { return Ok(()) };
            let mut written = Ok(());
            let evaluated = view.rows(&tape, evaluation, &mut run.dropped, &mut |cells| {
                run.rows += 1;
                written = writer.row(person, cells);
                if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            written?;
            // By its key the warehouse finds the resource, whatever its id is.
            evaluated.map_err(|failed| NotEvaluated { resource: key.to_owned(), ..failed })?;
            Ok::<(), RowsFailed>(())
        })?;
    }
    writer.end(run.rows)?;
    Ok(run)
}

fn unreadable(error: tokio_postgres::Error) -> RowsFailed {
    StoreFailed::from(error).into()
}

//! Rows of an analysts' table on their way into files.

use super::cell::{Cell, Column};
use super::columns::{redact, treatments};
use super::output::{Content, WrittenFile};
use super::redact::Redaction;
use super::resources::{add_gone_row, gone_rows};
use super::rows_file::RowsFiles;
use super::{ExportFailed, Job};
use crate::warehouse::extract::{Selection, StoredCell, TableShape};

/// Writes a table, or what changed of it.
pub(super) fn write(
    job: &Job<'_>,
    table: &TableShape,
    written: &mut Vec<WrittenFile>,
) -> Result<(), ExportFailed> {
    // Half a table would be taken for a whole one.
    if !table.is_built {
        return Err(ExportFailed::Unfinished(table.name.clone()));
    }
    let since = job.request.since.filter(|since| {
        // A table that was built anew has other rows, whether the resources changed or not.
        !table.sources.is_empty() && table.built_at.is_some_and(|built| built < *since)
    });
    let selection = Selection { since, ..job.selection() };
    let content = if since.is_some() { Content::Changed } else { Content::Whole };
    let columns = table
        .columns
        .iter()
        .map(|column| Column::new(&column.name, job.types.kind(&table.name, &column.name, &column.declared)));
    let mut files = RowsFiles::new(job.target, &table.name, &table.name, content, columns.collect());
    let treatments = treatments(table, &job.types);
    let person_at = table.columns.iter().position(|column| column.name == "person_id");
    job.snapshot.rows(table, selection, |cells| {
        let row: Vec<Cell<'_>> = cells.iter().map(|cell| Cell::from(*cell)).collect();
        let person = person_at.and_then(|at| cells.get(at));
        let person = if let Some(StoredCell::Text(person)) = person { person } else { "" };
        match job.request.pseudonyms {
            None => files.row(&row),
            Some(pseudonyms) => {
                let redaction = Redaction { pseudonyms, known: &job.known, person_id: person };
                files.row(&redact(&row, &treatments, &redaction))
            }
        }
    })?;
    written.extend(files.finish(true)?);
    if since.is_some() {
        let mut gone = gone_rows(job, &table.name, &table.name);
        job.snapshot.without_rows(table, selection, |found| add_gone_row(job, &mut gone, &found))?;
        written.extend(gone.finish(false)?);
    }
    Ok(())
}

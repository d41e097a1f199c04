//! The warehouse as files for other tools: resources as NDJSON, analysts' tables as CSV or Parquet.
//!
//! Promise: all files are of one moment, readable by their owner only, and on the disk when
//! `export` returns. Absent on purpose: where they end up (`commands` moves the whole folder
//! into place), and anything that was marked as deleted.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;

use super::parquet_file::ParquetFile;
use super::rows::RowsFailed;
use super::{analyst_tables, freshness, rows, tables};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::report::{ExportFormat, Exported, Steps};

/// One file to write.
struct Piece {
    file: String,
    table: String,
    what: What,
}

enum What {
    Resources,
    Table,
}

/// Writes into `folder`, which is there and empty. `told` hears how many files
/// are done.
pub(super) fn export(
    connection: &Connection,
    format: ExportFormat,
    folder: &Path,
    person: Option<&str>,
    mut told: impl FnMut(Steps),
) -> Result<Exported, RowsFailed> {
    let snapshot = connection.unchecked_transaction()?;
    let pieces = pieces(&snapshot, format)?;
    let mut exported = Exported::default();
    for (done, piece) in (1..).zip(&pieces) {
        let path = folder.join(&piece.file);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let (file, rows) = match (&piece.what, format) {
            (What::Resources, _) => ndjson(&snapshot, &piece.table, person, file)?,
            (What::Table, ExportFormat::Parquet) => parquet(&snapshot, &piece.table, person, file)?,
            (What::Table, _) => csv(&snapshot, &piece.table, person, file)?,
        };
        file.sync_all()?;
        if rows == 0 && matches!(piece.what, What::Resources) {
            // Bulk Data has no file for a type without resources.
            std::fs::remove_file(&path)?;
        } else {
            exported.files += 1;
            exported.rows += rows;
        }
        told(Steps { done, of: pieces.len() });
    }
    Ok(exported)
}

fn pieces(connection: &Connection, format: ExportFormat) -> Result<Vec<Piece>, RowsFailed> {
    let suffix = match format {
        ExportFormat::Ndjson => {
            let resources = tables::resource_tables(connection)?.into_iter().map(|known| Piece {
                file: format!("{}.ndjson", known.name),
                table: known.table.clone(),
                what: What::Resources,
            });
            return Ok(resources.collect());
        }
        ExportFormat::Csv => "csv",
        ExportFormat::Parquet => "parquet",
    };
    let stored = analyst_tables::list(connection)?.into_iter().map(|table| {
        // Half a table would be taken for a whole one.
        if table.percent_built.is_some() {
            return Err(RowsFailed::Unfinished(table.name));
        }
        Ok(Piece { file: format!("{}.{suffix}", table.name), table: table.name, what: What::Table })
    });
    stored.collect()
}

fn ndjson(
    connection: &Connection,
    table: &str,
    person: Option<&str>,
    file: File,
) -> Result<(File, u64), RowsFailed> {
    let select = format!("SELECT resource FROM \"{table}\" WHERE deleted_at IS NULL{}", only(" AND", person));
    let mut statement = connection.prepare(&select)?;
    let mut found = statement.query(rusqlite::params_from_iter(person))?;
    let mut out = BufWriter::new(file);
    let mut count = 0;
    while let Some(row) = found.next()? {
        let resource = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        // Inside a string a line break is escaped, so these are only layout.
        for line in resource.split(['\n', '\r']) {
            out.write_all(line.as_bytes())?;
        }
        out.write_all(b"\n")?;
        count += 1;
    }
    Ok((out.into_inner().map_err(std::io::IntoInnerError::into_error)?, count))
}

fn csv(
    connection: &Connection,
    table: &str,
    person: Option<&str>,
    file: File,
) -> Result<(File, u64), RowsFailed> {
    let select = select_of(table, person);
    let mut out = BufWriter::new(file);
    let rows = rows::write_csv(connection, &select, person, &mut out)?;
    Ok((out.into_inner().map_err(std::io::IntoInnerError::into_error)?, rows))
}

fn parquet(
    connection: &Connection,
    table: &str,
    person: Option<&str>,
    file: File,
) -> Result<(File, u64), RowsFailed> {
    let mut parquet = ParquetFile::begin(file, &columns_of(connection, table)?)?;
    let mut statement = connection.prepare(&select_of(table, person))?;
    let mut found = statement.query(rusqlite::params_from_iter(person))?;
    let mut count = 0;
    while let Some(row) = found.next()? {
        parquet.add(row)?;
        count += 1;
    }
    Ok((parquet.finish()?, count))
}

fn select_of(table: &str, person: Option<&str>) -> String {
    format!("SELECT * FROM \"{table}\"{}", only(" WHERE", person))
}

fn only(word: &str, person: Option<&str>) -> String {
    person.map_or_else(String::new, |_| format!("{word} person_id = ?1"))
}

/// Names and declared types. What a view computes has no declared type.
fn columns_of(connection: &Connection, table: &str) -> Result<Vec<(String, String)>, StoreFailed> {
    let mut statement = connection.prepare("SELECT name, type FROM pragma_table_info(?1)")?;
    let columns = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut columns = columns.collect::<Result<Vec<(String, String)>, _>>()?;
    if table == freshness::NAME {
        for (name, declared) in &mut columns {
            if let Some((_, computed)) = freshness::COMPUTED.iter().find(|(column, _)| column == name) {
                (*computed).clone_into(declared);
            }
        }
    }
    Ok(columns)
}

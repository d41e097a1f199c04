//! Moving a warehouse from a file to a server: rows, checkpoints and the log of purges, as they are.
//!
//! Promise: whatever is cut off goes on where it was, and nothing is stored twice. Until all of it is there and was
//! read back, nobody pulls into the server. The file is only read, and nobody writes to it meanwhile. Absent on
//! purpose: the analysts' tables, which are made anew, and the files beside the warehouse.

use std::path::Path;
use std::sync::Arc;

use super::failure::{OpenFailed, StoreFailed};
use super::place::Server;
use super::report::{Moved, Steps};
use super::{postgres, sqlite};
use crate::plan::Timestamp;
use crate::plan::resource_type::ResourceType;
use crate::views::AnalystTable;

/// What is moved beside resources. What SQLite alone needs, and what is worked out of the rest, is not.
const BOOKKEEPING: [&str; 15] = [
    "about",
    "checkpoint",
    "walk",
    "seen",
    "twin",
    "pull",
    "quarantine",
    "removed",
    "history",
    "purge_log",
    "study",
    "consent_record",
    "cycle",
    "problem",
    "problem_patient",
];

/// Moves everything. `told` hears how far it has come, in rows.
pub fn move_file(
    file: &Path,
    server: &Arc<Server>,
    views: &[AnalystTable],
    now: Timestamp,
    mut told: impl FnMut(Steps),
) -> Result<Moved, OpenFailed> {
    let source = sqlite::MoveSource::open(file)?;
    let unreadable = |failed: StoreFailed| OpenFailed::Unusable { path: file.to_owned(), source: failed };
    let as_of = source.as_of().map_err(unreadable)?;
    let target = postgres::MoveTarget::begin(server, file, &as_of)?;
    let resources = ResourceType::all().map(|known| known.table.as_str());
    let tables: Vec<&str> = BOOKKEEPING.into_iter().chain(resources).collect();
    let mut counts = Vec::new();
    for table in &tables {
        counts.push(source.count(table).map_err(unreadable)?);
    }
    let of = counts.iter().map(|count| count.unwrap_or_default()).sum();
    let (mut done, mut moved) = (0, Moved::default());
    for (table, count) in tables.iter().zip(counts).filter_map(|(table, count)| Some((table, count?))) {
        let columns = target.columns(table)?;
        let names: Vec<&str> = columns.names().collect();
        let mut progress = target.progress(table)?;
        while !progress.is_whole() {
            told(Steps { done: done + progress.rows_read(), of });
            let rows = source.rows_after(table, &names, progress.read_to()).map_err(unreadable)?;
            progress = target.store(&columns, rows, progress)?;
        }
        done += count;
        moved.rows += progress.rows;
        told(Steps { done, of });
    }
    target.check(&tables)?;
    target.finish(views, now, &mut moved)?;
    Ok(moved)
}

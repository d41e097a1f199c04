//! What a page would change: the reading half of storing it, for a dry run.

use rusqlite::Connection;

use super::failure::StoreFailed;
use super::page::{Batch, PlacedRow, Progress, PullFrame, Stored, Tally, lookup};
use super::{sweep, tables};
use crate::plan::Timestamp;
use crate::plan::sweep::SweepVerdict;

/// Answers like `page::store` and writes nothing. Without a warehouse everything is new.
pub fn store_nothing(
    connection: Option<&Connection>,
    frame: &PullFrame,
    batch: &Batch,
    now: Timestamp,
) -> Result<Stored, StoreFailed> {
    let mut tally = compare(connection, frame.person.as_str(), &batch.rows)?;
    tally.quarantined = batch.quarantined.len() as u64;
    let mut stored = Stored { pull_id: 0, tally, renamed: false, walk_again: false, guarded: None };
    if let (Progress::End(end), Some(connection)) = (&batch.progress, connection)
        && let Some(request) = &end.sweep
    {
        let judged = sweep::judge(connection, frame, request, now)?;
        match judged.verdict {
            SweepVerdict::Mark => stored.tally.deleted = judged.facts.unseen,
            SweepVerdict::WalkAgain => stored.walk_again = true,
            SweepVerdict::Guard => stored.guarded = Some(judged.facts.unseen),
        }
    }
    Ok(stored)
}

fn compare(connection: Option<&Connection>, person: &str, rows: &[PlacedRow]) -> Result<Tally, StoreFailed> {
    let mut tally = Tally::default();
    for PlacedRow { row, is_repeat } in rows {
        let known = match connection {
            Some(connection) if tables::exists(connection, row.table)? => {
                lookup(connection, row.table, person, &row.key)?
            }
            _ => None,
        };
        match known {
            // Nothing was written, so a repeat would look new or changed once more.
            _ if *is_repeat => tally.unchanged += 1,
            None => tally.inserted += 1,
            Some(known) if known.content_hash == row.content_hash && !known.is_deleted => {
                tally.unchanged += 1;
            }
            Some(_) => tally.updated += 1,
        }
    }
    Ok(tally)
}

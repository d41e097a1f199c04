//! What a page would change: the reading half of storing it, for a dry run.

use std::collections::HashSet;

use rusqlite::Connection;

use super::page::{StoredVersion, holder, lookup};
use super::{Reader, sweep, tables};
use crate::plan::Timestamp;
use crate::plan::identity::{KeyForm, KeyHash, choose_key};
use crate::plan::row::Row;
use crate::plan::sweep::SweepVerdict;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::{Batch, IncomingRow, PullProgress, StoredBatch, SweepOutcome, Tally};
use crate::warehouse::pull::PullHead;

/// Answers as storing the batch would, and writes nothing. Without a warehouse everything is
/// new. `compared` is what this pull has brought already.
pub(in crate::warehouse) fn compare_page(
    reader: Option<&Reader>,
    head: &PullHead,
    batch: &Batch,
    compared: &mut HashSet<KeyHash>,
    now: Timestamp,
) -> Result<StoredBatch, StoreFailed> {
    let connection = reader.map(Reader::connection);
    let mut tally = compare(connection, head.person.as_str(), &batch.rows, compared)?;
    tally.quarantined = batch.quarantined.len() as u64;
    let mut stored = StoredBatch { tally, ..StoredBatch::default() };
    if let (PullProgress::End(completion), Some(connection)) = (&batch.progress, connection)
        && let Some(request) = &completion.sweep
    {
        let judged = sweep::judge(connection, head, request, now)?;
        stored.sweep = match judged.verdict {
            SweepVerdict::Mark => {
                stored.tally.deleted = judged.facts.unseen;
                SweepOutcome::Done
            }
            SweepVerdict::WalkAgain => SweepOutcome::WalkAgain,
            SweepVerdict::Guard => SweepOutcome::Guarded(judged.facts.unseen),
        };
    }
    Ok(stored)
}

fn compare(
    connection: Option<&Connection>,
    person: &str,
    rows: &[IncomingRow],
    compared: &mut HashSet<KeyHash>,
) -> Result<Tally, StoreFailed> {
    let mut tally = Tally::default();
    for IncomingRow { row, .. } in rows {
        if !compared.insert(row.identity().hash()) {
            // Nothing was written, so it would look new or changed once more.
            tally.unchanged += 1;
            continue;
        }
        let known = match connection {
            Some(connection) if tables::exists(connection, row.table)? => stored(connection, person, row)?,
            _ => None,
        };
        match known {
            None => tally.inserted += 1,
            Some(known) if known.is_current(row) => tally.unchanged += 1,
            Some(_) => tally.updated += 1,
        }
    }
    Ok(tally)
}

/// Returns what is stored of a thing, under whichever key it has.
fn stored(connection: &Connection, person: &str, row: &Row) -> Result<Option<StoredVersion>, StoreFailed> {
    let at_name = lookup(connection, row.table, person, &row.key)?;
    let with_id = lookup(connection, row.table, person, &row.identity().key_with_id())?;
    Ok(match choose_key(holder(at_name.as_ref(), row), holder(with_id.as_ref(), row)) {
        KeyForm::Name => at_name,
        KeyForm::NameAndId => with_id,
        KeyForm::Neither => None,
    })
}

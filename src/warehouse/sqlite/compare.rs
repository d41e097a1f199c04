//! What a page would change: the reading half of storing it, for a dry run.

use std::collections::{BTreeMap, HashSet};

use rusqlite::Connection;

use super::page::{StoredVersion, holder, lookup, renamed};
use super::{Reader, sweep, tables};
use crate::plan::identity::{KeyForm, KeyHash, choose_key};
use crate::plan::row::Row;
use crate::plan::sweep::SweepVerdict;
use crate::plan::{PullMode, Timestamp};
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
    let quarantined = batch.quarantined.len() as u64;
    let Some(connection) = reader.map(Reader::connection) else {
        let mut tally = Tally { quarantined, ..Tally::default() };
        for IncomingRow { row, .. } in &batch.rows {
            let is_new = compared.insert(row.identity().hash());
            *(if is_new { &mut tally.inserted } else { &mut tally.unchanged }) += 1;
        }
        return Ok(StoredBatch { tally, ..StoredBatch::default() });
    };
    let mut stored = compare(connection, head, &batch.rows, compared)?;
    stored.tally.quarantined = quarantined;
    if let PullProgress::End(completion) = &batch.progress
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
    connection: &Connection,
    head: &PullHead,
    rows: &[IncomingRow],
    compared: &mut HashSet<KeyHash>,
) -> Result<StoredBatch, StoreFailed> {
    let person = head.person.as_str();
    let mut tally = Tally::default();
    let mut new: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for IncomingRow { row, .. } in rows {
        if !compared.insert(row.identity().hash()) {
            // Nothing was written, so it would look new or changed once more.
            tally.unchanged += 1;
            continue;
        }
        let known =
            if tables::exists(connection, row.table)? { stored(connection, person, row)? } else { None };
        match known {
            None => {
                tally.inserted += 1;
                new.entry(row.table).or_default().push(row);
            }
            Some(known) if known.is_current(row) => tally.unchanged += 1,
            Some(_) => tally.updated += 1,
        }
    }
    let mut met = false;
    if head.mode == PullMode::Incremental {
        for (table, new) in new {
            met |= tables::exists(connection, table)? && renamed(connection, person, table, &new)?.is_some();
        }
    }
    Ok(StoredBatch { tally, renamed: met, ..StoredBatch::default() })
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

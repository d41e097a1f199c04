//! What a page would change: the reading half of storing it, for a dry run.

use std::collections::{BTreeMap, HashSet};

use super::failure::Undone;
use super::session::Session;
use super::sweep;
use super::upserts::{Known, StoredVersion, holder, is_readable, known, renamed};
use crate::plan::identity::{KeyForm, KeyHash, choose_key};
use crate::plan::row::Row;
use crate::plan::sweep::SweepVerdict;
use crate::plan::{PullMode, Timestamp};
use crate::warehouse::page::{Batch, IncomingRow, PullProgress, StoredBatch, SweepOutcome, Tally};
use crate::warehouse::pull::PullHead;

/// Answers as storing the batch would, and writes nothing. `compared` is what this pull has brought already.
pub(super) async fn compare_page(
    session: &Session,
    head: &PullHead,
    batch: &Batch,
    compared: &mut HashSet<KeyHash>,
    now: Timestamp,
) -> Result<StoredBatch, Undone> {
    let mut stored = compare(session, head, &batch.rows, compared).await?;
    stored.tally.quarantined += batch.quarantined.len() as u64;
    if let PullProgress::End(completion) = &batch.progress
        && let Some(request) = &completion.sweep
    {
        let (verdict, unseen) = sweep::judge(session, head, request, now).await?;
        stored.sweep = match verdict {
            SweepVerdict::Mark => {
                stored.tally.deleted = unseen;
                SweepOutcome::Done
            }
            SweepVerdict::WalkAgain => SweepOutcome::WalkAgain,
            SweepVerdict::Guard => SweepOutcome::Guarded(unseen),
        };
    }
    Ok(stored)
}

async fn compare(
    session: &Session,
    head: &PullHead,
    rows: &[IncomingRow],
    compared: &mut HashSet<KeyHash>,
) -> Result<StoredBatch, Undone> {
    let person = head.person.as_str();
    let with_id: Vec<(&'static str, String)> =
        rows.iter().map(|IncomingRow { row, .. }| (row.table, row.identity().key_with_id())).collect();
    let names = rows.iter().map(|IncomingRow { row, .. }| (row.table, row.key.as_str()));
    let names = names.chain(with_id.iter().map(|(table, key)| (*table, key.as_str())));
    let known = known(session, person, names).await?;
    let mut tally = Tally::default();
    let mut new: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for IncomingRow { row, .. } in rows {
        if !compared.insert(row.identity().hash()) {
            // Nothing was written, so it would look new or changed once more.
            tally.unchanged += 1;
            continue;
        }
        match stored(&known, row) {
            _ if !is_readable(&row.resource) => tally.quarantined += 1,
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
            met |= renamed(session, person, table, &new).await?.is_some();
        }
    }
    Ok(StoredBatch { tally, renamed: met, ..StoredBatch::default() })
}

/// Returns what is stored of a thing, under whichever key it has.
fn stored<'k>(known: &'k Known, row: &Row) -> Option<&'k StoredVersion> {
    let of_table = known.get(row.table)?;
    let at_name = of_table.get(&row.key);
    let with_id = of_table.get(&row.identity().key_with_id());
    match choose_key(holder(at_name, row), holder(with_id, row)) {
        KeyForm::Name => at_name,
        KeyForm::NameAndId => with_id,
        KeyForm::Neither => None,
    }
}

//! What is true of one patient's rows after a page, a crash or a restart.
//!
//! Promise: rows, the marks of what was seen and the progress of the pull change in one
//! transaction, so the checkpoint never points past data we have, and a page that is sent
//! again changes nothing. Absent on purpose: any DELETE of a purge.

use super::analyst_tables::AnalystTables;
use super::checkpoint::Standing;
use super::failure::Undone;
use super::pulls::End;
use super::session::Session;
use super::upserts::Upserts;
use super::{checkpoint, freshness, pulls, shortfall, sweep};
use crate::plan::{PullMode, Timestamp};
use crate::views::KeptRows;
use crate::warehouse::changes::{Changes, History};
use crate::warehouse::page::{
    Batch, Completion, Finished, PullProgress, StoredBatch, SweepOutcome, Tally, WalkMark,
};
use crate::warehouse::pull::{PullCost, PullHead, PullOutcome};

/// A batch of a pull on its way into the database.
pub(super) struct IncomingBatch {
    pub(super) head: PullHead,
    pub(super) cost: PullCost,
    pub(super) batch: Batch,
    /// What its rows give the analysts' tables, as far as that was worked out before; in their order.
    pub(super) gained: Vec<Option<KeptRows>>,
    pub(super) history: History,
    pub(super) now: Timestamp,
}

/// Stores a batch and the fact that it is stored, or neither. Runs inside a transaction.
pub(super) async fn store(
    session: &Session,
    incoming: &IncomingBatch,
    analyst_tables: &AnalystTables,
) -> Result<StoredBatch, Undone> {
    let IncomingBatch { head, cost, batch, gained, history, now } = incoming;
    let now = *now;
    let mut mark = PullMark { session, head, is_set: cost.row.is_some() || head.is_resumed };
    let mut respelled = Vec::new();
    let mut changes = Changes::keeping(*history);
    let (eased, begun) = tokio::join!(biased; ease_commit(session, head, batch), Upserts::begin(session, &head.person, now, batch));
    eased?;
    let mut upserts = begun?;
    let mut tally = upserts.rows(&batch.rows, gained, &mut respelled, &mut changes).await?;
    let mut none = Vec::new();
    // Things whose name is another's, under the keys that they have instead.
    tally += upserts.rows(&respelled, &[], &mut none, &mut changes).await?;
    tally.quarantined = upserts.quarantine(&batch.quarantined, &mut changes).await?;
    let renamed = head.mode == PullMode::Incremental && upserts.met_a_renamed_entry(&mut changes).await?;
    let mut stored = StoredBatch { tally, renamed, ..StoredBatch::default() };
    let mut ending = None;
    match &batch.progress {
        PullProgress::Partial if mark.is_set => checkpoint::expect_under_way(session, head).await?,
        PullProgress::Partial => mark.set().await?,
        PullProgress::Next { url, keys, walk } => mark.advance(Some(url), keys, *walk).await?,
        PullProgress::WalkAgain { keys, walk } => mark.advance(None, keys, *walk).await?,
        PullProgress::End(completion) => {
            stored.sweep = run_sweep(&mut mark, completion, now, &mut stored.tally, &mut changes).await?;
            ending = (stored.sweep != SweepOutcome::WalkAgain).then_some(completion);
        }
    }
    freshness::count(session, head.person.as_str(), changes.live).await?;
    analyst_tables.follow(session, head.person.as_str(), &changes, now).await?;
    if let Some(completion) = ending {
        finish(&mark, incoming, &upserts.before, completion, &mut stored).await?;
        return Ok(stored);
    }
    if renamed {
        checkpoint::note_renamed(session, &head.person).await?;
    }
    stored.row = Some(pulls::note(session, head, cost, stored.tally, None).await?);
    Ok(stored)
}

/// Lets the commit of a pull that brought nothing be answered before it is on the disk: what a crash of the server
/// takes back, the next cycle asks again. Whatever is committed later takes it along.
async fn ease_commit(session: &Session, head: &PullHead, batch: &Batch) -> Result<(), Undone> {
    if brings_nothing(head, batch) {
        session.batch("SET LOCAL synchronous_commit = off").await?;
    }
    Ok(())
}

fn brings_nothing(head: &PullHead, batch: &Batch) -> bool {
    let ends = matches!(&batch.progress, PullProgress::End(completion) if completion.sweep.is_none());
    ends && head.mode == PullMode::Incremental && batch.rows.is_empty() && batch.quarantined.is_empty()
}

/// Moves the watermark, and notes the end of the pull.
async fn finish(
    mark: &PullMark<'_>,
    IncomingBatch { head, cost, batch, now, .. }: &IncomingBatch,
    before: &Standing,
    completion: &Completion,
    stored: &mut StoredBatch,
) -> Result<(), Undone> {
    let (session, tally) = (mark.session, stored.tally);
    let finished = Finished {
        is_marked: mark.is_set,
        watermark: completion.watermark,
        stored_rows: !(batch.rows.is_empty() && batch.quarantined.is_empty()),
        swept: completion.sweep.is_some() && stored.sweep == SweepOutcome::Done,
        shortfall: completion.shortfall,
        now: *now,
    };
    let has_news = tally.inserted + tally.updated > 0 || pulls::has_changed(session, cost).await?;
    stored.since_ignored =
        shortfall::note_brought(session, head, before.brought, completion.brought, has_news).await?;
    let note = completion.note_beside(stored.sweep);
    let end = End { outcome: PullOutcome::Ok, error: note.as_deref(), at: *now };
    // Sent together.
    let (finished, row) = tokio::join!(
        biased;
        checkpoint::finish_pull(session, head, before, &finished),
        pulls::note(session, head, cost, tally, Some(&end))
    );
    finished?;
    stored.row = Some(row?);
    Ok(())
}

/// The mark in the checkpoint that a pull is under way. One that begins and ends in a single
/// batch goes without.
struct PullMark<'c> {
    session: &'c Session,
    head: &'c PullHead,
    is_set: bool,
}

impl PullMark<'_> {
    async fn set(&mut self) -> Result<(), Undone> {
        if !self.is_set {
            checkpoint::begin_pull(self.session, self.head).await?;
            self.is_set = true;
        }
        Ok(())
    }

    /// Notes that a page is whole: its link is next, or (`None`) the walk begins again.
    async fn advance(&mut self, next_url: Option<&str>, keys: &[u64], walk: WalkMark) -> Result<(), Undone> {
        self.set().await?;
        checkpoint::keep_seen(self.session, &self.head.person, walk, keys).await?;
        checkpoint::advance(self.session, self.head, next_url, walk).await
    }
}

/// Marks what a complete full pull no longer held, unless the walk is to be repeated first.
async fn run_sweep(
    mark: &mut PullMark<'_>,
    completion: &Completion,
    now: Timestamp,
    tally: &mut Tally,
    changes: &mut Changes<'_>,
) -> Result<SweepOutcome, Undone> {
    let Some(request) = &completion.sweep else { return Ok(SweepOutcome::Done) };
    match sweep::run(mark.session, mark.head, request, tally.quarantined, now, changes).await? {
        sweep::Swept::Marked { deleted } => {
            tally.deleted = deleted;
            Ok(SweepOutcome::Done)
        }
        sweep::Swept::WalkAgain => {
            let all = || request.seen.last().map(|seen| seen.iter().copied().collect());
            let keys = completion.keys.clone().or_else(all).unwrap_or_default();
            mark.advance(None, &keys, completion.walk).await?;
            Ok(SweepOutcome::WalkAgain)
        }
        sweep::Swept::Guarded { unseen } => Ok(SweepOutcome::Guarded(unseen)),
    }
}

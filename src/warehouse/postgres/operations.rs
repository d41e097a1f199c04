//! The door's writing operations, each of them one transaction.

use std::sync::Arc;

use super::analyst_tables::AnalystTables;
use super::failure::Undone;
use super::open_warehouse::{Engine, fenced};
use super::page::IncomingBatch;
use super::right::Right;
use super::view_build::{Build, Which};
use super::{
    checkpoint, consents, cycle_ends, failover, keep_deleted, page, pulls, purge_log, removed, rosters,
    service_memory, shared_cycle,
};
use crate::plan::checkpoint::Checkpoint;
use crate::plan::completeness::Walk;
use crate::plan::consent::Withdrawals;
use crate::plan::records::{ConsentToLookAt, ConsentsUpdate, KeptConsents, ScopesSeen};
use crate::plan::{PersonId, Timestamp};
use crate::views::{KeptRows, TapeMemory};
use crate::warehouse::failover::Failover;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::{Batch, IncomingRow, PullProgress, StoredBatch, SweepOutcome, Tally};
use crate::warehouse::patient::{Attention, CycleEnd, CycleTimes, Forgotten, RosterReading, RosterTaken};
use crate::warehouse::place::WriterActivity;
use crate::warehouse::pull::{Fenced, Lease, PullCost, PullEnded, PullHead, Setback};
use crate::warehouse::report::{ExpiringConsents, Steps, ViewRefused};
use crate::warehouse::service::{ServiceMemory, ServiceNote};

impl Engine {
    pub(in crate::warehouse) fn activity(&self) -> WriterActivity {
        self.writing().activity()
    }

    pub(in crate::warehouse) async fn cycle_times(&self) -> Result<CycleTimes, StoreFailed> {
        self.look(|session| Box::pin(cycle_ends::cycle_times(session))).await
    }

    pub(in crate::warehouse) async fn begin_cycle(
        &self,
        roster: RosterReading,
        now: Timestamp,
    ) -> Result<RosterTaken, StoreFailed> {
        self.expect_own_tables()?;
        let roster = Arc::new(roster);
        let begin = self.write(|session| {
            let roster = roster.clone();
            Box::pin(async move {
                pulls::close_cut_off(session, now).await?;
                cycle_ends::note_cycle(session, now).await?;
                let is_in_force = rosters::is_in_force(session, roster.version.as_ref()).await?;
                cycle_ends::take_roster(session, &roster, is_in_force, now).await?;
                let lacked_since = roster.paused_lacked_since(now).filter(|_| is_in_force);
                checkpoint::drop_unlisted(session, lacked_since).await?;
                failover::begin_asking(session).await?;
                // Where another took its place since the workers agreed on it, it purges nobody.
                cycle_ends::roster_taken(session, is_in_force).await
            })
        });
        begin.await
    }

    pub(in crate::warehouse) async fn patients_after(
        &self,
        last: Option<PersonId>,
        most: usize,
    ) -> Result<Vec<Checkpoint>, StoreFailed> {
        self.look(|session| {
            let last = last.clone();
            Box::pin(async move { checkpoint::after(session, last.as_ref(), most).await })
        })
        .await
    }

    /// Refuses to pull where tables would be left behind: nobody who pulls may make them.
    pub(super) fn expect_own_tables(&self) -> Result<(), StoreFailed> {
        if self.other_tables.is_empty() {
            return Ok(());
        }
        let others = self.other_tables.join(", ");
        let mend = if self.is_older_than_schema {
            "a newer healthex-sync has made them: install that one here too"
        } else {
            "run `healthex-sync views apply`, or, where other workers have these tables, give this one their settings"
        };
        Err(StoreFailed::Refused(format!(
            "the analysts' tables are not those of this program and its settings ({others}); {mend}"
        )))
    }

    /// Makes every analysts' table anew. Returns those that cannot be made, and why.
    pub(in crate::warehouse) async fn rebuild_views(
        &self,
        now: Timestamp,
        mut told: impl FnMut(Steps) + Send + 'static,
    ) -> Result<Vec<ViewRefused>, StoreFailed> {
        let tables = AnalystTables::new(&self.views);
        let owner = self.owner();
        let build = Build { pool: self.pool(), owner: &owner, tables: &tables, now };
        build.run(Which::All, &mut told).await.map_err(Undone::into_failure)
    }

    pub(in crate::warehouse) async fn has_consents(&self) -> Result<bool, StoreFailed> {
        self.look(|session| Box::pin(consents::has_any(session))).await
    }

    pub(in crate::warehouse) async fn consents(&self) -> Result<KeptConsents, StoreFailed> {
        self.look(|session| Box::pin(consents::all(session))).await
    }

    pub(in crate::warehouse) async fn note_consents(
        &self,
        update: ConsentsUpdate,
        now: Timestamp,
    ) -> Result<(), StoreFailed> {
        let update = Arc::new(update);
        self.write(|session| {
            let update = update.clone();
            Box::pin(async move { consents::note(session, &update, now).await })
        })
        .await
    }

    pub(in crate::warehouse) async fn consents_to_look_at(
        &self,
        most: usize,
    ) -> Result<Vec<ConsentToLookAt>, StoreFailed> {
        self.look(move |session| Box::pin(consents::to_look_at(session, most))).await
    }

    pub(in crate::warehouse) async fn note_scopes(
        &self,
        seen: Vec<ScopesSeen>,
        now: Timestamp,
    ) -> Result<Vec<PersonId>, StoreFailed> {
        let seen = Arc::new(seen);
        self.write(|session| {
            let seen = seen.clone();
            Box::pin(async move { consents::note_scopes(session, &seen, now).await })
        })
        .await
    }

    pub(in crate::warehouse) async fn tell_expiring(
        &self,
        until: Timestamp,
        most: usize,
        now: Timestamp,
    ) -> Result<Option<ExpiringConsents>, StoreFailed> {
        self.write(move |session| Box::pin(consents::tell_expiring(session, until, most, now))).await
    }

    pub(in crate::warehouse) async fn end_cycle(&self, end: CycleEnd) -> Result<Forgotten, StoreFailed> {
        self.write(move |session| {
            Box::pin(async move {
                if end.got_through {
                    cycle_ends::note_good_cycle(session, end.now).await?;
                    failover::end_asking(session).await?;
                }
                shared_cycle::close(session, shared_cycle::Close::WorkedOff).await?;
                pulls::prune(session, end.now).await
            })
        })
        .await?;
        self.write(move |session| Box::pin(removed::prune(session, end.now))).await?;
        let mut forgotten = Forgotten::default();
        let Some(limit) = end.deleted_before() else { return Ok(forgotten) };
        for table in
            self.look(move |session| Box::pin(keep_deleted::tables_with_marked(session, limit))).await?
        {
            loop {
                let removed = self
                    .write(move |session| Box::pin(keep_deleted::remove_some(session, table, limit)))
                    .await?;
                forgotten.deleted_rows += removed;
                if removed < keep_deleted::BATCH_ROWS {
                    break;
                }
            }
        }
        Ok(forgotten)
    }

    pub(in crate::warehouse) async fn attention(&self) -> Result<Attention, StoreFailed> {
        let look = self.look(|session| Box::pin(purge_log::oldest_unscrubbed(session)));
        Ok(Attention { oldest_unscrubbed: look.await?, ledger_fault: self.ledger_fault() })
    }

    pub(in crate::warehouse) async fn tell_failover(&self) -> Result<Option<Failover>, StoreFailed> {
        if self.look(|session| Box::pin(failover::is_untold(session))).await? {
            self.write(|session| Box::pin(failover::tell(session))).await
        } else {
            Ok(None)
        }
    }

    pub(in crate::warehouse) async fn remember(&self, note: ServiceNote) -> Result<(), StoreFailed> {
        let note = Arc::new(note);
        self.write(|session| {
            let note = note.clone();
            Box::pin(async move { service_memory::remember(session, &note).await })
        })
        .await
    }

    pub(in crate::warehouse) async fn recall(&self) -> Result<ServiceMemory, StoreFailed> {
        self.look(|session| Box::pin(service_memory::recall(session))).await
    }

    pub(in crate::warehouse) async fn claim(&self, person: &PersonId) -> Result<Option<Lease>, StoreFailed> {
        let asked = Arc::new((person.clone(), self.owner()));
        let Some(former) = self.former_fence(person) else {
            let looked = self.look(|session| {
                let asked = asked.clone();
                Box::pin(async move { checkpoint::one(session, &asked.0).await })
            });
            return Ok(looked.await?.map(Lease::alone));
        };
        let taken = self.run(&Right::Anybody, |session| {
            let asked = asked.clone();
            Box::pin(async move {
                let (person, owner) = &*asked;
                let fence = checkpoint::take_again(session, person, owner, former).await?;
                Ok((fence, checkpoint::one(session, person).await?))
            })
        });
        let Fenced::Kept((fence, Some(checkpoint))) = fenced(taken.await)? else { return Ok(None) };
        self.hold_again(person, fence);
        Ok(Some(Lease { checkpoint, fence }))
    }

    pub(in crate::warehouse) async fn unfinished_walks(
        &self,
        person: &PersonId,
    ) -> Result<Vec<Walk>, StoreFailed> {
        let person = person.clone();
        self.look(|session| {
            let person = person.clone();
            Box::pin(async move { checkpoint::walks(session, &person).await })
        })
        .await
    }

    pub(in crate::warehouse) async fn store_page(
        &self,
        head: &PullHead,
        cost: PullCost,
        batch: Batch,
        now: Timestamp,
    ) -> Result<Fenced<StoredBatch>, StoreFailed> {
        let holds_rows = !batch.rows.is_empty() || !batch.quarantined.is_empty();
        if holds_rows && self.purged.contains(&head.person) {
            // Else it would lie in the task of each pull.
            match fenced(Box::pin(self.note_returned(&head.person, now)).await)? {
                Fenced::Kept(()) => {}
                Fenced::Superseded => return Ok(Fenced::Superseded),
            }
        }
        let tables = self.analyst_tables.clone();
        let gained =
            if batch.is_mostly_changes { evaluate(&tables, &batch.rows, now).await } else { Vec::new() };
        let history = self.history;
        let incoming = Arc::new(IncomingBatch { head: head.clone(), cost, batch, gained, history, now });
        let stored = self.write_fenced(&head.person, |session| {
            let (incoming, tables) = (incoming.clone(), tables.clone());
            Box::pin(async move { page::store(session, &incoming, &tables).await })
        });
        let stored = stored.await?;
        if let Fenced::Kept(StoredBatch { sweep, .. }) = &stored
            && matches!(incoming.batch.progress, PullProgress::End(_))
            && *sweep != SweepOutcome::WalkAgain
        {
            self.release(&head.person);
        }
        Ok(stored)
    }

    pub(in crate::warehouse) async fn restart_pull(
        &self,
        head: &PullHead,
    ) -> Result<Fenced<()>, StoreFailed> {
        let head = Arc::new(head.clone());
        self.write_fenced(&head.person, |session| {
            let head = head.clone();
            Box::pin(async move { checkpoint::begin_pull(session, &head).await })
        })
        .await
    }

    pub(in crate::warehouse) async fn note_renamed_full(
        &self,
        person: &PersonId,
        now: Timestamp,
    ) -> Result<Fenced<()>, StoreFailed> {
        let (owner, former) = (self.owner(), self.former_fence(person));
        let right = if former.is_some() { Right::Anybody } else { Right::Lead(self.owner()) };
        let noted = Arc::new((person.clone(), owner));
        let taken = self.run(&right, |session| {
            let noted = noted.clone();
            Box::pin(async move {
                let (person, owner) = &*noted;
                let fence = match former {
                    Some(former) => Some(checkpoint::take_again(session, person, owner, former).await?),
                    None => None,
                };
                checkpoint::note_renamed_full(session, person, now).await?;
                Ok(fence)
            })
        });
        Ok(match fenced(taken.await)? {
            Fenced::Kept(fence) => {
                if let Some(fence) = fence {
                    self.hold_again(person, fence);
                }
                Fenced::Kept(())
            }
            Fenced::Superseded => Fenced::Superseded,
        })
    }

    pub(in crate::warehouse) async fn end_pull(
        &self,
        ended: PullEnded,
        now: Timestamp,
    ) -> Result<Fenced<()>, StoreFailed> {
        let ended = Arc::new(ended);
        let done = self.write_fenced(&ended.head.person, |session| {
            let ended = ended.clone();
            Box::pin(async move {
                let PullEnded { head, is_marked, setback, .. } = &*ended;
                if *is_marked {
                    checkpoint::expect_under_way(session, head).await?;
                }
                pulls::note_end(session, &ended, now).await?;
                match setback {
                    Some(setback) => checkpoint::set_back(session, head, setback, now).await,
                    None => Ok(()),
                }
            })
        });
        let done = done.await?;
        if ended.setback.is_some() {
            self.release(&ended.head.person);
        }
        Ok(done)
    }

    pub(in crate::warehouse) async fn note_answer(
        &self,
        person: &PersonId,
        answer: Setback,
        now: Timestamp,
    ) -> Result<Fenced<()>, StoreFailed> {
        let noted = Arc::new((person.clone(), answer));
        let done = self.write_fenced(person, |session| {
            let noted = noted.clone();
            Box::pin(async move { checkpoint::apply(session, &noted.0, &noted.1, now).await })
        });
        let done = done.await?;
        self.release(person);
        Ok(done)
    }

    pub(in crate::warehouse) async fn note_refusal(
        &self,
        head: &PullHead,
        cost: PullCost,
        now: Timestamp,
    ) -> Result<Option<i64>, StoreFailed> {
        let head = Arc::new(head.clone());
        let noted = self.write_fenced(&head.person, |session| {
            let head = head.clone();
            Box::pin(async move {
                checkpoint::apply(session, &head.person, &Setback::refused(), now).await?;
                Ok(Some(pulls::note(session, &head, &cost, Tally::default(), None).await?))
            })
        });
        let noted = noted.await?;
        self.release(&head.person);
        match noted {
            Fenced::Kept(row) => Ok(row),
            // A patient that is not known any more has nothing to be refused.
            Fenced::Superseded => Ok(None),
        }
    }

    pub(in crate::warehouse) async fn withdrawals(&self, now: Timestamp) -> Result<Withdrawals, StoreFailed> {
        self.look(move |session| Box::pin(checkpoint::withdrawals(session, now))).await
    }

    pub(in crate::warehouse) async fn departures(
        &self,
        missing_since: Timestamp,
        now: Timestamp,
    ) -> Result<Withdrawals, StoreFailed> {
        self.look(move |session| Box::pin(checkpoint::departures(session, missing_since, now))).await
    }

    pub(in crate::warehouse) async fn latest_pulled(
        &self,
        most: usize,
    ) -> Result<Vec<PersonId>, StoreFailed> {
        self.look(move |session| Box::pin(checkpoint::latest_pulled(session, most))).await
    }

    pub(in crate::warehouse) async fn refused(&self) -> Result<u64, StoreFailed> {
        self.look(|session| Box::pin(checkpoint::count_refused(session))).await
    }

    pub(in crate::warehouse) async fn held(&self) -> Result<Vec<Lease>, StoreFailed> {
        let held = self.look(|session| Box::pin(checkpoint::held(session))).await?;
        Ok(held.into_iter().map(Lease::alone).collect())
    }
}

/// Rows that are evaluated between two looks at what else is to be done.
const ROWS_AT_ONCE: usize = 64;

/// Works out what rows give their views, on the task that pulled them.
async fn evaluate(tables: &AnalystTables, rows: &[IncomingRow], now: Timestamp) -> Vec<Option<KeptRows>> {
    let mut gained = Vec::with_capacity(rows.len());
    for some in rows.chunks(ROWS_AT_ONCE) {
        let mut memory = TapeMemory::default();
        gained.extend(some.iter().map(|row| tables.evaluate(row, now, &mut memory)));
        tokio::task::yield_now().await;
    }
    gained
}

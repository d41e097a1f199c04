//! The door's writing operations, each of them one piece of work for the writer's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use super::analyst_tables::AnalystTables;
use super::lock::WriterLock;
use super::page::EvaluatedBatch;
use super::purge::Purge;
use super::writer::Writer;
use super::{checkpoint, open, page, pulls, purge, scrub};
use crate::plan::completeness::Walk;
use crate::plan::consent::Withdrawals;
use crate::plan::state::{PatientState, PurgeReason};
use crate::plan::{PersonId, Timestamp};
use crate::views::{KeptRows, TapeMemory};
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::page::{Batch, IncomingRow, StoredBatch, Tally};
use crate::warehouse::patient::{Attention, CycleTimes, Listed, RosterChange};
use crate::warehouse::place::{OtherServer, Place, WriterActivity};
use crate::warehouse::pull::{Fenced, Lease, PullCost, PullEnded, PullHead, Setback};
use crate::warehouse::purge::{Erased, PurgedPatient, Scrub};
use crate::warehouse::report::{Steps, ViewRefused};

/// A file that is open for writing, and its lock.
pub struct Engine {
    // Closed before the lock is freed: fields are dropped in this order.
    writer: Writer,
    _lock: WriterLock,
    analyst_tables: Arc<AnalystTables>,
    stop_scrub: Arc<AtomicBool>,
}

impl Engine {
    pub(in crate::warehouse) fn open(
        place: &Place,
        other_server: OtherServer,
        now: Timestamp,
    ) -> Result<Self, OpenFailed> {
        open::prepare(&place.path)?;
        let lock = WriterLock::take(&place.path)?;
        let analyst_tables = Arc::new(AnalystTables::new(&place.views));
        let connection = open::open_writer(place, &analyst_tables, other_server, now)?;
        let writer = Writer::start(connection, &place.path, analyst_tables.clone(), now)?;
        Ok(Self { writer, _lock: lock, analyst_tables, stop_scrub: Arc::default() })
    }

    pub(in crate::warehouse) fn abandon(&self) {
        self.stop_scrub.store(true, Ordering::Relaxed);
        self.writer.abandon();
    }

    pub(in crate::warehouse) fn activity(&self) -> WriterActivity {
        self.writer.activity()
    }

    pub(in crate::warehouse) fn interrupt(&self) {
        self.stop_scrub.store(true, Ordering::Relaxed);
        self.writer.interrupt();
    }

    pub(in crate::warehouse) async fn cycle_times(&self) -> Result<CycleTimes, StoreFailed> {
        self.writer.write(checkpoint::cycle_times).await
    }

    pub(in crate::warehouse) async fn roster_change(
        &self,
        listed: &[Listed],
    ) -> Result<RosterChange, StoreFailed> {
        let listed = listed.to_vec();
        self.writer.write(move |connection| checkpoint::roster_change(connection, &listed)).await
    }

    pub(in crate::warehouse) async fn begin_cycle(
        &self,
        listed: Vec<Listed>,
        now: Timestamp,
    ) -> Result<Vec<Lease>, StoreFailed> {
        let begin = self.writer.write(move |connection| {
            pulls::close_cut_off(connection, now)?;
            checkpoint::note_cycle(connection, now)?;
            checkpoint::take_roster(connection, &listed)?;
            checkpoint::drop_unlisted(connection)?;
            checkpoint::all(connection)
        });
        Ok(begin.await?.into_iter().map(|checkpoint| Lease { checkpoint }).collect())
    }

    pub(in crate::warehouse) async fn end_cycle(&self) -> Result<(), StoreFailed> {
        self.writer.write(pulls::prune).await
    }

    pub(in crate::warehouse) async fn attention(
        &self,
        good_end: Option<Timestamp>,
    ) -> Result<Attention, StoreFailed> {
        let look = self.writer.write(move |connection| {
            if let Some(now) = good_end {
                checkpoint::note_good_cycle(connection, now)?;
            }
            let patients = checkpoint::all(connection)?;
            Ok(Attention { patients, oldest_unscrubbed: purge::oldest_unscrubbed(connection)? })
        });
        look.await
    }

    pub(in crate::warehouse) async fn claim(&self, person: &PersonId) -> Result<Option<Lease>, StoreFailed> {
        let person = person.clone();
        let found = self.writer.write(move |connection| checkpoint::one(connection, &person)).await?;
        Ok(found.map(|checkpoint| Lease { checkpoint }))
    }

    pub(in crate::warehouse) async fn unfinished_walks(
        &self,
        person: &PersonId,
    ) -> Result<Vec<Walk>, StoreFailed> {
        let person = person.clone();
        self.writer.write(move |connection| checkpoint::walks(connection, &person)).await
    }

    pub(in crate::warehouse) async fn store_page(
        &self,
        head: &PullHead,
        cost: PullCost,
        batch: Batch,
        now: Timestamp,
    ) -> Result<Fenced<StoredBatch>, StoreFailed> {
        let (head, tables) = (head.clone(), self.analyst_tables.clone());
        let gained =
            if batch.is_mostly_changes { evaluate(&tables, &batch.rows, now).await } else { Vec::new() };
        let batch = EvaluatedBatch { batch, gained };
        let store = move |connection: &_| page::store(connection, &tables, &head, cost, &batch, now);
        self.writer.write_fenced(store).await
    }

    pub(in crate::warehouse) async fn restart_pull(
        &self,
        head: &PullHead,
    ) -> Result<Fenced<()>, StoreFailed> {
        let head = head.clone();
        self.writer.write_fenced(move |connection| checkpoint::begin_pull(connection, &head)).await
    }

    pub(in crate::warehouse) async fn note_renamed_full(
        &self,
        person: &PersonId,
        now: Timestamp,
    ) -> Result<(), StoreFailed> {
        let person = person.clone();
        self.writer.write(move |connection| checkpoint::note_renamed_full(connection, &person, now)).await
    }

    pub(in crate::warehouse) async fn end_pull(
        &self,
        ended: PullEnded,
        now: Timestamp,
    ) -> Result<Fenced<()>, StoreFailed> {
        let end = move |connection: &_| {
            let PullEnded { head, is_marked, setback, .. } = &ended;
            if *is_marked {
                checkpoint::expect_under_way(connection, head)?;
            }
            pulls::note_end(connection, &ended, now)?;
            match setback {
                Some(setback) => checkpoint::set_back(connection, head, setback, now),
                None => Ok(()),
            }
        };
        self.writer.write_fenced(end).await
    }

    pub(in crate::warehouse) async fn note_answer(
        &self,
        person: &PersonId,
        answer: Setback,
        now: Timestamp,
    ) -> Result<Fenced<()>, StoreFailed> {
        let person = person.clone();
        let note = move |connection: &_| checkpoint::apply(connection, &person, &answer, now);
        self.writer.write_fenced(note).await
    }

    pub(in crate::warehouse) async fn note_refusal(
        &self,
        head: &PullHead,
        cost: PullCost,
        now: Timestamp,
    ) -> Result<Option<i64>, StoreFailed> {
        let head = head.clone();
        let note = move |connection: &_| {
            checkpoint::apply(connection, &head.person, &Setback::refused(), now)?;
            Ok(Some(pulls::note(connection, &head, &cost, Tally::default(), None)?))
        };
        match self.writer.write_fenced(note).await? {
            Fenced::Kept(row) => Ok(row),
            // A patient that is not known any more has nothing to be refused.
            Fenced::Superseded => Ok(None),
        }
    }

    pub(in crate::warehouse) async fn withdrawals(&self, now: Timestamp) -> Result<Withdrawals, StoreFailed> {
        self.writer.write(move |connection| checkpoint::withdrawals(connection, now)).await
    }

    pub(in crate::warehouse) async fn latest_pulled(
        &self,
        most: usize,
    ) -> Result<Vec<PersonId>, StoreFailed> {
        self.writer.write(move |connection| checkpoint::latest_pulled(connection, most)).await
    }

    pub(in crate::warehouse) async fn held(&self) -> Result<Vec<Lease>, StoreFailed> {
        let all = self.writer.write(checkpoint::all).await?;
        let held = all.into_iter().filter(|patient| patient.state == PatientState::Held);
        Ok(held.map(|checkpoint| Lease { checkpoint }).collect())
    }

    pub(in crate::warehouse) async fn revoke(
        &self,
        ended: PullEnded,
        confirmed_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Erased>, StoreFailed> {
        let revoke = self.writer.write(move |connection| {
            let person = &ended.head.person;
            let erased = if holds_rows(connection, person)? {
                let (reason, by) = (PurgeReason::ConsentRevoked, BY_ITSELF);
                Some(purge::erase(connection, &Purge { person, reason, by, confirmed_at, now })?)
            } else {
                purge::revoke_without_rows(connection, person, now)?;
                None
            };
            // The pull's row has gone with the others: what is noted is that somebody asked.
            let cost = PullCost { row: None, ..ended.cost };
            pulls::note_end(connection, &PullEnded { cost, ..ended.clone() }, now)?;
            checkpoint::drop_unlisted(connection)?;
            Ok(erased)
        });
        revoke.await
    }

    pub(in crate::warehouse) async fn purge(
        &self,
        person: &PersonId,
        reason: PurgeReason,
        by: &str,
        now: Timestamp,
    ) -> Result<Option<PurgedPatient>, StoreFailed> {
        let (person, by) = (person.clone(), by.to_owned());
        let erase = self.writer.write(move |connection| {
            let Some(patient) = checkpoint::one(connection, &person)? else { return Ok(None) };
            if !patient.holds_rows && reason != PurgeReason::Operator {
                return Ok(None);
            }
            let purge = Purge { person: &person, reason, by: &by, confirmed_at: now, now };
            let erased = purge::erase(connection, &purge)?;
            checkpoint::drop_unlisted(connection)?;
            Ok(Some(PurgedPatient { name: patient.name().to_owned(), erased }))
        });
        erase.await
    }

    pub(in crate::warehouse) async fn unscrubbed(&self) -> Result<Option<Timestamp>, StoreFailed> {
        self.writer.write(purge::oldest_unscrubbed).await
    }

    pub(in crate::warehouse) async fn scrub(&self, clock: fn() -> Timestamp) -> Result<Scrub, StoreFailed> {
        self.stop_scrub.store(false, Ordering::Relaxed);
        scrub::scrub(&self.writer, &self.stop_scrub, clock).await
    }

    pub(in crate::warehouse) async fn settle_views(&self, now: Timestamp) -> Result<(), StoreFailed> {
        while self.build_step(now).await? {}
        let tables = self.analyst_tables.clone();
        self.writer.alone(move |connection| tables.make_missing_indexes(connection)).await
    }

    pub(in crate::warehouse) async fn rebuild_views(
        &self,
        now: Timestamp,
        mut told: impl FnMut(Steps) + Send + 'static,
    ) -> Result<Vec<ViewRefused>, StoreFailed> {
        let tables = self.analyst_tables.clone();
        let failed = self.writer.alone(move |connection| tables.begin_rebuild(connection, now)).await?;
        let all = self.remaining().await?;
        loop {
            let done = all.saturating_sub(self.remaining().await?);
            told(Steps { done, of: all });
            if !self.build_step(now).await? {
                break;
            }
        }
        self.settle_views(now).await?;
        Ok(failed)
    }

    async fn build_step(&self, now: Timestamp) -> Result<bool, StoreFailed> {
        let tables = self.analyst_tables.clone();
        self.writer.alone(move |connection| tables.build_step(connection, now)).await
    }

    async fn remaining(&self) -> Result<usize, StoreFailed> {
        let tables = self.analyst_tables.clone();
        self.writer.alone(move |connection| tables.rows_to_build(connection)).await
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

/// Who purges where nobody has typed it.
const BY_ITSELF: &str = "healthex-sync";

fn holds_rows(connection: &Connection, person: &PersonId) -> Result<bool, StoreFailed> {
    Ok(checkpoint::one(connection, person)?.is_some_and(|patient| patient.holds_rows))
}

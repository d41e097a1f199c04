//! The door's writing operations, each of them one piece of work for the writer's thread.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::analyst_tables::AnalystTables;
use super::lock::WriterLock;
use super::page::EvaluatedBatch;
use super::writer::Writer;
use super::{
    checkpoint, consents, cycle_ends, keep_deleted, ledger_book, open, page, pulls, purge, removed, scrub,
    service_memory, staying_reader,
};
use crate::plan::checkpoint::Checkpoint;
use crate::plan::completeness::Walk;
use crate::plan::consent::Withdrawals;
use crate::plan::records::{ConsentToLookAt, ConsentsUpdate, KeptConsents, ScopesSeen};
use crate::plan::state::PurgeReason;
use crate::plan::{PersonId, Timestamp, stamp};
use crate::views::{KeptRows, TapeMemory};
use crate::warehouse::beside::ledger;
use crate::warehouse::beside::ledger::{Ledger, PurgedPatients};
use crate::warehouse::beside::purge_requests::Requests;
use crate::warehouse::changes::History;
use crate::warehouse::failure::{LedgerFault, OpenFailed, StoreFailed};
use crate::warehouse::page::{Batch, IncomingRow, StoredBatch, Tally};
use crate::warehouse::patient::{Attention, CycleEnd, CycleTimes, Forgotten, RosterReading, RosterTaken};
use crate::warehouse::place::{FileIdentity, OtherServer, Place, WriterActivity};
use crate::warehouse::pull::{Fenced, Lease, PullCost, PullEnded, PullHead, Setback};
use crate::warehouse::purge::{
    BY_ITSELF, CarriedOut, Erased, Purge, PurgeAnswer, PurgeRequest, PurgedPatient, Scrub, ScrubWaits,
};
use crate::warehouse::report::{ExpiringConsents, Steps, ViewRefused};
use crate::warehouse::service::{ServiceMemory, ServiceNote};

/// A file that is open for writing, and its lock.
pub struct Engine {
    // Closed before the lock is freed: fields are dropped in this order.
    writer: Writer,
    _lock: WriterLock,
    analyst_tables: Arc<AnalystTables>,
    history: History,
    stop_scrub: Arc<AtomicBool>,
    /// Locked by the writer's thread while it purges.
    ledger: Arc<Mutex<Ledger>>,
    purged: PurgedPatients,
    identity: Option<FileIdentity>,
}

impl Engine {
    pub(in crate::warehouse) fn open(
        place: &Place,
        other_server: OtherServer,
        now: Timestamp,
    ) -> Result<Self, OpenFailed> {
        let place = &open::resolve_place(place)?;
        open::prepare(place)?;
        let lock = WriterLock::take(place.path())?;
        let analyst_tables = Arc::new(AnalystTables::for_opening(&place.views));
        let mut connection = open::open_writer(place, &analyst_tables, other_server, now)?;
        let ledger = open_ledger(place, &mut connection, now)?;
        let (identity, writer) = (
            open::identity(place.path()),
            Writer::start(connection, place.path(), analyst_tables.clone(), now)?,
        );
        let (purged, ledger) = (ledger.purged(), Arc::new(Mutex::new(ledger)));
        let history = History::of(place.history);
        let stop_scrub = Arc::default();
        Ok(Self { writer, _lock: lock, analyst_tables, history, stop_scrub, ledger, purged, identity })
    }

    /// Returns what was carried out of the ledger since this was last asked.
    pub(in crate::warehouse) fn carried_out(&self) -> Vec<CarriedOut> {
        lock(&self.ledger).take_carried_out()
    }

    pub(in crate::warehouse) fn ledger_fault(&self) -> Option<LedgerFault> {
        lock(&self.ledger).fault()
    }

    /// Runs `work`, which writes a line into the ledger, in a transaction that it shares with
    /// nothing: what is taken back and run again would write its line twice.
    async fn with_ledger<T, F>(&self, now: Timestamp, work: F) -> Result<T, StoreFailed>
    where
        T: Send + 'static,
        F: FnOnce(&Connection, &mut Ledger) -> Result<T, StoreFailed> + Send + 'static,
    {
        let (ledger, path) = (self.ledger.clone(), self.writer.path().to_owned());
        let identity = self.identity;
        let is_replaced = move || open::identity(&path) != identity;
        let run = move |connection: &mut Connection| {
            if is_replaced() {
                return Err(StoreFailed::Replaced);
            }
            let done = ledger_book::in_transaction(&mut lock(&ledger), connection, now, work)?;
            // Writes into a file that was removed or replaced succeed, and are lost.
            if is_replaced() { Err(StoreFailed::Replaced) } else { Ok(done) }
        };
        self.writer.alone(run).await
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
        self.writer.write(cycle_ends::cycle_times).await
    }

    pub(in crate::warehouse) async fn begin_cycle(
        &self,
        roster: RosterReading,
        now: Timestamp,
    ) -> Result<RosterTaken, StoreFailed> {
        let begin = self.writer.write(move |connection| {
            pulls::close_cut_off(connection, now)?;
            cycle_ends::note_cycle(connection, now)?;
            cycle_ends::take_roster(connection, &roster, now)?;
            checkpoint::drop_unlisted(connection, roster.paused_lacked_since(now))?;
            cycle_ends::roster_taken(connection)
        });
        begin.await
    }

    pub(in crate::warehouse) async fn patients_after(
        &self,
        last: Option<PersonId>,
        most: usize,
    ) -> Result<Vec<Checkpoint>, StoreFailed> {
        self.writer.write(move |connection| checkpoint::after(connection, last.as_ref(), most)).await
    }

    pub(in crate::warehouse) async fn has_consents(&self) -> Result<bool, StoreFailed> {
        self.writer.write(consents::has_any).await
    }

    pub(in crate::warehouse) async fn consents(&self) -> Result<KeptConsents, StoreFailed> {
        self.writer.write(consents::all).await
    }

    pub(in crate::warehouse) async fn note_consents(
        &self,
        update: ConsentsUpdate,
        now: Timestamp,
    ) -> Result<(), StoreFailed> {
        self.writer.write(move |connection| consents::note(connection, &update, now)).await
    }

    pub(in crate::warehouse) async fn consents_to_look_at(
        &self,
        most: usize,
    ) -> Result<Vec<ConsentToLookAt>, StoreFailed> {
        self.writer.write(move |connection| consents::to_look_at(connection, most)).await
    }

    pub(in crate::warehouse) async fn note_scopes(
        &self,
        seen: Vec<ScopesSeen>,
        now: Timestamp,
    ) -> Result<Vec<PersonId>, StoreFailed> {
        self.writer.write(move |connection| consents::note_scopes(connection, &seen, now)).await
    }

    pub(in crate::warehouse) async fn end_cycle(&self, end: CycleEnd) -> Result<Forgotten, StoreFailed> {
        self.writer
            .write(move |connection| {
                if end.got_through {
                    cycle_ends::note_good_cycle(connection, end.now)?;
                }
                pulls::prune(connection)
            })
            .await?;
        self.writer.write(move |connection| removed::prune(connection, end.now)).await?;
        self.writer.alone(move |connection| staying_reader::look(connection, end.now)).await?;
        let mut forgotten = Forgotten::default();
        let Some(limit) = end.deleted_before().map(stamp) else { return Ok(forgotten) };
        for table in self.writer.write(keep_deleted::prepare).await? {
            loop {
                let limit = limit.clone();
                let batch = move |connection: &_| keep_deleted::remove_some(connection, table, &limit);
                let removed = self.writer.write(batch).await?;
                forgotten.deleted_rows += removed;
                if removed < keep_deleted::BATCH_ROWS {
                    break;
                }
            }
        }
        Ok(forgotten)
    }

    pub(in crate::warehouse) async fn attention(&self) -> Result<Attention, StoreFailed> {
        let ledger_fault = self.ledger_fault();
        let look = self.writer.write(move |connection| {
            let oldest_unscrubbed = purge::oldest_unscrubbed(connection)?;
            Ok(Attention { oldest_unscrubbed, ledger_fault: ledger_fault.clone() })
        });
        look.await
    }

    pub(in crate::warehouse) async fn tell_expiring(
        &self,
        until: Timestamp,
        most: usize,
        now: Timestamp,
    ) -> Result<Option<ExpiringConsents>, StoreFailed> {
        self.writer.write(move |connection| consents::tell_expiring(connection, until, most, now)).await
    }

    pub(in crate::warehouse) async fn remember(&self, note: ServiceNote) -> Result<(), StoreFailed> {
        self.writer.write(move |connection| service_memory::remember(connection, &note)).await
    }

    pub(in crate::warehouse) async fn recall(&self) -> Result<ServiceMemory, StoreFailed> {
        self.writer.write(service_memory::recall).await
    }

    pub(in crate::warehouse) async fn claim(&self, person: &PersonId) -> Result<Option<Lease>, StoreFailed> {
        let person = person.clone();
        let found = self.writer.write(move |connection| checkpoint::one(connection, &person)).await?;
        Ok(found.map(Lease::alone))
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
        let holds_rows = !batch.rows.is_empty() || !batch.quarantined.is_empty();
        if holds_rows && self.purged.contains(&head.person) {
            let person = head.person.clone();
            let note = move |transaction: &Connection, ledger: &mut Ledger| {
                ledger_book::note_returned(ledger, transaction, &person, now)
            };
            self.with_ledger(now, note).await?;
        }
        let (head, tables) = (head.clone(), self.analyst_tables.clone());
        let gained =
            if batch.is_mostly_changes { evaluate(&tables, &batch.rows, now).await } else { Vec::new() };
        let batch = EvaluatedBatch { batch, gained, history: self.history };
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

    pub(in crate::warehouse) async fn departures(
        &self,
        missing_since: Timestamp,
        now: Timestamp,
    ) -> Result<Withdrawals, StoreFailed> {
        self.writer.write(move |connection| checkpoint::departures(connection, missing_since, now)).await
    }

    pub(in crate::warehouse) async fn latest_pulled(
        &self,
        most: usize,
    ) -> Result<Vec<PersonId>, StoreFailed> {
        self.writer.write(move |connection| checkpoint::latest_pulled(connection, most)).await
    }

    pub(in crate::warehouse) async fn refused(&self) -> Result<u64, StoreFailed> {
        self.writer.write(checkpoint::count_refused).await
    }

    pub(in crate::warehouse) async fn held(&self) -> Result<Vec<Lease>, StoreFailed> {
        Ok(self.writer.write(checkpoint::held).await?.into_iter().map(Lease::alone).collect())
    }

    pub(in crate::warehouse) async fn revoke(
        &self,
        ended: PullEnded,
        confirmed_at: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Erased>, StoreFailed> {
        let revoke = move |transaction: &Connection, ledger: &mut Ledger| {
            let person = &ended.head.person;
            let erased = if holds_rows(transaction, person)? {
                let purge = Purge {
                    person,
                    reason: PurgeReason::ConsentRevoked,
                    by: BY_ITSELF,
                    refused_at: purge::refused_at(transaction, person)?,
                    confirmed_at,
                    now,
                    carried_out_at: None,
                };
                let erased = purge::erase(transaction, &purge)?;
                ledger_book::note_purge(ledger, transaction, &purge, &erased)?;
                Some(erased)
            } else {
                purge::revoke_without_rows(transaction, person, now)?;
                None
            };
            // The pull's row has gone with the others: what is noted is that somebody asked.
            let cost = PullCost { row: None, ..ended.cost };
            pulls::note_end(transaction, &PullEnded { cost, ..ended.clone() }, now)?;
            checkpoint::drop_unlisted(transaction, None)?;
            Ok(erased)
        };
        self.with_ledger(now, revoke).await
    }

    pub(in crate::warehouse) async fn purge(
        &self,
        person: &PersonId,
        reason: PurgeReason,
        by: &str,
        now: Timestamp,
    ) -> Result<Option<PurgedPatient>, StoreFailed> {
        let (person, by) = (person.clone(), by.to_owned());
        let erase = move |transaction: &Connection, ledger: &mut Ledger| {
            let Some(patient) = checkpoint::one(transaction, &person)? else { return Ok(None) };
            if !patient.holds_rows && reason != PurgeReason::Operator {
                return Ok(None);
            }
            let refused_at = patient.refused_at;
            let purge = Purge {
                person: &person,
                reason,
                by: &by,
                refused_at,
                confirmed_at: now,
                now,
                carried_out_at: None,
            };
            let erased = purge::erase(transaction, &purge)?;
            checkpoint::drop_unlisted(transaction, None)?;
            ledger_book::note_purge(ledger, transaction, &purge, &erased)?;
            Ok(Some(PurgedPatient { name: patient.name().to_owned(), erased }))
        };
        self.with_ledger(now, erase).await
    }

    pub(in crate::warehouse) fn take_purge_requests(&self, now: Timestamp) -> Vec<PurgeRequest> {
        Requests::beside(self.writer.path()).take(now)
    }

    pub(in crate::warehouse) fn answer_purge_request(
        &self,
        request: &PurgeRequest,
        answer: &PurgeAnswer,
        now: Timestamp,
    ) {
        Requests::beside(self.writer.path()).answer(request, answer, now);
    }

    pub(in crate::warehouse) async fn unscrubbed(&self) -> Result<Option<Timestamp>, StoreFailed> {
        self.writer.write(purge::oldest_unscrubbed).await
    }

    pub(in crate::warehouse) async fn scrub(&self, clock: fn() -> Timestamp) -> Result<Scrub, StoreFailed> {
        self.stop_scrub.store(false, Ordering::Relaxed);
        let scrubbed = scrub::scrub(&self.writer, &self.stop_scrub, clock).await?;
        if scrubbed == Scrub::Waits(ScrubWaits::Reader) {
            let now = clock();
            self.writer.write(move |connection| cycle_ends::note_reader(connection, now)).await?;
        }
        Ok(scrubbed)
    }

    pub(in crate::warehouse) async fn settle_views(&self, now: Timestamp) -> Result<(), StoreFailed> {
        while self.build_step(now).await? {}
        let tables = self.analyst_tables.clone();
        self.writer
            .alone(move |connection| {
                tables.make_missing_indexes(connection)?;
                tables.count_anew(connection)
            })
            .await
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

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open_ledger(place: &Place, connection: &mut Connection, now: Timestamp) -> Result<Ledger, OpenFailed> {
    let path = place.path().to_owned();
    let ledger = ledger::resolve(place);
    let book = ledger_book::open(ledger.clone(), connection, now)
        .map_err(|source| OpenFailed::Unusable { path: path.clone(), source })?;
    match book.fault() {
        Some(LedgerFault::OfAnother(_)) => Err(OpenFailed::OtherLedger { path, ledger }),
        _ => Ok(book),
    }
}

/// Begins another ledger while nothing else writes. What can be read of the former one is carried
/// out first.
pub(in crate::warehouse) fn begin_ledger_anew(
    place: &Place,
    now: Timestamp,
) -> Result<Option<PathBuf>, OpenFailed> {
    let place = &open::resolve_place(place)?;
    let path = place.path().to_owned();
    let _lock = WriterLock::take(&path)?;
    let analyst_tables = AnalystTables::new(&place.views);
    let mut connection = open::open_writer(place, &analyst_tables, OtherServer::Refuse, now)?;
    open_ledger(place, &mut connection, now)?;
    ledger_book::begin_anew(&ledger::resolve(place), &mut connection, now)
        .map_err(|source| OpenFailed::Unusable { path, source })
}

fn holds_rows(connection: &Connection, person: &PersonId) -> Result<bool, StoreFailed> {
    Ok(checkpoint::one(connection, person)?.is_some_and(|patient| patient.holds_rows))
}

//! The door's reading operations: each of them one look as of one moment, in a transaction that cannot write.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::failure::Undone;
use super::pool::Pool;
use super::session::{Begin, Session, Step};
use super::snapshot::Snapshot;
use super::{
    analyst_tables, checkpoint, compare, consents, cycle_ends, failover, ledger, open, overview, pulls,
    purge, purge_log, report, run_view, runtime, service_memory, snapshot, tables, verify,
};
use crate::plan::checkpoint::Checkpoint;
use crate::plan::completeness::Walk;
use crate::plan::consent::Withdrawals;
use crate::plan::records::{ConsentToLookAt, KeptConsents, ScopesSeen};
use crate::plan::row::KeyHash;
use crate::plan::{PersonId, Timestamp, stamp};
use crate::views::{AnalystTable, Evaluation, View};
use crate::warehouse::beside::ledger as ledger_of;
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::page::{Batch, StoredBatch};
use crate::warehouse::patient::CycleTimes;
use crate::warehouse::place::{Location, Place, Server};
use crate::warehouse::pull::PullHead;
use crate::warehouse::purge::{Erased, LedgerReport};
use crate::warehouse::report::{
    ExpiringConsents, Findings, Overview, OverviewRequest, PurgeLine, RowFormat, StatusReport, StoredTable,
    VerifyDepth, ViewRun,
};
use crate::warehouse::rows::RowsFailed;
use crate::warehouse::service::ServiceView;

/// A warehouse that is open for reading.
pub struct Reader {
    pool: Pool,
    server: Arc<Server>,
}

impl Reader {
    pub(in crate::warehouse) fn open(server: &Arc<Server>) -> Result<Self, OpenFailed> {
        let pool = Pool::new(server)?;
        runtime::wait(open::expect_schema(&pool)).map_err(|error| server.unusable(error))??;
        Ok(Self { pool, server: server.clone() })
    }

    /// Returns what this machine's own files are named after.
    pub(in crate::warehouse) fn beside(&self) -> &Path {
        &self.server.beside
    }

    /// Answers by one look.
    pub(super) fn ask<T: Send>(
        &self,
        look: impl for<'s> FnOnce(&'s Session) -> Step<'s, T> + Send,
    ) -> Result<T, StoreFailed> {
        let found =
            runtime::wait(self.pool.look(look)).map_err(|error| StoreFailed::Engine(error.to_string()))?;
        found.map_err(Undone::into_failure)
    }

    pub(in crate::warehouse) fn check_server(&self, place: &Place) -> Result<bool, OpenFailed> {
        let base_url = place.base_url.clone();
        let filled = self.ask(|session| Box::pin(async move { open::filled_by(session, &base_url).await }));
        open::expect_filled_by(place, filled.map_err(|failed| self.server.failed(failed))?)
    }

    pub(in crate::warehouse) fn checkpoints(&self) -> Result<Vec<Checkpoint>, StoreFailed> {
        self.ask(|session| {
            Box::pin(async move {
                let mut patients = checkpoint::all(session).await?;
                failover::forget_delays(session, patients.iter_mut()).await?;
                Ok(patients)
            })
        })
    }

    pub(in crate::warehouse) fn checkpoint(
        &self,
        person: &PersonId,
    ) -> Result<Option<Checkpoint>, StoreFailed> {
        let person = person.clone();
        self.ask(|session| Box::pin(async move { checkpoint::one(session, &person).await }))
    }

    pub(in crate::warehouse) fn consents(&self) -> Result<KeptConsents, StoreFailed> {
        self.ask(|session| Box::pin(consents::all(session)))
    }

    pub(in crate::warehouse) fn expiring_consents(
        &self,
        now: Timestamp,
        until: Timestamp,
        most: usize,
    ) -> Result<ExpiringConsents, StoreFailed> {
        self.ask(move |session| Box::pin(consents::expiring(session, now, until, most)))
    }

    pub(in crate::warehouse) fn consents_to_look_at(
        &self,
        most: usize,
    ) -> Result<Vec<ConsentToLookAt>, StoreFailed> {
        self.ask(move |session| Box::pin(consents::to_look_at(session, most)))
    }

    pub(in crate::warehouse) fn changed_scopes(
        &self,
        seen: &[ScopesSeen],
    ) -> Result<Vec<PersonId>, StoreFailed> {
        let seen = seen.to_vec();
        self.ask(|session| Box::pin(async move { consents::changed_scopes(session, &seen).await }))
    }

    pub(in crate::warehouse) fn unfinished_walks(&self, person: &PersonId) -> Result<Vec<Walk>, StoreFailed> {
        let person = person.clone();
        self.ask(|session| Box::pin(async move { checkpoint::walks(session, &person).await }))
    }

    pub(in crate::warehouse) fn withdrawals(&self, now: Timestamp) -> Result<Withdrawals, StoreFailed> {
        self.ask(move |session| Box::pin(checkpoint::withdrawals(session, now)))
    }

    pub(in crate::warehouse) fn departures(
        &self,
        missing_since: Timestamp,
        now: Timestamp,
    ) -> Result<Withdrawals, StoreFailed> {
        self.ask(move |session| Box::pin(checkpoint::departures(session, missing_since, now)))
    }

    pub(in crate::warehouse) fn latest_pulled(&self, most: usize) -> Result<Vec<PersonId>, StoreFailed> {
        self.ask(move |session| Box::pin(checkpoint::latest_pulled(session, most)))
    }

    pub(in crate::warehouse) fn labelled(&self, label: &str) -> Result<Vec<PersonId>, StoreFailed> {
        let label = label.to_owned();
        self.ask(|session| Box::pin(async move { checkpoint::labelled(session, &label).await }))
    }

    pub(in crate::warehouse) fn knows(&self, person: &PersonId) -> Result<bool, StoreFailed> {
        Ok(self.checkpoint(person)?.is_some())
    }

    pub(in crate::warehouse) fn status(&self) -> Result<StatusReport, StoreFailed> {
        self.ask(|session| Box::pin(report::status(session)))
    }

    pub(in crate::warehouse) fn overview(&self, request: OverviewRequest) -> Result<Overview, StoreFailed> {
        self.ask(move |session| Box::pin(overview::overview(session, request)))
    }

    pub(in crate::warehouse) fn erasable(&self, person: &PersonId) -> Result<Option<Erased>, StoreFailed> {
        let person = person.clone();
        self.ask(|session| Box::pin(async move { purge::erasable(session, &person).await }))
    }

    /// Compares this machine's ledger and the warehouse. Changes neither.
    pub(in crate::warehouse) fn ledger(&self, ledger: Option<&Path>) -> Result<LedgerReport, StoreFailed> {
        let path = ledger_of::at(self.beside(), ledger);
        self.ask(|session| Box::pin(async move { ledger::report(session, &path).await }))
    }

    pub(in crate::warehouse) fn unscrubbed(&self) -> Result<Option<Timestamp>, StoreFailed> {
        self.ask(|session| Box::pin(purge_log::oldest_unscrubbed(session)))
    }

    pub(in crate::warehouse) fn purges(&self, person: Option<&str>) -> Result<Vec<PurgeLine>, StoreFailed> {
        let person = person.map(str::to_owned);
        self.ask(|session| Box::pin(async move { purge_log::lines(session, person.as_deref()).await }))
    }

    /// Returns since when there are rows of a patient, if there are any.
    pub(in crate::warehouse) fn first_row_at(
        &self,
        person: &PersonId,
    ) -> Result<Option<String>, StoreFailed> {
        let person = person.clone();
        let first =
            self.ask(|session| Box::pin(async move { tables::first_row_at(session, person.as_str()).await }));
        Ok(first?.map(stamp))
    }

    pub(in crate::warehouse) fn late_purges(
        &self,
        deadline: Duration,
        now: Timestamp,
    ) -> Result<u64, StoreFailed> {
        self.ask(move |session| Box::pin(purge_log::late(session, deadline, now)))
    }

    /// Answers as storing the batch would, and writes nothing. `compared` is what this pull has brought already.
    pub(in crate::warehouse) fn compare_page(
        &self,
        head: &PullHead,
        batch: &Batch,
        compared: &mut HashSet<KeyHash>,
        now: Timestamp,
    ) -> Result<StoredBatch, StoreFailed> {
        let look = async {
            let session = self.pool.begin(Begin::Snapshot).await?;
            let stored = compare::compare_page(&session, head, batch, compared, now).await?;
            session.rollback().await;
            Ok(stored)
        };
        let found = runtime::wait(look).map_err(|error| StoreFailed::Engine(error.to_string()))?;
        found.map_err(Undone::into_failure)
    }

    pub(in crate::warehouse) fn verify(
        &self,
        views: &[AnalystTable],
        depth: VerifyDepth,
        now: Timestamp,
    ) -> Result<Findings, StoreFailed> {
        let verified = runtime::wait(verify::verify(&self.pool, views, depth, now));
        verified.map_err(|error| StoreFailed::Engine(error.to_string()))?.map_err(Undone::into_failure)
    }

    pub(in crate::warehouse) fn views(&self) -> Result<Vec<StoredTable>, StoreFailed> {
        self.ask(|session| Box::pin(analyst_tables::list(session)))
    }

    pub(in crate::warehouse) fn snapshot(&self) -> Result<Snapshot, StoreFailed> {
        Snapshot::begin(&self.pool)
    }

    pub(in crate::warehouse) fn last_purge(&self) -> Result<i64, StoreFailed> {
        self.ask(|session| Box::pin(snapshot::last_purge(session)))
    }

    pub(in crate::warehouse) fn run_view(
        &self,
        view: &View,
        evaluation: Evaluation,
        format: RowFormat,
        out: &mut dyn Write,
    ) -> Result<ViewRun, RowsFailed> {
        run_view::run(self.snapshot()?.session(), view, evaluation, format, out)
    }

    pub(in crate::warehouse) fn service(&self) -> Result<ServiceView, StoreFailed> {
        let run = crate::warehouse::look_for_service(&Location::Server(self.server.clone()));
        self.ask(|session| {
            Box::pin(async move {
                let CycleTimes { last_started_at, last_good_end } = cycle_ends::cycle_times(session).await?;
                Ok(ServiceView {
                    run,
                    last_cycle_at: last_started_at,
                    last_well_end: last_good_end,
                    memory: service_memory::recall(session).await?,
                    first_pull_at: pulls::first_started_at(session).await?,
                })
            })
        })
    }
}

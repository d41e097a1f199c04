//! The door's reading operations: each of them one look as of one moment, in a transaction that cannot write.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::failure::Undone;
use super::missing::not_yet;
use super::pool::Pool;
use super::session::{Begin, Session};
use super::snapshot::Snapshot;
use super::writing::Step;
use super::{checkpoint, consents, cycle_ends, open, pulls, runtime, service_memory};
use crate::plan::checkpoint::Checkpoint;
use crate::plan::completeness::Walk;
use crate::plan::consent::Withdrawals;
use crate::plan::records::{ConsentToLookAt, KeptConsents, ScopesSeen};
use crate::plan::row::KeyHash;
use crate::plan::state::PurgeReason;
use crate::plan::{PersonId, Timestamp};
use crate::views::{AnalystTable, Evaluation, View};
use crate::warehouse::RowsFailed;
use crate::warehouse::failure::{CopyFailed, OpenFailed, StoreFailed};
use crate::warehouse::page::{Batch, StoredBatch};
use crate::warehouse::patient::CycleTimes;
use crate::warehouse::place::{Location, Place, Server};
use crate::warehouse::pull::PullHead;
use crate::warehouse::purge::{Erased, LedgerReport};
use crate::warehouse::report::{
    Access, BackedUp, CopyLine, ExpiringConsents, Findings, Overview, OverviewRequest, PatientCopy,
    Preflight, PurgeLine, RowFormat, StatusReport, Steps, StoredTable, VerifyDepth, ViewRun,
};
use crate::warehouse::service::ServiceView;
use crate::warehouse::sqlite::CopyStep;

/// A warehouse that is open for reading.
pub struct Reader {
    pool: Pool,
    server: Arc<Server>,
}

/// Says who makes copies of a server's databases.
pub(in crate::warehouse) fn copied_by_the_server() -> StoreFailed {
    StoreFailed::Engine(
        "a warehouse in PostgreSQL is backed up and restored by the server's own means: pg_basebackup with its WAL archive, or pg_dump; see docs/scale-out.md".to_owned(),
    )
}

impl Reader {
    pub(in crate::warehouse) fn open(server: &Arc<Server>) -> Result<Self, OpenFailed> {
        let pool = Pool::new(server)?;
        let failed = |why: String| OpenFailed::Server { server: server.to_string(), why };
        runtime::wait(open::expect_schema(&pool)).map_err(|error| failed(error.to_string()))??;
        Ok(Self { pool, server: server.clone() })
    }

    /// Answers by one look.
    pub(super) fn ask<T: Send>(
        &self,
        look: impl for<'s> FnOnce(&'s Session) -> Step<'s, T> + Send,
    ) -> Result<T, StoreFailed> {
        let looking = async {
            let session = self.pool.begin(Begin::Snapshot).await?;
            let found = look(&session).await?;
            session.rollback().await;
            Ok::<T, Undone>(found)
        };
        let found = runtime::wait(looking).map_err(|error| StoreFailed::Engine(error.to_string()))?;
        found.map_err(Undone::into_failure)
    }

    pub(in crate::warehouse) fn check_server(&self, place: &Place) -> Result<(), OpenFailed> {
        let unusable = |source: StoreFailed| OpenFailed::Server {
            server: self.server.to_string(),
            why: source.to_string(),
        };
        let filled_from = self.ask(|session| Box::pin(cycle_ends::noted_text(session, open::BASE_URL)));
        match filled_from.map_err(unusable)? {
            Some(filled_from) if filled_from != place.base_url => Err(OpenFailed::OtherServer {
                path: self.server.to_string().into(),
                filled_from,
                base_url: place.base_url.clone(),
            }),
            _ => Ok(()),
        }
    }

    pub(in crate::warehouse) fn checkpoints(&self) -> Result<Vec<Checkpoint>, StoreFailed> {
        self.ask(|session| Box::pin(checkpoint::all(session)))
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
        let reason = PurgeReason::ConsentRevoked;
        self.ask(move |session| Box::pin(checkpoint::withdrawals(session, reason, now)))
    }

    pub(in crate::warehouse) fn departures(&self, now: Timestamp) -> Result<Withdrawals, StoreFailed> {
        let reason = PurgeReason::Roster;
        self.ask(move |session| Box::pin(checkpoint::withdrawals(session, reason, now)))
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

    pub(in crate::warehouse) fn compare_page(
        &self,
        _head: &PullHead,
        _batch: &Batch,
        _compared: &mut HashSet<KeyHash>,
        _now: Timestamp,
    ) -> Result<StoredBatch, StoreFailed> {
        Err(not_yet("sync --dry-run"))
    }

    pub(in crate::warehouse) fn erasable(&self, _person: &PersonId) -> Result<Option<Erased>, StoreFailed> {
        Err(not_yet("what a purge would remove"))
    }

    pub(in crate::warehouse) fn unscrubbed(&self) -> Result<Option<Timestamp>, StoreFailed> {
        Err(not_yet("scrub"))
    }

    pub(in crate::warehouse) fn status(&self) -> Result<StatusReport, StoreFailed> {
        Err(not_yet("status"))
    }

    pub(in crate::warehouse) fn overview(&self, _request: OverviewRequest) -> Result<Overview, StoreFailed> {
        Err(not_yet("the status page"))
    }

    pub(in crate::warehouse) fn purges(&self, _person: Option<&str>) -> Result<Vec<PurgeLine>, StoreFailed> {
        Err(not_yet("audit"))
    }

    pub(in crate::warehouse) fn late_purges(
        &self,
        _deadline: Duration,
        _now: Timestamp,
    ) -> Result<u64, StoreFailed> {
        Err(not_yet("audit"))
    }

    pub(in crate::warehouse) fn ledger(&self, _ledger: Option<&Path>) -> Result<LedgerReport, StoreFailed> {
        Err(not_yet("audit"))
    }

    pub(in crate::warehouse) fn note_copy(
        &self,
        _copy: &PatientCopy<'_>,
        _step: CopyStep,
        _now: Timestamp,
    ) -> Result<(), CopyFailed> {
        Err(CopyFailed::Store(not_yet("export")))
    }

    pub(in crate::warehouse) fn copies_of(&self, _person: &PersonId) -> Result<Vec<CopyLine>, StoreFailed> {
        Err(not_yet("audit"))
    }

    pub(in crate::warehouse) fn backup(
        &self,
        _file: &Path,
        _clock: fn() -> Timestamp,
        _told: impl FnMut(Steps) -> bool,
    ) -> Result<BackedUp, CopyFailed> {
        Err(CopyFailed::Store(copied_by_the_server()))
    }

    pub(in crate::warehouse) fn verify(
        &self,
        _views: &[AnalystTable],
        _depth: VerifyDepth,
        _now: Timestamp,
    ) -> Result<Findings, StoreFailed> {
        Err(not_yet("verify"))
    }

    pub(in crate::warehouse) fn views(&self) -> Result<Vec<StoredTable>, StoreFailed> {
        Err(not_yet("views"))
    }

    pub(in crate::warehouse) fn snapshot(&self) -> Result<Snapshot<'_>, StoreFailed> {
        Err(not_yet("export"))
    }

    pub(in crate::warehouse) fn last_purge(&self) -> Result<i64, StoreFailed> {
        Err(not_yet("export"))
    }

    pub(in crate::warehouse) fn run_view(
        &self,
        _view: &View,
        _evaluation: Evaluation,
        _format: RowFormat,
        _out: &mut dyn Write,
    ) -> Result<ViewRun, RowsFailed> {
        Err(RowsFailed::Store(not_yet("views run")))
    }

    pub(in crate::warehouse) fn demo_table(&self) -> Result<Vec<Vec<String>>, StoreFailed> {
        Err(not_yet("demo"))
    }
}

/// Looks at a warehouse without the right to write.
pub(in crate::warehouse) fn preflight(server: &Arc<Server>) -> Result<Preflight, OpenFailed> {
    let reader = Reader::open(server)?;
    let patients = reader
        .checkpoints()
        .map_err(|source| OpenFailed::Server { server: server.to_string(), why: source.to_string() })?;
    let known = crate::warehouse::schema_version();
    Ok(Preflight {
        schema: known,
        schema_known: known,
        room: None,
        patients,
        mode: 0,
        access: Access::AsWanted,
        unscrubbed: 0,
        oldest_unscrubbed: None,
        scrub_waits_for: None,
        reader: None,
    })
}

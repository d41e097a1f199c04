//! The door's reading operations, on a connection of their own that cannot write.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::analyst_tables::AnalystTables;
use super::snapshot::Snapshot;
use super::{
    analyst_tables, backup, checkpoint, consents, cycle_ends, ledger_book, open, overview, pulls, purge,
    report, run_report, run_view, scrub, service_memory, snapshot, staying_reader, verify,
};
use crate::plan::checkpoint::Checkpoint;
use crate::plan::completeness::Walk;
use crate::plan::consent::Withdrawals;
use crate::plan::records::{ConsentToLookAt, KeptConsents, ScopesSeen};
use crate::plan::{PersonId, Timestamp};
use crate::views::{AnalystTable, Evaluation, View};
use crate::warehouse::beside::copies::{CopyStep, Presence};
use crate::warehouse::beside::{copies, ledger as ledger_of};
use crate::warehouse::failure::{CopyFailed, OpenFailed, StoreFailed};
use crate::warehouse::patient::CycleTimes;
use crate::warehouse::place::Place;
use crate::warehouse::purge::{Erased, LedgerReport};
use crate::warehouse::report::{
    BackedUp, CopyLine, ExpiringConsents, Findings, Overview, OverviewRequest, PatientCopy, PurgeLine,
    RowFormat, StatusReport, Steps, StoredTable, VerifyDepth, ViewRun,
};
use crate::warehouse::rows::RowsFailed;
use crate::warehouse::service::ServiceView;

/// A file that is open for reading.
pub struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    pub(in crate::warehouse) fn open(path: &Path) -> Result<Self, OpenFailed> {
        let path = open::resolve(path)?;
        Ok(Self { connection: open::open_reader(&path)?, path })
    }

    pub(in crate::warehouse) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(in crate::warehouse) fn check_server(&self, place: &Place) -> Result<bool, OpenFailed> {
        open::check_server(&self.connection, place)
    }

    pub(in crate::warehouse) fn checkpoints(&self) -> Result<Vec<Checkpoint>, StoreFailed> {
        checkpoint::all(&self.connection)
    }

    pub(in crate::warehouse) fn checkpoint(
        &self,
        person: &PersonId,
    ) -> Result<Option<Checkpoint>, StoreFailed> {
        checkpoint::one(&self.connection, person)
    }

    pub(in crate::warehouse) fn consents(&self) -> Result<KeptConsents, StoreFailed> {
        consents::all(&self.connection)
    }

    pub(in crate::warehouse) fn expiring_consents(
        &self,
        now: Timestamp,
        until: Timestamp,
        most: usize,
    ) -> Result<ExpiringConsents, StoreFailed> {
        consents::expiring(&self.connection, now, until, most)
    }

    pub(in crate::warehouse) fn consents_to_look_at(
        &self,
        most: usize,
    ) -> Result<Vec<ConsentToLookAt>, StoreFailed> {
        if self.consents()?.studies.is_empty() {
            return Ok(Vec::new());
        }
        consents::to_look_at(&self.connection, most)
    }

    pub(in crate::warehouse) fn changed_scopes(
        &self,
        seen: &[ScopesSeen],
    ) -> Result<Vec<PersonId>, StoreFailed> {
        consents::changed_scopes(&self.connection, seen)
    }

    pub(in crate::warehouse) fn unfinished_walks(&self, person: &PersonId) -> Result<Vec<Walk>, StoreFailed> {
        checkpoint::walks(&self.connection, person)
    }

    pub(in crate::warehouse) fn withdrawals(&self, now: Timestamp) -> Result<Withdrawals, StoreFailed> {
        checkpoint::withdrawals(&self.connection, now)
    }

    pub(in crate::warehouse) fn departures(
        &self,
        missing_since: Timestamp,
        now: Timestamp,
    ) -> Result<Withdrawals, StoreFailed> {
        checkpoint::departures(&self.connection, missing_since, now)
    }

    pub(in crate::warehouse) fn latest_pulled(&self, most: usize) -> Result<Vec<PersonId>, StoreFailed> {
        checkpoint::latest_pulled(&self.connection, most)
    }

    pub(in crate::warehouse) fn erasable(&self, person: &PersonId) -> Result<Option<Erased>, StoreFailed> {
        purge::erasable(&self.connection, person)
    }

    pub(in crate::warehouse) fn unscrubbed(&self) -> Result<Option<Timestamp>, StoreFailed> {
        purge::oldest_unscrubbed(&self.connection)
    }

    pub(in crate::warehouse) fn status(&self) -> Result<StatusReport, StoreFailed> {
        let mut status = report::status(&self.connection)?;
        status.scrub_waits_for = scrub::waits_for(&self.connection, &self.path)?;
        status.reader = staying_reader::find(&self.connection, &self.path)?;
        Ok(status)
    }

    pub(in crate::warehouse) fn service(&self) -> Result<ServiceView, StoreFailed> {
        // One snapshot for everything.
        let transaction = self.connection.unchecked_transaction()?;
        let CycleTimes { last_started_at, last_good_end } = cycle_ends::cycle_times(&transaction)?;
        let memory = service_memory::recall(&transaction)?;
        let first_pull_at = pulls::first_started_at(&transaction)?;
        let view = ServiceView {
            run: run_report::look(&self.path),
            last_cycle_at: last_started_at,
            last_well_end: last_good_end,
            memory,
            first_pull_at,
        };
        Ok(view)
    }

    pub(in crate::warehouse) fn overview(&self, request: OverviewRequest) -> Result<Overview, StoreFailed> {
        overview::overview(&self.connection, &self.path, request)
    }

    pub(in crate::warehouse) fn purges(&self, person: Option<&str>) -> Result<Vec<PurgeLine>, StoreFailed> {
        let mut purges = report::purges(&self.connection, person)?;
        if person.is_none() {
            return Ok(purges);
        }
        for purge in &mut purges {
            let PurgeLine { person_id, first_row_at, purged_at, .. } = &*purge;
            let (first_row_at, purged_at) = (first_row_at.as_deref(), Some(purged_at.as_str()));
            let presence = Presence { person: person_id, first_row_at, purged_at };
            purge.copies = Some(copies::copies_with(&self.path, presence)?);
        }
        Ok(purges)
    }

    pub(in crate::warehouse) fn late_purges(
        &self,
        deadline: Duration,
        now: Timestamp,
    ) -> Result<u64, StoreFailed> {
        purge::late(&self.connection, deadline, now)
    }

    pub(in crate::warehouse) fn ledger(&self, ledger: Option<&Path>) -> Result<LedgerReport, StoreFailed> {
        let owner = std::fs::metadata(&self.path).map(|found| found.uid()).ok();
        let owned = owner == Some(rustix::process::geteuid().as_raw());
        ledger_book::report(&ledger_of::at(&self.path, ledger), &self.connection, owned)
    }

    /// Notes a step of a copy in the register.
    pub(in crate::warehouse) fn note_copy(
        &self,
        copy: &PatientCopy<'_>,
        step: CopyStep,
        now: Timestamp,
    ) -> Result<(), CopyFailed> {
        copies::note_copy(&self.path, copy, step, now)
    }

    pub(in crate::warehouse) fn backup(
        &self,
        file: &Path,
        clock: fn() -> Timestamp,
        told: impl FnMut(Steps) -> bool,
    ) -> Result<BackedUp, CopyFailed> {
        backup::backup(&self.connection, file, clock, told)
    }

    /// Returns the copies that may hold rows of a patient that is not purged.
    pub(in crate::warehouse) fn copies_of(&self, person: &PersonId) -> Result<Vec<CopyLine>, StoreFailed> {
        let person = person.as_str();
        let first_row_at = purge::first_row_at(&self.connection, person)?;
        if first_row_at.is_none() {
            return Ok(Vec::new());
        }
        let presence = Presence { person, first_row_at: first_row_at.as_deref(), purged_at: None };
        copies::copies_with(&self.path, presence)
    }

    pub(in crate::warehouse) fn verify(
        &self,
        views: &[AnalystTable],
        depth: VerifyDepth,
        now: Timestamp,
    ) -> Result<Findings, StoreFailed> {
        verify::verify(&self.connection, &AnalystTables::new(views), depth, now)
    }

    pub(in crate::warehouse) fn views(&self) -> Result<Vec<StoredTable>, StoreFailed> {
        analyst_tables::list(&self.connection)
    }

    pub(in crate::warehouse) fn labelled(&self, label: &str) -> Result<Vec<PersonId>, StoreFailed> {
        checkpoint::labelled(&self.connection, label)
    }

    pub(in crate::warehouse) fn knows(&self, person: &PersonId) -> Result<bool, StoreFailed> {
        Ok(checkpoint::one(&self.connection, person)?.is_some())
    }

    pub(in crate::warehouse) fn snapshot(&self) -> Result<Snapshot<'_>, StoreFailed> {
        Snapshot::begin(&self.connection)
    }

    pub(in crate::warehouse) fn last_purge(&self) -> Result<i64, StoreFailed> {
        snapshot::last_purge(&self.connection)
    }

    pub(in crate::warehouse) fn run_view(
        &self,
        view: &View,
        evaluation: Evaluation,
        format: RowFormat,
        out: &mut dyn Write,
    ) -> Result<ViewRun, RowsFailed> {
        run_view::run(&self.connection, view, evaluation, format, out)
    }

    pub(in crate::warehouse) fn demo_table(&self) -> Result<Vec<Vec<String>>, StoreFailed> {
        report::query(&self.connection, include_str!("../../../schema/demo.sql"))
    }
}

//! The door's reading operations, on a connection of their own that cannot write.

use std::io::Write;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::analyst_tables::AnalystTables;
use super::rows::RowsFailed;
use super::{analyst_tables, checkpoint, export, open, overview, purge, report, run_view, scrub, verify};
use crate::plan::checkpoint::Checkpoint;
use crate::plan::completeness::Walk;
use crate::plan::consent::Withdrawals;
use crate::plan::{PersonId, Timestamp};
use crate::views::{AnalystTable, Evaluation, View};
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::patient::{Listed, RosterChange};
use crate::warehouse::place::Place;
use crate::warehouse::purge::Erased;
use crate::warehouse::report::{
    ExportFormat, Exported, Findings, Overview, PurgeLine, RowFormat, StatusReport, Steps, StoredTable,
    VerifyDepth, ViewRun,
};

/// A file that is open for reading.
pub(in crate::warehouse) struct Reader {
    connection: Connection,
    path: PathBuf,
}

impl Reader {
    pub(in crate::warehouse) fn open(path: &Path) -> Result<Self, OpenFailed> {
        Ok(Self { connection: open::open_reader(path)?, path: path.to_owned() })
    }

    pub(in crate::warehouse) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(in crate::warehouse) fn check_server(&self, place: &Place) -> Result<(), OpenFailed> {
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

    pub(in crate::warehouse) fn unfinished_walks(&self, person: &PersonId) -> Result<Vec<Walk>, StoreFailed> {
        checkpoint::walks(&self.connection, person)
    }

    pub(in crate::warehouse) fn roster_change(&self, listed: &[Listed]) -> Result<RosterChange, StoreFailed> {
        checkpoint::roster_change(&self.connection, listed)
    }

    pub(in crate::warehouse) fn withdrawals(&self, now: Timestamp) -> Result<Withdrawals, StoreFailed> {
        checkpoint::withdrawals(&self.connection, now)
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
        Ok(status)
    }

    pub(in crate::warehouse) fn overview(
        &self,
        behind_since: Timestamp,
        listed_max: usize,
    ) -> Result<Overview, StoreFailed> {
        overview::overview(&self.connection, &self.path, behind_since, listed_max)
    }

    pub(in crate::warehouse) fn purges(&self, person: Option<&str>) -> Result<Vec<PurgeLine>, StoreFailed> {
        report::purges(&self.connection, person)
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

    pub(in crate::warehouse) fn knows(&self, person: &PersonId) -> Result<bool, StoreFailed> {
        Ok(checkpoint::one(&self.connection, person)?.is_some())
    }

    pub(in crate::warehouse) fn export(
        &self,
        format: ExportFormat,
        folder: &Path,
        person: Option<&PersonId>,
        told: impl FnMut(Steps),
    ) -> Result<Exported, RowsFailed> {
        export::export(&self.connection, format, folder, person.map(PersonId::as_str), told)
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

//! The door's reading operations: each of them one look.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::beside::copies::{CopyStep, Presence, copies_with, note_copy};
use super::failure::{CopyFailed, OpenFailed, StoreFailed};
use super::place::Location;
use super::purge::LedgerReport;
use super::report::{
    BackedUp, CopyLine, Findings, Overview, OverviewRequest, PatientCopy, PurgeLine, RowFormat, StatusReport,
    Steps, StoredTable, VerifyDepth, ViewRun,
};
use super::service::ServiceView;
use super::snapshot::Snapshot;
use super::{RowsFailed, postgres, sqlite};
use crate::plan::{PersonId, Timestamp};
use crate::views::{AnalystTable, Evaluation, View};

/// A warehouse, open for reading. It is never made by that, and never waited for.
pub enum Reader {
    Sqlite(sqlite::Reader),
    Postgres(postgres::Reader),
}

impl Reader {
    pub fn open(location: &Location) -> Result<Self, OpenFailed> {
        match location {
            Location::File(path) => sqlite::Reader::open(path).map(Self::Sqlite),
            Location::Server(server) => postgres::Reader::open(server).map(Self::Postgres),
        }
    }

    /// Returns what `status` tells, as of one moment.
    pub fn status(&self) -> Result<StatusReport, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.status(),
            Self::Postgres(engine) => engine.status(),
        }
    }

    /// Returns what is known of the service: whether it is alive, its last cycles, what it has told.
    pub fn service(&self) -> Result<ServiceView, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.service(),
            Self::Postgres(engine) => engine.service(),
        }
    }

    /// Returns counts, who is behind and who was purged. Resources are not counted, which takes
    /// longer than a look may.
    pub fn overview(&self, request: OverviewRequest) -> Result<Overview, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.overview(request),
            Self::Postgres(engine) => engine.overview(request),
        }
    }

    /// Returns all purges, or those of one patient.
    pub fn purges(&self, person: Option<&str>) -> Result<Vec<PurgeLine>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.purges(person),
            Self::Postgres(engine) => {
                let mut purges = engine.purges(person)?;
                for purge in purges.iter_mut().filter(|_| person.is_some()) {
                    let PurgeLine { person_id, first_row_at, purged_at, .. } = &*purge;
                    let (first_row_at, purged_at) = (first_row_at.as_deref(), Some(purged_at.as_str()));
                    let presence = Presence { person: person_id, first_row_at, purged_at };
                    purge.copies = Some(copies_with(engine.beside(), presence)?);
                }
                Ok(purges)
            }
        }
    }

    /// Returns how many purges took longer than `deadline`, from the refusal to the last byte.
    pub fn late_purges(&self, deadline: Duration, now: Timestamp) -> Result<u64, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.late_purges(deadline, now),
            Self::Postgres(engine) => engine.late_purges(deadline, now),
        }
    }

    /// Holds the ledger of purges, which is there or beside the warehouse, against it.
    pub(crate) fn ledger(&self, ledger: Option<&Path>) -> Result<LedgerReport, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.ledger(ledger),
            Self::Postgres(engine) => engine.ledger(ledger),
        }
    }

    /// Notes that a copy is about to be made. Without it none may be.
    pub fn begin_copy(&self, copy: &PatientCopy<'_>, now: Timestamp) -> Result<(), CopyFailed> {
        match self {
            Self::Sqlite(engine) => engine.note_copy(copy, CopyStep::Begun, now),
            Self::Postgres(engine) => note_copy(engine.beside(), copy, CopyStep::Begun, now),
        }
    }

    /// Notes that a copy was made, or that it failed and is not there.
    pub fn end_copy(&self, copy: &PatientCopy<'_>, is_made: bool, now: Timestamp) -> Result<(), CopyFailed> {
        let step = if is_made { CopyStep::Made } else { CopyStep::Failed };
        match self {
            Self::Sqlite(engine) => engine.note_copy(copy, step, now),
            Self::Postgres(engine) => note_copy(engine.beside(), copy, step, now),
        }
    }

    /// Returns the copies that may hold rows of a patient that is not purged.
    pub fn copies_of(&self, person: &PersonId) -> Result<Vec<CopyLine>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.copies_of(person),
            Self::Postgres(engine) => {
                let Some(first_row_at) = engine.first_row_at(person)? else { return Ok(Vec::new()) };
                let (person, first_row_at) = (person.as_str(), Some(first_row_at.as_str()));
                let presence = Presence { person, first_row_at, purged_at: None };
                copies_with(engine.beside(), presence)
            }
        }
    }

    /// Writes a consistent copy of the warehouse into a new file. `told` hears how far it has come,
    /// and says whether to go on.
    pub fn backup(
        &self,
        file: &Path,
        clock: fn() -> Timestamp,
        told: impl FnMut(Steps) -> bool,
    ) -> Result<BackedUp, CopyFailed> {
        match self {
            Self::Sqlite(engine) => engine.backup(file, clock, told),
            Self::Postgres(_) => Err(postgres::copied_by_the_server().into()),
        }
    }

    /// Checks everything that must be true of a sound warehouse.
    pub fn verify(
        &self,
        views: &[AnalystTable],
        depth: VerifyDepth,
        now: Timestamp,
    ) -> Result<Findings, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.verify(views, depth, now),
            Self::Postgres(engine) => engine.verify(views, depth, now),
        }
    }

    /// Returns the analysts' tables as they are stored.
    pub fn views(&self) -> Result<Vec<StoredTable>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.views(),
            Self::Postgres(engine) => engine.views(),
        }
    }

    /// Returns the patients of a label.
    pub fn labelled(&self, label: &str) -> Result<Vec<PersonId>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.labelled(label),
            Self::Postgres(engine) => engine.labelled(label),
        }
    }

    /// Returns whether anything is known of a patient.
    pub fn knows(&self, person: &PersonId) -> Result<bool, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.knows(person),
            Self::Postgres(engine) => engine.knows(person),
        }
    }

    /// Begins to read the warehouse as of now, whatever is stored meanwhile.
    pub fn snapshot(&self) -> Result<Snapshot<'_>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.snapshot().map(Snapshot::of_file),
            Self::Postgres(engine) => engine.snapshot().map(Snapshot::of_server),
        }
    }

    /// Returns the number of the last purge as of now; 0 is none.
    pub fn last_purge(&self) -> Result<i64, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.last_purge(),
            Self::Postgres(engine) => engine.last_purge(),
        }
    }

    /// Writes the rows of a view that is stored nowhere.
    pub fn run_view(
        &self,
        view: &View,
        evaluation: Evaluation,
        format: RowFormat,
        out: &mut dyn Write,
    ) -> Result<ViewRun, RowsFailed> {
        match self {
            Self::Sqlite(engine) => engine.run_view(view, evaluation, format, out),
            Self::Postgres(engine) => engine.run_view(view, evaluation, format, out),
        }
    }

    /// Returns what the demo shows of each patient as text, the names of the columns first.
    pub fn demo_table(&self) -> Result<Vec<Vec<String>>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.demo_table(),
            Self::Postgres(_) => Err(StoreFailed::Refused("the demo is of a file".to_owned())),
        }
    }
}

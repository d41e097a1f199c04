//! The door's reading operations that belong together: all of them see the warehouse as of one moment.

use super::extract::{
    GoneResource, Progress, PurgedSince, Selection, StoredCell, StoredResource, TableShape,
};
use super::failure::StoreFailed;
use super::patient::CycleTimes;
use super::{postgres, sqlite};
use crate::plan::Timestamp;
use crate::plan::resource_type::ResourceType;

/// The warehouse as of one moment, whatever is stored meanwhile. Held for long, it keeps the last bytes of purged
/// patients from being removed.
pub struct Snapshot<'r> {
    engine: Engine<'r>,
}

enum Engine<'r> {
    Sqlite(sqlite::Snapshot<'r>),
    Postgres(Box<postgres::Snapshot>),
}

/// Asks the engine.
macro_rules! ask {
    ($snapshot:ident, $engine:ident => $answer:expr) => {
        match &$snapshot.engine {
            Engine::Sqlite($engine) => $answer,
            Engine::Postgres($engine) => $answer,
        }
    };
}

impl<'r> Snapshot<'r> {
    pub(super) fn of_file(engine: sqlite::Snapshot<'r>) -> Self {
        Self { engine: Engine::Sqlite(engine) }
    }

    pub(super) fn of_server(engine: postgres::Snapshot) -> Self {
        Self { engine: Engine::Postgres(Box::new(engine)) }
    }

    /// Returns the number of the last purge; 0 is none.
    pub fn last_purge(&self) -> Result<i64, StoreFailed> {
        ask!(self, engine => engine.last_purge())
    }

    /// Returns when cycles last began and ended well.
    pub fn cycle_times(&self) -> Result<CycleTimes, StoreFailed> {
        ask!(self, engine => engine.cycle_times())
    }

    /// Returns the server that the warehouse is filled from.
    pub fn base_url(&self) -> Result<Option<String>, StoreFailed> {
        ask!(self, engine => engine.base_url())
    }

    /// Returns since when everything that vanished is still known; `None` is since ever.
    pub fn removals_known_since(&self) -> Result<Option<Timestamp>, StoreFailed> {
        ask!(self, engine => engine.removals_known_since())
    }

    /// Returns how far the data of everybody, or of one person, go.
    pub fn progress(&self, person: Option<&str>) -> Result<Progress, StoreFailed> {
        ask!(self, engine => engine.progress(person))
    }

    /// Returns the purges of that time and later.
    pub fn purged(&self, selection: Selection<'_>) -> Result<Vec<PurgedSince>, StoreFailed> {
        ask!(self, engine => engine.purged(selection))
    }

    /// Returns the types that have a table.
    pub fn resource_types(&self) -> Result<Vec<&'static ResourceType>, StoreFailed> {
        ask!(self, engine => engine.resource_types())
    }

    /// Returns whoever has rows.
    pub fn persons(&self) -> Result<Vec<String>, StoreFailed> {
        ask!(self, engine => engine.persons())
    }

    /// Reads the resources of one type that are to be seen, those of a person together.
    pub fn resources<E: From<StoreFailed>>(
        &self,
        known: &ResourceType,
        selection: Selection<'_>,
        each: impl FnMut(StoredResource<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        ask!(self, engine => engine.resources(&known.table, selection, each))
    }

    /// Reads what vanished of one type since `selection.since`, those of a person together.
    pub fn gone<E: From<StoreFailed>>(
        &self,
        known: &ResourceType,
        selection: Selection<'_>,
        each: impl FnMut(GoneResource) -> Result<(), E>,
    ) -> Result<(), E> {
        ask!(self, engine => engine.gone(&known.table, selection, each))
    }

    /// Returns the analysts' tables, by name.
    pub fn tables(&self) -> Result<Vec<TableShape>, StoreFailed> {
        ask!(self, engine => engine.tables())
    }

    /// Reads the rows of an analysts' table, those of the resources that changed since `selection.since`.
    pub fn rows<E: From<StoreFailed>>(
        &self,
        table: &TableShape,
        selection: Selection<'_>,
        each: impl FnMut(&[StoredCell<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        ask!(self, engine => engine.rows(table, selection, each))
    }

    /// Reads the resources that changed or vanished since `selection.since` and have no row in an analysts' table.
    pub fn without_rows<E: From<StoreFailed>>(
        &self,
        table: &TableShape,
        selection: Selection<'_>,
        each: impl FnMut(GoneResource) -> Result<(), E>,
    ) -> Result<(), E> {
        ask!(self, engine => engine.without_rows(table, selection, each))
    }
}

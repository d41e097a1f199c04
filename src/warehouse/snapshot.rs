//! The door's reading operations that belong together: all of them see the warehouse as of one moment.

use super::extract::{
    GoneResource, Progress, PurgedSince, Selection, StoredCell, StoredResource, TableShape,
};
use super::failure::StoreFailed;
use super::patient::CycleTimes;
use super::sqlite;
use crate::plan::Timestamp;
use crate::plan::resource_type::ResourceType;

/// The warehouse as of one moment, whatever is stored meanwhile. Held for long, it keeps the last bytes of purged
/// patients from being removed.
pub struct Snapshot<'r> {
    engine: sqlite::Snapshot<'r>,
}

impl<'r> Snapshot<'r> {
    pub(super) fn of(engine: sqlite::Snapshot<'r>) -> Self {
        Self { engine }
    }

    /// Returns the number of the last purge; 0 is none.
    pub fn last_purge(&self) -> Result<i64, StoreFailed> {
        self.engine.last_purge()
    }

    /// Returns when cycles last began and ended well.
    pub fn cycle_times(&self) -> Result<CycleTimes, StoreFailed> {
        self.engine.cycle_times()
    }

    /// Returns the server that the warehouse is filled from.
    pub fn base_url(&self) -> Result<Option<String>, StoreFailed> {
        self.engine.base_url()
    }

    /// Returns since when everything that vanished is still known; `None` is since ever.
    pub fn removals_known_since(&self) -> Result<Option<Timestamp>, StoreFailed> {
        self.engine.removals_known_since()
    }

    /// Returns how far the data of everybody, or of one person, go.
    pub fn progress(&self, person: Option<&str>) -> Result<Progress, StoreFailed> {
        self.engine.progress(person)
    }

    /// Returns the purges of that time and later.
    pub fn purged(&self, selection: Selection<'_>) -> Result<Vec<PurgedSince>, StoreFailed> {
        self.engine.purged(selection)
    }

    /// Returns the types that have a table.
    pub fn resource_types(&self) -> Result<Vec<&'static ResourceType>, StoreFailed> {
        self.engine.resource_types()
    }

    /// Returns whoever has rows.
    pub fn persons(&self) -> Result<Vec<String>, StoreFailed> {
        self.engine.persons()
    }

    /// Reads the resources of one type that are to be seen, those of a person together.
    pub fn resources<E: From<StoreFailed>>(
        &self,
        known: &ResourceType,
        selection: Selection<'_>,
        each: impl FnMut(StoredResource<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.engine.resources(&known.table, selection, each)
    }

    /// Reads what vanished of one type since `selection.since`, those of a person together.
    pub fn gone<E: From<StoreFailed>>(
        &self,
        known: &ResourceType,
        selection: Selection<'_>,
        each: impl FnMut(GoneResource) -> Result<(), E>,
    ) -> Result<(), E> {
        self.engine.gone(&known.table, selection, each)
    }

    /// Returns the analysts' tables, by name.
    pub fn tables(&self) -> Result<Vec<TableShape>, StoreFailed> {
        self.engine.tables()
    }

    /// Reads the rows of an analysts' table, those of the resources that changed since `selection.since`.
    pub fn rows<E: From<StoreFailed>>(
        &self,
        table: &TableShape,
        selection: Selection<'_>,
        each: impl FnMut(&[StoredCell<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.engine.rows(table, selection, each)
    }

    /// Reads the resources that changed or vanished since `selection.since` and have no row in an analysts' table.
    pub fn without_rows<E: From<StoreFailed>>(
        &self,
        table: &TableShape,
        selection: Selection<'_>,
        each: impl FnMut(GoneResource) -> Result<(), E>,
    ) -> Result<(), E> {
        self.engine.without_rows(table, selection, each)
    }
}

//! The warehouse as of one moment, for what is written elsewhere.

use std::marker::PhantomData;

use super::missing::not_yet;
use crate::plan::Timestamp;
use crate::plan::resource_type::ResourceType;
use crate::warehouse::extract::{
    GoneResource, Progress, PurgedSince, Selection, StoredCell, StoredResource, TableShape,
};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::patient::CycleTimes;

/// One moment.
pub struct Snapshot<'c> {
    _reader: PhantomData<&'c ()>,
}

impl Snapshot<'_> {
    pub(in crate::warehouse) fn last_purge(&self) -> Result<i64, StoreFailed> {
        Err(not_yet("export"))
    }

    pub(in crate::warehouse) fn cycle_times(&self) -> Result<CycleTimes, StoreFailed> {
        Err(not_yet("export"))
    }

    pub(in crate::warehouse) fn base_url(&self) -> Result<Option<String>, StoreFailed> {
        Err(not_yet("export"))
    }

    pub(in crate::warehouse) fn removals_known_since(&self) -> Result<Option<Timestamp>, StoreFailed> {
        Err(not_yet("export"))
    }

    pub(in crate::warehouse) fn progress(&self, _person: Option<&str>) -> Result<Progress, StoreFailed> {
        Err(not_yet("export"))
    }

    pub(in crate::warehouse) fn purged(
        &self,
        _selection: Selection<'_>,
    ) -> Result<Vec<PurgedSince>, StoreFailed> {
        Err(not_yet("export"))
    }

    pub(in crate::warehouse) fn resource_types(&self) -> Result<Vec<&'static ResourceType>, StoreFailed> {
        Err(not_yet("export"))
    }

    pub(in crate::warehouse) fn persons(&self) -> Result<Vec<String>, StoreFailed> {
        Err(not_yet("export"))
    }

    pub(in crate::warehouse) fn resources<E: From<StoreFailed>>(
        &self,
        _table: &str,
        _selection: Selection<'_>,
        _each: impl FnMut(StoredResource<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        Err(not_yet("export").into())
    }

    pub(in crate::warehouse) fn gone<E: From<StoreFailed>>(
        &self,
        _table: &str,
        _selection: Selection<'_>,
        _each: impl FnMut(GoneResource) -> Result<(), E>,
    ) -> Result<(), E> {
        Err(not_yet("export").into())
    }

    pub(in crate::warehouse) fn tables(&self) -> Result<Vec<TableShape>, StoreFailed> {
        Err(not_yet("export"))
    }

    pub(in crate::warehouse) fn rows<E: From<StoreFailed>>(
        &self,
        _table: &TableShape,
        _selection: Selection<'_>,
        _each: impl FnMut(&[StoredCell<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        Err(not_yet("export").into())
    }

    pub(in crate::warehouse) fn without_rows<E: From<StoreFailed>>(
        &self,
        _table: &TableShape,
        _selection: Selection<'_>,
        _each: impl FnMut(GoneResource) -> Result<(), E>,
    ) -> Result<(), E> {
        Err(not_yet("export").into())
    }
}

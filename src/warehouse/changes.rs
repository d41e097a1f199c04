//! The words for what a page has changed, for the analysts' tables to follow.

use std::collections::BTreeMap;

use crate::plan::row::Row;
use crate::views::KeptRows;

/// Whether former versions of resources are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum History {
    Kept,
    #[default]
    Forgotten,
}

impl History {
    pub(super) fn of(is_kept: bool) -> Self {
        if is_kept { Self::Kept } else { Self::Forgotten }
    }
}

/// A resource that changed, and the rows it gives its views where they are known already.
#[derive(Clone, Copy)]
pub(super) struct Change<'b> {
    pub(super) row: &'b Row,
    pub(super) gained: Option<&'b KeptRows>,
}

/// The rows of one person that a page changed, by resource table.
#[derive(Default)]
pub(super) struct Changes<'b> {
    pub(super) by_table: BTreeMap<&'static str, Changed<'b>>,
    /// Rows that came to life, less those that were marked or removed.
    pub(super) live: i64,
    /// Whether the versions that they replace are kept.
    pub(super) history: History,
}

#[derive(Default)]
pub(super) struct Changed<'b> {
    pub(super) new: Vec<Change<'b>>,
    /// Or brought back.
    pub(super) updated: Vec<Change<'b>>,
    /// Marked as deleted or superseded, or removed: their keys.
    pub(super) gone: Vec<String>,
}

impl Changed<'_> {
    /// Returns whether nothing that was there before has changed or gone.
    pub(super) fn is_all_new(&self) -> bool {
        self.updated.is_empty() && self.gone.is_empty()
    }
}

impl<'b> Changes<'b> {
    pub(super) fn keeping(history: History) -> Self {
        Self { history, ..Self::default() }
    }

    pub(super) fn inserted(&mut self, change: Change<'b>) {
        self.of(change.row.table).new.push(change);
        self.live += 1;
    }

    pub(super) fn updated(&mut self, change: Change<'b>, was_deleted: bool) {
        self.of(change.row.table).updated.push(change);
        self.live += i64::from(was_deleted);
    }

    pub(super) fn gone(&mut self, table: &'static str, key: String) {
        self.of(table).gone.push(key);
        self.live -= 1;
    }

    /// A row is superseded: it lives on, and no analyst sees it.
    pub(super) fn hidden(&mut self, table: &'static str, key: String) {
        self.of(table).gone.push(key);
    }

    fn of(&mut self, table: &'static str) -> &mut Changed<'b> {
        self.by_table.entry(table).or_default()
    }
}

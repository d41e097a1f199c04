//! Lets one pull at a time hold a large entry, so that memory does not grow with how many pulls meet
//! one at once.
//!
//! Absent on purpose: what becomes of the entry. Whoever has stored it gives its turn back.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// An entry of more bytes is large.
const LARGE_BYTES: usize = 4 * 1024 * 1024;

/// The turns of all pulls of one process.
#[derive(Clone, Debug)]
pub(super) struct LargeEntryTurns(Arc<Semaphore>);

impl Default for LargeEntryTurns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

/// The turn of one pull. Dropped, it is given back.
#[derive(Debug)]
pub(super) struct LargeEntryTurn {
    turns: LargeEntryTurns,
    held: Option<OwnedSemaphorePermit>,
}

impl LargeEntryTurn {
    pub(super) fn of(turns: &LargeEntryTurns) -> Self {
        Self { turns: turns.clone(), held: None }
    }

    /// Returns whether a turn is needed to hold so much of an entry, and is not held yet.
    pub(super) fn is_needed_for(&self, entry_bytes: usize) -> bool {
        LARGE_BYTES < entry_bytes && self.held.is_none()
    }

    /// Waits for the turn.
    pub(super) async fn take(&mut self) {
        // The turns are never closed.
        self.held = self.turns.0.clone().acquire_owned().await.ok();
    }

    /// Returns whether the turn is held for an entry that has come to its end.
    pub(super) fn has_whole_entry(&self, entry_bytes: usize) -> bool {
        self.held.is_some() && entry_bytes <= LARGE_BYTES
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    pub(super) fn give_back(&mut self) {
        self.held = None;
    }
}

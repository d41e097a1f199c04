//! The door's reading operations that a rehearsal answers writes by.

use std::collections::HashSet;

use super::failure::{OpenFailed, StoreFailed};
use super::page::{Batch, StoredBatch};
use super::place::Place;
use super::pull::PullHead;
use super::purge::Erased;
use super::{Reader, sqlite};
use crate::plan::checkpoint::Checkpoint;
use crate::plan::completeness::Walk;
use crate::plan::consent::Withdrawals;
use crate::plan::records::{ConsentToLookAt, ScopesSeen};
use crate::plan::row::KeyHash;
use crate::plan::{PersonId, Timestamp};

/// Answers each of these by the engine.
macro_rules! ask_engine {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        impl Reader {
            $($(#[$doc])*
            pub(super) fn $name(&self, $($argument: $type),*) -> Result<$answer, StoreFailed> {
                match self {
                    Self::Sqlite(engine) => engine.$name($($argument),*),
                    Self::Postgres(engine) => engine.$name($($argument),*),
                }
            })*
        }
    };
}

ask_engine! {
    /// Returns every patient, as the next cycle begins with it.
    fn checkpoints() -> Vec<Checkpoint>;
    fn checkpoint(person: &PersonId) -> Option<Checkpoint>;
    fn consents_to_look_at(most: usize) -> Vec<ConsentToLookAt>;
    /// Returns the patients of whom a consent lets through something else than when it was last looked at.
    fn changed_scopes(seen: &[ScopesSeen]) -> Vec<PersonId>;
    fn unfinished_walks(person: &PersonId) -> Vec<Walk>;
    fn withdrawals(now: Timestamp) -> Withdrawals;
    fn departures(missing_since: Timestamp, now: Timestamp) -> Withdrawals;
    fn latest_pulled(most: usize) -> Vec<PersonId>;
    /// Returns what a purge would remove.
    fn erasable(person: &PersonId) -> Option<Erased>;
}

impl Reader {
    pub(super) fn unscrubbed(&self) -> Result<Option<Timestamp>, StoreFailed> {
        match self {
            Self::Sqlite(engine) => engine.unscrubbed(),
            Self::Postgres(engine) => engine.unscrubbed(),
        }
    }

    /// Refuses a warehouse that another server filled. Returns false where it was made for another and holds nothing.
    pub(super) fn check_server(&self, place: &Place) -> Result<bool, OpenFailed> {
        match self {
            Self::Sqlite(engine) => engine.check_server(place),
            Self::Postgres(engine) => engine.check_server(place),
        }
    }
}

/// Answers as storing the batch would, and writes nothing. Without a warehouse everything is
/// new. `compared` is what this pull has brought already.
pub(super) fn compare_page(
    reader: Option<&Reader>,
    head: &PullHead,
    batch: &Batch,
    compared: &mut HashSet<KeyHash>,
    now: Timestamp,
) -> Result<StoredBatch, StoreFailed> {
    match reader {
        None => sqlite::compare_page(None, head, batch, compared, now),
        Some(Reader::Sqlite(engine)) => sqlite::compare_page(Some(engine), head, batch, compared, now),
        Some(Reader::Postgres(engine)) => engine.compare_page(head, batch, compared, now),
    }
}

//! The warehouse as one SQLite file: plain synchronous functions on a `Connection`, and one
//! thread that owns the connection that writes.
//!
//! Promise: as the door's. Work that waits is committed together, and nobody is told that it is
//! stored before the commit. The lock on the file is held for as long as it is open for writing.

mod analyst_tables;
mod backup;
#[cfg(test)]
mod candidate;
mod checkpoint;
mod columns;
mod compare;
mod consents;
mod cycle_ends;
mod facts;
mod failure;
mod freshness;
mod header;
mod history;
mod keep_deleted;
mod ledger_book;
mod lock;
mod medicines;
mod move_source;
mod open;
mod operations;
mod overview;
mod page;
mod persons;
mod preflight;
mod pulls;
mod purge;
mod reader;
mod removed;
mod report;
mod restore;
mod run_report;
mod run_view;
pub(super) mod scrub;
mod service_memory;
mod shortfall;
#[cfg(test)]
mod simulated;
mod snapshot;
mod staying_reader;
mod sweep;
mod tables;
mod verify;
mod view_build;
mod view_check;
mod view_rows;
mod view_statistics;
mod view_table;
mod writer;

pub use self::lock::ServiceLock;

pub(super) use self::analyst_tables::rehearse_views;
#[cfg(test)]
pub(super) use self::candidate::SqliteCandidate;
pub(super) use self::compare::compare_page;
pub(super) use self::lock::try_lock;
pub(super) use self::move_source::MoveSource;
pub(super) use self::open::{SCHEMA_VERSION, identity};
pub(super) use self::operations::{Engine, begin_ledger_anew};
pub(super) use self::preflight::preflight;
pub(super) use self::reader::Reader;
pub(super) use self::restore::restore;
pub(super) use self::run_report::{look as look_for_service, tell as tell_of_service};
pub(super) use self::snapshot::Snapshot;

/// Returns SQLite's own version.
pub(super) fn engine_version() -> &'static str {
    rusqlite::version()
}

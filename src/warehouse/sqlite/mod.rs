//! The warehouse as one SQLite file: plain synchronous functions on a `Connection`, and one
//! thread that owns the connection that writes.
//!
//! Promise: as the door's. Work that waits is committed together, and nobody is told that it is
//! stored before the commit. The lock on the file is held for as long as it is open for writing.

mod analyst_tables;
mod checkpoint;
mod compare;
mod export;
mod extract;
mod failure;
mod freshness;
mod lock;
mod open;
mod operations;
mod overview;
mod page;
mod parquet_file;
mod preflight;
mod pulls;
mod purge;
mod reader;
mod report;
mod rows;
mod shortfall;
mod sweep;
mod tables;
mod verify;
mod view_table;
mod writer;

pub use self::lock::ServiceLock;
pub use self::rows::RowsFailed;

pub(super) use self::analyst_tables::rehearse_views;
pub(super) use self::compare::compare_page;
pub(super) use self::lock::try_lock;
pub(super) use self::open::identity;
pub(super) use self::operations::Engine;
pub(super) use self::preflight::preflight;
pub(super) use self::reader::Reader;

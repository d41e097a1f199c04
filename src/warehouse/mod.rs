//! SQLite. Plain synchronous functions on a `Connection`, and one thread that owns the
//! connection that writes.
//!
//! Promise: a page is stored together with the fact that it is stored, or not at all; what
//! was acknowledged is on the disk. Absent on purpose: requests, URLs, and any decision
//! that `plan` could make.

pub mod analyst_tables;
pub mod checkpoint;
pub mod compare;
pub mod export;
pub mod extract;
pub mod failure;
pub mod freshness;
pub mod glance;
pub mod lock;
pub mod open;
pub mod page;
mod parquet_file;
pub mod pulls;
pub mod purge;
pub mod report;
pub mod rows;
pub mod scrub;
pub mod survey;
pub mod sweep;
pub mod tables;
pub mod verify;
pub mod writer;

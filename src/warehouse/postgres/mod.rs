//! The warehouse as a schema of a PostgreSQL server: the same tables, the same meaning.
//!
//! Promise: as the door's. A page, the fact that it is stored and what it gives the analysts' tables are
//! one transaction, whose first statement keeps everyone else from its patient; COMMIT is sent alone.
//! Absent on purpose: this machine's clock, which decides nothing about who may write.

mod analyst_tables;
#[cfg(test)]
mod candidate;
mod checkpoint;
#[cfg(test)]
#[path = "../../../tests/support/cluster.rs"]
mod cluster;
mod compare;
mod consents;
mod cycle_ends;
mod failover;
mod failure;
mod freshness;
mod history;
mod keep_deleted;
mod lease;
mod ledger;
mod medicines;
mod migrate;
mod missing;
mod move_cells;
mod move_target;
mod no_way_in;
mod open;
mod open_warehouse;
mod operations;
mod overview;
mod page;
mod persons;
mod planning;
mod pool;
mod preflight;
mod pulls;
mod purge;
mod purge_log;
mod purging;
mod reader;
mod removed;
mod report;
mod right;
mod roster_agreement;
#[cfg(test)]
mod roster_tests;
mod rosters;
mod run_view;
mod runtime;
mod schema;
mod scrub;
mod server_state;
mod service_memory;
mod session;
mod shared_cycle;
mod shortfall;
mod snapshot;
mod stream;
mod sweep;
mod tables;
mod turns;
mod upserts;
mod values;
mod verify;
mod view_build;
mod view_cells;
mod view_rows;
mod view_script;
mod view_steps;
mod view_table;
#[cfg(test)]
mod view_tests;
mod workers;
mod writing;

#[cfg(test)]
pub(super) use self::candidate::PostgresCandidate;
pub(super) use self::lease::try_lock;
pub(super) use self::migrate::{migrate, migration_script};
pub(super) use self::missing::copied_by_the_server;
pub(super) use self::move_target::MoveTarget;
pub(super) use self::open_warehouse::Engine;
pub(super) use self::pool::check_url;
pub(super) use self::preflight::preflight;
pub(super) use self::purging::begin_ledger_anew;
pub(super) use self::reader::Reader;
pub(super) use self::roster_agreement::publish_roster;
pub(super) use self::schema::VERSION as SCHEMA_VERSION;
pub(super) use self::scrub::scrub;
pub(super) use self::snapshot::Snapshot;
#[cfg(test)]
pub(super) use self::upserts::is_readable;

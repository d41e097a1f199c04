//! A warehouse on a PostgreSQL server.

mod chaos;
#[path = "../../support/cluster.rs"]
mod cluster;
pub(crate) mod database;
mod drift;
mod equality;
mod exports;
mod failover;
mod migrate;
mod moves;
mod pooler;
mod proxy;
mod purges;
mod recipes;
mod refusals;
mod releases;
mod rosters;
mod settings;
mod status;
mod sync;
mod verify;
mod views;
mod workers;

//! A warehouse on a PostgreSQL server.

#[path = "../../support/cluster.rs"]
mod cluster;
mod database;
mod drift;
mod migrate;
mod settings;

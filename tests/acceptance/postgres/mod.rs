//! A warehouse on a PostgreSQL server.

#[path = "../../support/cluster.rs"]
mod cluster;
mod database;
mod drift;
mod equality;
mod migrate;
mod pooler;
mod proxy;
mod recipes;
mod refusals;
mod settings;
mod sync;
mod views;

//! healthex-sync keeps a SQLite warehouse in step with the records of consented HealthEx patients.
//!
//! ```text
//! roster ─→ schedule ─→ cycle ─→ pull ─→ warehouse ─→ views
//!                ╰───────────┴──┬──┴──────────╯
//!                              plan            the decisions: facts in, verdicts out, no IO
//!                           healthex           the server's dialect: requests out, pages in
//! ```

pub mod cli;
pub mod clock;
pub mod commands;
pub mod cycle;
pub mod healthex;
pub mod plan;
pub mod pull;
pub mod roster;
pub mod sandbox;
pub mod service;
pub mod settings;
pub mod stop;
pub mod telemetry;
pub mod views;
pub mod warehouse;

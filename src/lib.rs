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
mod cycle;
mod export;
pub mod healthex;
mod machine;
mod manual;
pub mod plan;
mod pull;
mod roster;
pub mod sandbox;
mod service;
mod settings;
#[cfg(test)]
mod simulation;
mod stop;
mod telemetry;
pub mod time;
pub mod views;
pub mod warehouse;
mod wording;

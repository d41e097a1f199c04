//! healthex-sync keeps a SQLite warehouse in step with the records of consented HealthEx patients.
//!
//! ```text
//! roster ─→ schedule ─→ cycle ─→ pull ─→ warehouse ─→ views
//!                ╰───────────┴──┬──┴──────────╯
//!                              plan            the decisions: facts in, verdicts out, no IO
//!                           healthex           the server's dialect: requests out, pages in
//! ```
//!
//! The modules stand in the order in which a resource passes them.

pub mod clock;
pub mod settings;
pub mod roster;
pub mod stop;
pub mod healthex;
pub mod plan;
pub mod warehouse;

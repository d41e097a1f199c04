//! What views give: the compiler's SQL, run by SQLite.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, its helpers as well")]
#![expect(clippy::print_stderr, reason = "what was never filled, and the seed, must be told")]

mod built_in;
mod fhirpath;
mod fuzz;
mod store;
mod suite;
#[path = "../support/mod.rs"]
mod support;

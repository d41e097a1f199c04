//! What views give of resources, damaged ones too.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, its helpers as well")]
#![expect(clippy::print_stderr, reason = "what was never filled, and the seed, must be told")]

mod built_in;
mod damaged;
mod docs;
mod evaluate;
mod fhirpath;
mod fuzz;
mod suite;
#[path = "../support/mod.rs"]
mod support;

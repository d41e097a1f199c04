//! What the program does, claimed from outside: the real binary, a real file, and the sandbox
//! as its server. Each test is named as the claim it holds.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, its helpers as well")]
#![expect(clippy::print_stderr, reason = "the seed of a random test must be told")]

mod analysts;
mod backup;
mod bug_reports;
mod command_line;
mod completeness;
mod consent;
mod crash;
mod data;
mod dry_run;
mod export;
mod faults;
mod first_sync;
mod history;
mod house;
mod leavers;
mod ledger;
mod memory;
mod network;
mod ownership;
mod packaging;
mod postgres;
mod process;
mod records;
mod records_walk;
mod scrub;
mod service;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
mod terminal;
mod walk;
mod warehouse_file;
mod withdrawal;
mod world;

//! What the program does, claimed from outside: the real binary, a real file, and the sandbox
//! as its server. Each test is named as the claim it holds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod command_line;
mod completeness;
mod consent;
mod crash;
mod data;
mod faults;
mod first_sync;
mod house;
mod process;
mod walk;
mod world;

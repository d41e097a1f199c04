//! Parses the command line, runs the command and exits with its status.

use std::process::ExitCode;

use clap::Parser;
use healthex_sync::cli::Cli;
use healthex_sync::commands;
use healthex_sync::commands::ExitStatus;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

fn main() -> ExitCode {
    keep_memory_private();
    allow_many_files();
    let cli = Cli::parse();
    let result = commands::run(&cli, &mut std::io::stdout().lock());
    commands::end_log(result.as_ref().err());
    result.unwrap_or_else(|error| ExitStatus::of(&error)).into()
}

/// Keeps the token, and whatever of a patient is in memory, out of core dumps and from debuggers of
/// the same user. A limit alone does not: a core that goes to a program is not limited.
fn keep_memory_private() {
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Connections that others leave open use up no file that a cycle needs.
fn allow_many_files() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES);
    if current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
}

const OPEN_FILES: u64 = 16_384;

//! Parses the command line, runs the command and exits with its status.

use std::process::ExitCode;

use clap::Parser;
use healthex_sync::cli::Cli;
use healthex_sync::commands;
use healthex_sync::commands::ExitStatus;

fn main() -> ExitCode {
    // A core dump would hold the token and whatever of a patient is in memory.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    let cli = Cli::parse();
    let result = commands::run(&cli, &mut std::io::stdout().lock());
    commands::end_log(result.as_ref().err());
    result.unwrap_or_else(|error| ExitStatus::of(&error)).into()
}

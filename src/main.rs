//! Parse, run a command, turn its outcome into an exit status.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use healthex_sync::cli::Cli;
use healthex_sync::commands;
use healthex_sync::commands::Outcome;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(&cli, &mut std::io::stdout().lock()) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            // A closed stderr leaves nobody to tell.
            let _ = writeln!(std::io::stderr(), "healthex-sync: {error:#}");
            Outcome::of(&error).into()
        }
    }
}

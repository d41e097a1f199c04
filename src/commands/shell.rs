//! `completions` and `man`: what the command line says of itself, for packagers and shells.

use std::io::Write;

use super::Outcome;
use crate::cli;

pub(super) fn completions(shell: clap_complete::Shell, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    out.write_all(&cli::completions(shell))?;
    Ok(Outcome::Done)
}

pub(super) fn man(out: &mut dyn Write) -> anyhow::Result<Outcome> {
    out.write_all(&cli::man_page()?)?;
    Ok(Outcome::Done)
}

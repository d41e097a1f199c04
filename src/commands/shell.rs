//! `completions` and `man`: print the command line's own description, for packagers and shells.

use std::io::Write;

use super::ExitStatus;
use crate::cli;

pub(super) fn completions(shell: clap_complete::Shell, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    out.write_all(&cli::completions(shell))?;
    Ok(ExitStatus::Done)
}

pub(super) fn man(out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    out.write_all(&cli::man_page()?)?;
    Ok(ExitStatus::Done)
}

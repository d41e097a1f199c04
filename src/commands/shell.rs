//! `completions` and `man`: print the command line's own description, for packagers and shells.

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::Context;

use super::ExitStatus;
use crate::settings::Complaints;
use crate::{cli, manual};

pub(super) fn completions(shell: clap_complete::Shell, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    out.write_all(&cli::completions(shell))?;
    Ok(ExitStatus::Done)
}

pub(super) fn man(page: Option<&str>, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let Some(text) = manual::page(page)? else {
        let why = format!(
            "man {}: there is no such page; `healthex-sync man` lists them",
            page.unwrap_or_default()
        );
        return Err(Complaints::one(why).into());
    };
    out.write_all(&text)?;
    Ok(ExitStatus::Done)
}

pub(super) fn write_manual(folder: &Path, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let pages = manual::pages()?;
    for page in &pages {
        let path = folder.join(&page.path);
        let written =
            path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, &page.text));
        written.with_context(|| path.display().to_string())?;
    }
    writeln!(out, "{} pages in {}", pages.len(), folder.display())?;
    Ok(ExitStatus::Done)
}

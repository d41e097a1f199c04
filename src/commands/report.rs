//! `verify` checks the warehouse, `audit` prints its purge log. Both only read.

use std::io::Write;

use super::{Context, ExitStatus, place};
use crate::clock;
use crate::warehouse::Reader;
use crate::warehouse::report::{Pages, PurgeLine, VerifyDepth};

pub(super) fn verify(
    context: &Context<'_>,
    depth: VerifyDepth,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    let views = place(&settings).views;
    let findings = Reader::open(&settings.warehouse.path)?.verify(&views, depth, clock::now())?;
    for finding in &findings.wrong {
        writeln!(out, "{finding}")?;
    }
    if findings.more > 0 {
        writeln!(out, "and {} more", findings.more)?;
    }
    match &findings.pages {
        None => {}
        Some(Pages::Seen { all, with_remains: 0 }) => {
            writeln!(out, "{all} pages, and no byte in them of what was deleted")?;
        }
        Some(Pages::Seen { all, with_remains }) => writeln!(
            out,
            "{all} pages, {with_remains} of them with bytes of what was moved, replaced or deleted; the scrub after the next purge removes them"
        )?,
        Some(Pages::Unseen(why)) => writeln!(out, "the pages could not be looked at: {why}")?,
    }
    if findings.is_sound() {
        writeln!(out, "sound: {} resources", findings.rows)?;
        return Ok(ExitStatus::Done);
    }
    writeln!(out, "NOT sound: restore the warehouse from a backup, or move it away and sync anew")?;
    Ok(ExitStatus::Failed)
}

pub(super) fn audit(
    context: &Context<'_>,
    id: Option<&str>,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    let purges = Reader::open(&settings.warehouse.path)?.purges(id)?;
    if json {
        writeln!(out, "{}", serde_json::to_string(&purges)?)?;
        return Ok(ExitStatus::Done);
    }
    if purges.is_empty() {
        writeln!(out, "no purge{}", id.map_or_else(String::new, |id| format!(" of {id}")))?;
        return Ok(ExitStatus::Done);
    }
    writeln!(
        out,
        "{:20}  {:15}  {:20}  {:20}  {:20}  {:7}  rows",
        "patient", "reason", "confirmed", "rows gone", "last byte gone", "by"
    )?;
    for purge in &purges {
        let PurgeLine { person_id, reason, confirmed_at, purged_at, rows_by_table, .. } = purge;
        let scrubbed = purge.scrubbed_at.as_deref().unwrap_or("not yet");
        let by = purge.scrubbed_by.as_deref().unwrap_or_default();
        let rows: Vec<_> = rows_by_table.iter().map(|(table, rows)| format!("{rows} {table}")).collect();
        writeln!(
            out,
            "{person_id:20}  {reason:15}  {confirmed_at:20}  {purged_at:20}  {scrubbed:20}  {by:7}  {}",
            rows.join(", ")
        )?;
    }
    Ok(ExitStatus::Done)
}

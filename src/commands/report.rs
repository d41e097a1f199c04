//! `verify` checks the warehouse, `audit` prints its purge log. Both only read.

use std::io::Write;

use super::{Context, ExitStatus, place};
use crate::clock;
use crate::warehouse::Reader;
use crate::warehouse::report::PurgeLine;

pub(super) fn verify(context: &Context<'_>, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    let findings = Reader::open(&settings.warehouse.path)?.verify(&place(&settings).views, clock::now())?;
    for finding in &findings.wrong {
        writeln!(out, "{finding}")?;
    }
    if findings.more > 0 {
        writeln!(out, "and {} more", findings.more)?;
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
        "{:20}  {:15}  {:20}  {:20}  {:20}  rows",
        "patient", "reason", "confirmed", "rows gone", "last byte gone"
    )?;
    for purge in &purges {
        let PurgeLine { person_id, reason, confirmed_at, purged_at, scrubbed_at, rows_by_table, .. } = purge;
        let scrubbed = scrubbed_at.as_deref().unwrap_or("not yet");
        let rows: Vec<_> = rows_by_table.iter().map(|(table, rows)| format!("{rows} {table}")).collect();
        writeln!(
            out,
            "{person_id:20}  {reason:15}  {confirmed_at:20}  {purged_at:20}  {scrubbed:20}  {}",
            rows.join(", ")
        )?;
    }
    Ok(ExitStatus::Done)
}

//! `verify`: checks the warehouse, and the ledger beside it. Only reads.

use std::io::Write;

use super::audit::describe_unknown;
use super::{Context, ExitStatus, place};
use crate::warehouse::Reader;
use crate::warehouse::purge::LedgerReport;

pub(super) fn verify(context: &Context<'_>, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    let reader = Reader::open(&settings.warehouse.path)?;
    let findings = reader.verify(&place(&settings).views)?;
    let LedgerReport { fault, unknown, .. } = reader.ledger(settings.consent.ledger.as_deref())?;
    for finding in &findings.wrong {
        writeln!(out, "{finding}")?;
    }
    if findings.more > 0 {
        writeln!(out, "and {} more", findings.more)?;
    }
    if let Some(fault) = &fault {
        writeln!(out, "the ledger of purges: {fault}")?;
    }
    if unknown > 0 {
        writeln!(out, "{}", describe_unknown(unknown))?;
    }
    if findings.is_sound() {
        let is_sound = fault.is_none() && unknown == 0;
        writeln!(
            out,
            "{}: {} resources",
            if is_sound { "sound" } else { "sound but for that" },
            findings.rows
        )?;
        return Ok(if is_sound { ExitStatus::Done } else { ExitStatus::Failed });
    }
    writeln!(out, "NOT sound: restore the warehouse from a backup, or move it away and sync anew")?;
    Ok(ExitStatus::Failed)
}

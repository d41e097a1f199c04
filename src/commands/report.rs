//! `verify`: checks the warehouse, and the ledger beside it. Only reads.

use std::io::Write;

use super::audit::describe_unknown;
use super::{Context, ExitStatus, location, place};
use crate::cli::VerifyArgs;
use crate::clock;
use crate::warehouse::Reader;
use crate::warehouse::failure::LedgerFault;
use crate::warehouse::purge::LedgerReport;
use crate::warehouse::report::{Findings, Pages, VerifyDepth};

pub(super) fn verify(
    context: &Context<'_>,
    args: &VerifyArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let depth = if args.deep { VerifyDepth::Pages } else { VerifyDepth::Rows };
    let settings = context.settings()?;
    let reader = Reader::open(&location(&settings)?)?;
    let findings = reader.verify(&place(&settings)?.views, depth, clock::now())?;
    let LedgerReport { fault, unknown, .. } = reader.ledger(settings.consent.ledger.as_deref())?;
    if args.json {
        return tell_as_json(&findings, fault.as_ref(), unknown, out);
    }
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

fn tell_as_json(
    findings: &Findings,
    ledger_fault: Option<&LedgerFault>,
    ledger_unknown: u64,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let is_sound = findings.is_sound() && ledger_fault.is_none() && ledger_unknown == 0;
    let pages = match &findings.pages {
        None => serde_json::Value::Null,
        Some(Pages::Seen { all, with_remains }) => {
            serde_json::json!({"all": all, "with_remains": with_remains})
        }
        Some(Pages::Unseen(why)) => serde_json::json!({"unseen": why}),
    };
    let told = serde_json::json!({
        "sound": is_sound,
        "resources": findings.rows,
        "wrong": findings.wrong,
        "more": findings.more,
        "pages": pages,
        "ledger_fault": ledger_fault.map(ToString::to_string),
        "ledger_unknown": ledger_unknown,
    });
    writeln!(out, "{told}")?;
    Ok(if is_sound { ExitStatus::Done } else { ExitStatus::Failed })
}

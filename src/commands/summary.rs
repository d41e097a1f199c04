//! Prints a cycle's summary, for people and as JSON.

use std::io::Write;

use serde::Serialize;

use crate::cycle::{EndedEarly, FailedWhy, PurgeNote, Share, Summary};
use crate::plan::verdict::PatientCounts;

#[derive(Serialize)]
struct SummaryJson {
    /// Only there, and true, where nothing was written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    /// Only there, and true, where this is what one of several workers did.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    part: bool,
    patients: PatientCounts,
    resources: ResourceCounts,
    pages: u64,
    requests: u64,
    bytes: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct ResourceCounts {
    inserted: u64,
    updated: u64,
    unchanged: u64,
    deleted: u64,
    quarantined: u64,
}

pub(super) fn print_json(summary: &Summary, out: &mut dyn Write) -> anyhow::Result<()> {
    let tally = summary.resources;
    let json = SummaryJson {
        dry_run: summary.is_rehearsal,
        part: summary.share == Share::Part,
        patients: summary.patients,
        resources: ResourceCounts {
            inserted: tally.inserted,
            updated: tally.updated,
            unchanged: tally.unchanged,
            deleted: tally.deleted,
            quarantined: tally.quarantined,
        },
        pages: summary.pages,
        requests: summary.requests,
        bytes: summary.bytes,
        seconds: summary.took.as_secs_f64(),
    };
    writeln!(out, "{}", serde_json::to_string(&json)?)?;
    Ok(())
}

/// Prints three lines, and one more for each thing that needs a person.
pub(super) fn print(summary: &Summary, out: &mut dyn Write) -> anyhow::Result<()> {
    if summary.is_rehearsal {
        writeln!(out, "dry run: nothing was written; this is what `sync` would do")?;
    }
    if summary.share == Share::Part {
        writeln!(out, "this process took part in a cycle that another leads; this is its own part")?;
    }
    let PatientCounts { total, ok, revoked, held, not_found, failed, skipped } = summary.patients;
    let counts = [
        (ok, "ok"),
        (revoked, "revoked"),
        (held, "held"),
        (not_found, "not found"),
        (failed, "failed"),
        (skipped, "skipped"),
    ];
    writeln!(out, "patients   {total}: {}", list_counts(&counts))?;
    let tally = summary.resources;
    let counts = [
        (tally.inserted, "inserted"),
        (tally.updated, "updated"),
        (tally.unchanged, "unchanged"),
        (tally.deleted, "deleted"),
        (tally.quarantined, "quarantined"),
    ];
    writeln!(out, "resources  {}", list_counts(&counts))?;
    let (requests, seconds) = (summary.requests, summary.took.as_secs_f64());
    writeln!(
        out,
        "transfer   {requests} requests, {} pages, {} in {seconds:.1} s",
        summary.pages,
        size(summary.bytes)
    )?;
    if let Some(ended) = &summary.ended_early {
        writeln!(out, "ended early: {ended}")?;
    }
    print_purges(summary, out)?;
    for problem in &summary.record_problems {
        writeln!(out, "consent records: {problem}")?;
    }
    if let Some(shrunk) = &summary.roster_shrunk {
        writeln!(out, "{shrunk}")?;
    }
    if let Some(fault) = &summary.roster_fault {
        writeln!(out, "{fault}")?;
    }
    let why: Vec<(u64, &str)> = summary.held_why.iter().map(|(why, count)| (*count, *why)).collect();
    let why = list_counts(&why);
    if held > 0 && summary.is_rehearsal {
        writeln!(out, "{held} would be held ({why}), and not purged")?;
    } else if held > 0 {
        writeln!(out, "{held} held ({why}), and not purged: `healthex-sync status` says what to do")?;
    }
    if summary.still_refused > 0 {
        writeln!(
            out,
            "{} refused (403) and not confirmed: the next cycle begins with them",
            summary.still_refused
        )?;
    }
    print_failures(summary, out)?;
    if let Some(waits) = &summary.scrub_waits {
        writeln!(out, "bytes of purged patients are not gone yet: {waits}")?;
    }
    Ok(())
}

/// Says why patients failed, and of whom nothing is known to the server.
fn print_failures(summary: &Summary, out: &mut dyn Write) -> std::io::Result<()> {
    let PatientCounts { not_found, failed, .. } = summary.patients;
    if failed + not_found > 0 && !matches!(summary.ended_early, Some(EndedEarly::CredentialsRefused(_))) {
        let failed = failed + not_found;
        let why = summary.failed_why.as_ref().map_or_else(String::new, |FailedWhy { why, patients }| {
            if *patients == failed { format!(": {why}") } else { format!(", {patients} of them: {why}") }
        });
        writeln!(
            out,
            "failed or not found: {failed}{why}; what they have is kept, and `healthex-sync status` says why of each"
        )?;
    }
    if summary.not_found_before > 0 {
        writeln!(
            out,
            "not found before, and not asked again yet: {}; `healthex-sync status --state not_found` names them",
            summary.not_found_before
        )?;
    }
    Ok(())
}

/// Purged patients beyond this many are only counted.
const PURGES_SHOWN_MAX: usize = 20;

/// Prints a line for each patient that was purged, or would be.
fn print_purges(summary: &Summary, out: &mut dyn Write) -> std::io::Result<()> {
    let verb = if summary.is_rehearsal { "would purge" } else { "purged" };
    for PurgeNote { name, reason, rows } in summary.purged.iter().take(PURGES_SHOWN_MAX) {
        writeln!(out, "{verb} {name}: {rows} rows ({})", reason.as_str())?;
    }
    let more = summary.purged.len().saturating_sub(PURGES_SHOWN_MAX);
    if more > 0 {
        writeln!(out, "{verb} {more} more; `healthex-sync audit` lists all")?;
    }
    Ok(())
}

/// Lists the counts that are not zero.
pub(super) fn list_counts(counts: &[(u64, &str)]) -> String {
    let counts: Vec<_> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

fn size(bytes: u64) -> String {
    let tenths = |unit: u64| format!("{}.{}", bytes / unit, bytes % unit * 10 / unit);
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", tenths(1_000)),
        1_000_000..1_000_000_000 => format!("{} MB", tenths(1_000_000)),
        _ => format!("{} GB", tenths(1_000_000_000)),
    }
}

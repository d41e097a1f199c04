//! A cycle that is over, in one line of the log and in words.

use std::time::Duration;

use crate::cycle::{EndedEarly, Summary};
use crate::plan::verdict::PatientCounts;

/// Logs one line for a cycle.
pub(super) fn log_cycle(summary: &Summary) {
    let patients = summary.patients;
    let tally = summary.resources;
    let took = Duration::from_millis(u64::try_from(summary.took.as_millis()).unwrap_or(u64::MAX));
    tracing::info!(
        ok = patients.ok,
        revoked = patients.revoked,
        held = patients.held,
        not_found = patients.not_found,
        failed = patients.failed,
        skipped = patients.skipped,
        inserted = tally.inserted,
        updated = tally.updated,
        deleted = tally.deleted,
        quarantined = tally.quarantined,
        requests = summary.requests,
        "cycle of {} patients took {took:?}",
        patients.total
    );
    match &summary.ended_early {
        None => {}
        Some(stopped @ EndedEarly::Stopped) => tracing::info!("the cycle ended early: {stopped}"),
        Some(ended) => tracing::error!("the cycle ended early: {ended}"),
    }
}

/// Names every end that a patient of a cycle came to.
pub(crate) fn counts(patients: PatientCounts) -> String {
    let PatientCounts { ok, revoked, held, not_found, failed, skipped, .. } = patients;
    let others = [
        (revoked, "revoked"),
        (held, "held"),
        (not_found, "not found"),
        (failed, "failed"),
        (skipped, "skipped"),
    ];
    let others = others.iter().filter(|(count, _)| *count > 0);
    others.fold(format!("{ok} ok"), |text, (count, what)| format!("{text}, {count} {what}"))
}

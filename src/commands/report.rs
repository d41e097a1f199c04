//! `status`, `verify` and `audit`: what the warehouse says of itself. They only read.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;

use super::Context;
use super::Outcome;
use super::place;
use crate::plan::PatientState;
use crate::warehouse::open;
use crate::warehouse::purge::scrub_waits_for;
use crate::warehouse::report;
use crate::warehouse::report::PatientLine;
use crate::warehouse::report::PurgeLine;
use crate::warehouse::report::Report;
use crate::warehouse::verify as checks;

#[derive(Serialize)]
struct StatusJson<'a> {
    warehouse: String,
    patients: &'a [PatientLine],
    resources: &'a BTreeMap<String, u64>,
    quarantined: u64,
    unscrubbed_purges: u64,
    scrub_waits_for: Option<String>,
}

pub(super) fn status(context: &Context<'_>, json: bool, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let settings = context.settings()?;
    let path = &settings.warehouse.path;
    let connection = open::open_reader(path)?;
    let report = report::report(&connection)?;
    let waits = scrub_waits_for(&connection, path)?;
    if json {
        let status = StatusJson {
            warehouse: path.display().to_string(),
            patients: &report.patients,
            resources: &report.resources,
            quarantined: report.quarantined,
            unscrubbed_purges: report.unscrubbed,
            scrub_waits_for: waits,
        };
        writeln!(out, "{}", serde_json::to_string(&status)?)?;
    } else {
        print_status(&report, waits.as_deref(), out)?;
    }
    let worrying = [PatientState::Held.as_str(), PatientState::Failing.as_str()];
    let worried = report.patients.iter().any(|patient| worrying.contains(&patient.state.as_str()));
    Ok(if worried { Outcome::SomePatientsFailed } else { Outcome::Done })
}

fn print_status(report: &Report, waits: Option<&str>, out: &mut dyn Write) -> anyhow::Result<()> {
    let name = |patient: &PatientLine| patient.label.clone().unwrap_or_else(|| patient.id.clone());
    let width =
        report.patients.iter().map(|patient| name(patient).chars().count()).max().unwrap_or(0).clamp(7, 30);
    writeln!(out, "{:width$}  {:9}  {:>9}  {:20}", "patient", "state", "resources", "last success")?;
    for patient in &report.patients {
        let last = patient.last_success_at.as_deref().unwrap_or("never");
        let unlisted = if patient.listed { "" } else { "  (not on the roster)" };
        writeln!(
            out,
            "{:width$}  {:9}  {:>9}  {last:20}{unlisted}",
            name(patient),
            patient.state,
            patient.resources
        )?;
        if let Some(error) = &patient.last_error {
            writeln!(out, "{:width$}  {error}", "")?;
            if let Some(next) = &patient.next_attempt_at {
                writeln!(
                    out,
                    "{:width$}  {} in a row; `run` asks again at {next}, `sync` at once",
                    "", patient.failures
                )?;
            }
        }
        if let Some(since) = &patient.sweep_guarded_at {
            writeln!(
                out,
                "{:width$}  more than half of its resources were gone at {since}; marked as deleted only if still gone 24 hours later",
                ""
            )?;
        }
    }
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for patient in &report.patients {
        *states.entry(&patient.state).or_default() += 1;
    }
    let states: Vec<_> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let resources: u64 = report.resources.values().sum();
    writeln!(out, "{} patients ({}), {resources} resources", report.patients.len(), states.join(", "))?;
    if report.quarantined > 0 {
        writeln!(out, "{} entries are in quarantine: see the table `quarantine`", report.quarantined)?;
    }
    if report.patients.iter().any(|patient| patient.state == PatientState::Held.as_str()) {
        writeln!(
            out,
            "HELD: patients were refused too many at once to be purged unasked. `healthex-sync purge --held --yes` if these are withdrawals; else mend the credentials and `healthex-sync sync`"
        )?;
    }
    if let Some(waits) = waits {
        writeln!(out, "{} purges still have bytes in the file, waiting for: {waits}", report.unscrubbed)?;
    }
    Ok(())
}

pub(super) fn verify(context: &Context<'_>, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let settings = context.settings()?;
    let connection = open::open_reader(&settings.warehouse.path)?;
    let findings = checks::verify(&connection, &place(&settings).analyst_tables)?;
    for finding in &findings.wrong {
        writeln!(out, "{finding}")?;
    }
    if findings.more > 0 {
        writeln!(out, "and {} more", findings.more)?;
    }
    if findings.is_sound() {
        writeln!(out, "sound: {} resources", findings.rows)?;
        return Ok(Outcome::Done);
    }
    writeln!(out, "NOT sound: restore the warehouse from a backup, or move it away and sync anew")?;
    Ok(Outcome::Failed)
}

pub(super) fn audit(
    context: &Context<'_>,
    id: Option<&str>,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<Outcome> {
    let settings = context.settings()?;
    let connection = open::open_reader(&settings.warehouse.path)?;
    let purges = report::purges(&connection, id)?;
    if json {
        writeln!(out, "{}", serde_json::to_string(&purges)?)?;
        return Ok(Outcome::Done);
    }
    if purges.is_empty() {
        writeln!(out, "no purge{}", id.map_or_else(String::new, |id| format!(" of {id}")))?;
        return Ok(Outcome::Done);
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
    Ok(Outcome::Done)
}

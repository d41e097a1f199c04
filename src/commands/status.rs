//! `status`: prints every patient's state, and why, and what the service is doing. Only reads.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;

use super::service_view::{self, ServiceJson};
use super::status_found::{Found, StudyLine};
use super::status_text::{self, StatusText};
use super::terminal::Screen;
use super::{Context, ExitStatus, location};
use crate::cli::StatusArgs;
use crate::clock;
use crate::plan::stamp;
use crate::settings::Settings;
use crate::warehouse::report::{ExpiringConsent, LastScrub, PatientLine, StayingReader};
use crate::warehouse::workers_told::{WorkerTold, WorkersTold};

#[derive(Serialize)]
struct StatusJson<'a> {
    warehouse: String,
    run: ServiceJson,
    /// Since when nobody was pulled, if that is longer than `alert.stale_after`.
    stale_since: Option<String>,
    patients: Vec<PatientJson<'a>>,
    resources: &'a BTreeMap<String, u64>,
    quarantined: u64,
    unscrubbed_purges: u64,
    scrub_waits_for: Option<&'a str>,
    last_scrub: Option<&'a LastScrub>,
    unscrubbed_since: Option<String>,
    reader: Option<&'a StayingReader>,
    purges_over_deadline: u64,
    ledger_fault: Option<String>,
    /// Purges of the ledger that the next cycle carries out.
    ledger_unknown: u64,
    /// Why the roster of the files is not the one that is gone by.
    roster_fault: Option<String>,
    /// The last change of the server's history; of a file, and until there is one, `null`.
    failover: Option<FailoverJson>,
    /// Who shares the roster, and the cycle that they are at; of a file `null`.
    workers: Option<WorkersJson<'a>>,
    /// How the reading of consent records goes.
    studies: &'a [StudyLine],
    /// The consents that run out within `roster.consent_warning`.
    consents_expiring: &'a [ExpiringConsent],
}

#[derive(Serialize)]
struct WorkersJson<'a> {
    cycle: Option<SharedCycleJson>,
    workers: Vec<WorkerJson<'a>>,
}

#[derive(Serialize)]
struct SharedCycleJson {
    started_at: Option<String>,
    given_out: u64,
    total: u64,
}

#[derive(Serialize)]
struct WorkerJson<'a> {
    host: &'a str,
    pid: i64,
    version: &'a str,
    started_at: String,
    seen_at: String,
    /// `leading`, `at work` or `waiting`.
    is: &'static str,
    patients: u64,
    problem: Option<&'a str>,
}

impl<'a> WorkersJson<'a> {
    fn of(told: &'a WorkersTold) -> Self {
        let cycle = told.cycle.map(|cycle| SharedCycleJson {
            started_at: cycle.started_at.map(stamp),
            given_out: cycle.given_out,
            total: cycle.total,
        });
        let worker = |worker: &'a WorkerTold| WorkerJson {
            host: &worker.host,
            pid: worker.pid,
            version: &worker.version,
            started_at: stamp(worker.started_at),
            seen_at: stamp(worker.seen_at),
            is: worker.is.as_str(),
            patients: worker.patients,
            problem: worker.problem.as_deref(),
        };
        Self { cycle, workers: told.workers.iter().map(worker).collect() }
    }
}

#[derive(Serialize)]
struct FailoverJson {
    noticed_at: String,
    everyone_asked: bool,
}

#[derive(Serialize)]
struct PatientJson<'a> {
    #[serde(flatten)]
    line: &'a PatientLine,
    /// `null` where the roster does not list it, or cannot be read.
    enabled: Option<bool>,
}

pub(super) fn status(
    context: &Context<'_>,
    args: &StatusArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    let now = clock::now();
    let found = Found::read(&settings, args, now)?;
    if args.json {
        print_json(&settings, &found, out)?;
    } else {
        let StatusText { table, totals } = status_text::render(&Screen::of_stdout(), &settings, &found, now);
        for line in table.iter().chain(&totals) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(found.exit_status())
}

fn print_json(settings: &Settings, found: &Found, out: &mut dyn Write) -> anyhow::Result<()> {
    let Found { report, ledger, .. } = found;
    let knows_roster = found.roster_refused.is_none();
    let patients = report.patients.iter().map(|line| PatientJson {
        line,
        enabled: (knows_roster && line.listed).then(|| !found.is_disabled(line)),
    });
    let status = StatusJson {
        warehouse: location(settings)?.to_string(),
        run: service_view::json(&found.service),
        stale_since: found.stale_since.map(stamp),
        patients: patients.collect(),
        resources: &report.resources,
        quarantined: report.quarantined,
        unscrubbed_purges: report.unscrubbed,
        scrub_waits_for: report.scrub_waits_for.as_deref(),
        last_scrub: report.last_scrub.as_ref(),
        unscrubbed_since: report.oldest_unscrubbed.map(stamp),
        reader: report.reader.as_ref(),
        purges_over_deadline: found.late_purges,
        ledger_fault: ledger.fault.as_ref().map(ToString::to_string),
        ledger_unknown: ledger.unknown,
        roster_fault: found.roster_fault.as_ref().map(ToString::to_string),
        failover: report.failover.as_ref().map(|failover| FailoverJson {
            noticed_at: stamp(failover.noticed_at),
            everyone_asked: failover.everyone_asked,
        }),
        workers: report.workers.as_ref().map(WorkersJson::of),
        studies: &found.studies,
        consents_expiring: &found.expiring.shown,
    };
    writeln!(out, "{}", serde_json::to_string(&status)?)?;
    Ok(())
}

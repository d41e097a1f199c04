//! `status`: prints every patient's state, and why. Only reads.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;

use super::terminal::{Colour, Screen, shorten};
use super::{Context, ExitStatus};
use crate::plan::since::IGNORED_TOLD;
use crate::plan::state::PatientState;
use crate::warehouse::Reader;
use crate::warehouse::report::{LastScrub, PatientLine, StatusReport};

/// The columns beside the name, with the gaps between them.
const OTHER_COLUMNS: usize = 2 + 9 + 2 + 9 + 2 + 20;
const NAME_MIN: usize = 7;
/// Of remarks about the patient above.
const INDENT: usize = 4;

#[derive(Serialize)]
struct StatusJson<'a> {
    warehouse: String,
    patients: &'a [PatientLine],
    resources: &'a BTreeMap<String, u64>,
    quarantined: u64,
    unscrubbed_purges: u64,
    scrub_waits_for: Option<&'a str>,
    last_scrub: Option<&'a LastScrub>,
}

pub(super) fn status(context: &Context<'_>, json: bool, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    let path = &settings.warehouse.path;
    let report = Reader::open(path)?.status()?;
    if json {
        let status = StatusJson {
            warehouse: path.display().to_string(),
            patients: &report.patients,
            resources: &report.resources,
            quarantined: report.quarantined,
            unscrubbed_purges: report.unscrubbed,
            scrub_waits_for: report.scrub_waits_for.as_deref(),
            last_scrub: report.last_scrub.as_ref(),
        };
        writeln!(out, "{}", serde_json::to_string(&status)?)?;
    } else {
        let screen = Screen::of_stdout();
        print_table(&screen, &report, out)?;
        print_totals(&screen, &report, out)?;
    }
    let needs_a_person = [PatientState::Held.as_str(), PatientState::Failing.as_str()];
    let any = report.patients.iter().any(|patient| needs_a_person.contains(&patient.state.as_str()));
    Ok(if any { ExitStatus::SomePatientsFailed } else { ExitStatus::Done })
}

fn print_table(screen: &Screen, report: &StatusReport, out: &mut dyn Write) -> anyhow::Result<()> {
    let name = |patient: &PatientLine| patient.label.clone().unwrap_or_else(|| patient.id.clone());
    let longest = report.patients.iter().map(|patient| name(patient).chars().count()).max().unwrap_or(0);
    let width = longest.clamp(NAME_MIN, screen.width - OTHER_COLUMNS);
    writeln!(out, "{:width$}  {:9}  {:>9}  last success", "patient", "state", "resources")?;
    for patient in &report.patients {
        let state = screen.paint(colour_of(&patient.state), &format!("{:9}", patient.state));
        let last = patient.last_success_at.as_deref().unwrap_or("never");
        let name = shorten(&name(patient), width);
        writeln!(out, "{name:width$}  {state}  {:>9}  {last}", patient.resources)?;
        for remark in remarks(patient) {
            print_wrapped(screen, INDENT, &remark, None, out)?;
        }
    }
    Ok(())
}

fn colour_of(state: &str) -> Option<Colour> {
    Some(match PatientState::parse(state)? {
        PatientState::New => return None,
        PatientState::Active => Colour::Green,
        PatientState::Failing | PatientState::NotFound | PatientState::Refused => Colour::Yellow,
        PatientState::Held => Colour::Red,
        PatientState::Revoked | PatientState::Paused => Colour::Faint,
    })
}

/// Returns what a patient's line has no column for.
fn remarks(patient: &PatientLine) -> Vec<String> {
    let mut remarks = Vec::new();
    if !patient.listed {
        remarks.push("not on the roster".to_owned());
    }
    if let Some(error) = &patient.last_error {
        remarks.push(error.clone());
        if let Some(next) = &patient.next_attempt_at {
            let failures = patient.failures;
            remarks.push(format!("{failures} in a row; `run` asks again at {next}, `sync` at once"));
        }
    }
    if let Some(since) = &patient.sweep_guarded_at {
        remarks.push(format!(
            "more than half of its resources were gone at {since}; marked as deleted only if still gone 24 hours later"
        ));
    }
    if let Some(by) = patient.short_by {
        let fewer = format!("{by} fewer entries than the server counts");
        remarks.push(match &patient.short_since {
            Some(since) => format!("{fewer}, since {since}: the record is not complete"),
            None => format!("{fewer}, and it came to its last page; taken as complete"),
        });
    }
    if patient.last_full_at > patient.deletions_seen_at {
        let since = patient.deletions_seen_at.as_deref().unwrap_or("the first pull");
        remarks
            .push(format!("the last full pull could not look for deletions; not looked for since {since}"));
    }
    if patient.since_ignored >= IGNORED_TOLD {
        let pulls = patient.since_ignored;
        remarks.push(format!(
            "the server ignores _since: {pulls} pulls in a row have brought everything, unchanged"
        ));
    }
    remarks
}

fn print_totals(screen: &Screen, report: &StatusReport, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for patient in &report.patients {
        *states.entry(&patient.state).or_default() += 1;
    }
    let is_any_held = states.contains_key(PatientState::Held.as_str());
    let states: Vec<_> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let states = if states.is_empty() { String::new() } else { format!(" ({})", states.join(", ")) };
    let resources: u64 = report.resources.values().sum();
    let totals = format!("{} patients{states}, {resources} resources", report.patients.len());
    print_wrapped(screen, 0, &totals, None, out)?;
    if report.quarantined > 0 {
        let quarantined =
            format!("{} entries are in quarantine: see the table `quarantine`", report.quarantined);
        print_wrapped(screen, 0, &quarantined, None, out)?;
    }
    if is_any_held {
        let held = "HELD: patients were refused too many at once to be purged unasked. `healthex-sync purge --held --yes` if these are withdrawals; else mend the credentials and `healthex-sync sync`";
        print_wrapped(screen, 0, held, Some(Colour::Red), out)?;
    }
    if let Some(waits) = &report.scrub_waits_for {
        let waits =
            format!("{} purges still have bytes in the file, waiting for: {waits}", report.unscrubbed);
        print_wrapped(screen, 0, &waits, None, out)?;
    }
    if let Some(LastScrub { at, by }) = &report.last_scrub {
        let last = format!("the last bytes of purged patients were last removed at {at}, by {by}");
        print_wrapped(screen, 0, &last, None, out)?;
    }
    Ok(())
}

fn print_wrapped(
    screen: &Screen,
    indent: usize,
    text: &str,
    colour: Option<Colour>,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    for line in screen.wrap(indent, text) {
        writeln!(out, "{}", screen.paint(colour, &line))?;
    }
    Ok(())
}

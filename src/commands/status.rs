//! `status`: prints every patient's state, and why. Only reads.

use std::collections::BTreeMap;
use std::io::Write;

use serde::Serialize;

use super::audit::describe_unknown;
use super::kept_records::kept_records;
use super::terminal::{Colour, Screen, shorten};
use super::{Context, ExitStatus};
use crate::clock;
use crate::plan::leaver::{LeaverVerdict, ListedBy, judge_leaver};
use crate::plan::records::KeptStudy;
use crate::plan::since::IGNORED_TOLD;
use crate::plan::state::PatientState;
use crate::plan::{PersonId, Timestamp, stamp};
use crate::settings::{OnRemoved, RosterSettings, Settings};
use crate::time::TimeDelta;
use crate::warehouse::Reader;
use crate::warehouse::purge::LedgerReport;
use crate::warehouse::report::{
    ExpiringConsent, ExpiringConsents, LastScrub, PatientLine, StatusReport, StayingReader,
};

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
    unscrubbed_since: Option<String>,
    reader: Option<&'a StayingReader>,
    purges_over_deadline: u64,
    ledger_fault: Option<String>,
    /// Purges of the ledger that the next cycle carries out.
    ledger_unknown: u64,
    /// How the reading of consent records goes.
    studies: &'a [StudyLine],
    /// The consents that run out within `roster.consent_warning`.
    consents_expiring: &'a [ExpiringConsent],
}

/// A study, as its consent records were last read.
#[derive(Serialize)]
struct StudyLine {
    study: String,
    read_at: Option<String>,
    failing_since: Option<String>,
    problem: Option<String>,
}

/// What is told of consents beside the patients.
struct Consents {
    studies: Vec<StudyLine>,
    expiring: ExpiringConsents,
}

/// Reads where the consent records stand, and notes it with each patient.
fn consents(settings: &Settings, reader: &Reader, report: &mut StatusReport) -> anyhow::Result<Consents> {
    let kept = reader.consents()?;
    let study = |study: &KeptStudy| StudyLine {
        study: study.study.to_string(),
        read_at: study.read_at.map(stamp),
        failing_since: study.failing_since.map(stamp),
        problem: study.problem.clone(),
    };
    let studies = kept.studies.iter().map(study).collect();
    let records = kept_records(settings, kept);
    for patient in &mut report.patients {
        let record = PersonId::parse(&patient.id).ok().and_then(|person| records.of(&person));
        let Some(record) = record else { continue };
        patient.study = Some(record.study.to_string());
        patient.consent = Some(record.standing.as_str());
        patient.consent_expires_at = record.expires_at.map(stamp);
    }
    let now = clock::now();
    let until = now + TimeDelta::from_std(settings.roster.consent_warning).unwrap_or_default();
    Ok(Consents { studies, expiring: reader.expiring_consents(now, until, usize::MAX)? })
}

/// What is told of purges beside the patients.
struct Purges {
    ledger: LedgerReport,
    late: u64,
}

pub(super) fn status(context: &Context<'_>, json: bool, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    let path = &settings.warehouse.path;
    let reader = Reader::open(path)?;
    let mut report = reader.status()?;
    let consents = consents(&settings, &reader, &mut report)?;
    let purges = Purges {
        ledger: reader.ledger(settings.consent.ledger.as_deref())?,
        late: reader.late_purges(settings.consent.deadline, clock::now())?,
    };
    if json {
        let status = StatusJson {
            warehouse: path.display().to_string(),
            patients: &report.patients,
            resources: &report.resources,
            quarantined: report.quarantined,
            unscrubbed_purges: report.unscrubbed,
            scrub_waits_for: report.scrub_waits_for.as_deref(),
            last_scrub: report.last_scrub.as_ref(),
            unscrubbed_since: report.oldest_unscrubbed.map(stamp),
            reader: report.reader.as_ref(),
            purges_over_deadline: purges.late,
            ledger_fault: purges.ledger.fault.as_ref().map(ToString::to_string),
            ledger_unknown: purges.ledger.unknown,
            studies: &consents.studies,
            consents_expiring: &consents.expiring.shown,
        };
        writeln!(out, "{}", serde_json::to_string(&status)?)?;
    } else {
        let screen = Screen::of_stdout();
        print_table(&screen, &report, &settings.roster, out)?;
        print_totals(&screen, &report, out)?;
        print_consents(&screen, &consents, out)?;
        print_purges(&screen, &purges, out)?;
    }
    let needs_a_person = [PatientState::Held.as_str(), PatientState::Failing.as_str()];
    let any = report.patients.iter().any(|patient| needs_a_person.contains(&patient.state.as_str()));
    let any = any || consents.studies.iter().any(|study| study.problem.is_some());
    Ok(if any || purges.ledger.fault.is_some() { ExitStatus::SomePatientsFailed } else { ExitStatus::Done })
}

fn print_table(
    screen: &Screen,
    report: &StatusReport,
    roster: &RosterSettings,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let name = |patient: &PatientLine| patient.label.clone().unwrap_or_else(|| patient.id.clone());
    let longest = report.patients.iter().map(|patient| name(patient).chars().count()).max().unwrap_or(0);
    let width = longest.clamp(NAME_MIN, screen.width - OTHER_COLUMNS);
    writeln!(out, "{:width$}  {:9}  {:>9}  last success", "patient", "state", "resources")?;
    for patient in &report.patients {
        let state = screen.paint(colour_of(&patient.state), &format!("{:9}", patient.state));
        let last = patient.last_success_at.as_deref().unwrap_or("never");
        let name = shorten(&name(patient), width);
        writeln!(out, "{name:width$}  {state}  {:>9}  {last}", patient.resources)?;
        for remark in remarks(patient, roster) {
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
fn remarks(patient: &PatientLine, roster: &RosterSettings) -> Vec<String> {
    let mut remarks = Vec::new();
    if !patient.listed {
        remarks.push(unlisted(patient, roster));
    }
    if patient.listed && patient.source != ListedBy::File.as_str() {
        remarks.push(by_study(patient));
    }
    if let Some(since) = &patient.refused_at {
        let held = patient.held_why.as_ref().map(|why| format!(", held ({why})")).unwrap_or_default();
        remarks.push(format!("refused (403) since {since}{held}"));
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

/// Says by which consent record a patient is on the roster.
fn by_study(patient: &PatientLine) -> String {
    let study = patient.study.as_deref().unwrap_or("?");
    let from = if patient.source == ListedBy::Both.as_str() { "from a file and" } else { "from" };
    let consent = patient.consent.unwrap_or("no consent record");
    // A withdrawn consent has an end of which nobody asks any more.
    let end = match (patient.consent, &patient.consent_expires_at) {
        (Some("consented"), Some(end)) => format!(" until {end}"),
        (Some("expired"), Some(end)) => format!(" at {end}"),
        _ => String::new(),
    };
    let since =
        patient.consent_ended_at.as_ref().map(|since| format!(", seen since {since}")).unwrap_or_default();
    format!("{from} study {study}: {consent}{end}{since}")
}

/// Says since when readings of the roster have lacked a patient, and when it is purged for it.
fn unlisted(patient: &PatientLine, roster: &RosterSettings) -> String {
    let Some(missing) = patient.missing else { return "not on the roster".to_owned() };
    let since = stamp(missing.since);
    if roster.on_removed == OnRemoved::Keep || !patient.holds_rows {
        return format!("not on the roster since {since}");
    }
    match judge_leaver(missing, roster.removed_after, clock::now()) {
        LeaverVerdict::Purge => format!("not on the roster since {since}; the next cycle purges it"),
        LeaverVerdict::Waits { until } => format!(
            "not on the roster since {since}; purged by the first cycle after {} that still lacks it",
            stamp(until)
        ),
    }
}

fn print_totals(screen: &Screen, report: &StatusReport, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for patient in &report.patients {
        *states.entry(&patient.state).or_default() += 1;
    }
    let held = report.patients.iter().filter(|patient| patient.state == PatientState::Held.as_str());
    let mut held_why: BTreeMap<&str, u64> = BTreeMap::new();
    for patient in held {
        *held_why.entry(patient.held_why.as_deref().unwrap_or("many")).or_default() += 1;
    }
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
    if !held_why.is_empty() {
        let why: Vec<_> = held_why.iter().map(|(why, count)| format!("{count} {why}")).collect();
        let held = format!(
            "HELD: patients were refused and are not purged unasked ({}). `healthex-sync purge --held --yes` if these are withdrawals; else mend the credentials and `healthex-sync sync`",
            why.join(", ")
        );
        print_wrapped(screen, 0, &held, Some(Colour::Red), out)?;
    }
    if let Some(reader) = &report.reader {
        print_wrapped(screen, 0, &describe_reader(reader), None, out)?;
    }
    if let Some(waits) = &report.scrub_waits_for {
        let waits = describe_unscrubbed(report.unscrubbed, report.oldest_unscrubbed, waits);
        print_wrapped(screen, 0, &waits, None, out)?;
    }
    if let Some(LastScrub { at, by }) = &report.last_scrub {
        let last = format!("the last bytes of purged patients were last removed at {at}, by {by}");
        print_wrapped(screen, 0, &last, None, out)?;
    }
    Ok(())
}

/// Says who keeps the WAL from being emptied, and what that costs.
pub(super) fn describe_reader(reader: &StayingReader) -> String {
    let StayingReader { since, wal_bytes } = reader;
    let megabytes = wal_bytes.div_ceil(1_000_000);
    format!(
        "another program goes on reading the warehouse, seen since {since}; the WAL beside it has {megabytes} MB and grows until that has ended"
    )
}

/// Says which purges still have bytes in the file, and what they wait for.
pub(super) fn describe_unscrubbed(purges: u64, oldest: Option<Timestamp>, waits_for: &str) -> String {
    let since = oldest.map_or_else(String::new, |oldest| format!(", the oldest since {}", stamp(oldest)));
    format!("{purges} purges still have bytes in the file{since}, waiting for: {waits_for}")
}

/// Consents that run out beyond this many are only counted.
const EXPIRING_SHOWN_MAX: usize = 10;

fn print_consents(screen: &Screen, consents: &Consents, out: &mut dyn Write) -> std::io::Result<()> {
    for StudyLine { problem, failing_since, read_at, .. } in &consents.studies {
        let Some(problem) = problem else { continue };
        let since = failing_since.as_ref().map(|since| format!(", since {since}")).unwrap_or_default();
        let last = read_at.as_deref().unwrap_or("never");
        let text = format!("consent records: {problem}{since}; last read: {last}");
        print_wrapped(screen, 0, &text, Some(Colour::Yellow), out)?;
    }
    let ExpiringConsents { shown, total } = &consents.expiring;
    if *total > 0 {
        let name = |ExpiringConsent { name, expires_at }: &ExpiringConsent| format!("{name} ({expires_at})");
        let names: Vec<String> = shown.iter().take(EXPIRING_SHOWN_MAX).map(name).collect();
        let more = total.saturating_sub(names.len() as u64);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let text = format!("{total} consents run out soon: {}{more}", names.join(", "));
        print_wrapped(screen, 0, &text, None, out)?;
    }
    Ok(())
}

fn print_purges(screen: &Screen, purges: &Purges, out: &mut dyn Write) -> std::io::Result<()> {
    let Purges { ledger, late } = purges;
    if *late > 0 {
        let text = format!(
            "{late} purges took longer than consent.deadline; `healthex-sync audit ID` says how long"
        );
        print_wrapped(screen, 0, &text, None, out)?;
    }
    if ledger.unknown > 0 {
        print_wrapped(screen, 0, &describe_unknown(ledger.unknown), None, out)?;
    }
    if let Some(fault) = &ledger.fault {
        let text = format!("NOBODY CAN BE PURGED, for want of the ledger of purges: {fault}");
        print_wrapped(screen, 0, &text, Some(Colour::Red), out)?;
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

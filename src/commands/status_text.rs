//! The words of `status`: a table of patients, and below it the totals and the service.

use std::collections::BTreeMap;

use super::audit::describe_unknown;
use super::service_view;
use super::status_found::{Found, StudyLine, name};
use super::terminal::{Colour, Screen, shorten};
use crate::plan::leaver::{LeaverVerdict, ListedBy, judge_leaver};
use crate::plan::since::IGNORED_TOLD;
use crate::plan::state::{HeldKind, PatientState};
use crate::plan::{Timestamp, stamp};
use crate::settings::{OnRemoved, RosterSettings, Settings};
use crate::warehouse::report::{
    ExpiringConsent, ExpiringConsents, LastScrub, PatientLine, StatusReport, StayingReader,
};
use crate::wording::counted;

/// The columns beside the name, with the gaps between them.
const OTHER_COLUMNS: usize = 2 + 9 + 2 + 9 + 2 + 20;
const NAME_MIN: usize = 7;
/// Of remarks about the patient above.
const INDENT: usize = 4;

/// What is printed, line by line.
pub(super) struct StatusText {
    pub(super) table: Vec<String>,
    pub(super) totals: Vec<String>,
}

pub(super) fn render(screen: &Screen, settings: &Settings, found: &Found, now: Timestamp) -> StatusText {
    let mut totals = Lines { screen, lines: Vec::new() };
    add_totals(&mut totals, &found.report);
    add_consents(&mut totals, found);
    add_purges(&mut totals, found);
    add_service(&mut totals, settings, found, now);
    StatusText { table: table(screen, settings, found, now), totals: totals.lines }
}

/// Paragraphs, broken into lines.
struct Lines<'s> {
    screen: &'s Screen,
    lines: Vec<String>,
}

impl Lines<'_> {
    fn add(&mut self, indent: usize, text: &str, colour: Option<Colour>) {
        let wrapped = self.screen.wrap(indent, text);
        self.lines.extend(wrapped.iter().map(|line| self.screen.paint(colour, line)));
    }
}

fn table(screen: &Screen, settings: &Settings, found: &Found, now: Timestamp) -> Vec<String> {
    let patients = &found.report.patients;
    let longest = patients.iter().map(|patient| name(patient).chars().count()).max().unwrap_or(0);
    let width = longest.clamp(NAME_MIN, screen.width - OTHER_COLUMNS);
    let header = format!("{:width$}  {:9}  {:>9}  last success", "patient", "state", "resources");
    let mut table = Lines { screen, lines: vec![header] };
    for patient in patients {
        let state = screen.paint(colour_of(&patient.state), &format!("{:9}", patient.state));
        let last = patient.last_success_at.as_deref().unwrap_or("never");
        let name = shorten(name(patient), width);
        table.lines.push(format!("{name:width$}  {state}  {:>9}  {last}", patient.resources));
        for remark in remarks(patient, found, &settings.roster, now) {
            table.add(INDENT, &remark, None);
        }
    }
    table.lines
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
fn remarks(patient: &PatientLine, found: &Found, roster: &RosterSettings, now: Timestamp) -> Vec<String> {
    let mut remarks = Vec::new();
    if !patient.listed {
        remarks.push(unlisted(patient, roster, now));
    }
    if patient.listed && patient.source != ListedBy::File.as_str() {
        remarks.push(by_study(patient));
    }
    if found.is_disabled(patient) {
        remarks.push(
            "disabled: enabled = false in the roster, so it is not pulled; its consent is still asked for"
                .to_owned(),
        );
    }
    if patient.state == PatientState::Paused.as_str() {
        let name = name(patient);
        remarks.push(format!(
            "purged by hand, and left alone; `healthex-sync sync --patient {name}` pulls it again"
        ));
    }
    if patient.state == PatientState::NotFound.as_str() && patient.last_error.is_none() {
        remarks.push("HealthEx does not know this id; asked again after consent.recheck".to_owned());
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

/// Says since when readings of the roster have lacked a patient, and when it is purged for it.
fn unlisted(patient: &PatientLine, roster: &RosterSettings, now: Timestamp) -> String {
    let Some(missing) = patient.missing else { return "not on the roster".to_owned() };
    let since = stamp(missing.since);
    if roster.on_removed == OnRemoved::Keep || !patient.holds_rows {
        return format!("not on the roster since {since}");
    }
    match judge_leaver(missing, roster.removed_after, now) {
        LeaverVerdict::Purge => format!("not on the roster since {since}; the next cycle purges it"),
        LeaverVerdict::Waits { until } => format!(
            "not on the roster since {since}; purged by the first cycle after {} that still lacks it",
            stamp(until)
        ),
    }
}

/// Says by which consent record a patient is on the roster.
fn by_study(patient: &PatientLine) -> String {
    let study = patient.study.as_deref().unwrap_or("?");
    let from = if patient.source == ListedBy::Both.as_str() { "from a file and" } else { "from" };
    let consent = patient.consent.unwrap_or("no consent record");
    let until = patient.consent_expires_at.as_ref().map(|end| format!(" until {end}")).unwrap_or_default();
    let since = patient.consent_ended_at.as_ref().map(|since| format!(", since {since}")).unwrap_or_default();
    format!("{from} study {study}: {consent}{until}{since}")
}

fn add_totals(lines: &mut Lines<'_>, report: &StatusReport) {
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for patient in &report.patients {
        *states.entry(&patient.state).or_default() += 1;
    }
    let mut held: BTreeMap<HeldKind, u64> = BTreeMap::new();
    for patient in report.patients.iter().filter(|one| one.state == PatientState::Held.as_str()) {
        let kind = HeldKind::read(patient.held_why.as_deref(), patient.refused_at.as_deref());
        *held.entry(kind).or_default() += 1;
    }
    let states: Vec<_> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
    let states = if states.is_empty() { String::new() } else { format!(" ({})", states.join(", ")) };
    let resources: u64 = report.resources.values().sum();
    lines.add(
        0,
        &format!(
            "{}{states}, {}",
            counted(report.patients.len(), "patient", "patients"),
            counted(resources, "resource", "resources")
        ),
        None,
    );
    if report.quarantined > 0 {
        let quarantined = format!(
            "in quarantine: {}; see the table `quarantine`",
            counted(report.quarantined, "entry", "entries")
        );
        lines.add(0, &quarantined, None);
    }
    for (kind, count) in held {
        let text = format!("HELD, {count} {}: {}", kind.why.as_str(), kind.describe());
        lines.add(0, &text, Some(Colour::Red));
    }
    if let Some(reader) = &report.reader {
        lines.add(0, &describe_reader(reader), None);
    }
    if let Some(waits) = &report.scrub_waits_for {
        lines.add(0, &describe_unscrubbed(report.unscrubbed, report.oldest_unscrubbed, waits), None);
    }
    if let Some(LastScrub { at, by }) = &report.last_scrub {
        let last = format!("the last bytes of purged patients were last removed at {at}, by {by}");
        lines.add(0, &last, None);
    }
}

/// Says who keeps the WAL from being emptied, and what that costs.
pub(super) fn describe_reader(reader: &StayingReader) -> String {
    let StayingReader { since, wal_bytes } = reader;
    let megabytes = wal_bytes.div_ceil(1_000_000);
    format!(
        "another program goes on reading the warehouse, seen since {since}; the WAL beside it has {megabytes} MB and grows until that has ended"
    )
}

/// Says of how many purges the last bytes are not gone yet, and what they wait for.
pub(super) fn describe_unscrubbed(purges: u64, oldest: Option<Timestamp>, waits_for: &str) -> String {
    let since = oldest.map_or_else(String::new, |oldest| format!(", the oldest since {}", stamp(oldest)));
    format!("purges whose last bytes are not gone yet: {purges}{since}, waiting for: {waits_for}")
}

/// Consents that run out beyond this many are only counted.
const EXPIRING_SHOWN_MAX: usize = 10;

fn add_consents(lines: &mut Lines<'_>, found: &Found) {
    for StudyLine { problem, failing_since, read_at, .. } in &found.studies {
        let Some(problem) = problem else { continue };
        let since = failing_since.as_ref().map(|since| format!(", since {since}")).unwrap_or_default();
        let last = read_at.as_deref().unwrap_or("never");
        let text = format!("consent records: {problem}{since}; last read: {last}");
        lines.add(0, &text, Some(Colour::Yellow));
    }
    let ExpiringConsents { shown, total } = &found.expiring;
    if *total > 0 {
        let name = |ExpiringConsent { name, expires_at }: &ExpiringConsent| format!("{name} ({expires_at})");
        let names: Vec<String> = shown.iter().take(EXPIRING_SHOWN_MAX).map(name).collect();
        let more = total.saturating_sub(names.len() as u64);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        lines.add(0, &format!("{total} consents run out soon: {}{more}", names.join(", ")), None);
    }
}

fn add_purges(lines: &mut Lines<'_>, found: &Found) {
    let Found { ledger, late_purges: late, .. } = found;
    if *late > 0 {
        let text = format!(
            "longer than consent.deadline took {}; `healthex-sync audit ID` says how long",
            counted(*late, "purge", "purges")
        );
        lines.add(0, &text, None);
    }
    if ledger.unknown > 0 {
        lines.add(0, &describe_unknown(ledger.unknown), None);
    }
    if let Some(fault) = &ledger.fault {
        let text = format!("NOBODY CAN BE PURGED, for want of the ledger of purges: {fault}");
        lines.add(0, &text, Some(Colour::Red));
    }
}

fn add_service(lines: &mut Lines<'_>, settings: &Settings, found: &Found, now: Timestamp) {
    for line in service_view::lines(&found.service, now) {
        let colour = line.is_bad.then_some(Colour::Red);
        lines.add(0, &format!("{}: {}", line.what, line.text), colour);
    }
    if let Some(told) = &found.report.workers {
        if let Some(text) = told.describe_cycle() {
            lines.add(0, &text, None);
        }
        for worker in &told.workers {
            let text = format!("worker {worker}, seen {}", stamp(worker.seen_at));
            lines.add(0, &text, worker.problem.is_some().then_some(Colour::Red));
        }
    }
    if let Some(failover) = found.report.failover.as_ref().filter(|failover| failover.is_told(now)) {
        let text = format!("failover, noticed at {}: {failover}", stamp(failover.noticed_at));
        lines.add(0, &text, (!failover.everyone_asked).then_some(Colour::Yellow));
    }
    if let Some(refused) = &found.roster_refused {
        let text =
            format!("roster: it cannot be used, and a running `run` keeps the last good one: {refused}");
        lines.add(0, &text, Some(Colour::Red));
    }
    if let Some(fault) = &found.roster_fault {
        lines.add(0, &format!("roster: {fault}"), Some(Colour::Red));
    }
    if let Some(since) = found.stale_since {
        let stale = service_view::describe_stale(since, settings, now);
        lines.add(0, &format!("STALE: {stale}"), Some(Colour::Red));
    }
}

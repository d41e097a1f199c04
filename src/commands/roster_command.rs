//! `roster`: the patients of the files and of the studies, and where each comes from.
//!
//! It shows what a cycle would go by without asking: the last good answer about each study. A study that
//! was never read is asked.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::in_force::{publish, roster_in_force};
use super::kept_records::kept_consents;
use super::{Context, ExitStatus, runtime, sync};
use crate::cli::{RosterAction, RosterArgs};
use crate::clock;
use crate::cycle::records::{Asked, ask_studies};
use crate::plan::records::{Clocks, RecordsNow, take_over};
use crate::plan::{TypeFilter, stamp};
use crate::roster::{Roster, RosterPatient};
use crate::settings::{Complaints, Settings};
use crate::stop::Stop;
use crate::wording::counted;

/// Makes the files' line of a patient, its source and its consent, into one.
#[derive(Debug, Serialize)]
struct RosterLine<'r> {
    id: &'r str,
    label: Option<&'r str>,
    /// `file`, `study` or `both`.
    source: &'static str,
    /// Whose record it is.
    study: Option<&'r str>,
    consent: Option<&'static str>,
    expires_at: Option<String>,
    /// What the file says instead of `sync.types`.
    types: Option<&'r [String]>,
    enabled: bool,
}

#[derive(Serialize)]
struct RosterJson<'r> {
    patients: &'r [RosterLine<'r>],
    problems: &'r [String],
}

pub(super) fn roster(
    context: &Context<'_>,
    args: &RosterArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    if let Some(RosterAction::Publish { json }) = args.action {
        return publish(context, json, out);
    }
    let (settings, files) = context.settings_and_roster()?;
    let (files, fault) = roster_in_force(&settings, files)?;
    let records = records(context, &settings)?;
    let merged = files.with_records(&records);
    let lines: Vec<RosterLine<'_>> = merged
        .patients
        .iter()
        .enumerate()
        .map(|(at, patient)| line(at, patient, &merged, &records))
        .collect();
    match &args.csv {
        Some(file) if file.as_os_str() == "-" => write_csv(&lines, out)?,
        Some(file) => {
            write_csv(&lines, &mut new_file(file)?)?;
            writeln!(out, "wrote {}", file.display())?;
        }
        None if args.json => {
            let json = RosterJson { patients: &lines, problems: &records.problems };
            let mut buffered = BufWriter::new(&mut *out);
            serde_json::to_writer(&mut buffered, &json)?;
            buffered.write_all(b"\n")?;
            buffered.flush()?;
        }
        None => {
            let mut buffered = BufWriter::new(&mut *out);
            print_table(&lines, &mut buffered)?;
            buffered.flush()?;
        }
    }
    for problem in &records.problems {
        tracing::warn!("consent records: {problem}");
    }
    if let Some(fault) = &fault {
        tracing::warn!("{fault}");
    }
    Ok(if records.problems.is_empty() && fault.is_none() {
        ExitStatus::Done
    } else {
        ExitStatus::SomePatientsFailed
    })
}

/// Returns what the records say: as it is kept, or of a study that was never read, as HealthEx answers.
fn records(context: &Context<'_>, settings: &Arc<Settings>) -> anyhow::Result<RecordsNow> {
    let kept = kept_consents(settings)?;
    let wanted = settings.roster.wanted_records(settings.consent.hold, false);
    let unread = kept.unread(wanted);
    let Asked { readings, server_date, .. } = if unread.is_empty() {
        Asked::default()
    } else {
        let api = sync::api(context, settings)?;
        runtime()?.block_on(async {
            anyhow::Ok(ask_studies(&api, &settings.roster, &unread, &Stop::on_signals()?).await)
        })?
    };
    let clocks = Clocks::of(clock::now(), server_date);
    Ok(take_over(kept, wanted, readings, clocks).1)
}

fn line<'r>(
    at: usize,
    patient: &'r RosterPatient,
    merged: &Roster,
    records: &'r RecordsNow,
) -> RosterLine<'r> {
    let record = records.of(&patient.person);
    RosterLine {
        id: patient.person.as_str(),
        label: patient.label.as_deref(),
        source: merged.listed_by(at, records).as_str(),
        study: record.map(|record| &*record.study),
        consent: record.map(|record| record.standing.as_str()),
        expires_at: record.and_then(|record| record.expires_at).map(stamp),
        types: patient.types.as_ref().map(TypeFilter::types),
        enabled: patient.enabled,
    }
}

/// The cells of a line.
fn cells(line: &RosterLine<'_>) -> [String; 6] {
    let from = match (line.source, line.study) {
        ("study", Some(study)) => study.to_owned(),
        ("both", Some(study)) => format!("file, {study}"),
        (source, _) => source.to_owned(),
    };
    let types = line.types.map_or_else(String::new, |types| types.join(" "));
    let enabled = if line.enabled { "" } else { "(disabled) " };
    let dash = |text: Option<&str>| text.unwrap_or("-").to_owned();
    [
        line.id.to_owned(),
        dash(line.label),
        from,
        dash(line.consent),
        dash(line.expires_at.as_deref()),
        format!("{enabled}{types}"),
    ]
}

fn print_table(lines: &[RosterLine<'_>], out: &mut dyn Write) -> std::io::Result<()> {
    let header = ["id", "label", "from", "consent", "until", "types"].map(str::to_owned);
    // Made twice over rather than kept: a roster may have a hundred thousand lines.
    let rows = || std::iter::once(header.clone()).chain(lines.iter().map(cells));
    let mut widths = [0; 6];
    for row in rows() {
        for (width, cell) in widths.iter_mut().zip(&row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows() {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for line in lines {
        *counts.entry(line.consent.unwrap_or("without a record")).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    let counts = if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) };
    writeln!(out, "{}{counts}", counted(lines.len(), "patient", "patients"))
}

/// Writes a roster file. Who is there by a study alone, and has withdrawn, is not in it: a file would
/// list it for good.
fn write_csv(lines: &[RosterLine<'_>], out: &mut dyn Write) -> anyhow::Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["id", "label", "types", "enabled"])?;
    let has_ended = |line: &RosterLine<'_>| line.consent.is_some_and(|consent| consent != "consented");
    for line in lines.iter().filter(|line| line.source != "study" || !has_ended(line)) {
        let types = line.types.map_or_else(String::new, |types| types.join(" "));
        csv.write_record([
            line.id,
            line.label.unwrap_or_default(),
            &types,
            if line.enabled { "true" } else { "false" },
        ])?;
    }
    Ok(csv.flush()?)
}

/// Makes a file that is not there yet: a list of patients, for its owner alone.
fn new_file(file: &Path) -> anyhow::Result<std::fs::File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)
        .map_err(|error| Complaints::one(format!("{}: {error}", file.display())).into())
}

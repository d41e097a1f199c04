//! `audit`: the purge log, the copies that a purge did not reach, and the ledger's chain.

use std::io::Write;

use super::named::known_patient;
use super::scrub::describe_retention;
use super::terminal::Screen;
use super::{Context, ExitStatus, location, place};
use crate::cli::AuditArgs;
use crate::clock;
use crate::plan::{PersonId, Timestamp, parse_stamp};
use crate::settings::Settings;
use crate::time::TimeDelta;
use crate::warehouse::place::Location;
use crate::warehouse::purge::LedgerReport;
use crate::warehouse::report::{CopyLine, PurgeLine};
use crate::warehouse::{Reader, begin_ledger_anew};
use crate::wording::counted;

pub(super) fn audit(
    context: &Context<'_>,
    args: &AuditArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    if args.new_ledger {
        return new_ledger(&settings, args.json, out);
    }
    let location = location(&settings)?;
    let reader = Reader::open(&location)?;
    if args.verify {
        let report = reader.ledger(settings.consent.ledger.as_deref())?;
        return verify_ledger(&report, args.json, out);
    }
    let person = args.id.as_deref().map(|named| known_patient(&settings, &reader, named)).transpose()?;
    let purges = reader.purges(person.as_ref().map(PersonId::as_str))?;
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&purges)?)?;
        return Ok(ExitStatus::Done);
    }
    if purges.is_empty() {
        let of = person.as_ref().map_or_else(String::new, |person| format!(" of {person}"));
        writeln!(out, "no purge{of}")?;
    } else {
        print_table(&purges, &location, out)?;
    }
    if let Some(person) = &person {
        print_details(&settings, &purges, &reader.copies_of(person)?, out)?;
    }
    Ok(ExitStatus::Done)
}

fn print_table(purges: &[PurgeLine], location: &Location, out: &mut dyn Write) -> std::io::Result<()> {
    let screen = Screen::of_stdout();
    let width = purges.iter().map(|purge| purge.person_id.len()).max().unwrap_or(0).max("patient".len());
    writeln!(out, "{:width$}  {:15}  {:14}  confirmed", "patient", "reason", "by")?;
    for purge in purges {
        let PurgeLine { person_id, reason, by, confirmed_at, .. } = purge;
        writeln!(out, "{person_id:width$}  {reason:15}  {by:14}  {confirmed_at}")?;
        let rows: Vec<_> =
            purge.rows_by_table.iter().map(|(table, rows)| format!("{rows} {table}")).collect();
        let sum: u64 = purge.rows_by_table.values().sum();
        let rows =
            if rows.is_empty() { "no rows".to_owned() } else { format!("{sum} rows: {}", rows.join(", ")) };
        for text in [describe_end(purge, location), rows] {
            screen.write(INDENT, &text, out)?;
        }
    }
    Ok(())
}

/// Says when the rows went, and when the last bytes of them.
fn describe_end(purge: &PurgeLine, location: &Location) -> String {
    let PurgeLine { purged_at, scrubbed_at, scrubbed_by, .. } = purge;
    match (location, scrubbed_at) {
        (Location::File(_), None) => format!("rows gone {purged_at}, the last byte not yet"),
        (Location::File(_), Some(at)) => {
            let way = scrubbed_by.as_ref().map(|way| format!(" ({way})")).unwrap_or_default();
            format!("rows gone {purged_at}, the last byte {at}{way}")
        }
        (Location::Server(_), None) => {
            format!(
                "nobody can read them since {purged_at}, tables not written anew yet (`healthex-sync scrub`)"
            )
        }
        (Location::Server(server), Some(at)) => {
            let elsewhere = describe_retention(server, parse_stamp(at));
            format!("nobody can read them since {purged_at}, tables written anew {at}; {elsewhere}")
        }
    }
}

/// Of what is said about the purge above.
const INDENT: usize = 4;

/// Prints how long each purge took, and the copies that it could not reach.
fn print_details(
    settings: &Settings,
    purges: &[PurgeLine],
    copies_now: &[CopyLine],
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let deadline = TimeDelta::from_std(settings.consent.deadline).unwrap_or(TimeDelta::MAX);
    for purge in purges {
        writeln!(out, "\n{}: {}", purge.purged_at, describe_duration(purge, deadline, clock::now()))?;
        print_copies(purge.copies.as_deref().unwrap_or_default(), out)?;
    }
    if !copies_now.is_empty() {
        writeln!(out, "\nrows are stored now, and copies were made of them:")?;
        print_copies(copies_now, out)?;
    }
    Ok(())
}

fn print_copies(copies: &[CopyLine], out: &mut dyn Write) -> std::io::Result<()> {
    for copy in copies {
        let CopyLine { begun_at, made_at, kind, place, .. } = copy;
        let unfinished = if made_at.is_none() { ", not known to have been finished" } else { "" };
        writeln!(out, "  {kind} of {begun_at}, made while there were rows{unfinished}: {place}")?;
    }
    Ok(())
}

/// Says how long a purge took, from the refusal or the order to the last byte.
fn describe_duration(purge: &PurgeLine, deadline: TimeDelta, now: Timestamp) -> String {
    if let Some(at) = &purge.carried_out_at {
        return format!("carried out again at {at}, on a file that did not know it");
    }
    let begun = purge.refused_at.as_ref().unwrap_or(&purge.confirmed_at);
    let ended = purge.scrubbed_at.as_deref().map_or(Some(now), parse_stamp);
    let Some((begun_at, ended_at)) = parse_stamp(begun).zip(ended) else {
        return "its times cannot be read".to_owned();
    };
    let took = ended_at - begun_at;
    let so_far = if purge.scrubbed_at.is_some() { "took" } else { "has taken until now" };
    let judged = if took > deadline { "LONGER than" } else { "within" };
    format!(
        "{so_far} {} from {begun} to the last byte, {judged} consent.deadline ({})",
        in_words(took),
        in_words(deadline)
    )
}

fn in_words(time: TimeDelta) -> String {
    match (time.num_days(), time.num_hours(), time.num_minutes()) {
        (0, 0, 0) => format!("{} s", time.num_seconds()),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, _) => format!("{hours} h"),
        (days, ..) => format!("{days} d"),
    }
}

fn verify_ledger(report: &LedgerReport, json: bool, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let LedgerReport { fault, purges, unknown } = report;
    if json {
        let fault = fault.as_ref().map(ToString::to_string);
        let told = serde_json::json!({ "purges": purges, "unknown": unknown, "fault": fault });
        writeln!(out, "{told}")?;
    } else if let Some(fault) = fault {
        writeln!(out, "{fault}")?;
    } else {
        writeln!(out, "the ledger is whole: {}", counted(*purges, "purge", "purges"))?;
        if *unknown > 0 {
            writeln!(out, "{}", describe_unknown(*unknown))?;
        }
    }
    Ok(if fault.is_some() { ExitStatus::Failed } else { ExitStatus::Done })
}

/// Says what happens with purges that the warehouse does not know.
pub(super) fn describe_unknown(purges: u64) -> String {
    format!(
        "the ledger has {} that the warehouse does not know, as after a restore: the next cycle carries it out",
        counted(purges, "purge", "purges")
    )
}

fn new_ledger(settings: &Settings, json: bool, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    match begin_ledger_anew(&place(settings)?, clock::now())? {
        former if json => writeln!(out, "{}", serde_json::json!({ "former": former }))?,
        Some(former) => writeln!(
            out,
            "another ledger was begun with the purges that the warehouse knows; the former one is {}: keep it",
            former.display()
        )?,
        None => writeln!(out, "another ledger was begun with the purges that the warehouse knows")?,
    }
    Ok(ExitStatus::Done)
}

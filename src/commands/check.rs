//! `check`: a line for each thing that a cycle needs, and what to do where it is missing. Only reads.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;

use super::audit::describe_unknown;
use super::check_server::check_server;
use super::check_studies::check_studies;
use super::checks::Checks;
use super::in_force::roster_in_force;
use super::kept_records::{kept_consents, kept_records};
use super::status_text::{describe_reader, describe_unscrubbed};
use super::summary::list_counts;
use super::{Context, ExitStatus, check_service, in_full, location, place, runtime, sync, wanted_tables};
use crate::cli::CheckArgs;
use crate::clock;
use crate::clock::Instant;
use crate::healthex::RequestFailed;
use crate::healthex::client::Api;
use crate::healthex::meter::Budget;
use crate::plan::checkpoint::Checkpoint;
use crate::plan::drift::{Drift, Known};
use crate::plan::leaver::{LeaverVerdict, Missing, after_reading, judge_leaver};
use crate::plan::paging::Query;
use crate::plan::since::IGNORED_TOLD;
use crate::plan::{PersonId, Timestamp, stamp};
use crate::roster::{Roster, RosterPatient};
use crate::settings::{OnRemoved, Settings};
use crate::stop::Stop;
use crate::views::Loaded;
use crate::warehouse::failure::{LedgerFault, OpenFailed};
use crate::warehouse::place::{Location, Place};
use crate::warehouse::purge::{DiskRoom, LedgerReport};
use crate::warehouse::report::{Access, Preflight, ViewRefused};
use crate::warehouse::{FoundAt, Reader, preflight, rehearse_views, try_lock};
use crate::wording::counted;

/// A clock further off than this is reported; pulls are right all the same.
const CLOCK_OFF_MAX_SECONDS: i64 = 60;

/// Patients beyond this many are only counted.
const LEAVERS_SHOWN_MAX: usize = 10;

pub(super) fn check(
    context: &Context<'_>,
    args: &CheckArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let mut checks = if args.json { Checks::as_json(out) } else { Checks::new(out) };
    check_all(context, args, &mut checks)?;
    checks.end()
}

fn check_all(context: &Context<'_>, args: &CheckArgs, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let (settings, roster) = match context.settings_and_roster() {
        Ok(found) => found,
        Err(complaints) => {
            for complaint in &complaints.list {
                checks.failed("configuration", complaint, ExitStatus::WrongUsage)?;
            }
            return Ok(());
        }
    };
    let file =
        settings.file.as_ref().map_or_else(|| "defaults".to_owned(), |file| file.display().to_string());
    checks.ok("configuration", &file)?;
    let roster = check_roster(&settings, roster, checks)?;
    check_service::check_account(&settings, checks)?;
    let kept = kept_consents(&settings).unwrap_or_default();
    let known = roster.with_records(&kept_records(&settings, kept));
    check_warehouse(&settings, &known, checks)?;
    check_views(&settings, checks)?;
    check_service::check_port(&settings, checks)?;
    check_service::check_command(context, &settings, checks)?;
    check_service::check_run(context, &settings, &known, checks)?;
    match sync::api(context, &settings) {
        Err(error) => checks.failed("credentials", &in_full(&error), ExitStatus::WrongUsage)?,
        Ok(_) if args.offline => checks.ok("credentials", "found; not tried (--offline)")?,
        Ok(api) => runtime()?.block_on(check_network(&settings, &roster, &api, checks))?,
    }
    if args.send_test_alert {
        check_service::check_alerts_arrive(&settings, checks)?;
    } else if !args.offline {
        check_service::check_alert_servers(&settings, checks)?;
    }
    Ok(())
}

/// Returns the roster that the next cycle goes by.
fn check_roster(settings: &Settings, files: Roster, checks: &mut Checks<'_>) -> anyhow::Result<Roster> {
    // What keeps the warehouse from being looked at is said of that.
    let (roster, fault) = roster_in_force(settings, files.clone()).unwrap_or((files, None));
    let enabled = roster.patients.iter().filter(|patient| patient.enabled).count();
    let studies = match settings.roster.studies.len() {
        0 => String::new(),
        _ => format!(", and whoever consents to {}", settings.roster.studies.join(" or ")),
    };
    let from = if settings.roster.is_left_to_others { ", from the warehouse" } else { "" };
    let patients = counted(roster.patients.len(), "patient", "patients");
    checks.ok("roster", &format!("{patients}, {enabled} enabled{from}{studies}"))?;
    if let Some(fault) = &fault {
        checks.failed("roster", &fault.to_string(), ExitStatus::Failed)?;
    }
    for note in &roster.notes {
        checks.ok("roster", note)?;
    }
    Ok(roster)
}

fn check_warehouse(settings: &Settings, roster: &Roster, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let place = place(settings)?;
    match preflight(&place) {
        Err(OpenFailed::Missing(path)) => {
            checks.ok("warehouse", &format!("{}: none yet; the first sync makes it", path.display()))?;
            return Ok(());
        }
        Err(failed) => {
            checks.failed("warehouse", &failed.to_string(), ExitStatus::WarehouseUnusable)?;
            if let Location::Server(_) = place.location {
                return Ok(());
            }
        }
        Ok(FoundAt::File(found)) => {
            let Preflight { schema, schema_known: known, room, ref patients, mode, access, .. } = found;
            let later = if schema < known { ": the next cycle brings it up to date" } else { "" };
            checks.ok("warehouse", &format!("{}, schema {schema} of {known}{later}", place.location))?;
            check_patients(settings, roster, patients, checks)?;
            check_access(&place, mode, access, checks)?;
            check_room(room, checks)?;
            check_readers(&found, checks)?;
            check_ledger(settings, checks)?;
        }
        Ok(FoundAt::Server(found)) => {
            check_server(settings, &place, &found, checks)?;
            check_patients(settings, roster, &found.patients, checks)?;
            check_ledger(settings, checks)?;
        }
    }
    match try_lock(&place) {
        Ok(()) => {}
        Err(OpenFailed::InUse { pid, .. }) => {
            checks.ok("lock", &format!("held by a cycle under way (pid {pid})"))?;
        }
        Err(failed) => checks.failed("lock", &failed.to_string(), ExitStatus::WarehouseUnusable)?,
    }
    Ok(())
}

/// Compares the roster with who is known.
fn check_patients(
    settings: &Settings,
    roster: &Roster,
    patients: &[Checkpoint],
    checks: &mut Checks<'_>,
) -> anyhow::Result<()> {
    checks.ok("patients", &describe_drift(drift(roster, patients), settings.roster.on_removed))?;
    let ignored = patients.iter().filter(|patient| patient.since_ignored >= IGNORED_TOLD).count();
    if ignored > 0 {
        let why = format!(
            "the server ignores _since for {}: each pull brings everything",
            counted(ignored, "patient", "patients")
        );
        checks.ok("increments", &why)?;
    }
    check_leavers(settings, roster, patients, checks)
}

/// Names who has rows and is missing from the roster as it is now, and says when it is purged for it.
fn check_leavers(
    settings: &Settings,
    roster: &Roster,
    patients: &[Checkpoint],
    checks: &mut Checks<'_>,
) -> anyhow::Result<()> {
    if settings.roster.on_removed == OnRemoved::Keep {
        return Ok(());
    }
    let listed: HashSet<&PersonId> = roster.patients.iter().map(|patient| &patient.person).collect();
    let leavers: Vec<&Checkpoint> =
        patients.iter().filter(|one| one.holds_rows && !listed.contains(&one.person)).collect();
    let now = clock::now();
    for leaver in leavers.iter().take(LEAVERS_SHOWN_MAX) {
        // What the next cycle will have read.
        let missing = after_reading(leaver.missing, false, now).filter(|_| leaver.missing.is_some());
        let line = match missing {
            None => "not on the roster; the next cycle notes it".to_owned(),
            Some(missing) => describe_leaver(missing, settings, now),
        };
        checks.ok("leaver", &format!("{}: {line}", leaver.name()))?;
    }
    let more = leavers.len().saturating_sub(LEAVERS_SHOWN_MAX);
    if more > 0 {
        checks.ok("leaver", &format!("{more} more; `healthex-sync status` lists all"))?;
    }
    Ok(())
}

fn describe_leaver(missing: Missing, settings: &Settings, now: Timestamp) -> String {
    let since = stamp(missing.since);
    match judge_leaver(missing, settings.roster.removed_after, now) {
        LeaverVerdict::Purge => format!("not on the roster since {since}; the next cycle purges it"),
        LeaverVerdict::Waits { until } => {
            format!("not on the roster since {since}; purged from {} on", stamp(until))
        }
    }
}

fn check_ledger(settings: &Settings, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let reader = Reader::open(&location(settings)?)?;
    let LedgerReport { fault, purges, unknown } = match reader.ledger(settings.consent.ledger.as_deref()) {
        Ok(report) => report,
        Err(failed) => {
            return Ok(checks.failed("ledger", &failed.to_string(), ExitStatus::WarehouseUnusable)?);
        }
    };
    if let Some(fault) = fault {
        let status = match fault {
            LedgerFault::OfAnother(_) => ExitStatus::WarehouseUnusable,
            _ => ExitStatus::Failed,
        };
        return Ok(checks.failed("ledger", &fault.to_string(), status)?);
    }
    let later = if unknown > 0 { format!("; {}", describe_unknown(unknown)) } else { String::new() };
    Ok(checks.ok("ledger", &format!("{}{later}", counted(purges, "purge", "purges")))?)
}

/// Compares the roster with the warehouse.
fn drift(roster: &Roster, patients: &[Checkpoint]) -> Drift {
    let mut known: HashMap<&PersonId, Known> = patients
        .iter()
        .map(|patient| {
            let Checkpoint { state, holds_rows: has_rows, .. } = *patient;
            (&patient.person, Known { listed: false, enabled: false, state: Some(state), has_rows })
        })
        .collect();
    for patient in roster.patients.iter() {
        let new = Known { listed: true, enabled: true, state: None, has_rows: false };
        let one = known.entry(&patient.person).or_insert(new);
        (one.listed, one.enabled) = (true, patient.enabled);
    }
    Drift::of(known.into_values())
}

fn describe_drift(drift: Drift, on_removed: OnRemoved) -> String {
    let unlisted = match on_removed {
        OnRemoved::Keep => "on no roster (kept; `purge ID --yes` erases one)",
        OnRemoved::Purge => "on no roster (purged after roster.removed_after)",
    };
    let counts = [
        (drift.in_step, "in step"),
        (drift.never_pulled, "never pulled (the next cycle does)"),
        (drift.failing, "failing (`status` says why)"),
        (drift.refused, "refused (the next cycle asks them again)"),
        (drift.held, "held (`status` says what to do)"),
        (drift.not_found, "not found (check their ids)"),
        (drift.revoked, "revoked"),
        (drift.paused, "purged by hand (`sync --patient ID` pulls one again)"),
        (drift.disabled, "disabled"),
        (drift.unlisted, unlisted),
    ];
    list_counts(&counts)
}

fn check_access(place: &Place, mode: u32, access: Access, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let path = place.path().display();
    let wrong = match access {
        Access::AsWanted => return Ok(checks.ok("file mode", &format!("{mode:04o}"))?),
        Access::TooNarrow => {
            return Ok(
                checks.ok("file mode", &format!("{mode:04o}: the next cycle lets warehouse.group read"))?
            );
        }
        Access::GroupUnasked => {
            format!("its group can read it, and warehouse.group names none; set that, or chmod 600 {path}")
        }
        Access::OtherGroup => format!("a group other than warehouse.group can read it; chmod 600 {path}"),
        Access::TooWide => format!("others can read or write it; chmod 600 {path}"),
        Access::ClosedFolder => {
            let folder = place.path().parent().unwrap_or(place.path()).display();
            format!("warehouse.group cannot enter its folder; chgrp that group {folder}, chmod 750 {folder}")
        }
    };
    Ok(checks.failed("file mode", &format!("{mode:04o}: {wrong}"), ExitStatus::Failed)?)
}

/// Checks that there is room on the disk to scrub after a purge.
fn check_room(room: Option<DiskRoom>, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let Some(room) = room else { return Ok(()) };
    let (free, needed) = (room.free / 1_000_000, room.needed.div_ceil(1_000_000));
    let line = format!("{free} MB free, and {} after a purge may need {needed} MB", room.by.name());
    if room.is_enough() {
        checks.ok("disk room", &line)?;
    } else {
        checks.failed("disk room", &format!("{line}; make room"), ExitStatus::Failed)?;
    }
    Ok(())
}

/// Tells of a program that goes on reading, and of purges whose last bytes are not gone yet.
fn check_readers(found: &Preflight, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    if let Some(reader) = &found.reader {
        checks.ok("reader", &describe_reader(reader))?;
    }
    if let Some(waits) = &found.scrub_waits_for {
        checks.ok("last bytes", &describe_unscrubbed(found.unscrubbed, found.oldest_unscrubbed, waits))?;
    }
    Ok(())
}

/// Reports each of the user's own views that cannot be a table, with its file.
fn check_views(settings: &Settings, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let Loaded { tables, refused: mut wrong } = wanted_tables(settings);
    let refused = rehearse_views(&tables)?;
    wrong.extend(refused.into_iter().map(|ViewRefused { name, why }| format!("{name}: {why}")));
    for why in &wrong {
        checks.failed("views", why, ExitStatus::WrongUsage)?;
    }
    if wrong.is_empty() {
        checks.ok("views", &counted(tables.len(), "table", "tables"))?;
    }
    Ok(())
}

async fn check_network(
    settings: &Arc<Settings>,
    roster: &Roster,
    api: &Api,
    checks: &mut Checks<'_>,
) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    match api.token(&stop).await {
        Ok(token) => {
            let minutes = token.remaining().as_secs() / 60;
            checks.ok("credentials", &format!("{}, a token for {minutes} min", settings.api.base_url))?;
        }
        Err(failed @ RequestFailed::CredentialsRefused { .. }) => {
            return Ok(checks.failed("credentials", &failed.to_string(), ExitStatus::CredentialsRefused)?);
        }
        Err(failed) => {
            return Ok(checks.failed("credentials", &failed.to_string(), ExitStatus::SomePatientsFailed)?);
        }
    }
    let records = check_studies(settings, roster, api, &stop, checks).await?;
    let has_ended = |patient: &RosterPatient| {
        records.of(&patient.person).is_some_and(|record| !record.standing.is_consent())
    };
    let is_asked = |patient: &&RosterPatient| patient.enabled && !has_ended(patient);
    let of_files = roster.patients.iter().find(is_asked).or(roster.patients.first());
    let of_studies = || records.patients().iter().find(|(_, record)| record.standing.is_consent());
    let (person, name) = match (of_files, of_studies()) {
        (Some(patient), _) => (&patient.person, patient.name()),
        (None, Some((person, _))) => (person, person.as_str()),
        (None, None) => return Ok(()),
    };
    let query = Query::of_consent(person);
    let ends = Instant::now() + settings.api.limits.page_timeout;
    let budget = Budget::new(u64::MAX, ends).named(name);
    match api.open_page(&query.first_url(api.base_url()), &budget, &stop).await {
        Ok(page) => {
            checks.ok("request", &format!("{name} is permitted"))?;
            if let Some(date) = page.server_date {
                let off = (date - clock::now()).num_seconds();
                let line = format!("{off} s from the server's; pulls are right all the same");
                if off.abs() > CLOCK_OFF_MAX_SECONDS {
                    checks.failed("clock", &line, ExitStatus::Failed)?;
                } else {
                    checks.ok("clock", &line)?;
                }
            }
        }
        Err(RequestFailed::Forbidden) => {
            checks.ok("request", &format!("{name} is refused (403): no consent"))?;
        }
        Err(failed @ RequestFailed::TokenRefused) => {
            checks.failed("request", &failed.to_string(), ExitStatus::CredentialsRefused)?;
        }
        Err(failed) => {
            checks.failed("request", &format!("{name}: {failed}"), ExitStatus::SomePatientsFailed)?;
        }
    }
    Ok(())
}

//! `check`: what would stand in the way of a cycle, a line each, and what to do about it. Only looks.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use super::summary::listed;
use super::{Context, Outcome, place, runtime, sync, wanted_tables};
use crate::clock;
use crate::healthex::RequestFailed;
use crate::healthex::client::Budget;
use crate::plan::PersonId;
use crate::plan::drift::{Drift, Known};
use crate::plan::due::Standing;
use crate::plan::paging::Query;
use crate::roster::Roster;
use crate::settings::{OnRemoved, Settings};
use crate::stop::Stop;
use crate::warehouse::checkpoint::Patient;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::lock::{Lock, LockFor};
use crate::warehouse::open::Place;
use crate::warehouse::purge::Room;
use crate::warehouse::survey::{Access, Survey};
use crate::warehouse::{open, survey};

/// A clock further off than this deserves a word; the pull is right all the same.
const CLOCK_OFF_MAX_SECONDS: i64 = 60;

pub(super) fn check(context: &Context<'_>, offline: bool, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let mut checks = Checks { out, outcome: Outcome::Done };
    let (settings, roster) = match context.settings_and_roster() {
        Ok(found) => found,
        Err(complaints) => {
            for complaint in &complaints.list {
                checks.failed("configuration", complaint, Outcome::WrongUsage)?;
            }
            return Ok(checks.outcome);
        }
    };
    let file =
        settings.file.as_ref().map_or_else(|| "defaults".to_owned(), |file| file.display().to_string());
    checks.ok("configuration", &file)?;
    let enabled = roster.patients.iter().filter(|patient| patient.enabled).count();
    checks.ok("roster", &format!("{} patients, {enabled} enabled", roster.patients.len()))?;
    check_warehouse(&settings, &roster, &mut checks)?;
    check_views(&settings, &mut checks)?;
    match sync::api(context, &settings) {
        Err(error) => checks.failed("credentials", &format!("{error:#}"), Outcome::WrongUsage)?,
        Ok(_) if offline => checks.ok("credentials", "found; not tried (--offline)")?,
        Ok(api) => runtime()?.block_on(check_network(&settings, &roster, &api, &mut checks))?,
    }
    Ok(checks.outcome)
}

struct Checks<'o> {
    out: &'o mut dyn Write,
    outcome: Outcome,
}

impl Checks<'_> {
    fn ok(&mut self, what: &str, detail: &str) -> std::io::Result<()> {
        writeln!(self.out, "ok      {what:13}  {detail}")
    }

    /// The first failure decides the exit status.
    fn failed(&mut self, what: &str, why: &str, outcome: Outcome) -> std::io::Result<()> {
        if self.outcome == Outcome::Done {
            self.outcome = outcome;
        }
        writeln!(self.out, "FAILED  {what:13}  {why}")
    }
}

fn check_warehouse(settings: &Settings, roster: &Roster, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let place = place(settings);
    let listed: HashSet<&PersonId> = roster.patients.iter().map(|patient| &patient.person).collect();
    match survey::survey(&place, |person| listed.contains(person)) {
        Err(OpenFailed::Missing(path)) => {
            checks.ok("warehouse", &format!("{}: none yet; the first sync makes it", path.display()))?;
            return Ok(());
        }
        Err(failed) => checks.failed("warehouse", &failed.to_string(), Outcome::WarehouseUnusable)?,
        Ok(Survey { schema, room, patients }) => {
            let known = open::SCHEMA_VERSION;
            let later = if schema < known { ": the next cycle brings it up to date" } else { "" };
            checks
                .ok("warehouse", &format!("{}, schema {schema} of {known}{later}", place.path.display()))?;
            checks.ok("patients", &in_words(drift(roster, &patients), settings.roster.on_removed))?;
            check_access(&place, checks)?;
            check_room(room, checks)?;
        }
    }
    match Lock::take(&place.path, LockFor::Writing) {
        Ok(_) => {}
        Err(OpenFailed::InUse { pid, .. }) => {
            checks.ok("lock", &format!("held by a cycle under way (pid {pid})"))?;
        }
        Err(failed) => checks.failed("lock", &failed.to_string(), Outcome::WarehouseUnusable)?,
    }
    Ok(())
}

/// Both sides of the comparison: who is listed, and who is only in the warehouse.
fn drift(roster: &Roster, patients: &[Patient]) -> Drift {
    let mut known: HashMap<&PersonId, Known> = patients
        .iter()
        .map(|patient| {
            let Standing { state, has_rows, .. } = patient.standing;
            (&patient.person, Known { listed: false, enabled: false, state: Some(state), has_rows })
        })
        .collect();
    for patient in &roster.patients {
        let new = Known { listed: true, enabled: true, state: None, has_rows: false };
        let one = known.entry(&patient.person).or_insert(new);
        (one.listed, one.enabled) = (true, patient.enabled);
    }
    Drift::of(known.into_values())
}

fn in_words(drift: Drift, on_removed: OnRemoved) -> String {
    let unlisted = match on_removed {
        OnRemoved::Keep => "on no roster (kept; `purge ID --yes` erases one)",
        OnRemoved::Purge => "on no roster (the next cycle purges them)",
    };
    let counts = [
        (drift.in_step, "in step"),
        (drift.never_pulled, "never pulled (the next cycle does)"),
        (drift.failing, "failing (`status` says why)"),
        (drift.held, "held (`status` says what to do)"),
        (drift.not_found, "not found (check their ids)"),
        (drift.revoked, "revoked"),
        (drift.paused, "purged by hand (`sync --patient ID` pulls one again)"),
        (drift.disabled, "disabled"),
        (drift.unlisted, unlisted),
    ];
    listed(&counts)
}

fn check_access(place: &Place, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let (mode, access) = survey::access(place)?;
    let path = place.path.display();
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
    };
    Ok(checks.failed("file mode", &format!("{mode:04o}: {wrong}"), Outcome::Failed)?)
}

/// Room to remove the last bytes of a purge.
fn check_room(room: Option<Room>, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let Some(room) = room else { return Ok(()) };
    let (free, needed) = (room.free / 1_000_000, room.needed / 1_000_000);
    let line = format!("{free} MB free, and VACUUM may need {needed} MB");
    if room.is_enough() {
        checks.ok("disk room", &line)?;
    } else {
        checks.failed("disk room", &format!("{line}; make room"), Outcome::Failed)?;
    }
    Ok(())
}

/// Each of the user's own views that cannot be a table, with its file.
fn check_views(settings: &Settings, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let (tables, mut wrong) = wanted_tables(settings);
    wrong.extend(tables.rehearse()?.into_iter().map(|(name, why)| format!("{name}: {why}")));
    for why in &wrong {
        checks.failed("views", why, Outcome::WrongUsage)?;
    }
    if wrong.is_empty() {
        checks.ok("views", &format!("{} tables", tables.iter().count()))?;
    }
    Ok(())
}

async fn check_network(
    settings: &Arc<Settings>,
    roster: &Roster,
    api: &crate::healthex::client::Api,
    checks: &mut Checks<'_>,
) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    match api.token(&stop).await {
        Ok(token) => {
            let minutes = token.remaining().as_secs() / 60;
            checks.ok("credentials", &format!("{}, a token for {minutes} min", settings.api.base_url))?;
        }
        Err(failed @ RequestFailed::CredentialsRefused { .. }) => {
            return Ok(checks.failed("credentials", &failed.to_string(), Outcome::CredentialsRefused)?);
        }
        Err(failed) => {
            return Ok(checks.failed("credentials", &failed.to_string(), Outcome::SomePatientsFailed)?);
        }
    }
    let Some(patient) = roster.patients.iter().find(|patient| patient.enabled).or(roster.patients.first())
    else {
        return Ok(());
    };
    let query = Query::of_consent(&patient.person);
    let ends = Instant::now() + settings.api.limits.page_timeout;
    let budget = Budget::new(u64::MAX, ends);
    let name = patient.name();
    match api.open_page(&query.first_url(api.base_url()), &budget, &stop).await {
        Ok(page) => {
            checks.ok("request", &format!("{name} is permitted"))?;
            if let Some(date) = page.server_date {
                let off = (date - clock::now()).num_seconds();
                let line = format!("{off} s from the server's; pulls are right all the same");
                if off.abs() > CLOCK_OFF_MAX_SECONDS {
                    checks.failed("clock", &line, Outcome::Failed)?;
                } else {
                    checks.ok("clock", &line)?;
                }
            }
        }
        Err(RequestFailed::Forbidden) => {
            checks.ok("request", &format!("{name} is refused (403): no consent"))?;
        }
        Err(failed @ RequestFailed::TokenRefused) => {
            checks.failed("request", &failed.to_string(), Outcome::CredentialsRefused)?;
        }
        Err(failed) => checks.failed("request", &format!("{name}: {failed}"), Outcome::SomePatientsFailed)?,
    }
    Ok(())
}

//! The part of `check` that asks each study once, and holds its consents against the roster's files.

use std::collections::HashSet;
use std::sync::Arc;

use super::ExitStatus;
use super::checks::Checks;
use super::kept_records::kept_consents;
use super::summary::list_counts;
use crate::clock;
use crate::cycle::records::{Asked, ask_studies};
use crate::healthex::client::Api;
use crate::plan::PersonId;
use crate::plan::consent::Standing;
use crate::plan::records::{Clocks, RecordsNow, take_over};
use crate::roster::Roster;
use crate::settings::Settings;
use crate::stop::Stop;

/// Patients beyond this many are only counted.
const NAMES_MAX: usize = 10;

/// Asks each study, tells what the records say, and returns it. Nothing of it is kept.
pub(super) async fn check_studies(
    settings: &Arc<Settings>,
    files: &Roster,
    api: &Api,
    stop: &Stop,
    checks: &mut Checks<'_>,
) -> anyhow::Result<RecordsNow> {
    let roster = &settings.roster;
    if roster.studies.is_empty() {
        return Ok(RecordsNow::unasked());
    }
    let kept = kept_consents(settings).unwrap_or_default();
    let wanted = roster.wanted_records(settings.consent.hold, false);
    let mut failed_all = true;
    let Asked { readings, server_date, .. } = ask_studies(api, roster, &roster.studies, stop).await;
    let clocks = Clocks::of(clock::now(), server_date);
    for reading in &readings {
        let Ok(answer) = &reading.answer else { continue };
        failed_all = false;
        let count = |standing| answer.count(standing, clocks.earlier);
        let counts = [
            (count(Standing::Consented), "consented"),
            (count(Standing::Withdrawn), "withdrawn"),
            (count(Standing::Expired), "expired"),
        ];
        checks.ok("consents", &format!("study {}: {}", reading.study, list_counts(&counts)))?;
    }
    let listed: HashSet<&PersonId> = files.patients.iter().map(|patient| &patient.person).collect();
    let (_, records) = take_over(kept, wanted, readings, clocks);
    for problem in &records.problems {
        checks.failed("consents", problem, ExitStatus::SomePatientsFailed)?;
    }
    if failed_all {
        return Ok(records);
    }
    let consented = records.patients().iter().filter(|(_, record)| record.standing.is_consent());
    let unlisted: Vec<&str> = consented
        .map(|(person, _)| person)
        .filter(|person| !listed.contains(person))
        .map(PersonId::as_str)
        .collect();
    tell_names("consented, and in no file", &unlisted, checks)?;
    let has_consent =
        |person: &PersonId| records.of(person).is_some_and(|record| record.standing.is_consent());
    let without: Vec<&str> = files
        .patients
        .iter()
        .filter(|patient| !has_consent(&patient.person))
        .map(crate::roster::RosterPatient::name)
        .collect();
    tell_names("in a file, and without a consent", &without, checks)?;
    Ok(records)
}

fn tell_names(what: &str, names: &[&str], checks: &mut Checks<'_>) -> std::io::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let shown = names[..names.len().min(NAMES_MAX)].join(", ");
    let more = names.len().saturating_sub(NAMES_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    checks.ok("consents", &format!("{} {what}: {shown}{more}", names.len()))
}

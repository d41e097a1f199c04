//! One cycle: who is due, pulls side by side, refusals asked again, withdrawals judged,
//! purges, and the last bytes.
//!
//! Promise: nothing is purged on one refusal or on many at once, a patient that fails keeps
//! what it has, and the summary counts what was done and nothing else. Absent on purpose:
//! HTTP and SQL.

mod confirm;
pub mod dry_run;
pub mod progress;
mod workers;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use self::progress::Progress;
use crate::clock;
use crate::healthex::client::Api;
use crate::plan::due::{Due, NotDue, Wish, decide, rows_decide};
use crate::plan::shrink::has_shrunk_suspiciously;
use crate::plan::{PersonId, Timestamp, TypeFilter};
use crate::pull::PullRules;
use crate::roster::{Roster, RosterPatient};
use crate::settings::{OnRemoved, Settings};
use crate::stop::Stop;
use crate::warehouse::checkpoint::{Listed, Patient};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::Tally;
use crate::warehouse::purge::{PurgeReason, Scrub};
use crate::warehouse::writer::Warehouse;
use crate::warehouse::{checkpoint, pulls, purge, tables};

/// Patients in a row without any answer, times `concurrency`, that mean the server is down.
const SILENT_ROUNDS_MAX: usize = 3;

/// What a cycle works with.
#[derive(Clone)]
pub struct Means {
    pub settings: Arc<Settings>,
    pub api: Arc<Api>,
    pub warehouse: Arc<Warehouse>,
    pub stop: Stop,
    pub progress: watch::Sender<Progress>,
}

/// How this cycle was asked for.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Only these; empty is the whole roster.
    pub named: Vec<PersonId>,
    pub full: bool,
    /// Whether delays after failures are waited out.
    pub patient: bool,
    pub allow_shrunk_roster: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PatientCounts {
    pub total: u64,
    pub ok: u64,
    pub revoked: u64,
    pub held: u64,
    pub not_found: u64,
    pub failed: u64,
    pub skipped: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Summary {
    pub patients: PatientCounts,
    pub resources: Tally,
    pub pages: u64,
    pub requests: u64,
    pub bytes: u64,
    pub took: Duration,
    /// Due, and not asked because the cycle ended early; part of `skipped`.
    pub not_reached: u64,
    pub ended_early: Option<EndedEarly>,
    /// Why the bytes of purged patients are still there.
    pub scrub_waits: Option<String>,
}

/// Why a cycle did not get through its patients.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EndedEarly {
    #[error("{0}")]
    CredentialsRefused(String),
    #[error("HealthEx does not answer; patients not reached are asked in the next cycle")]
    ServerDown,
    #[error("HealthEx asks everyone to wait {} s; patients not reached are asked in the next cycle", .0.as_secs())]
    ToldToWait(Duration),
    #[error("asked to stop")]
    Stopped,
    #[error("{0}")]
    Warehouse(StoreFailed),
}

impl Summary {
    /// Is there no patient that an operator should look at?
    pub fn all_is_well(&self) -> bool {
        let PatientCounts { held, not_found, failed, .. } = self.patients;
        held + not_found + failed + self.not_reached == 0 && self.ended_early.is_none()
    }
}

/// A cycle that was not begun.
#[derive(Debug, thiserror::Error)]
pub enum NotBegun {
    #[error(
        "the roster has lost {gone} of {known} patients at once, and roster.on_removed is \"purge\"; nothing was purged or pulled. If they are meant to go, run `healthex-sync sync --allow-shrunk-roster`"
    )]
    RosterShrunk { known: usize, gone: usize },
    #[error(transparent)]
    Warehouse(#[from] StoreFailed),
}

/// One patient that this cycle deals with.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) name: String,
    pub(crate) types: TypeFilter,
    pub(crate) due: Due,
    pub(crate) patient: Patient,
}

pub async fn run(means: &Means, roster: &Roster, wishes: &Wishes) -> Result<Summary, NotBegun> {
    let begun = Instant::now();
    let (requests, bytes) = cost(&means.api);
    means.api.begin_cycle();
    let patients = take_roster(means, roster, wishes).await?;
    let mut summary = Summary::default();
    // A purge that a crash or a reader kept from its end comes before anything else.
    scrub(means, &mut summary).await;
    let plan = Plan::new(&means.settings, roster, wishes, clock::now());
    let patients = with_rows(means, &plan, patients).await?;
    let tasks = plan.tasks(patients);
    count_idle(&tasks, &mut summary);
    let due: Vec<Task> = tasks.into_iter().filter(|task| !matches!(task.due, Due::Nothing(_))).collect();
    means.progress.send_replace(Progress { total: due.len() as u64, ..Progress::default() });
    let mut work = workers::work(means, due).await;
    if !work.refused.is_empty() && !matches!(work.ended, Some(EndedEarly::Warehouse(_))) {
        confirm::confirm(means, &mut work).await;
    }
    work.settle(&mut summary);
    if !matches!(summary.ended_early, Some(EndedEarly::Warehouse(_))) {
        close(means, &mut summary).await;
    }
    let (requests_after, bytes_after) = cost(&means.api);
    summary.requests = requests_after - requests;
    summary.bytes = bytes_after - bytes;
    summary.took = begun.elapsed();
    Ok(summary)
}

fn cost(api: &Api) -> (u64, u64) {
    (api.meter.requests.load(Ordering::Relaxed), api.meter.bytes.load(Ordering::Relaxed))
}

/// Brings the checkpoint in line with the roster, and purges who has left it where that is wanted.
async fn take_roster(means: &Means, roster: &Roster, wishes: &Wishes) -> Result<Vec<Patient>, NotBegun> {
    let listed: Vec<Listed> = roster
        .patients
        .iter()
        .map(|patient| Listed { person: patient.person.clone(), label: patient.label.clone() })
        .collect();
    let purges = means.settings.roster.on_removed == OnRemoved::Purge;
    let gone = if purges { gone(means, roster).await? } else { Gone::default() };
    if has_shrunk_suspiciously(gone.known, gone.patients.len()) && !wishes.allow_shrunk_roster {
        return Err(NotBegun::RosterShrunk { known: gone.known, gone: gone.patients.len() });
    }
    let names: Vec<(PersonId, String)> =
        gone.patients.iter().map(|patient| (patient.person.clone(), name_of(patient))).collect();
    let patients = means
        .warehouse
        .write(move |connection| {
            let now = clock::now();
            pulls::close_cut_off(connection, now)?;
            checkpoint::note_cycle(connection, now)?;
            checkpoint::take_roster(connection, &listed)?;
            checkpoint::all(connection)
        })
        .await?;
    for (person, name) in names {
        purge_one(means, &person, &name, PurgeReason::Roster, clock::now()).await?;
    }
    Ok(patients)
}

#[derive(Default)]
struct Gone {
    known: usize,
    /// No longer listed, and rows are left.
    patients: Vec<Patient>,
}

async fn gone(means: &Means, roster: &Roster) -> Result<Gone, StoreFailed> {
    let listed: HashSet<PersonId> = roster.patients.iter().map(|patient| patient.person.clone()).collect();
    means
        .warehouse
        .write(move |connection| {
            let mut gone = Gone::default();
            for patient in checkpoint::all(connection)? {
                if listed.contains(&patient.person) {
                    gone.known += 1;
                } else if patient.listed || tables::has_rows(connection, patient.person.as_str())? {
                    gone.known += 1;
                    gone.patients.push(patient);
                }
            }
            Ok(gone)
        })
        .await
}

/// Erases one patient, and says so.
pub(crate) async fn purge_one(
    means: &Means,
    person: &PersonId,
    name: &str,
    reason: PurgeReason,
    confirmed_at: Timestamp,
) -> Result<(), StoreFailed> {
    let id = person.clone();
    let erased = means
        .warehouse
        .write(move |connection| {
            if !tables::has_rows(connection, id.as_str())? && reason != PurgeReason::Operator {
                return Ok(None);
            }
            purge::erase(connection, &id, reason, confirmed_at, clock::now()).map(Some)
        })
        .await?;
    if let Some(erased) = erased {
        tracing::info!(person = name, rows = erased.rows(), reason = reason.as_str(), "{name} was purged");
    }
    Ok(())
}

pub(crate) fn name_of(patient: &Patient) -> String {
    patient.label.clone().unwrap_or_else(|| patient.person.to_string())
}

/// Fills in who has rows, of those for whom that decides anything.
async fn with_rows(
    means: &Means,
    plan: &Plan<'_>,
    patients: Vec<Patient>,
) -> Result<Vec<Patient>, StoreFailed> {
    let (asked, mut all): (Vec<Patient>, Vec<Patient>) =
        patients.into_iter().partition(|patient| plan.rows_decide(patient));
    if asked.is_empty() {
        return Ok(all);
    }
    let found = means.warehouse.write(move |connection| {
        let mut asked = asked.clone();
        tables::find_rows(connection, asked.iter_mut())?;
        Ok(asked)
    });
    all.extend(found.await?);
    Ok(all)
}

/// Joins the roster and what was asked for with what the warehouse remembers.
struct Plan<'a> {
    settings: &'a Settings,
    wishes: &'a Wishes,
    listed: HashMap<&'a PersonId, &'a RosterPatient>,
    now: Timestamp,
}

impl<'a> Plan<'a> {
    fn new(settings: &'a Settings, roster: &'a Roster, wishes: &'a Wishes, now: Timestamp) -> Self {
        let listed = roster.patients.iter().map(|patient| (&patient.person, patient)).collect();
        Self { settings, wishes, listed, now }
    }

    fn wish(&self, person: &PersonId) -> Wish {
        let entry = self.listed.get(person);
        Wish {
            listed: entry.is_some(),
            enabled: entry.is_some_and(|entry| entry.enabled),
            types: entry
                .and_then(|entry| entry.types.clone())
                .unwrap_or_else(|| self.settings.sync.types.clone()),
            named: self.wishes.named.contains(person),
            full: self.wishes.full,
            impatient: !self.wishes.patient,
        }
    }

    fn rows_decide(&self, patient: &Patient) -> bool {
        rows_decide(&patient.standing, &self.wish(&patient.person), self.settings.due_rules(), self.now)
    }

    /// Longest-waiting first, never-pulled before.
    fn tasks(&self, patients: Vec<Patient>) -> Vec<Task> {
        let mut tasks = Vec::with_capacity(patients.len());
        for patient in patients {
            let wish = self.wish(&patient.person);
            if !self.wishes.named.is_empty() && !wish.named {
                continue;
            }
            let due = decide(Some(&patient.standing), &wish, self.settings.due_rules(), self.now);
            if due != Due::Nothing(NotDue::Unlisted) {
                tasks.push(Task { name: name_of(&patient), types: wish.types, due, patient });
            }
        }
        tasks.sort_by_key(|task| task.patient.standing.last_success_at);
        tasks
    }
}

fn count_idle(tasks: &[Task], summary: &mut Summary) {
    summary.patients.total = tasks.len() as u64;
    summary.patients.skipped = tasks.iter().filter(|task| matches!(task.due, Due::Nothing(_))).count() as u64;
}

/// What is left to do when all patients have been dealt with.
async fn close(means: &Means, summary: &mut Summary) {
    if let Err(failed) = means.warehouse.write(pulls::prune).await {
        tracing::warn!("old rows of `pull` could not be removed: {failed}");
    }
    scrub(means, summary).await;
}

/// Removes the last bytes of purged patients, if it is time for it.
pub async fn scrub(means: &Means, summary: &mut Summary) {
    let schedule = means.settings.consent.scrub.clone();
    let path = means.warehouse.path().to_owned();
    let work = means.warehouse.alone(move |connection| {
        let is_due = match (schedule, purge::oldest_unscrubbed(connection)?) {
            (_, None) => false,
            (None, _) => true,
            (Some(schedule), Some(since)) => {
                schedule.next_after(since).is_some_and(|next| next <= clock::now())
            }
        };
        if is_due { purge::scrub(connection, &path, clock::now) } else { Ok(Scrub::NothingToDo) }
    });
    let result = tokio::select! {
        result = work => result,
        () = interrupt_when_stopped(means) => return,
    };
    summary.scrub_waits = match result {
        Ok(Scrub::NothingToDo) => None,
        Ok(Scrub::Done { purges }) => {
            tracing::info!(purges, "the last bytes of purged patients are gone");
            None
        }
        Ok(Scrub::Waits(waits)) => {
            tracing::warn!("bytes of purged patients are still in the file: {waits}");
            Some(waits.to_string())
        }
        Err(failed) => {
            tracing::warn!("bytes of purged patients are still in the file: {failed}");
            Some(failed.to_string())
        }
    };
}

/// A VACUUM may take longer than a shutdown can wait; it is begun again at the next start.
async fn interrupt_when_stopped(means: &Means) {
    means.stop.at_once.cancelled().await;
    loop {
        // Between two statements there is nothing to interrupt, so it is done again until it has worked.
        means.warehouse.interrupt();
        tokio::time::sleep(INTERRUPT_EVERY).await;
    }
}

const INTERRUPT_EVERY: Duration = Duration::from_millis(100);

pub(crate) fn pull_rules(settings: &Settings) -> PullRules {
    PullRules {
        page_size: settings.sync.page_size,
        overlap: settings.sync.overlap,
        pages_max: settings.sync.pages_max,
        bytes_max: settings.sync.bytes_max,
        time_max: settings.sync.time_max,
    }
}

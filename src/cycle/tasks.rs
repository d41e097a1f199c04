//! The roster and what was asked for, joined with what the warehouse remembers.

use std::collections::HashMap;

use super::{Cycle, Summary};
use crate::plan::due::{Due, NotDue, PatientRequest, decide};
use crate::plan::records::{PatientRecord, RecordsNow};
use crate::plan::state::PatientState;
use crate::plan::{PersonId, Timestamp, TypeFilter};
use crate::roster::{Roster, RosterPatient};
use crate::warehouse::pull::Lease;

/// One patient that a cycle deals with.
#[derive(Clone, Debug)]
pub(super) struct Task {
    /// What the patient goes by in logs and messages.
    pub(super) name: String,
    pub(super) types: TypeFilter,
    pub(super) due: Due,
    pub(super) lease: Lease,
    /// What the consent records say of the patient, where they know it.
    pub(super) record: Option<Box<PatientRecord>>,
    /// Whether they say that the patient consents.
    pub(super) consents: bool,
}

impl Task {
    pub(super) fn person(&self) -> &PersonId {
        self.lease.person()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// Returns what there is to do, those that have waited longest first, never-pulled ones before.
pub(super) fn tasks(
    cycle: &Cycle,
    roster: &Roster,
    records: &RecordsNow,
    patients: Vec<Lease>,
    now: Timestamp,
) -> Vec<Task> {
    let listed: HashMap<&PersonId, &RosterPatient> =
        roster.patients.iter().map(|patient| (&patient.person, patient)).collect();
    let rules = cycle.settings.due_rules();
    let mut tasks = Vec::with_capacity(patients.len());
    for lease in patients {
        let entry = listed.get(lease.person()).copied();
        let request = request(cycle, entry, lease.person());
        if !cycle.request.named.is_empty() && !request.named {
            continue;
        }
        let due = decide(&lease.checkpoint, &request, rules, now);
        if due != Due::Nothing(NotDue::Unlisted) {
            let name = cycle.names.of(lease.person());
            let record = records.of(lease.person()).cloned().map(Box::new);
            let consents = record.as_ref().is_some_and(|record| record.standing.is_consent());
            tasks.push(Task { name, types: request.types, due, lease, record, consents });
        }
    }
    tasks.sort_by_key(|task| task.lease.checkpoint.last_success_at);
    tasks
}

fn request(cycle: &Cycle, entry: Option<&RosterPatient>, person: &PersonId) -> PatientRequest {
    let asked = &cycle.request;
    PatientRequest {
        listed: entry.is_some(),
        enabled: entry.is_some_and(|entry| entry.enabled),
        types: entry
            .and_then(|entry| entry.types.clone())
            .unwrap_or_else(|| cycle.settings.sync.types.clone()),
        named: asked.named.contains(person),
        full: asked.full,
        impatient: !asked.waits_after_failures,
    }
}

/// Counts the patients that nothing is to be done about.
pub(super) fn count_idle(tasks: &[Task], summary: &mut Summary) {
    summary.patients.total = tasks.len() as u64;
    summary.patients.skipped = tasks.iter().filter(|task| matches!(task.due, Due::Nothing(_))).count() as u64;
    let is_lost = |task: &&Task| {
        task.lease.checkpoint.state == PatientState::NotFound
            && task.due == Due::Nothing(NotDue::WithinRecheck)
    };
    summary.not_found_before = tasks.iter().filter(is_lost).count() as u64;
}

//! The roster and what was asked for, joined with what the warehouse remembers.

use std::ops::AddAssign;

use super::Cycle;
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

/// What is to be done about some patients.
#[derive(Default)]
pub(super) struct Tasks {
    /// To be pulled, or asked.
    pub(super) due: Vec<Task>,
    pub(super) others: Others,
}

/// Those that have no turn of their own.
#[derive(Default)]
pub(super) struct Others {
    /// Refused, to be asked again in a round.
    pub(super) again: Vec<Task>,
    /// Nothing is to be done about these.
    pub(super) skipped: u64,
    /// As many of them were not found in an earlier cycle.
    pub(super) not_found_before: u64,
}

impl AddAssign for Others {
    fn add_assign(&mut self, more: Self) {
        self.again.extend(more.again);
        self.skipped += more.skipped;
        self.not_found_before += more.not_found_before;
    }
}

/// Joins what the warehouse remembers with the roster and what was asked for.
pub(super) struct Planner {
    cycle: Cycle,
    roster: Roster,
    records: RecordsNow,
    now: Timestamp,
}

impl Planner {
    /// Plans a cycle that begins now.
    pub(super) fn new(cycle: &Cycle, roster: Roster, records: RecordsNow, now: Timestamp) -> Self {
        Self { cycle: cycle.clone(), roster, records, now }
    }

    /// Returns what is to be done about these patients, in their order.
    pub(super) fn plan(&self, patients: Vec<Lease>) -> Tasks {
        let rules = self.cycle.settings.due_rules();
        let mut tasks = Tasks::default();
        for lease in patients {
            let entry = self.roster.patients.of(lease.person());
            if entry.is_none() {
                self.cycle.names.learn(&lease);
            }
            let request = self.request(entry, lease.person());
            if !self.cycle.request.named.is_empty() && !request.named {
                continue;
            }
            let due = decide(&lease.checkpoint, &request, rules, self.now);
            let others = &mut tasks.others;
            match due {
                Due::Nothing(NotDue::Unlisted) => {}
                Due::Nothing(not_due) => {
                    let is_lost = lease.checkpoint.state == PatientState::NotFound;
                    others.skipped += 1;
                    others.not_found_before += u64::from(is_lost && not_due == NotDue::WithinRecheck);
                }
                Due::AskAgain(_) => others.again.push(self.task(lease, due, request.types)),
                Due::Pull(_) | Due::AskConsent => tasks.due.push(self.task(lease, due, request.types)),
            }
        }
        tasks
    }

    fn task(&self, lease: Lease, due: Due, types: TypeFilter) -> Task {
        let name = lease.checkpoint.label.clone().unwrap_or_else(|| self.cycle.names.of(lease.person()));
        let record = self.records.of(lease.person()).cloned().map(Box::new);
        let consents = record.as_ref().is_some_and(|record| record.standing.is_consent());
        Task { name, types, due, lease, record, consents }
    }

    fn request(&self, entry: Option<&RosterPatient>, person: &PersonId) -> PatientRequest {
        let asked = &self.cycle.request;
        PatientRequest {
            listed: entry.is_some(),
            enabled: entry.is_some_and(|entry| entry.enabled),
            types: entry
                .and_then(|entry| entry.types.clone())
                .unwrap_or_else(|| self.cycle.settings.sync.types.clone()),
            named: asked.named.contains(person),
            full: asked.full,
            impatient: !asked.waits_after_failures,
        }
    }
}

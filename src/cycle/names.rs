//! What the patients of a cycle go by in the log.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::plan::PersonId;
use crate::roster::Roster;
use crate::warehouse::pull::Lease;

/// The labels, as far as the cycle knows them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    labels: RwLock<HashMap<PersonId, String>>,
}

impl Names {
    /// Takes the labels that the warehouse has. Of a purged patient only the roster has it.
    pub(super) fn learn(&self, patients: &[Lease], roster: Option<&Roster>) {
        let listed = roster.iter().flat_map(|roster| &roster.patients);
        let listed = listed.filter_map(|patient| Some((patient.person.clone(), patient.label.clone()?)));
        let known = patients
            .iter()
            .filter_map(|lease| Some((lease.person().clone(), lease.checkpoint.label.clone()?)));
        self.labels.write().unwrap_or_else(PoisonError::into_inner).extend(listed.chain(known));
    }

    /// Forgets patients whose turns are over.
    pub(super) fn forget(&self, over: &[PersonId]) {
        let mut labels = self.labels.write().unwrap_or_else(PoisonError::into_inner);
        for person in over {
            labels.remove(person);
        }
    }

    /// Returns the label, else the id.
    pub(super) fn of(&self, person: &PersonId) -> String {
        let labels = self.labels.read().unwrap_or_else(PoisonError::into_inner);
        labels.get(person).map_or_else(|| person.to_string(), Clone::clone)
    }
}

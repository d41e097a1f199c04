//! What the patients of a cycle go by in the log.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::plan::PersonId;
use crate::plan::roster::RosterPatients;
use crate::warehouse::pull::Lease;

/// The labels, as far as the cycle knows them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    roster: RwLock<RosterPatients>,
    /// Of patients whom the roster lacks, and where this process has none, of those whom it deals with.
    labels: RwLock<HashMap<PersonId, String>>,
}

impl Names {
    /// Takes the labels of a roster. Of a purged patient only it has one.
    pub(super) fn go_by(&self, roster: RosterPatients) {
        *self.roster.write().unwrap_or_else(PoisonError::into_inner) = roster;
    }

    /// Takes the label that the warehouse has.
    pub(super) fn learn(&self, patient: &Lease) {
        if let Some(label) = patient.checkpoint.label.clone() {
            let mut labels = self.labels.write().unwrap_or_else(PoisonError::into_inner);
            labels.insert(patient.person().clone(), label);
        }
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
        if let Some(label) = self.labels.read().unwrap_or_else(PoisonError::into_inner).get(person) {
            return label.clone();
        }
        let roster = self.roster.read().unwrap_or_else(PoisonError::into_inner);
        roster.of(person).map_or_else(|| person.to_string(), |listed| listed.name().to_owned())
    }
}

//! What the patients of a cycle go by in the log.

use std::collections::HashMap;
use std::sync::OnceLock;

use crate::plan::PersonId;
use crate::roster::Roster;
use crate::warehouse::pull::Lease;

/// The labels, once the cycle knows them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    labels: OnceLock<HashMap<PersonId, String>>,
}

impl Names {
    /// Takes the labels that the warehouse has. Of a purged patient only the roster has it.
    pub(super) fn learn(&self, patients: &[Lease], roster: Option<&Roster>) {
        let listed = roster.iter().flat_map(|roster| &roster.patients);
        let listed = listed.filter_map(|patient| Some((patient.person.clone(), patient.label.clone()?)));
        let known = patients
            .iter()
            .filter_map(|lease| Some((lease.person().clone(), lease.checkpoint.label.clone()?)));
        // A cycle takes its patients once.
        let _ = self.labels.set(listed.chain(known).collect());
    }

    /// Returns the label, else the id.
    pub(super) fn of<'n>(&'n self, person: &'n PersonId) -> &'n str {
        let label = self.labels.get().and_then(|labels| labels.get(person));
        label.map_or(person.as_str(), String::as_str)
    }
}

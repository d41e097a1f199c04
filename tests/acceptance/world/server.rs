//! What the server of a [`World`] holds, does wrong, and was asked.

use std::collections::BTreeMap;

use healthex_sync::sandbox::{RecordEntry, ScriptedFault, SeenRequest};

use super::World;

/// Every patient's family name begins with it; it is never to be seen in an output.
pub(crate) const NAME_CANARY: &str = "Zimtstern";
/// The clinical text of every resource begins with it.
pub(crate) const TEXT_CANARY: &str = "Geheimbefund";

impl World {
    /// What the server does wrong from now on, as a row of a fault file.
    pub(crate) fn fault(&self, row: &str) {
        let faults = ScriptedFault::parse(&format!("fault = [{{ {row} }}]"));
        for fault in faults.unwrap_or_else(|what| panic!("{row}: {what}")) {
            self.sandbox.script(fault);
        }
    }

    /// What the server holds of a person: key to resource.
    pub(crate) fn oracle(&self, person: &str) -> BTreeMap<String, String> {
        let entries = self.sandbox.entries(person);
        let rows = entries.into_iter().map(|entry| (self.key_of(&entry), entry.resource));
        rows.collect()
    }

    pub(crate) fn key_of(&self, entry: &RecordEntry) -> String {
        let root = format!("{}/FHIR/R4/", self.sandbox.base_url());
        let key = entry.full_url.strip_prefix(&root);
        key.unwrap_or(&entry.full_url).to_owned()
    }

    /// The `$everything` requests for a person since the log was cleared.
    pub(crate) fn asked(&self, person: &str) -> Vec<SeenRequest> {
        let mut requests = self.sandbox.requests();
        requests.retain(|request| request.person.as_deref() == Some(person));
        requests
    }

    /// Their queries alone.
    pub(crate) fn queries(&self, person: &str) -> Vec<String> {
        let asked = self.asked(person).into_iter();
        asked.map(|request| request.query).collect()
    }

    pub(crate) fn tokens_minted(&self) -> usize {
        let requests = self.sandbox.requests();
        let minted = requests.iter().filter(|request| request.path == "/v1/auth/token");
        minted.count()
    }
}

/// A Person, a Patient and observations, the even ones with a `meta`.
pub(crate) fn record(person: &str, observations: usize) -> Vec<RecordEntry> {
    let mut entries = vec![
        RecordEntry::new(
            &format!("Person/{person}"),
            &format!(
                r#"{{"resourceType":"Person","id":"{person}","name":[{{"family":"{NAME_CANARY}-{person}"}}]}}"#
            ),
        ),
        RecordEntry::new(
            &format!("Patient/uuid-patient-{person}"),
            &format!(
                r#"{{"resourceType":"Patient","id":"p-{person}","name":[{{"family":"{NAME_CANARY}-{person}"}}]}}"#
            ),
        ),
    ];
    for number in 0..observations {
        let resource = observation(person, number, "as at first");
        entries.push(RecordEntry::new(&observation_tail(person, number), &resource));
    }
    entries
}

pub(crate) fn observation_tail(person: &str, number: usize) -> String {
    format!("Observation/uuid-{person}-{number:04}")
}

pub(crate) fn observation(person: &str, number: usize, text: &str) -> String {
    let meta =
        if number.is_multiple_of(2) { r#""meta":{"lastUpdated":"2025-01-01T00:00:00Z"},"# } else { "" };
    format!(
        r#"{{"resourceType":"Observation","id":"o-{person}-{number}",{meta}"status":"final","subject":{{"reference":"Patient/p-{person}"}},"valueString":"{TEXT_CANARY}-{person}-{number} {text}","valueQuantity":{{"value":1.50}}}}"#
    )
}

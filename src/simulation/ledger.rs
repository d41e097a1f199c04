//! What the ledger of purges says, read on from where it was read to.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What its lines come to.
#[derive(Default)]
pub(super) struct Ledger {
    read_to: usize,
    /// Whether a patient's last line is a purge.
    pub(super) is_purged: BTreeMap<String, bool>,
    /// How many purges of a patient there are.
    pub(super) purges: BTreeMap<String, usize>,
}

impl Ledger {
    /// Takes in what has been written since, of the ledger of a warehouse.
    pub(super) fn read_on(&mut self, warehouse: &Path) {
        let mut path = warehouse.as_os_str().to_owned();
        path.push(".purges");
        let text = fs::read_to_string(path).unwrap_or_default();
        if text.len() < self.read_to {
            *self = Self::default();
        }
        // The first line says whose ledger it is.
        let skipped = usize::from(self.read_to == 0);
        for line in text[self.read_to..].lines().skip(skipped) {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let person = line["person"].as_str().unwrap_or_default().to_owned();
            let is_purge = line["kind"] == "purge";
            *self.purges.entry(person.clone()).or_default() += usize::from(is_purge);
            self.is_purged.insert(person, is_purge);
        }
        self.read_to = text.len();
    }
}

//! Which of the rows that are stored has no walk of a full pull seen, and what became of them.
//!
//! Engines read the rows; what they are found by there is `R`.

use std::collections::{HashMap, HashSet};

use super::identity::{Identity, KeyHash};
use super::sweep::SweepFacts;

/// A row that is not marked as deleted.
pub(crate) struct LiveRow<R> {
    pub(crate) row: R,
    pub(crate) key: String,
    pub(crate) id: Option<String>,
    pub(crate) is_superseded: bool,
}

/// Rows of one table that no walk saw.
pub(crate) struct UnseenOf<R> {
    pub(crate) table: &'static str,
    /// Their type and id live on under a key that was not known beside theirs.
    pub(crate) renamed: Vec<R>,
    pub(crate) vanished: Vec<R>,
}

/// What a full pull has not seen of a patient.
pub(crate) struct Unseen<R> {
    /// Those that have any.
    pub(crate) tables: Vec<UnseenOf<R>>,
    /// Tables in which two live rows have one id.
    pub(crate) tables_with_twins: Vec<&'static str>,
    /// Live rows of the patient in all tables, renamed ones left out.
    pub(crate) live: u64,
    /// Those of the types asked for, without the Person and Patients.
    live_clinical: u64,
}

impl<R> Default for Unseen<R> {
    fn default() -> Self {
        Self { tables: Vec::new(), tables_with_twins: Vec::new(), live: 0, live_clinical: 0 }
    }
}

impl<R> Unseen<R> {
    /// Returns what the rule about sweeps begins from.
    pub(crate) fn facts(&self, walk: u32, guard_expired: bool) -> SweepFacts {
        let vanished = |unseen: &UnseenOf<R>| unseen.vanished.len() as u64;
        let clinical = self.tables.iter().filter(|unseen| is_clinical(unseen.table));
        SweepFacts {
            unseen: self.tables.iter().map(vanished).sum(),
            unseen_clinical: clinical.map(vanished).sum(),
            live: self.live,
            live_clinical: self.live_clinical,
            walk,
            guard_expired,
        }
    }

    /// Adds a table of a type that was asked for.
    pub(crate) fn add(&mut self, sorted: SortedRows<'_, R>) {
        let (unseen, live) = sorted.end();
        self.live += live;
        self.live_clinical += if is_clinical(unseen.table) { live } else { 0 };
        if !(unseen.renamed.is_empty() && unseen.vanished.is_empty()) {
            self.tables.push(unseen);
        }
    }
}

/// The live rows of one table, while they are sorted into those that a walk saw and those that none did.
pub(crate) struct SortedRows<'s, R> {
    table: &'static str,
    seen: &'s [HashSet<KeyHash>],
    /// Keys of things that the server is known to have side by side under one id.
    twins: HashSet<String>,
    quarantined: &'s HashSet<String>,
    unseen: Vec<LiveRow<R>>,
    /// By id, whether all keys that were seen are known to be twins.
    brought: HashMap<String, bool>,
    live: u64,
}

impl<'s, R> SortedRows<'s, R> {
    pub(crate) fn new(
        table: &'static str,
        seen: &'s [HashSet<KeyHash>],
        twins: HashSet<String>,
        quarantined: &'s HashSet<String>,
    ) -> Self {
        let (unseen, brought) = (Vec::new(), HashMap::new());
        Self { table, seen, twins, quarantined, unseen, brought, live: 0 }
    }

    pub(crate) fn add(&mut self, row: LiveRow<R>) {
        self.live += 1;
        let id = row.id.as_deref();
        if Identity::was_seen(&row.key, self.table, id, self.seen) {
            if let Some(id) = row.id {
                *self.brought.entry(id).or_insert(true) &= self.twins.contains(&row.key);
            }
        } else if row.is_superseded && is_quarantined(&row.key, self.table, id, self.quarantined) {
            // Its new version is there, and cannot be read.
        } else {
            self.unseen.push(row);
        }
    }

    fn end(self) -> (UnseenOf<R>, u64) {
        let mut found = UnseenOf { table: self.table, renamed: Vec::new(), vanished: Vec::new() };
        for LiveRow { row, key, id, .. } in self.unseen {
            match id.and_then(|id| self.brought.get(&id)) {
                Some(all_twins) if !(*all_twins && self.twins.contains(&key)) => found.renamed.push(row),
                _ => found.vanished.push(row),
            }
        }
        let live = self.live - found.renamed.len() as u64;
        (found, live)
    }
}

/// What is left of a record that has been emptied.
fn is_clinical(table: &str) -> bool {
    !matches!(table, "person" | "patient")
}

fn is_quarantined(key: &str, table: &str, id: Option<&str>, quarantined: &HashSet<String>) -> bool {
    Identity::of_stored(key, table, id)
        .any(|it| quarantined.contains(it.name) || quarantined.contains(&it.key_with_id()))
}

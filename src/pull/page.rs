//! The entries of one page, sorted into what is stored, what is quarantined and what is noted.

use std::collections::HashSet;

use url::Url;

use crate::healthex::bundle::PageFacts;
use crate::healthex::client::ENTRY_BYTES_MAX;
use crate::plan::completeness::Walk;
use crate::plan::duplicate::replaces;
use crate::plan::paging::fhir_root;
use crate::plan::row::{Entry, EntryRules, KeyHash, Quarantined, Row, Sorted, key_hash, sort_entry};
use crate::warehouse::page::IncomingRow;

/// Deeper nesting is quarantined: nothing in FHIR comes near, and SQLite's JSON functions end at 1000.
const DEPTH_MAX: u32 = 120;

/// Returns the limits that an entry is held against.
pub(super) fn entry_rules(base_url: &Url) -> EntryRules {
    EntryRules {
        fhir_root: fhir_root(base_url),
        entry_bytes_max: ENTRY_BYTES_MAX as u64,
        depth_max: DEPTH_MAX,
    }
}

/// What has been read of a page.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// What is not stored yet.
    pub(super) rest: PageRest,
    pub(super) keys: HashSet<KeyHash>,
    /// Entries that count towards `total`.
    pub(super) received: u64,
    /// Known once the page has been read to its end.
    pub(super) facts: PageFacts,
}

/// What became of an entry.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) is_stored: bool,
    /// Said of the pull when it ends.
    pub(super) note: Option<String>,
}

impl Page {
    /// Puts an entry where it belongs, or says why it breaks the page.
    pub(super) fn take(&mut self, entry: Entry, rules: &EntryRules, walk: &Walk) -> Result<Taken, String> {
        let entry = sort_entry(entry, rules);
        let (is_stored, note) = match entry.sorted {
            Sorted::Row(row) => {
                let key = key_hash(&row.key);
                let is_repeat = !self.keys.insert(key) || walk.seen.contains(&key);
                self.rest.place(row, is_repeat);
                (true, None)
            }
            Sorted::Quarantined(entry) => {
                self.keys.insert(key_hash(&entry.key));
                self.rest.quarantined.push(entry);
                (true, None)
            }
            Sorted::Unreadable(_) => return Err("an entry is not JSON".to_owned()),
            Sorted::NoResource => {
                self.keys.extend(entry.identity);
                (false, Some("an entry without a resource".to_owned()))
            }
            Sorted::Outcome(outcome) => {
                let issues = outcome.issues.join(", ");
                if outcome.is_error {
                    return Err(format!("it holds an error outcome ({issues})"));
                }
                let note = Some(format!("outcome {issues}"));
                let Some(row) = outcome.row else {
                    // About the answer, and no part of the record.
                    return Ok(Taken { is_stored: false, note });
                };
                let key = key_hash(&row.key);
                let is_repeat = !self.keys.insert(key) || walk.seen.contains(&key);
                self.rest.place(row, is_repeat);
                (true, note)
            }
        };
        self.received += 1;
        Ok(Taken { is_stored, note })
    }
}

/// Entries that wait to be stored.
#[derive(Debug, Default)]
pub(super) struct PageRest {
    pub(super) rows: Vec<IncomingRow>,
    pub(super) quarantined: Vec<Quarantined>,
}

impl PageRest {
    /// Keeps only the one that wins of entries with one key.
    fn place(&mut self, row: Row, is_repeat: bool) {
        let is_same =
            |waiting: &&mut IncomingRow| waiting.row.table == row.table && waiting.row.key == row.key;
        match self.rows.iter_mut().filter(|_| is_repeat).find(is_same) {
            Some(earlier) if replaces(row.last_updated.as_deref(), earlier.row.last_updated.as_deref()) => {
                earlier.row = row;
            }
            Some(_) => {}
            None => self.rows.push(IncomingRow { row, is_repeat }),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.quarantined.is_empty()
    }
}

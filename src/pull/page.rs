//! The entries of one page, sorted into what is stored, what is quarantined and what is noted.

use std::collections::HashMap;

use url::Url;

use crate::healthex::client::ENTRY_BYTES_MAX;
use crate::plan::arrivals::Arrivals;
use crate::plan::completeness::{PageCounts, Walk};
use crate::plan::duplicate::replaces;
use crate::plan::paging::fhir_root;
use crate::plan::row::{Entry, EntryRules, KeyHash, Quarantined, Row, Sorted, SortedEntry, sort_entry};
use crate::plan::{Timestamp, parse_stamp};
use crate::warehouse::page::IncomingRow;

/// Deeper nesting is quarantined: nothing in FHIR comes near, and SQLite's JSON functions end at 1000.
const DEPTH_MAX: u32 = 120;

/// Of the entries of a page that are not JSON, and wait until its end, no more bytes are kept.
const UNREADABLE_BYTES_MAX: usize = 8 * 1024 * 1024;

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
    pub(super) counts: PageCounts,
    /// What of it is to be stored as rows.
    pub(super) arrivals: Arrivals,
    /// Entries that are not JSON, by their identity.
    pub(super) unreadable: HashMap<KeyHash, Quarantined>,
    unreadable_bytes: usize,
    /// The latest `meta.lastUpdated` of its resources.
    pub(super) newest: Option<Timestamp>,
    /// Known once the page has been read to its end.
    pub(super) next: Option<String>,
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
        let SortedEntry { sorted, identity, is_include } = sort_entry(entry, rules);
        let is_repeat = identity.is_some_and(|identity| self.count(identity, is_include, walk));
        let (is_stored, note) = match sorted {
            Sorted::Row(row) => {
                self.place(row, is_repeat);
                (true, None)
            }
            Sorted::Quarantined(entry) => {
                self.quarantine(entry);
                (true, None)
            }
            Sorted::Unreadable(mut entry) => {
                self.unreadable_bytes += entry.entry.len();
                if self.unreadable_bytes > UNREADABLE_BYTES_MAX {
                    entry.entry = Vec::new();
                }
                self.unreadable.extend(identity.map(|identity| (identity, entry)));
                (true, None)
            }
            Sorted::NoResource => (false, Some("an entry without a resource".to_owned())),
            Sorted::Outcome { outcome, is_stray, row } => {
                let issues = outcome.issues.join(", ");
                if outcome.is_error {
                    return Err(format!("it holds an error outcome ({issues})"));
                }
                self.counts.told_incomplete |= outcome.is_incomplete;
                self.counts.stray_outcomes += u64::from(is_stray);
                let is_stored = row.is_some();
                if let Some(row) = row {
                    self.place(row, is_repeat);
                }
                (is_stored, Some(format!("outcome {issues}")))
            }
        };
        Ok(Taken { is_stored, note })
    }

    /// Counts an entry that is no mere outcome. Returns whether the walk has met it before.
    fn count(&mut self, identity: KeyHash, is_include: bool, walk: &Walk) -> bool {
        self.counts.received += 1;
        if is_include {
            self.counts.received_includes += 1;
            self.counts.includes.insert(identity);
        }
        !self.counts.keys.insert(identity) || walk.seen.contains(&identity)
    }

    fn place(&mut self, row: Row, is_repeat: bool) {
        if !is_repeat {
            self.arrivals.add(row.identity());
        }
        self.newest = self.newest.max(row.last_updated.as_deref().and_then(parse_stamp));
        self.rest.place(row, is_repeat);
    }

    fn quarantine(&mut self, entry: Quarantined) {
        self.counts.hides_any |= entry.may_be_any();
        self.rest.quarantined.push(entry);
    }

    /// Quarantines what no attempt could read.
    pub(super) fn quarantine_unreadable(&mut self) {
        for (_, entry) in std::mem::take(&mut self.unreadable) {
            self.quarantine(entry);
        }
    }
}

/// Entries that wait to be stored.
#[derive(Debug, Default)]
pub(super) struct PageRest {
    pub(super) rows: Vec<IncomingRow>,
    pub(super) quarantined: Vec<Quarantined>,
}

impl PageRest {
    /// Keeps only the one that wins of entries that are one thing.
    fn place(&mut self, row: Row, is_repeat: bool) {
        let is_same = |waiting: &&mut IncomingRow| waiting.row.identity() == row.identity();
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

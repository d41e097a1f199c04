//! The patients of a world, as they truly are: what the server holds of each, and since when.

use crate::time::{TimeDelta, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

use super::records::Record;
use crate::sandbox::{InProcess, RecordEntry};

/// A patient.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact by itself")]
pub(super) struct Person {
    pub(super) id: String,
    /// Entries that the warehouse was not seen to hold yet, by their keys.
    pub(super) unseen: BTreeMap<String, Entry>,
    /// At the last look.
    pub(super) had_rows: bool,
    /// Every text that the server has ever held.
    ever: BTreeSet<String>,
    made: u32,
    /// By the true time: since when the consent stands, or does not.
    pub(super) has_consented: bool,
    pub(super) consent_since: Timestamp,
    /// What its consent record says, where a study's records are read.
    pub(super) record: Option<Record>,
    /// By an answer of the records it has ended, ever.
    pub(super) has_ended: bool,
    pub(super) is_in_file: bool,
    pub(super) was_in_file: bool,
    /// As the file says.
    pub(super) is_enabled: bool,
    /// Since when the file and the records list it as they do, enabled or not.
    pub(super) listed_since: Timestamp,
    /// Since when neither the file nor a record lists it.
    pub(super) unlisted_since: Option<Timestamp>,
    /// The last page that it was answered with has a `next` link.
    pub(super) walk_goes_on: bool,
    /// What the server has no more, and since when.
    pub(super) removed: BTreeMap<String, Timestamp>,
    /// Since when a sweep of it waits, when that was looked at last.
    pub(super) sweep_waits_since: Option<Timestamp>,
    /// An answer has lately lacked an entry, and no count has shown it.
    pub(super) forgotten_until: Timestamp,
    /// It was answered about with a refusal, ever.
    pub(super) was_refused: bool,
    /// At the last look.
    pub(super) was_held: bool,
    /// By a backup that was put back it was held as contradicted, and is still.
    pub(super) is_contradicted_by_backup: bool,
    pub(super) by_hand: ByHand,
    /// The types that the file asks for, if not all, and since when.
    pub(super) types: &'static [&'static str],
    pub(super) types_since: Timestamp,
    /// Since when the warehouse has known what its consent lets through.
    pub(super) scopes_known_since: Option<Timestamp>,
}

/// Whether an operator has purged a patient, so that it is not pulled until that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByHand {
    Untouched,
    /// Ordered since then, or pulled again since then by an order: done or not.
    Ordered(Timestamp),
    /// The operator was told so.
    Purged(Timestamp),
}

/// What the server holds of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) table: &'static str,
    pub(super) resource: String,
    /// By the server's clock.
    pub(super) changed_at: Timestamp,
}

/// Returns whether what is under a key is of one of these types; none are all.
pub(super) fn is_among(types: &[impl AsRef<str>], key: &str) -> bool {
    let kind = key.split('/').next().unwrap_or_default();
    types.is_empty() || types.iter().any(|one| one.as_ref() == kind)
}

/// Before the name of the patient in whatever is told of it, and in the addresses of its entries.
const MARKS: [&str; 2] = ["mark-of-", "/uuid-"];

/// Names its patient, so that a byte of it can be told in a file.
fn mark(person: &str) -> String {
    format!("{}{person}-", MARKS[0])
}

/// Returns the patients of whom there is anything in a file, as often as there is.
pub(super) fn persons_in(file: &[u8]) -> impl Iterator<Item = &str> {
    MARKS.into_iter().flat_map(move |mark| {
        memchr::memmem::find_iter(file, mark.as_bytes()).filter_map(move |at| {
            let rest = &file[at + mark.len()..];
            let name = &rest[..memchr::memchr(b'-', &rest[..rest.len().min(NAME_MAX)])?];
            std::str::from_utf8(name).ok()
        })
    })
}

/// No patient has a longer name.
const NAME_MAX: usize = 16;

impl Person {
    pub(super) fn new(id: String, now: Timestamp) -> Self {
        Self {
            id,
            unseen: BTreeMap::new(),
            had_rows: false,
            ever: BTreeSet::new(),
            made: 0,
            has_consented: true,
            consent_since: now,
            record: None,
            has_ended: false,
            is_in_file: true,
            was_in_file: false,
            is_enabled: true,
            listed_since: now,
            unlisted_since: None,
            walk_goes_on: false,
            removed: BTreeMap::new(),
            sweep_waits_since: None,
            forgotten_until: now,
            was_refused: false,
            was_held: false,
            is_contradicted_by_backup: false,
            by_hand: ByHand::Untouched,
            types: &[],
            types_since: now,
            scopes_known_since: None,
        }
    }

    /// Returns whether the file or a record lists it.
    pub(super) fn is_listed(&self, now: Timestamp) -> bool {
        let is_recorded = self.record.is_some_and(|record| record.is_there);
        self.is_in_file || is_recorded && !self.has_ended_by_record(now)
    }

    pub(super) fn is_disabled(&self) -> bool {
        self.is_in_file && !self.is_enabled
    }

    /// Returns whether its record says that there is no consent any more.
    pub(super) fn has_ended_by_record(&self, now: Timestamp) -> bool {
        self.record.is_some_and(|record| record.has_ended(self.has_consented, now))
    }

    /// Returns whether the roster asks for it, its record does not say no, and no operator has had it purged.
    pub(super) fn is_pulled(&self, now: Timestamp) -> bool {
        self.is_listed(now)
            && !self.is_disabled()
            && self.by_hand == ByHand::Untouched
            && !self.has_ended_by_record(now)
    }

    /// Returns since when consent and listing are as they are.
    pub(super) fn is_so_since(&self, now: Timestamp) -> Timestamp {
        let recorded = self.record.map(|record| record.says_since(now));
        self.consent_since.max(self.listed_since).max(recorded.unwrap_or(self.listed_since))
    }

    /// Changes who lists it, or how.
    pub(super) fn change_listing(
        &mut self,
        server: &InProcess,
        now: Timestamp,
        change: impl FnOnce(&mut Self),
    ) {
        let was_in_file = self.is_in_file;
        change(self);
        if self.is_in_file != was_in_file && !self.types.is_empty() {
            self.types_since = now;
            self.doubt_all(server);
        }
        self.listed_since = now;
    }

    /// Follows who lists it. Whom the file has listed, and who is listed again after so long as `forgotten_after`, is
    /// new, if an operator has purged it.
    pub(super) fn follow_listing(&mut self, now: Timestamp, forgotten_after: TimeDelta) {
        if !self.is_listed(now) {
            let since = self.is_so_since(now);
            self.unlisted_since.get_or_insert(since);
        } else if let Some(since) = self.unlisted_since.take()
            && now - since >= forgotten_after
            && self.was_in_file
            && self.by_hand != ByHand::Untouched
        {
            self.by_hand = ByHand::Ordered(now);
        }
        self.was_in_file |= self.is_in_file;
    }

    /// Returns whether the roster asks for the type of what is under a key.
    pub(super) fn asks_for(&self, key: &str) -> bool {
        // Who is on the roster by a record alone is asked for everything.
        !self.is_in_file || is_among(self.types, key)
    }

    /// Gives the server a Person, a Patient and some entries more.
    pub(super) fn settle_in(&mut self, server: &InProcess, entries: u32) {
        let id = self.id.clone();
        let mark = mark(&id);
        server.add_person(&id, Vec::new());
        self.put(
            server,
            &format!("Person/{id}"),
            &format!(r#"{{"resourceType":"Person","id":"{id}","name":[{{"text":"{mark}0"}}]}}"#),
        );
        self.put(
            server,
            &format!("Patient/uuid-{id}"),
            &format!(r#"{{"resourceType":"Patient","id":"pat-{id}","name":[{{"family":"{mark}1"}}]}}"#),
        );
        for _ in 0..entries {
            self.add(server, 40, TimeDelta::zero());
        }
    }

    /// Adds an entry that was made so long ago and is seen only now.
    pub(super) fn add(&mut self, server: &InProcess, size: u32, late: TimeDelta) {
        self.made += 1;
        let number = self.made;
        let kind = ["Observation", "Condition", "Procedure"][number as usize % 3];
        let text = self.text(kind, &format!("r-{}-{number}", self.id), size);
        self.put_late(server, &format!("{kind}/uuid-{}-{number}", self.id), &text, late);
    }

    pub(super) fn correct(&mut self, server: &InProcess, which: u32, size: u32) {
        self.made += 1;
        let Some((key, entry)) = self.some_entry(server, which) else { return };
        let (kind, id) = names(&entry.resource);
        let text = self.text(&kind, &id, size);
        self.put(server, &key, &text);
    }

    pub(super) fn remove(&mut self, server: &InProcess, which: u32) {
        if let Some((key, _)) = self.some_entry(server, which) {
            self.take_away(server, &key);
        }
    }

    /// Takes all entries away but the Person, the Patient and so many more.
    pub(super) fn empty(&mut self, server: &InProcess, keeps: u32) {
        let fixed = |entry: &Entry| ["person", "patient"].contains(&entry.table);
        let all = self.entries(server).into_iter().filter(|(_, entry)| !fixed(entry));
        for (key, _) in all.skip(keeps as usize) {
            self.take_away(server, &key);
        }
    }

    fn take_away(&mut self, server: &InProcess, key: &str) {
        server.remove(&self.id, key);
        self.unseen.remove(key);
        self.removed.insert(key.to_owned(), server.now());
    }

    /// Gives all entries but the Person new names.
    pub(super) fn recreate(&mut self, server: &InProcess) {
        self.made += 1;
        for (key, entry) in self.entries(server) {
            let (kind, _) = names(&entry.resource);
            if kind != "Person" {
                self.take_away(server, &key);
                let stem = key.split("-again-").next().unwrap_or_default();
                self.put(server, &format!("{stem}-again-{}", self.made), &entry.resource);
            }
        }
    }

    /// Takes it that the warehouse may hold nothing of what it held.
    pub(super) fn doubt_all(&mut self, server: &InProcess) {
        self.unseen = self.entries(server);
    }

    /// Takes it that nothing is known of what was swept, and when.
    pub(super) fn forget_sweeps(&mut self) {
        self.removed.clear();
        self.sweep_waits_since = None;
    }

    pub(super) fn was_ever(&self, resource: &str) -> bool {
        self.ever.contains(resource)
    }

    /// What the server holds now, by key.
    pub(super) fn entries(&self, server: &InProcess) -> BTreeMap<String, Entry> {
        let entries = server.entries(&self.id).into_iter();
        entries.map(|entry| (key_of(&entry), entry_of(entry))).collect()
    }

    /// What it holds now of the types that the roster asks for.
    pub(super) fn wanted(&self, server: &InProcess) -> BTreeMap<String, Entry> {
        let mut entries = self.entries(server);
        entries.retain(|key, _| self.asks_for(key));
        entries
    }

    fn some_entry(&self, server: &InProcess, which: u32) -> Option<(String, Entry)> {
        let mut entries = self.entries(server);
        entries.retain(|_, entry| !["person", "patient"].contains(&entry.table));
        let at = which as usize % entries.len().max(1);
        entries.into_iter().nth(at)
    }

    fn text(&self, kind: &str, id: &str, size: u32) -> String {
        let (mark, person) = (mark(&self.id), &self.id);
        let filling = "x".repeat(size as usize);
        let code = format!(r#"{{"text":"{mark}{} {filling}"}}"#, self.made);
        format!(
            r#"{{"resourceType":"{kind}","id":"{id}","status":"final","code":{code},"subject":{{"reference":"Patient/pat-{person}"}}}}"#
        )
    }

    fn put(&mut self, server: &InProcess, key: &str, resource: &str) {
        self.put_late(server, key, resource, TimeDelta::zero());
    }

    fn put_late(&mut self, server: &InProcess, key: &str, resource: &str, late: TimeDelta) {
        let changed_at = server.put_late(&self.id, key, resource, late);
        self.ever.insert(resource.to_owned());
        let (kind, _) = names(resource);
        let entry = Entry { table: table_of(&kind), resource: resource.to_owned(), changed_at };
        self.unseen.insert(key.to_owned(), entry);
    }
}

fn key_of(entry: &RecordEntry) -> String {
    let key = entry.full_url.split_once("/FHIR/R4/").map(|(_, key)| key);
    key.unwrap_or(&entry.full_url).to_owned()
}

fn entry_of(entry: RecordEntry) -> Entry {
    let (kind, _) = names(&entry.resource);
    Entry { table: table_of(&kind), resource: entry.resource, changed_at: entry.changed_at }
}

/// Returns the type and the id of a resource that was made here.
fn names(resource: &str) -> (String, String) {
    let value = |name: &str| {
        let (_, rest) = resource.split_once(&format!("\"{name}\":\"")).unwrap_or_default();
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    (value("resourceType"), value("id"))
}

/// Returns the table of a type.
pub(super) fn table_of(kind: &str) -> &'static str {
    match kind {
        "Person" => "person",
        "Patient" => "patient",
        "Observation" => "observation",
        "Condition" => "condition",
        _ => "procedure",
    }
}

//! The server's state while it runs: records, consents, tokens, clock, faults and the log.
//!
//! One lock around all of it, taken for the time it takes to look something up and never
//! across an `.await`. Deliberately absent: HTTP, and how an answer is written.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::consents::{PersonConsent, RecordedConsent};
use super::population::{Population, RecordEntry, ResourceFacts, StoredEntry};
use super::query::Parameters;
use super::script::FaultScript;
use super::text::uuid_of;
use super::tokens::Tokens;
use crate::time::{TimeDelta, Timestamp};

/// A request as the server saw it, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenRequest {
    /// 1 for the first request since the start; goes on after `clear_requests`.
    pub number: u64,
    pub method: String,
    /// The path as it was sent, not decoded.
    pub path: String,
    /// The query as it was sent; empty where there was none.
    pub query: String,
    /// The person asked for, decoded; `None` outside `$everything`.
    pub person: Option<String>,
    /// `None` where the connection was ended before a status was sent.
    pub status: Option<u16>,
    /// The token presented, or given out: 1 for the first one minted. `None` for an unknown one.
    pub token: Option<u32>,
    /// The name of the fault that was played.
    pub fault: Option<String>,
    /// By the server's clock.
    pub at: Timestamp,
}

/// The oldest requests are forgotten beyond this many.
const REQUESTS_KEPT_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct ServerState {
    persons: BTreeMap<String, PersonRecord>,
    pub(super) tokens: Tokens,
    pub(super) faults: FaultScript,
    pub(super) clock_offset: TimeDelta,
    /// In the machine's place.
    pub(super) clock: Option<fn() -> Timestamp>,
    requests: VecDeque<SeenRequest>,
    requests_seen: u64,
    record_numbers: u64,
}

const UUID_LENGTH: usize = 36;

/// The consent records of others come before.
const FIRST_RECORD: u64 = 20;

#[derive(Debug, Default)]
pub(super) struct PersonRecord {
    entries: Vec<Arc<StoredEntry>>,
    pub(super) consent: PersonConsent,
    /// Of the consent record.
    record_number: u64,
}

impl PersonRecord {
    /// Returns the entries that match, in the order they are served in.
    pub(super) fn matching<'a>(
        &'a self,
        parameters: &'a Parameters,
    ) -> impl Iterator<Item = &'a Arc<StoredEntry>> {
        self.entries.iter().filter(|stored| parameters.wants(stored))
    }
}

/// The state, shared by the handle and all connections.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedState(Arc<Mutex<ServerState>>);

impl SharedState {
    pub(super) fn lock(&self) -> MutexGuard<'_, ServerState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerState {
    pub(super) fn now(&self) -> Timestamp {
        (self.clock.unwrap_or(machine_clock)() + self.clock_offset).in_microseconds()
    }

    pub(super) fn populate(&mut self, population: Population) {
        for (id, entries) in population.into_persons() {
            self.add_person(id, entries);
        }
    }

    pub(super) fn add_person(&mut self, id: String, entries: Vec<RecordEntry>) {
        let entries = entries.into_iter().map(|entry| Arc::new(StoredEntry::new(entry))).collect();
        let record = self.new_person();
        self.persons.insert(id, PersonRecord { entries, ..record });
    }

    /// Makes a person without a record, who has consented.
    fn new_person(&mut self) -> PersonRecord {
        self.record_numbers += 1;
        PersonRecord {
            entries: Vec::new(),
            consent: PersonConsent::given(self.now()),
            record_number: FIRST_RECORD + self.record_numbers,
        }
    }

    /// Returns the persons with their consents and the numbers of their records.
    pub(super) fn consents(&self) -> impl Iterator<Item = RecordedConsent<'_>> {
        self.persons.iter().map(|(id, person)| (id.as_str(), person.record_number, &person.consent))
    }

    pub(super) fn consent(&self, id: &str) -> Option<&PersonConsent> {
        self.persons.get(id).map(|person| &person.consent)
    }

    /// Returns false where there is no such person.
    pub(super) fn set_consent(&mut self, id: &str, consent: PersonConsent) -> bool {
        let Some(person) = self.persons.get_mut(id) else { return false };
        person.consent = consent;
        true
    }

    pub(super) fn remove_person(&mut self, id: &str) -> bool {
        self.persons.remove(id).is_some()
    }

    pub(super) fn person_ids(&self) -> Vec<String> {
        self.persons.keys().cloned().collect()
    }

    pub(super) fn person(&self, id: &str) -> Option<&PersonRecord> {
        self.persons.get(id)
    }

    /// Returns an id as this server writes it: in a UUID the case of letters means nothing.
    pub(super) fn id_as_known(&self, id: &str) -> String {
        if self.persons.contains_key(id) {
            return id.to_owned();
        }
        let is_same = |known: &&String| id.len() == UUID_LENGTH && known.eq_ignore_ascii_case(id);
        self.persons.keys().find(is_same).map_or_else(|| id.to_owned(), String::clone)
    }

    /// Returns false where there is no such person.
    pub(super) fn set_withdrawn(&mut self, id: &str, withdrawn: bool) -> bool {
        match self.persons.get_mut(id) {
            Some(person) => {
                person.consent.permitted = !withdrawn;
                true
            }
            None => false,
        }
    }

    pub(super) fn entries(&self, id: &str, base: &str) -> Vec<RecordEntry> {
        let person = self.persons.get(id);
        let entries = person.into_iter().flat_map(|person| &person.entries);
        entries.map(|stored| stored.to_entry(base)).collect()
    }

    /// Adds an entry, or replaces the one it stands for; a person not known yet is made.
    ///
    /// Without an address it stands for the first entry of its type and id, and is a new one
    /// where there is none.
    pub(super) fn put(&mut self, id: &str, tail: Option<&str>, resource: &str, base: &str) -> String {
        let changed_at = self.now();
        let facts = ResourceFacts::of(resource);
        if !self.persons.contains_key(id) {
            self.add_person(id.to_owned(), Vec::new());
        }
        let entries = &mut self.persons.entry(id.to_owned()).or_default().entries;
        let place = match tail {
            Some(tail) => {
                let tail = without_base(tail, base);
                entries.iter().position(|stored| stored.tail == tail)
            }
            None if facts.id.is_empty() => None,
            None => entries.iter().position(|stored| stored.kind == facts.kind && stored.id == facts.id),
        };
        let full_url = match (tail, place) {
            (Some(tail), _) => without_base(tail, base).to_owned(),
            (None, Some(place)) => entries[place].tail.clone(),
            (None, None) => new_tail(id, &facts, resource),
        };
        let stored =
            Arc::new(StoredEntry::new(RecordEntry { full_url, resource: resource.to_owned(), changed_at }));
        let full_url = stored.full_url(base);
        match place {
            Some(place) => entries[place] = stored,
            None => entries.push(stored),
        }
        full_url
    }

    pub(super) fn remove(&mut self, id: &str, full_url: &str, base: &str) -> bool {
        let Some(person) = self.persons.get_mut(id) else {
            return false;
        };
        let tail = without_base(full_url, base);
        let before = person.entries.len();
        person.entries.retain(|stored| stored.tail != tail);
        person.entries.len() < before
    }

    /// Takes away an entry that is neither the Person nor a Patient, if there is one.
    #[cfg(test)]
    pub(super) fn take_last_entry(&mut self, id: &str) -> Option<Arc<StoredEntry>> {
        let person = self.persons.get_mut(id)?;
        if person.entries.len() < 4 { None } else { person.entries.pop() }
    }

    #[cfg(test)]
    pub(super) fn put_back(&mut self, id: &str, entry: Option<Arc<StoredEntry>>) {
        if let Some(person) = self.persons.get_mut(id) {
            person.entries.extend(entry);
        }
    }

    pub(super) fn log(&mut self, mut request: SeenRequest) {
        self.requests_seen += 1;
        request.number = self.requests_seen;
        if self.requests.len() == REQUESTS_KEPT_MAX {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    pub(super) fn requests(&self) -> Vec<SeenRequest> {
        self.requests.iter().cloned().collect()
    }

    pub(super) fn clear_requests(&mut self) {
        self.requests.clear();
    }
}

fn without_base<'a>(full_url: &'a str, base: &str) -> &'a str {
    let tail = full_url.strip_prefix(base).and_then(|path| path.strip_prefix("/FHIR/R4/"));
    tail.unwrap_or(full_url)
}

/// Makes an address: a Person is at its own id, anything else at a UUID.
fn new_tail(person_id: &str, facts: &ResourceFacts, resource: &str) -> String {
    if facts.kind == "Person" {
        return format!("Person/{}", facts.id);
    }
    let kind = if facts.kind.is_empty() { "Resource" } else { &facts.kind };
    // The content only where nothing else tells two entries apart.
    let name = if facts.id.is_empty() { resource } else { &facts.id };
    let uuid = uuid_of(format!("{person_id}/{kind}/{name}").as_bytes(), 0);
    format!("{kind}/{uuid}")
}

#[expect(clippy::disallowed_methods, reason = "the server's own clock; nothing of the client's reads it")]
fn machine_clock() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

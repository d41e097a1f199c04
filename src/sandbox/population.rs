//! The persons the server knows, and their records.
//!
//! Promise: a resource is kept as the text it was given as, byte for byte, and every entry has
//! a `changed_at` of the server's own, whatever the resource's `meta` says.
//!
//! Deliberately absent: checking what a resource says. A test may store nonsense.

use std::collections::HashMap;

use axum::body::Bytes;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use super::text::{array, object, quoted, uuid_of};
use crate::time::{TimeDelta, Timestamp};

/// The persons that a [`super::Sandbox`] starts with.
#[derive(Clone, Debug, Default)]
pub struct Population {
    persons: Vec<(String, Vec<RecordEntry>)>,
}

/// One entry of a person's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordEntry {
    /// Whole, or what follows `{base}/FHIR/R4/`; the server gives it out whole.
    pub full_url: String,
    /// The text of the resource.
    pub resource: String,
    /// What `_since` is compared with.
    pub changed_at: Timestamp,
}

impl RecordEntry {
    /// Makes an entry that changed last long before the server started.
    pub fn new(full_url: &str, resource: &str) -> Self {
        Self { full_url: full_url.to_owned(), resource: resource.to_owned(), changed_at: long_ago(full_url) }
    }
}

impl Population {
    pub fn empty() -> Self {
        Self::default()
    }

    pub fn person_ids(&self) -> Vec<String> {
        self.persons.iter().map(|(id, _)| id.clone()).collect()
    }

    pub fn entries(&self, person_id: &str) -> &[RecordEntry] {
        match self.persons.iter().find(|(id, _)| id == person_id) {
            Some((_, entries)) => entries,
            None => &[],
        }
    }

    /// Adds a person, or replaces the one of that id.
    pub fn add_person(&mut self, id: &str, entries: Vec<RecordEntry>) {
        self.persons.retain(|(other, _)| other != id);
        self.persons.push((id.to_owned(), entries));
    }

    /// Adds a person from the text of their resources, making each a `fullUrl` and, where
    /// there is none, a Person.
    pub(super) fn add_resources(&mut self, id: &str, resources: &[String], seed: u64) {
        let facts: Vec<ResourceFacts> = resources.iter().map(|text| ResourceFacts::of(text)).collect();
        let is_the_person = |facts: &ResourceFacts| facts.kind == "Person" && facts.id == id;
        let mut entries = Vec::with_capacity(resources.len() + 1);
        if !facts.iter().any(is_the_person) {
            let patients = facts.iter().filter(|facts| facts.kind == "Patient");
            let person = person_resource(id, patients.map(|patient| patient.id.as_str()));
            entries.push(RecordEntry::new(&format!("Person/{id}"), &person));
        }
        let mut times_seen: HashMap<&str, u64> = HashMap::new();
        for (text, facts) in resources.iter().zip(&facts) {
            if is_the_person(facts) {
                entries.push(RecordEntry::new(&format!("Person/{id}"), text));
                continue;
            }
            // Two entries of equal text are two entries, and need two addresses.
            let times = times_seen.entry(text).or_default();
            let uuid = uuid_of(text.as_bytes(), seed.wrapping_add(*times));
            *times += 1;
            entries.push(RecordEntry::new(&format!("{}/{uuid}", facts.kind), text));
        }
        self.add_person(id, entries);
    }

    pub(super) fn into_persons(self) -> impl Iterator<Item = (String, Vec<RecordEntry>)> {
        self.persons.into_iter()
    }
}

/// Writes a Person that links to these Patients.
fn person_resource<'a>(id: &str, patient_ids: impl Iterator<Item = &'a str>) -> String {
    let links: Vec<String> = patient_ids
        .filter(|patient_id| !patient_id.is_empty())
        .map(|patient_id| {
            let target = object(&[("reference", quoted(&format!("Patient/{patient_id}")))]);
            object(&[("target", target)])
        })
        .collect();
    object(&[
        ("resourceType", quoted("Person")),
        ("id", quoted(id)),
        ("active", "true".to_owned()),
        ("link", if links.is_empty() { String::new() } else { array(links) }),
    ])
}

/// Returns a moment of the second half of 2024, always the same for the same address. It is
/// before any `_since` that a client of today would send.
fn long_ago(full_url: &str) -> Timestamp {
    const BEGIN_UNIX_SECONDS: i64 = 1_719_792_000;
    const SPREAD_SECONDS: u64 = 180 * 24 * 60 * 60;
    let seconds = xxh3_64(full_url.as_bytes()) % SPREAD_SECONDS;
    Timestamp::UNIX_EPOCH + TimeDelta::seconds(BEGIN_UNIX_SECONDS + seconds.cast_signed())
}

/// The elements of a resource that the server itself reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct ResourceFacts {
    #[serde(rename = "resourceType")]
    pub(super) kind: String,
    pub(super) id: String,
}

impl ResourceFacts {
    /// Reads a resource. The facts are empty where the text is none: it is served all the same.
    pub(super) fn of(resource: &str) -> Self {
        serde_json::from_str(resource).unwrap_or_default()
    }
}

/// An entry as the running server holds it; shared with the answers that are being sent.
#[derive(Debug)]
pub(super) struct StoredEntry {
    /// As in [`RecordEntry::full_url`], without the base where it is our own.
    pub(super) tail: String,
    pub(super) kind: String,
    pub(super) id: String,
    pub(super) resource: Bytes,
    pub(super) changed_at: Timestamp,
}

impl StoredEntry {
    pub(super) fn new(entry: RecordEntry) -> Self {
        let facts = ResourceFacts::of(&entry.resource);
        Self {
            tail: entry.full_url,
            kind: facts.kind,
            id: facts.id,
            resource: Bytes::from(entry.resource),
            changed_at: entry.changed_at,
        }
    }

    pub(super) fn full_url(&self, base: &str) -> String {
        if self.tail.contains(':') { self.tail.clone() } else { format!("{base}/FHIR/R4/{}", self.tail) }
    }

    pub(super) fn to_entry(&self, base: &str) -> RecordEntry {
        RecordEntry {
            full_url: self.full_url(base),
            resource: String::from_utf8_lossy(&self.resource).into_owned(),
            changed_at: self.changed_at,
        }
    }
}

//! Makes the resources that are moved: a few real-looking ones again and again, each under an id
//! of its own.
//!
//! Promise: the same number gives the same resource, in whichever process it is made.

#[path = "../../tests/support/shared_folder.rs"]
mod shared_folder;

use std::path::PathBuf;

use healthex_sync::sandbox::Population;
use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use self::shared_folder::shared_folder;

/// Resources of one patient. Patients take turns with [`RECORDS`] records.
pub(crate) const RECORD: usize = 5_000;
/// Different records; further patients have the same resources again, as another person's.
pub(crate) const RECORDS: usize = 20;

pub(crate) struct Resource {
    /// `Observation/` and a UUID.
    pub(crate) tail: String,
    pub(crate) text: String,
}

pub(crate) struct Data {
    /// In words, for the table.
    pub(crate) origin: String,
    templates: Vec<Template>,
}

struct Template {
    kind: String,
    id: Option<String>,
    text: String,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "resourceType")]
    kind: String,
    id: Option<String>,
}

impl Data {
    /// Loads Synthea's patients from `data/patients` in `$HEALTHEX_SHARED` or in `../shared`; where there
    /// are none, makes the sandbox's.
    pub(crate) fn load() -> Self {
        match synthea() {
            Some(folder) => {
                let population = Population::from_folder(&folder).unwrap();
                Self::of(&population, format!("Synthea patients of {}", folder.display()))
            }
            None => Self::of(&Population::generated(12, 1), "the sandbox's made-up patients".to_owned()),
        }
    }

    fn of(population: &Population, origin: String) -> Self {
        let persons = population.person_ids();
        let entries = persons.iter().flat_map(|person| population.entries(person));
        let templates: Vec<Template> = entries
            .map(|entry| {
                let text = without_white_space(&entry.resource);
                let Header { kind, id } = serde_json::from_str(&text).unwrap();
                Template { kind, id, text }
            })
            .collect();
        Self { origin, templates }
    }

    /// Makes the resource of that number.
    pub(crate) fn resource(&self, number: usize) -> Resource {
        let Template { kind, id, text } = &self.templates[number % self.templates.len()];
        let text = match id {
            Some(id) => text.replacen(&quoted_id(id), &quoted_id(&uuid("id", number)), 1),
            None => text.clone(),
        };
        Resource { tail: format!("{kind}/{}", uuid("fullUrl", number)), text }
    }

    pub(crate) fn record(&self, record: usize) -> impl Iterator<Item = Resource> {
        (record * RECORD..(record + 1) * RECORD).map(|number| self.resource(number))
    }

    /// Returns their mean size, and of how many types they are.
    pub(crate) fn shape(&self) -> (usize, usize) {
        let bytes: usize = self.templates.iter().map(|template| template.text.len()).sum();
        let mut kinds: Vec<&str> = self.templates.iter().map(|template| template.kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        (bytes / self.templates.len(), kinds.len())
    }
}

fn synthea() -> Option<PathBuf> {
    Some(shared_folder().join("patients")).filter(|folder| folder.is_dir())
}

/// Removes the indentation, which servers do not send.
fn without_white_space(json: &str) -> String {
    let raw: &RawValue = serde_json::from_str(json).unwrap();
    let (mut in_string, mut escaped) = (false, false);
    let keep = |character: &char| {
        if in_string {
            in_string = escaped || *character != '"';
            escaped = !escaped && *character == '\\';
            return true;
        }
        in_string = *character == '"';
        !character.is_ascii_whitespace()
    };
    raw.get().chars().filter(keep).collect()
}

fn quoted_id(id: &str) -> String {
    format!("\"id\":\"{id}\"")
}

fn uuid(of: &str, number: usize) -> String {
    let hex = format!("{:032x}", xxh3_128(format!("{of} {number}").as_bytes()));
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

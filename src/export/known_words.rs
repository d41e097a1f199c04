//! The words by which a patient is known: names, addresses, telecoms and identifiers, of every person.
//!
//! A belt beside the braces: a display or a local code that is kept because of its form is still left out where one
//! of these stands in it. Kept as hashes, so that everybody's fit into memory.

use std::collections::{HashMap, HashSet};

use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

/// Words of each person.
#[derive(Debug, Default)]
pub(super) struct KnownWords {
    by_person: HashMap<String, HashSet<u64>>,
}

/// The types of resources that say who somebody is.
pub(super) const TYPES: [&str; 3] = ["Patient", "Person", "RelatedPerson"];

/// Shorter words, and shorter numbers, stand everywhere.
const LETTERS_MIN: usize = 3;
const DIGITS_MIN: usize = 5;

impl KnownWords {
    /// Takes the words of a resource that says who a person is.
    pub(super) fn learn(&mut self, person_id: &str, resource: &str) {
        let Ok(resource) = serde_json::from_str::<Value>(resource) else { return };
        let words = self.by_person.entry(person_id.to_owned()).or_default();
        for element in ["name", "telecom", "address", "identifier", "contact"] {
            collect(&resource[element], words);
        }
    }

    /// Returns whether a word of this person stands in a text.
    pub(super) fn stand_in(&self, person_id: &str, text: &str) -> bool {
        let Some(known) = self.by_person.get(person_id) else { return false };
        words(text).any(|word| known.contains(&word))
    }
}

fn collect(value: &Value, found: &mut HashSet<u64>) {
    match value {
        Value::String(text) => found.extend(words(text)),
        Value::Array(elements) => elements.iter().for_each(|element| collect(element, found)),
        Value::Object(members) => {
            for (name, member) in members {
                // The words of code lists are nobody's: `use`, `system`, what kind of identifier it is.
                if !["use", "system", "type", "relationship", "period", "gender"].contains(&name.as_str()) {
                    collect(member, found);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn words(text: &str) -> impl Iterator<Item = u64> {
    let words = text.split(|letter: char| !letter.is_alphanumeric());
    let counts = |word: &&str| {
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        word.chars().count() >= if is_number { DIGITS_MIN } else { LETTERS_MIN }
    };
    words.filter(counts).map(|word| xxh3_64(word.to_lowercase().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::KnownWords;

    #[test]
    fn a_text_with_a_name_in_it_is_recognised() {
        let mut known = KnownWords::default();
        let patient = r#"{"name":[{"use":"official","family":"O'Brien-Šmid","given":["Al","Mary"]}],
            "identifier":[{"system":"urn:oid:1.2","value":"MRN-0012345"}],"telecom":[{"system":"phone","value":"555 718"}]}"#;
        known.learn("anna", patient);
        for text in ["for BRIEN", "šmid", "mary's pulse", "id 0012345", "MRN"] {
            assert!(known.stand_in("anna", text), "{text}");
        }
        for text in ["Al", "718-7", "official", "phone", "Heart rate", ""] {
            assert!(!known.stand_in("anna", text), "{text}");
        }
        assert!(!known.stand_in("ben", "mary"));
    }
}

//! Generates made-up patients from a seed, shaped like US Core records.
//!
//! Promise: the same seed and number give the same bytes, and more patients leave the first
//! ones as they are. 150 to 2,000 resources a patient, most of them near the low end; some
//! with `meta`, most without; ids as source systems write them, up to 130 characters; a record
//! of two source systems has one id that means two things.
//!
//! Deliberately absent: the clock (all dates lie before [`record::LAST_DAY`]), real people,
//! and medicine: the values are plausible, the stories are not.

mod clinical;
mod codes;
mod measured;
mod people;
mod record;
mod seeded_rng;

use super::population::Population;
use record::Record;
use seeded_rng::SeededRng;

impl Population {
    /// Generates `sandbox-0001`, `sandbox-0002`, … from a seed.
    pub fn generated(patients: usize, seed: u64) -> Self {
        let mut population = Self::empty();
        for number in 1..=patients {
            let id = format!("sandbox-{number:04}");
            let resources = resources_of(&id, number, seed);
            population.add_resources(&id, &resources, seed);
        }
        population
    }
}

/// The last encounter may exceed the number by its own resources.
const RESOURCES_MIN: u32 = 150;
const RESOURCES_SPREAD: u32 = 1_800;

fn resources_of(person_id: &str, number: usize, seed: u64) -> Vec<String> {
    let mut rng = SeededRng::for_person(seed, number);
    let size = rng.mostly_low(RESOURCES_SPREAD) + RESOURCES_MIN;
    let mut record = Record::new(rng, seed);
    people::add_identity(&mut record, person_id);
    people::add_care_givers(&mut record);
    people::add_coverages(&mut record);
    clinical::add_history(&mut record);
    if 1 < record.sources.len() {
        measured::add_twins(&mut record);
    }
    while record.resources.len() < size as usize {
        clinical::add_encounter(&mut record);
    }
    record.resources
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::super::population::ResourceFacts;
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let (three, two) = (Population::generated(3, 7), Population::generated(2, 7));
        for id in two.person_ids() {
            assert_eq!(three.entries(&id), two.entries(&id));
        }
        let other = Population::generated(2, 8);
        assert_ne!(two.entries("sandbox-0001"), other.entries("sandbox-0001"));
    }

    #[test]
    fn a_record_has_what_it_promises() {
        let population = Population::generated(12, 1);
        let mut by_type: HashMap<String, usize> = HashMap::new();
        let (mut all, mut dated, mut long_ids) = (0, 0, 0);
        for person_id in population.person_ids() {
            let entries = population.entries(&person_id);
            assert!((150..=2_000).contains(&entries.len()), "{}", entries.len());
            let addresses: HashSet<&str> = entries.iter().map(|entry| entry.full_url.as_str()).collect();
            assert_eq!(addresses.len(), entries.len());
            for entry in entries {
                let value: serde_json::Value = serde_json::from_str(&entry.resource).unwrap();
                assert!(value["resourceType"].is_string());
                let facts = ResourceFacts::of(&entry.resource);
                let agrees = entry.full_url == format!("{}/{}", facts.kind, facts.id);
                assert_eq!(agrees, facts.kind == "Person");
                dated += usize::from(entry.resource.contains("\"lastUpdated\""));
                long_ids += usize::from(facts.id.len() == 130);
                all += 1;
                *by_type.entry(facts.kind).or_default() += 1;
            }
        }
        assert!((3_500..7_000).contains(&all), "{all}");
        assert!(all / 10 < dated && dated < all / 2, "{dated} of {all}");
        assert!(all / 100 < long_ids, "{long_ids} of {all}");
        for kind in [
            "Person",
            "Patient",
            "Encounter",
            "Condition",
            "Observation",
            "MedicationRequest",
            "Immunization",
            "AllergyIntolerance",
            "Procedure",
            "DiagnosticReport",
            "DocumentReference",
            "Coverage",
            "Practitioner",
            "Organization",
        ] {
            assert!(by_type.contains_key(kind), "{kind}");
        }
    }
}

//! Real input: the patients and the examples of every R4 type in the shared data.

use std::collections::BTreeSet;
use std::fs;

use healthex_sync::sandbox::Population;

use crate::support::shared;
use crate::world::{World, resource_tables};

#[track_caller]
fn arrives_whole(population: Population) -> World {
    let ids = population.person_ids();
    let world = World::serving(population);
    world.run(["sync"]).exits(0);
    for id in &ids {
        world.assert_equals_sandbox(id);
    }
    assert_eq!(world.count("SELECT count(*) FROM quarantine"), 0);
    let again = world.run(["sync", "--full", "--json"]).exits(0);
    for name in ["inserted", "updated", "deleted"] {
        assert_eq!(again.number(&format!("/resources/{name}")), 0, "{name}");
    }
    world.assert_sound();
    world
}

#[test]
fn whole_patients_arrive_as_they_were_sent() {
    let Some(folder) = shared("patients") else {
        return;
    };
    let population = Population::from_folder(&folder).unwrap();
    assert!(population.person_ids().len() > 5);
    arrives_whole(population);
}

#[test]
fn every_r4_type_has_its_table() {
    let Some(examples) = shared("r4-examples.ndjson") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    fs::copy(&examples, folder.path().join("examples.ndjson")).unwrap();
    let world = arrives_whole(Population::from_folder(folder.path()).unwrap());

    let Some(list) = shared("r4-resource-types.txt") else {
        return;
    };
    let listed = fs::read_to_string(list).unwrap();
    let tables: BTreeSet<String> = resource_tables(&world.open()).into_iter().collect();
    let texts = fs::read_to_string(&examples).unwrap();
    for name in listed.split_whitespace() {
        let has_example = texts.contains(&format!("\"resourceType\":\"{name}\""));
        let table = snake_case(name);
        assert!(!has_example || tables.contains(&table), "{table} is missing");
    }
    assert!(tables.len() > 100, "{}", tables.len());
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

#[test]
fn generated_patients_arrive_as_they_were_sent() {
    arrives_whole(Population::generated(6, 42));
}

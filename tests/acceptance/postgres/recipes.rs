//! The queries of `docs/queries/` over a warehouse in PostgreSQL, asked as the analyst: the rows that SQLite gives of the
//! same records.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::database::Database;
use crate::analysts::quirks::{self, quirks};
use crate::analysts::recipe_cases::world_of_cases;
use crate::analysts::recipes::recipes;
use crate::world::{World, project};

/// Columns that tell when the warehouse was written to, which was not at one time.
const OWN_TIMES: [(&str, &[usize]); 2] = [("changed_since", &[1]), ("corrected_results", &[8, 9])];

/// Spells a cell as both engines can: a number less what follows its last digit that counts, a time in UTC.
fn spelt(cell: &str) -> String {
    if let Ok(number) = cell.parse::<f64>() {
        return format!("{number:.9}");
    }
    match cell.strip_suffix("+00") {
        Some(time) => time.split('.').next().unwrap_or(time).to_owned(),
        None => cell.to_owned(),
    }
}

fn rows(name: &str, found: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let own_times = OWN_TIMES.iter().find(|(recipe, _)| *recipe == name).map_or(&[][..], |(_, at)| at);
    let row = |row: Vec<String>| {
        let cells = row.iter().enumerate().filter(|(at, _)| !own_times.contains(at));
        cells.map(|(_, cell)| spelt(cell)).collect()
    };
    // Where nothing is told, one engine sorts it first and the other last.
    let mut rows: Vec<Vec<String>> = found.into_iter().map(row).collect();
    rows.sort();
    rows
}

/// Asks both engines every recipe. Returns how many rows there were in all.
fn ask_both(world: &World, database: &Database) -> usize {
    let mut all = 0;
    for recipe in recipes() {
        let name = recipe.file_stem().unwrap().to_str().unwrap();
        let own = project(&format!("docs/queries/postgres/{name}.sql"));
        let text = |path: &Path| fs::read_to_string(path).unwrap();
        let expected = rows(name, world.table(&text(&recipe)));
        let asked = text(if own.exists() { &own } else { &recipe });
        let found = database.rows_as("healthex_analyst", &asked);
        let found = found.unwrap_or_else(|refused| panic!("{name}: {refused}"));
        let found = found.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect());
        assert_eq!(rows(name, found.collect()), expected, "{name}");
        all += expected.len();
    }
    all
}

fn pull_into_both(world: &World, database: &Database) {
    world.run(["sync"]).exits(0);
    database.run(world, &["sync"]).exits(0);
}

#[test]
fn each_recipe_gives_an_analyst_what_sqlite_gives() {
    let mut quirks = quirks();
    // PostgreSQL cannot read it, and the program puts it into quarantine there.
    quirks.retain(|quirk| !quirk.name.starts_with("half a "));
    for (world, least) in [(World::generated(3), 500), (world_of_cases(), 60), (quirks::world(&quirks), 20)] {
        let Some(database) = Database::migrated(&world) else { return };
        pull_into_both(&world, &database);
        let rows = ask_both(&world, &database);
        assert!(rows >= least, "{rows}");
    }
}

#[test]
fn what_a_lab_said_before_it_was_corrected_is_told_in_postgresql_too() {
    let world = World::with_patients(["anna"]).set("warehouse.history", "true");
    let Some(database) = Database::migrated(&world) else { return };
    let result = |value: &serde_json::Value| {
        let result = json!({"resourceType": "Observation", "id": "a", "status": "final", "valueQuantity":
            {"value": value, "unit": "g/dL"}, "effectiveDateTime": "2024-03-01"});
        world.sandbox.put("anna", Some("Observation/a"), &result.to_string());
    };
    for value in [json!(13.25), json!("<5"), json!(1e3)] {
        result(&value);
        pull_into_both(&world, &database);
    }
    let text = fs::read_to_string(project("docs/queries/postgres/corrected_results.sql")).unwrap();
    let found = database.rows_as("healthex_analyst", &text).unwrap();
    let told: Vec<_> = found.iter().map(|row| (row[4].as_deref(), row[11].as_deref())).collect();
    assert_eq!(told, [(Some("13.25"), Some("1000.0")), (None, Some("1000.0"))]);
}

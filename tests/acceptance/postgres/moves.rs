//! `migrate --from FILE`: a file's rows, checkpoints and log of purges on a server.

use serde_json::{Value, json};

use super::database::Database;
use crate::world::{Ran, World};

/// A file with a little of everything: several pulls, a sweep, former versions, quarantine, and somebody purged.
fn world() -> World {
    let world = World::generated(3).set("warehouse.history", "true");
    world.run(["sync"]).exits(0);
    let person = &world.sandbox.person_ids()[0];
    let entries = world.sandbox.entries(person);
    let observations: Vec<_> =
        entries.iter().filter(|entry| entry.resource.contains(r#""resourceType":"Observation""#)).collect();
    let other = observations[0].resource.replace("\"final\"", "\"amended\"");
    world.sandbox.put(person, Some(&observations[0].full_url), &other);
    assert!(world.sandbox.remove(person, &observations[1].full_url));
    world.sandbox.put(person, None, r#"{"resourceType": "Nonsense", "id": "n"}"#);
    let cut =
        r#"{"resourceType": "Observation", "id": "cut", "status": "final", "valueString": "ok \ud83d"}"#;
    world.sandbox.put(person, None, cut);
    world.run(["sync", "--full"]).exits(0);
    world.run(["purge", "demo-03", "--yes"]).exits(0);
    world
}

fn migrate(world: &World, database: &Database) -> Ran {
    let file = world.warehouse().display().to_string();
    database.migrate(world, &["--from", &file])
}

/// The columns that every table of resources has, by table.
fn resources(found: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let mut found = found;
    found.sort();
    found
}

#[test]
fn a_file_that_was_moved_goes_on_where_it_was() {
    let world = world();
    let Some(database) = Database::empty() else { return };
    let moved = migrate(&world, &database).exits(0);
    moved.says("patients 3, purges 1").says("PostgreSQL cannot read: 1").says("still has everything");
    for table in ["observation", "condition", "patient", "history"] {
        let select = |own: &str| {
            format!(
                "SELECT person_id, key, coalesce(id, ''), {own} FROM {table}
                  WHERE resource NOT LIKE '%ud83d%' AND person_id IS NOT NULL"
            )
        };
        let expected = resources(world.table(&select("resource")));
        let own = select("resource::text").replace("resource NOT LIKE", "resource::text NOT LIKE");
        let found = database.rows_as("healthex_analyst", &own).unwrap();
        let found = found.into_iter().map(|row| row.into_iter().map(Option::unwrap_or_default).collect());
        assert_eq!(resources(found.collect()), expected, "{table}");
        assert!(!expected.is_empty(), "{table}");
    }
    let rows = |sql: &str| world.table(sql)[0][0].parse::<i64>().unwrap();
    for table in
        ["observations", "persons", "codings", "pull", "purge_log", "checkpoint", "cycle", "quarantine"]
    {
        let count = format!("SELECT count(*) FROM {table}");
        let found = database.count(&count.replace("FROM ", "FROM healthex."));
        let less = i64::from(table == "observations");
        let more = i64::from(table == "quarantine");
        assert_eq!(found, rows(&count) - less + more, "{table}");
    }
    let told = |ran: &Ran| -> Value {
        let mut told: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|_| panic!("{}", ran.stdout));
        for patient in told["patients"].as_array_mut().unwrap() {
            patient["resources"] = json!(null);
        }
        told["patients"].clone()
    };
    assert_eq!(told(&database.run(&world, &["status", "--json"])), told(&world.run(["status", "--json"])));
    database.run(&world, &["audit"]).exits(0).says("operator");
    // Watermarks came along: nothing is new, and the next rows are numbered on.
    let went_on = database.run(&world, &["sync", "--json"]).exits(0);
    let went_on: Value = serde_json::from_str(&went_on.stdout).unwrap();
    assert_eq!(went_on["resources"]["inserted"], 0, "{went_on}");
    assert!(went_on["resources"]["unchanged"].as_u64().unwrap() < 100, "{went_on}");
    assert_eq!(database.count("SELECT count(*) FROM healthex.about WHERE name LIKE 'moving%'"), 0);
    migrate(&world, &database).exits(5).says("has patients of its own");
}

#[test]
fn a_move_that_was_cut_off_goes_on_and_lets_nobody_pull_meanwhile() {
    let world = world();
    let Some(database) = Database::migrated(&world) else { return };
    database.exec(
        "CREATE FUNCTION healthex.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON healthex.practitioner EXECUTE FUNCTION healthex.refuse()",
    );
    let failed = migrate(&world, &database);
    assert_ne!(failed.code, 0);
    assert!(database.count("SELECT count(*) FROM healthex.observation") > 100);
    database.run(&world, &["sync"]).exits(5).says("a move from").says("migrate --from FILE");
    database.exec("DROP TRIGGER refuse ON healthex.practitioner");
    migrate(&world, &database).exits(0).says("patients 3");
    let count = "SELECT count(*) FROM observation WHERE resource NOT LIKE '%ud83d%'";
    let expected: i64 = world.table(count)[0][0].parse().unwrap();
    assert_eq!(database.count("SELECT count(*) FROM healthex.observation"), expected);
    database.run(&world, &["sync"]).exits(0);
}

#[test]
fn a_file_that_has_changed_or_rows_that_are_others_end_a_move() {
    let world = world();
    let Some(database) = Database::migrated(&world) else { return };
    database.exec(
        "CREATE FUNCTION healthex.alter() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.resource := replace(NEW.resource::text, '{', '{ ')::json; RETURN NEW; END $$;
         CREATE TRIGGER alter BEFORE INSERT ON healthex.condition FOR EACH ROW EXECUTE FUNCTION healthex.alter()",
    );
    migrate(&world, &database).exits(5).says("condition has").says("nothing pulls into it");
    database.run(&world, &["sync"]).exits(5).says("is not finished");
    world.run(["sync"]).exits(0);
    migrate(&world, &database).exits(5).says("it has changed since").says("DROP SCHEMA healthex CASCADE");
}

#[test]
fn a_file_that_still_has_bytes_of_the_purged_is_not_moved() {
    let world = World::generated(1);
    let Some(database) = Database::empty() else { return };
    world.run(["sync"]).exits(0);
    world.run(["purge", "demo-01", "--yes"]).exits(0);
    world.exec("UPDATE purge_log SET scrubbed_at = NULL, scrubbed_by = NULL");
    migrate(&world, &database).exits(5).says("purges still have bytes in it");
    assert_eq!(database.count("SELECT count(*) FROM healthex.checkpoint"), 0);
}

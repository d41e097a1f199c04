//! `verify` over a warehouse on a server: it is sound after all that a pull does, and each damage is named.

use super::database::Database;
use crate::world::{World, observation, observation_tail, record};

/// Made-up patients with former versions, rows that vanished, a purge, and one who withdrew.
fn world() -> Option<(World, Database)> {
    let world = World::generated(4)
        .set("warehouse.history", "true")
        .set("views.sets", r#"["clinical", "surveys", "care", "claims", "texts"]"#);
    let database = Database::of(&world)?;
    let ran = database.run_as("healthex_owner", &world, &["views", "apply"]);
    ran.exits(0);
    let [second, third] = [0, 1].map(|at| world.sandbox.person_ids()[at].clone());
    world.sandbox.add_person("anna", record("anna", 30));
    let all = world.sandbox.person_ids();
    world.list(&all.iter().map(String::as_str).collect::<Vec<_>>());
    world.run(["sync"]).exits(0);
    world.sandbox.put("anna", Some(&observation_tail("anna", 1)), &observation("anna", 1, "another"));
    let gone = world.sandbox.entries("anna").pop().unwrap();
    world.sandbox.remove("anna", &gone.full_url);
    world.run(["sync", "--full"]).exits(0);
    world.run(["purge", &second, "--yes"]).exits(0);
    world.sandbox.withdraw(&third);
    world.run(["sync"]).exits(0).says("1 revoked");
    Some((world, database))
}

/// What is done to a warehouse, and what `verify` is to say of it; together what does not touch the same tables.
fn damages() -> [Vec<(String, &'static str)>; 3] {
    let one = "ctid = (SELECT min(ctid) FROM";
    [
        vec![
        (
            format!("UPDATE observation SET resource = replace(resource::text, 'final', 'fimal')::json WHERE {one} observation)"),
            "content_hash does not match resource",
        ),
        (format!("UPDATE condition SET patient = 'x' WHERE {one} condition)"), "columns do not match resource"),
        (
            format!("UPDATE history SET resource = replace(resource::text, 'Observation', 'Obserwation')::json WHERE {one} history)"),
            "resource is none of this table",
        ),
        ("UPDATE persons SET sex = 'x'".to_owned(), "persons does not hold"),
        (
            "UPDATE live_resources SET resources = resources + 1".to_owned(),
            "is not the number of its rows",
        ),
        (
            "INSERT INTO walk SELECT person_id, 1, 1, 0, 0, NULL, false, 0, 0, false, 0, false FROM checkpoint WHERE state = 'active'"
                .to_owned(),
            "marks of a pull that is not under way",
        ),
        ],
        vec![
        (format!("DELETE FROM observations WHERE {one} observations)"), "observations does not hold"),
        (format!("UPDATE conditions SET text = 'x' WHERE {one} conditions)"), "conditions does not hold"),
        (
            "INSERT INTO codings SELECT * FROM codings WHERE resource_type = 'Observation' LIMIT 1".to_owned(),
            "codings does not hold",
        ),
        (
            "UPDATE medication_requests SET display = 'x' WHERE medication_id IS NOT NULL".to_owned(),
            "medication_requests does not hold",
        ),
        (
            "INSERT INTO live_resources SELECT person_id, 1 FROM checkpoint WHERE state = 'revoked'".to_owned(),
            "whose consent is withdrawn",
        ),
        (
            "UPDATE checkpoint SET pull_pages = 3 WHERE state = 'active'".to_owned(),
            "pull columns without a pull under way",
        ),
        ],
        vec![
        (
            format!("UPDATE codings SET resource_type = 'Basic' WHERE {one} codings)"),
            "codings does not hold",
        ),
        (
            "UPDATE observation SET person_id = 'nobody' WHERE key = (SELECT min(key) FROM observation)".to_owned(),
            "observation holds rows of nobody, who has no checkpoint",
        ),
        ],
    ]
}

#[test]
fn a_warehouse_is_sound_after_all_that_a_pull_does_and_each_damage_is_named() {
    let Some((world, database)) = world() else { return };
    let sound = world.run(["verify", "--deep"]).exits(0);
    assert!(sound.stdout.contains("sound: ") && sound.stdout.contains("block checksums"), "{sound}");
    let resources = database.count("SELECT sum(resources) FROM healthex.live_resources");
    let rows: i64 = world.run(["verify", "--json"]).exits(0).json()["resources"].as_i64().unwrap();
    assert!(rows > resources && resources > 100, "{rows} rows, {resources} resources");
    assert!(database.count("SELECT count(*) FROM healthex.history") > 0);

    for together in damages() {
        let damaged = database.copied();
        for (damage, _) in &together {
            damaged.exec(&format!("SET search_path = healthex; {damage}"));
        }
        let ran = damaged.run(&world, &["verify"]);
        for (damage, said) in together {
            assert!(ran.code == 1 && ran.stdout.contains(said), "{damage}: {ran}");
        }
    }
    world.run(["verify"]).exits(0);
}

//! The analysts' tables of a warehouse in PostgreSQL through the program: made by who owns them, kept up by who pulls,
//! run over what is stored.

use serde_json::Value;

use super::database::Database;
use crate::world::World;

const OWN: &str = r#"{"resource": "Condition", "name": "own_conditions", "select": [{"column": [
    {"name": "id", "path": "id"}, {"name": "text", "path": "code.text"},
    {"name": "is_active", "path": "clinicalStatus.coding.code.first() = 'active'"}]}]}"#;

#[test]
fn whose_tables_are_others_are_made_by_the_owner_before_anybody_is_pulled() {
    let world = World::generated(1);
    let Some(database) = Database::migrated(&world) else { return };
    database.run(&world, &["sync"]).exits(0);
    let conditions = database.count("SELECT count(*) FROM healthex.conditions");
    assert!(conditions > 0);
    world.write("own/own.json", OWN);
    let world = world.set("views.folder", r#""own""#);
    database.run(&world, &["sync"]).says("own_conditions").says("run `healthex-sync views apply`");
    database.run(&world, &["views", "apply"]).says("healthex_worker").says("as the role that owns them");
    assert_eq!(database.count("SELECT count(*) FROM pg_tables WHERE tablename LIKE '\\_new\\_%'"), 0);
    database.run_as("healthex_owner", &world, &["views", "apply"]).exits(0);
    let own =
        "SELECT count(*), count(*) FILTER (WHERE is_active), bool_and(is_active IS NULL) FROM own_conditions";
    let told = database.rows_as("healthex_analyst", own).unwrap();
    assert_eq!(told[0][0].as_deref(), Some(conditions.to_string().as_str()), "{told:?}");
    assert_eq!(told[0][2].as_deref(), Some("f"));
    let id = "a-new-condition";
    let new = format!(r#"{{"resourceType": "Condition", "id": "{id}", "code": {{"text": "sore"}}}}"#);
    world.sandbox.put(&world.sandbox.person_ids()[0], None, &new);
    database.run(&world, &["sync"]).exits(0);
    let new = format!("SELECT text FROM own_conditions WHERE id = '{id}'");
    assert_eq!(database.rows_as("healthex_analyst", &new).unwrap(), [[Some("sore".to_owned())]]);
}

#[test]
fn a_view_that_is_stored_nowhere_gives_what_it_gives_over_a_file() {
    let world = World::generated(2);
    let Some(database) = Database::migrated(&world) else { return };
    world.write("own.json", OWN);
    world.run(["sync"]).exits(0);
    database.run(&world, &["sync"]).exits(0);
    let file = world.path("own.json").display().to_string();
    for args in [&["views", "run", &file][..], &["views", "run", "--json", &file]] {
        let expected = world.run(args).exits(0);
        let found = database.run(&world, args).exits(0);
        let sorted = |text: &str| {
            let mut lines: Vec<String> =
                text.lines().map(|line| line.trim_end_matches(',').to_owned()).collect();
            lines.sort();
            lines
        };
        assert!(expected.stdout.lines().count() > 5);
        assert_eq!(sorted(&found.stdout), sorted(&expected.stdout));
    }
    let listed = database.run(&world, &["views", "--json"]).exits(0);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert!(listed.to_string().contains("\"observations\""), "{listed}");
}

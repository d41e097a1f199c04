//! After the same pulls, with the same faults on the way, both engines hold the same.

use std::collections::BTreeMap;

use super::database::Database;
use super::drift::{Engine, Tables, is_moment, of_postgres, of_sqlite};
use crate::world::{World, observation, observation_tail};

/// Rows of every table as text, in one order. Of a moment only whether there is one: no two runs are at one time.
type Dump = BTreeMap<String, Vec<Vec<Option<String>>>>;

fn query(engine: Engine, table: &str, columns: &[(String, String)]) -> String {
    let cells = columns.iter().map(|(name, kind)| match (engine, kind.as_str()) {
        _ if is_moment(name) => format!("CASE WHEN \"{name}\" IS NULL THEN NULL ELSE 'a moment' END"),
        (Engine::Sqlite, "bytea") => format!("lower(hex(\"{name}\"))"),
        (Engine::Postgres, "bytea") => format!("encode(\"{name}\", 'hex')"),
        (Engine::Postgres, "boolean") => format!("\"{name}\"::int"),
        _ => format!("\"{name}\""),
    });
    let schema = if engine == Engine::Postgres { "healthex." } else { "" };
    format!("SELECT {} FROM {schema}\"{table}\"", cells.collect::<Vec<_>>().join(", "))
}

fn dump(engine: Engine, tables: &Tables, ask: impl Fn(&str) -> Vec<Vec<Option<String>>>) -> Dump {
    // What the file's purposes alone are: how far a table is built.
    let left_out = ["analyst_table", "analyst_build", "analyst_column", "about"];
    let wanted = tables.iter().filter(|(table, _)| !left_out.contains(&table.as_str()));
    let dumped = wanted.map(|(table, columns)| {
        // Ids are given in the order of commits, which is chance where patients are pulled side by side.
        let columns = columns.iter().filter(|(name, _)| *name != "id" || table != "pull");
        let columns: Vec<_> = columns.map(|(name, column)| (name.clone(), column.kind.clone())).collect();
        let mut rows = ask(&query(engine, table, &columns));
        rows.sort();
        (table.clone(), rows)
    });
    dumped.filter(|(_, rows): &(String, Vec<_>)| !rows.is_empty()).collect()
}

#[track_caller]
fn assert_equal(world: &World, database: &Database) {
    let file = world.path("data/warehouse.db");
    assert!(file.exists());
    let sqlite = of_sqlite(world);
    let postgres = of_postgres(database);
    let of_file = dump(Engine::Sqlite, &sqlite, |sql| world.cells(sql));
    let of_server = dump(Engine::Postgres, &postgres, |sql| database.rows(sql));
    let tables: Vec<&String> = of_file.keys().chain(of_server.keys()).collect();
    let mut differ = Vec::new();
    for table in tables {
        let none = Vec::new();
        let (one, other) = (of_file.get(table).unwrap_or(&none), of_server.get(table).unwrap_or(&none));
        for (who, these, those) in [("SQLite", one, other), ("PostgreSQL", other, one)] {
            let only = these.iter().filter(|row| !those.contains(row)).take(2);
            differ.extend(only.map(|row| format!("{table}: only {who} has {row:?}")));
        }
        if one.len() != other.len() {
            differ.push(format!("{table}: {} rows in SQLite, {} in PostgreSQL", one.len(), other.len()));
        }
    }
    differ.dedup();
    assert!(differ.is_empty(), "{} differ\n{}", differ.len(), differ.join("\n"));
}

/// Runs it once for each engine, with the same fault.
fn both(world: &World, database: &Database, args: &[&str], fault: Option<&str>) {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        world.sandbox.clear_script();
        if let Some(fault) = fault {
            world.fault(fault);
        }
        match engine {
            Engine::Sqlite => {
                world.remove_setting("warehouse.url");
                world.change_setting("warehouse.path", r#""data/warehouse.db""#);
            }
            Engine::Postgres => database.take(world),
        }
        let ran = world.run(args);
        assert!([0, 3].contains(&ran.code), "{ran}");
    }
}

#[test]
fn after_the_same_pulls_both_engines_hold_the_same() {
    let world = World::generated(6)
        .set("sync.page_size", "50")
        .set("sync.concurrency", "1")
        .set("warehouse.history", "true")
        .set("views.sets", r#"["clinical"]"#);
    let Some(database) = Database::of(&world) else { return };
    both(&world, &database, &["sync"], None);
    assert_equal(&world, &database);

    let persons = world.sandbox.person_ids();
    world.sandbox.put(&persons[0], Some(&observation_tail("new", 3)), &observation("new", 3, "corrected"));
    world.sandbox.put(&persons[1], Some("Observation/no-type"), r#"{"id":"x","status":"final"}"#);
    both(&world, &database, &["sync"], None);
    assert_equal(&world, &database);

    let gone = world.sandbox.entries(&persons[2]).pop().unwrap();
    world.sandbox.remove(&persons[2], &gone.full_url);
    both(&world, &database, &["sync", "--full"], Some("kind = 'status', status = 503, page = 2, times = 2"));
    assert_equal(&world, &database);

    world.list_generated(5);
    both(&world, &database, &["sync", "--full"], Some("kind = 'reset_mid_body', page = 3, times = 1"));
    assert_equal(&world, &database);
}

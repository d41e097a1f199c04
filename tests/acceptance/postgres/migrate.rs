//! `migrate`: what it makes, for whom, and what it leaves alone.

use std::process::{Command, Stdio};

use super::database::{Database, Rows};
use crate::world::{Running, World, pipe};

fn world() -> World {
    World::with_patients(["anna"]).without("warehouse.path")
}

/// All that is in the schemas: tables with their columns, what they are compressed by, who may do what.
fn contents(database: &Database) -> Rows {
    let mut found = database.rows(
        "SELECT n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner), c.relacl::text,
                (SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attcompression), ', ' ORDER BY a.attnum)
                   FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0)
           FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
          WHERE n.nspname LIKE 'healthex%' ORDER BY 1, 2",
    );
    found.extend(database.rows("SELECT version::text FROM healthex.migration"));
    found.extend(database.rows(
        "SELECT r.rolname, s.setconfig::text FROM pg_db_role_setting AS s JOIN pg_roles AS r ON r.oid = s.setrole
           JOIN pg_database AS d ON d.oid = s.setdatabase WHERE d.datname = current_database() ORDER BY 1",
    ));
    found
}

/// Tells only what differs: there is much of it.
#[track_caller]
fn same(found: &Rows, expected: &Rows) {
    let lacks = |these: &Rows, those: &Rows| {
        these.iter().filter(|row| !those.contains(row)).take(3).cloned().collect::<Rows>()
    };
    let (more, less) = (lacks(found, expected), lacks(expected, found));
    assert!(found == expected, "too much: {more:#?}\nmissing: {less:#?}");
}

#[test]
fn migrate_makes_all_tables_and_then_changes_nothing() {
    let world = world();
    let Some(database) = Database::empty() else { return };
    database.migrate(&world, &[]).exits(0).says("schema 18 is made").says("healthex_worker");
    let made = contents(&database);
    let types = "SELECT count(*) FROM pg_class WHERE relnamespace = 'healthex'::regnamespace AND relkind = 'r'
                    AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_class.oid AND attname = 'content_hash')";
    // With the former versions.
    assert_eq!(database.count(types), 147);
    database.migrate(&world, &[]).exits(0).says("schema 18 is there already");
    same(&contents(&database), &made);
    let told = database.migrate(&world, &["--json"]).exits(0).json();
    assert_eq!((&told["version"], &told["missing_roles"]), (&18.into(), &serde_json::Value::Null));
}

#[test]
fn eight_that_migrate_at_once_are_all_well() {
    let world = world();
    let Some(database) = Database::empty() else { return };
    let start = |_| Running::start(&mut database.migration(&world, "postgres", &[]));
    let running: Vec<Running> = (0..8).map(start).collect();
    for running in running {
        running.ended().exits(0);
    }
    assert_eq!(database.count("SELECT count(*) FROM healthex.migration"), 1);
}

#[test]
fn what_migrate_prints_does_in_psql_what_migrate_does() {
    let world = world().set("warehouse.url", r#""postgres://nobody@127.0.0.1:1/nothing""#);
    let Some(database) = Database::empty() else { return };
    let Some(by_hand) = Database::empty() else { return };
    database.migrate(&world, &[]).exits(0);
    let script = world.run(["migrate", "--print"]).exits(0).stdout;
    for _ in 0..2 {
        let mut psql = Command::new(by_hand.cluster.programs.join("psql"));
        psql.args(["-XqtA", "-v", "ON_ERROR_STOP=1", &by_hand.url("postgres")]).stdout(Stdio::piped());
        assert_eq!(pipe(&mut psql, &script), (true, String::new()));
    }
    same(&contents(&by_hand), &contents(&database));
}

#[test]
fn each_role_may_do_its_own_and_no_more() {
    let world = world();
    let Some(database) = Database::migrated(&world) else { return };
    let may = |role: &str, sql: &str| database.rows_as(role, sql).map(|_| ());
    let denied = |role: &str, sql: &str| {
        let told = may(role, sql).unwrap_err();
        assert!(
            told.contains("permission denied") || told.contains("must be owner"),
            "{role}: {sql}: {told}"
        );
    };
    for sql in ["SELECT * FROM healthex.observation", "SELECT * FROM healthex.history"] {
        assert_eq!(may("healthex_analyst", sql), Ok(()), "{sql}");
    }
    for table in ["purge_log", "quarantine", "checkpoint", "consent_record", "writer", "migration"] {
        denied("healthex_analyst", &format!("SELECT * FROM healthex.{table}"));
    }
    // Even where it is asked to write: the role's transactions are read-only.
    denied("healthex_analyst", "START TRANSACTION READ WRITE; DELETE FROM healthex.observation");
    assert_eq!(may("healthex_worker", "DELETE FROM healthex.observation"), Ok(()));
    denied("healthex_worker", "CREATE TABLE healthex.mine (id text)");
    denied("healthex_worker", "ALTER TABLE healthex.observation ADD COLUMN mine text");
    denied("healthex_worker", "DELETE FROM healthex.migration");
    assert_eq!(may("healthex_owner", "ALTER TABLE healthex.observation ADD COLUMN mine text"), Ok(()));
    let plan = database.rows_as("healthex_worker", "SHOW enable_seqscan").unwrap();
    assert_eq!(plan, [[Some("off".to_owned())]]);
}

#[test]
fn who_may_create_no_roles_is_told_what_an_administrator_has_to_run() {
    let world = world().set("warehouse.schema", r#""study_1""#);
    let Some(database) = Database::empty() else { return };
    database.exec(&format!("CREATE ROLE humble LOGIN; GRANT CREATE ON DATABASE {} TO humble", database.name));
    let migrate = || Running::start(&mut database.migration(&world, "humble", &[])).ended();
    let told = migrate().exits(0).says("humble may not create any").stdout;
    let (_, script) = told.split_once("\n\n").unwrap();
    database.exec(script);
    migrate().exits(0).says("roles: study_1_owner, study_1_worker").says_nothing_of("may not create");
    let table = "SELECT has_table_privilege('study_1_worker', 'study_1.observation', 'INSERT')::text";
    assert_eq!(database.ask(table).as_deref(), Some("true"));
    // Without the right to make a schema, nothing is made.
    let Some(closed) = Database::empty() else { return };
    let ran = Running::start(&mut closed.migration(&world, "humble", &[])).ended().exits(5);
    ran.says("permission denied for database").says("migrate --print");
    assert_eq!(closed.count("SELECT count(*) FROM pg_namespace WHERE nspname = 'study_1'"), 0);
}

#[test]
fn what_is_not_a_place_for_a_warehouse_is_left_alone() {
    let world = world();
    world.run(["migrate"]).exits(2).says("warehouse.url");
    let Some(other) = Database::empty() else { return };
    other.exec("CREATE SCHEMA healthex; CREATE TABLE healthex.migration (version text)");
    other.migrate(&world, &[]).exits(5).says("of another program").says("warehouse.schema");
    assert_eq!(other.count("SELECT count(*) FROM pg_class WHERE relnamespace = 'healthex'::regnamespace"), 1);

    let Some(newer) = Database::migrated(&world) else { return };
    newer.exec("INSERT INTO healthex.migration (version) VALUES (19)");
    newer.migrate(&world, &[]).exits(5).says("schema version 19, and this healthex-sync knows 18");

    let Some(latin) = Database::made_with("ENCODING LATIN1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    else {
        return;
    };
    latin.migrate(&world, &[]).exits(5).says("encoding is LATIN1").says("createdb --encoding UTF8");

    let Some(frozen) = Database::empty() else { return };
    frozen.exec(&format!("ALTER DATABASE {} SET default_transaction_read_only = on", frozen.name));
    frozen.migrate(&world, &[]).exits(5).says("read-only");
}

#[test]
fn tables_in_parts_are_divided_when_they_are_made_or_never() {
    let world = world();
    let Some(database) = Database::empty() else { return };
    database.migrate(&world, &["--partitions", "1"]).exits(2);
    database.migrate(&world, &["--partitions", "2"]).exits(0).says("in 2 parts");
    let parts =
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'healthex_parts'::regnamespace AND relkind = 'r'";
    assert_eq!(database.count(parts), 2 * 146);
    database.migrate(&world, &[]).exits(0).says("there already, its tables in 2 parts");
    database
        .migrate(&world, &["--partitions", "4"])
        .exits(5)
        .says("in 2 parts each")
        .says("warehouse.schema");
    let Some(whole) = Database::migrated(&world) else { return };
    whole.migrate(&world, &["--partitions", "4"]).exits(5).says("in one piece each");
}

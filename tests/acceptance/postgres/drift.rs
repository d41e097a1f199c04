//! Both engines' tables are the same, through a map of types.

use std::collections::BTreeMap;

use super::database::Database;
use crate::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Sqlite,
    Postgres,
}

/// A column: what may be stored in it, and whether it may be NULL.
#[derive(Debug, PartialEq)]
pub(super) struct Column {
    pub(super) kind: String,
    is_required: bool,
    /// Its place in the primary key, from 1 on.
    in_key: Option<i64>,
}

/// Tables by name, columns by name.
pub(super) type Tables = BTreeMap<String, BTreeMap<String, Column>>;

/// Only one of the two has them: which migrations were carried out, and who may write, are SQLite's header and a lock;
/// a file is one process's at a time, and its cycle and its roster nobody else's.
const OF_POSTGRES_ALONE: [&str; 9] = [
    "migration",
    "roster",
    "roster_version",
    "shared_cycle",
    "shared_cycle_part",
    "ticket",
    "turn",
    "worker",
    "writer",
];
/// By which a worker holds a patient.
const COLUMNS_OF_POSTGRES_ALONE: [(&str, &str); 2] = [("checkpoint", "fence"), ("checkpoint", "owner")];

/// Text that is a moment, by its name. What a resource says of itself stays text.
pub(super) fn is_moment(column: &str) -> bool {
    let names = ["since", "watermark", "until"];
    let ends = ["_at", "_since"];
    names.contains(&column) || ends.iter().any(|end| column.ends_with(end))
}

/// Integers that are yes or no.
const FLAGS: [&str; 10] = [
    "listed",
    "holds_rows",
    "shares_names",
    "pull_renamed",
    "short_in_full",
    "total_changed",
    "told_incomplete",
    "hides_any",
    "consented",
    "indexes_missing",
];

fn type_in_postgres(declared: &str, table: &str, column: &str) -> &'static str {
    match (declared, table, column) {
        // Which type a view is over.
        (_, "analyst_table", "resource") => "text",
        // Whatever has come, which need not be text.
        (_, "quarantine", "entry") => "bytea",
        ("TEXT", _, "resource") => "json",
        ("TEXT", _, column) if is_moment(column) => "timestamp with time zone",
        ("TEXT", ..) => "text",
        ("INTEGER", _, column) if FLAGS.contains(&column) => "boolean",
        ("INTEGER", ..) => "bigint",
        ("REAL", ..) => "double precision",
        ("BLOB", ..) => "bytea",
        other => panic!("{other:?}"),
    }
}

pub(super) fn of_sqlite(world: &World) -> Tables {
    let rows = world.table(
        "SELECT m.name, c.name, c.type, c.\"notnull\" OR c.pk > 0, c.pk FROM sqlite_master AS m, pragma_table_info(m.name) AS c
          WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'
            AND m.name NOT IN (SELECT name FROM analyst_table WHERE name <> 'analyst_column')",
    );
    let mut tables = Tables::new();
    for row in rows {
        let [table, column, declared, is_required, key] = row.as_slice() else { panic!("{row:?}") };
        let kind = type_in_postgres(declared, table, column);
        let key: i64 = key.parse().unwrap();
        let column_facts = Column {
            kind: kind.to_owned(),
            is_required: is_required == "1",
            in_key: (key > 0).then_some(key),
        };
        tables.entry(table.clone()).or_default().insert(column.clone(), column_facts);
    }
    tables
}

pub(super) fn of_postgres(database: &Database) -> Tables {
    let rows = database.rows(
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
                array_position(i.indkey::int2[], a.attnum)::text
           FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
           LEFT JOIN pg_index AS i ON i.indrelid = c.oid AND i.indisprimary
          WHERE c.relnamespace = 'healthex'::regnamespace AND c.relkind = 'r'
            AND c.relname NOT IN (SELECT name FROM healthex.analyst_table WHERE name <> 'analyst_column')",
    );
    let mut tables = Tables::new();
    for row in rows {
        let text = |at: usize| row[at].clone().unwrap();
        let (table, column) = (text(0), text(1));
        if OF_POSTGRES_ALONE.contains(&table.as_str())
            || COLUMNS_OF_POSTGRES_ALONE.contains(&(table.as_str(), column.as_str()))
        {
            continue;
        }
        let in_key = row[4].as_ref().map(|place| place.parse::<i64>().unwrap() + 1);
        let column = Column { kind: text(2), is_required: text(3) == "true", in_key };
        tables.entry(text(0)).or_default().insert(text(1), column);
    }
    tables
}

#[test]
fn both_engines_have_the_same_tables() {
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    let Some(database) = Database::migrated(&world) else { return };
    let (sqlite, mut postgres) = (of_sqlite(&world), of_postgres(&database));
    // A file has tables of the types that have come, and the server of all.
    postgres.retain(|table, columns| sqlite.contains_key(table) || !columns.contains_key("content_hash"));
    let mut differ = Vec::new();
    for table in sqlite.keys().chain(postgres.keys()) {
        let (one, other) = (sqlite.get(table), postgres.get(table));
        let columns = one.into_iter().chain(other).flat_map(BTreeMap::keys);
        for column in columns {
            let (one, other) = (one.and_then(|one| one.get(column)), other.and_then(|one| one.get(column)));
            if one != other {
                differ.push(format!("{table}.{column}: SQLite has {one:?}, PostgreSQL {other:?}"));
            }
        }
    }
    differ.sort();
    differ.dedup();
    assert!(differ.is_empty(), "{} differ\n{}", differ.len(), differ.join("\n"));
}

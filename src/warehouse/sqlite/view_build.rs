//! Building an analysts' table: in steps, so that pages are stored between them.
//!
//! Promise: a build that a kill cuts off goes on where it was, and a resource that a page changes
//! meanwhile is never there twice. Indexes are made last, once: kept up row by row they cost half the
//! time of a first fill, and write each page of theirs with almost every commit.
//!
//! Absent on purpose: when a step is made, which the writer's thread knows.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::medicines::Which;
use super::persons::Persons;
use super::view_rows::{Gained, keep, tolerate};
use super::view_table::{ViewTable, analysts_spelling};
use super::{medicines, persons, tables, view_rows};
use crate::plan::{Timestamp, stamp};
use crate::views::{KeptRows, TapeMemory};
use crate::warehouse::failure::StoreFailed;

/// Resources of one step, and bytes of them. A step of small ones takes some 20 ms.
const STEP_RESOURCES: usize = 1_000;
const STEP_BYTES: usize = 8 << 20;

/// Makes an empty table, and notes up to where it is to be built. What is stored from now on comes with
/// its page.
pub(super) fn begin(
    connection: &mut Connection,
    table: &ViewTable,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    let ViewTable { name, source, source_table, .. } = table;
    in_transaction(connection, |connection| {
        drop_table(connection, name)?;
        expect_free(connection, name)?;
        connection.execute_batch(&table.create)?;
        if let Some(source_table) = source_table {
            tables::ensure(connection, source_table)?;
        }
        let mut is_filled = false;
        for known in tables::resource_tables(connection)?.iter().filter(|known| table.is_of(&known.table)) {
            let last = format!("SELECT max(rowid) FROM \"{}\"", known.table);
            if let Some(end) = connection.query_row(&last, [], |row| row.get::<_, Option<i64>>(0))? {
                note_build(connection, name, &known.table, end)?;
                is_filled = true;
            }
        }
        // A build looks for rows that a page was there with before it, and medicines are filled in by key.
        if is_filled || medicines::TABLES.contains(&name.as_str()) {
            connection.execute_batch(&table.resource_index)?;
        }
        if is_filled {
            tracing::info!("building the analysts' table {name}");
        }
        let resource = source.resource_type().unwrap_or_default();
        note(connection, name, resource, &table.definition, now)?;
        connection.execute("UPDATE analyst_table SET indexes_missing = 1 WHERE name = ?1", [name])?;
        Ok(())
    })
}

/// Makes the table of persons anew, and notes that it is to be built once the others are.
pub(super) fn begin_persons(
    connection: &mut Connection,
    persons: &Persons,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    in_transaction(connection, |connection| {
        drop_table(connection, persons::NAME)?;
        expect_free(connection, persons::NAME)?;
        connection.execute_batch(&persons.create)?;
        let last = format!("SELECT max(rowid) FROM {}", persons::SOURCE);
        if let Some(end) = connection.query_row(&last, [], |row| row.get::<_, Option<i64>>(0))? {
            note_build(connection, persons::NAME, persons::SOURCE, end)?;
        }
        note(connection, persons::NAME, "", &persons.definition, now)
    })
}

fn note_build(connection: &Connection, name: &str, source: &str, end: i64) -> Result<(), StoreFailed> {
    let statement = "INSERT INTO analyst_build (name, source, built_to, build_end) VALUES (?1, ?2, 0, ?3)";
    connection.prepare_cached(statement)?.execute(params![name, source, end])?;
    Ok(())
}

/// Refuses a name that something has which this program did not make.
pub(super) fn expect_free(connection: &Connection, name: &str) -> Result<(), StoreFailed> {
    if connection.prepare_cached("SELECT 1 FROM sqlite_master WHERE name = ?1")?.exists([name])? {
        return Err(StoreFailed::Data(format!(
            "there is a table {name} that this program did not make; rename it"
        )));
    }
    Ok(())
}

/// Notes what a table was made from.
pub(super) fn note(
    connection: &Connection,
    name: &str,
    resource: &str,
    definition: &str,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    let statement =
        "INSERT OR REPLACE INTO analyst_table (name, resource, definition, built_at) VALUES (?1, ?2, ?3, ?4)";
    connection.prepare_cached(statement)?.execute(params![name, resource, definition, stamp(now)])?;
    Ok(())
}

/// A table that has not read one of its sources to the end.
struct Unfinished<'t> {
    table: &'t ViewTable,
    source: String,
    built_to: i64,
    end: i64,
}

fn unfinished<'t>(
    known: &'t [ViewTable],
    connection: &Connection,
) -> Result<Vec<Unfinished<'t>>, StoreFailed> {
    let mut statement = connection.prepare_cached(
        "SELECT t.name, t.definition, b.source, b.built_to, b.build_end
           FROM analyst_build AS b JOIN analyst_table AS t ON t.name = b.name ORDER BY b.source, t.name",
    )?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (name, definition): (String, String) = (row.get(0)?, row.get(1)?);
        let is_it = |table: &&ViewTable| table.name == name && table.definition == definition;
        if let Some(table) = known.iter().find(is_it) {
            found.push(Unfinished { table, source: row.get(2)?, built_to: row.get(3)?, end: row.get(4)? });
        }
    }
    Ok(found)
}

/// Returns how many rows of source tables are still to be read, over all builds.
pub(super) fn remaining(known: &[ViewTable], connection: &Connection) -> Result<usize, StoreFailed> {
    let all = unfinished(known, connection)?;
    Ok(all.iter().map(|build| usize::try_from(build.end - build.built_to).unwrap_or(0)).sum())
}

/// Builds on for some resources. Returns whether there is more to do.
pub(super) fn step(
    known: &[ViewTable],
    persons: Option<&Persons>,
    connection: &mut Connection,
    now: Timestamp,
) -> Result<bool, StoreFailed> {
    let builds = unfinished(known, connection)?;
    let Some(first) = builds.first() else {
        return persons.map_or(Ok(false), |persons| persons_step(persons, connection, now));
    };
    // Tables of one source mostly begin together: each resource is read once for all of them.
    let is_beside = |build: &&Unfinished<'_>| {
        (&build.source, build.built_to, build.end) == (&first.source, first.built_to, first.end)
    };
    let together: Vec<&ViewTable> = builds.iter().filter(is_beside).map(|build| build.table).collect();
    in_transaction(connection, |connection| {
        let batch = read(connection, first, &together, now)?;
        for (place, table) in together.iter().enumerate() {
            let replaced = replace(connection, table, &first.source, place, &batch.resources);
            keep(connection, &table.name, replaced)?;
            match batch.read_to {
                Some(read_to) => {
                    let statement = "UPDATE analyst_build SET built_to = ?3 WHERE name = ?1 AND source = ?2";
                    connection.prepare_cached(statement)?.execute(params![
                        table.name,
                        first.source,
                        read_to
                    ])?;
                }
                None => finish(connection, table, &first.source, now)?,
            }
        }
        Ok(())
    })?;
    Ok(true)
}

/// Works out some persons. They come last: they are made of the other tables.
fn persons_step(persons: &Persons, connection: &mut Connection, now: Timestamp) -> Result<bool, StoreFailed> {
    let statement =
        "SELECT b.built_to, b.build_end FROM analyst_build AS b JOIN analyst_table AS t ON t.name = b.name
          WHERE b.name = ?1 AND t.definition = ?2";
    let under_way = connection
        .query_row(statement, [persons::NAME, &persons.definition], |row| Ok((row.get(0)?, row.get(1)?)));
    let Some((built_to, end)) = under_way.optional()? else { return Ok(false) };
    in_transaction(connection, |connection| {
        let stepped = persons.step(connection, built_to, end);
        let read_to = *stepped.as_ref().unwrap_or(&None);
        keep(connection, persons::NAME, stepped.map(drop))?;
        if let Some(read_to) = read_to {
            let statement = "UPDATE analyst_build SET built_to = ?2 WHERE name = ?1";
            connection.prepare_cached(statement)?.execute(params![persons::NAME, read_to])?;
            return Ok(());
        }
        connection.execute("DELETE FROM analyst_build WHERE name = ?1", [persons::NAME])?;
        let statement = "UPDATE analyst_table SET built_at = ?2 WHERE name = ?1";
        connection.execute(statement, params![persons::NAME, stamp(now)])?;
        Ok(())
    })?;
    Ok(true)
}

/// Resources with the rows they give, and how far the source was read; `None` to its end.
struct StepBatch {
    resources: Vec<StepResource>,
    read_to: Option<i64>,
}

struct StepResource {
    person: String,
    key: String,
    changed_at: String,
    rows: KeptRows,
}

fn read(
    connection: &Connection,
    build: &Unfinished<'_>,
    views: &[&ViewTable],
    now: Timestamp,
) -> Result<StepBatch, StoreFailed> {
    let statement = format!(
        "SELECT rowid, person_id, key, resource, changed_at FROM \"{}\"
          WHERE rowid > ?1 AND rowid <= ?2 AND deleted_at IS NULL AND superseded_at IS NULL ORDER BY rowid",
        build.source
    );
    let mut statement = connection.prepare_cached(&statement)?;
    let mut found = statement.query([build.built_to, build.end])?;
    let (mut memory, mut bytes) = (TapeMemory::default(), 0);
    let mut batch = StepBatch { resources: Vec::new(), read_to: None };
    while let Some(row) = found.next()? {
        let (person, key): (String, String) = (row.get(1)?, row.get(2)?);
        // What is no text is told by `verify`.
        let resource = row.get_ref(3)?.as_str().unwrap_or_default();
        let rows = view_rows::evaluate(views.iter().copied(), &key, resource, now, &mut memory);
        bytes += resource.len();
        let changed_at = analysts_spelling(row.get_ref(4)?.as_str().unwrap_or_default());
        batch.resources.push(StepResource { person, key, changed_at, rows });
        if batch.resources.len() == STEP_RESOURCES || STEP_BYTES <= bytes {
            batch.read_to = Some(row.get(0)?);
            break;
        }
    }
    Ok(batch)
}

/// A page may have been here before.
fn replace(
    connection: &Connection,
    table: &ViewTable,
    source: &str,
    place: usize,
    resources: &[StepResource],
) -> Result<(), StoreFailed> {
    let forget = format!(
        "DELETE FROM \"{}\" WHERE person_id = ?1 AND \"key\" = ?2{}",
        table.name,
        table.of_source(source)
    );
    let mut forget = connection.prepare_cached(&forget)?;
    for resource in resources {
        forget.execute([&resource.person, &resource.key])?;
    }
    let gained = resources.iter().map(|StepResource { person, key, changed_at, rows }| Gained {
        person,
        key,
        changed_at,
        rows,
    });
    view_rows::insert(connection, table, place, gained)?;
    fill_in_medicines(connection, table, resources)
}

/// Fills in the medicines of the rows that were built, and of those that refer to them.
fn fill_in_medicines(
    connection: &Connection,
    table: &ViewTable,
    resources: &[StepResource],
) -> Result<(), StoreFailed> {
    let mut keys: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for StepResource { person, key, .. } in resources {
        keys.entry(person).or_default().push(key);
    }
    if medicines::TABLES.contains(&table.name.as_str()) {
        for (person, keys) in &keys {
            let keys = serde_json::to_string(keys)
                .map_err(|error| StoreFailed::Data(format!("listing medicines: {error}")))?;
            medicines::fill_in(connection, &table.name, person, Which::Keys(&keys))?;
        }
    }
    if table.name == medicines::MEDICATIONS {
        for name in medicines::TABLES {
            if tables::exists(connection, name)? {
                keys.keys()
                    .try_for_each(|person| medicines::fill_in(connection, name, person, Which::All))?;
            }
        }
    }
    Ok(())
}

/// Notes that a source is read to its end.
fn finish(
    connection: &Connection,
    table: &ViewTable,
    source: &str,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    let name = &table.name;
    let statement = "DELETE FROM analyst_build WHERE name = ?1 AND source = ?2";
    connection.prepare_cached(statement)?.execute([name, source])?;
    if connection.prepare_cached("SELECT 1 FROM analyst_build WHERE name = ?1")?.exists([name])? {
        return Ok(());
    }
    let statement = "UPDATE analyst_table SET built_at = ?2 WHERE name = ?1";
    connection.prepare_cached(statement)?.execute(params![name, stamp(now)])?;
    tracing::info!("the analysts' table {name} is built");
    keep(connection, name, make_indexes(connection, table))
}

/// Has the builds under way begin again: a VACUUM may number the rows anew that they count by. None
/// comes to stand behind the end of a build that was before it.
pub(super) fn restart_all(connection: &Connection) -> Result<(), StoreFailed> {
    connection.execute("UPDATE analyst_build SET built_to = 0", [])?;
    Ok(())
}

/// Makes the indexes of the tables that were filled for the first time.
pub(super) fn make_missing_indexes(
    known: &[ViewTable],
    connection: &mut Connection,
) -> Result<(), StoreFailed> {
    let missing = {
        let mut statement = connection.prepare(
            "SELECT definition FROM analyst_table
              WHERE indexes_missing = 1 AND name NOT IN (SELECT name FROM analyst_build) AND name IN (SELECT name FROM sqlite_master)",
        )?;
        let definitions = statement.query_map([], |row| row.get(0))?;
        definitions.collect::<Result<Vec<String>, _>>()?
    };
    // A table whose view has changed is made anew.
    for table in known.iter().filter(|table| missing.contains(&table.definition)) {
        let made = in_transaction(connection, |connection| make_indexes(connection, table));
        tolerate(&table.name, made)?;
    }
    Ok(())
}

fn make_indexes(connection: &Connection, table: &ViewTable) -> Result<(), StoreFailed> {
    connection.execute_batch(&table.resource_index)?;
    connection.execute_batch(&table.late_indexes)?;
    let statement = "UPDATE analyst_table SET indexes_missing = 0 WHERE name = ?1";
    connection.prepare_cached(statement)?.execute([&table.name])?;
    Ok(())
}

/// Only what is on our own list is dropped, table or view.
pub(super) fn drop_table(connection: &Connection, name: &str) -> Result<(), StoreFailed> {
    for list in ["analyst_build", "analyst_left_out"] {
        connection.execute(&format!("DELETE FROM {list} WHERE name = ?1"), [name])?;
    }
    if connection.execute("DELETE FROM analyst_table WHERE name = ?1", [name])? > 0 {
        let is_view = "SELECT 1 FROM sqlite_master WHERE type = 'view' AND name = ?1";
        let kind = if connection.prepare(is_view)?.exists([name])? { "VIEW" } else { "TABLE" };
        connection.execute_batch(&format!("DROP {kind} IF EXISTS \"{name}\""))?;
    }
    Ok(())
}

pub(super) fn in_transaction(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> Result<(), StoreFailed>,
) -> Result<(), StoreFailed> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    work(&transaction)?;
    Ok(transaction.commit()?)
}

#[cfg(test)]
mod tests {
    use super::super::analyst_tables::AnalystTables;
    use super::*;
    use crate::clock;
    use crate::plan::row::{Row, row_of};
    use crate::plan::table_set::TableSet;
    use crate::plan::{PersonId, parse_stamp};
    use crate::views::analyst_tables;
    use crate::warehouse::changes::{Change, Changes};

    fn built_in() -> AnalystTables {
        AnalystTables::new(&analyst_tables(&[TableSet::Clinical], None).tables)
    }

    fn observation(number: usize, value: usize) -> Row {
        let resource = format!(
            r#"{{"resourceType":"Observation","id":"o{number}","category":[{{"coding":[{{"code":"laboratory"}}]}}],"valueQuantity":{{"value":{value}}}}}"#
        );
        row_of(&format!("Observation/{number}"), &resource).unwrap()
    }

    const CHANGED_AT: &str = "2026-01-02T03:04:05Z";

    fn put(connection: &Connection, row: &Row) {
        let put = "INSERT OR REPLACE INTO observation (person_id, key, first_seen_at, changed_at, content_hash, resource)
                   VALUES ('anna', ?1, '', ?4, ?2, ?3)";
        connection.execute(put, params![row.key, row.content_hash, row.resource, CHANGED_AT]).unwrap();
    }

    fn warehouse() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        for migration in [
            include_str!("../../../schema/0001_bookkeeping.sql"),
            include_str!("../../../schema/0002_analyst_tables.sql"),
            include_str!("../../../schema/0009_late_indexes.sql"),
            include_str!("../../../schema/analyst_bookkeeping.sql"),
        ] {
            connection.execute_batch(migration).unwrap();
        }
        tables::ensure(&connection, "observation").unwrap();
        connection
    }

    fn indexes(connection: &Connection) -> u64 {
        let count = "SELECT count(*) FROM sqlite_master WHERE name LIKE 'observations\\_by\\_%' ESCAPE '\\'";
        connection.query_row(count, [], |row| row.get(0)).unwrap()
    }

    /// Between two steps a page changes, adds and removes resources on both sides of the place
    /// the build has come to; then the process is killed.
    #[test]
    fn a_build_lets_pages_through_and_goes_on_where_a_kill_cut_it_off() {
        let (mut connection, now) = (warehouse(), parse_stamp(CHANGED_AT).unwrap());
        let person = PersonId::parse("anna").unwrap();
        for number in 0..2 * STEP_RESOURCES + 500 {
            put(&connection, &observation(number, 1));
        }
        let tables = built_in();
        tables.migrate(&mut connection, now).unwrap();
        assert!(tables.build_step(&mut connection, now).unwrap());
        assert_eq!(indexes(&connection), 0);
        let sides = [10, 2 * STEP_RESOURCES + 10].map(|number| observation(number, 2));
        let new = observation(9_999, 3);
        let mut changes = Changes::default();
        for row in &sides {
            let put = "UPDATE observation SET resource = ?2, content_hash = ?3 WHERE key = ?1";
            connection.execute(put, params![row.key, row.resource, row.content_hash]).unwrap();
            changes.updated(Change { row, gained: None }, false);
        }
        put(&connection, &new);
        changes.inserted(Change { row: &new, gained: None });
        for number in [20, 2 * STEP_RESOURCES + 20] {
            let key = format!("Observation/{number}");
            connection.execute("UPDATE observation SET deleted_at = '' WHERE key = ?1", [&key]).unwrap();
            changes.gone("observation", key);
        }
        tables.apply_changes(&connection, &person, &changes, now).unwrap();

        let tables = built_in();
        tables.migrate(&mut connection, now).unwrap();
        assert!(tables.rows_to_build(&connection).unwrap() > 0);
        let mut steps = 0;
        while tables.build_step(&mut connection, now).unwrap() {
            steps += 1;
            assert!(steps < 10, "the build does not end");
        }
        assert_eq!(tables.rows_to_build(&connection).unwrap(), 0);
        assert_eq!(tables.stale_tables(&connection, now).unwrap(), Vec::<String>::new());
        let counts =
            "SELECT count(*), count(DISTINCT \"key\"), count(*) FILTER (WHERE value = 2) FROM observations";
        let counts: (usize, usize, usize) =
            connection.query_row(counts, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        let whole = 2 * STEP_RESOURCES + 500 - 2 + 1;
        assert_eq!(counts, (whole, whole, 2));
        assert!(indexes(&connection) > 0);
    }

    #[test]
    fn a_table_that_was_empty_gets_its_indexes_once_it_has_been_filled_or_at_the_next_start() {
        for restarts in [false, true] {
            let (mut connection, now) = (warehouse(), clock::now());
            let tables = built_in();
            tables.migrate(&mut connection, now).unwrap();
            assert!(!tables.build_step(&mut connection, now).unwrap(), "there is nothing to build");
            assert_eq!(indexes(&connection), 0);
            if restarts {
                built_in().migrate(&mut connection, now).unwrap();
            } else {
                tables.make_missing_indexes(&mut connection).unwrap();
            }
            assert!(indexes(&connection) > 0);
            let missing = "SELECT sum(indexes_missing) FROM analyst_table";
            assert_eq!(connection.query_row(missing, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
        }
    }

    #[test]
    fn rows_are_found_by_their_resource_as_soon_as_a_page_replaces_some() {
        let (mut connection, now) = (warehouse(), parse_stamp(CHANGED_AT).unwrap());
        let person = PersonId::parse("anna").unwrap();
        let tables = built_in();
        tables.migrate(&mut connection, now).unwrap();
        let index = "SELECT count(*) FROM sqlite_master WHERE name = 'observations_of_resource'";
        let has_index =
            |connection: &Connection| connection.query_row(index, [], |row| row.get::<_, bool>(0)).unwrap();
        let page = |row: &Row, is_new: bool| {
            let mut changes = Changes::default();
            put(&connection, row);
            if is_new {
                changes.inserted(Change { row, gained: None });
            } else {
                changes.updated(Change { row, gained: None }, false);
            }
            tables.apply_changes(&connection, &person, &changes, now).unwrap();
        };
        for number in 0..3 {
            page(&observation(number, 1), true);
        }
        assert!(!has_index(&connection), "kept up from the first row on");
        page(&observation(1, 2), false);
        assert!(has_index(&connection));
        assert_eq!(tables.stale_tables(&connection, now).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_row_too_many_too_few_or_other_is_found() {
        let (mut connection, now) = (warehouse(), clock::now());
        put(&connection, &observation(1, 1));
        put(&connection, &observation(2, 1));
        let tables = built_in();
        tables.migrate(&mut connection, now).unwrap();
        while tables.build_step(&mut connection, now).unwrap() {}
        for damage in [
            "UPDATE observations SET value = 7 WHERE id = 'o1'",
            "DELETE FROM observations WHERE id = 'o2'",
            "INSERT INTO observations SELECT * FROM observations WHERE id = 'o1'",
            "UPDATE observations SET \"key\" = 'Observation/3' WHERE id = 'o1'",
        ] {
            connection.execute_batch("SAVEPOINT whole").unwrap();
            assert_eq!(tables.stale_tables(&connection, now).unwrap(), Vec::<String>::new());
            connection.execute_batch(damage).unwrap();
            assert_eq!(tables.stale_tables(&connection, now).unwrap(), ["observations"], "{damage}");
            connection.execute_batch("ROLLBACK TO whole; RELEASE whole").unwrap();
        }
    }
}

//! What the warehouse of a [`World`] holds, read as an analyst would.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use super::{DEADLINE, World, wait_until};
use crate::postgres::database::Database;

impl World {
    /// A read-only connection, as an analyst has one.
    pub(crate) fn open(&self) -> Connection {
        self.open_with(OpenFlags::SQLITE_OPEN_READ_ONLY)
    }

    /// A connection of somebody who writes into the file beside the program.
    pub(crate) fn open_to_write(&self) -> Connection {
        self.open_with(OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)
    }

    fn open_with(&self, flags: OpenFlags) -> Connection {
        assert!(self.database.is_none(), "this test looks into a file");
        let connection = Connection::open_with_flags(self.warehouse(), flags).unwrap();
        connection.busy_timeout(DEADLINE).unwrap();
        connection
    }

    pub(crate) fn exec(&self, sql: &str) {
        if let Some(database) = &self.database {
            return database.exec(&format!("SET ROLE healthex_owner; SET search_path = healthex; {sql}"));
        }
        self.open_to_write().execute_batch(sql).unwrap();
    }

    /// Lets all purges have been in a year long past, for the ledger too.
    pub(crate) fn age_purges(&self) {
        self.exec(
            "UPDATE purge_log SET confirmed_at = '2020-01-01T00:00:00Z', purged_at = '2020-01-01T00:00:00Z'",
        );
        std::fs::remove_file(self.own_file(".purges")).unwrap();
        // A cycle may be under way.
        let mut ran = self.run(["audit", "--new-ledger"]);
        wait_until("another ledger is begun", || {
            let is_begun = ran.code != 5;
            if !is_begun {
                ran = self.run(["audit", "--new-ledger"]);
            }
            is_begun
        });
        ran.exits(0);
    }

    pub(crate) fn is_on_server(&self) -> bool {
        self.database.is_some()
    }

    /// What lies beside the warehouse, or beside the configuration where that is on a server.
    pub(crate) fn own_file(&self, suffix: &str) -> PathBuf {
        let named_after = if self.database.is_some() { "healthex-sync" } else { "data/warehouse.db" };
        self.path(&format!("{named_after}{suffix}"))
    }

    /// Has the owner of a server's tables remove the last bytes, as its timer does each night. A file has been
    /// scrubbed by the end of a cycle.
    pub(crate) fn scrub_on_server(&self) {
        if let Some(database) = &self.database {
            database.run_as("postgres", self, &["scrub"]).exits(0);
        }
    }

    /// The first column of the first row, as text.
    pub(crate) fn ask(&self, sql: &str) -> Option<String> {
        if let Some(database) = &self.database {
            return database.cells(sql).into_iter().next()?.into_iter().next()?;
        }
        ask(&self.open(), sql)
    }

    pub(crate) fn count(&self, sql: &str) -> i64 {
        let answer = self.ask(sql).unwrap_or_default();
        answer.parse().unwrap_or_else(|_| panic!("{sql}: {answer}"))
    }

    /// The rows of a query as text, NULL as nothing.
    pub(crate) fn table(&self, sql: &str) -> Vec<Vec<String>> {
        let rows = self.cells(sql).into_iter();
        rows.map(|row| row.into_iter().map(Option::unwrap_or_default).collect()).collect()
    }

    /// The rows of a query as text.
    pub(crate) fn cells(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        if let Some(database) = &self.database {
            return database.cells(sql);
        }
        let connection = self.open();
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let mut found = statement.query([]).unwrap();
        let mut rows = Vec::new();
        while let Some(row) = found.next().unwrap() {
            let cell = |at| text_of(row.get_ref(at).unwrap());
            rows.push((0..columns).map(cell).collect());
        }
        rows
    }

    /// The names of the stored views.
    pub(crate) fn stored_views(&self) -> Vec<String> {
        self.table(
            "SELECT name FROM analyst_table WHERE name NOT IN ('freshness', 'analyst_column') ORDER BY name",
        )
        .concat()
    }

    /// Live rows of a person: key to resource.
    pub(crate) fn rows(&self, person: &str) -> BTreeMap<String, String> {
        if let Some(database) = &self.database {
            return database.live_rows(person);
        }
        let connection = self.open();
        let mut rows = BTreeMap::new();
        for table in resource_tables(&connection) {
            let sql =
                format!("SELECT key, resource FROM \"{table}\" WHERE person_id = ?1 AND deleted_at IS NULL");
            let mut statement = connection.prepare(&sql).unwrap();
            let found = statement.query_map([person], |row| Ok((row.get(0)?, row.get(1)?)));
            rows.extend(found.unwrap().map(Result::unwrap));
        }
        rows
    }

    /// Rows of a person in every table that has a `person_id`, but those that stay.
    pub(crate) fn rows_anywhere(&self, person: &str) -> i64 {
        let tables = match &self.database {
            Some(database) => database.tables_with("person_id"),
            None => tables_with(&self.open(), "person_id"),
        };
        let stays = ["checkpoint", "pull", "purge_log", "roster", "turn"];
        let tables = tables.iter().filter(|table| !stays.contains(&table.as_str()));
        let counts =
            tables.map(|table| format!("(SELECT count(*) FROM \"{table}\" WHERE person_id = '{person}')"));
        self.count(&format!("SELECT {}", counts.collect::<Vec<_>>().join(" + ")))
    }

    #[track_caller]
    pub(crate) fn assert_equals_sandbox(&self, person: &str) {
        let (have, want) = (self.rows(person), self.oracle(person));
        let only_in = |left: &BTreeMap<String, String>, right: &BTreeMap<String, String>| {
            let keys = left.iter().filter(|(key, resource)| right.get(*key) != Some(resource));
            keys.map(|(key, _)| key.clone()).take(5).collect::<Vec<_>>()
        };
        assert!(
            have == want,
            "{person}: {} rows, and {} entries on the server; missing or old: {:?}; too many or old: {:?}",
            have.len(),
            want.len(),
            only_in(&want, &have),
            only_in(&have, &want),
        );
    }

    #[track_caller]
    pub(crate) fn assert_sound(&self) {
        self.run(["verify"]).exits(0);
        if self.database.is_none() {
            assert_eq!(self.ask("PRAGMA integrity_check").as_deref(), Some("ok"), "integrity_check");
        }
    }

    /// One column of a patient's checkpoint.
    pub(crate) fn checkpoint(&self, person: &str, column: &str) -> Option<String> {
        self.ask(&format!("SELECT {column} FROM checkpoint WHERE person_id = '{person}'"))
    }

    pub(crate) fn state(&self, person: &str) -> String {
        self.checkpoint(person, "state").unwrap_or_default()
    }

    /// Does any file of the warehouse, or beside it, hold these bytes, in whatever case?
    pub(crate) fn warehouse_bytes_contain(&self, needle: &str) -> bool {
        let needle = needle.to_ascii_lowercase();
        let folder = self.database.as_ref().map_or_else(|| self.path("data"), Database::files);
        let files = fs::read_dir(folder).unwrap();
        files.map(|file| file.unwrap().path()).any(|file| {
            let bytes = fs::read(file).unwrap().to_ascii_lowercase();
            memchr::memmem::find(&bytes, needle.as_bytes()).is_some()
        })
    }

    pub(crate) fn watermark(&self, person: &str) -> Option<String> {
        self.checkpoint(person, "watermark")
    }

    /// The latest pull of a patient: one of its columns.
    pub(crate) fn pull(&self, person: &str, column: &str) -> Option<String> {
        self.ask(&format!("SELECT {column} FROM pull WHERE person_id = '{person}' ORDER BY id DESC LIMIT 1"))
    }
}

pub(crate) fn ask(connection: &Connection, sql: &str) -> Option<String> {
    let mut statement = connection.prepare(sql).unwrap();
    let mut rows = statement.query([]).unwrap();
    text_of(rows.next().unwrap()?.get_ref(0).unwrap())
}

/// A time as many seconds ago, as a literal of SQL.
pub(crate) fn ago(seconds: u32) -> String {
    let connection = Connection::open_in_memory().unwrap();
    let ago = format!("SELECT quote(strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '-{seconds} seconds'))");
    ask(&connection, &ago).unwrap()
}

fn text_of(cell: ValueRef<'_>) -> Option<String> {
    match cell {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        ValueRef::Blob(bytes) => Some(format!("{bytes:?}")),
    }
}

pub(crate) fn resource_tables(connection: &Connection) -> Vec<String> {
    let mut tables = tables_with(connection, "content_hash");
    // Former versions have the same columns, and are nobody's current record.
    tables.retain(|table| table != "history");
    tables
}

fn tables_with(connection: &Connection, column: &str) -> Vec<String> {
    let sql = "SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = ?1";
    let mut statement = connection.prepare(sql).unwrap();
    let names = statement.query_map([column], |row| row.get(0)).unwrap();
    names.map(Result::unwrap).collect()
}

impl World {
    /// Puts in the warehouse's place what an older program would have written: its schema, and of
    /// what is stored all that this had a column for.
    pub(crate) fn make_older(&self, version: usize) {
        let newer = self.path("newer.db");
        // Closing the last connection moves the WAL that a kill left into the file.
        let types = resource_tables(&self.open_to_write());
        std::fs::rename(self.warehouse(), &newer).unwrap();
        let older = Connection::open(self.warehouse()).unwrap();
        older.execute_batch("PRAGMA page_size = 8192; PRAGMA application_id = 0x48455853").unwrap();
        for migration in &migrations()[..version] {
            older.execute_batch(migration).unwrap();
        }
        let table = std::fs::read_to_string(super::project("schema/resource_table.sql")).unwrap();
        for name in types {
            older.execute_batch(&table.replace("{table}", &name)).unwrap();
        }
        older.execute("ATTACH ?1 AS newer", [newer.to_str().unwrap()]).unwrap();
        for name in names(&older, "SELECT name FROM main.sqlite_master WHERE type = 'table'") {
            let columns = format!(
                "SELECT name FROM pragma_table_info('{name}', 'main')
                  INTERSECT SELECT name FROM pragma_table_info('{name}', 'newer')"
            );
            let columns = names(&older, &columns).join("\", \"");
            // What a walk had seen had another form.
            let has_same_form = !["analyst_table", "seen", "walk"].contains(&name.as_str());
            if has_same_form && !columns.is_empty() {
                let copy = format!(
                    "INSERT INTO main.\"{name}\" (\"{columns}\") SELECT \"{columns}\" FROM newer.\"{name}\""
                );
                older.execute_batch(&copy).unwrap();
            }
        }
        older.execute_batch(&format!("DETACH newer; PRAGMA user_version = {version}")).unwrap();
        std::fs::remove_file(newer).unwrap();
    }
}

/// The texts of all migrations, in their order.
fn migrations() -> Vec<String> {
    let mut files: Vec<_> =
        std::fs::read_dir(super::project("schema")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.file_name().unwrap().as_encoded_bytes()[0].is_ascii_digit());
    files.sort();
    files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

fn names(connection: &Connection, sql: &str) -> Vec<String> {
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

//! What the warehouse shows to somebody from outside, as plain facts.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use rusqlite::{Connection, OpenFlags, Row};

use super::people::is_among;
use crate::time::Timestamp;

/// The tables that a world's entries are in.
pub(super) const TABLES: [&str; 5] = ["person", "patient", "observation", "condition", "procedure"];

/// A patient, as `checkpoint` and `freshness` tell of it.
#[derive(Clone, Debug)]
pub(super) struct Patient {
    pub(super) person: String,
    pub(super) state: String,
    pub(super) held_why: Option<String>,
    refused_at: Option<Timestamp>,
    pub(super) watermark: Option<Timestamp>,
    /// The types that it is for; none where it is for all.
    types: Vec<String>,
    pub(super) last_success_at: Option<Timestamp>,
    pub(super) last_full_at: Option<Timestamp>,
    pub(super) deletions_seen_at: Option<Timestamp>,
    pub(super) holds_rows: bool,
    pub(super) purge_reason: Option<String>,
    pub(super) is_under_way: bool,
    /// A sweep that would mark suspiciously much waits since then.
    pub(super) guarded_at: Option<Timestamp>,
    /// Of `freshness`: whether it says that all is there, and how many resources.
    pub(super) fresh: Option<(bool, i64)>,
}

impl Patient {
    /// Returns since when it is refused, where nobody has acted on that.
    pub(super) fn waits_refused_since(&self) -> Option<Timestamp> {
        self.refused_at.filter(|_| self.is_refused_or_held())
    }

    pub(super) fn is_refused_or_held(&self) -> bool {
        ["refused", "held"].contains(&self.state.as_str())
    }

    /// Returns whether its watermark is for what is under a key, too.
    pub(super) fn is_of(&self, key: &str) -> bool {
        is_among(&self.types, key)
    }
}

/// A line of `purge_log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Purge {
    pub(super) person: String,
    pub(super) reason: String,
    pub(super) by: String,
    pub(super) purged_at: Timestamp,
    pub(super) refused_at: Option<Timestamp>,
    pub(super) is_carried_out: bool,
    pub(super) is_scrubbed: bool,
}

/// A look at the file, which is over when it is dropped.
pub(super) struct Look {
    connection: Rc<Connection>,
    pub(super) patients: BTreeMap<String, Patient>,
    pub(super) purges: Vec<Purge>,
}

fn time(row: &Row<'_>, column: &str) -> Option<Timestamp> {
    let text: Option<String> = row.get(column).unwrap();
    text.map(|text| Timestamp::parse(&text).unwrap())
}

impl Drop for Look {
    fn drop(&mut self) {
        let _ = self.connection.execute_batch("ROLLBACK");
    }
}

/// Whoever looks at the file, and has it open from one look to the next: reading its schema each time
/// would take longer than all else.
#[derive(Default)]
pub(super) struct Onlooker(OnceCell<Rc<Connection>>);

impl Onlooker {
    /// Looks at one moment; `None` where there is no warehouse yet.
    pub(super) fn look(&self, path: &Path) -> Option<Look> {
        if !path.exists() {
            return None;
        }
        let open = || Rc::new(Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap());
        let connection = self.0.get_or_init(open).clone();
        connection.execute_batch("BEGIN").unwrap();
        let (patients, purges) = (patients(&connection), purges(&connection));
        Some(Look { connection, patients, purges })
    }
}

impl Look {
    /// Returns the live resource under a key.
    pub(super) fn resource(&self, table: &str, person: &str, key: &str) -> Option<String> {
        let sql = format!(
            "SELECT resource FROM \"{table}\"
              WHERE person_id = ?1 AND key = ?2 AND deleted_at IS NULL AND superseded_at IS NULL"
        );
        let mut statement = self.connection.prepare_cached(&sql).unwrap();
        let mut rows = statement.query([person, key]).unwrap();
        rows.next().unwrap().map(|row| row.get(0).unwrap())
    }

    /// Returns whether there is a row under a key, marked as deleted or not.
    pub(super) fn has_row(&self, table: &str, person: &str, key: &str) -> bool {
        let sql = format!("SELECT 1 FROM \"{table}\" WHERE person_id = ?1 AND key = ?2");
        self.connection.prepare_cached(&sql).unwrap().exists([person, key]).unwrap()
    }

    /// Returns whether there is a live row under a key, in whatever table.
    pub(super) fn any_resource(&self, person: &str, key: &str) -> bool {
        TABLES.iter().any(|table| self.resource(table, person, key).is_some())
    }

    /// Returns whether there is a row under a key that is marked as deleted, in whatever table.
    pub(super) fn is_marked(&self, person: &str, key: &str) -> bool {
        TABLES.iter().any(|table| {
            let sql = format!(
                "SELECT 1 FROM \"{table}\" WHERE person_id = ?1 AND key = ?2 AND deleted_at IS NOT NULL"
            );
            self.connection.prepare_cached(&sql).unwrap().exists([person, key]).unwrap()
        })
    }

    /// Returns all live rows of a person: key to resource.
    pub(super) fn rows(&self, person: &str) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for table in TABLES {
            let sql =
                format!("SELECT key, resource FROM \"{table}\" WHERE person_id = ?1 AND deleted_at IS NULL");
            let mut statement = self.connection.prepare_cached(&sql).unwrap();
            let rows = statement.query_map([person], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            all.extend(rows.map(Result::unwrap));
        }
        all
    }

    /// Returns who has rows of resources, marked as deleted or not.
    pub(super) fn holders(&self) -> BTreeSet<String> {
        let parts = TABLES.map(|table| format!("SELECT person_id FROM \"{table}\""));
        let mut statement = self.connection.prepare_cached(&parts.join(" UNION ")).unwrap();
        let found = statement.query_map([], |row| row.get(0)).unwrap();
        found.map(Result::unwrap).collect()
    }
}

fn patients(connection: &Connection) -> BTreeMap<String, Patient> {
    let mut statement = connection
        .prepare_cached(
            "SELECT c.*, f.is_complete, f.live_resources FROM checkpoint AS c
               LEFT JOIN (SELECT person_id, is_complete, live_resources FROM freshness) AS f
                      ON f.person_id = c.person_id",
        )
        .unwrap();
    let read = |row: &Row<'_>| {
        let complete: Option<bool> = row.get("is_complete")?;
        let resources: Option<i64> = row.get("live_resources")?;
        let types: String = row.get("types")?;
        Ok(Patient {
            person: row.get("person_id")?,
            state: row.get("state")?,
            held_why: row.get("held_why")?,
            refused_at: time(row, "refused_at"),
            watermark: time(row, "watermark"),
            types: types.split(',').filter(|kind| !kind.is_empty()).map(str::to_owned).collect(),
            last_success_at: time(row, "last_success_at"),
            last_full_at: time(row, "last_full_at"),
            deletions_seen_at: time(row, "deletions_seen_at"),
            holds_rows: row.get("holds_rows")?,
            purge_reason: row.get("purge_reason")?,
            guarded_at: time(row, "sweep_guarded_at"),
            is_under_way: row.get::<_, Option<String>>("pull_mode")?.is_some(),
            fresh: complete.zip(resources),
        })
    };
    let found = statement.query_map([], read).unwrap();
    found.map(|patient| patient.map(|patient| (patient.person.clone(), patient)).unwrap()).collect()
}

fn purges(connection: &Connection) -> Vec<Purge> {
    let mut statement = connection.prepare_cached("SELECT * FROM purge_log ORDER BY id").unwrap();
    let read = |row: &Row<'_>| {
        Ok(Purge {
            person: row.get("person_id")?,
            reason: row.get("reason")?,
            by: row.get("by")?,
            purged_at: time(row, "purged_at").unwrap_or_default(),
            refused_at: time(row, "refused_at"),
            is_carried_out: time(row, "carried_out_at").is_some(),
            is_scrubbed: time(row, "scrubbed_at").is_some(),
        })
    };
    statement.query_map([], read).unwrap().map(Result::unwrap).collect()
}

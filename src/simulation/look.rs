//! What the warehouse shows to somebody from outside, as plain facts.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use rusqlite::{Connection, OpenFlags, Row};

use super::people::{is_among, table_of};
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
    /// Since when its records have said that the consent has ended.
    pub(super) consent_ended_at: Option<Timestamp>,
    /// Since when readings of the roster lack it.
    pub(super) missing_since: Option<Timestamp>,
    pub(super) is_listed: bool,
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

    pub(super) fn is_held_as(&self, why: &str) -> bool {
        self.state == "held" && self.held_why.as_deref() == Some(why)
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
    pub(super) purges: Rc<Vec<Purge>>,
}

fn time(row: &Row<'_>, column: usize) -> Option<Timestamp> {
    let text = row.get_ref(column).unwrap().as_str_or_null().unwrap();
    text.map(|text| Timestamp::parse(text).unwrap())
}

impl Drop for Look {
    fn drop(&mut self) {
        let _ = self.connection.execute_batch("ROLLBACK");
    }
}

/// Whoever looks at the file, and has it open from one look to the next: reading its schema each time
/// would take longer than all else.
#[derive(Default)]
pub(super) struct Onlooker {
    connection: OnceCell<Rc<Connection>>,
    /// As they were at the last look: the same, where nothing has changed.
    purges: RefCell<([i64; 3], Rc<Vec<Purge>>)>,
}

/// Several for each of the tables, and what else there is.
const STATEMENTS_KEPT: usize = 64;

impl Onlooker {
    /// Looks at one moment; `None` where there is no warehouse yet.
    pub(super) fn look(&self, path: &Path) -> Option<Look> {
        if !path.exists() {
            return None;
        }
        let open = || {
            let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
            connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
            Rc::new(connection)
        };
        let connection = self.connection.get_or_init(open).clone();
        connection.execute_batch("BEGIN").unwrap();
        let known = purges_known(&connection);
        let mut last = self.purges.borrow_mut();
        if last.0 != known {
            *last = (known, Rc::new(purges(&connection)));
        }
        let (patients, purges) = (patients(&connection), last.1.clone());
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
    pub(super) fn has_row(&self, person: &str, key: &str) -> bool {
        self.has_row_of("TRUE", person, key)
    }

    /// Returns whether there is a live row under a key.
    pub(super) fn is_live(&self, person: &str, key: &str) -> bool {
        self.has_row_of("deleted_at IS NULL AND superseded_at IS NULL", person, key)
    }

    /// Returns whether there is a row under a key that is marked as deleted.
    pub(super) fn is_marked(&self, person: &str, key: &str) -> bool {
        self.has_row_of("deleted_at IS NOT NULL", person, key)
    }

    fn has_row_of(&self, which: &str, person: &str, key: &str) -> bool {
        let table = table_of(key.split('/').next().unwrap_or_default());
        let sql = format!("SELECT 1 FROM \"{table}\" WHERE person_id = ?1 AND key = ?2 AND {which}");
        self.connection.prepare_cached(&sql).unwrap().exists([person, key]).unwrap()
    }

    /// Returns whether it is known what the consent of a person lets through.
    pub(super) fn knows_scopes(&self, person: &str) -> bool {
        let sql = "SELECT 1 FROM consent_record WHERE person_id = ?1 AND scopes IS NOT NULL";
        self.connection.prepare_cached(sql).unwrap().exists([person]).unwrap()
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

    /// Returns how many live rows a person has.
    pub(super) fn count_rows(&self, person: &str) -> i64 {
        let count = |table: &&str| {
            let sql = format!("SELECT count(*) FROM \"{table}\" WHERE person_id = ?1 AND deleted_at IS NULL");
            let mut statement = self.connection.prepare_cached(&sql).unwrap();
            statement.query_row([person], |row| row.get::<_, i64>(0)).unwrap()
        };
        TABLES.iter().map(count).sum()
    }

    /// Returns whether a person has rows of resources, marked as deleted or not.
    pub(super) fn holds_rows(&self, person: &str) -> bool {
        TABLES.iter().any(|table| {
            let sql = format!("SELECT 1 FROM \"{table}\" WHERE person_id = ?1");
            self.connection.prepare_cached(&sql).unwrap().exists([person]).unwrap()
        })
    }
}

const PATIENTS: &str =
    "SELECT c.person_id, c.state, c.held_why, c.refused_at, c.watermark, c.types, c.last_success_at, c.last_full_at,
            c.deletions_seen_at, c.holds_rows, c.purge_reason, c.sweep_guarded_at, c.pull_mode IS NOT NULL,
            f.is_complete, f.live_resources, c.consent_ended_at, c.missing_since, c.listed
       FROM checkpoint AS c
       LEFT JOIN (SELECT person_id, is_complete, live_resources FROM freshness) AS f ON f.person_id = c.person_id";

fn patients(connection: &Connection) -> BTreeMap<String, Patient> {
    let mut statement = connection.prepare_cached(PATIENTS).unwrap();
    let read = |row: &Row<'_>| {
        let types = row.get_ref(5)?.as_str()?;
        let (complete, resources): (Option<bool>, Option<i64>) = (row.get(13)?, row.get(14)?);
        Ok(Patient {
            person: row.get(0)?,
            state: row.get(1)?,
            held_why: row.get(2)?,
            refused_at: time(row, 3),
            watermark: time(row, 4),
            types: types.split(',').filter(|kind| !kind.is_empty()).map(str::to_owned).collect(),
            last_success_at: time(row, 6),
            last_full_at: time(row, 7),
            deletions_seen_at: time(row, 8),
            holds_rows: row.get(9)?,
            purge_reason: row.get(10)?,
            guarded_at: time(row, 11),
            is_under_way: row.get(12)?,
            fresh: complete.zip(resources),
            consent_ended_at: time(row, 15),
            missing_since: time(row, 16),
            is_listed: row.get(17)?,
        })
    };
    let found = statement.query_map([], read).unwrap();
    found.map(|patient| patient.map(|patient| (patient.person.clone(), patient)).unwrap()).collect()
}

/// Returns what tells whether `purge_log` is as it was: a line of it changes twice, and none goes.
fn purges_known(connection: &Connection) -> [i64; 3] {
    let counts = "SELECT count(*), count(carried_out_at), count(scrubbed_at) FROM purge_log";
    let mut statement = connection.prepare_cached(counts).unwrap();
    statement.query_row([], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?])).unwrap()
}

fn purges(connection: &Connection) -> Vec<Purge> {
    let all = "SELECT person_id, reason, by, purged_at, refused_at, carried_out_at, scrubbed_at FROM purge_log ORDER BY id";
    let mut statement = connection.prepare_cached(all).unwrap();
    let read = |row: &Row<'_>| {
        Ok(Purge {
            person: row.get(0)?,
            reason: row.get(1)?,
            by: row.get(2)?,
            purged_at: time(row, 3).unwrap_or_default(),
            refused_at: time(row, 4),
            is_carried_out: time(row, 5).is_some(),
            is_scrubbed: time(row, 6).is_some(),
        })
    };
    statement.query_map([], read).unwrap().map(Result::unwrap).collect()
}

//! The table `persons`: a row for each human, worked out of the tables that hold what is known.
//!
//! Promise: after every page it holds what those tables give for the persons of that page. A first or
//! last day that only new rows can have moved is moved; anything else is looked for anew.
//!
//! Absent on purpose: any resource. It reads the other tables of the analysts.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::freshness;
use super::view_table::{ViewTable, hash};
use crate::views::{SOURCE_HASH, persons_columns};
use crate::warehouse::days::{DAYS, Span};
use crate::warehouse::failure::StoreFailed;

pub(super) const NAME: &str = "persons";
/// What the row of a person is built from: one for each person of whom anything is stored.
pub(super) const SOURCE: &str = "live_resources";
/// Persons that one step of a build works out.
pub(super) const STEP_PERSONS: usize = 50;

const ROW: &str = include_str!("../../../schema/persons.sql");

/// What a page brought of a person.
pub(super) struct Brought<'d> {
    pub(super) days: &'d Span,
    /// How many more live resources there are with it.
    pub(super) live: i64,
}

/// How the table is made.
#[derive(Debug)]
pub(super) struct Persons {
    /// The first and the last day of one person, over all tables.
    span: String,
    pub(super) create: String,
    pub(super) definition: String,
}

impl Persons {
    /// Returns how the table is made of those that are kept, `None` without `patients`.
    pub(super) fn of(known: &[ViewTable]) -> Option<Self> {
        known.iter().find(|table| table.name == "patients")?;
        let dated = DAYS.iter().filter(|(name, _)| known.iter().any(|table| table.name == *name));
        let days: Vec<String> = dated
            .map(|(table, day)| format!("SELECT min({day}), max({day}) FROM {table} WHERE person_id = ?1"))
            .collect();
        let span = format!(
            "SELECT min(first), max(last) FROM (SELECT NULL AS first, NULL AS last UNION ALL {})",
            days.join(" UNION ALL ")
        );
        let inputs = known.iter().filter(|table| table.concerns_persons());
        let inputs = inputs.map(|table| table.definition.as_str());
        let create = create();
        let hashed: Vec<&str> = inputs.chain([&create, ROW, &span, SOURCE_HASH]).collect();
        let definition = hash(&hashed);
        Some(Self { span, create, definition })
    }

    /// Works out the row of a person of whom something changed: `brought` is `None` where not all of it is
    /// new.
    pub(super) fn follow(
        &self,
        connection: &Connection,
        person: &str,
        brought: Option<Brought<'_>>,
    ) -> Result<(), StoreFailed> {
        let stored = "SELECT first_date, last_date FROM persons WHERE person_id = ?1";
        let read = |row: &rusqlite::Row<'_>| Ok(Span { first: row.get(0)?, last: row.get(1)? });
        let stored = connection.prepare_cached(stored)?.query_row([person], read).optional()?;
        let span = match (stored, brought) {
            (Some(mut stored), Some(brought)) => {
                stored.join(brought.days);
                stored
            }
            (None, Some(brought)) if freshness::live(connection, person)? == brought.live => {
                brought.days.clone()
            }
            _ => connection.prepare_cached(&self.span)?.query_row([person], read)?,
        };
        connection.prepare_cached("DELETE FROM persons WHERE person_id = ?1")?.execute([person])?;
        connection.prepare_cached(&format!("INSERT INTO persons {ROW}"))?.execute(named_params! {
            ":person_id": person, ":first_date": span.first, ":last_date": span.last,
        })?;
        Ok(())
    }

    /// Works out some persons, in the order of their rows. Returns the last one's, `None` at the end.
    pub(super) fn step(
        &self,
        connection: &Connection,
        built_to: i64,
        end: i64,
    ) -> Result<Option<i64>, StoreFailed> {
        let statement = "SELECT rowid, person_id FROM live_resources WHERE rowid > ?1 AND rowid <= ?2 ORDER BY rowid LIMIT ?3";
        let mut statement = connection.prepare_cached(statement)?;
        let rows = statement
            .query_map(params![built_to, end, STEP_PERSONS], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let persons = rows.collect::<Result<Vec<(i64, String)>, _>>()?;
        for (_, person) in &persons {
            self.follow(connection, person, None)?;
        }
        Ok(persons.last().map(|(rowid, _)| *rowid).filter(|_| persons.len() == STEP_PERSONS))
    }

    /// Returns whether the table holds other rows than it should.
    pub(super) fn differs(&self, connection: &Connection) -> Result<bool, StoreFailed> {
        let mut everyone =
            connection.prepare("SELECT person_id FROM live_resources UNION SELECT person_id FROM persons")?;
        let everyone = everyone.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        let mut stored = connection.prepare("SELECT * FROM persons WHERE person_id = ?1")?;
        let mut fresh = connection.prepare(ROW)?;
        let mut span = connection.prepare(&self.span)?;
        let cells = |row: &rusqlite::Row<'_>| {
            (0..row.as_ref().column_count()).map(|at| row.get(at)).collect::<Result<Vec<Value>, _>>()
        };
        for person in &everyone {
            let days: (Option<String>, Option<String>) =
                span.query_row([person], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let parameters =
                named_params! { ":person_id": person, ":first_date": days.0, ":last_date": days.1 };
            if stored.query_row([person], cells).optional()?
                != fresh.query_row(parameters, cells).optional()?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn create() -> String {
    let columns =
        persons_columns().iter().map(|column| format!(",\n  {} {}", column.name, column.declared.sql()));
    format!("CREATE TABLE {NAME} (\n  person_id TEXT PRIMARY KEY{}\n);", columns.collect::<String>())
}

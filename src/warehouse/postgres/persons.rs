//! The table `persons`: a row for each human, worked out of the tables that hold what is known.
//!
//! Promise: after every page it holds what those tables give for the person of that page. A first or last day that
//! only new rows can have moved is moved; anything else is looked for anew.

use super::view_table::{ViewTable, create_persons, hash};
use crate::views::{SOURCE_HASH, persons_columns};
use crate::warehouse::days::DAYS;

pub(super) const NAME: &str = "persons";

const KEEP: &str = include_str!("../../../schema/postgres/persons.sql");
const ROW: &str = include_str!("../../../schema/postgres/person_row.sql");

/// How the table is made.
#[derive(Clone, Debug)]
pub(super) struct Persons {
    /// The dated tables that are kept, with the columns of their days.
    dated: Vec<(&'static str, &'static str)>,
    pub(super) definition: String,
}

impl Persons {
    /// Returns how the table is made of those that are kept, `None` without `patients`.
    pub(super) fn of(known: &[ViewTable]) -> Option<Self> {
        known.iter().find(|table| table.name == "patients")?;
        let is_kept = |name: &str| known.iter().any(|table| table.name == name);
        let mut persons = Self {
            dated: DAYS.into_iter().filter(|(name, _)| is_kept(name)).collect(),
            definition: String::new(),
        };
        let inputs = known.iter().filter(|table| table.concerns_persons());
        let inputs = inputs.map(|table| table.definition.as_str());
        let (create, anew) = (create_persons(NAME), persons.work_out(NAME, &str::to_owned));
        let hashed: Vec<&str> = inputs.chain([create.as_str(), anew.as_str(), SOURCE_HASH]).collect();
        persons.definition = hash(&hashed);
        Some(persons)
    }

    /// Returns what works out the row of a person. `called` tells what a table is called for now.
    pub(super) fn work_out(&self, name: &str, called: &dyn Fn(&str) -> String) -> String {
        keep(name, called, &self.span(called))
    }

    /// Returns the same where only new rows can have moved the first and the last day; they are the second and the
    /// third parameter.
    pub(super) fn follow(&self) -> String {
        let called = &str::to_owned;
        let span = format!(
            "SELECT least(s.first_date, $2) AS first_date, greatest(s.last_date, $3) AS last_date
      FROM {NAME} AS s WHERE s.person_id = $1
     UNION ALL
    SELECT anew.* FROM ({}) AS anew WHERE NOT EXISTS (SELECT 1 FROM {NAME} AS s WHERE s.person_id = $1)",
            self.span(called)
        );
        keep(NAME, called, &span)
    }

    /// Returns what asks whether the row of a person is another than the one that is worked out.
    pub(super) fn differs(&self) -> String {
        let called = &str::to_owned;
        let columns: Vec<&str> = persons_columns().iter().map(|column| column.name.as_str()).collect();
        let columns = columns.join(", ");
        format!(
            "WITH stored AS (SELECT person_id, {columns} FROM {NAME} WHERE person_id = $1),
      anew (person_id, {columns}) AS ({})
SELECT EXISTS (TABLE stored EXCEPT TABLE anew) OR EXISTS (TABLE anew EXCEPT TABLE stored)",
            row(called, &self.span(called))
        )
    }

    /// The first and the last day of one person, over all tables.
    fn span(&self, called: &dyn Fn(&str) -> String) -> String {
        let days = self.dated.iter().map(|(table, day)| {
            format!(
                " UNION ALL SELECT min({day}), max({day}) FROM \"{}\" WHERE person_id = $1",
                called(table)
            )
        });
        format!(
            "SELECT min(first) AS first_date, max(last) AS last_date FROM (SELECT NULL::date AS first, NULL::date AS last{}) AS days",
            days.collect::<String>()
        )
    }
}

fn keep(name: &str, called: &dyn Fn(&str) -> String, span: &str) -> String {
    KEEP.replace("{persons}", name).replace("{row}", &row(called, span))
}

fn row(called: &dyn Fn(&str) -> String, span: &str) -> String {
    ROW.replace("{patients}", &called("patients")).replace("{span}", span)
}

/// Takes out the row of a person of whom nothing is stored any more.
pub(super) const FORGET: &str = "DELETE FROM persons WHERE person_id = $1
    AND NOT EXISTS (SELECT 1 FROM live_resources WHERE person_id = $1 AND resources > 0)";

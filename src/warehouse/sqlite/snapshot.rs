//! The warehouse as of one moment, read from its beginning to its end.
//!
//! Promise: whatever is asked of a snapshot, a page stored meanwhile is not in it. What is marked as deleted or
//! superseded is no resource, and a patient that is purged has none. Absent on purpose: what is made of the rows.

use std::collections::HashSet;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, Statement, Transaction, named_params};

use super::{analyst_tables, cycle_ends, facts, freshness, open, removed, tables};
use crate::plan::resource_type::ResourceType;
use crate::plan::{Timestamp, parse_stamp, stamp};
use crate::warehouse::extract::{
    ColumnShape, GoneResource, Progress, PurgedSince, Selection, StoredCell, StoredResource, TableShape,
};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::patient::CycleTimes;
use crate::warehouse::report::StoredTable;

pub(in crate::warehouse) struct Snapshot<'c> {
    transaction: Transaction<'c>,
}

impl<'c> Snapshot<'c> {
    pub(super) fn begin(connection: &'c Connection) -> Result<Self, StoreFailed> {
        let transaction = connection.unchecked_transaction()?;
        // The first read is what begins it.
        if open::user_version(&transaction)? < open::SCHEMA_VERSION {
            return Err(StoreFailed::Engine(
                "it is of an older healthex-sync; the next `healthex-sync sync` brings it up".to_owned(),
            ));
        }
        Ok(Self { transaction })
    }

    /// Returns the number of the last purge; 0 is none.
    pub(in crate::warehouse) fn last_purge(&self) -> Result<i64, StoreFailed> {
        last_purge(&self.transaction)
    }

    pub(in crate::warehouse) fn cycle_times(&self) -> Result<CycleTimes, StoreFailed> {
        cycle_ends::cycle_times(&self.transaction)
    }

    pub(in crate::warehouse) fn base_url(&self) -> Result<Option<String>, StoreFailed> {
        let statement = "SELECT value FROM about WHERE name = 'base_url'";
        Ok(self.transaction.query_row(statement, [], |row| row.get(0)).optional()?)
    }

    /// Returns since when everything that vanished is still known; `None` is since ever.
    pub(in crate::warehouse) fn removals_known_since(&self) -> Result<Option<Timestamp>, StoreFailed> {
        removed::known_since(&self.transaction)
    }

    pub(in crate::warehouse) fn progress(&self, person: Option<&str>) -> Result<Progress, StoreFailed> {
        let mut statement = self.transaction.prepare(
            "SELECT person_id, watermark, is_complete FROM freshness
              WHERE ?1 IS NULL OR person_id = ?1 ORDER BY person_id",
        )?;
        let mut rows = statement.query([person])?;
        let mut progress = Progress::default();
        while let Some(row) = rows.next()? {
            let person: String = row.get(0)?;
            if !row.get::<_, bool>(2)? {
                progress.incomplete.push(person.clone());
            }
            progress.watermarks.insert(person, row.get(1)?);
        }
        Ok(progress)
    }

    /// Returns the purges of that time and later, the first one first.
    pub(in crate::warehouse) fn purged(
        &self,
        selection: Selection<'_>,
    ) -> Result<Vec<PurgedSince>, StoreFailed> {
        let mut statement = self.transaction.prepare(
            "SELECT person_id, purged_at, reason FROM purge_log
              WHERE purged_at >= :since AND (:person IS NULL OR person_id = :person) ORDER BY id",
        )?;
        let found = statement
            .query_map(named_params! { ":since": since(selection), ":person": selection.person }, |row| {
                Ok(PurgedSince { person_id: row.get(0)?, purged_at: row.get(1)?, reason: row.get(2)? })
            })?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    pub(in crate::warehouse) fn resource_types(&self) -> Result<Vec<&'static ResourceType>, StoreFailed> {
        tables::resource_tables(&self.transaction)
    }

    /// Returns whoever has a row of any type.
    pub(in crate::warehouse) fn persons(&self) -> Result<Vec<String>, StoreFailed> {
        let mut statement = self
            .transaction
            .prepare("SELECT person_id FROM checkpoint WHERE holds_rows ORDER BY person_id")?;
        let persons = statement.query_map([], |row| row.get(0))?;
        Ok(persons.collect::<Result<_, _>>()?)
    }

    /// Reads the live resources of one type, those of a person together.
    pub(in crate::warehouse) fn resources<E: From<StoreFailed>>(
        &self,
        table: &str,
        selection: Selection<'_>,
        mut each: impl FnMut(StoredResource<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let select = format!(
            "SELECT person_id, key, id, version_id, last_updated, source, patient, first_seen_at, changed_at, resource
               FROM \"{table}\"
              WHERE deleted_at IS NULL AND superseded_at IS NULL AND changed_at >= :since{}
              ORDER BY person_id, key",
            only(selection.person, "person_id"),
        );
        let mut statement = self.prepare(&select)?;
        let mut rows = query(&mut statement, selection)?;
        while let Some(row) = rows.next().map_err(StoreFailed::from)? {
            each(stored_resource(row)?)?;
        }
        Ok(())
    }

    /// Reads what vanished of one type since `selection.since`, those of a person together.
    pub(in crate::warehouse) fn gone<E: From<StoreFailed>>(
        &self,
        table: &str,
        selection: Selection<'_>,
        mut each: impl FnMut(GoneResource) -> Result<(), E>,
    ) -> Result<(), E> {
        let person = only(selection.person, "t.person_id");
        let select = format!(
            "SELECT t.person_id, t.key, t.id FROM \"{table}\" AS t
              WHERE (t.deleted_at >= :since OR t.superseded_at >= :since){person}
              UNION ALL
             SELECT t.person_id, t.key, t.id FROM removed AS t
              WHERE t.type = '{table}' AND t.removed_at >= :since{person}
                AND NOT EXISTS (SELECT 1 FROM \"{table}\" AS o WHERE o.person_id = t.person_id AND o.key = t.key)
              ORDER BY 1, 2"
        );
        let mut statement = self.prepare(&select)?;
        let mut rows = query(&mut statement, selection)?;
        let mut live = LiveIds::default();
        while let Some(row) = rows.next().map_err(StoreFailed::from)? {
            let mut gone = gone_resource(row)?;
            if let Some(id) = &gone.id {
                gone.lives_on = live.of(&self.transaction, table, &gone.person_id)?.contains(id);
            }
            each(gone)?;
        }
        Ok(())
    }

    /// Returns the analysts' tables, by name.
    pub(in crate::warehouse) fn tables(&self) -> Result<Vec<TableShape>, StoreFailed> {
        let is_of_patients = |table: &StoredTable| table.name != facts::NAME;
        let listed = analyst_tables::list(&self.transaction)?;
        let shapes = listed.into_iter().filter(is_of_patients).map(|table| {
            let columns = self.columns(&table.name)?;
            // A row that is of no one resource does not say which of them changed.
            let has_key = columns.iter().any(|column| column.name == "key");
            let known = ResourceType::by_name(&table.resource).filter(|_| has_key);
            Ok(TableShape {
                sources: known.map(|known| known.table.clone()).into_iter().collect(),
                columns,
                is_built: table.percent_built.is_none(),
                built_at: parse_stamp(&table.built_at),
                name: table.name,
            })
        });
        shapes.collect()
    }

    /// Names and declared types. What a view computes has no declared type.
    fn columns(&self, table: &str) -> Result<Vec<ColumnShape>, StoreFailed> {
        let mut statement = self.transaction.prepare("SELECT name, type FROM pragma_table_info(?1)")?;
        let columns = statement
            .query_map([table], |row| Ok(ColumnShape { name: row.get(0)?, declared: row.get(1)? }))?;
        let mut columns = columns.collect::<Result<Vec<_>, _>>()?;
        if table == freshness::NAME {
            for ColumnShape { name, declared } in &mut columns {
                if let Some((_, computed)) = freshness::COMPUTED.iter().find(|(column, _)| column == name) {
                    (*computed).clone_into(declared);
                }
            }
        }
        Ok(columns)
    }

    /// Reads the rows of an analysts' table, its columns in their order. With `selection.since`, those of the
    /// resources that changed since.
    pub(in crate::warehouse) fn rows<E: From<StoreFailed>>(
        &self,
        table: &TableShape,
        selection: Selection<'_>,
        mut each: impl FnMut(&[StoredCell<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        let changed = match (&selection.since, table.sources.as_slice()) {
            (Some(_), [source]) => self.changed(table, source)?,
            _ => " AND :since IS NOT NULL".to_owned(),
        };
        let person = only(selection.person, "t.person_id");
        let select = format!("SELECT t.* FROM \"{}\" AS t WHERE 1{changed}{person}", table.name);
        let mut statement = self.prepare(&select)?;
        let mut rows = query(&mut statement, selection)?;
        while let Some(row) = rows.next().map_err(StoreFailed::from)? {
            let cells = (0..table.columns.len()).map(|at| stored_cell(row, at));
            each(&cells.collect::<Result<Vec<_>, _>>()?)?;
        }
        Ok(())
    }

    /// Returns the condition for rows that are other ones than at `:since`: their resource changed, they were
    /// worked out anew, or the medicine that they are filled in from changed.
    fn changed(&self, table: &TableShape, source: &str) -> Result<String, StoreFailed> {
        let has = |name: &str| table.columns.iter().any(|column| column.name == name);
        let mut any = vec![format!(
            "EXISTS (SELECT 1 FROM \"{source}\" AS s
                      WHERE s.person_id = t.person_id AND s.key = t.\"key\" AND s.changed_at >= :since)"
        )];
        if has("changed_at") {
            any.push("t.changed_at >= replace(replace(:since, 'T', ' '), 'Z', '')".to_owned());
        }
        if has("medication_id") && tables::exists(&self.transaction, "medication")? {
            any.push(
                "EXISTS (SELECT 1 FROM medication AS m
                          WHERE m.person_id = t.person_id AND m.id = t.medication_id
                            AND (m.changed_at >= :since OR m.deleted_at >= :since OR m.superseded_at >= :since))"
                    .to_owned(),
            );
        }
        Ok(format!(" AND ({})", any.join(" OR ")))
    }

    /// Reads the resources that changed or vanished since `selection.since` and have no row in an analysts' table.
    pub(in crate::warehouse) fn without_rows<E: From<StoreFailed>>(
        &self,
        table: &TableShape,
        selection: Selection<'_>,
        mut each: impl FnMut(GoneResource) -> Result<(), E>,
    ) -> Result<(), E> {
        let person = only(selection.person, "t.person_id");
        for source in &table.sources {
            let has_none = format!(
                "NOT EXISTS (SELECT 1 FROM \"{}\" AS v WHERE v.person_id = t.person_id AND v.\"key\" = t.key)",
                table.name
            );
            let select = format!(
                "SELECT t.person_id, t.key, t.id FROM \"{source}\" AS t
                  WHERE (t.changed_at >= :since OR t.deleted_at >= :since OR t.superseded_at >= :since)
                    AND {has_none}{person}
                  UNION ALL
                 SELECT t.person_id, t.key, t.id FROM removed AS t
                  WHERE t.type = '{source}' AND t.removed_at >= :since AND {has_none}{person}
                  ORDER BY 1, 2"
            );
            let mut statement = self.prepare(&select)?;
            let mut rows = query(&mut statement, selection)?;
            while let Some(row) = rows.next().map_err(StoreFailed::from)? {
                each(gone_resource(row)?)?;
            }
        }
        Ok(())
    }

    fn prepare(&self, select: &str) -> Result<Statement<'_>, StoreFailed> {
        Ok(self.transaction.prepare(select)?)
    }
}

/// Returns the number of the last purge; 0 is none.
pub(super) fn last_purge(connection: &Connection) -> Result<i64, StoreFailed> {
    Ok(connection.query_row("SELECT coalesce(max(id), 0) FROM purge_log", [], |row| row.get(0))?)
}

/// The ids of the live resources of one person, kept while one person's rows are read.
#[derive(Default)]
struct LiveIds {
    person: String,
    ids: HashSet<String>,
}

impl LiveIds {
    fn of(
        &mut self,
        connection: &Connection,
        table: &str,
        person: &str,
    ) -> Result<&HashSet<String>, StoreFailed> {
        if self.person != person {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT id FROM \"{table}\"
                  WHERE person_id = ?1 AND id IS NOT NULL AND deleted_at IS NULL AND superseded_at IS NULL"
            ))?;
            self.ids = statement.query_map([person], |row| row.get(0))?.collect::<Result<_, _>>()?;
            person.clone_into(&mut self.person);
        }
        Ok(&self.ids)
    }
}

fn only(person: Option<&str>, column: &str) -> String {
    person.map_or_else(|| " AND :person IS NULL".to_owned(), |_| format!(" AND {column} = :person"))
}

/// Text that sorts before every time, where all times are wanted.
fn since(selection: Selection<'_>) -> String {
    selection.since.map(stamp).unwrap_or_default()
}

fn query<'s>(
    statement: &'s mut Statement<'_>,
    selection: Selection<'_>,
) -> Result<rusqlite::Rows<'s>, StoreFailed> {
    Ok(statement.query(named_params! { ":since": since(selection), ":person": selection.person })?)
}

fn stored_resource<'r>(row: &'r Row<'_>) -> Result<StoredResource<'r>, StoreFailed> {
    let text = |at: usize| row.get_ref(at).and_then(|cell| cell.as_str().map_err(rusqlite::Error::from));
    let optional =
        |at: usize| row.get_ref(at).and_then(|cell| cell.as_str_or_null().map_err(rusqlite::Error::from));
    Ok(StoredResource {
        person_id: text(0)?,
        key: text(1)?,
        id: optional(2)?,
        version_id: optional(3)?,
        last_updated: optional(4)?,
        source: optional(5)?,
        patient: optional(6)?,
        first_seen_at: text(7)?,
        changed_at: text(8)?,
        resource: text(9)?,
    })
}

fn gone_resource(row: &Row<'_>) -> Result<GoneResource, StoreFailed> {
    Ok(GoneResource { person_id: row.get(0)?, key: row.get(1)?, id: row.get(2)?, lives_on: false })
}

fn stored_cell<'r>(row: &'r Row<'_>, at: usize) -> Result<StoredCell<'r>, StoreFailed> {
    Ok(match row.get_ref(at)? {
        ValueRef::Null | ValueRef::Blob(_) => StoredCell::Null,
        ValueRef::Integer(number) => StoredCell::Integer(number),
        ValueRef::Real(number) => StoredCell::Real(number),
        // Views write text that is UTF-8; what a hand has written in may not be.
        ValueRef::Text(text) => str::from_utf8(text).map_or(StoredCell::Null, StoredCell::Text),
    })
}

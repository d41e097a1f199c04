//! The warehouse as of one moment, read from its beginning to its end.
//!
//! Promise: whatever is asked of a snapshot, a page stored meanwhile is not in it. What is marked as deleted or
//! superseded is no resource, and a patient that is purged has none. Absent on purpose: what is made of the rows.

use std::future::Future;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::analyst_tables::{FACTS, FRESHNESS, list};
use super::failure::Undone;
use super::pool::Pool;
use super::session::{Begin, Session};
use super::stream::each_row;
use super::values::{Decimal, Param};
use super::{cycle_ends, open, removed, runtime, tables};
use crate::plan::resource_type::ResourceType;
use crate::plan::{Timestamp, parse_stamp, stamp};
use crate::time::Day;
use crate::warehouse::extract::{
    ColumnShape, GoneResource, Progress, PurgedSince, Selection, StoredCell, StoredResource, TableShape,
};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::patient::CycleTimes;
use crate::warehouse::report::StoredTable;

pub(in crate::warehouse) struct Snapshot {
    session: Session,
}

/// Returns what the server answers.
fn wait<T: Send>(answer: impl Future<Output = Result<T, Undone>> + Send) -> Result<T, StoreFailed> {
    let answer = runtime::wait(answer).map_err(|error| StoreFailed::Engine(error.to_string()))?;
    answer.map_err(Undone::into_failure)
}

impl Snapshot {
    pub(super) fn begin(pool: &Pool) -> Result<Self, StoreFailed> {
        let begin = async {
            let session = pool.begin(Begin::Snapshot).await?;
            // Whoever writes files takes its time between two statements.
            let patience =
                "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0";
            session.batch(patience).await?;
            Ok(session)
        };
        Ok(Self { session: wait(begin)? })
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// Returns the number of the last purge; 0 is none.
    pub(in crate::warehouse) fn last_purge(&self) -> Result<i64, StoreFailed> {
        wait(last_purge(&self.session))
    }

    pub(in crate::warehouse) fn cycle_times(&self) -> Result<CycleTimes, StoreFailed> {
        wait(cycle_ends::cycle_times(&self.session))
    }

    pub(in crate::warehouse) fn base_url(&self) -> Result<Option<String>, StoreFailed> {
        wait(cycle_ends::noted_text(&self.session, open::BASE_URL))
    }

    /// Returns since when everything that vanished is still known; `None` is since ever.
    pub(in crate::warehouse) fn removals_known_since(&self) -> Result<Option<Timestamp>, StoreFailed> {
        wait(removed::known_since(&self.session))
    }

    pub(in crate::warehouse) fn progress(&self, person: Option<&str>) -> Result<Progress, StoreFailed> {
        let statement = "SELECT person_id, watermark, is_complete FROM freshness
              WHERE $1 IS NULL OR person_id = $1 ORDER BY person_id";
        let rows = wait(self.session.rows(statement, &[&person]))?;
        let mut progress = Progress::default();
        for row in rows {
            let person: String = row.try_get(0)?;
            if !row.try_get::<_, bool>(2)? {
                progress.incomplete.push(person.clone());
            }
            progress.watermarks.insert(person, row.try_get::<_, Option<Timestamp>>(1)?.map(stamp));
        }
        progress.incomplete.sort();
        Ok(progress)
    }

    /// Returns the purges of that time and later, the first one first.
    pub(in crate::warehouse) fn purged(
        &self,
        selection: Selection<'_>,
    ) -> Result<Vec<PurgedSince>, StoreFailed> {
        let statement = "SELECT person_id, purged_at, reason FROM purge_log
              WHERE purged_at >= $1 AND ($2 IS NULL OR person_id = $2) ORDER BY id";
        let rows = wait(self.session.rows(statement, &[&since(selection), &selection.person]))?;
        let purged = rows.iter().map(|row| {
            Ok(PurgedSince {
                person_id: row.try_get(0)?,
                purged_at: stamp(row.try_get(1)?),
                reason: row.try_get(2)?,
            })
        });
        purged.collect()
    }

    /// Returns the types that have rows, or had some, and those of US Core.
    pub(in crate::warehouse) fn resource_types(&self) -> Result<Vec<&'static ResourceType>, StoreFailed> {
        wait(tables::with_rows(&self.session))
    }

    /// Returns whoever has a row of any type.
    pub(in crate::warehouse) fn persons(&self) -> Result<Vec<String>, StoreFailed> {
        let statement = "SELECT person_id FROM checkpoint WHERE holds_rows ORDER BY person_id COLLATE \"C\"";
        let rows = wait(self.session.rows(statement, &[]))?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Reads the live resources of one type, those of a person together.
    pub(in crate::warehouse) fn resources<E: From<StoreFailed>>(
        &self,
        table: &str,
        selection: Selection<'_>,
        mut each: impl FnMut(StoredResource<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let select = format!(
            "SELECT person_id, key, id, version_id, last_updated, source, patient, first_seen_at, changed_at,
                    resource::text
               FROM \"{table}\"
              WHERE deleted_at IS NULL AND superseded_at IS NULL AND changed_at >= $1{}
              ORDER BY person_id, key",
            only(selection.person, "person_id"),
        );
        self.each(&select, selection, |row| {
            let time = |at: usize| row.try_get::<_, Timestamp>(at).map(stamp).map_err(StoreFailed::from);
            let (first_seen_at, changed_at) = (time(7)?, time(8)?);
            let text = |at: usize| row.try_get::<_, &str>(at).map_err(StoreFailed::from);
            let optional = |at: usize| row.try_get::<_, Option<&str>>(at).map_err(StoreFailed::from);
            each(StoredResource {
                person_id: text(0)?,
                key: text(1)?,
                id: optional(2)?,
                version_id: optional(3)?,
                last_updated: optional(4)?,
                source: optional(5)?,
                patient: optional(6)?,
                first_seen_at: &first_seen_at,
                changed_at: &changed_at,
                resource: text(9)?,
            })
        })
    }

    /// Reads what vanished of one type since `selection.since`, those of a person together.
    pub(in crate::warehouse) fn gone<E: From<StoreFailed>>(
        &self,
        table: &str,
        selection: Selection<'_>,
        mut each: impl FnMut(GoneResource) -> Result<(), E>,
    ) -> Result<(), E> {
        let select = include_str!("../../../schema/postgres/gone.sql")
            .replace("{table}", table)
            .replace("{person}", &only(selection.person, "t.person_id"));
        self.each(&select, selection, |row| {
            let lives_on = row.try_get(3).map_err(StoreFailed::from)?;
            each(GoneResource { lives_on, ..gone_resource(row)? })
        })
    }

    /// Returns the analysts' tables, by name.
    pub(in crate::warehouse) fn tables(&self) -> Result<Vec<TableShape>, StoreFailed> {
        let is_of_patients = |table: &StoredTable| table.name != FACTS;
        let listed = wait(list(&self.session))?;
        let shapes = listed.into_iter().filter(is_of_patients).map(|table| {
            let columns = wait(columns(&self.session, &table.name))?;
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

    /// Reads the rows of an analysts' table, its columns in their order. With `selection.since`, those of the
    /// resources that changed since.
    pub(in crate::warehouse) fn rows<E: From<StoreFailed>>(
        &self,
        table: &TableShape,
        selection: Selection<'_>,
        mut each: impl FnMut(&[StoredCell<'_>]) -> Result<(), E>,
    ) -> Result<(), E> {
        let changed = match (&selection.since, table.sources.as_slice()) {
            (Some(_), [source]) => changed(table, source),
            _ => " AND $1 IS NOT NULL".to_owned(),
        };
        let person = only(selection.person, "t.person_id");
        let select = format!("SELECT t.* FROM \"{}\" AS t WHERE true{changed}{person}", table.name);
        let is_of_a_view = table.name != FRESHNESS;
        self.each(&select, selection, |row| {
            let cells = (0..table.columns.len()).map(|at| cell(row, at, is_of_a_view));
            let cells = cells.collect::<Result<Vec<_>, _>>()?;
            each(&cells.iter().map(OwnCell::borrowed).collect::<Vec<_>>())
        })
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
                  WHERE (t.changed_at >= $1 OR t.deleted_at >= $1 OR t.superseded_at >= $1)
                    AND {has_none}{person}
                  UNION ALL
                 SELECT t.person_id, t.key, t.id FROM removed AS t
                  WHERE t.type = '{source}' AND t.removed_at >= $1 AND {has_none}{person}
                  ORDER BY 1, 2"
            );
            self.each(&select, selection, |row| each(gone_resource(row)?))?;
        }
        Ok(())
    }

    /// Hands on the rows of a statement that takes a time and, where one is selected, a person.
    fn each<E: From<StoreFailed>>(
        &self,
        select: &str,
        selection: Selection<'_>,
        each: impl FnMut(&Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let since = since(selection);
        let person = selection.person;
        let mut params: Vec<&dyn Param> = vec![&since];
        params.extend(person.as_ref().map(|person| -> &dyn Param { person }));
        each_row(&self.session, select, &params, each)
    }
}

/// Returns the number of the last purge; 0 is none.
pub(super) async fn last_purge(session: &Session) -> Result<i64, Undone> {
    Ok(session.row("SELECT coalesce(max(id), 0) FROM purge_log", &[]).await?.try_get(0)?)
}

/// Returns the condition for rows that are other ones than at `$1`: their resource changed, they were worked out
/// anew, or the medicine that they are filled in from changed.
fn changed(table: &TableShape, source: &str) -> String {
    let has = |name: &str| table.columns.iter().any(|column| column.name == name);
    let mut any = vec![format!(
        "EXISTS (SELECT 1 FROM \"{source}\" AS s
                  WHERE s.person_id = t.person_id AND s.key = t.\"key\" AND s.changed_at >= $1)"
    )];
    if table.columns.iter().any(|column| column.name == "changed_at" && column.declared == "DATETIME") {
        any.push("t.changed_at >= $1".to_owned());
    }
    if has("medication_id") {
        any.push(
            "EXISTS (SELECT 1 FROM medication AS m
                      WHERE m.person_id = t.person_id AND m.id = t.medication_id
                        AND (m.changed_at >= $1 OR m.deleted_at >= $1 OR m.superseded_at >= $1))"
                .to_owned(),
        );
    }
    format!(" AND ({})", any.join(" OR "))
}

/// Names and types, as the other engine declares them.
async fn columns(session: &Session, table: &str) -> Result<Vec<ColumnShape>, Undone> {
    let statement = "SELECT attname::text, format_type(atttypid, NULL) FROM pg_attribute
          WHERE attrelid = to_regclass(quote_ident($1)) AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
    let rows = session.rows(statement, &[&table]).await?;
    let columns = rows.iter().map(|row| {
        let declared = match row.try_get(1)? {
            "numeric" => "REAL",
            "bigint" => "INTEGER",
            "boolean" => "BOOLEAN",
            "date" => "DATE",
            "timestamp with time zone" if table != FRESHNESS => "DATETIME",
            _ => "TEXT",
        };
        Ok(ColumnShape { name: row.try_get(0)?, declared: declared.to_owned() })
    });
    columns.collect()
}

/// Returns a condition on the second parameter, where there is one.
fn only(person: Option<&str>, column: &str) -> String {
    person.map_or_else(String::new, |_| format!(" AND {column} = $2"))
}

/// A time before every other, where all are wanted.
fn since(selection: Selection<'_>) -> Timestamp {
    selection.since.unwrap_or(Timestamp::UNIX_EPOCH)
}

fn gone_resource(row: &Row) -> Result<GoneResource, StoreFailed> {
    Ok(GoneResource {
        person_id: row.try_get(0)?,
        key: row.try_get(1)?,
        id: row.try_get(2)?,
        lives_on: false,
    })
}

/// A cell, as the other engine would hold it.
enum OwnCell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
}

impl OwnCell {
    fn borrowed(&self) -> StoredCell<'_> {
        match self {
            Self::Null => StoredCell::Null,
            Self::Integer(number) => StoredCell::Integer(*number),
            Self::Real(number) => StoredCell::Real(*number),
            Self::Text(text) => StoredCell::Text(text),
        }
    }
}

/// Reads a cell. Times are spelt as the analysts' tables have them, or as the warehouse's own.
fn cell(row: &Row, at: usize, is_of_a_view: bool) -> Result<OwnCell, StoreFailed> {
    let cell = match *row.columns()[at].type_() {
        Type::TEXT => row.try_get::<_, Option<String>>(at)?.map(OwnCell::Text),
        Type::INT8 => row.try_get::<_, Option<i64>>(at)?.map(OwnCell::Integer),
        Type::BOOL => row.try_get::<_, Option<bool>>(at)?.map(|value| OwnCell::Integer(i64::from(value))),
        Type::NUMERIC => row.try_get::<_, Option<Decimal>>(at)?.map(|number| OwnCell::Real(number.0)),
        Type::DATE => row.try_get::<_, Option<Day>>(at)?.map(|day| OwnCell::Text(day.to_string())),
        Type::TIMESTAMPTZ => row
            .try_get::<_, Option<Timestamp>>(at)?
            .map(|time| OwnCell::Text(if is_of_a_view { time.with_a_blank() } else { stamp(time) })),
        // A hand has made it.
        _ => None,
    };
    Ok(cell.unwrap_or(OwnCell::Null))
}

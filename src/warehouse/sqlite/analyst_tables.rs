//! The analysts' tables: kept up with each page, and made, dropped or built anew when views change.
//!
//! Promise: after every commit a stored view holds what it gives of the resources as they are then,
//! but for those that a build has not come to yet. A view whose table fails never fails a page: it is
//! logged, and built anew at the next start. Absent on purpose: what the views are (`views` evaluates
//! them), and purges (they find the tables by `person_id`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rusqlite::{Connection, ErrorCode};

use super::facts::Facts;
use super::medicines::Which;
use super::persons::{Brought, Persons};
use super::view_build::{drop_table, expect_free, in_transaction, note};
use super::view_rows::{BySource, Gained, forget, keep, tolerate};
use super::view_table::{CategoryView, ViewTable, analysts_time};
use super::{
    facts, freshness, medicines, persons, tables, view_build, view_check, view_rows, view_statistics,
};
use crate::plan::row::Row;
use crate::plan::{PersonId, Timestamp};
use crate::views::{AnalystTable, KeptRows, Made, TapeMemory};
use crate::warehouse::changes::{Change, Changed, Changes};
use crate::warehouse::days::{Span, take_days};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::IncomingRow;
use crate::warehouse::report::{StoredTable, ViewRefused};

/// What is there whatever is kept.
const ALWAYS: [&str; 2] = [freshness::NAME, facts::NAME];

/// All of them, and how far those of one file are.
#[derive(Debug)]
pub(super) struct AnalystTables {
    all: Arc<Definitions>,
    /// Whether a table may be under build: to ask the file each time would cost more.
    is_building: AtomicBool,
    /// Whether a table that began empty may be without its indexes.
    may_lack_indexes: AtomicBool,
}

/// What follows from the views alone, by name.
#[derive(Debug)]
struct Definitions {
    known: Vec<ViewTable>,
    by_source: BySource,
    categories: Vec<CategoryView>,
    persons: Option<Persons>,
    facts: Facts,
}

/// Definitions, and the views that they are of.
struct Kept {
    of: Weak<[AnalystTable]>,
    definitions: Arc<Definitions>,
}

/// Those that a file was opened with last: a daemon opens its own each cycle, with the same views.
static LAST: Mutex<Option<Kept>> = Mutex::new(None);

impl Definitions {
    fn of(tables: &[AnalystTable]) -> Self {
        let known: Vec<ViewTable> = tables.iter().filter_map(ViewTable::of).collect();
        let observations = known.iter().find(|table| table.name == "observations");
        let categories = observations.map(|observations| {
            tables.iter().filter_map(|table| CategoryView::of(table, observations)).collect()
        });
        let has_persons = tables.iter().any(|table| matches!(table.made, Made::Persons));
        Self {
            by_source: BySource::of(&known),
            categories: categories.unwrap_or_default(),
            persons: if has_persons { Persons::of(&known) } else { None },
            facts: Facts::of(tables),
            known,
        }
    }

    fn kept(tables: &Arc<[AnalystTable]>) -> Arc<Self> {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        // A weak reference keeps what is at its address, so that nothing else can be there.
        if let Some(Kept { of, definitions }) = &*last
            && std::ptr::addr_eq(of.as_ptr(), Arc::as_ptr(tables))
        {
            return definitions.clone();
        }
        let definitions = Arc::new(Self::of(tables));
        *last = Some(Kept { of: Arc::downgrade(tables), definitions: definitions.clone() });
        definitions
    }
}

/// Returns the keys of resources whose rows may be there, as a JSON array; `None` if there are none.
fn keys_to_forget(changed: &Changed<'_>) -> Result<Option<String>, StoreFailed> {
    let keys: Vec<&String> =
        changed.updated.iter().map(|change| &change.row.key).chain(&changed.gone).collect();
    if keys.is_empty() {
        return Ok(None);
    }
    let keys = serde_json::to_string(&keys)
        .map_err(|error| StoreFailed::Data(format!("listing changed keys: {error}")))?;
    Ok(Some(keys))
}

impl AnalystTables {
    pub(super) fn new(tables: &[AnalystTable]) -> Self {
        Self::made_of(Arc::new(Definitions::of(tables)))
    }

    /// Returns the same as [`new`](Self::new), and works nothing out that the last call has for the same views.
    pub(super) fn for_opening(tables: &Arc<[AnalystTable]>) -> Self {
        Self::made_of(Definitions::kept(tables))
    }

    fn made_of(all: Arc<Definitions>) -> Self {
        Self { all, is_building: AtomicBool::new(false), may_lack_indexes: AtomicBool::new(false) }
    }

    /// Drops tables whose view is gone, begins to build those that are new or have changed, and
    /// makes the indexes that an earlier process left out.
    pub(super) fn migrate(&self, connection: &mut Connection, now: Timestamp) -> Result<(), StoreFailed> {
        in_transaction(connection, |connection| {
            Ok(connection.execute_batch(include_str!("../../../schema/analyst_bookkeeping.sql"))?)
        })?;
        let built = built(connection)?;
        for name in built.keys().filter(|name| !ALWAYS.contains(&name.as_str())) {
            if !self.names().any(|known| known == name) {
                in_transaction(connection, |connection| drop_table(connection, name))?;
                tracing::info!("the analysts' table {name} has no view any more and was dropped");
            }
        }
        if !built.contains_key(freshness::NAME) {
            in_transaction(connection, |connection| note_freshness(connection, now))?;
        }
        if built.get(facts::NAME) != Some(&self.all.facts.definition) {
            in_transaction(connection, |connection| self.all.facts.store(connection, now))?;
        }
        self.make_missing_indexes(connection)?;
        let mut has_other_days = false;
        for table in &self.all.known {
            if built.get(&table.name) != Some(&table.definition) {
                has_other_days |= table.concerns_persons();
                tolerate(&table.name, view_build::begin(connection, table, now))?;
            }
        }
        for view in &self.all.categories {
            if built.get(&view.name) != Some(&view.definition) {
                tolerate(&view.name, make_view(connection, view, now))?;
            }
        }
        if let Some(persons) = &self.all.persons
            && (has_other_days || built.get(persons::NAME) != Some(&persons.definition))
        {
            tolerate(persons::NAME, view_build::begin_persons(connection, persons, now))?;
        }
        self.is_building.store(true, Ordering::Relaxed);
        self.may_lack_indexes.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let views = self.all.categories.iter().map(|view| view.name.as_str());
        let persons = self.all.persons.iter().map(|_| persons::NAME);
        self.all.known.iter().map(|table| table.name.as_str()).chain(views).chain(persons)
    }

    /// Begins to build every table anew; those that cannot be are returned, and why.
    pub(super) fn begin_rebuild(
        &self,
        connection: &mut Connection,
        now: Timestamp,
    ) -> Result<Vec<ViewRefused>, StoreFailed> {
        in_transaction(connection, |connection| note_freshness(connection, now))?;
        let mut failed = Vec::new();
        let mut attempt = |name: &str, begun| {
            match begun {
                Err(StoreFailed::Engine(why) | StoreFailed::Data(why)) => {
                    failed.push(ViewRefused { name: name.to_owned(), why });
                }
                begun => begun?,
            }
            Ok::<(), StoreFailed>(())
        };
        for table in &self.all.known {
            attempt(&table.name, view_build::begin(connection, table, now))?;
        }
        for view in &self.all.categories {
            attempt(&view.name, make_view(connection, view, now))?;
        }
        if let Some(persons) = &self.all.persons {
            attempt(persons::NAME, view_build::begin_persons(connection, persons, now))?;
        }
        self.is_building.store(true, Ordering::Relaxed);
        self.may_lack_indexes.store(true, Ordering::Relaxed);
        Ok(failed)
    }

    /// Returns whether tables may be under build.
    pub(super) fn is_building(&self) -> bool {
        self.is_building.load(Ordering::Relaxed)
    }

    /// Builds tables on for some resources. Returns whether there is more to do.
    pub(super) fn build_step(
        &self,
        connection: &mut Connection,
        now: Timestamp,
    ) -> Result<bool, StoreFailed> {
        let done = view_build::step(&self.all.known, self.all.persons.as_ref(), connection, now);
        // What fails is gone on with at the next start.
        if !matches!(done, Ok(true)) {
            self.is_building.store(false, Ordering::Relaxed);
        }
        done
    }

    /// Returns how many rows of source tables are still to be read, over all builds.
    pub(super) fn rows_to_build(&self, connection: &Connection) -> Result<usize, StoreFailed> {
        view_build::remaining(&self.all.known, connection)
    }

    /// Makes the indexes of the tables that were filled for the first time.
    pub(super) fn make_missing_indexes(&self, connection: &mut Connection) -> Result<(), StoreFailed> {
        view_build::make_missing_indexes(&self.all.known, connection)?;
        self.may_lack_indexes.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Has SQLite count the tables that have grown, for whoever queries them.
    pub(super) fn count_anew(&self, connection: &mut Connection) -> Result<(), StoreFailed> {
        view_statistics::count_anew(&self.all.known, connection)
    }

    /// Returns the tables that hold other rows than their view gives now.
    pub(super) fn stale_tables(
        &self,
        connection: &Connection,
        now: Timestamp,
    ) -> Result<Vec<String>, StoreFailed> {
        let mut stale = view_check::stale_tables(&self.all.known, connection, now)?;
        if let Some(persons) = &self.all.persons
            && view_check::is_whole(connection, persons::NAME, &persons.definition)?
            && persons.differs(connection)?
        {
            stale.push(persons::NAME.to_owned());
        }
        Ok(stale)
    }

    /// Evaluates the views of a row that is likely to change something, before it is handed to the
    /// one thread that writes.
    pub(super) fn evaluate(
        &self,
        row: &IncomingRow,
        now: Timestamp,
        memory: &mut TapeMemory,
    ) -> Option<KeptRows> {
        let views = self.all.by_source.tables(row.row.table);
        (!views.is_empty()).then(|| self.rows_of(views, &row.row, now, memory))
    }

    fn rows_of(&self, views: &[usize], row: &Row, now: Timestamp, memory: &mut TapeMemory) -> KeptRows {
        let views = views.iter().map(|at| &self.all.known[*at]);
        view_rows::evaluate(views, &row.key, &row.resource, now, memory)
    }

    /// Replaces the rows of the resources that changed. Runs inside the page's transaction.
    pub(super) fn apply_changes(
        &self,
        connection: &Connection,
        person: &PersonId,
        changes: &Changes<'_>,
        now: Timestamp,
    ) -> Result<(), StoreFailed> {
        freshness::count(connection, person.as_str(), changes.live)?;
        let changed_at = &analysts_time(now);
        let mut memory = TapeMemory::default();
        let mut span = Span::default();
        let is_all_new = changes.by_table.values().all(Changed::is_all_new);
        if !is_all_new && self.may_lack_indexes.load(Ordering::Relaxed) {
            self.all.known.iter().try_for_each(|table| connection.execute_batch(&table.resource_index))?;
        }
        for (source, changed) in &changes.by_table {
            let places = self.all.by_source.tables(source);
            if places.is_empty() {
                continue;
            }
            let keys = keys_to_forget(changed)?;
            // One page can bring a resource and supersede it.
            let is_there = |change: &&Change<'_>| !changed.gone.contains(&change.row.key);
            let there: Vec<&Change<'_>> =
                changed.new.iter().chain(&changed.updated).filter(is_there).collect();
            let missing = there.iter().filter(|change| change.gained.is_none());
            let worked_out: Vec<KeptRows> =
                missing.map(|change| self.rows_of(places, change.row, now, &mut memory)).collect();
            for (place, table) in places.iter().map(|at| &self.all.known[*at]).enumerate() {
                let mut worked_out = worked_out.iter();
                let gained = there.iter().filter_map(|change| {
                    let rows = change.gained.or_else(|| worked_out.next())?;
                    if !table.days.is_empty() {
                        let rows = rows.rows(place, table.source.columns().len());
                        rows.for_each(|cells| take_days(&table.days, cells, &mut span));
                    }
                    Some(Gained { person: person.as_str(), key: &change.row.key, changed_at, rows })
                });
                let forgotten = keys
                    .as_ref()
                    .map_or(Ok(()), |keys| forget(connection, table, source, person.as_str(), keys));
                let kept = forgotten.and_then(|()| view_rows::insert(connection, table, place, gained));
                keep(connection, &table.name, kept)?;
            }
        }
        self.fill_in_medicines(connection, person, changes)?;
        self.follow_persons(connection, person, changes, &span)
    }

    /// Fills in the medicines of rows that changed, and of those that refer to a Medication that did.
    fn fill_in_medicines(
        &self,
        connection: &Connection,
        person: &PersonId,
        changes: &Changes<'_>,
    ) -> Result<(), StoreFailed> {
        let list = |texts: Vec<&str>| {
            serde_json::to_string(&texts)
                .map_err(|error| StoreFailed::Data(format!("listing medicines: {error}")))
        };
        for table in self.all.known.iter().filter(|table| medicines::TABLES.contains(&table.name.as_str())) {
            let of_source = |source: &str| changes.by_table.get(source);
            let fill_in = |which: Which<'_>| {
                let filled = medicines::fill_in(connection, &table.name, person.as_str(), which);
                keep(connection, &table.name, filled)
            };
            if let Some(changed) = table.source_table.as_deref().and_then(of_source) {
                let changed = changed.new.iter().chain(&changed.updated);
                fill_in(Which::Keys(&list(changed.map(|change| change.row.key.as_str()).collect())?))?;
            }
            if let Some(changed) = of_source(medicines::SOURCE) {
                if changed.updated.is_empty() && changed.gone.is_empty() {
                    let ids = changed.new.iter().filter_map(|change| change.row.id.as_deref());
                    fill_in(Which::OfMedications(&list(ids.collect())?))?;
                } else {
                    fill_in(Which::All)?;
                }
            }
        }
        Ok(())
    }

    /// Works out the row of the person, where a page changed anything.
    fn follow_persons(
        &self,
        connection: &Connection,
        person: &PersonId,
        changes: &Changes<'_>,
        gained: &Span,
    ) -> Result<(), StoreFailed> {
        let Some(persons) = self.all.persons.as_ref().filter(|_| !changes.by_table.is_empty()) else {
            return Ok(());
        };
        // A day that is gone may have been the first or the last.
        let may_lose_days = changes.by_table.iter().any(|(source, changed)| {
            let has_days = |at: &usize| !self.all.known[*at].days.is_empty();
            !changed.is_all_new() && self.all.by_source.tables(source).iter().any(has_days)
        });
        let brought = (!may_lose_days).then_some(Brought { days: gained, live: changes.live });
        keep(connection, persons::NAME, persons.follow(connection, person.as_str(), brought))
    }
}

/// Tries to make the tables of all views in an empty database, and returns what is wrong with them.
pub(in crate::warehouse) fn rehearse_views(views: &[AnalystTable]) -> Result<Vec<ViewRefused>, StoreFailed> {
    let connection = Connection::open_in_memory()?;
    let mut wrong = Vec::new();
    let mut attempt = |name: String, tried: rusqlite::Result<()>| {
        if let Err(error) = tried {
            wrong.push(ViewRefused { name, why: error.to_string() });
        }
    };
    let Definitions { known, categories, persons, .. } = Definitions::of(views);
    for ViewTable { name, create, resource_index, late_indexes, insert_row, .. } in known {
        let tried = connection
            .execute_batch(&(create + &resource_index + &late_indexes))
            .and_then(|()| connection.prepare(&insert_row).map(drop));
        attempt(name, tried);
    }
    for CategoryView { name, create, .. } in categories {
        attempt(name, connection.execute_batch(&create));
    }
    if let Some(persons) = persons {
        attempt(persons::NAME.to_owned(), connection.execute_batch(&persons.create));
    }
    Ok(wrong)
}

fn make_view(connection: &mut Connection, view: &CategoryView, now: Timestamp) -> Result<(), StoreFailed> {
    in_transaction(connection, |connection| {
        drop_table(connection, &view.name)?;
        expect_free(connection, &view.name)?;
        connection.execute_batch(&view.create)?;
        note(connection, &view.name, "Observation", &view.definition, now)
    })
}

/// The definitions that the stored tables were built from, by name; empty of one that is gone.
pub(super) fn built(connection: &Connection) -> Result<BTreeMap<String, String>, StoreFailed> {
    let mut statement = connection.prepare(
        "SELECT name, iif(name IN (SELECT name FROM sqlite_master), definition, '') FROM analyst_table",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn note_freshness(connection: &Connection, now: Timestamp) -> Result<(), StoreFailed> {
    freshness::recount(connection)?;
    note(connection, freshness::NAME, "", "1", now)
}

/// Returns the tables as they are stored.
pub(super) fn list(connection: &Connection) -> Result<Vec<StoredTable>, StoreFailed> {
    if !tables::exists(connection, "analyst_table")? {
        return Ok(Vec::new());
    }
    // A warehouse that this program has not opened for writing yet has no such builds.
    let (percent, left_out) = if tables::exists(connection, "analyst_build")? {
        (
            "(SELECT CAST(100.0 * sum(built_to) / sum(build_end) AS INTEGER)
                FROM analyst_build AS b WHERE b.name = analyst_table.name)",
            "(SELECT count(*) FROM analyst_left_out AS l WHERE l.name = analyst_table.name)",
        )
    } else {
        ("NULL", "0")
    };
    let mut statement = connection.prepare(&format!(
        "SELECT name, resource, built_at, {percent}, {left_out} FROM analyst_table
          WHERE name IN (SELECT name FROM sqlite_master) ORDER BY name"
    ))?;
    let mut found = statement.query([])?;
    let mut list = Vec::new();
    while let Some(row) = found.next()? {
        let name: String = row.get(0)?;
        let counts =
            format!("SELECT (SELECT count(*) FROM \"{name}\"), (SELECT count(*) FROM pragma_table_info(?1))");
        let counted = connection.query_row(&counts, [&name], |row| Ok((row.get(0)?, row.get(1)?)));
        let (rows, columns) = match counted {
            // A view of a table that somebody took away: the next start makes it anew.
            Err(rusqlite::Error::SqliteFailure(failure, _)) if failure.code == ErrorCode::Unknown => continue,
            counted => counted?,
        };
        let (resource, built_at, percent_built) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let left_out = row.get(4)?;
        list.push(StoredTable { name, resource, built_at, percent_built, rows, columns, left_out });
    }
    Ok(list)
}

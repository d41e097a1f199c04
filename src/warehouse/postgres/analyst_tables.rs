//! The analysts' tables: which there are, and how they are kept up with each page.
//!
//! Promise: after every commit a table that is followed holds what its view gives of the resources as they are then.
//! One that fails never fails a page: it is logged, and not followed any more until it is built anew. Absent on
//! purpose: CREATE and DROP, which nobody who pulls may do, and purges (they find the tables by `person_id`).

use std::collections::{BTreeMap, HashMap};

use super::failure::Undone;
use super::medicines::Which;
use super::persons::Persons;
use super::session::Session;
use super::values::{Param, counted};
use super::view_cells::day;
use super::view_rows::{Gained, TableRows, evaluate};
use super::view_steps::{Phase, Step, run_all, run_each};
use super::view_table::{CategoryView, ViewTable, hash};
use super::{medicines, persons};
use crate::plan::{Timestamp, stamp};
use crate::time::Day;
use crate::views::{AnalystTable, KeptRows, Made, TableFacts, TapeMemory, describe};
use crate::warehouse::changes::{Change, Changed, Changes};
use crate::warehouse::days::{Span, take_days};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::medicines::{MEDICATIONS, SOURCE, TABLES};
use crate::warehouse::page::IncomingRow;
use crate::warehouse::report::StoredTable;

/// The view that says how far everybody's data go; it is made with the schema.
pub(super) const FRESHNESS: &str = "freshness";
/// What the columns are, as `views describe` tells it.
pub(super) const FACTS: &str = "analyst_column";

/// All of them, by name.
#[derive(Debug, Default)]
pub(super) struct AnalystTables {
    pub(super) known: Vec<ViewTable>,
    pub(super) categories: Vec<CategoryView>,
    pub(super) persons: Option<Persons>,
    pub(super) facts: Vec<TableFacts>,
    by_source: HashMap<String, Vec<usize>>,
    /// What is made of any resource.
    of_all: Vec<usize>,
}

impl AnalystTables {
    pub(super) fn new(tables: &[AnalystTable]) -> Self {
        let known: Vec<ViewTable> = tables.iter().filter_map(ViewTable::of).collect();
        let observations = known.iter().find(|table| table.name == "observations");
        let categories = observations.map(|observations| {
            tables.iter().filter_map(|table| CategoryView::of(table, observations)).collect()
        });
        let has_persons = tables.iter().any(|table| matches!(table.made, Made::Persons));
        let persons = if has_persons { Persons::of(&known) } else { None };
        Self {
            categories: categories.unwrap_or_default(),
            persons,
            facts: describe(tables),
            ..Self::made_of(known)
        }
    }

    fn made_of(known: Vec<ViewTable>) -> Self {
        let places = |source: &str| -> Vec<usize> {
            let of_it = known.iter().enumerate().filter(|(_, table)| table.is_of(source));
            of_it.map(|(at, _)| at).collect()
        };
        let named = known.iter().filter_map(|table| table.source_table.clone());
        let by_source = named.map(|source| (source.clone(), places(&source))).collect();
        Self { by_source, of_all: places(""), known, ..Self::default() }
    }

    /// Returns what each of them is to be made from, by name.
    pub(super) fn definitions(&self) -> BTreeMap<&str, &str> {
        let known = self.known.iter().map(|table| (table.name.as_str(), table.definition.as_str()));
        let categories = self.categories.iter().map(|view| (view.name.as_str(), view.definition.as_str()));
        let persons = self.persons.iter().map(|persons| (persons::NAME, persons.definition.as_str()));
        known.chain(categories).chain(persons).collect()
    }

    pub(super) fn facts_definition(&self) -> String {
        hash(&[&format!("{:?}", self.facts)])
    }

    /// Returns whether all of them are stored as they are made here, and nothing else.
    pub(super) fn are_stored_in(&self, stored: &BTreeMap<String, String>) -> bool {
        let definitions = self.definitions();
        let facts = self.facts_definition();
        let wanted = definitions.into_iter().chain([(FACTS, facts.as_str()), (FRESHNESS, "1")]);
        let wanted: BTreeMap<&str, &str> = wanted.collect();
        let stored: BTreeMap<&str, &str> =
            stored.iter().map(|(name, definition)| (name.as_str(), definition.as_str())).collect();
        wanted == stored
    }

    /// Returns those that are stored as they are made here, to be followed; and the names of those that are not.
    /// One that has failed before is among neither.
    pub(super) fn followed(self, stored: &BTreeMap<String, String>) -> (Self, Vec<String>) {
        let wanted = self.definitions();
        let mut others: Vec<String> = Vec::new();
        for (name, definition) in &wanted {
            let stored = stored.get(*name);
            if stored.is_none_or(|stored| stored != definition && !stored.is_empty()) {
                others.push((*name).to_owned());
            }
        }
        let always = [FRESHNESS, FACTS];
        let unknown =
            |name: &&String| !wanted.contains_key(name.as_str()) && !always.contains(&name.as_str());
        others.extend(stored.keys().filter(unknown).cloned());
        let is_stored = |name: &str, definition: &str| stored.get(name).is_some_and(|it| it == definition);
        let Self { known, persons, facts, .. } = self;
        let known = known.into_iter().filter(|table| is_stored(&table.name, &table.definition)).collect();
        let persons = persons.filter(|persons| is_stored(persons::NAME, &persons.definition));
        (Self { persons, facts, ..Self::made_of(known) }, others)
    }

    /// Returns the places of the tables that are made of a table's resources.
    pub(super) fn of_source(&self, source_table: &str) -> &[usize] {
        self.by_source.get(source_table).unwrap_or(&self.of_all)
    }

    /// Evaluates the views of a row that is likely to change something, before a transaction is begun.
    pub(super) fn evaluate(
        &self,
        row: &IncomingRow,
        now: Timestamp,
        memory: &mut TapeMemory,
    ) -> Option<KeptRows> {
        let places = self.of_source(row.row.table);
        (!places.is_empty()).then(|| self.rows_of(places, &row.row.key, &row.row.resource, now, memory))
    }

    /// Works out the rows that a resource gives the tables at some places.
    pub(super) fn rows_of(
        &self,
        places: &[usize],
        key: &str,
        resource: &str,
        now: Timestamp,
        memory: &mut TapeMemory,
    ) -> KeptRows {
        evaluate(places.iter().map(|at| &self.known[*at]), key, resource, now, memory)
    }

    /// Replaces the rows of the resources that a page changed. Runs inside the page's transaction, behind
    /// everything else that it does to resources.
    pub(super) async fn follow(
        &self,
        session: &Session,
        person: &str,
        changes: &Changes<'_>,
        now: Timestamp,
    ) -> Result<(), Undone> {
        if self.known.is_empty() || changes.by_table.is_empty() {
            return Ok(());
        }
        let worked_out = self.work_out(changes, now);
        let steps = self.steps(person, changes, &worked_out, now);
        // What the tables are given is taken back by itself if the server refuses any of it.
        let (begun, followed) =
            tokio::join!(biased; session.batch("SAVEPOINT views"), run_all(session, &steps));
        begun?;
        match followed {
            Err(Undone::Failed(StoreFailed::Engine(_) | StoreFailed::Data(_))) => {
                session.batch("ROLLBACK TO SAVEPOINT views").await?;
                run_each(session, &steps).await
            }
            followed => followed,
        }
    }

    /// Works out the rows of the changes that came without them, by source and in their order.
    fn work_out(&self, changes: &Changes<'_>, now: Timestamp) -> HashMap<&'static str, Vec<KeptRows>> {
        let mut memory = TapeMemory::default();
        let mut worked_out = HashMap::new();
        for (source, changed) in &changes.by_table {
            let places = self.of_source(source);
            let missing = there(changed).filter(|change| change.gained.is_none() && !places.is_empty());
            let rows = missing
                .map(|Change { row, .. }| self.rows_of(places, &row.key, &row.resource, now, &mut memory));
            worked_out.insert(*source, rows.collect());
        }
        worked_out
    }

    /// Returns what is to be done, in its order.
    fn steps<'r>(
        &'r self,
        person: &'r str,
        changes: &'r Changes<'_>,
        worked_out: &'r HashMap<&'static str, Vec<KeptRows>>,
        now: Timestamp,
    ) -> Vec<Step<'r>> {
        let mut steps = Vec::new();
        let mut span = Span::default();
        let mut rows: Vec<TableRows<'r>> = self.known.iter().map(TableRows::of).collect();
        for (source, changed) in &changes.by_table {
            let places = self.of_source(source);
            let mut worked_out = worked_out.get(source).into_iter().flatten();
            let keys: Vec<&str> = changed
                .updated
                .iter()
                .map(|change| change.row.key.as_str())
                .chain(changed.gone.iter().map(String::as_str))
                .collect();
            for at in places.iter().filter(|_| !keys.is_empty()) {
                steps.extend(forget(&self.known[*at], source, person, &keys));
            }
            for change in there(changed).filter(|_| !places.is_empty()) {
                let Some(kept) = change.gained.or_else(|| worked_out.next()) else { continue };
                let gained = Gained { key: &change.row.key, changed_at: now, rows: kept };
                for (place, at) in places.iter().enumerate() {
                    let table = &self.known[*at];
                    if !table.days.is_empty() {
                        let cells = kept.rows(place, table.kinds.len());
                        cells.for_each(|cells| take_days(&table.days, cells, &mut span));
                    }
                    rows[*at].push(place, gained);
                }
            }
        }
        for (table, rows) in self.known.iter().zip(rows) {
            steps.extend(rows.into_steps(&table.name, person));
        }
        self.fill_in_medicines(person, changes, &mut steps);
        self.follow_persons(person, changes, &span, &mut steps);
        steps
    }

    /// Fills in the medicines of rows that changed, and of those that refer to a Medication that did.
    fn fill_in_medicines<'r>(&'r self, person: &'r str, changes: &'r Changes<'_>, steps: &mut Vec<Step<'r>>) {
        if !self.known.iter().any(|table| table.name == MEDICATIONS) {
            return;
        }
        for table in self.known.iter().filter(|table| TABLES.contains(&table.name.as_str())) {
            let name = table.name.as_str();
            let mut fill_in = |which: Which, list: Option<Vec<&'r str>>| {
                let text = medicines::fill_in(name, MEDICATIONS, which);
                let mut params: Vec<Box<dyn Param + 'r>> = vec![Box::new(person)];
                params.extend(list.map(|list| -> Box<dyn Param + 'r> { Box::new(list) }));
                steps.push(Step { table: name, phase: Phase::Medicines, text, params });
            };
            if let Some(changed) = table.source_table.as_deref().and_then(|of| changes.by_table.get(of)) {
                let changed = changed.new.iter().chain(&changed.updated);
                fill_in(Which::Keys, Some(changed.map(|change| change.row.key.as_str()).collect()));
            }
            match changes.by_table.get(SOURCE) {
                Some(changed) if changed.updated.is_empty() && changed.gone.is_empty() => {
                    let ids = changed.new.iter().filter_map(|change| change.row.id.as_deref());
                    fill_in(Which::OfMedications, Some(ids.collect()));
                }
                Some(_) => fill_in(Which::All, None),
                None => {}
            }
        }
    }

    /// Works out the row of the person.
    fn follow_persons<'r>(
        &'r self,
        person: &'r str,
        changes: &Changes<'_>,
        gained: &Span,
        steps: &mut Vec<Step<'r>>,
    ) {
        let Some(persons) = &self.persons else { return };
        // A day that is gone may have been the first or the last.
        let may_lose_days = changes.by_table.iter().any(|(source, changed)| {
            let has_days = |at: &usize| !self.known[*at].days.is_empty();
            !(changed.updated.is_empty() && changed.gone.is_empty())
                && self.of_source(source).iter().any(has_days)
        });
        let mut step = |phase, text: String, params| {
            steps.push(Step { table: persons::NAME, phase, text, params });
        };
        if may_lose_days {
            step(Phase::Persons, persons.work_out(persons::NAME, &str::to_owned), vec![Box::new(person)]);
        } else {
            let known = |text: &Option<String>| text.as_deref().and_then(day);
            let days: [Option<Day>; 2] = [known(&gained.first), known(&gained.last)];
            let [first, last] = days.map(|day| -> Box<dyn Param + 'r> { Box::new(day) });
            step(Phase::Persons, persons.follow(), vec![Box::new(person), first, last]);
        }
        step(Phase::GonePersons, persons::FORGET.to_owned(), vec![Box::new(person)]);
    }
}

/// Returns the resources that a page leaves there: it can bring one and supersede it.
fn there<'c, 'b>(changed: &'c Changed<'b>) -> impl Iterator<Item = &'c Change<'b>> {
    let all = changed.new.iter().chain(&changed.updated);
    all.filter(|change| !changed.gone.contains(&change.row.key))
}

/// Takes out the rows of resources of one source, and that they were left out.
fn forget<'r>(table: &'r ViewTable, source: &str, person: &'r str, keys: &[&'r str]) -> [Step<'r>; 2] {
    let step = |text: String, params| Step { table: &table.name, phase: Phase::Forget, text, params };
    let left_out = "DELETE FROM analyst_left_out WHERE person_id = $1 AND key = ANY($2) AND name = $3";
    [
        step(table.forget(source), vec![Box::new(person), Box::new(keys.to_vec())]),
        step(
            left_out.to_owned(),
            vec![Box::new(person), Box::new(keys.to_vec()), Box::new(table.name.as_str())],
        ),
    ]
}

/// Returns the definitions that the stored tables were built from, by name.
pub(super) async fn stored(session: &Session) -> Result<BTreeMap<String, String>, Undone> {
    let rows = session.rows("SELECT name, definition FROM analyst_table", &[]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Returns the tables as they are stored, by name.
pub(super) async fn list(session: &Session) -> Result<Vec<StoredTable>, Undone> {
    let statement = "SELECT t.name, t.resource, t.built_at, t.definition <> '' AS is_followed,
            (SELECT count(*) FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
            (SELECT count(*) FROM analyst_left_out AS l WHERE l.name = t.name)
       FROM analyst_table AS t
       JOIN pg_class AS c ON c.relname = t.name AND c.relnamespace = current_schema()::regnamespace
      ORDER BY t.name COLLATE \"C\"";
    let mut list = Vec::new();
    for row in session.rows(statement, &[]).await? {
        let name: String = row.try_get(0)?;
        let rows = session.row(&format!("SELECT count(*) FROM \"{name}\""), &[]).await?;
        list.push(StoredTable {
            name,
            resource: row.try_get(1)?,
            built_at: stamp(row.try_get(2)?),
            // One that has failed holds not all of its rows.
            percent_built: (!row.try_get::<_, bool>(3)?).then_some(0),
            rows: counted(rows.try_get(0)?),
            columns: counted(row.try_get(4)?),
            left_out: counted(row.try_get(5)?),
        });
    }
    Ok(list)
}

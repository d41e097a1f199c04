//! Making the analysts' tables: by an operator's command, never by who pulls.
//!
//! Promise: a table is filled under another name and takes its place when it is whole, with the rights that
//! `analyst_column` gives; until then the former one is read. What is cut off is begun anew by the next command.
//! Nobody stores pages meanwhile: whoever builds has the right to write, and no worker holds a patient.

use std::collections::{BTreeMap, BTreeSet};

use super::analyst_tables::{AnalystTables, FACTS, FRESHNESS, stored};
use super::failure::Undone;
use super::lease::{WriterLease, expect_held};
use super::medicines::Which as Medicines;
use super::pool::Pool;
use super::schema::VERSION;
use super::session::{Begin, Session};
use super::tables::with_rows_of;
use super::values::count;
use super::view_rows::{Gained, TableRows};
use super::view_steps::{Phase, Step, run_all};
use super::view_table::{ViewTable, create_persons, hash};
use super::{medicines, persons, shared_cycle};
use crate::plan::Timestamp;
use crate::views::{AnalystTable, KeptRows, TapeMemory};
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::medicines::{MEDICATIONS, TABLES};
use crate::warehouse::report::{Steps, ViewRefused};

/// Resources that are read at once.
const READ_AT_ONCE: i64 = 500;
/// PostgreSQL cuts longer names off.
const NAME_BYTES_MAX: usize = 63;
/// What tables under build are called begins with this; no other's name does.
const UNDER_BUILD: &str = "_new_";

/// Which tables are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Those that are new or made from something else.
    Changed,
    All,
}

/// Who builds, and what.
pub(super) struct Build<'b> {
    pub(super) pool: &'b Pool,
    /// The right to write.
    pub(super) owner: &'b str,
    pub(super) tables: &'b AnalystTables,
    pub(super) now: Timestamp,
}

/// Makes the tables that are new or are made from something else, for who has just made the schema.
pub(super) async fn migrate(
    pool: &Pool,
    views: &[AnalystTable],
    now: Timestamp,
) -> Result<Vec<ViewRefused>, OpenFailed> {
    let lease = WriterLease::take(pool).await?;
    let (owner, tables) = (lease.owner(), AnalystTables::new(views));
    let built = match shared_cycle::expect_nobody_at_work(pool).await {
        Ok(()) => {
            let build = Build { pool, owner: &owner, tables: &tables, now };
            let built = build.run(Which::Changed, &mut |_| ()).await;
            built.map_err(|undone| pool.server().failed(undone.into_failure()))
        }
        Err(at_work) => Err(at_work),
    };
    lease.give_back().await;
    built
}

/// A change of a database in a transaction of its own: what it is about, and the statements.
struct Made<'m> {
    name: &'m str,
    statements: String,
}

impl Build<'_> {
    /// Makes the tables, and drops those that have no view any more. Returns those that cannot be made, and why.
    pub(super) async fn run(
        &self,
        which: Which,
        told: &mut (dyn FnMut(Steps) + Send),
    ) -> Result<Vec<ViewRefused>, Undone> {
        let known = self.prepare().await?;
        let mut refused = Vec::new();
        let mut wanted = self.wanted(&known, which);
        for name in wanted.clone() {
            let free = self.expect_free(&name, &known).await?;
            let begun = match free {
                None => self.begin(&name).await,
                Some(why) => Err(Undone::Failed(StoreFailed::Data(why))),
            };
            note_refused(&name, begun, &mut wanted, &mut refused)?;
        }
        self.fill(&wanted, told).await?;
        let views: Vec<&str> = self.tables.categories.iter().map(|view| view.name.as_str()).collect();
        self.in_transaction(&Made { name: "", statements: drop_views(&views) }).await?;
        for name in wanted.clone() {
            let swapped = self.finish(&name).await;
            note_refused(&name, swapped, &mut wanted, &mut refused)?;
        }
        for view in &self.tables.categories {
            let mut is_made = BTreeSet::from([view.name.clone()]);
            let made = Made { name: &view.name, statements: view.create.clone() };
            let made = self.make(&made, "Observation", &view.definition).await;
            note_refused(&view.name, made, &mut is_made, &mut refused)?;
        }
        self.note_always().await?;
        Ok(refused)
    }

    async fn begin_transaction(&self) -> Result<Session, Undone> {
        let session = self.pool.begin(Begin::Write).await?;
        expect_held(&session, self.owner).await?;
        Ok(session)
    }

    async fn in_transaction(&self, made: &Made<'_>) -> Result<(), Undone> {
        let session = self.begin_transaction().await?;
        session.batch(&made.statements).await?;
        session.commit().await
    }

    /// Drops what a build that was cut off has left, and tables without a view. Returns those that are stored.
    async fn prepare(&self) -> Result<BTreeMap<String, String>, Undone> {
        let session = self.begin_transaction().await?;
        let version: i64 = session.row("SELECT max(version) FROM migration", &[]).await?.try_get(0)?;
        if version > VERSION {
            return Err(Undone::Failed(StoreFailed::Refused(format!(
                "a newer healthex-sync has made the schema (version {version}, and this one knows {VERSION}), and makes the analysts' tables too; run it by that one"
            ))));
        }
        let may = "SELECT has_schema_privilege(current_schema(), 'CREATE'), current_user::text, current_schema()::text";
        let row = session.row(may, &[]).await?;
        if !row.try_get::<_, bool>(0)? {
            let (role, schema): (String, String) = (row.try_get(1)?, row.try_get(2)?);
            return Err(Undone::Failed(StoreFailed::Engine(format!(
                "the role {role} may make no tables in the schema {schema}; run it as the role that owns them"
            ))));
        }
        let left = "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema() AND starts_with(tablename, $1)";
        for row in session.rows(left, &[&UNDER_BUILD]).await? {
            session.batch(&format!("DROP TABLE \"{}\"", row.try_get::<_, &str>(0)?)).await?;
        }
        let wanted = self.tables.definitions();
        let mut known = stored(&session).await?;
        let gone = |name: &&String| {
            !wanted.contains_key(name.as_str()) && ![FRESHNESS, FACTS].contains(&name.as_str())
        };
        let gone: Vec<String> = known.keys().filter(gone).cloned().collect();
        let views = "SELECT relname::text FROM pg_class
            WHERE relnamespace = current_schema()::regnamespace AND relkind = 'v' AND relname = ANY($1)";
        for row in session.rows(views, &[&gone]).await? {
            session.batch(&format!("DROP VIEW \"{}\"", row.try_get::<_, &str>(0)?)).await?;
        }
        for name in gone {
            session.batch(&format!("DROP TABLE IF EXISTS \"{name}\"")).await?;
            for list in ["analyst_left_out", "analyst_table"] {
                session.execute(&format!("DELETE FROM {list} WHERE name = $1"), &[&name]).await?;
            }
            tracing::info!("the analysts' table {name} has no view any more and was dropped");
            known.remove(&name);
        }
        session.commit().await?;
        Ok(known)
    }

    /// Returns which tables are to be filled.
    fn wanted(&self, known: &BTreeMap<String, String>, which: Which) -> BTreeSet<String> {
        let is_view = |name: &str| self.tables.categories.iter().any(|view| view.name == name);
        let definitions = self.tables.definitions().into_iter();
        let differs = |name: &str, definition: &str| {
            which == Which::All || known.get(name).is_none_or(|known| known != definition)
        };
        definitions
            .filter(|(name, definition)| !is_view(name) && differs(name, definition))
            .map(|(name, _)| name.to_owned())
            .collect()
    }

    /// Returns why a table cannot be called so.
    async fn expect_free(
        &self,
        name: &str,
        known: &BTreeMap<String, String>,
    ) -> Result<Option<String>, Undone> {
        if name.len() > NAME_BYTES_MAX {
            return Ok(Some(format!("its name is longer than {NAME_BYTES_MAX} letters; call it by another")));
        }
        let session = self.begin_transaction().await?;
        let taken =
            "SELECT 1 FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname = $1";
        let is_taken = session.row_or_none(taken, &[&name]).await?.is_some();
        session.rollback().await;
        let is_foreign = is_taken && !known.contains_key(name);
        Ok(is_foreign.then(|| format!("there is a table {name} that this program did not make; rename it")))
    }

    fn table(&self, name: &str) -> Option<&ViewTable> {
        self.tables.known.iter().find(|table| table.name == name)
    }

    /// Makes an empty table under its name while it is built.
    async fn begin(&self, name: &str) -> Result<(), Undone> {
        let called = under_build(name);
        let statements =
            self.table(name).map_or_else(|| create_persons(&called), |table| table.create(&called));
        let session = self.begin_transaction().await?;
        session.batch(&statements).await?;
        session.execute("DELETE FROM analyst_left_out WHERE name = $1", &[&name]).await?;
        session.commit().await
    }

    /// Fills the tables, patient by patient.
    async fn fill(
        &self,
        wanted: &BTreeSet<String>,
        told: &mut (dyn FnMut(Steps) + Send),
    ) -> Result<(), Undone> {
        let session = self.begin_transaction().await?;
        let list = "SELECT person_id FROM checkpoint WHERE holds_rows ORDER BY person_id";
        let rows = session.rows(list, &[]).await?;
        session.rollback().await;
        let persons = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
        for (done, person) in persons.iter().enumerate() {
            told(Steps { done, of: persons.len() });
            let session = self.begin_transaction().await?;
            // A purge comes before, and there is nothing to read, or after, and takes what is filled in along.
            let lock = "SELECT 1 FROM checkpoint WHERE person_id = $1 AND holds_rows FOR UPDATE";
            if session.row_or_none(lock, &[person]).await?.is_some() {
                self.fill_for(&session, person, wanted).await?;
            }
            session.commit().await?;
        }
        told(Steps { done: persons.len(), of: persons.len() });
        Ok(())
    }

    async fn fill_for(
        &self,
        session: &Session,
        person: &str,
        wanted: &BTreeSet<String>,
    ) -> Result<(), Undone> {
        let mut live = 0;
        for of_type in with_rows_of(session, person).await? {
            live += of_type.live;
            let source = of_type.known.table.as_str();
            let places: Vec<usize> = self.tables.of_source(source).to_vec();
            let is_wanted = |at: &usize| wanted.contains(&self.tables.known[*at].name);
            let places: Vec<usize> = places.into_iter().filter(is_wanted).collect();
            if !places.is_empty() {
                self.fill_from(session, person, source, &places).await?;
            }
        }
        let statement = "INSERT INTO live_resources (person_id, resources) VALUES ($1, $2)
             ON CONFLICT (person_id) DO UPDATE SET resources = excluded.resources";
        session.execute(statement, &[&person, &count(live)]).await?;
        let called = |name: &str| if wanted.contains(name) { under_build(name) } else { name.to_owned() };
        let is_kept = |name: &str| self.table(name).is_some();
        for table in TABLES.into_iter().filter(|table| is_kept(table) && is_kept(MEDICATIONS)) {
            if wanted.contains(table) || wanted.contains(MEDICATIONS) {
                let fill_in = medicines::fill_in(&called(table), &called(MEDICATIONS), Medicines::All);
                session.execute(&fill_in, &[&person]).await?;
            }
        }
        if let Some(all) = self.tables.persons.as_ref().filter(|_| wanted.contains(persons::NAME)) {
            let work_out = all.work_out(&called(persons::NAME), &called);
            session.execute(&work_out, &[&person]).await?;
        }
        Ok(())
    }

    /// Reads the resources of one person and type, and puts their rows into some tables.
    async fn fill_from(
        &self,
        session: &Session,
        person: &str,
        source: &str,
        places: &[usize],
    ) -> Result<(), Undone> {
        let statement = format!(
            "SELECT key, changed_at, resource::text FROM \"{source}\"
              WHERE person_id = $1 AND key > $2 AND deleted_at IS NULL AND superseded_at IS NULL
              ORDER BY key LIMIT {READ_AT_ONCE}"
        );
        let (mut memory, mut last) = (TapeMemory::default(), String::new());
        loop {
            let found = session.rows(&statement, &[&person, &last]).await?;
            let Some(end) = found.last() else { return Ok(()) };
            let end: String = end.try_get(0)?;
            let mut gained: Vec<(&str, Timestamp, KeptRows)> = Vec::with_capacity(found.len());
            for row in &found {
                let (key, changed_at, resource): (&str, Timestamp, &str) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                gained.push((
                    key,
                    changed_at,
                    self.tables.rows_of(places, key, resource, self.now, &mut memory),
                ));
            }
            let mut steps: Vec<Step<'_>> = Vec::new();
            for (place, at) in places.iter().enumerate() {
                let table = &self.tables.known[*at];
                let mut rows = TableRows::of(table);
                for (key, changed_at, kept) in &gained {
                    rows.push(place, Gained { key, changed_at: *changed_at, rows: kept });
                }
                steps.extend(rows.into_steps(&under_build(&table.name), person));
            }
            debug_assert!(steps.iter().all(|step| step.phase == Phase::Insert));
            run_all(session, &steps).await?;
            last = end;
        }
    }

    /// Has a table that is filled take its place.
    async fn finish(&self, name: &str) -> Result<(), Undone> {
        let called = under_build(name);
        let (indexes, resource, definition) = match (self.table(name), &self.tables.persons) {
            (Some(table), _) => {
                let resource = table.source.resource_type().unwrap_or_default();
                (table.late_indexes(&called), resource, table.definition.as_str())
            }
            (None, Some(persons)) => (String::new(), "", persons.definition.as_str()),
            (None, None) => return Ok(()),
        };
        let statements = format!(
            "{indexes}ANALYZE \"{called}\";\nDROP TABLE IF EXISTS \"{name}\";\nALTER TABLE \"{called}\" RENAME TO \"{name}\";"
        );
        self.make(&Made { name, statements }, resource, definition).await
    }

    /// Makes a table or a view, gives it the rights that `analyst_column` gives, and notes what it was made from.
    async fn make(&self, made: &Made<'_>, resource: &str, definition: &str) -> Result<(), Undone> {
        let session = self.begin_transaction().await?;
        session.batch(&made.statements).await?;
        let rights = "SELECT a.privilege_type, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END
             FROM pg_class AS c, aclexplode(c.relacl) AS a
            WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = $1 AND a.grantee <> c.relowner";
        for row in session.rows(rights, &[&FACTS]).await? {
            let (right, role): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
            session.batch(&format!("GRANT {right} ON \"{}\" TO {role}", made.name)).await?;
        }
        note(&session, made.name, resource, definition, self.now).await?;
        session.commit().await
    }

    /// Notes what is there whatever is kept, and what the columns are.
    async fn note_always(&self) -> Result<(), Undone> {
        let session = self.begin_transaction().await?;
        note(&session, FRESHNESS, "", "1", self.now).await?;
        session.execute("DELETE FROM analyst_column", &[]).await?;
        let (mut tables, mut positions, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let (mut descriptions, mut paths) = (Vec::new(), Vec::new());
        for table in &self.tables.facts {
            for (position, column) in (1_i64..).zip(&table.columns) {
                tables.push(table.name.as_str());
                positions.push(position);
                names.push(column.name.as_str());
                descriptions.push(column.description.as_str());
                paths.push(column.path.as_str());
            }
        }
        let insert = include_str!("../../../schema/postgres/note_columns.sql");
        session.execute(insert, &[&tables, &positions, &names, &descriptions, &paths]).await?;
        note(&session, FACTS, "", &self.tables.facts_definition(), self.now).await?;
        session.commit().await
    }
}

/// A table that the server refuses is told; what says more about the server ends the work.
fn note_refused(
    name: &str,
    made: Result<(), Undone>,
    wanted: &mut BTreeSet<String>,
    refused: &mut Vec<ViewRefused>,
) -> Result<(), Undone> {
    match made {
        Err(Undone::Failed(StoreFailed::Engine(why) | StoreFailed::Data(why))) => {
            wanted.remove(name);
            refused.push(ViewRefused { name: name.to_owned(), why });
            Ok(())
        }
        made => made,
    }
}

/// Notes what a table was made from.
async fn note(
    session: &Session,
    name: &str,
    resource: &str,
    definition: &str,
    now: Timestamp,
) -> Result<(), Undone> {
    let statement = "INSERT INTO analyst_table (name, resource, definition, built_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (name) DO UPDATE
        SET resource = excluded.resource, definition = excluded.definition, built_at = excluded.built_at";
    session.execute(statement, &[&name, &resource, &definition, &now]).await?;
    Ok(())
}

/// Returns what a table is called while it is built. It is no longer than any name may be.
fn under_build(name: &str) -> String {
    format!("{UNDER_BUILD}{}", hash(&[name]))
}

fn drop_views(names: &[&str]) -> String {
    let drops: Vec<String> = names.iter().map(|name| format!("DROP VIEW IF EXISTS \"{name}\";")).collect();
    drops.join("\n")
}

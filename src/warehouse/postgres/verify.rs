//! What must be true of a sound warehouse, as a list of checks. Reads only.
//!
//! Promise: a patient is looked at as of one moment, and no longer: whoever sees old rows for long keeps the last bytes
//! of purged patients. Absent on purpose: the blocks of the server's files, whose checksums are the server's.

use std::collections::BTreeSet;

use super::analyst_tables::{AnalystTables, stored};
use super::failure::Undone;
use super::pool::Pool;
use super::purge::purged_tables;
use super::session::Session;
use super::tables::{RowsOf, with_rows_of};
use super::values::{Param, counted};
use super::view_rows::{Gained, TableRows};
use super::{medicines, persons};
use crate::plan::Timestamp;
use crate::plan::resource_type::ResourceType;
use crate::plan::state::PatientState;
use crate::views::{AnalystTable, KeptRows, TapeMemory};
use crate::warehouse::medicines::MEDICATIONS;
use crate::warehouse::report::{Findings, Pages, VerifyDepth};
use crate::warehouse::soundness::{StoredRow, left_of_revoked, miscounted, pull_fault, stale};

/// Resources that are read at once.
const READ_AT_ONCE: i64 = 500;

pub(super) async fn verify(
    pool: &Pool,
    views: &[AnalystTable],
    depth: VerifyDepth,
    now: Timestamp,
) -> Result<Findings, Undone> {
    let known = pool.look(|session| Box::pin(stored(session))).await?;
    let (tables, _) = AnalystTables::new(views).followed(&known);
    let mut check = Check { tables: &tables, now, findings: Findings::default(), stale: BTreeSet::new() };
    for person in pool.look(|session| Box::pin(everybody(session))).await? {
        let session = pool.begin(super::session::Begin::Snapshot).await?;
        check.look_at(&session, &person).await?;
        session.rollback().await;
    }
    let Check { mut findings, stale: stale_tables, .. } = check;
    let wrong = pool.look(|session| Box::pin(of_all(session))).await?;
    let wrong = wrong.into_iter().chain(stale_tables.iter().map(|table| stale(table)));
    for finding in wrong {
        findings.add(finding);
    }
    if depth == VerifyDepth::Pages {
        let look = pool.look(|session| Box::pin(async { session.row("SHOW data_checksums", &[]).await }));
        let checksums: String = look.await?.try_get(0)?;
        let why = format!(
            "they are the server's own, whose block checksums are {checksums}; `pg_amcheck` looks at them"
        );
        findings.pages = Some(Pages::Unseen(why));
    }
    Ok(findings)
}

/// Returns all patients, those of whom there are rows and no checkpoint too.
async fn everybody(session: &Session) -> Result<Vec<String>, Undone> {
    let mut everybody = BTreeSet::new();
    for row in session.rows("SELECT person_id FROM checkpoint", &[]).await? {
        everybody.insert(row.try_get(0)?);
    }
    for table in purged_tables(session).await? {
        everybody.extend(unknown_in(session, &table).await?);
    }
    Ok(everybody.into_iter().collect())
}

/// Returns those who have rows in a table and no checkpoint. One probe of an index for each patient.
async fn unknown_in(session: &Session, table: &str) -> Result<Vec<String>, Undone> {
    let statement = format!(
        "WITH RECURSIVE one (id) AS (
            SELECT min(person_id) FROM \"{table}\"
             UNION ALL SELECT (SELECT min(person_id) FROM \"{table}\" WHERE person_id > one.id) FROM one WHERE one.id IS NOT NULL)
         SELECT id FROM one WHERE id IS NOT NULL AND NOT EXISTS (SELECT 1 FROM checkpoint WHERE person_id = one.id)"
    );
    let rows = session.rows(&statement, &[]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Checks what one statement can say of everybody.
async fn of_all(session: &Session) -> Result<Vec<String>, Undone> {
    let mut wrong = Vec::new();
    for table in purged_tables(session).await? {
        for person in unknown_in(session, &table).await? {
            wrong.push(format!("{table} holds rows of {person}, who has no checkpoint"));
        }
    }
    for row in session.rows(include_str!("../../../schema/pull_faults.sql"), &[]).await? {
        wrong.push(pull_fault(row.try_get(0)?, row.try_get(1)?));
    }
    Ok(wrong)
}

/// What is being looked at, and what was found.
struct Check<'c> {
    tables: &'c AnalystTables,
    now: Timestamp,
    findings: Findings,
    /// The analysts' tables that are not what they should be; they are not looked at again.
    stale: BTreeSet<String>,
}

impl Check<'_> {
    async fn look_at(&mut self, session: &Session, person: &str) -> Result<(), Undone> {
        let with_rows = with_rows_of(session, person).await?;
        for of_type in &with_rows {
            self.check_rows(session, person, of_type.known).await?;
        }
        self.check_former_versions(session, person).await?;
        self.check_what_nothing_gave(session, person, &with_rows).await?;
        self.check_worked_out(session, person).await?;
        let live: u64 = with_rows.iter().map(|of_type| of_type.live).sum();
        let noted = "SELECT resources FROM live_resources WHERE person_id = $1";
        let noted = session.row_or_none(noted, &[&person]).await?;
        let noted: i64 = noted.map_or(Ok(0), |row| row.try_get(0))?;
        if counted(noted) != live {
            self.findings.add(miscounted(person));
        }
        self.check_revoked(session, person).await
    }

    /// Holds each row of a table against its resource, and what the analysts' tables have of them against a fresh
    /// evaluation.
    async fn check_rows(
        &mut self,
        session: &Session,
        person: &str,
        known: &'static ResourceType,
    ) -> Result<(), Undone> {
        let source = known.table.as_str();
        let places = self.tables.of_source(source).to_vec();
        let statement = format!(
            "SELECT key, id, version_id, last_updated, source, patient, content_hash, resource::text, changed_at,
                    deleted_at IS NULL AND superseded_at IS NULL
               FROM \"{source}\" WHERE person_id = $1 AND key > $2 ORDER BY key LIMIT {READ_AT_ONCE}"
        );
        let (mut memory, mut last) = (TapeMemory::default(), String::new());
        loop {
            let rows = session.rows(&statement, &[&person, &last]).await?;
            let end: Option<String> = rows.last().map(|row| row.try_get(0)).transpose()?;
            let mut gained: Vec<(&str, Timestamp, KeptRows)> = Vec::new();
            for row in &rows {
                self.findings.rows += 1;
                let (key, resource): (&str, &str) = (row.try_get(0)?, row.try_get(7)?);
                let columns =
                    [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?];
                let stored = StoredRow { person, key, content_hash: row.try_get(6)?, columns, resource };
                if let Some(fault) = stored.fault(known) {
                    self.findings.add(fault);
                }
                if !places.is_empty() && row.try_get(9)? {
                    let rows = self.tables.rows_of(&places, key, resource, self.now, &mut memory);
                    gained.push((key, row.try_get(8)?, rows));
                }
            }
            for (place, at) in places.iter().enumerate() {
                let table = &self.tables.known[*at];
                if self.stale.contains(&table.name) {
                    continue;
                }
                let mut anew = TableRows::of(table);
                for (key, changed_at, rows) in &gained {
                    anew.push(place, Gained { key, changed_at: *changed_at, rows });
                }
                let mut params = anew.into_params(person);
                params.push(Box::new(last.as_str()));
                params.push(Box::new(end.as_deref()));
                let params: Vec<&dyn Param> = params.iter().map(|param| &**param as &dyn Param).collect();
                if session.row(&table.differs(source), &params).await?.try_get(0)? {
                    self.stale.insert(table.name.clone());
                }
            }
            match end {
                Some(end) => last = end,
                None => return Ok(()),
            }
        }
    }

    async fn check_former_versions(&mut self, session: &Session, person: &str) -> Result<(), Undone> {
        let statement = format!(
            "SELECT key, id, version_id, last_updated, source, patient, content_hash, resource::text, type,
                    replaced_at, changed_at
               FROM history WHERE person_id = $1 AND (type, key, replaced_at, changed_at) > ($2, $3, $4, $5)
              ORDER BY type, key, replaced_at, changed_at LIMIT {READ_AT_ONCE}"
        );
        let (mut of_type, mut key) = (String::new(), String::new());
        let (mut replaced_at, mut changed_at) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        loop {
            let after: [&dyn Param; 5] = [&person, &of_type, &key, &replaced_at, &changed_at];
            let rows = session.rows(&statement, &after).await?;
            for row in &rows {
                self.findings.rows += 1;
                let Some(known) = ResourceType::by_name(row.try_get(8)?) else { continue };
                let columns =
                    [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?, row.try_get(5)?];
                let (key, resource) = (row.try_get(0)?, row.try_get(7)?);
                let stored = StoredRow { person, key, content_hash: row.try_get(6)?, columns, resource };
                if let Some(fault) = stored.fault(known) {
                    self.findings.add(fault);
                }
            }
            let Some(end) = rows.last() else { return Ok(()) };
            (of_type, key) = (end.try_get(8)?, end.try_get(0)?);
            (replaced_at, changed_at) = (end.try_get(9)?, end.try_get(10)?);
        }
    }

    /// Looks for rows of analysts' tables whose resources are of types that the patient has none of.
    async fn check_what_nothing_gave(
        &mut self,
        session: &Session,
        person: &str,
        with_rows: &[RowsOf],
    ) -> Result<(), Undone> {
        let types: Vec<&str> = with_rows.iter().map(|of_type| of_type.known.name).collect();
        for table in &self.tables.known {
            let (of_others, params): (&str, Vec<&dyn Param>) = match &table.source_table {
                None => (" AND NOT resource_type = ANY($2)", vec![&person, &types]),
                Some(source) if with_rows.iter().all(|of_type| of_type.known.table != *source) => {
                    ("", vec![&person])
                }
                Some(_) => continue,
            };
            let name = &table.name;
            let there = format!("SELECT EXISTS (SELECT 1 FROM \"{name}\" WHERE person_id = $1{of_others})");
            if session.row(&there, &params).await?.try_get(0)? {
                self.stale.insert(name.clone());
            }
        }
        Ok(())
    }

    /// Checks what is worked out of other tables: medicines, and the row of the person.
    async fn check_worked_out(&mut self, session: &Session, person: &str) -> Result<(), Undone> {
        let mut questions: Vec<(&str, String)> = Vec::new();
        if self.tables.known.iter().any(|table| table.name == MEDICATIONS) {
            let filled_in = self.tables.known.iter().map(|table| table.name.as_str());
            let filled_in = filled_in.filter(|name| medicines::are_filled_in(name));
            questions.extend(filled_in.map(|name| (name, medicines::differs(name))));
        }
        questions.extend(self.tables.persons.as_ref().map(|all| (persons::NAME, all.differs())));
        for (name, question) in questions {
            if !self.stale.contains(name) && session.row(&question, &[&person]).await?.try_get(0)? {
                self.stale.insert(name.to_owned());
            }
        }
        Ok(())
    }

    /// Looks for anything of a patient who withdrew. That somebody was asked again since is no row of theirs.
    async fn check_revoked(&mut self, session: &Session, person: &str) -> Result<(), Undone> {
        let state = "SELECT state FROM checkpoint WHERE person_id = $1";
        let state = session.row_or_none(state, &[&person]).await?;
        let state: Option<String> = state.map(|row| row.try_get(0)).transpose()?;
        if state.as_deref() != Some(PatientState::Revoked.as_str()) {
            return Ok(());
        }
        for table in purged_tables(session).await?.into_iter().filter(|table| table != "pull") {
            // Nor is a consent that was given again, before anything is pulled.
            let counted_rows = if table == "consent_record" { " AND NOT consented" } else { "" };
            let count = format!("SELECT count(*) FROM \"{table}\" WHERE person_id = $1{counted_rows}");
            let rows = counted(session.row(&count, &[&person]).await?.try_get(0)?);
            if rows > 0 {
                self.findings.add(left_of_revoked(&table, rows, person));
            }
        }
        Ok(())
    }
}

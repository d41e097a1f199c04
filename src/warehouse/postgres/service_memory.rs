//! The tables `cycle`, `problem` and `problem_patient`: what a restart of the service does not forget.

use std::time::Duration;

use tokio_postgres::Row;

use super::cycle_ends;
use super::failure::Undone;
use super::session::Session;
use super::values::{count, counted};
use crate::plan::PersonId;
use crate::plan::verdict::{CycleVerdict, PatientCounts};
use crate::warehouse::page::Tally;
use crate::warehouse::service::{
    CYCLES_REMEMBERED, KnownProblem, NamedPatient, PastCycle, ServiceMemory, ServiceNote,
};

pub(super) async fn remember(session: &Session, note: &ServiceNote) -> Result<(), Undone> {
    if let Some(end) = note.well_end {
        cycle_ends::note_good_cycle(session, end).await?;
    }
    for cycle in &note.cycles {
        insert_cycle(session, cycle).await?;
    }
    let prune = "DELETE FROM cycle WHERE id <= (SELECT id FROM cycle ORDER BY id DESC LIMIT 1 OFFSET $1)";
    session.execute(prune, &[&count(CYCLES_REMEMBERED as u64)]).await?;
    if recall_problems(session).await? != note.problems {
        store_problems(session, &note.problems).await?;
    }
    Ok(())
}

async fn insert_cycle(session: &Session, cycle: &PastCycle) -> Result<(), Undone> {
    let PastCycle { patients, resources, .. } = cycle;
    let PatientCounts { total, ok, revoked, held, not_found, failed, skipped } = *patients;
    let [total, ok, revoked, held, not_found, failed, skipped] =
        [total, ok, revoked, held, not_found, failed, skipped].map(count);
    let statement = include_str!("../../../schema/postgres/note_cycle.sql");
    session
        .execute(
            statement,
            &[
                &cycle.started_at,
                &cycle.took.as_secs_f64(),
                &cycle.verdict.as_str(),
                &cycle.verdict.why(),
                &total,
                &ok,
                &revoked,
                &held,
                &not_found,
                &failed,
                &skipped,
                &count(resources.inserted),
                &count(resources.updated),
                &count(resources.deleted),
                &count(cycle.requests),
            ],
        )
        .await?;
    Ok(())
}

async fn store_problems(session: &Session, problems: &[KnownProblem]) -> Result<(), Undone> {
    session.batch("DELETE FROM problem_patient; DELETE FROM problem;").await?;
    for KnownProblem { kind, since, told_at, text, patients } in problems {
        let problem = "INSERT INTO problem (kind, since, told_at, text) VALUES ($1, $2, $3, $4)";
        session.execute(problem, &[kind, since, told_at, text]).await?;
        let patient = "INSERT INTO problem_patient (person_id, kind) SELECT unnest($1), $2";
        let persons: Vec<&str> = patients.iter().map(|one| one.person.as_str()).collect();
        session.execute(patient, &[&persons, kind]).await?;
    }
    Ok(())
}

/// Returns what is remembered.
pub(super) async fn recall(session: &Session) -> Result<ServiceMemory, Undone> {
    let cycles = session.rows("SELECT * FROM cycle ORDER BY id", &[]).await?;
    let cycles = cycles.iter().map(past_cycle).collect::<Result<Vec<_>, _>>()?;
    Ok(ServiceMemory {
        cycles: cycles.into_iter().flatten().collect(),
        problems: recall_problems(session).await?,
    })
}

fn past_cycle(row: &Row) -> Result<Option<PastCycle>, Undone> {
    let verdict: String = row.try_get("verdict")?;
    let Some(verdict) = CycleVerdict::parse(&verdict, row.try_get("why")?) else { return Ok(None) };
    let number = |name: &str| Ok::<u64, Undone>(counted(row.try_get(name)?));
    let patients = PatientCounts {
        total: number("total")?,
        ok: number("ok")?,
        revoked: number("revoked")?,
        held: number("held")?,
        not_found: number("not_found")?,
        failed: number("failed")?,
        skipped: number("skipped")?,
    };
    let resources = Tally {
        inserted: number("inserted")?,
        updated: number("updated")?,
        deleted: number("deleted")?,
        ..Tally::default()
    };
    let took = Duration::try_from_secs_f64(row.try_get("seconds")?).unwrap_or_default();
    let started_at = row.try_get("started_at")?;
    Ok(Some(PastCycle { started_at, took, verdict, patients, resources, requests: number("requests")? }))
}

async fn recall_problems(session: &Session) -> Result<Vec<KnownProblem>, Undone> {
    let found = session.rows("SELECT kind, since, told_at, text FROM problem ORDER BY kind", &[]).await?;
    let mut problems = Vec::new();
    for row in found {
        let kind: String = row.try_get(0)?;
        let patients = patients_of(session, &kind).await?;
        let (since, told_at, text) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
        problems.push(KnownProblem { kind, since, told_at, text, patients });
    }
    Ok(problems)
}

async fn patients_of(session: &Session, kind: &str) -> Result<Vec<NamedPatient>, Undone> {
    let statement = "SELECT p.person_id, coalesce(c.label, p.person_id)
           FROM problem_patient AS p LEFT JOIN checkpoint AS c ON c.person_id = p.person_id
          WHERE p.kind = $1 ORDER BY p.person_id COLLATE \"C\"";
    let mut patients = Vec::new();
    for row in session.rows(statement, &[&kind]).await? {
        let (person, name): (&str, String) = (row.try_get(0)?, row.try_get(1)?);
        patients.extend(PersonId::parse(person).ok().map(|person| NamedPatient { person, name }));
    }
    Ok(patients)
}

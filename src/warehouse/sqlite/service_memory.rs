//! The tables `cycle`, `problem` and `problem_patient`: what a restart of the service does not forget.

use std::time::Duration;

use rusqlite::{Connection, Row, named_params, params};

use super::{cycle_ends, tables};
use crate::plan::verdict::{CycleVerdict, PatientCounts};
use crate::plan::{PersonId, Timestamp, parse_stamp, stamp};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::Tally;
use crate::warehouse::service::{
    CYCLES_REMEMBERED, KnownProblem, NamedPatient, PastCycle, ServiceMemory, ServiceNote,
};

pub(super) fn remember(connection: &Connection, note: &ServiceNote) -> Result<(), StoreFailed> {
    if let Some(end) = note.well_end {
        cycle_ends::note_good_cycle(connection, end)?;
    }
    for cycle in &note.cycles {
        insert_cycle(connection, cycle)?;
    }
    let kept = i64::try_from(CYCLES_REMEMBERED).unwrap_or(i64::MAX);
    connection.execute(
        "DELETE FROM cycle WHERE id <= (SELECT id FROM cycle ORDER BY id DESC LIMIT 1 OFFSET ?1)",
        [kept],
    )?;
    if recall_problems(connection)? != note.problems {
        store_problems(connection, &note.problems)?;
    }
    Ok(())
}

fn insert_cycle(connection: &Connection, cycle: &PastCycle) -> Result<(), StoreFailed> {
    let PastCycle { patients, resources, .. } = cycle;
    connection.execute(
        include_str!("../../../schema/note_cycle.sql"),
        named_params! {
            ":started_at": stamp(cycle.started_at),
            ":seconds": cycle.took.as_secs_f64(),
            ":verdict": cycle.verdict.as_str(),
            ":why": cycle.verdict.why(),
            ":total": patients.total,
            ":ok": patients.ok,
            ":revoked": patients.revoked,
            ":held": patients.held,
            ":not_found": patients.not_found,
            ":failed": patients.failed,
            ":skipped": patients.skipped,
            ":inserted": resources.inserted,
            ":updated": resources.updated,
            ":deleted": resources.deleted,
            ":requests": cycle.requests,
        },
    )?;
    Ok(())
}

fn store_problems(connection: &Connection, problems: &[KnownProblem]) -> Result<(), StoreFailed> {
    connection.execute_batch("DELETE FROM problem_patient; DELETE FROM problem;")?;
    let mut problem = connection
        .prepare_cached("INSERT INTO problem (kind, since, told_at, text) VALUES (?1, ?2, ?3, ?4)")?;
    let mut patient =
        connection.prepare_cached("INSERT INTO problem_patient (person_id, kind) VALUES (?1, ?2)")?;
    for known in problems {
        problem.execute(params![known.kind, stamp(known.since), stamp(known.told_at), known.text])?;
        for one in &known.patients {
            patient.execute([one.person.as_str(), &known.kind])?;
        }
    }
    Ok(())
}

/// Returns what is remembered; nothing, in a file of an older schema.
pub(super) fn recall(connection: &Connection) -> Result<ServiceMemory, StoreFailed> {
    if !tables::exists(connection, "problem_patient")? {
        return Ok(ServiceMemory::default());
    }
    Ok(ServiceMemory { cycles: recall_cycles(connection)?, problems: recall_problems(connection)? })
}

fn recall_cycles(connection: &Connection) -> Result<Vec<PastCycle>, StoreFailed> {
    let mut statement = connection.prepare_cached("SELECT * FROM cycle ORDER BY id")?;
    let cycles = statement.query_map([], past_cycle)?.collect::<Result<Vec<_>, _>>()?;
    Ok(cycles.into_iter().flatten().collect())
}

fn past_cycle(row: &Row<'_>) -> rusqlite::Result<Option<PastCycle>> {
    let (started_at, verdict): (String, String) = (row.get("started_at")?, row.get("verdict")?);
    let (Some(started_at), Some(verdict)) =
        (parse_stamp(&started_at), CycleVerdict::parse(&verdict, row.get("why")?))
    else {
        return Ok(None);
    };
    let patients = PatientCounts {
        total: row.get("total")?,
        ok: row.get("ok")?,
        revoked: row.get("revoked")?,
        held: row.get("held")?,
        not_found: row.get("not_found")?,
        failed: row.get("failed")?,
        skipped: row.get("skipped")?,
    };
    let resources = Tally {
        inserted: row.get("inserted")?,
        updated: row.get("updated")?,
        deleted: row.get("deleted")?,
        ..Tally::default()
    };
    let took = Duration::try_from_secs_f64(row.get("seconds")?).unwrap_or_default();
    Ok(Some(PastCycle { started_at, took, verdict, patients, resources, requests: row.get("requests")? }))
}

fn recall_problems(connection: &Connection) -> Result<Vec<KnownProblem>, StoreFailed> {
    let mut statement =
        connection.prepare_cached("SELECT kind, since, told_at, text FROM problem ORDER BY kind")?;
    let found = statement.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get(3)?))
    })?;
    let mut problems = Vec::new();
    for problem in found {
        let (kind, since, told_at, text) = problem?;
        let time = |text: &str| parse_stamp(text).unwrap_or(Timestamp::UNIX_EPOCH);
        let patients = patients_of(connection, &kind)?;
        problems.push(KnownProblem { kind, since: time(&since), told_at: time(&told_at), text, patients });
    }
    Ok(problems)
}

fn patients_of(connection: &Connection, kind: &str) -> Result<Vec<NamedPatient>, StoreFailed> {
    let mut statement = connection.prepare_cached(
        "SELECT p.person_id, coalesce(c.label, p.person_id)
           FROM problem_patient AS p LEFT JOIN checkpoint AS c ON c.person_id = p.person_id
          WHERE p.kind = ?1 ORDER BY p.person_id",
    )?;
    let found = statement.query_map([kind], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    let mut patients = Vec::new();
    for patient in found {
        let (person, name) = patient?;
        patients.extend(PersonId::parse(&person).ok().map(|person| NamedPatient { person, name }));
    }
    Ok(patients)
}

//! A cycle's two ends: the roster that it has read, and when it began and ended well.

use tokio_postgres::Row;

use super::failure::Undone;
use super::session::Session;
use super::values::{count, counted};
use crate::plan::leaver::Missing;
use crate::plan::{PersonId, Timestamp, parse_stamp, stamp};
use crate::warehouse::about::{LAST_CYCLE, LAST_GOOD_CYCLE};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::patient::{
    CycleTimes, KnownPatient, MissingPatient, PATIENTS_AT_ONCE, RosterComparison, RosterReading, RosterTaken,
    Unlisted,
};

/// Brings the checkpoint in line with the roster: new patients get a row, all others a mark, and
/// those that it lacks are noted as missing, if it is in force still.
pub(super) async fn take_roster(
    session: &Session,
    roster: &RosterReading,
    is_in_force: bool,
    now: Timestamp,
) -> Result<(), Undone> {
    let mut comparison = RosterComparison::new(roster, is_in_force, now);
    let known =
        "SELECT person_id, label, listed, purged_at IS NOT NULL, missing_since, missing_readings, listed_by
           FROM checkpoint WHERE person_id > $1 ORDER BY person_id LIMIT $2";
    let mut last = String::new();
    loop {
        let piece = session.rows(known, &[&last, &count(PATIENTS_AT_ONCE as u64)]).await?;
        let mut unlisted = Vec::new();
        for row in &piece {
            last = row.try_get(0)?;
            if let Some(noted) = comparison.compare(&last, &known_patient(row)?) {
                unlisted.push((last.clone(), noted));
            }
        }
        unlist(session, &unlisted).await?;
        if piece.len() < PATIENTS_AT_ONCE {
            break;
        }
    }
    for piece in comparison.others().chunks(PATIENTS_AT_ONCE) {
        let persons: Vec<&str> = piece.iter().map(|listed| listed.patient.person.as_str()).collect();
        let labels: Vec<Option<&str>> = piece.iter().map(|listed| listed.patient.label.as_deref()).collect();
        let by: Vec<&str> = piece.iter().map(|listed| listed.by.as_str()).collect();
        let take = include_str!("../../../schema/postgres/take_roster.sql");
        session.execute(take, &[&persons, &labels, &by]).await?;
    }
    Ok(())
}

fn known_patient(row: &Row) -> Result<KnownPatient, Undone> {
    Ok(KnownPatient {
        label: row.try_get(1)?,
        listed: row.try_get(2)?,
        is_purged: row.try_get(3)?,
        missing: missing(row.try_get(4)?, row.try_get(5)?),
        listed_by: row.try_get(6)?,
    })
}

fn missing(since: Option<Timestamp>, readings: i64) -> Option<Missing> {
    let readings = u32::try_from(counted(readings)).unwrap_or(u32::MAX);
    since.map(|since| Missing { since, readings })
}

async fn unlist(session: &Session, unlisted: &[(String, Unlisted)]) -> Result<(), Undone> {
    if unlisted.is_empty() {
        return Ok(());
    }
    let persons: Vec<&str> = unlisted.iter().map(|(person, _)| person.as_str()).collect();
    let missing = unlisted.iter().map(|(_, Unlisted { missing })| missing);
    let since: Vec<Option<Timestamp>> =
        missing.clone().map(|missing| missing.map(|missing| missing.since)).collect();
    let readings: Vec<i64> =
        missing.map(|missing| missing.map_or(0, |missing| i64::from(missing.readings))).collect();
    let statement = include_str!("../../../schema/postgres/unlist.sql");
    session.execute(statement, &[&persons, &since, &readings]).await.map(drop)
}

/// Returns what taking the roster over has shown. Where it `is_in_force` no more, it says nothing of who is missing.
pub(super) async fn roster_taken(session: &Session, is_in_force: bool) -> Result<RosterTaken, Undone> {
    let anybody = session.row("SELECT EXISTS (SELECT 1 FROM checkpoint)", &[]).await?;
    let mut taken = RosterTaken { missing: Vec::new(), knows_anybody: anybody.try_get(0)? };
    if is_in_force {
        let statement = "SELECT person_id, missing_since, missing_readings FROM checkpoint
              WHERE missing_since IS NOT NULL AND holds_rows AND owner IS NULL ORDER BY person_id COLLATE \"C\"";
        for row in session.rows(statement, &[]).await? {
            let person = PersonId::parse(row.try_get(0)?)
                .map_err(|_| StoreFailed::Damaged("checkpoint.person_id cannot be read".to_owned()))?;
            let missing = missing(row.try_get(1)?, row.try_get(2)?);
            taken.missing.extend(missing.map(|missing| MissingPatient { person, missing }));
        }
    }
    Ok(taken)
}

/// Notes that a cycle has begun: a daemon that starts wants to know whether it has missed one.
pub(super) async fn note_cycle(session: &Session, now: Timestamp) -> Result<(), Undone> {
    note_time(session, LAST_CYCLE, now).await
}

/// Notes that a cycle ended well: `/healthz` goes by it, so that a restart does not make it forget.
pub(super) async fn note_good_cycle(session: &Session, now: Timestamp) -> Result<(), Undone> {
    note_time(session, LAST_GOOD_CYCLE, now).await
}

pub(super) async fn cycle_times(session: &Session) -> Result<CycleTimes, Undone> {
    Ok(CycleTimes {
        last_started_at: noted_time(session, LAST_CYCLE).await?,
        last_good_end: noted_time(session, LAST_GOOD_CYCLE).await?,
    })
}

pub(super) async fn note_time(session: &Session, name: &str, now: Timestamp) -> Result<(), Undone> {
    note_text(session, name, &stamp(now)).await
}

pub(super) async fn noted_time(session: &Session, name: &str) -> Result<Option<Timestamp>, Undone> {
    Ok(noted_text(session, name).await?.as_deref().and_then(parse_stamp))
}

pub(super) async fn note_text(session: &Session, name: &str, value: &str) -> Result<(), Undone> {
    let statement = "INSERT INTO about (name, value) VALUES ($1, $2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    session.execute(statement, &[&name, &value]).await?;
    Ok(())
}

pub(super) async fn noted_text(session: &Session, name: &str) -> Result<Option<String>, Undone> {
    let found = session.row_or_none("SELECT value FROM about WHERE name = $1", &[&name]).await?;
    Ok(found.map(|row| row.try_get(0)).transpose()?)
}

//! A cycle's two ends: the roster that it has read, and when it began and ended well.

use std::collections::{HashMap, HashSet};

use super::failure::Undone;
use super::session::Session;
use super::values::counted;
use crate::plan::leaver::Missing;
use crate::plan::{Timestamp, parse_stamp, stamp};
use crate::warehouse::about::{LAST_CYCLE, LAST_GOOD_CYCLE};
use crate::warehouse::patient::{CycleTimes, KnownPatient, Listed, RosterReading};

/// Brings the checkpoint in line with the roster: new patients get a row, all others a mark, and
/// those that it lacks are noted as missing, if it is in force still.
pub(super) async fn take_roster(
    session: &Session,
    roster: &RosterReading,
    is_in_force: bool,
    now: Timestamp,
) -> Result<(), Undone> {
    let listed = &roster.listed;
    let on_roster: HashSet<&str> = listed.iter().map(|patient| patient.person.as_str()).collect();
    let known = known_patients(session).await?;
    let is_same =
        |patient: &Listed| known.get(patient.person.as_str()).is_some_and(|known| known.is_as(patient));
    let other: Vec<_> = listed.iter().filter(|patient| !is_same(patient)).collect();
    let persons: Vec<&str> = other.iter().map(|patient| patient.person.as_str()).collect();
    let labels: Vec<Option<&str>> = other.iter().map(|patient| patient.label.as_deref()).collect();
    let by: Vec<&str> = other.iter().map(|patient| patient.by.as_str()).collect();
    let take = include_str!("../../../schema/postgres/take_roster.sql");
    session.execute(take, &[&persons, &labels, &by]).await?;
    let leave = "UPDATE checkpoint SET listed = false, missing_since = $2, missing_readings = $3 WHERE person_id = $1";
    for (person, known) in known.iter().filter(|(person, _)| !on_roster.contains(person.as_str())) {
        let missing = if is_in_force { roster.missing_after(known.missing, now) } else { known.missing };
        if known.listed || missing != known.missing {
            let readings = missing.map_or(0, |missing| i64::from(missing.readings));
            session.execute(leave, &[person, &missing.map(|missing| missing.since), &readings]).await?;
        }
    }
    Ok(())
}

async fn known_patients(session: &Session) -> Result<HashMap<String, KnownPatient>, Undone> {
    let statement =
        "SELECT person_id, label, listed, purged_at IS NOT NULL, missing_since, missing_readings, listed_by
           FROM checkpoint";
    let mut known = HashMap::new();
    for row in session.rows(statement, &[]).await? {
        let (since, readings): (Option<Timestamp>, i64) = (row.try_get(4)?, row.try_get(5)?);
        let readings = u32::try_from(counted(readings)).unwrap_or(u32::MAX);
        let patient = KnownPatient {
            label: row.try_get(1)?,
            listed: row.try_get(2)?,
            is_purged: row.try_get(3)?,
            missing: since.map(|since| Missing { since, readings }),
            listed_by: row.try_get(6)?,
        };
        known.insert(row.try_get(0)?, patient);
    }
    Ok(known)
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

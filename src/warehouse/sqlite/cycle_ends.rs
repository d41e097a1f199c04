//! A cycle's two ends: the roster that it has read, and when it began and ended well.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, params};

use crate::plan::leaver::Missing;
use crate::plan::{Timestamp, parse_stamp, stamp};
use crate::warehouse::about::{LAST_CYCLE, LAST_GOOD_CYCLE};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::patient::{CycleTimes, KnownPatient, RosterReading};

/// Brings the checkpoint in line with the roster: new patients get a row, all others a mark, and
/// those that it lacks are noted as missing.
pub(super) fn take_roster(
    connection: &Connection,
    roster: &RosterReading,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    let listed = &roster.listed;
    let on_roster: HashSet<&str> = listed.iter().map(|patient| patient.person.as_str()).collect();
    let known = known_patients(connection)?;
    // The label of a purged patient is not written down again until something of it is stored.
    let mut add = connection.prepare_cached(
        "INSERT INTO checkpoint (person_id, label, listed_by) VALUES (?1, ?2, ?3)
         ON CONFLICT (person_id) DO UPDATE
            SET label = CASE WHEN purged_at IS NULL THEN excluded.label END, listed = 1,
                listed_by = excluded.listed_by,
                missing_since = NULL, missing_readings = 0",
    )?;
    for patient in listed {
        let is_same = known.get(patient.person.as_str()).is_some_and(|known| known.is_as(patient));
        if !is_same {
            add.execute(params![patient.person.as_str(), patient.label, patient.by.as_str()])?;
        }
    }
    let mut leave = connection.prepare_cached(
        "UPDATE checkpoint SET listed = 0, missing_since = ?2, missing_readings = ?3 WHERE person_id = ?1",
    )?;
    for (person, known) in known.iter().filter(|(person, _)| !on_roster.contains(person.as_str())) {
        let missing = roster.missing_after(known.missing, now);
        if known.listed || missing != known.missing {
            let readings = missing.map_or(0, |missing| missing.readings);
            leave.execute(params![person, missing.map(|missing| stamp(missing.since)), readings])?;
        }
    }
    Ok(())
}

fn known_patients(connection: &Connection) -> Result<HashMap<String, KnownPatient>, StoreFailed> {
    let mut known = connection.prepare(
        "SELECT person_id, label, listed, purged_at IS NOT NULL, missing_since, missing_readings, listed_by
           FROM checkpoint",
    )?;
    let known = known.query_map([], |row| {
        let (label, listed, is_purged) = (row.get(1)?, row.get(2)?, row.get(3)?);
        let since: Option<String> = row.get(4)?;
        let (readings, listed_by) = (row.get(5)?, row.get(6)?);
        let missing = since.as_deref().and_then(parse_stamp).map(|since| Missing { since, readings });
        Ok((row.get(0)?, KnownPatient { label, listed, is_purged, missing, listed_by }))
    })?;
    Ok(known.collect::<Result<_, _>>()?)
}

/// Notes that a cycle has begun: a daemon that starts wants to know whether it has missed one.
pub(super) fn note_cycle(connection: &Connection, now: Timestamp) -> Result<(), StoreFailed> {
    note_time(connection, LAST_CYCLE, now)
}

/// Notes that a cycle ended well: `/healthz` goes by it, so that a restart does not make it forget.
pub(super) fn note_good_cycle(connection: &Connection, now: Timestamp) -> Result<(), StoreFailed> {
    note_time(connection, LAST_GOOD_CYCLE, now)
}

pub(super) fn cycle_times(connection: &Connection) -> Result<CycleTimes, StoreFailed> {
    Ok(CycleTimes {
        last_started_at: noted_time(connection, LAST_CYCLE)?,
        last_good_end: noted_time(connection, LAST_GOOD_CYCLE)?,
    })
}

const READER_SINCE: &str = "reader_since";

/// Notes that somebody keeps the WAL from being emptied, since now if not since earlier.
pub(super) fn note_reader(connection: &Connection, now: Timestamp) -> Result<(), StoreFailed> {
    connection
        .execute("INSERT OR IGNORE INTO about (name, value) VALUES (?1, ?2)", [READER_SINCE, &stamp(now)])?;
    Ok(())
}

pub(super) fn note_no_reader(connection: &Connection) -> Result<(), StoreFailed> {
    connection.execute("DELETE FROM about WHERE name = ?1", [READER_SINCE])?;
    Ok(())
}

pub(super) fn reader_since(connection: &Connection) -> Result<Option<Timestamp>, StoreFailed> {
    noted_time(connection, READER_SINCE)
}

pub(super) fn note_time(connection: &Connection, name: &str, now: Timestamp) -> Result<(), StoreFailed> {
    connection.execute(
        "INSERT INTO about (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [name, &stamp(now)],
    )?;
    Ok(())
}

pub(super) fn noted_time(connection: &Connection, name: &str) -> Result<Option<Timestamp>, StoreFailed> {
    let last: Option<String> = connection
        .query_row("SELECT value FROM about WHERE name = ?1", [name], |row| row.get(0))
        .optional()?;
    Ok(last.as_deref().and_then(parse_stamp))
}

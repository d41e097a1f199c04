//! A cycle's two ends: the roster that it has read, and when it began and ended well.

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::plan::leaver::Missing;
use crate::plan::{PersonId, Timestamp, parse_stamp, stamp};
use crate::warehouse::about::{LAST_CYCLE, LAST_GOOD_CYCLE};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::patient::{
    CycleTimes, KnownPatient, Listed, MissingPatient, RosterComparison, RosterReading, RosterTaken, Unlisted,
};

/// Brings the checkpoint in line with the roster: new patients get a row, all others a mark, and
/// those that it lacks are noted as missing.
pub(super) fn take_roster(
    connection: &Connection,
    roster: &RosterReading,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    let mut comparison = RosterComparison::new(roster, true, now);
    let mut unlisted = Vec::new();
    let mut known = connection.prepare(KNOWN)?;
    let mut rows = known.query([])?;
    while let Some(row) = rows.next()? {
        let person: String = row.get(0)?;
        if let Some(noted) = comparison.compare(&person, &known_patient(row)?) {
            unlisted.push((person, noted));
        }
    }
    // The label of a purged patient is not written down again until something of it is stored.
    let mut add = connection.prepare_cached(
        "INSERT INTO checkpoint (person_id, label, listed_by) VALUES (?1, ?2, ?3)
         ON CONFLICT (person_id) DO UPDATE
            SET label = CASE WHEN purged_at IS NULL THEN excluded.label END, listed = 1,
                listed_by = excluded.listed_by,
                missing_since = NULL, missing_readings = 0",
    )?;
    for Listed { patient, by } in comparison.others() {
        add.execute(params![patient.person.as_str(), patient.label, by.as_str()])?;
    }
    let mut leave = connection.prepare_cached(
        "UPDATE checkpoint SET listed = 0, missing_since = ?2, missing_readings = ?3 WHERE person_id = ?1",
    )?;
    for (person, Unlisted { missing }) in unlisted {
        let readings = missing.map_or(0, |missing| missing.readings);
        leave.execute(params![person, missing.map(|missing| stamp(missing.since)), readings])?;
    }
    Ok(())
}

const KNOWN: &str =
    "SELECT person_id, label, listed, purged_at IS NOT NULL, missing_since, missing_readings, listed_by
       FROM checkpoint";

/// Reads [`KNOWN`].
fn known_patient(row: &Row<'_>) -> Result<KnownPatient, StoreFailed> {
    let (label, listed, is_purged) = (row.get(1)?, row.get(2)?, row.get(3)?);
    let (missing, listed_by) = (missing(row, 4)?, row.get(6)?);
    Ok(KnownPatient { label, listed, is_purged, missing, listed_by })
}

/// Reads `missing_since` and `missing_readings`, which stand side by side.
fn missing(row: &Row<'_>, at: usize) -> Result<Option<Missing>, StoreFailed> {
    let (since, readings): (Option<String>, u32) = (row.get(at)?, row.get(at + 1)?);
    Ok(since.as_deref().and_then(parse_stamp).map(|since| Missing { since, readings }))
}

/// Returns what taking the roster over has shown.
pub(super) fn roster_taken(connection: &Connection) -> Result<RosterTaken, StoreFailed> {
    let mut statement = connection.prepare_cached(
        "SELECT person_id, missing_since, missing_readings FROM checkpoint
          WHERE missing_since IS NOT NULL AND holds_rows ORDER BY person_id",
    )?;
    let mut rows = statement.query([])?;
    let mut taken = RosterTaken::default();
    while let Some(row) = rows.next()? {
        let person = PersonId::parse(&row.get::<_, String>(0)?);
        let person =
            person.map_err(|_| StoreFailed::Damaged("checkpoint.person_id cannot be read".to_owned()))?;
        taken.missing.extend(missing(row, 1)?.map(|missing| MissingPatient { person, missing }));
    }
    let anybody = "SELECT EXISTS (SELECT 1 FROM checkpoint)";
    taken.knows_anybody = connection.query_row(anybody, [], |row| row.get(0))?;
    Ok(taken)
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

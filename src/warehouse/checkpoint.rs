//! Where each patient stands, and how far a pull under way has come.
//!
//! A move of a pull that hits no row means that another pull has taken over: then nothing
//! of the move is kept.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::failure::StoreFailed;
use super::page::{PullFrame, WalkMark};
use crate::plan::completeness::Walk;
use crate::plan::due::{Standing, UnderWay};
use crate::plan::row::KeyHash;
use crate::plan::{
    Learned, PatientState, PersonId, PullMode, Timestamp, TypeFilter, next_state, parse_stamp, stamp,
};

/// A patient of the roster, as the checkpoint needs to know it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub person: PersonId,
    pub label: Option<String>,
}

/// Brings the checkpoint in line with the roster: new patients get a row, all others a mark.
pub fn take_roster(connection: &Connection, listed: &[Listed]) -> Result<(), StoreFailed> {
    let on_roster: HashSet<&str> = listed.iter().map(|patient| patient.person.as_str()).collect();
    let mut known = connection.prepare("SELECT person_id, label, listed FROM checkpoint")?;
    let known = known
        .query_map([], |row| {
            Ok((row.get::<_, String>(0)?, (row.get::<_, Option<String>>(1)?, row.get::<_, bool>(2)?)))
        })?
        .collect::<Result<std::collections::HashMap<_, _>, _>>()?;
    let mut add = connection.prepare_cached(
        "INSERT INTO checkpoint (person_id, label) VALUES (?1, ?2)
         ON CONFLICT (person_id) DO UPDATE SET label = excluded.label, listed = 1",
    )?;
    for patient in listed {
        let same = known
            .get(patient.person.as_str())
            .is_some_and(|(label, listed)| *listed && *label == patient.label);
        if !same {
            add.execute(params![patient.person.as_str(), patient.label])?;
        }
    }
    let mut leave = connection.prepare_cached("UPDATE checkpoint SET listed = 0 WHERE person_id = ?1")?;
    for (person, (_, listed)) in &known {
        if *listed && !on_roster.contains(person.as_str()) {
            leave.execute([person])?;
        }
    }
    Ok(())
}

const LAST_CYCLE: &str = "last_cycle_started_at";

const LAST_GOOD_CYCLE: &str = "last_good_cycle_ended_at";

/// A daemon that starts wants to know whether it has missed a cycle.
pub fn note_cycle(connection: &Connection, now: Timestamp) -> Result<(), StoreFailed> {
    note_time(connection, LAST_CYCLE, now)
}

pub fn last_cycle(connection: &Connection) -> Result<Option<Timestamp>, StoreFailed> {
    noted_time(connection, LAST_CYCLE)
}

/// What `/healthz` goes by, so that a restart does not make it forget.
pub fn note_good_cycle(connection: &Connection, now: Timestamp) -> Result<(), StoreFailed> {
    note_time(connection, LAST_GOOD_CYCLE, now)
}

pub fn last_good_cycle(connection: &Connection) -> Result<Option<Timestamp>, StoreFailed> {
    noted_time(connection, LAST_GOOD_CYCLE)
}

fn note_time(connection: &Connection, name: &str, now: Timestamp) -> Result<(), StoreFailed> {
    connection.execute(
        "INSERT INTO about (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [name, &stamp(now)],
    )?;
    Ok(())
}

fn noted_time(connection: &Connection, name: &str) -> Result<Option<Timestamp>, StoreFailed> {
    let last: Option<String> = connection
        .query_row("SELECT value FROM about WHERE name = ?1", [name], |row| row.get(0))
        .optional()?;
    Ok(last.as_deref().and_then(parse_stamp))
}

/// A patient that the warehouse has never heard of.
pub fn unknown(patient: &Listed) -> Patient {
    let standing = Standing {
        state: PatientState::New,
        watermark: None,
        types: TypeFilter::default(),
        last_full_at: None,
        last_success_at: None,
        last_asked_at: None,
        next_attempt_at: None,
        sweep_guarded_at: None,
        has_rows: false,
        under_way: None,
    };
    let (person, label) = (patient.person.clone(), patient.label.clone());
    Patient { person, label, listed: true, failures: 0, renamed_full_at: None, standing }
}

/// One patient's standing, with its id and label.
#[derive(Clone, Debug)]
pub struct Patient {
    pub person: PersonId,
    pub label: Option<String>,
    pub listed: bool,
    pub failures: u32,
    pub renamed_full_at: Option<Timestamp>,
    pub standing: Standing,
}

pub fn all(connection: &Connection) -> Result<Vec<Patient>, StoreFailed> {
    let mut statement = connection.prepare("SELECT * FROM checkpoint ORDER BY person_id")?;
    let mut rows = statement.query([])?;
    let mut patients = Vec::new();
    while let Some(row) = rows.next()? {
        patients.push(read(row)?);
    }
    Ok(patients)
}

pub fn one(connection: &Connection, person: &PersonId) -> Result<Option<Patient>, StoreFailed> {
    let mut statement = connection.prepare_cached("SELECT * FROM checkpoint WHERE person_id = ?1")?;
    let mut rows = statement.query([person.as_str()])?;
    rows.next()?.map(read).transpose()
}

fn read(row: &Row<'_>) -> Result<Patient, StoreFailed> {
    let damaged = |what: &str| StoreFailed::Damaged(format!("checkpoint.{what} cannot be read"));
    let time = |name: &str| -> Result<Option<Timestamp>, StoreFailed> {
        let text: Option<String> = row.get(name)?;
        text.map(|text| parse_stamp(&text).ok_or_else(|| damaged(name))).transpose()
    };
    let id: String = row.get("person_id")?;
    let state: String = row.get("state")?;
    let mode: Option<String> = row.get("pull_mode")?;
    let under_way = match (mode.as_deref().and_then(PullMode::parse), time("pull_started_at")?) {
        (Some(mode), Some(started_at)) => Some(UnderWay {
            mode,
            types: TypeFilter::parse(&row.get::<_, Option<String>>("pull_types")?.unwrap_or_default()),
            started_at,
            since: time("pull_since")?,
            next_url: row.get("pull_next_url")?,
            pages: row.get::<_, Option<u64>>("pull_pages")?.unwrap_or_default(),
            walk: row.get::<_, Option<u32>>("pull_walk")?.unwrap_or(1),
            has_total: false,
            renamed: row.get::<_, Option<bool>>("pull_renamed")?.unwrap_or_default(),
            link_failures: row.get::<_, Option<u32>>("pull_link_failures")?.unwrap_or_default(),
        }),
        _ => None,
    };
    Ok(Patient {
        person: PersonId::parse(&id).map_err(|_| damaged("person_id"))?,
        label: row.get("label")?,
        listed: row.get("listed")?,
        failures: row.get("failures")?,
        renamed_full_at: time("renamed_full_at")?,
        standing: Standing {
            state: PatientState::parse(&state).ok_or_else(|| damaged("state"))?,
            watermark: time("watermark")?,
            types: TypeFilter::parse(&row.get::<_, String>("types")?),
            last_full_at: time("last_full_at")?,
            last_success_at: time("last_success_at")?,
            last_asked_at: time("last_asked_at")?,
            next_attempt_at: time("next_attempt_at")?,
            sweep_guarded_at: time("sweep_guarded_at")?,
            has_rows: false,
            under_way,
        },
    })
}

/// The walks of an interrupted pull, the one under way last.
pub fn walks(connection: &Connection, person: &PersonId) -> Result<Vec<Walk>, StoreFailed> {
    let mut statement = connection.prepare_cached(
        "SELECT walk, pages, received, total, total_changed FROM walk WHERE person_id = ?1 ORDER BY walk",
    )?;
    let marks = statement
        .query_map([person.as_str()], |row| {
            Ok(WalkMark {
                number: row.get(0)?,
                pages: row.get(1)?,
                received: row.get(2)?,
                total: row.get(3)?,
                total_changed: row.get(4)?,
            })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    let mut walks = Vec::new();
    let mut seen =
        connection.prepare_cached("SELECT key_hashes FROM seen WHERE person_id = ?1 AND walk = ?2")?;
    for mark in marks {
        let mut hashes = HashSet::new();
        let mut pages = seen.query(params![person.as_str(), mark.number])?;
        while let Some(page) = pages.next()? {
            let (page, _) = page.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?.as_chunks();
            hashes.extend(page.iter().map(|hash| KeyHash::from_be_bytes(*hash)));
        }
        let WalkMark { pages, received, total, total_changed, .. } = mark;
        walks.push(Walk { seen: hashes, received, total, total_changed, pages });
    }
    Ok(walks)
}

/// Remembers that this pull has begun, in place of any earlier one.
pub fn begin_pull(connection: &Connection, frame: &PullFrame) -> Result<(), StoreFailed> {
    forget_walks(connection, &frame.person)?;
    let changed = connection
        .prepare_cached(
            "UPDATE checkpoint
                SET pull_mode = ?2, pull_types = ?3, pull_started_at = ?4, pull_since = ?5, pull_next_url = NULL,
                    pull_pages = 0, pull_walk = 1, pull_renamed = 0, pull_link_failures = 0
              WHERE person_id = ?1",
        )?
        .execute(params![
            frame.person.as_str(),
            frame.mode.as_str(),
            frame.types.to_string(),
            stamp(frame.started_at),
            frame.since.map(stamp),
        ])?;
    expect_one(changed)
}

/// A page is whole: its link is next, or (`None`) the walk begins again.
pub fn advance(
    connection: &Connection,
    frame: &PullFrame,
    next_url: Option<&str>,
    walk: WalkMark,
) -> Result<(), StoreFailed> {
    connection
        .prepare_cached(
            "INSERT INTO walk (person_id, walk, pages, received, total, total_changed) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (person_id, walk) DO UPDATE
                SET pages = excluded.pages, received = excluded.received,
                    total = excluded.total, total_changed = excluded.total_changed",
        )?
        .execute(params![
            frame.person.as_str(),
            walk.number,
            walk.pages,
            walk.received,
            walk.total,
            walk.total_changed
        ])?;
    let changed = connection
        .prepare_cached(
            "UPDATE checkpoint SET pull_next_url = ?3, pull_pages = ?4, pull_walk = ?5, pull_link_failures = 0
              WHERE person_id = ?1 AND pull_started_at = ?2",
        )?
        .execute(params![frame.person.as_str(), stamp(frame.started_at), next_url, walk.pages, walk.number])?;
    expect_one(changed)
}

/// Adds a page's keys to what the walk has seen. `walk.pages` is the page's number.
pub fn keep_seen(
    connection: &Connection,
    person: &PersonId,
    walk: WalkMark,
    keys: &[KeyHash],
) -> Result<(), StoreFailed> {
    let hashes: Vec<u8> = keys.iter().flat_map(|key| key.to_be_bytes()).collect();
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO seen (person_id, walk, page, key_hashes) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![person.as_str(), walk.number, walk.pages, hashes])?;
    Ok(())
}

pub fn note_renamed(connection: &Connection, person: &PersonId) -> Result<(), StoreFailed> {
    let changed = connection
        .prepare_cached(
            "UPDATE checkpoint SET pull_renamed = 1 WHERE person_id = ?1 AND pull_mode IS NOT NULL",
        )?
        .execute([person.as_str()])?;
    // The page that ends a pull has cleared the columns already; its pull is told in the reply.
    debug_assert!(changed <= 1);
    Ok(())
}

/// Renamed entries ask for a full pull at most once a day.
pub fn note_renamed_full(
    connection: &Connection,
    person: &PersonId,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    connection.execute(
        "UPDATE checkpoint SET renamed_full_at = ?2 WHERE person_id = ?1",
        params![person.as_str(), stamp(now)],
    )?;
    Ok(())
}

/// Forgets the pull under way, so that the next one begins at its beginning.
pub fn drop_pull(connection: &Connection, person: &PersonId) -> Result<(), StoreFailed> {
    let statement =
        concat!("UPDATE checkpoint SET ", include_str!("../../schema/no_pull.sql"), " WHERE person_id = ?1");
    connection.prepare_cached(statement)?.execute([person.as_str()])?;
    forget_walks(connection, person)
}

fn forget_walks(connection: &Connection, person: &PersonId) -> Result<(), StoreFailed> {
    let walks =
        connection.prepare_cached("DELETE FROM walk WHERE person_id = ?1")?.execute([person.as_str()])?;
    // Nothing is noted as seen without its walk.
    if walks > 0 {
        connection.prepare_cached("DELETE FROM seen WHERE person_id = ?1")?.execute([person.as_str()])?;
    }
    Ok(())
}

/// The pull is complete: the watermark moves, in the transaction of its last rows.
///
/// One that was marked as under way must still be so.
pub fn finish_pull(
    connection: &Connection,
    frame: &PullFrame,
    is_marked: bool,
    watermark: Timestamp,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    let full_at = (frame.mode == PullMode::Full).then(|| stamp(now));
    let statement = concat!(
        "UPDATE checkpoint
            SET state = ?3, watermark = ?4, types = ?5, last_success_at = ?6, last_asked_at = ?6,
                last_full_at = coalesce(?7, last_full_at), failures = 0, next_attempt_at = NULL, last_error = NULL, ",
        include_str!("../../schema/no_pull.sql"),
        " WHERE person_id = ?1 AND (?2 IS NULL OR pull_started_at = ?2)"
    );
    let changed = connection.prepare_cached(statement)?.execute(params![
        frame.person.as_str(),
        is_marked.then(|| stamp(frame.started_at)),
        PatientState::Active.as_str(),
        stamp(watermark),
        frame.types.to_string(),
        stamp(now),
        full_at,
    ])?;
    expect_one(changed)?;
    forget_walks(connection, &frame.person)
}

/// What a cycle learned about a patient without finishing a pull.
#[derive(Debug)]
pub struct Lesson {
    pub person: PersonId,
    pub learned: Learned,
    /// What an operator is told; `None` clears it.
    pub error: Option<String>,
    /// Left alone until then.
    pub next_attempt_at: Option<Timestamp>,
    /// The server answered about this patient: 200, 403 or 404.
    pub was_answered: bool,
}

pub fn learn(connection: &Connection, lesson: &Lesson, now: Timestamp) -> Result<(), StoreFailed> {
    let person = lesson.person.as_str();
    let before: Option<String> = connection
        .query_row("SELECT state FROM checkpoint WHERE person_id = ?1", [person], |row| row.get(0))
        .optional()?;
    let before = before.as_deref().and_then(PatientState::parse).unwrap_or(PatientState::New);
    let failed = matches!(lesson.learned, Learned::PullFailed);
    let changed = connection
        .prepare_cached(
            "UPDATE checkpoint
                SET state = ?2, last_error = ?3, next_attempt_at = ?4,
                    failures = CASE WHEN ?5 THEN failures + 1 ELSE 0 END,
                    last_asked_at = CASE WHEN ?6 THEN ?7 ELSE last_asked_at END
              WHERE person_id = ?1",
        )?
        .execute(params![
            person,
            next_state(before, lesson.learned).as_str(),
            lesson.error,
            lesson.next_attempt_at.map(stamp),
            failed,
            lesson.was_answered,
            stamp(now),
        ])?;
    expect_one(changed)
}

/// The link a pull under way would go on at has failed once more.
pub fn count_link_failure(connection: &Connection, person: &PersonId) -> Result<(), StoreFailed> {
    connection.execute(
        "UPDATE checkpoint SET pull_link_failures = coalesce(pull_link_failures, 0) + 1
          WHERE person_id = ?1 AND pull_next_url IS NOT NULL",
        [person.as_str()],
    )?;
    Ok(())
}

fn expect_one(changed: usize) -> Result<(), StoreFailed> {
    if changed == 1 { Ok(()) } else { Err(StoreFailed::Superseded) }
}

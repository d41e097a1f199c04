//! Where each patient stands, and how far a pull under way has come.
//!
//! A move of a pull that hits no row means that another pull has taken over: then nothing
//! of the move is kept.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Params, Statement, named_params, params};

use super::columns::{Columns, NamedRow};
use super::failure::Undone;
use super::{shortfall, tables};
use crate::plan::checkpoint::{Checkpoint, PastPurge, UnfinishedPull};
use crate::plan::completeness::{ShortSince, Walk, WalkCounts};
use crate::plan::consent::{HOLD_WINDOW, Withdrawals};
use crate::plan::leaver::{Missing, READINGS_MIN};
use crate::plan::row::KeyHash;
use crate::plan::state::{Event, HeldWhy, NEW_WHEN_PULLED, PatientState, PurgeReason, next_state};
use crate::plan::{PersonId, PullMode, Timestamp, TypeFilter, parse_stamp, stamp};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::{Finished, ShortfallChange, WalkMark};
use crate::warehouse::pull::{PullHead, Setback};

/// The table's columns, and whether the server has counted the walk under way.
const SELECT: &str = "SELECT c.*, CASE WHEN c.pull_mode IS NOT NULL THEN
            (SELECT w.total IS NOT NULL FROM walk AS w WHERE w.person_id = c.person_id AND w.walk = c.pull_walk)
        END AS pull_has_total
   FROM checkpoint AS c";

pub(super) fn all(connection: &Connection) -> Result<Vec<Checkpoint>, StoreFailed> {
    read_all(connection.prepare(&format!("{SELECT} ORDER BY c.person_id"))?, [])
}

/// Returns so many patients, in the order of the ids, that follow one.
pub(super) fn after(
    connection: &Connection,
    last: Option<&PersonId>,
    most: usize,
) -> Result<Vec<Checkpoint>, StoreFailed> {
    let statement =
        connection.prepare(&format!("{SELECT} WHERE c.person_id > ?1 ORDER BY c.person_id LIMIT ?2"))?;
    read_all(statement, params![last.map_or("", PersonId::as_str), most])
}

pub(super) fn held(connection: &Connection) -> Result<Vec<Checkpoint>, StoreFailed> {
    let held = format!("{SELECT} WHERE c.state = 'held' ORDER BY c.person_id");
    read_all(connection.prepare(&held)?, [])
}

fn read_all(mut statement: Statement<'_>, params: impl Params) -> Result<Vec<Checkpoint>, StoreFailed> {
    let columns = Columns::of(&statement);
    let mut rows = statement.query(params)?;
    let mut patients = Vec::new();
    while let Some(row) = rows.next()? {
        patients.push(read(columns.row(row))?);
    }
    Ok(patients)
}

pub(super) fn one(connection: &Connection, person: &PersonId) -> Result<Option<Checkpoint>, StoreFailed> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} WHERE c.person_id = ?1"))?;
    let columns = Columns::of(&statement);
    let mut rows = statement.query([person.as_str()])?;
    rows.next()?.map(|row| read(columns.row(row))).transpose()
}

fn read(row: NamedRow<'_, '_>) -> Result<Checkpoint, StoreFailed> {
    let damaged = |what: &str| StoreFailed::Damaged(format!("checkpoint.{what} cannot be read"));
    let time = |name: &str| -> Result<Option<Timestamp>, StoreFailed> {
        let text: Option<String> = row.get(name)?;
        text.map(|text| parse_stamp(&text).ok_or_else(|| damaged(name))).transpose()
    };
    let id: String = row.get("person_id")?;
    let state: String = row.get("state")?;
    let mode: Option<String> = row.get("pull_mode")?;
    let unfinished = match (mode.as_deref().and_then(PullMode::parse), time("pull_started_at")?) {
        (Some(mode), Some(started_at)) => Some(UnfinishedPull {
            mode,
            types: TypeFilter::parse(&row.get::<Option<String>>("pull_types")?.unwrap_or_default()),
            started_at,
            since: time("pull_since")?,
            next_url: row.get("pull_next_url")?,
            pages: row.get::<Option<u64>>("pull_pages")?.unwrap_or_default(),
            walk: row.get::<Option<u32>>("pull_walk")?.unwrap_or(1),
            has_total: row.get::<Option<bool>>("pull_has_total")?.unwrap_or_default(),
            renamed: row.get::<Option<bool>>("pull_renamed")?.unwrap_or_default(),
            link_failures: row.get::<Option<u32>>("pull_link_failures")?.unwrap_or_default(),
        }),
        _ => None,
    };
    Ok(Checkpoint {
        person: PersonId::parse(&id).map_err(|_| damaged("person_id"))?,
        label: row.get("label")?,
        listed: row.get("listed")?,
        missing: missing(row)?,
        state: PatientState::parse(&state).ok_or_else(|| damaged("state"))?,
        watermark: time("watermark")?,
        types: TypeFilter::parse(&row.get::<String>("types")?),
        last_full_at: time("last_full_at")?,
        last_success_at: time("last_success_at")?,
        last_asked_at: time("last_asked_at")?,
        failures: row.get("failures")?,
        next_attempt_at: time("next_attempt_at")?,
        sweep_guarded_at: time("sweep_guarded_at")?,
        renamed_full_at: time("renamed_full_at")?,
        holds_rows: holds_rows(row)?,
        since_ignored: row.get_new("since_ignored")?.unwrap_or_default(),
        refused_at: new_time(row, "refused_at")?,
        held_why: row.get_new::<String>("held_why")?.as_deref().and_then(HeldWhy::parse),
        consent_ended_at: new_time(row, "consent_ended_at")?,
        purged: purged(row)?,
        short_since: short_since(row)?,
        unfinished,
    })
}

/// Reads since when pulls are short. A file that the next cycle migrates does not say.
fn short_since(row: NamedRow<'_, '_>) -> Result<Option<ShortSince>, StoreFailed> {
    let Some(since) = new_time(row, "short_since")? else { return Ok(None) };
    let fingerprint: i64 = row.get("short_fingerprint")?;
    Ok(Some(ShortSince { since, fingerprint: fingerprint.cast_unsigned() }))
}

fn new_time(row: NamedRow<'_, '_>, name: &str) -> Result<Option<Timestamp>, StoreFailed> {
    let text: Option<String> = row.get_new(name)?;
    Ok(text.as_deref().and_then(parse_stamp))
}

/// Reads `holds_rows`. Before the column was there, whoever was pulled counts as having rows.
pub(super) fn holds_rows(row: NamedRow<'_, '_>) -> Result<bool, StoreFailed> {
    match row.get_new("holds_rows")? {
        Some(holds_rows) => Ok(holds_rows),
        None => Ok(row.get::<Option<String>>("last_success_at")?.is_some()),
    }
}

pub(super) fn missing(row: NamedRow<'_, '_>) -> Result<Option<Missing>, StoreFailed> {
    let readings = row.get_new("missing_readings")?.unwrap_or_default();
    Ok(new_time(row, "missing_since")?.map(|since| Missing { since, readings }))
}

fn purged(row: NamedRow<'_, '_>) -> Result<Option<PastPurge>, StoreFailed> {
    let reason = row.get_new::<String>("purge_reason")?;
    let (at, reason) = (new_time(row, "purged_at")?, reason.as_deref().and_then(PurgeReason::parse));
    Ok(at.zip(reason).map(|(at, reason)| PastPurge { at, reason }))
}

/// Returns what the hold rule counts of withdrawn consents, but for the purges that are to be made.
pub(super) fn withdrawals(connection: &Connection, now: Timestamp) -> Result<Withdrawals, StoreFailed> {
    let purged_lately = connection.query_row(
        "SELECT count(DISTINCT person_id) FROM purge_log WHERE reason = 'consent_revoked' AND purged_at > ?1",
        [stamp(now - HOLD_WINDOW)],
        |row| row.get(0),
    )?;
    Ok(Withdrawals { confirmed: 0, purged_lately, holders: holders(connection)? })
}

/// Returns what the hold rule counts of those whom the roster lacks, but for the purges that are to be made.
pub(super) fn departures(
    connection: &Connection,
    missing_since: Timestamp,
    now: Timestamp,
) -> Result<Withdrawals, StoreFailed> {
    let purged_lately = connection.query_row(
        include_str!("../../../schema/departed.sql"),
        [stamp(now - HOLD_WINDOW), stamp(missing_since)],
        |row| row.get(0),
    )?;
    Ok(Withdrawals { confirmed: 0, purged_lately, holders: holders(connection)? })
}

fn holders(connection: &Connection) -> Result<u64, StoreFailed> {
    let statement = "SELECT count(*) FROM checkpoint WHERE holds_rows = 1";
    Ok(connection.query_row(statement, [], |row| row.get(0))?)
}

pub(super) fn count_refused(connection: &Connection) -> Result<u64, StoreFailed> {
    let statement = "SELECT count(*) FROM checkpoint WHERE state = 'refused'";
    Ok(connection.query_row(statement, [], |row| row.get(0))?)
}

/// Returns the patients that were pulled last and are not refused, the latest first.
pub(super) fn latest_pulled(connection: &Connection, most: usize) -> Result<Vec<PersonId>, StoreFailed> {
    let mut statement = connection.prepare(
        "SELECT person_id FROM checkpoint
          WHERE last_success_at IS NOT NULL AND state NOT IN ('refused', 'held', 'revoked')
          ORDER BY last_success_at DESC LIMIT ?1",
    )?;
    let ids =
        statement.query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| row.get::<_, String>(0))?;
    persons(ids)
}

pub(super) fn labelled(connection: &Connection, label: &str) -> Result<Vec<PersonId>, StoreFailed> {
    let mut statement = connection.prepare("SELECT person_id FROM checkpoint WHERE label = ?1")?;
    let ids = statement.query_map([label], |row| row.get::<_, String>(0))?;
    persons(ids)
}

/// Returns whether two things of a patient have one name, so that a key does not tell which one it is.
pub(super) fn shares_names(connection: &Connection, person: &str) -> Result<bool, StoreFailed> {
    let statement = "SELECT 1 FROM checkpoint WHERE person_id = ?1 AND shares_names";
    Ok(connection.prepare_cached(statement)?.exists([person])?)
}

fn persons(ids: impl Iterator<Item = rusqlite::Result<String>>) -> Result<Vec<PersonId>, StoreFailed> {
    let ids = ids.collect::<Result<Vec<_>, _>>()?;
    Ok(ids.iter().filter_map(|id| PersonId::parse(id).ok()).collect())
}

/// Fills in `holds_rows`, for a warehouse that did not have it.
pub(super) fn find_who_holds_rows(connection: &Connection) -> Result<(), StoreFailed> {
    for table in tables::purged_tables(connection)? {
        connection.execute(
            &format!(
                "UPDATE checkpoint SET holds_rows = 1
                  WHERE holds_rows = 0 AND person_id IN (SELECT person_id FROM \"{table}\")"
            ),
            [],
        )?;
    }
    Ok(())
}

/// The walks of an interrupted pull, the one under way last.
pub(super) fn walks(connection: &Connection, person: &PersonId) -> Result<Vec<Walk>, StoreFailed> {
    let mut statement = connection.prepare_cached("SELECT * FROM walk WHERE person_id = ?1 ORDER BY walk")?;
    let marks = statement
        .query_map([person.as_str()], |row| {
            let counts = WalkCounts {
                pages: row.get("pages")?,
                includes: row.get("includes")?,
                received: row.get("received")?,
                total: row.get("total")?,
                total_changed: row.get("total_changed")?,
                last_page: row.get("last_page")?,
                page_before: row.get("page_before")?,
                told_incomplete: row.get("told_incomplete")?,
                stray_outcomes: row.get("stray_outcomes")?,
                hides_any: row.get("hides_any")?,
            };
            Ok(WalkMark { number: row.get("walk")?, counts })
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
        walks.push(Walk { seen: hashes, counts: mark.counts });
    }
    Ok(walks)
}

/// Refuses a move of a pull that another one has taken over.
pub(super) fn expect_under_way(connection: &Connection, head: &PullHead) -> Result<(), Undone> {
    let is_mine = connection
        .prepare_cached("SELECT 1 FROM checkpoint WHERE person_id = ?1 AND pull_started_at = ?2")?
        .exists(params![head.person.as_str(), stamp(head.started_at)])?;
    expect_one(usize::from(is_mine))
}

/// Remembers that this pull has begun, in place of any earlier one.
pub(super) fn begin_pull(connection: &Connection, head: &PullHead) -> Result<(), Undone> {
    forget_walks(connection, &head.person)?;
    let [revoked, paused] = NEW_WHEN_PULLED.map(PatientState::as_str);
    let changed = connection
        .prepare_cached(
            "UPDATE checkpoint
                SET pull_mode = ?2, pull_types = ?3, pull_started_at = ?4, pull_since = ?5, pull_next_url = NULL,
                    pull_pages = 0, pull_walk = 1, pull_renamed = 0, pull_link_failures = 0,
                    holds_rows = 1, purged_at = NULL, purge_reason = NULL,
                    state = CASE WHEN state IN (?6, ?7) THEN ?8 ELSE state END
              WHERE person_id = ?1",
        )?
        .execute(params![
            head.person.as_str(),
            head.mode.as_str(),
            head.types.to_string(),
            stamp(head.started_at),
            head.since.map(stamp),
            revoked,
            paused,
            PatientState::New.as_str(),
        ])?;
    expect_one(changed)
}

/// A page is whole: its link is next, or (`None`) the walk begins again.
pub(super) fn advance(
    connection: &Connection,
    head: &PullHead,
    next_url: Option<&str>,
    walk: WalkMark,
) -> Result<(), Undone> {
    let counts = walk.counts;
    connection.prepare_cached(include_str!("../../../schema/note_walk.sql"))?.execute(named_params! {
        ":person_id": head.person.as_str(),
        ":walk": walk.number,
        ":pages": counts.pages,
        ":includes": counts.includes,
        ":received": counts.received,
        ":total": counts.total,
        ":total_changed": counts.total_changed,
        ":last_page": counts.last_page,
        ":page_before": counts.page_before,
        ":told_incomplete": counts.told_incomplete,
        ":stray_outcomes": counts.stray_outcomes,
        ":hides_any": counts.hides_any,
    })?;
    let changed = connection
        .prepare_cached(
            "UPDATE checkpoint SET pull_next_url = ?3, pull_pages = ?4, pull_walk = ?5, pull_link_failures = 0
              WHERE person_id = ?1 AND pull_started_at = ?2",
        )?
        .execute(params![head.person.as_str(), stamp(head.started_at), next_url, counts.pages, walk.number])?;
    expect_one(changed)
}

/// Adds a page's keys to what the walk has seen. `walk.counts.pages` is the page's number.
pub(super) fn keep_seen(
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
        .execute(params![person.as_str(), walk.number, walk.counts.pages, hashes])?;
    Ok(())
}

pub(super) fn note_renamed(connection: &Connection, person: &PersonId) -> Result<(), StoreFailed> {
    let changed = connection
        .prepare_cached(
            "UPDATE checkpoint SET pull_renamed = 1 WHERE person_id = ?1 AND pull_mode IS NOT NULL",
        )?
        .execute([person.as_str()])?;
    // The page that ends a pull has cleared the columns already; its pull is told in the reply.
    debug_assert!(changed <= 1);
    Ok(())
}

/// Notes when renamed entries last asked for a full pull.
pub(super) fn note_renamed_full(
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
pub(super) fn drop_pull(connection: &Connection, person: &PersonId) -> Result<(), StoreFailed> {
    let statement = concat!(
        "UPDATE checkpoint SET ",
        include_str!("../../../schema/no_pull.sql"),
        " WHERE person_id = ?1"
    );
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

/// Moves the watermark, in the transaction of the pull's last rows.
pub(super) fn finish_pull(
    connection: &Connection,
    head: &PullHead,
    finished: &Finished,
) -> Result<(), Undone> {
    let Finished { is_marked, watermark, stored_rows, swept, shortfall, now } = *finished;
    let full_at = (head.mode == PullMode::Full).then(|| stamp(now));
    // Whatever the state was: it is not read for this.
    let state = next_state(PatientState::Active, Event::PullFinished);
    // Of types that are gained nobody knows what vanished, until a sweep.
    let statement = concat!(
        "UPDATE checkpoint
            SET state = ?3, watermark = ?4, types = ?5, last_success_at = ?6, last_asked_at = ?6,
                last_full_at = coalesce(?7, last_full_at), failures = 0, next_attempt_at = NULL, last_error = NULL,
                refused_at = NULL, held_why = NULL, holds_rows = max(holds_rows, ?8),
                deletions_seen_at = CASE WHEN ?9 IS NOT NULL THEN ?9
                                         WHEN ?7 IS NULL OR types = ?5 THEN deletions_seen_at END,
                purged_at = CASE WHEN ?8 THEN NULL ELSE purged_at END,
                purge_reason = CASE WHEN ?8 THEN NULL ELSE purge_reason END, ",
        include_str!("../../../schema/no_pull.sql"),
        " WHERE person_id = ?1 AND (?2 IS NULL OR pull_started_at = ?2)"
    );
    let changed = connection.prepare_cached(statement)?.execute(params![
        head.person.as_str(),
        is_marked.then(|| stamp(head.started_at)),
        state.as_str(),
        stamp(watermark),
        head.types.to_string(),
        stamp(now),
        full_at,
        stored_rows,
        swept.then(|| stamp(now)),
    ])?;
    expect_one(changed)?;
    shortfall::note(connection, head, shortfall)?;
    Ok(forget_walks(connection, &head.person)?)
}

/// Applies what a pull that did not finish means for its patient.
pub(super) fn set_back(
    connection: &Connection,
    head: &PullHead,
    setback: &Setback,
    now: Timestamp,
) -> Result<(), Undone> {
    let person = &head.person;
    if let Some(note) = setback.short {
        shortfall::note(connection, head, ShortfallChange::Note(note))?;
    }
    if setback.forgets_pull {
        drop_pull(connection, person)?;
    }
    count_link_failure(connection, person)?;
    apply(connection, person, setback, now)
}

/// Moves the patient's state by an event that is neither a finished pull nor a purge.
pub(super) fn apply(
    connection: &Connection,
    person: &PersonId,
    setback: &Setback,
    now: Timestamp,
) -> Result<(), Undone> {
    let before: Option<String> = connection
        .query_row("SELECT state FROM checkpoint WHERE person_id = ?1", [person.as_str()], |row| row.get(0))
        .optional()?;
    let before = before.as_deref().and_then(PatientState::parse).unwrap_or(PatientState::New);
    let changed =
        connection.prepare_cached(include_str!("../../../schema/set_back.sql"))?.execute(named_params! {
            ":person_id": person.as_str(),
            ":state": next_state(before, setback.event).as_str(),
            ":last_error": setback.error,
            ":next_attempt_at": setback.next_attempt_at.map(stamp),
            ":failed": setback.has_failed(),
            ":answered": setback.was_answered,
            ":refused": setback.is_refusal(),
            ":breaks_row": setback.breaks_row,
            ":permitted": setback.is_permission(),
            ":held_why": setback.held_why(),
            ":now": stamp(now),
        })?;
    expect_one(changed)
}

/// Counts that the link a pull under way would go on at has failed once more.
fn count_link_failure(connection: &Connection, person: &PersonId) -> Result<(), StoreFailed> {
    connection.execute(
        "UPDATE checkpoint SET pull_link_failures = coalesce(pull_link_failures, 0) + 1
          WHERE person_id = ?1 AND pull_next_url IS NOT NULL",
        [person.as_str()],
    )?;
    Ok(())
}

/// Takes note of a patient whom an operator has purged and this file does not know, so that a roster
/// which lists it does not undo that.
pub(super) fn remember(
    connection: &Connection,
    person: &PersonId,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    connection.execute(
        "INSERT INTO checkpoint (person_id, listed, missing_since) VALUES (?1, 0, ?2) ON CONFLICT DO NOTHING",
        params![person.as_str(), stamp(now)],
    )?;
    Ok(())
}

/// Forgets what is known of a patient beside its id, when its rows are gone.
pub(super) fn forget(
    connection: &Connection,
    person: &PersonId,
    reason: PurgeReason,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    drop_pull(connection, person)?;
    let state = next_state(PatientState::Active, Event::Purged(reason));
    connection.prepare_cached(include_str!("../../../schema/forget_patient.sql"))?.execute(params![
        person.as_str(),
        state.as_str(),
        stamp(now),
        reason.as_str()
    ])?;
    Ok(())
}

/// Removes the last that is known of purged patients which no roster lists any more. Readings that
/// lack a paused one for a while do not undo its purge: it is forgotten if it was in a file and they have
/// lacked it since `paused_lacked_since`. Records that lack somebody are no word of an operator's.
pub(super) fn drop_unlisted(
    connection: &Connection,
    paused_lacked_since: Option<Timestamp>,
) -> Result<(), StoreFailed> {
    const UNLISTED: &str = "listed = 0 AND purged_at IS NOT NULL
        AND (state <> 'paused' OR listed_by = 'file' AND ?1 <= missing_readings AND missing_since <= ?2)";
    let parameters = params![READINGS_MIN, paused_lacked_since.map(stamp)];
    let pulls =
        format!("DELETE FROM pull WHERE person_id IN (SELECT person_id FROM checkpoint WHERE {UNLISTED})");
    connection.prepare_cached(&pulls)?.execute(parameters)?;
    connection.prepare_cached(&format!("DELETE FROM checkpoint WHERE {UNLISTED}"))?.execute(parameters)?;
    Ok(())
}

/// A move that hits no row was made by a pull that another one has taken over.
fn expect_one(changed: usize) -> Result<(), Undone> {
    if changed == 1 { Ok(()) } else { Err(Undone::Superseded) }
}

//! What HealthEx's consent records said when they were last read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, named_params, params};

use super::columns::Columns;
use super::{checkpoint, cycle_ends, tables};
use crate::plan::records::{
    ConsentRecord, ConsentToLookAt, ConsentsUpdate, KeptConsent, KeptConsents, KeptStudy, KnownPatient,
    ScopesSeen, was_told_lately,
};
use crate::plan::state::PatientState;
use crate::plan::{PersonId, Timestamp, parse_stamp, stamp};
use crate::warehouse::about::EXPIRING_TOLD;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::report::{ExpiringConsent, ExpiringConsents};

/// Returns whether any study has been asked for.
pub(super) fn has_any(connection: &Connection) -> Result<bool, StoreFailed> {
    Ok(connection.prepare_cached("SELECT 1 FROM study")?.exists([])?)
}

/// Returns all that is kept. A file that the next cycle migrates keeps nothing.
pub(super) fn all(connection: &Connection) -> Result<KeptConsents, StoreFailed> {
    if !tables::exists(connection, "consent_record")? {
        return Ok(KeptConsents::default());
    }
    let studies = studies(connection)?;
    let names: HashMap<String, Arc<str>> =
        studies.iter().map(|study| (study.study.to_string(), study.study.clone())).collect();
    let mut statement = connection.prepare("SELECT * FROM consent_record ORDER BY study, person_id")?;
    let mut rows = statement.query([])?;
    let (known, purged) = (known(connection)?, purged(connection)?);
    let mut kept = KeptConsents { rows: Vec::new(), studies, known, purged };
    while let Some(row) = rows.next()? {
        kept.rows.push(read(row, &names)?);
    }
    Ok(kept)
}

fn read(row: &Row<'_>, names: &HashMap<String, Arc<str>>) -> Result<KeptConsent, StoreFailed> {
    let damaged = |what: &str| StoreFailed::Damaged(format!("consent_record.{what} cannot be read"));
    let study: String = row.get("study")?;
    let person: String = row.get("person_id")?;
    let seen_at: String = row.get("seen_at")?;
    Ok(KeptConsent {
        person: PersonId::parse(&person).map_err(|_| damaged("person_id"))?,
        study: names.get(&study).cloned().unwrap_or_else(|| study.into()),
        record: ConsentRecord {
            id: row.get("record_id")?,
            consented: row.get("consented")?,
            expires_at: time(row, "expires_at")?,
        },
        seen_at: parse_stamp(&seen_at).ok_or_else(|| damaged("seen_at"))?,
    })
}

fn time(row: &Row<'_>, name: &str) -> Result<Option<Timestamp>, StoreFailed> {
    let text: Option<String> = row.get(name)?;
    let damaged = || StoreFailed::Damaged(format!("{name} of a consent cannot be read"));
    text.map(|text| parse_stamp(&text).ok_or_else(damaged)).transpose()
}

/// Returns the studies that were asked for.
pub(super) fn studies(connection: &Connection) -> Result<Vec<KeptStudy>, StoreFailed> {
    if !tables::exists(connection, "study")? {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare("SELECT * FROM study ORDER BY study")?;
    let columns = Columns::of(&statement);
    let mut rows = statement.query([])?;
    let mut studies = Vec::new();
    while let Some(row) = rows.next()? {
        studies.push(KeptStudy {
            study: row.get::<_, String>("study")?.into(),
            consent_type: row.get("consent_type")?,
            read_at: time(row, "read_at")?,
            failing_since: time(row, "failing_since")?,
            problem: row.get("problem")?,
            // A file that the next cycle migrates has not got it.
            patients: columns.row(row).get_new("patients")?,
        });
    }
    Ok(studies)
}

fn known(connection: &Connection) -> Result<HashMap<PersonId, KnownPatient>, StoreFailed> {
    let mut statement = connection.prepare("SELECT person_id, state, consent_ended_at FROM checkpoint")?;
    let mut rows = statement.query([])?;
    let mut known = HashMap::new();
    while let Some(row) = rows.next()? {
        let (id, state): (String, String) = (row.get(0)?, row.get(1)?);
        let state = PatientState::parse(&state);
        let is_settled = matches!(state, Some(PatientState::Revoked | PatientState::Paused));
        let consent_ended_at = time(row, "consent_ended_at")?;
        if let Ok(person) = PersonId::parse(&id) {
            known.insert(person, KnownPatient { is_settled, consent_ended_at });
        }
    }
    Ok(known)
}

/// Returns who was ever purged, or refused before anything was stored.
fn purged(connection: &Connection) -> Result<HashSet<PersonId>, StoreFailed> {
    let mut statement = connection.prepare(include_str!("../../../schema/ever_purged.sql"))?;
    let mut rows = statement.query([])?;
    let mut purged = HashSet::new();
    while let Some(row) = rows.next()? {
        purged.extend(PersonId::parse(&row.get::<_, String>(0)?));
    }
    Ok(purged)
}

/// Takes a reading over.
pub(super) fn note(
    connection: &Connection,
    update: &ConsentsUpdate,
    now: Timestamp,
) -> Result<(), StoreFailed> {
    for study in &update.forgotten {
        connection.execute("DELETE FROM consent_record WHERE study = ?1", [&**study])?;
        connection.execute("DELETE FROM study WHERE study = ?1", [&**study])?;
    }
    for KeptStudy { study, consent_type, read_at, failing_since, problem, patients } in &update.studies {
        connection.execute(
            include_str!("../../../schema/note_study.sql"),
            named_params! {
                ":study": &**study, ":consent_type": consent_type, ":read_at": read_at.map(stamp),
                ":failing_since": failing_since.map(stamp), ":problem": problem,
                ":patients": patients,
            },
        )?;
    }
    for study in &update.seen {
        connection.execute(
            "UPDATE consent_record SET seen_at = ?2 WHERE study = ?1",
            params![&**study, stamp(now)],
        )?;
    }
    let mut put = connection.prepare_cached(include_str!("../../../schema/put_consent_record.sql"))?;
    for KeptConsent { person, study, record, seen_at } in &update.put {
        put.execute(named_params! {
            ":person_id": person.as_str(), ":study": &**study, ":record_id": record.id,
            ":consented": record.consented, ":expires_at": record.expires_at.map(stamp),
            ":seen_at": stamp(*seen_at),
        })?;
    }
    let mut remove =
        connection.prepare_cached("DELETE FROM consent_record WHERE study = ?1 AND person_id = ?2")?;
    for (study, person) in &update.gone {
        remove.execute([&**study, person.as_str()])?;
    }
    note_ended(connection, update, now)
}

/// Notes in the checkpoints whose consent has ended. Who has one again is asked at once.
fn note_ended(connection: &Connection, update: &ConsentsUpdate, now: Timestamp) -> Result<(), StoreFailed> {
    // Who is new on the roster is known from now on.
    let mut end = connection.prepare_cached(
        "INSERT INTO checkpoint (person_id, consent_ended_at) VALUES (?1, ?2)
         ON CONFLICT (person_id) DO UPDATE SET consent_ended_at = coalesce(consent_ended_at, excluded.consent_ended_at)",
    )?;
    for person in &update.ended {
        end.execute(params![person.as_str(), stamp(now)])?;
    }
    let mut open = connection.prepare_cached(
        "UPDATE checkpoint SET consent_ended_at = NULL, last_asked_at = NULL, next_attempt_at = NULL
          WHERE person_id = ?1",
    )?;
    for person in &update.open {
        open.execute([person.as_str()])?;
    }
    Ok(())
}

/// Returns the consents whose scopes were looked at longest ago.
pub(super) fn to_look_at(connection: &Connection, most: usize) -> Result<Vec<ConsentToLookAt>, StoreFailed> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let mut statement = connection.prepare(include_str!("../../../schema/consents_to_look_at.sql"))?;
    let mut rows = statement.query([most])?;
    let mut consents = Vec::new();
    while let Some(row) = rows.next()? {
        let (person, study): (String, String) = (row.get(0)?, row.get(1)?);
        if let Ok(person) = PersonId::parse(&person) {
            consents.push(ConsentToLookAt { person, study: study.into(), record_id: row.get(2)? });
        }
    }
    Ok(consents)
}

/// Notes what consents let through. Returns the patients for whom that has changed: they are pulled
/// in full, and from the beginning where a pull is under way.
pub(super) fn note_scopes(
    connection: &Connection,
    seen: &[ScopesSeen],
    now: Timestamp,
) -> Result<Vec<PersonId>, StoreFailed> {
    let changed = changed_scopes(connection, seen)?;
    for ScopesSeen { person, study, scopes } in seen {
        connection
            .prepare_cached(
                "UPDATE consent_record SET scopes = coalesce(?3, scopes), scopes_seen_at = ?4
                  WHERE person_id = ?1 AND study = ?2",
            )?
            .execute(params![person.as_str(), &**study, scopes.map(u64::cast_signed), stamp(now)])?;
    }
    for person in &changed {
        connection
            .prepare_cached("UPDATE checkpoint SET watermark = NULL WHERE person_id = ?1")?
            .execute([person.as_str()])?;
        checkpoint::drop_pull(connection, person)?;
    }
    Ok(changed)
}

/// Returns the patients of whom a consent lets through something else than when it was last looked at.
pub(super) fn changed_scopes(
    connection: &Connection,
    seen: &[ScopesSeen],
) -> Result<Vec<PersonId>, StoreFailed> {
    let mut before =
        connection.prepare_cached("SELECT scopes FROM consent_record WHERE person_id = ?1 AND study = ?2")?;
    let mut changed = Vec::new();
    for ScopesSeen { person, study, scopes } in seen {
        let Some(scopes) = scopes else { continue };
        let before: Option<Option<i64>> =
            before.query_row([person.as_str(), &**study], |row| row.get(0)).optional()?;
        if before.flatten().is_some_and(|before| before.cast_unsigned() != *scopes) {
            changed.push(person.clone());
        }
    }
    changed.sort();
    changed.dedup();
    Ok(changed)
}

/// Returns the consents that run out until then, and of those the first ones by name.
pub(super) fn expiring(
    connection: &Connection,
    now: Timestamp,
    until: Timestamp,
    most: usize,
) -> Result<ExpiringConsents, StoreFailed> {
    if !tables::exists(connection, "consent_record")? {
        return Ok(ExpiringConsents::default());
    }
    let mut statement = connection.prepare(include_str!("../../../schema/expiring_consents.sql"))?;
    let mut rows = statement.query(named_params! { ":now": stamp(now), ":until": stamp(until) })?;
    let mut expiring = ExpiringConsents::default();
    while let Some(row) = rows.next()? {
        expiring.total += 1;
        if expiring.shown.len() < most {
            expiring.shown.push(ExpiringConsent { name: row.get(0)?, expires_at: row.get(1)? });
        }
    }
    Ok(expiring)
}

/// Returns the consents that run out until then, at most once a day.
pub(super) fn tell_expiring(
    connection: &Connection,
    until: Timestamp,
    most: usize,
    now: Timestamp,
) -> Result<Option<ExpiringConsents>, StoreFailed> {
    let told = cycle_ends::noted_time(connection, EXPIRING_TOLD)?;
    if was_told_lately(told, now) {
        return Ok(None);
    }
    let expiring = expiring(connection, now, until, most)?;
    if expiring.total == 0 {
        return Ok(None);
    }
    cycle_ends::note_time(connection, EXPIRING_TOLD, now)?;
    Ok(Some(expiring))
}

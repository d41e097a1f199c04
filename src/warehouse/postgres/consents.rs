//! What HealthEx's consent records said when they were last read.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio_postgres::Row;

use super::failure::Undone;
use super::session::Session;
use super::values::{count, counted};
use super::{checkpoint, cycle_ends};
use crate::plan::records::{
    ConsentRecord, ConsentToLookAt, ConsentsUpdate, KeptConsent, KeptConsents, KeptStudy, KnownPatient,
    ScopesSeen, was_told_lately,
};
use crate::plan::state::PatientState;
use crate::plan::{PersonId, Timestamp, stamp};
use crate::warehouse::about::EXPIRING_TOLD;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::report::{ExpiringConsent, ExpiringConsents};

/// Returns whether any study has been asked for.
pub(super) async fn has_any(session: &Session) -> Result<bool, Undone> {
    Ok(session.row_or_none("SELECT 1 FROM study LIMIT 1", &[]).await?.is_some())
}

/// Returns all that is kept.
pub(super) async fn all(session: &Session) -> Result<KeptConsents, Undone> {
    let studies = studies(session).await?;
    let names: HashMap<String, Arc<str>> =
        studies.iter().map(|study| (study.study.to_string(), study.study.clone())).collect();
    let (known, purged) = (known(session).await?, purged(session).await?);
    let mut kept = KeptConsents { rows: Vec::new(), studies, known, purged };
    for row in session.rows("SELECT * FROM consent_record ORDER BY study, person_id", &[]).await? {
        kept.rows.push(read(&row, &names)?);
    }
    Ok(kept)
}

fn read(row: &Row, names: &HashMap<String, Arc<str>>) -> Result<KeptConsent, Undone> {
    let damaged = || StoreFailed::Damaged("consent_record.person_id cannot be read".to_owned());
    let (study, person): (String, String) = (row.try_get("study")?, row.try_get("person_id")?);
    Ok(KeptConsent {
        person: PersonId::parse(&person).map_err(|_| damaged())?,
        study: names.get(&study).cloned().unwrap_or_else(|| study.into()),
        record: ConsentRecord {
            id: row.try_get("record_id")?,
            consented: row.try_get("consented")?,
            expires_at: row.try_get("expires_at")?,
        },
        seen_at: row.try_get("seen_at")?,
    })
}

/// Returns the studies that were asked for.
pub(super) async fn studies(session: &Session) -> Result<Vec<KeptStudy>, Undone> {
    let rows = session.rows("SELECT * FROM study ORDER BY study", &[]).await?;
    let studies = rows.iter().map(|row| {
        Ok(KeptStudy {
            study: row.try_get::<_, String>("study")?.into(),
            consent_type: row.try_get("consent_type")?,
            read_at: row.try_get("read_at")?,
            failing_since: row.try_get("failing_since")?,
            problem: row.try_get("problem")?,
            patients: row.try_get::<_, Option<i64>>("patients")?.map(counted),
        })
    });
    studies.collect()
}

async fn known(session: &Session) -> Result<HashMap<PersonId, KnownPatient>, Undone> {
    let rows = session.rows("SELECT person_id, state, consent_ended_at FROM checkpoint", &[]).await?;
    let mut known = HashMap::new();
    for row in rows {
        let (id, state): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        let is_settled =
            matches!(PatientState::parse(state), Some(PatientState::Revoked | PatientState::Paused));
        if let Ok(person) = PersonId::parse(id) {
            known.insert(person, KnownPatient { is_settled, consent_ended_at: row.try_get(2)? });
        }
    }
    Ok(known)
}

/// Returns who was ever purged, or refused before anything was stored.
async fn purged(session: &Session) -> Result<HashSet<PersonId>, Undone> {
    let rows = session.rows(include_str!("../../../schema/ever_purged.sql"), &[]).await?;
    let persons = rows.iter().map(|row| row.try_get::<_, &str>(0)).collect::<Result<Vec<_>, _>>()?;
    Ok(persons.into_iter().flat_map(PersonId::parse).collect())
}

/// Takes a reading over.
pub(super) async fn note(session: &Session, update: &ConsentsUpdate, now: Timestamp) -> Result<(), Undone> {
    for study in &update.forgotten {
        session.execute("DELETE FROM consent_record WHERE study = $1", &[&&**study]).await?;
        session.execute("DELETE FROM study WHERE study = $1", &[&&**study]).await?;
    }
    for KeptStudy { study, consent_type, read_at, failing_since, problem, patients } in &update.studies {
        let statement = include_str!("../../../schema/postgres/note_study.sql");
        let patients = patients.map(count);
        session
            .execute(statement, &[&&**study, consent_type, read_at, failing_since, problem, &patients])
            .await?;
    }
    for study in &update.seen {
        let statement = "UPDATE consent_record SET seen_at = $2 WHERE study = $1";
        session.execute(statement, &[&&**study, &now]).await?;
    }
    for KeptConsent { person, study, record, seen_at } in &update.put {
        let statement = include_str!("../../../schema/postgres/put_consent_record.sql");
        let ConsentRecord { id, consented, expires_at } = record;
        session
            .execute(statement, &[&person.as_str(), &&**study, id, consented, expires_at, seen_at])
            .await?;
    }
    for (study, person) in &update.gone {
        let statement = "DELETE FROM consent_record WHERE study = $1 AND person_id = $2";
        session.execute(statement, &[&&**study, &person.as_str()]).await?;
    }
    note_ended(session, update, now).await
}

/// Notes in the checkpoints whose consent has ended. Who has one again is asked at once.
async fn note_ended(session: &Session, update: &ConsentsUpdate, now: Timestamp) -> Result<(), Undone> {
    // Who is new on the roster is known from now on.
    let end = "INSERT INTO checkpoint AS c (person_id, consent_ended_at) VALUES ($1, $2)
         ON CONFLICT (person_id) DO UPDATE SET consent_ended_at = coalesce(c.consent_ended_at, excluded.consent_ended_at)";
    for person in &update.ended {
        session.execute(end, &[&person.as_str(), &now]).await?;
    }
    let open = "UPDATE checkpoint SET consent_ended_at = NULL, last_asked_at = NULL, next_attempt_at = NULL
          WHERE person_id = $1";
    for person in &update.open {
        session.execute(open, &[&person.as_str()]).await?;
    }
    Ok(())
}

/// Returns the consents whose scopes were looked at longest ago.
pub(super) async fn to_look_at(session: &Session, most: usize) -> Result<Vec<ConsentToLookAt>, Undone> {
    let statement = include_str!("../../../schema/postgres/consents_to_look_at.sql");
    let mut consents = Vec::new();
    for row in session.rows(statement, &[&count(most as u64)]).await? {
        let (person, study): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        if let Ok(person) = PersonId::parse(person) {
            consents.push(ConsentToLookAt { person, study: study.into(), record_id: row.try_get(2)? });
        }
    }
    Ok(consents)
}

/// Notes what consents let through. Returns the patients for whom that has changed: they are pulled
/// in full, and from the beginning where a pull is under way.
pub(super) async fn note_scopes(
    session: &Session,
    seen: &[ScopesSeen],
    now: Timestamp,
) -> Result<Vec<PersonId>, Undone> {
    let changed = changed_scopes(session, seen).await?;
    for ScopesSeen { person, study, scopes } in seen {
        let statement = "UPDATE consent_record SET scopes = coalesce($3, scopes), scopes_seen_at = $4
              WHERE person_id = $1 AND study = $2";
        let scopes = scopes.map(u64::cast_signed);
        session.execute(statement, &[&person.as_str(), &&**study, &scopes, &now]).await?;
    }
    for person in &changed {
        let statement = "UPDATE checkpoint SET watermark = NULL WHERE person_id = $1";
        session.execute(statement, &[&person.as_str()]).await?;
        checkpoint::drop_pull(session, person).await?;
    }
    Ok(changed)
}

/// Returns the patients of whom a consent lets through something else than when it was last looked at.
pub(super) async fn changed_scopes(session: &Session, seen: &[ScopesSeen]) -> Result<Vec<PersonId>, Undone> {
    let statement = "SELECT scopes FROM consent_record WHERE person_id = $1 AND study = $2";
    let mut changed = Vec::new();
    for ScopesSeen { person, study, scopes } in seen {
        let Some(scopes) = scopes else { continue };
        let before = session.row_or_none(statement, &[&person.as_str(), &&**study]).await?;
        let before: Option<i64> = before.map(|row| row.try_get(0)).transpose()?.flatten();
        if before.is_some_and(|before| before.cast_unsigned() != *scopes) {
            changed.push(person.clone());
        }
    }
    changed.sort();
    changed.dedup();
    Ok(changed)
}

/// Returns the consents that run out until then, and of those the first ones by name.
pub(super) async fn expiring(
    session: &Session,
    now: Timestamp,
    until: Timestamp,
    most: usize,
) -> Result<ExpiringConsents, Undone> {
    let rows =
        session.rows(include_str!("../../../schema/postgres/expiring_consents.sql"), &[&now, &until]).await?;
    let shown = rows.iter().take(most).map(|row| {
        let ends_at: Timestamp = row.try_get(1)?;
        Ok(ExpiringConsent { name: row.try_get(0)?, expires_at: stamp(ends_at) })
    });
    Ok(ExpiringConsents { shown: shown.collect::<Result<_, Undone>>()?, total: rows.len() as u64 })
}

/// Returns the consents that run out until then, at most once a day.
pub(super) async fn tell_expiring(
    session: &Session,
    until: Timestamp,
    most: usize,
    now: Timestamp,
) -> Result<Option<ExpiringConsents>, Undone> {
    let told = cycle_ends::noted_time(session, EXPIRING_TOLD).await?;
    if was_told_lately(told, now) {
        return Ok(None);
    }
    let expiring = expiring(session, now, until, most).await?;
    if expiring.total == 0 {
        return Ok(None);
    }
    cycle_ends::note_time(session, EXPIRING_TOLD, now).await?;
    Ok(Some(expiring))
}

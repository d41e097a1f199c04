//! The roster that is in force among workers, and every one that ever was.
//!
//! Promise: of two workers with rosters that nobody has seen, one after the other comes into force, whole.

use std::path::Path;
use std::pin::pin;

use futures_util::TryStreamExt;
use tokio_postgres::Row;

use super::failure::Undone;
use super::pool::Pool;
use super::session::{Begin, Session};
use super::values::{Columns, count, counted};
use crate::machine;
use crate::plan::roster::{
    RosterFacts, RosterHash, RosterPatient, RosterPatients, RosterStanding, RosterVersion, judge_roster,
};
use crate::plan::{PersonId, Timestamp, TypeFilter};
use crate::warehouse::beside::roster_memory;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::patient::PATIENTS_AT_ONCE;
use crate::warehouse::rosters::{OwnRoster, RosterInForce};

/// What is said for a roster of one's own.
#[derive(Clone)]
pub(super) struct Claim {
    hash: RosterHash,
    remembered: Option<RosterHash>,
    is_new: bool,
}

impl Claim {
    pub(super) fn of(own: OwnRoster<'_>, beside: &Path) -> Self {
        Self { hash: own.hash.clone(), remembered: roster_memory::recall(beside), is_new: own.is_new }
    }
}

pub(super) async fn standing(session: &Session, claim: &Claim) -> Result<RosterStanding, Undone> {
    let newest = newest(session, Some(&claim.hash)).await?;
    let facts = RosterFacts {
        newest: newest.as_ref().map(|(newest, _)| &newest.hash),
        was_seen: newest.as_ref().is_some_and(|(_, was_seen)| *was_seen),
        remembered: claim.remembered.as_ref(),
        is_new_reading: claim.is_new,
    };
    Ok(judge_roster(&claim.hash, facts))
}

/// Who asks which roster is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// Whoever goes by its patients.
    Planning,
    /// Whoever takes the patients that another has planned, however many there are.
    TakingPart,
}

/// Returns the roster that is in force, as it is kept.
pub(super) async fn kept(session: &Session, whom: For) -> Result<RosterInForce, Undone> {
    match (newest(session, None).await?, whom) {
        (Some((newest, _)), For::Planning) => Ok(RosterInForce::Kept(newest, patients(session).await?)),
        (Some((newest, _)), For::TakingPart) => Ok(RosterInForce::Anothers(newest)),
        (None, _) => Ok(RosterInForce::None),
    }
}

/// Returns the roster in force, and whether this one ever was.
async fn newest(
    session: &Session,
    own: Option<&RosterHash>,
) -> Result<Option<(RosterVersion, bool)>, Undone> {
    let statement = include_str!("../../../schema/postgres/newest_roster.sql");
    let own = own.map(RosterHash::as_str);
    let Some(row) = session.row_or_none(statement, &[&own]).await? else { return Ok(None) };
    let version = RosterVersion {
        hash: RosterHash::stored(row.try_get("hash")?),
        seen_at: row.try_get("seen_at")?,
        seen_by: row.try_get("seen_by")?,
        patients: counted(row.try_get("patients")?),
    };
    Ok(Some((version, row.try_get("was_seen")?)))
}

/// Returns whether a roster is in force still, where it is known by which others know it.
pub(super) async fn is_in_force(session: &Session, hash: Option<&RosterHash>) -> Result<bool, Undone> {
    let Some(hash) = hash else { return Ok(true) };
    Ok(newest(session, None).await?.is_none_or(|(newest, _)| newest.hash == *hash))
}

async fn patients(session: &Session) -> Result<RosterPatients, Undone> {
    let mut lines =
        pin!(session.stream(include_str!("../../../schema/postgres/roster_lines.sql"), &[]).await?);
    let mut patients = Vec::new();
    while let Some(line) = lines.try_next().await? {
        patients.push(patient(&line)?);
    }
    Ok(patients.into())
}

fn patient(row: &Row) -> Result<RosterPatient, Undone> {
    let column = Columns(row);
    let id: String = column.get("person_id")?;
    let damaged = |_| StoreFailed::Damaged("roster.person_id cannot be read".to_owned());
    Ok(RosterPatient {
        person: PersonId::parse(&id).map_err(damaged)?,
        label: column.get("label")?,
        types: column.get::<Option<String>>("types")?.as_deref().map(TypeFilter::parse),
        enabled: column.get("enabled")?,
    })
}

/// Puts a roster in force, unless another took its place meanwhile.
pub(super) async fn take_if_new(
    session: &Session,
    claim: &Claim,
    lines: &RosterPatients,
    whom: For,
    now: Timestamp,
) -> Result<RosterInForce, Undone> {
    lock(session).await?;
    match standing(session, claim).await? {
        RosterStanding::Old => kept(session, whom).await,
        RosterStanding::InForce => Ok(RosterInForce::Own),
        RosterStanding::New => {
            put_in_force(session, &claim.hash, lines, now).await?;
            Ok(RosterInForce::Own)
        }
    }
}

async fn lock(session: &Session) -> Result<(), Undone> {
    session.batch("LOCK TABLE roster_version IN SHARE ROW EXCLUSIVE MODE").await
}

async fn put_in_force(
    session: &Session,
    hash: &RosterHash,
    lines: &RosterPatients,
    now: Timestamp,
) -> Result<(), Undone> {
    let host = machine::host_name();
    let statement = include_str!("../../../schema/postgres/put_roster_in_force.sql");
    session.execute(statement, &[&hash.as_str(), &now, &host, &count(lines.len() as u64)]).await?;
    session.execute("DELETE FROM roster", &[]).await?;
    for piece in lines.chunks(PATIENTS_AT_ONCE) {
        let persons: Vec<&str> = piece.iter().map(|line| line.person.as_str()).collect();
        let labels: Vec<Option<&str>> = piece.iter().map(|line| line.label.as_deref()).collect();
        let types: Vec<Option<String>> =
            piece.iter().map(|line| line.types.as_ref().map(ToString::to_string)).collect();
        let enabled: Vec<bool> = piece.iter().map(|line| line.enabled).collect();
        let insert = include_str!("../../../schema/postgres/put_roster_lines.sql");
        session.execute(insert, &[&persons, &labels, &types, &enabled]).await?;
    }
    Ok(())
}

/// Puts a roster in force, whether or not it was before.
pub(super) async fn publish(
    pool: &Pool,
    lines: &RosterPatients,
    now: Timestamp,
) -> Result<Option<RosterVersion>, Undone> {
    let hash = RosterHash::of(lines);
    let session = pool.begin(Begin::Write).await?;
    lock(&session).await?;
    let former = newest(&session, Some(&hash)).await?.map(|(newest, _)| newest);
    if former.as_ref().is_some_and(|former| former.hash == hash) {
        session.rollback().await;
        return Ok(former);
    }
    put_in_force(&session, &hash, lines, now).await?;
    session.commit().await?;
    Ok(former)
}

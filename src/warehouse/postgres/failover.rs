//! Whether the server is still on the history that it was on: a standby that was made the primary, or a restore, may
//! have lost what was acknowledged last.
//!
//! Promise: a change is noted once, by whoever opens the warehouse first, and stays noted until a cycle has got through
//! with everyone's delays left out. Absent on purpose: the purges themselves, which each ledger repeats.

use super::cycle_ends::{note_text, noted_text};
use super::failure::Undone;
use super::session::Session;
use crate::plan::Timestamp;
use crate::plan::checkpoint::Checkpoint;
use crate::warehouse::failover::{Failover, ServerHistory};

/// The names in `about`: of the history that the warehouse is on, and of its last change.
const HISTORY: &str = "server_history";
const FAILOVER: &str = "failover";
/// There while nobody was told of the change.
const UNTOLD: &str = "failover_untold";
/// There until a cycle that began after the change has got through.
const ASK_EVERYONE: &str = "ask_everyone";
const NOTICED: &str = "noticed";
const BEGUN: &str = "begun";

/// Returns the history that the server is on. It fails where a server does not tell.
pub(super) async fn history(session: &Session) -> Result<ServerHistory, Undone> {
    let row = session.row(include_str!("../../../schema/postgres/server_history.sql"), &[]).await?;
    Ok(ServerHistory { system: row.try_get("system")?, timeline: row.try_get("timeline")? })
}

/// Returns whether this is the history that the warehouse is known to be on.
pub(super) async fn is_known(session: &Session, history: &ServerHistory) -> Result<bool, Undone> {
    Ok(noted_text(session, HISTORY).await? == Some(history.to_string()))
}

/// Notes on which history the server is. Returns the change, where it was on another before and nobody has noted it.
pub(super) async fn notice(
    session: &Session,
    to: &ServerHistory,
    now: Timestamp,
) -> Result<Option<Failover>, Undone> {
    let Some(noted) = noted_text(session, HISTORY).await? else {
        note_text(session, HISTORY, &to.to_string()).await?;
        return Ok(None);
    };
    let statement = "UPDATE about SET value = $2 WHERE name = $1 AND value = $3 AND value <> $2";
    if session.execute(statement, &[&HISTORY, &to.to_string(), &noted]).await? == 0 {
        return Ok(None);
    }
    let from = ServerHistory::parse(&noted).unwrap_or_else(|| to.clone());
    let failover = Failover { noticed_at: now, from, to: to.clone(), everyone_asked: false };
    for (name, value) in [(FAILOVER, failover.note().as_str()), (UNTOLD, "true"), (ASK_EVERYONE, NOTICED)] {
        note_text(session, name, value).await?;
    }
    Ok(Some(failover))
}

/// Returns the last change of history that is known.
pub(super) async fn noted(session: &Session) -> Result<Option<Failover>, Undone> {
    let Some(note) = noted_text(session, FAILOVER).await? else { return Ok(None) };
    let everyone_asked = noted_text(session, ASK_EVERYONE).await?.is_none();
    Ok(Failover::of_note(&note, everyone_asked))
}

/// Leaves delays out, while everyone is to be asked.
pub(super) async fn forget_delays<'p>(
    session: &Session,
    patients: impl Iterator<Item = &'p mut Checkpoint> + Send,
) -> Result<(), Undone> {
    if noted_text(session, ASK_EVERYONE).await?.is_some() {
        patients.for_each(Checkpoint::forget_delays);
    }
    Ok(())
}

/// Notes that a cycle begins for which delays are left out, where they are.
pub(super) async fn begin_asking(session: &Session) -> Result<(), Undone> {
    let statement = "UPDATE about SET value = $2 WHERE name = $1";
    session.execute(statement, &[&ASK_EVERYONE, &BEGUN]).await.map(drop)
}

/// Notes that a cycle got through: everyone was asked, unless there was another change meanwhile.
pub(super) async fn end_asking(session: &Session) -> Result<(), Undone> {
    let statement = "DELETE FROM about WHERE name = $1 AND value = $2";
    session.execute(statement, &[&ASK_EVERYONE, &BEGUN]).await.map(drop)
}

/// Returns whether nobody was told of the last change yet.
pub(super) async fn is_untold(session: &Session) -> Result<bool, Undone> {
    Ok(noted_text(session, UNTOLD).await?.is_some())
}

/// Returns the last change if nobody was told of it yet, and notes that somebody is.
pub(super) async fn tell(session: &Session) -> Result<Option<Failover>, Undone> {
    match session.execute("DELETE FROM about WHERE name = $1", &[&UNTOLD]).await? {
        0 => Ok(None),
        _ => noted(session).await,
    }
}

//! Whether the server is still on the history that it was on: a standby that was made the primary, or a restore, may
//! have lost what was acknowledged last.
//!
//! Promise: a change is noted once, by whoever opens the warehouse first, and stays noted until a cycle has got through
//! with everyone's delays left out. Absent on purpose: the purges themselves, which each ledger repeats.

use super::cycle_ends::{note_text, noted_text};
use super::failure::Undone;
use super::pool::Pool;
use super::session::{Begin, Session};
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

/// Notes on which history the server is, and that it is another one than before.
pub(super) async fn notice(pool: &Pool, now: Timestamp) -> Result<(), Undone> {
    let Some(to) = history(pool).await? else { return Ok(()) };
    let noted = pool.look(|session| Box::pin(noted_text(session, HISTORY))).await?;
    if noted.as_deref() == Some(&to.to_string()) {
        return Ok(());
    }
    let session = pool.begin(Begin::Write).await?;
    let Some(noted) = noted else {
        note_text(&session, HISTORY, &to.to_string()).await?;
        return session.commit().await;
    };
    let from = ServerHistory::parse(&noted).unwrap_or_else(|| to.clone());
    let failover = Failover { noticed_at: now, from, to, everyone_asked: false };
    if note(&session, &noted, &failover).await? {
        session.commit().await?;
        tracing::warn!("{failover}");
    } else {
        session.rollback().await;
    }
    Ok(())
}

/// Returns the server's history; `None` where a server does not tell.
pub(super) async fn history(pool: &Pool) -> Result<Option<ServerHistory>, Undone> {
    let look = pool.look(|session| {
        Box::pin(async move {
            let row = session.row(include_str!("../../../schema/postgres/server_history.sql"), &[]).await?;
            Ok(ServerHistory { system: row.try_get("system")?, timeline: row.try_get("timeline")? })
        })
    });
    match look.await {
        Ok(history) => Ok(Some(history)),
        Err(Undone::Failed(failed)) => {
            tracing::debug!("the server does not tell its timeline: {failed}");
            Ok(None)
        }
        Err(undone) => Err(undone),
    }
}

/// Returns whether the change was noted; false where somebody else has.
async fn note(session: &Session, before: &str, failover: &Failover) -> Result<bool, Undone> {
    let statement = "UPDATE about SET value = $2 WHERE name = $1 AND value = $3";
    if session.execute(statement, &[&HISTORY, &failover.to.to_string(), &before]).await? == 0 {
        return Ok(false);
    }
    for (name, value) in [(FAILOVER, failover.note().as_str()), (UNTOLD, "true"), (ASK_EVERYONE, NOTICED)] {
        note_text(session, name, value).await?;
    }
    Ok(true)
}

/// Returns the last change of history that is known.
pub(super) async fn noted(session: &Session) -> Result<Option<Failover>, Undone> {
    let Some(note) = noted_text(session, FAILOVER).await? else { return Ok(None) };
    let everyone_asked = noted_text(session, ASK_EVERYONE).await?.is_none();
    Ok(Failover::of_note(&note, everyone_asked))
}

/// Leaves delays out, while everyone is to be asked.
pub(super) async fn forget_delays(session: &Session, patients: &mut [Checkpoint]) -> Result<(), Undone> {
    if noted_text(session, ASK_EVERYONE).await?.is_some() {
        patients.iter_mut().for_each(Checkpoint::forget_delays);
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

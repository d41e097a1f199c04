//! The cycle that several workers share: whether one is under way, who is in it, and its end.
//!
//! Absent on purpose: its turns, and who takes which.

use tokio_postgres::Row;

use super::failure::Undone;
use super::lease::in_use;
use super::pool::Pool;
use super::session::{Begin, Session};
use super::values::{Columns, counted};
use super::workers::expire_dead;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::turn::SharedProgress;
use crate::warehouse::workers_told::{WorkerIs, WorkerTold, WorkersTold};

/// The cycle under way.
pub(super) struct OpenCycle {
    pub(super) id: i64,
    pub(super) is_planned: bool,
    /// Workers that share it, but for this one.
    pub(super) others: u64,
    pub(super) progress: SharedProgress,
}

/// Returns the cycle under way, if there is one.
pub(super) async fn open_cycle(session: &Session, owner: &str) -> Result<Option<OpenCycle>, Undone> {
    let look = include_str!("../../../schema/postgres/open_cycle.sql");
    let Some(row) = session.row_or_none(look, &[&owner]).await? else { return Ok(None) };
    let column = Columns(&row);
    let (given_out, total): (i64, i64) = (column.get("next")?, column.get("total")?);
    Ok(Some(OpenCycle {
        id: column.get("id")?,
        is_planned: column.get("is_planned")?,
        others: counted(column.get("others")?),
        progress: SharedProgress {
            given_out: counted(given_out),
            total: counted(total),
            started_at: column.get("started_at")?,
        },
    }))
}

/// Tells who shares the roster, and how far they are.
pub(super) async fn told(session: &Session) -> Result<WorkersTold, Undone> {
    let cycle = open_cycle(session, "").await?.map(|open| open.progress);
    let rows = session.rows(include_str!("../../../schema/postgres/workers.sql"), &[]).await?;
    let worker = |row: &Row| {
        let column = Columns(row);
        let (leads, lives): (bool, bool) = (column.get("leads")?, column.get("lives")?);
        let is = match lives && cycle.is_some() {
            true if leads => WorkerIs::Leading,
            true => WorkerIs::AtWork,
            false => WorkerIs::Waiting,
        };
        Ok::<_, Undone>(WorkerTold {
            host: column.get("host")?,
            pid: column.get("pid")?,
            version: column.get("version")?,
            started_at: column.get("started_at")?,
            seen_at: column.get("seen_at")?,
            problem: column.get("problem")?,
            is,
            patients: counted(column.get("patients")?),
        })
    };
    Ok(WorkersTold { cycle, workers: rows.iter().map(worker).collect::<Result<_, _>>()? })
}

/// Refuses what is to be done while no worker holds a patient. What the silent and the dead have left is free then, and
/// their cycle is over.
pub(super) async fn expect_nobody_at_work(pool: &Pool) -> Result<(), OpenFailed> {
    let looked = async {
        let left = "SELECT EXISTS (SELECT FROM shared_cycle WHERE ended_at IS NULL)
                    OR EXISTS (SELECT FROM checkpoint WHERE owner IS NOT NULL)";
        let is_left = pool.look(|session| Box::pin(session.row(left, &[]))).await?;
        if !is_left.try_get::<_, bool>(0)? {
            return Ok(None);
        }
        let session = pool.begin(Begin::Write).await?;
        expire_dead(&session).await?;
        let found = session.row_or_none(include_str!("../../../schema/postgres/at_work.sql"), &[]).await?;
        if let Some(row) = found {
            session.rollback().await;
            let (pid, host): (i64, String) = (row.try_get("pid")?, row.try_get("host")?);
            return Ok(Some(format!("{pid} on {}", host.escape_default())));
        }
        close(&session, Close::CutOff).await?;
        session.execute(include_str!("../../../schema/postgres/release_silent.sql"), &[]).await?;
        session.commit().await.map(|()| None)
    };
    match looked.await.map_err(|undone: Undone| pool.server().failed(undone.into_failure()))? {
        None => Ok(()),
        Some(pid) => Err(in_use(pool.server(), pid)),
    }
}

/// How a cycle ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    WorkedOff,
    CutOff,
}

/// Ends the cycle under way.
pub(super) async fn close(session: &Session, how: Close) -> Result<(), Undone> {
    let close = include_str!("../../../schema/postgres/close_cycle.sql");
    session.execute(close, &[&(how == Close::WorkedOff)]).await?;
    let forget = "DELETE FROM turn; DELETE FROM ticket; DELETE FROM shared_cycle_part;
         DELETE FROM worker WHERE seen_at < clock_timestamp() - interval '1 day'";
    session.batch(forget).await
}

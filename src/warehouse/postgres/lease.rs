//! Who may write: one process at a time, by a row that it renews while it lives.
//!
//! Promise: only the database's clock decides. A process that could not renew its row for as long as it
//! lasts is told so by its next transaction, and writes nothing more.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::Row;

use super::failure::Undone;
use super::pool::Pool;
use super::runtime;
use super::session::{Begin, Session};
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::place::Server;
use crate::{clock, machine};

/// How long a row holds that is not renewed: a killed process keeps others out for so long.
const LASTS: Duration = Duration::from_secs(30);
const RENEWED_EVERY: Duration = Duration::from_secs(8);

/// The right to write, until it is given back.
pub(super) struct WriterLease {
    owner: Arc<str>,
    pool: Pool,
    renewal: JoinHandle<()>,
}

impl WriterLease {
    /// Takes the row at once, or says whose it is.
    pub(super) async fn take(pool: &Pool) -> Result<Self, OpenFailed> {
        let server = pool.server();
        let owner: Arc<str> = format!("{:032x}", machine::unique()).into();
        let failed = |undone: Undone| server.failed(undone.into_failure());
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let pid = i64::from(std::process::id());
        let session = pool.begin(Begin::Write).await.map_err(failed)?;
        let seconds = LASTS.as_secs_f64();
        let take = include_str!("../../../schema/postgres/take_lease.sql");
        let taken = session.row_or_none(take, &[&&*owner, &host, &pid, &seconds]).await.map_err(failed)?;
        if taken.is_none() {
            let holder = session.row_or_none("SELECT host, pid FROM writer", &[]).await.map_err(failed)?;
            session.rollback().await;
            let holder = holder.map_or_else(|| "unknown".to_owned(), |row| holder_of(&row));
            return Err(in_use(server, holder));
        }
        session.commit().await.map_err(failed)?;
        let handle = runtime::handle().map_err(|error| server.unusable(error))?;
        let renewal = handle.spawn(renew(pool.clone(), owner.clone()));
        Ok(Self { owner, pool: pool.clone(), renewal })
    }

    pub(super) fn owner(&self) -> Arc<str> {
        self.owner.clone()
    }

    /// Gives the row back.
    pub(super) async fn give_back(&self) {
        self.renewal.abort();
        let given = async {
            let session = self.pool.begin(Begin::Write).await?;
            session.execute("DELETE FROM writer WHERE owner = $1", &[&&*self.owner]).await?;
            session.commit().await
        };
        if let Err(undone) = given.await {
            let seconds = LASTS.as_secs();
            tracing::warn!("the warehouse is free in {seconds} seconds ({})", undone.into_failure());
        }
    }
}

/// Refuses the work of a process that has lost its row.
pub(super) async fn expect_held(session: &Session, owner: &str) -> Result<(), Undone> {
    let statement = "SELECT 1 FROM writer WHERE owner = $1 AND until > clock_timestamp()";
    match session.row_or_none(statement, &[&owner]).await? {
        Some(_) => Ok(()),
        None => Err(Undone::Failed(StoreFailed::TakenOver)),
    }
}

async fn renew(pool: Pool, owner: Arc<str>) {
    loop {
        clock::sleep(RENEWED_EVERY).await;
        let renewed = async {
            let session = pool.begin(Begin::Write).await?;
            let statement =
                "UPDATE writer SET until = clock_timestamp() + make_interval(secs => $2) WHERE owner = $1";
            session.execute(statement, &[&&*owner, &LASTS.as_secs_f64()]).await?;
            session.commit().await
        };
        if let Err(undone) = renewed.await {
            tracing::debug!("the right to write is not renewed ({})", undone.into_failure());
        }
    }
}

/// Says who has the row, if anybody has.
pub(in crate::warehouse) fn try_lock(server: &Arc<Server>) -> Result<(), OpenFailed> {
    let pool = Pool::new(server)?;
    let look = pool.look(|session| {
        Box::pin(session.row_or_none("SELECT host, pid FROM writer WHERE until > clock_timestamp()", &[]))
    });
    let looked = runtime::wait(look).map_err(|error| server.unusable(error))?;
    match looked.map_err(|undone| server.failed(undone.into_failure()))? {
        Some(row) => Err(in_use(server, holder_of(&row))),
        None => Ok(()),
    }
}

fn in_use(server: &Server, pid: String) -> OpenFailed {
    OpenFailed::InUse { path: server.to_string().into(), pid }
}

fn holder_of(row: &Row) -> String {
    let (host, pid): (String, i64) = (row.get(0), row.get(1));
    format!("{pid} on {}", host.escape_default())
}

//! Who may write: one process at a time, by a row that it renews while it lives.
//!
//! Promise: only the database's clock decides. A process that could not renew its row for as long as it
//! lasts is told so by its next transaction, and writes nothing more. Who has ended on this machine is known to
//! have, and not waited for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use tokio::task::JoinHandle;
use tokio_postgres::Row;

use super::failure::Undone;
use super::pool::Pool;
use super::runtime;
use super::session::{Begin, Session};
use crate::clock::Instant;
use crate::plan::Timestamp;
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::place::Server;
use crate::{clock, machine};

/// How long a row holds that is not renewed: a killed process keeps others out for so long.
const LASTS: Duration = Duration::from_secs(30);
const RENEWED_EVERY: Duration = Duration::from_secs(8);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const GIVE_BACK_TRIES: usize = 3;

/// The right to write, until it is given back.
pub(super) struct WriterLease {
    owner: Arc<str>,
    pool: Pool,
    renewal: JoinHandle<()>,
}

impl WriterLease {
    /// Takes the row, or says whose it is. Where that cannot be known to be alive, waits to see whether it
    /// is renewed.
    pub(super) async fn take(pool: &Pool) -> Result<Self, OpenFailed> {
        Self::take_as(pool, &new_owner()).await
    }

    /// Takes the row under a name by which it may have been taken already.
    pub(super) async fn take_as(pool: &Pool, owner: &Arc<str>) -> Result<Self, OpenFailed> {
        let server = pool.server();
        let failed = |undone: Undone| server.failed(undone.into_failure());
        let mut first_seen: Option<(Holder, Instant)> = None;
        loop {
            let Some(holder) = Self::try_to_take(pool, owner, owner).await.map_err(failed)? else { break };
            match holder.is_alive() {
                Some(true) => return Err(in_use(server, holder.to_string())),
                // Has ended without giving it back, as after a kill.
                Some(false) => {
                    if Self::try_to_take(pool, owner, &holder.owner).await.map_err(failed)?.is_none() {
                        break;
                    }
                }
                None => match &first_seen {
                    None => first_seen = Some((holder, Instant::now())),
                    Some((first, at)) if first.until != holder.until || at.elapsed() > LASTS * 2 => {
                        return Err(in_use(server, holder.to_string()));
                    }
                    Some(_) => {}
                },
            }
            clock::sleep(LOOK_AGAIN).await;
        }
        Self::renewed(pool, owner).map_err(failed)
    }

    /// Takes the row if nobody has it who lives, as far as that is known at once.
    pub(super) async fn take_if_free(pool: &Pool, owner: &Arc<str>) -> Result<Option<Self>, Undone> {
        if let Some(holder) = Self::try_to_take(pool, owner, owner).await? {
            let has_ended = holder.is_alive() == Some(false);
            if !has_ended || Self::try_to_take(pool, owner, &holder.owner).await?.is_some() {
                return Ok(None);
            }
        }
        Self::renewed(pool, owner).map(Some)
    }

    fn renewed(pool: &Pool, owner: &Arc<str>) -> Result<Self, Undone> {
        let handle = runtime::handle().map_err(|error| StoreFailed::Engine(error.to_string()))?;
        let renewal = handle.spawn(renew(pool.clone(), owner.clone()));
        Ok(Self { owner: owner.clone(), pool: pool.clone(), renewal })
    }

    /// Returns who has the row, if it is not taken: from nobody, or from `former`.
    async fn try_to_take(pool: &Pool, owner: &str, former: &str) -> Result<Option<Holder>, Undone> {
        let host = machine::host_name();
        let (pid, realm, seconds) = (i64::from(std::process::id()), realm(), LASTS.as_secs_f64());
        let session = pool.begin(Begin::Write).await?;
        let take = include_str!("../../../schema/postgres/take_lease.sql");
        let taken = session.row_or_none(take, &[&owner, &host, &pid, &realm, &seconds, &former]).await?;
        if taken.is_some() {
            session.commit().await?;
            return Ok(None);
        }
        let holder = session.row_or_none(HOLDER, &[]).await?;
        session.rollback().await;
        // One that was given back meanwhile is tried for again.
        Ok(Some(holder.map_or_else(|| Ok(Holder::default()), |row| Holder::of(&row))?))
    }

    pub(super) fn owner(&self) -> Arc<str> {
        self.owner.clone()
    }

    /// Gives the row back.
    pub(super) async fn give_back(&self) {
        self.renewal.abort();
        for _ in 1..GIVE_BACK_TRIES {
            match self.try_to_give_back().await {
                Err(Undone::Lost(_)) => clock::sleep(LOOK_AGAIN).await,
                Ok(()) => return,
                Err(_) => break,
            }
        }
        if let Err(undone) = self.try_to_give_back().await {
            let seconds = LASTS.as_secs();
            tracing::warn!("the warehouse is free in {seconds} seconds ({})", undone.into_failure());
        }
    }

    async fn try_to_give_back(&self) -> Result<(), Undone> {
        let session = self.pool.begin(Begin::Write).await?;
        session.execute("DELETE FROM writer WHERE owner = $1", &[&&*self.owner]).await?;
        session.commit().await
    }
}

/// Returns a name that nobody else writes under.
pub(super) fn new_owner() -> Arc<str> {
    format!("{:032x}", machine::unique()).into()
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
    let look = pool.look(|session| Box::pin(session.row_or_none(HOLDER, &[])));
    let looked = runtime::wait(look).map_err(|error| server.unusable(error))?;
    let failed = |undone: Undone| server.failed(undone.into_failure());
    let Some(row) = looked.map_err(failed)? else { return Ok(()) };
    let holder = Holder::of(&row).map_err(failed)?;
    if holder.has_run_out || holder.is_alive() == Some(false) {
        return Ok(());
    }
    Err(in_use(server, holder.to_string()))
}

const HOLDER: &str = "SELECT owner, host, pid, realm, until, until < clock_timestamp() FROM writer";

/// Who has the right to write.
#[derive(Default)]
struct Holder {
    owner: String,
    host: String,
    pid: i64,
    realm: Option<String>,
    until: Option<Timestamp>,
    has_run_out: bool,
}

impl Holder {
    fn of(row: &Row) -> Result<Self, Undone> {
        let (owner, host, pid) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Self {
            owner,
            host,
            pid,
            realm: row.try_get(3)?,
            until: row.try_get(4)?,
            has_run_out: row.try_get(5)?,
        })
    }

    /// Returns whether the process is there; `None` where it cannot be known from here.
    fn is_alive(&self) -> Option<bool> {
        if self.realm.is_none() || self.realm != realm() { None } else { is_there(self.pid) }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.pid, self.host.escape_default())
    }
}

/// Returns whether a process of this realm is there.
pub(super) fn is_there(pid: i64) -> Option<bool> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    Some(test_kill_process(pid) != Err(Errno::SRCH))
}

/// Returns what makes the number of a process one process: this boot of this machine, and the namespace in it. A
/// hardened service may not see it.
pub(super) fn realm() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(format!("{} {}", boot.trim(), namespace.display()))
}

/// Says which process has the warehouse.
pub(super) fn in_use(server: &Server, pid: String) -> OpenFailed {
    OpenFailed::InUse { path: server.to_string().into(), pid }
}

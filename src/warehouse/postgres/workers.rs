//! A worker of a cycle that several share: its row, which it renews, and what it holds.
//!
//! Promise: a worker that was silent for as long as its row lasts has nothing more: others take over what it held, and
//! it is told so by the next thing that it asks for. Nothing is decided by this machine's clock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

use super::checkpoint::expect_one;
use super::failure::Undone;
use super::lease::{is_there, realm};
use super::pool::Pool;
use super::runtime;
use super::session::{Begin, Session};
use super::values::Param;
use crate::clock::Instant;
use crate::plan::{PersonId, Timestamp};
use crate::warehouse::failure::StoreFailed;
use crate::{clock, machine};

/// The columns of a checkpoint by which a worker holds a patient. No file has them.
pub(super) const OF_WORKERS: [&str; 2] = ["fence", "owner"];

/// A row is renewed so many times before it runs out.
const RENEWALS: u32 = 3;
/// How often it is looked whether others have taken a patient over.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// In place of a cycle's number, for who takes part in none.
pub(super) const NO_CYCLE: i64 = 0;

/// A worker's part in a cycle.
pub(super) struct Membership {
    pub(super) cycle: i64,
    held: Arc<Mutex<Held>>,
    is_lost: Arc<AtomicBool>,
    renewal: JoinHandle<()>,
}

/// Whom a worker is dealing with.
#[derive(Default)]
struct Held {
    fences: HashMap<PersonId, i64>,
    /// By patient, until the turn is given back.
    tickets: HashMap<PersonId, TakenTurn>,
    /// By which fence patients were taken beside their turns, until they are given back.
    beside: HashMap<PersonId, i64>,
    /// How many of each ticket are not over.
    outstanding: BTreeMap<i64, usize>,
    /// Patients that others have taken over.
    superseded: Vec<PersonId>,
    /// Since it was last asked how many.
    lost: HashSet<PersonId>,
    taken_over: u64,
}

fn locked(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

struct TakenTurn {
    ticket: i64,
    fence: i64,
}

/// Turns that were given out together.
pub(super) struct Ticket {
    pub(super) first: i64,
    pub(super) patients: Vec<(PersonId, i64)>,
    /// Whether another worker had them before.
    pub(super) was_anothers: bool,
}

impl Membership {
    /// Renews the row of a worker that takes part in a cycle, from now on.
    pub(super) fn begin(pool: &Pool, owner: &Arc<str>, cycle: i64) -> Result<Self, StoreFailed> {
        let is_lost = Arc::new(AtomicBool::new(false));
        let handle = runtime::handle().map_err(|error| StoreFailed::Engine(error.to_string()))?;
        let held = Arc::new(Mutex::new(Held::default()));
        let watch =
            Watch { pool: pool.clone(), owner: owner.clone(), held: held.clone(), is_lost: is_lost.clone() };
        let renewal = handle.spawn(watch.run());
        Ok(Self { cycle, held, is_lost, renewal })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        locked(&self.held)
    }

    /// Returns the patients that others have taken over since this was last asked.
    pub(super) fn take_superseded(&self) -> Vec<PersonId> {
        std::mem::take(&mut self.held().superseded)
    }

    /// Returns by which fence a patient is held, if it is.
    pub(super) fn fence_of(&self, person: &PersonId) -> Option<i64> {
        self.held().fences.get(person).copied()
    }

    /// Returns whom a worker holds that takes part in no cycle: nobody else would take them over from it.
    pub(super) fn held_alone(&self) -> Vec<PersonId> {
        if self.cycle == NO_CYCLE { self.held().fences.keys().cloned().collect() } else { Vec::new() }
    }

    /// Notes that a patient's turn has been taken down as over: it is held no longer.
    pub(super) fn release(&self, person: &PersonId) {
        self.held().fences.remove(person);
    }

    /// Returns by which fence a patient was held last that has not been given back.
    pub(super) fn former_fence(&self, person: &PersonId) -> Option<i64> {
        let held = self.held();
        held.tickets.get(person).map(|turn| turn.fence).or_else(|| held.beside.get(person).copied())
    }

    pub(super) fn hold(&self, person: &PersonId, fence: i64) {
        let mut held = self.held();
        held.fences.insert(person.clone(), fence);
        match held.tickets.get_mut(person) {
            Some(turn) => turn.fence = fence,
            None => drop(held.beside.insert(person.clone(), fence)),
        }
    }

    /// Forgets patients that were taken beside their turns.
    pub(super) fn put_back(&self, over: &[PersonId]) {
        let mut held = self.held();
        for person in over {
            held.fences.remove(person);
            held.beside.remove(person);
        }
    }

    pub(super) fn take(&self, ticket: &Ticket) {
        let mut held = self.held();
        if ticket.was_anothers {
            held.taken_over += ticket.patients.len() as u64;
        }
        held.outstanding.insert(ticket.first, ticket.patients.len());
        for (person, fence) in &ticket.patients {
            held.fences.insert(person.clone(), *fence);
            held.tickets.insert(person.clone(), TakenTurn { ticket: ticket.first, fence: *fence });
        }
    }

    /// Returns the tickets that are over once these patients are.
    pub(super) fn over_with(&self, over: &[PersonId]) -> Vec<i64> {
        let held = self.held();
        let mut outstanding = held.outstanding.clone();
        for turn in over.iter().filter_map(|person| held.tickets.get(person)) {
            if let Some(left) = outstanding.get_mut(&turn.ticket) {
                *left = left.saturating_sub(1);
            }
        }
        outstanding.into_iter().filter(|(_, left)| *left == 0).map(|(ticket, _)| ticket).collect()
    }

    /// Forgets patients whose turns are over.
    pub(super) fn forget(&self, over: &[PersonId]) {
        let mut held = self.held();
        for person in over {
            held.fences.remove(person);
            if let Some(turn) = held.tickets.remove(person)
                && let Some(left) = held.outstanding.get_mut(&turn.ticket)
            {
                *left = left.saturating_sub(1);
            }
        }
        held.outstanding.retain(|_, left| *left > 0);
    }

    /// Returns whether others have taken over what this worker held.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    pub(super) fn has_lost(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
        let mut held = self.held();
        let all: Vec<PersonId> = held.fences.keys().cloned().collect();
        held.lost.extend(all);
    }

    /// Notes that a patient which this worker held is another's.
    pub(super) fn has_lost_one(&self, person: &PersonId) {
        let mut held = self.held();
        if held.fences.contains_key(person) {
            held.lost.insert(person.clone());
        }
    }

    /// Returns how many patients others have taken over from this worker, and it from others, since this was last
    /// asked.
    pub(super) fn take_counts(&self) -> (u64, u64) {
        let mut held = self.held();
        (std::mem::take(&mut held.lost).len() as u64, std::mem::take(&mut held.taken_over))
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Makes the row of a worker that takes part in a cycle, or holds patients beside it.
pub(super) async fn join(
    session: &Session,
    owner: &str,
    lease: Duration,
    cycle: Option<i64>,
    now: Timestamp,
) -> Result<(), Undone> {
    let host = machine::host_name();
    let (pid, version) = (i64::from(std::process::id()), env!("CARGO_PKG_VERSION"));
    let join = include_str!("../../../schema/postgres/join_cycle.sql");
    let told: [&dyn Param; 8] = [&owner, &host, &pid, &realm(), &version, &now, &lease.as_secs_f64(), &cycle];
    session.execute(join, &told).await?;
    Ok(())
}

/// Keeps why a worker takes part in no cycle, for whoever looks.
pub(super) async fn note_left_out(
    session: &Session,
    owner: &str,
    problem: &str,
    now: Timestamp,
) -> Result<(), Undone> {
    let host = machine::host_name();
    let (pid, version) = (i64::from(std::process::id()), env!("CARGO_PKG_VERSION"));
    let leave_out = include_str!("../../../schema/postgres/leave_worker_out.sql");
    let told: [&dyn Param; 7] = [&owner, &host, &pid, &realm(), &version, &now, &problem];
    session.execute(leave_out, &told).await?;
    Ok(())
}

/// Says that the worker lives. What it held is others' where it was silent for too long.
pub(super) async fn renew(session: &Session, owner: &str, lease: Duration) -> Result<bool, Undone> {
    let renew = include_str!("../../../schema/postgres/renew_worker.sql");
    Ok(session.row_or_none(renew, &[&owner, &lease.as_secs_f64()]).await?.is_some())
}

/// Renews the row of a worker, and looks whether what it holds is its own still.
struct Watch {
    pool: Pool,
    owner: Arc<str>,
    held: Arc<Mutex<Held>>,
    is_lost: Arc<AtomicBool>,
}

impl Watch {
    async fn run(self) {
        let lease = self.pool.server().lease;
        let mut renewed_at = Instant::now();
        let mut missed = HashMap::new();
        while !self.is_lost.load(Ordering::Relaxed) {
            clock::sleep(LOOK_AGAIN).await;
            let looked = self.look(&mut missed).await;
            let renewed = if renewed_at.elapsed() + LOOK_AGAIN >= lease / RENEWALS {
                renewed_at = Instant::now();
                self.renew(lease).await
            } else {
                Ok(())
            };
            if let Err(undone) = looked.and(renewed) {
                tracing::debug!("a worker's lease is not looked after ({})", undone.into_failure());
            }
        }
    }

    async fn renew(&self, lease: Duration) -> Result<(), Undone> {
        let session = self.pool.begin(Begin::Write).await?;
        let lives = renew(&session, &self.owner, lease).await?;
        session.commit().await?;
        self.is_lost.fetch_or(!lives, Ordering::Relaxed);
        Ok(())
    }

    /// Looks which patients are held no longer. One that was missed is looked for once more: its end may just have been
    /// written down.
    async fn look(&self, missed: &mut HashMap<PersonId, i64>) -> Result<(), Undone> {
        let fences = locked(&self.held).fences.clone();
        if fences.is_empty() || are_fences_down() {
            missed.clear();
            return Ok(());
        }
        let (persons, numbers): (Vec<&str>, Vec<i64>) =
            fences.iter().map(|(person, fence)| (person.as_str(), *fence)).unzip();
        let owner = self.owner.as_ref();
        let statement = "SELECT c.person_id FROM checkpoint AS c JOIN unnest($1, $2) AS u(person_id, fence)
                ON c.person_id = u.person_id AND c.fence = u.fence WHERE c.owner = $3";
        let session = self.pool.begin(Begin::Snapshot).await?;
        let rows = session.rows(statement, &[&persons, &numbers, &owner]).await?;
        session.rollback().await;
        let ours = rows.iter().map(|row| row.try_get(0)).collect::<Result<HashSet<String>, _>>()?;
        let before = std::mem::take(missed);
        let mut held = locked(&self.held);
        for (person, fence) in fences {
            if ours.contains(person.as_str()) || held.fences.get(&person) != Some(&fence) {
                continue;
            }
            if before.get(&person) == Some(&fence) {
                held.superseded.push(person.clone());
                held.lost.insert(person.clone());
            }
            missed.insert(person, fence);
        }
        Ok(())
    }
}

/// Ends the leases of workers that have ended on this machine, as after a kill: nobody has to wait for them.
pub(super) async fn expire_dead(session: &Session) -> Result<(), Undone> {
    let Some(realm) = realm() else { return Ok(()) };
    let living = "SELECT id, pid FROM worker WHERE realm = $1 AND until > clock_timestamp()";
    for row in session.rows(living, &[&realm]).await? {
        let (id, pid): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
        if is_there(pid) == Some(false) {
            leave(session, &id).await?;
        }
    }
    Ok(())
}

/// Lets others take over at once what this worker has not come to an end with.
pub(super) async fn leave(session: &Session, owner: &str) -> Result<(), Undone> {
    session.execute("UPDATE worker SET until = '-infinity' WHERE id = $1", &[&owner]).await?;
    Ok(())
}

/// Gives back patients whom nothing more is to be done about.
pub(super) async fn release(session: &Session, owner: &str, over: &[PersonId]) -> Result<(), Undone> {
    if !over.is_empty() {
        let persons: Vec<&str> = over.iter().map(PersonId::as_str).collect();
        let release = "UPDATE checkpoint SET owner = NULL WHERE person_id = ANY($1) AND owner = $2";
        session.execute(release, &[&persons, &owner]).await?;
    }
    Ok(())
}

/// Returns whether holders are not looked at, so that tests of them can be seen to fail. Never in a release.
pub(super) fn are_fences_down() -> bool {
    cfg!(debug_assertions) && std::env::var_os("HEALTHEX_SYNC_WITHOUT_FENCES").is_some()
}

/// Refuses a move of whoever does not hold the patient by this fence, and keeps everyone else from it until the
/// transaction ends.
pub(super) async fn expect_leased(
    session: &Session,
    person: &PersonId,
    owner: &str,
    fence: i64,
) -> Result<(), Undone> {
    let statement = "SELECT 1 FROM checkpoint WHERE person_id = $1 AND fence = $2 AND owner = $3 FOR UPDATE";
    let found = session.row_or_none(statement, &[&person.as_str(), &fence, &owner]).await?;
    expect_one(u64::from(found.is_some()))
}

//! A warehouse that is open for writing: as the one that leads, or as a worker of a cycle that another leads.
//!
//! Promise: nothing is written by a process that has lost its right to it. Absent on purpose: what is written.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::analyst_tables::AnalystTables;
use super::failure::Undone;
use super::lease::{WriterLease, new_owner};
use super::ledger::LedgerBook;
use super::pool::Pool;
use super::right::Right;
use super::schema::VERSION;
use super::session::{Begin, Session, Step};
use super::workers::{Membership, leave, release};
use super::writing::Writing;
use super::{analyst_tables, open, runtime, shared_cycle};
use crate::clock;
use crate::clock::Instant;
use crate::plan::{PersonId, Timestamp};
use crate::views::AnalystTable;
use crate::warehouse::beside::ledger;
use crate::warehouse::beside::ledger::PurgedPatients;
use crate::warehouse::changes::History;
use crate::warehouse::failure::{LedgerFault, OpenFailed, StoreFailed};
use crate::warehouse::place::{OtherServer, Place, Server};
use crate::warehouse::pull::Fenced;
use crate::warehouse::turn::ServerCosts;

/// A warehouse that is open for writing.
pub struct Engine {
    writing: Writing,
    /// By which name the rows say what is this process's.
    owner: Arc<str>,
    /// The right to lead, where this process has it.
    lead: Mutex<Option<WriterLease>>,
    membership: Mutex<Option<Arc<Membership>>>,
    pub(super) history: History,
    /// Those that are stored as this program makes them.
    pub(super) analyst_tables: Arc<AnalystTables>,
    /// Those that are not.
    pub(super) other_tables: Vec<String>,
    /// Whether the schema is of a newer release, which this one can work with.
    pub(super) is_older_than_schema: bool,
    pub(super) views: Arc<[AnalystTable]>,
    pub(super) ledger: Arc<LedgerBook>,
    /// Taken by whoever writes into the ledger.
    pub(super) ledger_turn: tokio::sync::Mutex<()>,
    pub(super) purged: PurgedPatients,
    is_abandoned: AtomicBool,
}

/// As what a warehouse is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Alone: nobody leads, and no worker is at work.
    Lead(OtherServer),
    /// Beside whoever leads.
    Beside,
}

/// So long whoever has the right to lead, and shares no cycle yet, is waited for: a cycle is announced within that.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

impl Engine {
    pub(in crate::warehouse) fn open(
        place: &Place,
        server: &Arc<Server>,
        other_server: OtherServer,
        now: Timestamp,
    ) -> Result<Self, OpenFailed> {
        Self::open_as(place, server, Role::Lead(other_server), now)
    }

    /// Opens it beside whoever leads, who is not waited for: to take part in the cycle under way, or to purge.
    pub(in crate::warehouse) fn open_beside(
        place: &Place,
        server: &Arc<Server>,
        now: Timestamp,
    ) -> Result<Self, OpenFailed> {
        Self::open_as(place, server, Role::Beside, now)
    }

    /// Opens it to lead a cycle, or to take part in the one that another leads.
    pub(in crate::warehouse) fn open_for_cycle(
        place: &Place,
        server: &Arc<Server>,
        now: Timestamp,
    ) -> Result<Self, OpenFailed> {
        let engine = Self::open_beside(place, server, now)?;
        if let Err(refused) = engine.expect_own_tables() {
            // Else it would lead the others to no cycle.
            let noted = runtime::wait(engine.note_left_out(&refused.to_string(), now));
            noted.map_err(|error| server.unusable(error))?.map_err(|failed| server.failed(failed))?;
            return Err(server.away(refused));
        }
        open::patiently(|| {
            let found = runtime::wait(engine.find_a_part(place, server, now));
            found.map_err(|error| server.unusable(error)).flatten()
        })?;
        Ok(engine)
    }

    /// Takes the lead, or part in the cycle of whoever has it.
    async fn find_a_part(&self, place: &Place, server: &Server, now: Timestamp) -> Result<(), OpenFailed> {
        let failed = |failed| server.failed(failed);
        let begun = Instant::now();
        loop {
            if self.take_lead().await.map_err(failed)? {
                return open::take_server(self.pool(), place, OtherServer::Refuse).await;
            }
            if self.join_open_cycle(now).await.map_err(failed)? {
                tracing::info!("a cycle is under way, and this process takes part in it");
                return Ok(());
            }
            if begun.elapsed() > ANNOUNCED_WITHIN {
                break;
            }
            clock::sleep(LOOK_AGAIN).await;
        }
        let lead = WriterLease::take_as(self.pool(), &self.owner).await?;
        *self.lead() = Some(lead);
        open::take_server(self.pool(), place, OtherServer::Refuse).await
    }

    fn open_as(place: &Place, server: &Arc<Server>, role: Role, now: Timestamp) -> Result<Self, OpenFailed> {
        let pool = Pool::new(server)?;
        let owner = new_owner();
        let opening = async || {
            let state = open::expect_schema(&pool).await?;
            open::expect_to_write(&pool, &state).await?;
            let lead = match role {
                Role::Lead(_) => Some(WriterLease::take_as(&pool, &owner).await?),
                Role::Beside => None,
            };
            let opened = async {
                open::expect_moved(&pool).await?;
                match role {
                    Role::Lead(other_server) => {
                        shared_cycle::expect_nobody_at_work(&pool).await?;
                        open::take_server(&pool, place, other_server).await?;
                    }
                    Role::Beside => open::expect_server(&pool, place).await?,
                }
                let stored = pool.look(|session| Box::pin(analyst_tables::stored(session))).await;
                stored.map_err(|undone| server.failed(undone.into_failure()))
            };
            match opened.await {
                Ok(stored) => Ok((lead, stored, state.schema_version > Some(VERSION))),
                Err(failed) => {
                    if let Some(lead) = lead {
                        lead.give_back().await;
                    }
                    Err(failed)
                }
            }
        };
        let (lead, stored, is_older_than_schema) =
            open::patiently(|| runtime::wait(opening()).map_err(|error| server.unusable(error)).flatten())?;
        let (analyst_tables, other_tables) = AnalystTables::new(&place.views).followed(&stored);
        let ledger = LedgerBook::unread(ledger::resolve(place));
        let purged = ledger.locked().purged();
        let engine = Self {
            writing: Writing::new(pool),
            owner,
            lead: Mutex::new(lead),
            membership: Mutex::default(),
            history: History::of(place.history),
            analyst_tables: Arc::new(analyst_tables),
            other_tables,
            is_older_than_schema,
            views: place.views.clone(),
            purged,
            ledger: Arc::new(ledger),
            ledger_turn: tokio::sync::Mutex::new(()),
            is_abandoned: AtomicBool::new(false),
        };
        let read = async {
            engine.notice_failover(now).await?;
            // It repeats what a failover has lost.
            engine.read_ledger(now).await
        };
        let read = runtime::wait(read).map_err(|error| server.unusable(error))?;
        read.map_err(|failed| server.failed(failed))?;
        match engine.ledger_fault() {
            Some(LedgerFault::OfAnother(ledger)) => {
                Err(OpenFailed::OtherLedger { path: server.to_string().into(), ledger })
            }
            _ => Ok(engine),
        }
    }

    pub(super) fn pool(&self) -> &Pool {
        self.writing.pool()
    }

    pub(super) fn writing(&self) -> &Writing {
        &self.writing
    }

    pub(super) fn owner(&self) -> Arc<str> {
        self.owner.clone()
    }

    fn lead(&self) -> MutexGuard<'_, Option<WriterLease>> {
        self.lead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::warehouse) fn leads(&self) -> bool {
        self.lead().is_some()
    }

    /// Becomes the one that leads, where nobody else does who lives.
    pub(super) async fn take_lead(&self) -> Result<bool, StoreFailed> {
        if !self.leads() {
            let taken = match WriterLease::take_if_free(self.pool(), &self.owner).await {
                // It is tried again when the next turns are asked for.
                Err(Undone::Lost(_)) => return Ok(false),
                taken => taken.map_err(Undone::into_failure)?,
            };
            *self.lead() = taken;
        }
        Ok(self.leads())
    }

    /// Leaves the lead to another.
    pub(in crate::warehouse) async fn leave_lead(&self) {
        let lead = self.lead().take();
        if let Some(lead) = lead {
            lead.give_back().await;
        }
    }

    pub(super) fn take_part(&self, membership: Membership) {
        *self.membership.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(membership));
    }

    fn part(&self) -> Option<Arc<Membership>> {
        self.membership.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn membership(&self) -> Result<Arc<Membership>, StoreFailed> {
        self.part().ok_or_else(|| StoreFailed::Engine("no cycle is shared".to_owned()))
    }

    /// Returns whether others have taken over what this process was dealing with.
    pub(in crate::warehouse) fn is_superseded(&self) -> bool {
        self.part().is_some_and(|part| part.is_lost())
    }

    /// Returns the patients that others have taken over since this was last asked.
    pub(in crate::warehouse) fn take_superseded(&self) -> Vec<PersonId> {
        self.part().map(|part| part.take_superseded()).unwrap_or_default()
    }

    /// Returns by which right a patient is written about: as who holds it, else as who leads.
    pub(super) fn right_over(&self, person: &PersonId) -> Right {
        match self.part().and_then(|part| part.fence_of(person)) {
            Some(fence) => Right::Holder { owner: self.owner(), person: person.clone(), fence },
            None => Right::Lead(self.owner()),
        }
    }

    /// Notes that the turn of a patient is over, as its row says now.
    pub(super) fn release(&self, person: &PersonId) {
        if let Some(part) = self.part() {
            part.release(person);
        }
    }

    /// Takes a patient again whose turn was over, for what follows in the same turn.
    pub(super) fn hold_again(&self, person: &PersonId, fence: i64) {
        if let Some(part) = self.part() {
            part.hold(person, fence);
        }
    }

    /// Returns the fence of a patient whose turn this was, in the cycle that is shared.
    pub(super) fn former_fence(&self, person: &PersonId) -> Option<i64> {
        self.part()?.former_fence(person)
    }

    /// Carries out a piece of work of who leads, that no pull can be superseded in.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl for<'s> Fn(&'s Session) -> Step<'s, T> + Send + Sync,
    ) -> Result<T, StoreFailed> {
        self.run(&Right::Lead(self.owner()), work).await.map_err(Undone::into_failure)
    }

    /// Carries out a piece of work that needs no right but to write to the tables.
    pub(super) async fn write_freely<T: Send + 'static>(
        &self,
        work: impl for<'s> Fn(&'s Session) -> Step<'s, T> + Send + Sync,
    ) -> Result<T, StoreFailed> {
        self.run(&Right::Anybody, work).await.map_err(Undone::into_failure)
    }

    /// Answers by one look. It takes no right to write, and no number of a transaction.
    pub(super) async fn look<T: Send>(
        &self,
        look: impl for<'s> Fn(&'s Session) -> Step<'s, T> + Send + Sync,
    ) -> Result<T, StoreFailed> {
        self.writing.look(look).await.map_err(Undone::into_failure)
    }

    /// Carries out a move of a patient's pull.
    pub(super) async fn write_fenced<T: Send + 'static>(
        &self,
        person: &PersonId,
        work: impl for<'s> Fn(&'s Session) -> Step<'s, T> + Send + Sync,
    ) -> Result<Fenced<T>, StoreFailed> {
        let done = self.run(&self.right_over(person), work).await;
        if let (Err(Undone::Superseded), Some(part)) = (&done, self.part()) {
            part.has_lost_one(person);
        }
        fenced(done)
    }

    /// Returns what writing has cost, and what workers have taken from each other, since this was last asked.
    pub(in crate::warehouse) fn take_costs(&self) -> ServerCosts {
        let (leases_lost, leases_taken_over) = self.part().map(|part| part.take_counts()).unwrap_or_default();
        ServerCosts { transactions: self.writing.take_times(), leases_lost, leases_taken_over }
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        right: &Right,
        work: impl for<'s> Fn(&'s Session) -> Step<'s, T> + Send + Sync,
    ) -> Result<T, Undone> {
        let right = right.clone();
        let written = self.writing.write(move |session| {
            let (right, work) = (right.clone(), work(session));
            Box::pin(async move {
                // Sent with the first of the work's statements, and answered before them.
                let (held, done) = tokio::join!(biased; right.check(session), work);
                held.and(done)
            })
        });
        // Else all that a transaction may have to do would lie in the task of each pull.
        Box::pin(written).await
    }

    pub(in crate::warehouse) fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
    }

    /// Leaves what is held to others, and gives the lead back.
    async fn leave(&self) {
        if let Some(part) = self.part() {
            let held = part.held_alone();
            let left = async {
                let session = self.pool().begin(Begin::Write).await?;
                release(&session, &self.owner, &held).await?;
                leave(&session, &self.owner).await?;
                session.commit().await
            };
            if let Err(undone) = Box::pin(left).await {
                tracing::debug!(
                    "what this worker held is free once its lease has run out ({})",
                    undone.into_failure()
                );
            }
        }
        self.leave_lead().await;
    }
}

/// Tells a move that came too late from one that failed.
pub(super) fn fenced<T>(done: Result<T, Undone>) -> Result<Fenced<T>, StoreFailed> {
    match done {
        Ok(done) => Ok(Fenced::Kept(done)),
        Err(Undone::Superseded) => Ok(Fenced::Superseded),
        Err(undone) => Err(undone.into_failure()),
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.is_abandoned.load(Ordering::Relaxed) {
            // Whoever cannot be told finds the rows free once they have run out.
            let _ = runtime::wait(self.leave());
        }
    }
}

//! The door to a cycle that several workers share.
//!
//! Only a warehouse on a server has one: [`Warehouse::shared`] is `None` elsewhere, and a cycle is then its
//! process's own.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::failure::{OpenFailed, StoreFailed};
use super::place::{Location, OtherServer, Place};
use super::turn::{Announced, Claimed, CyclePart, PlanPiece, ServerCosts, SharedProgress, Turn, TurnsAsked};
use super::{Warehouse, postgres};
use crate::plan::{PersonId, Timestamp};

/// A warehouse whose cycles are shared.
#[derive(Clone, Copy)]
pub(crate) struct Sharing<'w> {
    engine: &'w postgres::Engine,
}

impl Warehouse {
    /// Opens the warehouse for a cycle: to lead it, or, on a server, to take part in the one that another leads. One that
    /// is about to be announced there is waited for.
    pub(crate) fn open_for_cycle(place: &Place, now: Timestamp) -> Result<Self, OpenFailed> {
        match &place.location {
            Location::File(_) => Self::open(place, OtherServer::Refuse, now),
            Location::Server(server) => {
                postgres::Engine::open_for_cycle(place, server, now).map(Self::Postgres)
            }
        }
    }

    /// Opens the warehouse to look at it: on a server beside whoever writes to it, who is not waited for.
    pub(crate) fn open_to_look(place: &Place, now: Timestamp) -> Result<Self, OpenFailed> {
        match Self::open_beside(place, now)? {
            Some(beside) => Ok(beside),
            None => Self::open(place, OtherServer::Refuse, now),
        }
    }

    /// Opens the warehouse beside whoever writes to it, for an operator's purge. `None` of a file, whose writer is waited
    /// for.
    pub(crate) fn open_beside(place: &Place, now: Timestamp) -> Result<Option<Self>, OpenFailed> {
        match &place.location {
            Location::File(_) => Ok(None),
            Location::Server(server) => {
                postgres::Engine::open_beside(place, server, now).map(|engine| Some(Self::Postgres(engine)))
            }
        }
    }

    /// Returns what a cycle is shared by, where it is.
    pub(crate) fn shared(&self) -> Option<Sharing<'_>> {
        match self {
            Self::Postgres(engine) => Some(Sharing { engine }),
            Self::Sqlite(_) | Self::Rehearsal(_) => None,
        }
    }

    /// Announces a cycle, before anything is decided for it. There is one of each `tick` of the schedule.
    pub(crate) async fn announce_cycle(
        &self,
        tick: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Announced, StoreFailed> {
        match self {
            Self::Postgres(engine) => engine.announce_cycle(tick, now).await,
            Self::Sqlite(_) | Self::Rehearsal(_) => Ok(Announced::Alone),
        }
    }
}

impl Sharing<'_> {
    /// Returns whether this process leads: it plans, judges refusals and ends the cycle.
    pub(crate) fn leads(self) -> bool {
        self.engine.leads()
    }

    /// Takes held patients beside whatever cycle is under way, on an operator's word. Returns those that nobody else was
    /// dealing with.
    pub(crate) async fn take_held(
        self,
        held: Vec<PersonId>,
        now: Timestamp,
    ) -> Result<HashSet<PersonId>, StoreFailed> {
        self.engine.take_held(held, now).await
    }

    /// Returns what the server has cost this process since this was last asked.
    pub(crate) fn take_costs(self) -> ServerCosts {
        self.engine.take_costs()
    }

    /// Leaves the lead to another worker of the cycle.
    pub(crate) async fn leave_lead(self) {
        self.engine.leave_lead().await;
    }

    /// Returns whether this process was silent for so long that others have taken over what it was dealing with.
    pub(crate) fn is_superseded(self) -> bool {
        self.engine.is_superseded()
    }

    /// Returns the patients that others have taken over since this was last asked.
    pub(crate) fn take_superseded(self) -> Vec<PersonId> {
        self.engine.take_superseded()
    }

    /// Has everybody planned whom no worker is dealing with, in pieces of 10,000, and writes down their turns. From then
    /// on these are taken. Returns what else the pieces came to.
    pub(crate) async fn plan_turns<R: Send + 'static>(
        self,
        plan: Arc<PlanPiece<R>>,
        now: Timestamp,
    ) -> Result<Vec<R>, StoreFailed> {
        self.engine.plan_turns(plan, now).await
    }

    /// Gives back the turns that are over, and takes others: those of a worker that has gone before new ones.
    pub(crate) async fn claim_turns(self, asked: TurnsAsked, now: Timestamp) -> Result<Claimed, StoreFailed> {
        self.engine.claim_turns(asked, now).await
    }

    /// Takes refused patients by the fences they had, to ask them again. Returns those that are as they were, with
    /// their new fences.
    pub(crate) async fn hold_refused(
        self,
        refused: Vec<(PersonId, i64)>,
    ) -> Result<HashMap<PersonId, i64>, StoreFailed> {
        self.engine.hold_refused(refused).await
    }

    /// Gives back patients whom nothing more is to be done about for now.
    pub(crate) async fn give_back(self, over: Vec<PersonId>) -> Result<(), StoreFailed> {
        self.engine.give_back(over).await
    }

    /// Returns the turns of this cycle whose patients were refused.
    pub(crate) async fn refused_in_turns(self) -> Result<Vec<Turn>, StoreFailed> {
        self.engine.refused_in_turns().await
    }

    /// Returns what the others did in this cycle.
    pub(crate) async fn parts_of_others(self) -> Result<Vec<CyclePart>, StoreFailed> {
        self.engine.parts_of_others().await
    }

    /// Returns whom operators have purged since the cycle began, with the number of rows.
    pub(crate) async fn purged_meanwhile(self) -> Result<Vec<(PersonId, u64)>, StoreFailed> {
        self.engine.purged_meanwhile().await
    }

    /// Has every worker of the cycle leave HealthEx alone for so long.
    pub(crate) async fn let_alone(self, wait: Duration) -> Result<(), StoreFailed> {
        self.engine.let_alone(wait).await
    }

    /// Keeps what kept this process from asking, for whoever looks.
    pub(crate) async fn tell_problem(self, problem: &str) -> Result<(), StoreFailed> {
        self.engine.tell_problem(problem).await
    }

    /// Returns how far the cycle is, and how many others share it.
    pub(crate) async fn progress(self) -> Result<(SharedProgress, u64), StoreFailed> {
        self.engine.shared_progress().await
    }
}

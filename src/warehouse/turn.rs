//! The words for a cycle whose patients several workers share.

use std::ops::AddAssign;
use std::time::Duration;

use super::page::Tally;
use super::pull::Lease;
use crate::plan::{PersonId, PullMode, Timestamp, TypeFilter};

/// What one patient's turn in a cycle is.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) lease: Lease,
    /// How the patient is pulled; `None` where it is only asked whether the consent still stands.
    pub(crate) mode: Option<PullMode>,
    pub(crate) types: TypeFilter,
    /// Whether a consent record says that the patient consents.
    pub(crate) consents: bool,
}

/// What a piece of the patients comes to, those first who have waited longest: asked anew where a connection was lost.
pub(crate) type PlanPiece<R> = dyn Fn(Vec<Lease>) -> Planned<R> + Send + Sync;

/// What some patients come to in a cycle.
pub(crate) struct Planned<R> {
    pub(crate) turns: Vec<Turn>,
    /// Of those who have no turn.
    pub(crate) others: R,
}

/// How a cycle begins that may be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Announced {
    /// Nobody shares it.
    Alone,
    /// It is planned by this process, and worked off by whoever joins.
    Shared,
    /// One is under way whose lead has ended: it is led to its end by this process.
    GoesOn,
    /// The cycle of this tick has been run.
    HasBeenRun,
}

/// What one worker did in a cycle.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub(crate) struct CyclePart {
    pub(crate) ok: u64,
    pub(crate) not_found: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    pub(crate) resources: Tally,
    pub(crate) pages: u64,
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    /// Why most of its patients failed that did.
    pub(crate) failed_why: Option<(String, u64)>,
}

impl AddAssign for CyclePart {
    fn add_assign(&mut self, more: Self) {
        self.ok += more.ok;
        self.not_found += more.not_found;
        self.failed += more.failed;
        self.skipped += more.skipped;
        self.resources += more.resources;
        self.pages += more.pages;
        self.requests += more.requests;
        self.bytes += more.bytes;
    }
}

/// What a process has had of a server since it was last asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServerCosts {
    /// How long transactions that write took, with the waiting for a server that was away.
    pub(crate) transactions: Vec<Duration>,
    /// Patients that were taken from this process while it was dealing with them.
    pub(crate) leases_lost: u64,
    /// Patients that it has taken over from a silent one.
    pub(crate) leases_taken_over: u64,
}

/// What a worker has to tell when it asks for turns.
#[derive(Clone, Debug, Default)]
pub(crate) struct TurnsAsked {
    /// With whom it has come to an end since it last asked.
    pub(crate) over: Vec<PersonId>,
    pub(crate) part: CyclePart,
    pub(crate) most: usize,
}

/// What a worker is to do next.
#[derive(Debug)]
pub(crate) enum Claimed {
    Turns(Vec<Turn>),
    /// Others are dealing with the last ones, which may be left to this one yet; or the cycle is being planned.
    OthersAtWork,
    /// Everybody has had a turn.
    NothingLeft,
    /// HealthEx wants to be left alone for so long.
    ToldToWait(Duration),
    /// Somebody has ended the cycle.
    Closed,
}

/// Where a cycle of several workers is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SharedProgress {
    pub(crate) given_out: u64,
    pub(crate) total: u64,
    pub(crate) started_at: Option<Timestamp>,
}

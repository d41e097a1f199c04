//! The part of the door at which workers agree on a roster. A file is one machine's, and so is its roster.

use super::failure::StoreFailed;
use super::{Reader, Warehouse};
use crate::plan::Timestamp;
use crate::plan::roster::{RosterHash, RosterPatients, RosterVersion};

/// A worker's own roster, as it offers it to the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnRoster<'r> {
    pub(crate) hash: &'r RosterHash,
    pub(crate) patients: &'r RosterPatients,
    /// Whether it was read for this: one that stands in for files which cannot be read is no news.
    pub(crate) is_new: bool,
}

/// Which roster is in force.
#[derive(Clone, Debug)]
pub(crate) enum RosterInForce {
    Own,
    /// Another worker's, as the warehouse keeps it.
    Kept(RosterVersion, RosterPatients),
    /// Another worker's, whose patients this process takes as it is given them.
    Anothers(RosterVersion),
    /// There is none of one's own, and nobody has given the warehouse any.
    None,
}

impl Warehouse {
    /// Takes a worker's roster over where nobody has seen it yet. Returns which one is in force, with its patients where
    /// this process leads.
    pub(crate) async fn agree_on_roster(
        &self,
        own: Option<OwnRoster<'_>>,
        now: Timestamp,
    ) -> Result<RosterInForce, StoreFailed> {
        match self {
            Self::Sqlite(_) => Ok(RosterInForce::Own),
            Self::Postgres(engine) => engine.agree_on_roster(own, now).await,
            Self::Rehearsal(rehearsal) => rehearsal.roster_in_force(own),
        }
    }
}

impl Reader {
    /// Returns which roster the next cycle of a worker with this one goes by.
    pub(crate) fn roster_in_force(&self, own: Option<OwnRoster<'_>>) -> Result<RosterInForce, StoreFailed> {
        match self {
            Self::Sqlite(_) => Ok(RosterInForce::Own),
            Self::Postgres(engine) => engine.roster_in_force(own),
        }
    }
}

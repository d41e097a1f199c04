//! A moment of the world, at which properties are judged, and what is said of one that does not hold.

use super::ledger::Ledger;
use super::look::{Look, Patient};
use super::people::Person;
use super::stage::Stage;
use crate::sandbox::InProcess;
use crate::time::{TimeDelta, Timestamp};

pub(super) const DAY: TimeDelta = TimeDelta::hours(24);
/// Our clock is off by no more, so that a day by it may be so much shorter.
pub(super) const CLOCK_MAX: TimeDelta = TimeDelta::hours(4);

/// A failure keeps a patient waiting for so long at most.
pub(super) const FAILURE_DELAY_MAX: TimeDelta = TimeDelta::hours(6);
/// So many withdrawals at once are held.
pub(super) const HOLD_AFTER: usize = 5;

/// A property that does not hold, and how that shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Untrue {
    pub(super) truth: &'static str,
    pub(super) shows: String,
}

pub(super) fn untrue<T>(truth: &'static str, shows: String) -> Result<T, Untrue> {
    Err(Untrue { truth, shows })
}

/// A moment of the world.
pub(super) struct Moment<'a> {
    pub(super) now: Timestamp,
    /// Since when nothing has been wrong with the server, the network or the machine.
    pub(super) calm_since: Option<Timestamp>,
    /// Since when this process has lived and had room on the disk.
    pub(super) commits_since: Option<Timestamp>,
    pub(super) server: &'a InProcess,
    pub(super) stage: &'a Stage,
    pub(super) look: &'a Look,
    pub(super) ledger: &'a Ledger,
}

impl Moment<'_> {
    pub(super) fn patient(&self, person: &Person) -> Option<&Patient> {
        self.look.patients.get(&person.id)
    }

    /// Returns how long nothing has been wrong, for a patient whose consent and listing did not change.
    pub(super) fn calm_for(&self, person: &Person) -> TimeDelta {
        let Some(calm) = self.calm_since else { return TimeDelta::zero() };
        self.now - calm.max(person.is_so_since(self.now))
    }
}

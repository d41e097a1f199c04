//! Which roster a cycle goes by: the worker's own, or the one that is in force among several workers.

use std::borrow::Cow;

use super::{Cycle, RosterFault, Summary};
use crate::clock;
use crate::roster::Roster;
use crate::settings::RosterSettings;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::rosters::{OwnRoster, RosterInForce};

/// The roster that is gone by.
pub(crate) struct Agreed<'r> {
    pub(crate) roster: Cow<'r, Roster>,
    pub(crate) fault: Option<RosterFault>,
}

/// Returns what a worker offers to the others; `None` where its roster is left to them.
pub(crate) fn own_roster(roster: &Roster) -> Option<OwnRoster<'_>> {
    let hash = roster.version.as_ref()?;
    Some(OwnRoster { hash, patients: &roster.patients, is_new: !roster.is_outdated })
}

/// Makes what is in force into a roster.
pub(crate) fn agreed<'r>(own: &'r Roster, in_force: RosterInForce, settings: &RosterSettings) -> Agreed<'r> {
    match in_force {
        RosterInForce::Own => Agreed { roster: Cow::Borrowed(own), fault: None },
        RosterInForce::None => {
            // Whoever takes part in a study is on the roster without a file.
            let fault = settings.studies.is_empty().then_some(RosterFault::None);
            Agreed { roster: Cow::Borrowed(own), fault }
        }
        RosterInForce::Anothers(version) => {
            let fault = own.version.is_some().then_some(RosterFault::Old(version));
            Agreed { roster: Cow::Borrowed(own), fault }
        }
        RosterInForce::Kept(version, patients) => {
            let roster = Roster {
                of_files: patients.len(),
                patients,
                is_outdated: false,
                notes: own.notes.clone(),
                version: Some(version.hash.clone()),
            };
            let fault = own.version.is_some().then_some(RosterFault::Old(version));
            Agreed { roster: Cow::Owned(roster), fault }
        }
    }
}

impl Cycle {
    /// Offers the roster to the other workers, and returns the one that is in force.
    pub(super) async fn agree_on_roster<'r>(
        &self,
        own: &'r Roster,
        summary: &mut Summary,
    ) -> Result<Cow<'r, Roster>, StoreFailed> {
        let in_force = self.warehouse.agree_on_roster(own_roster(own), clock::now()).await?;
        let Agreed { roster, fault } = agreed(own, in_force, &self.settings.roster);
        summary.roster_fault = fault;
        if let Some(fault) = &summary.roster_fault {
            tracing::warn!("{fault}");
        }
        if let Cow::Owned(roster) = &roster {
            summary.roster_in_force = Some(roster.clone());
        }
        Ok(roster)
    }
}

//! Patients that have left the roster, where those are to be purged.
//!
//! Absent on purpose: the rules, which are `plan::leaver`'s and the hold rule's.

use super::{Cycle, ShrunkRoster, Summary};
use crate::clock;
use crate::plan::consent::{Withdrawals, are_too_many};
use crate::plan::leaver::{LeaverVerdict, judge_leaver};
use crate::plan::state::PurgeReason;
use crate::settings::OnRemoved;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::patient::MissingPatient;

/// Purges who has left the roster. Too many at once are left as they are, and told in the summary.
pub(super) async fn purge_leavers(
    cycle: &Cycle,
    missing: Vec<MissingPatient>,
    summary: &mut Summary,
) -> Result<(), StoreFailed> {
    if cycle.settings.roster.on_removed != OnRemoved::Purge {
        return Ok(());
    }
    let removed_after = cycle.settings.roster.removed_after;
    let leaves =
        |one: &MissingPatient| judge_leaver(one.missing, removed_after, clock::now()) == LeaverVerdict::Purge;
    let leavers: Vec<MissingPatient> = missing.into_iter().filter(leaves).collect();
    let Some(first_since) = leavers.iter().map(|one| one.missing.since).min() else {
        return Ok(());
    };
    // Who went missing together with them is counted with them, purged meanwhile or not.
    let together = cycle.warehouse.departures(first_since, clock::now()).await?;
    let departures = Withdrawals { confirmed: leavers.len() as u64, ..together };
    if are_too_many(departures, cycle.settings.consent.hold) && !cycle.request.allow_shrunk_roster {
        let shrunk = ShrunkRoster { gone: departures.counted(), known: departures.of() };
        tracing::error!("{shrunk}");
        summary.roster_shrunk = Some(shrunk);
        return Ok(());
    }
    for MissingPatient { person, .. } in &leavers {
        let reason = PurgeReason::Roster;
        if let Some(purged) = cycle.warehouse.purge(person, reason, "healthex-sync", clock::now()).await? {
            summary.purged.push(cycle.say_purged(&purged.name, reason, purged.erased.rows()));
        }
    }
    Ok(())
}

//! What a cycle has done, as everyone is told it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::plan::roster::RosterVersion;
use crate::plan::stamp;
use crate::plan::state::PurgeReason;
use crate::plan::verdict::PatientCounts;
use crate::roster::Roster;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::Tally;
use crate::warehouse::turn::CyclePart;
use crate::wording::counted;

/// A patient that was purged in a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PurgeNote {
    pub name: String,
    pub reason: PurgeReason,
    pub rows: u64,
}

/// So many have left the roster at once that nobody of them was purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the roster has lost {gone} of {known} patients at once, and roster.on_removed is \"purge\": none of them was purged. If they are meant to go, run `healthex-sync sync --allow-shrunk-roster`"
)]
pub(crate) struct ShrunkRoster {
    /// Those that were purged for it in the last 24 hours included.
    pub gone: u64,
    /// That have rows, or had them 24 hours ago.
    pub known: u64,
}

/// Why a worker's own roster is not the one that is gone by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RosterFault {
    #[error(
        "the roster files here are an old copy: another roster, of {}, took their place at {}, on {}, and is gone by; bring the files up to date, or go back to them with `healthex-sync roster publish`",
        counted(.0.patients, "patient", "patients"), stamp(.0.seen_at), .0.seen_by
    )]
    Old(RosterVersion),
    #[error("roster.files names none, and no other worker has given the warehouse a roster yet")]
    None,
}

/// What several patients failed of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedWhy {
    pub why: String,
    pub patients: u64,
}

/// What a cycle has done, or, of a rehearsal, would have done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    pub is_rehearsal: bool,
    pub share: Share,
    pub patients: PatientCounts,
    pub resources: Tally,
    pub pages: u64,
    pub requests: u64,
    pub bytes: u64,
    pub took: Duration,
    /// What other processes did of it.
    pub by_others: CyclePart,
    /// Due, and not asked because the cycle ended early; part of `skipped`.
    pub not_reached: u64,
    /// Not found in an earlier cycle and not asked again yet; part of `skipped`.
    pub not_found_before: u64,
    pub ended_early: Option<EndedEarly>,
    /// Why most of those failed that did.
    pub failed_why: Option<FailedWhy>,
    /// The held ones, by the names in the column `held_why`.
    pub held_why: BTreeMap<&'static str, u64>,
    /// Refused, and neither purged nor held: the next cycle begins with them.
    pub still_refused: u64,
    pub purged: Vec<PurgeNote>,
    pub roster_shrunk: Option<ShrunkRoster>,
    /// Why the roster that was read here is not the one that was gone by.
    pub roster_fault: Option<RosterFault>,
    /// The one that was, where it is not that of the files.
    pub roster_in_force: Option<Roster>,
    /// What is wrong with the consent records: the last good answer stands for them.
    pub record_problems: Vec<String>,
    /// Why the bytes of purged patients are still there.
    pub scrub_waits: Option<String>,
}

impl Summary {
    /// Returns whether there is no patient that an operator should look at.
    pub(crate) fn all_is_well(&self) -> bool {
        let PatientCounts { held, not_found, failed, .. } = self.patients;
        held + not_found + failed + self.not_reached + self.not_found_before == 0
            && self.ended_early.is_none()
            && self.roster_shrunk.is_none()
            && self.roster_fault.is_none()
            && self.record_problems.is_empty()
    }
}

/// What of a cycle is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Share {
    /// All of it, whoever did it.
    #[default]
    Whole,
    /// What this process did of one that another leads.
    Part,
    /// Nothing: another has run the cycle of this tick.
    HasBeenRun,
}

/// Why a cycle did not get through its patients.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum EndedEarly {
    #[error("{0}")]
    CredentialsRefused(String),
    #[error("HealthEx does not answer ({0}); patients not reached are asked in the next cycle")]
    ServerDown(String),
    #[error("HealthEx asks everyone to wait {} s; patients not reached are asked in the next cycle", .0.as_secs())]
    ToldToWait(Duration),
    #[error("asked to stop")]
    Stopped,
    #[error("{0}")]
    Warehouse(StoreFailed),
}

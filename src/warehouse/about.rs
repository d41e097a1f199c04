//! The names of what the table `about` keeps in each engine, and how long some of it is kept.

use crate::time::TimeDelta;

pub(super) const LAST_CYCLE: &str = "last_cycle_started_at";
pub(super) const LAST_GOOD_CYCLE: &str = "last_good_cycle_ended_at";
/// When consents that run out were last told.
pub(super) const EXPIRING_TOLD: &str = "expiring_consents_told_at";
/// Since when everything that vanished is still known.
pub(super) const REMOVALS_KNOWN_SINCE: &str = "removals_known_since";

/// So long it is known which rows are gone without a mark: a server that names everything anew at each full
/// pull would otherwise fill the warehouse.
pub(super) const REMOVALS_KEPT: TimeDelta = TimeDelta::days(90);

//! What the daemon remembers about itself: settings in force, past cycles, open problems.
//!
//! Plain data: `status` guards it, `page` and `metrics` render it. Absent on purpose: anything
//! that the warehouse knows, which is read from the warehouse.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::health::CycleVerdict;
use super::problems::Problem;
use crate::cycle::PatientCounts;
use crate::plan::Timestamp;
use crate::settings::Settings;
use crate::warehouse::page::Tally;

/// How many cycles the page draws.
const CYCLES_KEPT: usize = 48;

#[derive(Clone)]
pub(super) struct ServiceState {
    pub(super) settings: Arc<Settings>,
    pub(super) started_at: Timestamp,
    pub(super) last_good_end: Option<Timestamp>,
    pub(super) next_tick: Option<Timestamp>,
    /// When the cycle that runs now began.
    pub(super) running_since: Option<Timestamp>,
    /// The oldest first.
    pub(super) cycles: VecDeque<CycleRecord>,
    /// What needs a person, worded.
    pub(super) problems: BTreeMap<Problem, String>,
    /// No request is sent before this moment, because the server does not answer at all.
    pub(super) paused_until: Option<Timestamp>,
}

/// One cycle of the past.
#[derive(Clone, Debug)]
pub(super) struct CycleRecord {
    pub(super) started_at: Timestamp,
    pub(super) took: Duration,
    pub(super) verdict: CycleVerdict,
    pub(super) patients: PatientCounts,
    pub(super) resources: Tally,
    pub(super) requests: u64,
}

impl ServiceState {
    pub(super) fn new(settings: Arc<Settings>, last_good_end: Option<Timestamp>, now: Timestamp) -> Self {
        Self {
            settings,
            started_at: now,
            last_good_end,
            next_tick: None,
            running_since: None,
            cycles: VecDeque::new(),
            problems: BTreeMap::new(),
            paused_until: None,
        }
    }

    /// Adds a cycle, and forgets the oldest beyond the limit.
    pub(super) fn record(&mut self, cycle: CycleRecord) {
        self.cycles.push_back(cycle);
        while self.cycles.len() > CYCLES_KEPT {
            self.cycles.pop_front();
        }
    }

    /// Returns whether a cycle that ended with `verdict` speaks for the service. One in which
    /// nobody was due is as good as the one before it.
    pub(super) fn ended_well(&self, verdict: &CycleVerdict) -> bool {
        let mut earlier = self.cycles.iter().rev().map(|cycle| &cycle.verdict);
        let before = earlier.find(|verdict| **verdict != CycleVerdict::Idle);
        match verdict {
            CycleVerdict::Good | CycleVerdict::Partly => true,
            CycleVerdict::Idle => !matches!(before, Some(CycleVerdict::Bad(_))),
            CycleVerdict::Interrupted | CycleVerdict::Bad(_) => false,
        }
    }
}

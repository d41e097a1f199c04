//! What the daemon knows of itself: settings in force, past cycles, open problems.
//!
//! Plain data: `status` guards it, `page` and `metrics` render it, `run_report` tells it to other
//! processes. Absent on purpose: anything that the warehouse knows, which is read from the warehouse.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::problems::{Problem, ShownProblem};
use crate::plan::Timestamp;
use crate::plan::verdict::{CycleVerdict, NeedsLook};
use crate::settings::Settings;
use crate::warehouse::service::{CYCLES_REMEMBERED, LastReload, PastCycle};

#[derive(Clone)]
pub(super) struct ServiceState {
    pub(super) settings: Arc<Settings>,
    pub(super) started_at: Timestamp,
    /// When a cycle last got through its patients, whatever they came to.
    pub(super) last_well_end: Option<Timestamp>,
    pub(super) next_tick: Option<Timestamp>,
    /// When the cycle that runs now began.
    pub(super) running_since: Option<Timestamp>,
    /// The oldest first.
    pub(super) cycles: VecDeque<PastCycle>,
    /// Of the latest cycles, those that the warehouse does not remember yet.
    pub(super) unsaved_cycles: usize,
    /// What needs a person, worded.
    pub(super) problems: BTreeMap<Problem, ShownProblem>,
    /// At the end of the last cycle.
    pub(super) needs_look: NeedsLook,
    /// No request is sent before this moment, because the server does not answer at all.
    pub(super) paused_until: Option<Timestamp>,
    /// What keeps the warehouse from being used.
    pub(super) waits_for: Option<String>,
    pub(super) reloads: u64,
    pub(super) last_reload: Option<LastReload>,
}

impl ServiceState {
    pub(super) fn new(settings: Arc<Settings>, now: Timestamp) -> Self {
        Self {
            settings,
            started_at: now,
            last_well_end: None,
            next_tick: None,
            running_since: None,
            cycles: VecDeque::new(),
            unsaved_cycles: 0,
            problems: BTreeMap::new(),
            needs_look: NeedsLook::default(),
            paused_until: None,
            waits_for: None,
            reloads: 0,
            last_reload: None,
        }
    }

    /// Adds a cycle, and forgets the oldest beyond the limit.
    pub(super) fn record(&mut self, cycle: PastCycle) {
        self.cycles.push_back(cycle);
        self.unsaved_cycles += 1;
        while self.cycles.len() > CYCLES_REMEMBERED {
            self.cycles.pop_front();
        }
        self.unsaved_cycles = self.unsaved_cycles.min(self.cycles.len());
    }

    /// Returns the cycles that the warehouse does not remember yet.
    pub(super) fn unsaved(&self) -> Vec<PastCycle> {
        let saved = self.cycles.len() - self.unsaved_cycles;
        self.cycles.iter().skip(saved).cloned().collect()
    }

    /// Returns when the last wholly good cycle ended, of those that are remembered.
    pub(super) fn last_good_end(&self) -> Option<Timestamp> {
        let last = self.cycles.iter().rev().find(|cycle| cycle.verdict == CycleVerdict::Good)?;
        let took = crate::time::TimeDelta::from_std(last.took).unwrap_or_default();
        Some(last.started_at + crate::time::TimeDelta::seconds(took.num_seconds()))
    }

    /// Returns whether anything or anybody needs a look: then no heartbeat is sent.
    pub(super) fn needs_a_person(&self) -> bool {
        let last_failed =
            matches!(self.cycles.back().map(|cycle| &cycle.verdict), Some(CycleVerdict::Bad(_)));
        !self.problems.is_empty() || self.needs_look.total() > 0 || last_failed
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

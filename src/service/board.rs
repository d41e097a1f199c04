//! What the daemon knows of itself, for onlookers: written by the worker, read by `http`.
//!
//! Absent on purpose: what the warehouse says, which is read from the warehouse.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::health;
use super::health::CycleVerdict;
use super::metrics::Metrics;
use super::problems::Problem;
use crate::cycle::progress::Progress;
use crate::cycle::{PatientCounts, Summary};
use crate::plan::Timestamp;
use crate::settings::Settings;
use crate::warehouse::page::Tally;

/// How many cycles the page draws.
const CYCLES_KEPT: usize = 48;

pub(super) struct Board {
    state: Mutex<State>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) metrics: Metrics,
}

/// All that changes.
#[derive(Clone)]
pub(super) struct State {
    pub(super) settings: Arc<Settings>,
    pub(super) started_at: Timestamp,
    pub(super) last_good_end: Option<Timestamp>,
    pub(super) next_tick: Option<Timestamp>,
    pub(super) under_way_since: Option<Timestamp>,
    /// The oldest first.
    pub(super) cycles: VecDeque<CycleMark>,
    /// What needs a person, worded.
    pub(super) problems: BTreeMap<Problem, String>,
    /// The whole server does not answer, and is left alone until then.
    pub(super) paused_until: Option<Timestamp>,
}

/// One cycle of the past.
#[derive(Clone, Debug)]
pub(super) struct CycleMark {
    pub(super) started_at: Timestamp,
    pub(super) took: Duration,
    pub(super) verdict: CycleVerdict,
    pub(super) patients: PatientCounts,
    pub(super) resources: Tally,
    pub(super) requests: u64,
}

impl Board {
    pub(super) fn new(
        settings: Arc<Settings>,
        last_good_end: Option<Timestamp>,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        let state = State {
            settings,
            started_at: now,
            last_good_end,
            next_tick: None,
            under_way_since: None,
            cycles: VecDeque::new(),
            problems: BTreeMap::new(),
            paused_until: None,
        };
        Ok(Self {
            state: Mutex::new(state),
            progress: watch::channel(Progress::default()).0,
            metrics: Metrics::new()?,
        })
    }

    /// To write to. Never held across an await.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy to read at leisure.
    pub(super) fn look(&self) -> State {
        self.state().clone()
    }

    pub(super) fn cycle_begins(&self, now: Timestamp) {
        self.progress.send_replace(Progress::default());
        self.state().under_way_since = Some(now);
    }

    /// Says whether the cycle ended well.
    pub(super) fn cycle_ends(&self, summary: &Summary, now: Timestamp) -> CycleVerdict {
        let verdict = health::judge(summary);
        self.metrics.count_cycle(summary, &verdict);
        let mut state = self.state();
        let mark = CycleMark {
            started_at: state.under_way_since.take().unwrap_or(now),
            took: summary.took,
            verdict: verdict.clone(),
            patients: summary.patients,
            resources: summary.resources,
            requests: summary.requests,
        };
        // A cycle in which nobody was due is as good as the one before it.
        let before = state
            .cycles
            .iter()
            .rev()
            .map(|mark| &mark.verdict)
            .find(|verdict| **verdict != CycleVerdict::Idle);
        let is_well = match &verdict {
            CycleVerdict::Good | CycleVerdict::Partly => true,
            CycleVerdict::Idle => !matches!(before, Some(CycleVerdict::Bad(_))),
            CycleVerdict::Interrupted | CycleVerdict::Bad(_) => false,
        };
        if is_well {
            state.last_good_end = Some(now);
        }
        state.cycles.push_back(mark);
        while state.cycles.len() > CYCLES_KEPT {
            state.cycles.pop_front();
        }
        verdict
    }

    /// A cycle was asked for, and could not be.
    pub(super) fn no_cycle(&self, why: &str, now: Timestamp) {
        let summary = Summary::default();
        let verdict = CycleVerdict::Bad(why.to_owned());
        self.metrics.count_cycle(&summary, &verdict);
        let mut state = self.state();
        let started_at = state.under_way_since.take().unwrap_or(now);
        let (took, patients, resources) = (Duration::ZERO, PatientCounts::default(), Tally::default());
        state.cycles.push_back(CycleMark { started_at, took, verdict, patients, resources, requests: 0 });
        while state.cycles.len() > CYCLES_KEPT {
            state.cycles.pop_front();
        }
    }
}

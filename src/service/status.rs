//! The daemon's status: written by the worker, read by `http`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::health;
use super::health::CycleVerdict;
use super::metrics::Metrics;
use super::state::{CycleRecord, ServiceState};
use crate::cycle::Summary;
use crate::cycle::progress::Progress;
use crate::plan::Timestamp;
use crate::settings::Settings;

pub(super) struct Status {
    state: Mutex<ServiceState>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) metrics: Metrics,
}

impl Status {
    pub(super) fn new(
        settings: Arc<Settings>,
        last_good_end: Option<Timestamp>,
        now: Timestamp,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            state: Mutex::new(ServiceState::new(settings, last_good_end, now)),
            progress: watch::channel(Progress::default()).0,
            metrics: Metrics::new()?,
        })
    }

    /// Locks the state. Never held across an await.
    pub(super) fn state(&self) -> MutexGuard<'_, ServiceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a copy of the state, so that rendering holds no lock.
    pub(super) fn snapshot(&self) -> ServiceState {
        self.state().clone()
    }

    pub(super) fn cycle_begins(&self, now: Timestamp) {
        self.progress.send_replace(Progress::default());
        self.state().running_since = Some(now);
    }

    /// Records a cycle, and returns how it ended.
    pub(super) fn cycle_ends(&self, summary: &Summary, now: Timestamp) -> CycleVerdict {
        let verdict = health::judge(summary);
        self.metrics.count_cycle(summary, &verdict);
        let mut state = self.state();
        if state.ended_well(&verdict) {
            state.last_good_end = Some(now);
        }
        record(&mut state, summary, verdict.clone(), now);
        verdict
    }

    /// Records a cycle that was due and could not be run.
    pub(super) fn no_cycle(&self, why: &str, now: Timestamp) {
        let summary = Summary::default();
        let verdict = CycleVerdict::Bad(why.to_owned());
        self.metrics.count_cycle(&summary, &verdict);
        record(&mut self.state(), &summary, verdict, now);
    }
}

fn record(state: &mut ServiceState, summary: &Summary, verdict: CycleVerdict, now: Timestamp) {
    let started_at = state.running_since.take().unwrap_or(now);
    state.record(CycleRecord {
        started_at,
        took: summary.took,
        verdict,
        patients: summary.patients,
        resources: summary.resources,
        requests: summary.requests,
    });
}

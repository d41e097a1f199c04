//! The daemon's status: written by the worker, read by `http`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::liveness::SignOfLife;
use super::metrics::Metrics;
use super::state::ServiceState;
use crate::cycle::progress::Progress;
use crate::cycle::{EndedEarly, RosterFault, Summary};
use crate::plan::Timestamp;
use crate::plan::verdict::{CycleEnding, CycleFacts, CycleVerdict, NeedsLook, judge_cycle};
use crate::settings::Settings;
use crate::warehouse::service::PastCycle;

pub(super) struct Status {
    state: Mutex<ServiceState>,
    pub(super) alive: SignOfLife,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) metrics: Metrics,
}

/// How a cycle has left the service.
pub(super) struct CycleOutcome {
    /// Nobody and nothing needs a person.
    pub(super) is_wholly_good: bool,
    pub(super) ended_well: bool,
}

impl Status {
    pub(super) fn new(settings: Arc<Settings>, now: Timestamp) -> anyhow::Result<Self> {
        Ok(Self {
            state: Mutex::new(ServiceState::new(settings, now)),
            alive: SignOfLife::default(),
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

    /// Records a cycle, and returns how it ended. The problems are those that are open now.
    pub(super) fn cycle_ends(
        &self,
        summary: &Summary,
        needs_look: NeedsLook,
        now: Timestamp,
    ) -> CycleOutcome {
        let mut state = self.state();
        let why = summary.ended_early.as_ref().map(ToString::to_string);
        let end = match (&summary.ended_early, &why) {
            (Some(EndedEarly::Stopped), _) => CycleEnding::Stopped,
            (Some(_), Some(why)) => CycleEnding::Early(why),
            _ => CycleEnding::GotThrough,
        };
        let service_has_problem =
            !state.problems.is_empty() || summary.scrub_waits.is_some() || summary.roster_shrunk.is_some();
        let is_old = matches!(summary.roster_fault, Some(RosterFault::Old(_)));
        self.metrics.roster_stale.set(i64::from(is_old));
        let no_records = (!summary.record_problems.is_empty()).then(|| summary.record_problems.join("; "));
        let facts = CycleFacts {
            no_records: no_records.as_deref(),
            patients: summary.patients,
            not_reached: summary.not_reached,
            end,
            needs_look,
            has_problem: service_has_problem,
        };
        let verdict = judge_cycle(&facts);
        self.metrics.count_cycle(summary, &verdict);
        let ended_well = state.ended_well(&verdict);
        if ended_well {
            state.last_well_end = Some(now);
        }
        state.needs_look = needs_look;
        record(&mut state, summary, verdict, now);
        CycleOutcome { is_wholly_good: facts.is_wholly_good(), ended_well }
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
    state.record(PastCycle {
        started_at,
        took: summary.took,
        verdict,
        patients: summary.patients,
        resources: summary.resources,
        requests: summary.requests,
    });
}

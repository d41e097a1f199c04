//! Tells other processes what the daemon is doing: `status`, `check`, `reload`.
//!
//! Absent on purpose: any patient's name, and what the warehouse says already.

use super::state::ServiceState;
use super::worker::Worker;
use crate::cycle::progress::Progress;
use crate::plan::stamp;
use crate::warehouse::service::{CycleUnderWay, OpenProblem, RunReport};
use crate::warehouse::tell_of_service;

impl Worker {
    /// Tells it, if it has changed since it was last told.
    pub(super) fn tell_run_report(&mut self) {
        let report = report_of(&self.status.state(), &self.status.progress.borrow());
        if self.told.as_ref() == Some(&report) || self.only_daemon.is_none() {
            return;
        }
        // On a full disk the lock still says that it is alive.
        if let Err(failed) = tell_of_service(&self.daemon.place, &report) {
            tracing::debug!("what the service does could not be told: {failed}");
        }
        self.told = Some(report);
    }
}

fn report_of(state: &ServiceState, progress: &Progress) -> RunReport {
    let cycle = state.running_since.map(|since| CycleUnderWay {
        since: stamp(since),
        done: progress.done,
        total: progress.total,
        resources: progress.resources,
    });
    let problems = state.problems.iter().map(|(problem, shown)| OpenProblem {
        kind: problem.as_str().to_owned(),
        since: stamp(shown.since),
        title: problem.title().to_owned(),
    });
    RunReport {
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: Some(stamp(state.started_at)),
        config: state.settings.file.as_ref().map(|file| file.display().to_string()),
        next_cycle_at: state.next_tick.map(stamp),
        cycle,
        paused_until: state.paused_until.map(stamp),
        waits_for: state.waits_for.clone(),
        problems: problems.collect(),
        reloads: state.reloads,
        last_reload: state.last_reload.clone(),
    }
}

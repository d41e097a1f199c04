//! Cycles that another process leads, or has run: what this one does of them, and learns.
//!
//! Absent on purpose: alerts and the heartbeat of the whole, which whoever leads sends.

use std::sync::Arc;

use super::liveness::Activity;
use super::worker::Worker;
use crate::clock;
use crate::cycle::Summary;
use crate::plan::Timestamp;
use crate::warehouse::Warehouse;

impl Worker {
    /// Takes part in the cycle that another process leads, where there is one.
    pub(super) async fn join_cycle(&mut self, pid: &str) -> anyhow::Result<Option<Arc<Warehouse>>> {
        let place = self.daemon.place.clone();
        let joining = async move { Warehouse::join(&place, clock::now()).await };
        let Some(joined) = self.supervise(Activity::Disk, Box::pin(joining)).await else { return Ok(None) };
        match joined {
            Ok(Some(warehouse)) => {
                tracing::info!("taking part in the cycle that another process leads (pid {pid})");
                Ok(Some(Arc::new(warehouse)))
            }
            Ok(None) => {
                tracing::warn!("the warehouse is in use (pid {pid}): this cycle is left out");
                self.status.metrics.count_skipped(1);
                Ok(None)
            }
            Err(failed) => self.skip_tick(failed).map(|()| None),
        }
    }

    /// Takes in what this process did of a cycle that another leads: whatever is to be told of it as a whole, that one
    /// tells.
    pub(super) async fn after_part(
        &mut self,
        summary: &Summary,
        warehouse: &Warehouse,
        now: Timestamp,
    ) -> anyhow::Result<()> {
        self.resolve_or_raise(summary);
        let needs_look = self.status.state().needs_look;
        self.status.cycle_ends(summary, needs_look, now);
        self.update_outage(summary, now);
        self.learn_of_others(warehouse).await
    }

    /// Takes in when a cycle last ended well, by whomever it was led.
    pub(super) async fn learn_of_others(&self, warehouse: &Warehouse) -> anyhow::Result<()> {
        match warehouse.cycle_times().await {
            Ok(times) => {
                let mut state = self.status.state();
                state.running_since = None;
                state.last_well_end = state.last_well_end.max(times.last_good_end);
            }
            Err(failed) => tracing::warn!("how other workers' cycles ended cannot be read: {failed}"),
        }
        Ok(())
    }
}

//! Cycles that another process leads, or has run: what this one does of them, and learns.
//!
//! Absent on purpose: alerts and the heartbeat of the whole, which whoever leads sends.

use super::worker::Worker;
use crate::cycle::Summary;
use crate::plan::Timestamp;
use crate::warehouse::Warehouse;

impl Worker {
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

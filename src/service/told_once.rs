//! What is told once, by whichever process comes to it first: the warehouse knows what has been.

use super::problems::{Alert, NAMES_MAX, Occasion, expiring_alert};
use super::worker::Worker;
use crate::plan::Timestamp;
use crate::time::TimeDelta;
use crate::warehouse::Warehouse;

impl Worker {
    /// Tells once a day whose consent runs out soon.
    pub(super) async fn tell_expiring(&self, warehouse: &Warehouse, now: Timestamp) {
        let warning = TimeDelta::from_std(self.daemon.settings.roster.consent_warning).unwrap_or_default();
        match warehouse.tell_expiring(now + warning, NAMES_MAX, now).await {
            Ok(Some(expiring)) => self.send(&expiring_alert(&expiring, now)),
            Ok(None) => {}
            Err(failed) => tracing::error!("whose consent runs out cannot be told: {failed}"),
        }
    }

    /// Tells that the database has failed over, which was logged when it was noticed.
    pub(super) async fn tell_failover(&self, warehouse: &Warehouse) {
        match warehouse.tell_failover().await {
            Ok(Some(failover)) => {
                let (text, since) = (failover.to_string(), failover.noticed_at);
                self.send(&Alert { occasion: Occasion::Failover, text, since });
            }
            Ok(None) => {}
            Err(failed) => tracing::error!("that the database has failed over cannot be told: {failed}"),
        }
    }
}

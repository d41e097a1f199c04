//! The attempts of one request. `backon` gives the growing delays, `plan` decides about each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::pause::SharedPause;
use super::{FailureStage, RequestFailed};
use crate::machine;
use crate::plan::retry::{AfterFailure, after_failure};
use crate::settings::ApiLimits;
use crate::stop::Stop;

/// The attempts of one request: how many are left, and how long to wait before the next.
pub(crate) struct Attempts {
    delays: ExponentialBackoff,
    retry_max: Duration,
    pause: Arc<SharedPause>,
    /// Counts them for all requests.
    retries: Arc<AtomicU64>,
}

impl Attempts {
    pub(super) fn new(
        limits: ApiLimits,
        attempts: usize,
        pause: Arc<SharedPause>,
        retries: Arc<AtomicU64>,
    ) -> Self {
        let delays = ExponentialBuilder::default()
            .with_min_delay(limits.retry_initial)
            .with_max_delay(limits.retry_max)
            .with_factor(2.0)
            .with_max_times(attempts.saturating_sub(1))
            .build();
        Self { delays, retry_max: limits.retry_max, pause, retries }
    }

    /// Waits until the request may be tried again, or returns the failure.
    pub(crate) async fn wait(&mut self, failed: RequestFailed, stop: &Stop) -> Result<(), RequestFailed> {
        let RequestFailed::Transient { what, retry_after, stage } = failed else {
            return Err(failed);
        };
        let is_shared = stage == FailureStage::RateLimited && retry_after.is_some();
        match after_failure(self.delays.next(), retry_after, self.retry_max, machine::chance()) {
            AfterFailure::GiveUp => Err(RequestFailed::Transient { what, retry_after, stage }),
            AfterFailure::TooLong(wait) => Err(RequestFailed::WaitTooLong {
                what,
                wait,
                all_workers: stage == FailureStage::RateLimited,
            }),
            AfterFailure::Wait(wait) => {
                if is_shared {
                    self.pause.extend(wait);
                }
                tracing::debug!(wait_ms = wait.as_millis(), "{what}: trying again");
                if !stop.sleep(wait).await {
                    return Err(RequestFailed::Stopped);
                }
                self.retries.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

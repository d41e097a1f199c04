//! The attempts of one request. `backon` gives the growing delays, `plan` what becomes of one.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use super::client::Api;
use super::{Reach, RequestFailed};
use crate::plan::retry::{AfterFailure, after_failure};
use crate::settings::ApiLimits;
use crate::stop::Stop;

/// The attempts of one request: how many are left, and how long to wait before the next.
pub struct Attempts {
    delays: ExponentialBackoff,
    retry_max: Duration,
}

impl Attempts {
    pub(super) fn new(limits: ApiLimits, attempts: usize) -> Self {
        let delays = ExponentialBuilder::default()
            .with_min_delay(limits.retry_initial)
            .with_max_delay(limits.retry_max)
            .with_factor(2.0)
            .with_max_times(attempts.saturating_sub(1))
            .build();
        Self { delays, retry_max: limits.retry_max }
    }

    /// Waits until it may be tried again, or gives the failure back.
    pub async fn wait(&mut self, failed: RequestFailed, api: &Api, stop: &Stop) -> Result<(), RequestFailed> {
        let RequestFailed::Transient { what, retry_after, reach } = failed else {
            return Err(failed);
        };
        let is_shared = reach == Reach::TooMany && retry_after.is_some();
        match after_failure(self.delays.next(), retry_after, self.retry_max, rand::random()) {
            AfterFailure::GiveUp => Err(RequestFailed::Transient { what, retry_after, reach }),
            AfterFailure::TooLong(wait) => {
                Err(RequestFailed::WaitTooLong { what, wait, all_workers: reach == Reach::TooMany })
            }
            AfterFailure::Wait(wait) => {
                if is_shared {
                    api.pause_all(wait);
                }
                tracing::debug!(wait_ms = wait.as_millis(), "{what}: trying again");
                if stop.sleep(wait).await { Ok(()) } else { Err(RequestFailed::Stopped) }
            }
        }
    }
}

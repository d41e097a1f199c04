//! The wait that the server has asked of everybody: one for all workers.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::RequestFailed;
use crate::clock::Instant;
use crate::stop::Stop;

#[derive(Debug, Default)]
pub(super) struct SharedPause {
    /// Nobody sends anything before this.
    until: Mutex<Option<Instant>>,
}

impl SharedPause {
    /// Lets all workers wait at least this long from now.
    pub(super) fn extend(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut paused = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = Some(paused.map_or(until, |earlier| earlier.max(until)));
    }

    /// Waits until the pause is over, or until the program is asked to end.
    pub(super) async fn wait_out(&self, stop: &Stop) -> Result<(), RequestFailed> {
        if stop.is_asked() {
            return Err(RequestFailed::Stopped);
        }
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(wait) = until.and_then(|until| until.checked_duration_since(Instant::now())) else {
            return Ok(());
        };
        if stop.sleep(wait).await { Ok(()) } else { Err(RequestFailed::Stopped) }
    }
}

//! What systemd is told: ready, alive, what is being done, reloading, stopping.
//!
//! Without `$NOTIFY_SOCKET` there is nobody to tell, and all of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// The service manager, as one process talks to it.
#[derive(Default)]
pub(super) struct Systemd {
    /// What was last said, so that it is not repeated.
    status: String,
}

impl Systemd {
    pub(super) fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    pub(super) fn status(&mut self, status: String) {
        if status != self.status {
            tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    pub(super) fn feed_watchdog(&self) {
        tell(&[NotifyState::Watchdog]);
    }

    pub(super) fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(failed) => tracing::debug!("the monotonic clock cannot be read: {failed}"),
        }
    }

    pub(super) fn stopping(&mut self) {
        tell(&[NotifyState::Stopping]);
        self.status("stopping".to_owned());
    }
}

/// How often systemd wants to hear of us.
pub(super) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(failed) = sd_notify::notify(states) {
        tracing::debug!("systemd could not be told: {failed}");
    }
}

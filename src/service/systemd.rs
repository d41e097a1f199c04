//! What systemd is told: ready, alive, what is being done, reloading, stopping.
//!
//! Without `$NOTIFY_SOCKET` there is nobody to tell, and all of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Once a second before `ready`.
pub(super) fn still_starting() {
    tell(&[
        NotifyState::ExtendTimeoutUsec(START_PATIENCE_USEC),
        NotifyState::Status("opening the warehouse"),
    ]);
}

const START_PATIENCE_USEC: u32 = 60_000_000;

pub(super) fn feed_watchdog() {
    tell(&[NotifyState::Watchdog]);
}

pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(failed) => tracing::debug!("the monotonic clock cannot be read: {failed}"),
    }
}

/// The sentence that `systemctl status` shows.
#[derive(Default)]
pub(super) struct Status {
    /// What was last said, so that it is not repeated.
    said: String,
}

impl Status {
    pub(super) fn say(&mut self, status: String) {
        if status != self.said {
            tell(&[NotifyState::Status(&status)]);
            self.said = status;
        }
    }

    pub(super) fn stopping(&mut self) {
        tell(&[NotifyState::Stopping]);
        self.say("stopping".to_owned());
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

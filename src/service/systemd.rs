//! Notifies systemd: ready, alive, status, reloading, stopping.
//!
//! Without `$NOTIFY_SOCKET` there is nobody to notify, and all of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Asks for more time to start. To be called once a second before `ready`.
pub(super) fn still_starting() {
    notify(&[
        NotifyState::ExtendTimeoutUsec(START_PATIENCE_USEC),
        NotifyState::Status("opening the warehouse"),
    ]);
}

const START_PATIENCE_USEC: u32 = 60_000_000;

pub(super) fn feed_watchdog() {
    notify(&[NotifyState::Watchdog]);
}

pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(failed) => tracing::debug!("the monotonic clock cannot be read: {failed}"),
    }
}

/// The sentence that `systemctl status` shows.
#[derive(Default)]
pub(super) struct StatusLine {
    /// The last text sent, so that it is not repeated.
    sent: String,
}

impl StatusLine {
    pub(super) fn set(&mut self, status: String) {
        if status != self.sent {
            notify(&[NotifyState::Status(&status)]);
            self.sent = status;
        }
    }

    pub(super) fn stopping(&mut self) {
        notify(&[NotifyState::Stopping]);
        self.set("stopping".to_owned());
    }
}

/// Returns the interval in which systemd expects a sign of life, if it watches.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(failed) = sd_notify::notify(states) {
        tracing::debug!("systemd could not be notified: {failed}");
    }
}

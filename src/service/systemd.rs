//! Notifies systemd: ready, alive, status, reloading, stopping.
//!
//! Without `$NOTIFY_SOCKET` there is nobody to notify, and all of it does nothing.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
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
    let abstract_name = std::env::var_os("NOTIFY_SOCKET")
        .and_then(|socket| socket.as_bytes().strip_prefix(b"@").map(<[u8]>::to_vec));
    let told = match abstract_name {
        Some(name) => notify_abstract(&name, states),
        None => sd_notify::notify(states),
    };
    if let Err(failed) = told {
        tracing::debug!("systemd could not be notified: {failed}");
    }
}

/// A name that begins with `@` is no path: it is of the kernel's own, as containers have it.
fn notify_abstract(name: &[u8], states: &[NotifyState<'_>]) -> std::io::Result<()> {
    let message = states.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n") + "\n";
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?;
    socket.send(message.as_bytes()).map(drop)
}

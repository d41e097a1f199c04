//! Notifies systemd: ready, alive, status, reloading, stopping.
//!
//! Without `$NOTIFY_SOCKET` there is nobody to notify, and all of it does nothing.

use std::ffi::OsStr;
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

/// What must not be lost waits so long for a manager that is slow to read.
const PATIENCE: Duration = Duration::from_secs(2);

fn notify(states: &[NotifyState<'_>]) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(failed) = send(name.as_bytes(), states) {
        tracing::debug!("systemd could not be notified: {failed}");
    }
}

/// Sends, and does not wait for room where nobody reads: the next status or sign of life comes by itself.
fn send(name: &[u8], states: &[NotifyState<'_>]) -> std::io::Result<()> {
    let message = states.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n") + "\n";
    // A name that begins with `@` is no path: it is of the kernel's own, as containers have it.
    let address = match name.strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(OsStr::from_bytes(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    let is_awaited = |state: &NotifyState<'_>| matches!(state, NotifyState::Ready | NotifyState::Reloading);
    if states.iter().any(is_awaited) {
        socket.set_write_timeout(Some(PATIENCE))?;
    } else {
        socket.set_nonblocking(true)?;
    }
    socket.send(message.as_bytes()).map(drop)
}

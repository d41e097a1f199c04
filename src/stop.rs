//! Ends the program at a signal: first gently, then at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::clock;

/// Pages in flight are given this long after the first signal.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// Cancelled when no new request may begin.
    pub(crate) gently: CancellationToken,
    /// Cancelled when requests in flight are to be dropped.
    pub(crate) at_once: CancellationToken,
}

impl Stop {
    pub(crate) fn is_asked(&self) -> bool {
        self.gently.is_cancelled()
    }

    /// Waits. Returns false if the program was asked to end meanwhile.
    pub(crate) async fn sleep(&self, wait: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.gently.cancelled() => false,
            () = clock::sleep(wait) => true,
        }
    }

    /// Listens for SIGTERM and SIGINT; a second signal ends everything at once.
    pub(crate) fn on_signals() -> std::io::Result<Self> {
        let stop = Self::default();
        let mut signals = TerminationSignals::listen()?;
        let asked = stop.clone();
        tokio::spawn(async move {
            signals.next().await;
            tracing::info!("asked to stop: pages in flight are given {} s", GRACE.as_secs());
            asked.gently.cancel();
            tokio::select! {
                () = signals.next() => {}
                () = clock::sleep(GRACE) => {}
            }
            asked.at_once.cancel();
        });
        Ok(stop)
    }
}

/// SIGTERM and SIGINT, which no longer end the process by themselves.
pub(crate) struct TerminationSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl TerminationSignals {
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {}, _ = self.interrupt.recv() => {} }
    }
}

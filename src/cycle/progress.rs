//! How far a cycle under way has come, for onlookers. Nothing is decided by it.

use std::sync::Arc;

use tokio::sync::watch;

use crate::pull::Pace;

#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    pub total: u64,
    pub done: u64,
    pub resources: u64,
    /// The pulls under way, the oldest first.
    pub pulls: Vec<PullUnderWay>,
}

#[derive(Clone, Debug)]
pub(crate) struct PullUnderWay {
    pub name: String,
    pub pace: Arc<Pace>,
}

/// Shows a pull to onlookers until this is dropped, by a panic too.
pub(super) struct Onlookers<'p> {
    progress: &'p watch::Sender<Progress>,
    pub(super) pace: Arc<Pace>,
}

impl<'p> Onlookers<'p> {
    pub(super) fn show(progress: &'p watch::Sender<Progress>, name: &str) -> Self {
        let pace = Arc::new(Pace::default());
        let pull = PullUnderWay { name: name.to_owned(), pace: pace.clone() };
        progress.send_modify(|progress| progress.pulls.push(pull));
        Self { progress, pace }
    }
}

impl Drop for Onlookers<'_> {
    fn drop(&mut self) {
        self.progress
            .send_modify(|progress| progress.pulls.retain(|pull| !Arc::ptr_eq(&pull.pace, &self.pace)));
    }
}

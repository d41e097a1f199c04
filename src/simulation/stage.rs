//! The stage: what the program is given in the machine's place, on the thread of a simulation.
//!
//! Each life of the simulated process has a runtime with a paused clock. What lasts longer than a life
//! (the true time, the dice, the server) is here.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use url::Url;

use super::network::{Answer, Cut, Network};
use crate::clock::Instant;

thread_local! {
    static STAGE: RefCell<Option<Arc<Stage>>> = const { RefCell::new(None) };
}

/// What the program runs on.
pub(crate) struct Stage {
    state: Mutex<State>,
    pub(super) network: Network,
}

struct State {
    /// The true time when the life at hand began, and the moment of its runtime.
    began: (DateTime<Utc>, Option<Instant>),
    /// How far our clock is ahead of the true time.
    clock_offset: TimeDelta,
    dice: StdRng,
    told: Vec<Told>,
}

/// An alert, as an operator was told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) at: DateTime<Utc>,
    pub(super) phase: &'static str,
    pub(super) problem: &'static str,
    pub(super) text: String,
}

/// Takes the stage away from the thread when it is dropped.
pub(super) struct Set(());

impl Drop for Set {
    fn drop(&mut self) {
        STAGE.set(None);
    }
}

impl Stage {
    pub(super) fn new(seed: u64, begins: DateTime<Utc>, network: Network) -> Arc<Self> {
        let state = State {
            began: (begins, None),
            clock_offset: TimeDelta::zero(),
            dice: StdRng::seed_from_u64(seed),
            told: Vec::new(),
        };
        Arc::new(Self { state: Mutex::new(state), network })
    }

    /// Sets the stage for this thread.
    pub(super) fn set(self: &Arc<Self>) -> Set {
        STAGE.set(Some(self.clone()));
        Set(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time by a clock that is never wrong.
    pub(super) fn true_time(&self) -> DateTime<Utc> {
        let (began, instant) = self.state().began;
        let passed = instant.map(|instant| instant.elapsed()).unwrap_or_default();
        began + TimeDelta::from_std(passed).unwrap_or_default()
    }

    /// Begins a life of the process, in the runtime at hand.
    pub(super) fn life_begins(&self) {
        self.state().began.1 = Some(Instant::now());
    }

    /// Ends it, still in its runtime.
    pub(super) fn life_ends(&self) {
        let now = self.true_time();
        self.state().began = (now, None);
    }

    pub(super) fn clock_offset(&self) -> TimeDelta {
        self.state().clock_offset
    }

    pub(super) fn roll<T>(&self, roll: impl FnOnce(&mut StdRng) -> T) -> T {
        roll(&mut self.state().dice)
    }

    pub(super) fn take_told(&self) -> Vec<Told> {
        std::mem::take(&mut self.state().told)
    }
}

pub(super) fn current() -> Option<Arc<Stage>> {
    STAGE.with_borrow(Clone::clone)
}

/// Returns whether a simulation runs on this thread.
pub(crate) fn is_set() -> bool {
    STAGE.with_borrow(Option::is_some)
}

/// What the wall clock of the simulated machine says.
pub(crate) fn now() -> Option<DateTime<Utc>> {
    let stage = current()?;
    let offset = stage.clock_offset();
    Some(stage.true_time() + offset)
}

/// The true time, for the server.
pub(super) fn true_time() -> DateTime<Utc> {
    current().map(|stage| stage.true_time()).unwrap_or_default()
}

/// Sends a request over the simulated network.
pub(crate) async fn send(url: Url, headers: HeaderMap, json: Option<String>) -> Result<Answer, Cut> {
    let cut = Cut { what: "no connection to HealthEx", cause: "there is no stage" };
    let stage = current().ok_or(cut)?;
    let latency = Duration::from_millis(stage.roll(|dice| dice.random_range(5..150)));
    stage.network.send(url, headers, json, latency).await
}

pub(crate) fn chance() -> Option<f64> {
    Some(current()?.roll(Rng::random))
}

pub(crate) fn unique() -> Option<u128> {
    Some(current()?.roll(Rng::random))
}

/// Takes note of an alert in place of `[alert] command`. Returns false without a simulation.
pub(crate) fn tell(phase: &'static str, problem: &'static str, text: &str) -> bool {
    let Some(stage) = current() else { return false };
    let at = stage.true_time();
    stage.state().told.push(Told { at, phase, problem, text: text.to_owned() });
    true
}

//! The stage: what the program is given in the machine's place, on the thread of a simulation.
//!
//! Each life of the simulated process has a runtime with a paused clock. What lasts longer than a life
//! (the true time, the dice, the server) is here.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{Notify, mpsc};
use url::Url;

use super::network::{Answer, Cut, Network};
use crate::clock::Instant;
use crate::time::{TimeDelta, Timestamp};

thread_local! {
    static STAGE: RefCell<Option<Arc<Stage>>> = const { RefCell::new(None) };
}

/// What the program runs on.
pub(crate) struct Stage {
    state: Mutex<State>,
    pub(super) network: Network,
    /// Where the program keeps its files.
    files: PathBuf,
    died: Notify,
}

struct State {
    /// The true time when the life at hand began, and the moment of its runtime.
    began: (Timestamp, Option<Instant>),
    /// How far our clock is ahead of the true time, since when; the last is that of now.
    clock_offsets: Vec<(Timestamp, TimeDelta)>,
    dice: StdRng,
    told: Vec<Told>,
    death: Death,
    disk_is_full: bool,
    /// Where the daemon hears of SIGHUP.
    hangups: Option<mpsc::Sender<()>>,
}

/// When the process dies.
#[derive(Clone, Debug, Default)]
struct Death {
    /// At so many awaits on the network or commits from now.
    in_points: Option<u32>,
    /// At so many of them after the next refusal of somebody who was asked again.
    after_a_refusal: Option<u32>,
    /// At so many of them from when the next purge is about to be committed.
    at_a_purge: Option<u32>,
    has_come: bool,
}

/// An alert, as an operator was told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) at: Timestamp,
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
    pub(super) fn new(seed: u64, begins: Timestamp, network: Network, files: PathBuf) -> Arc<Self> {
        let state = State {
            began: (begins, None),
            clock_offsets: vec![(begins, TimeDelta::zero())],
            dice: StdRng::seed_from_u64(seed),
            told: Vec::new(),
            death: Death::default(),
            disk_is_full: false,
            hangups: None,
        };
        Arc::new(Self { state: Mutex::new(state), network, files, died: Notify::new() })
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
    pub(super) fn true_time(&self) -> Timestamp {
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
        self.state().clock_offsets.last().map(|(_, offset)| *offset).unwrap_or_default()
    }

    pub(super) fn roll<T>(&self, roll: impl FnOnce(&mut StdRng) -> T) -> T {
        roll(&mut self.state().dice)
    }

    pub(super) fn step_clock(&self, by: TimeDelta) {
        let (now, offset) = (self.true_time(), self.clock_offset() + by);
        self.state().clock_offsets.push((now, offset));
    }

    /// Returns the true time at which our clock showed this second, the last one if there are several.
    pub(super) fn true_time_of(&self, ours: Timestamp) -> Timestamp {
        let state = self.state();
        let ends = |offset: TimeDelta| ours - offset + TimeDelta::seconds(1);
        let mut at = state.clock_offsets.iter().rev().map(|(since, offset)| (*since, ends(*offset)));
        at.find(|(since, at)| since <= at).map_or(ours, |(_, at)| at)
    }

    pub(super) fn set_disk_full(&self, is_full: bool) {
        self.state().disk_is_full = is_full;
    }

    pub(super) fn hear_hangups(&self, heard: mpsc::Sender<()>) {
        self.state().hangups = Some(heard);
    }

    /// Tells the daemon to read its configuration again.
    pub(super) fn hang_up(&self) {
        if let Some(heard) = &self.state().hangups {
            let _ = heard.try_send(());
        }
    }

    /// Lets the process die at the so-many-th await on the network, or commit, from now on.
    pub(super) fn die_in(&self, points: u32) {
        self.state().death.in_points = Some(points);
    }

    /// Lets it live, whatever was said before.
    pub(super) fn live_on(&self) {
        self.state().death = Death::default();
    }

    pub(super) fn die_after_a_refusal(&self, points: u32) {
        self.state().death.after_a_refusal = Some(points);
    }

    pub(super) fn die_at_a_purge(&self, points: u32) {
        self.state().death.at_a_purge = Some(points);
    }

    /// Somebody was asked again, and refused again.
    fn refused_again(&self) {
        let death = &mut self.state().death;
        if let Some(points) = death.after_a_refusal.take() {
            death.in_points = Some(points);
        }
    }

    /// Waits until it has died.
    pub(super) async fn death(&self) {
        self.died.notified().await;
    }

    /// Returns whether it has died, and is not buried yet.
    pub(super) fn has_died(&self) -> bool {
        self.state().death.has_come
    }

    /// Comes to a point at which the process may die. Returns whether it has died.
    ///
    /// What it leaves is what is in its files in this moment. Whatever the rest of it still does,
    /// it does to files that are thrown away.
    fn come_to_a_point(&self) -> bool {
        let mut state = self.state();
        match &mut state.death {
            Death { has_come: true, .. } => return true,
            Death { in_points: Some(points), .. } if *points > 1 => *points -= 1,
            death @ Death { in_points: Some(_), .. } => {
                *death = Death { has_come: true, ..Death::default() };
                drop(state);
                copy_files(&self.files, &self.left_behind());
                self.died.notify_one();
                return true;
            }
            Death { in_points: None, .. } => {}
        }
        false
    }

    fn left_behind(&self) -> PathBuf {
        self.files.with_extension("left-behind")
    }

    /// Puts what the dead process has left behind in its place. Everything of the process is gone by now.
    pub(super) fn bury(&self) {
        self.state().death = Death::default();
        std::fs::remove_dir_all(&self.files).unwrap();
        std::fs::rename(self.left_behind(), &self.files).unwrap();
    }

    pub(super) fn take_told(&self) -> Vec<Told> {
        std::mem::take(&mut self.state().told)
    }
}

/// Copies all files and the folders of orders, but not what holds locks, nor the index of a WAL, which no crash leaves.
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let file = entry.unwrap().path();
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if file.is_dir() {
            copy_files(&file, &to.join(&name));
            std::fs::set_permissions(to.join(&name), file.metadata().unwrap().permissions()).unwrap();
        } else if !name.ends_with("-shm") && !name.contains(".lock") {
            std::fs::copy(&file, to.join(name)).unwrap();
        }
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
pub(crate) fn now() -> Option<Timestamp> {
    let stage = current()?;
    let offset = stage.clock_offset();
    Some(stage.true_time() + offset)
}

/// The true time, for the server.
pub(super) fn true_time() -> Timestamp {
    current().map(|stage| stage.true_time()).unwrap_or_default()
}

/// Sends a request over the simulated network.
pub(crate) async fn send(url: Url, headers: HeaderMap, json: Option<String>) -> Result<Answer, Cut> {
    let cut = Cut { what: "no connection to HealthEx", cause: "there is no stage" };
    let stage = current().ok_or(cut)?;
    let latency = Duration::from_millis(stage.roll(|dice| dice.random_range(5..150)));
    live_or_die(&stage).await;
    let answer = stage.network.send(url, headers, json, latency, || stage.true_time()).await;
    if stage.network.has_just_refused() {
        stage.refused_again();
    }
    live_or_die(&stage).await;
    answer
}

async fn live_or_die(stage: &Stage) {
    if stage.come_to_a_point() {
        std::future::pending::<()>().await;
    }
}

/// How long the disk is busy with a commit. What comes meanwhile shares the next one.
pub(crate) fn commit_takes() -> Duration {
    current().map_or(Duration::ZERO, |stage| {
        Duration::from_millis(stage.roll(|dice| dice.random_range(5..COMMIT_TAKES_MAX)))
    })
}

/// In milliseconds.
const COMMIT_TAKES_MAX: u64 = 150;

/// Called before and after a commit: the process may die here.
pub(crate) fn beside_a_commit() {
    if let Some(stage) = current() {
        stage.come_to_a_point();
    }
}

/// Called before the commit of a purge, whose line is in the ledger by now.
pub(crate) fn before_a_purge() {
    if let Some(stage) = current() {
        let death = &mut stage.state().death;
        if let Some(points) = death.at_a_purge.take() {
            death.in_points = Some(points);
        }
    }
    beside_a_commit();
}

/// Returns whether files may not grow.
pub(crate) fn is_disk_full() -> bool {
    current().is_some_and(|stage| stage.state().disk_is_full)
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

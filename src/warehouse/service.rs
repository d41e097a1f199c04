//! The words for what the service remembers of itself, and for what it tells of itself meanwhile.

use std::time::Duration;

use super::page::Tally;
use crate::plan::verdict::{CycleVerdict, PatientCounts};
use crate::plan::{PersonId, Timestamp};

/// One cycle of the past.
#[derive(Clone, Debug, PartialEq)]
pub struct PastCycle {
    pub started_at: Timestamp,
    pub took: Duration,
    pub verdict: CycleVerdict,
    pub patients: PatientCounts,
    pub resources: Tally,
    pub requests: u64,
}

/// Something that needs a person, as it is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownProblem {
    pub kind: String,
    pub since: Timestamp,
    pub told_at: Timestamp,
    /// Names no patient.
    pub text: Option<String>,
    /// Those that somebody was told of.
    pub patients: Vec<NamedPatient>,
}

/// A patient, and the name it goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPatient {
    pub person: PersonId,
    pub name: String,
}

/// What the service remembers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceMemory {
    /// The latest, the oldest of them first.
    pub cycles: Vec<PastCycle>,
    pub problems: Vec<KnownProblem>,
}

/// So many cycles are remembered.
pub const CYCLES_REMEMBERED: usize = 48;

/// What is to be remembered at the end of a cycle.
#[derive(Clone, Debug, Default)]
pub struct ServiceNote {
    /// Set where the cycle ended well, and when.
    pub well_end: Option<Timestamp>,
    /// Those that are not remembered yet.
    pub cycles: Vec<PastCycle>,
    /// All that there are.
    pub problems: Vec<KnownProblem>,
}

/// What a running service tells of itself, for who asks from outside. Names no patient.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct RunReport {
    pub pid: u32,
    pub version: String,
    pub started_at: Option<String>,
    /// The configuration in force; `None` is the defaults.
    pub config: Option<String>,
    pub next_cycle_at: Option<String>,
    pub cycle: Option<CycleUnderWay>,
    /// Nothing is asked before this, because the server does not answer.
    pub paused_until: Option<String>,
    /// What keeps the warehouse from being used.
    pub waits_for: Option<String>,
    pub problems: Vec<OpenProblem>,
    /// How often configuration and rosters were read again.
    pub reloads: u64,
    pub last_reload: Option<LastReload>,
}

/// The cycle under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CycleUnderWay {
    pub since: String,
    pub done: u64,
    pub total: u64,
    pub resources: u64,
}

/// Something that needs a person, in a few words.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OpenProblem {
    pub kind: String,
    pub since: String,
    pub title: String,
}

/// How the last reading of configuration and rosters went.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LastReload {
    pub at: String,
    /// Why the former ones are still in force.
    pub failed: Option<String>,
    /// Keys that are in force only after a restart.
    pub needs_restart: Vec<String>,
}

/// What `status` and `check` tell of the service.
#[derive(Clone, Debug)]
pub struct ServiceView {
    pub run: RunState,
    /// When the last cycle began, of `run` or of `sync`.
    pub last_cycle_at: Option<Timestamp>,
    /// When a cycle of `run` last ended well.
    pub last_well_end: Option<Timestamp>,
    pub memory: ServiceMemory,
    /// When the oldest pull began that is still known.
    pub first_pull_at: Option<Timestamp>,
}

/// Whether a `run` is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    Alive {
        pid: String,
        /// `None` where it has told nothing yet, or is of an older version.
        report: Option<RunReport>,
    },
    NotRunning {
        /// What the last one told before it ended.
        last: Option<RunReport>,
    },
    /// Its lock cannot be looked at, and why.
    Unknown(String),
}

//! What is told of the workers that share a roster, and of the cycle that they are at.

use std::fmt;

use super::turn::SharedProgress;
use crate::plan::Timestamp;
use crate::wording::counted;

/// The workers of a warehouse on a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkersTold {
    /// The cycle under way, if one is.
    pub(crate) cycle: Option<SharedProgress>,
    /// Those of the last day, the one that leads first.
    pub workers: Vec<WorkerTold>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerTold {
    pub host: String,
    pub pid: i64,
    pub version: String,
    pub started_at: Timestamp,
    pub seen_at: Timestamp,
    /// What kept it from asking, in the last cycle that it took part in.
    pub problem: Option<String>,
    pub is: WorkerIs,
    /// How many patients it is dealing with.
    pub patients: u64,
}

/// What a worker is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerIs {
    Leading,
    /// It takes part in the cycle under way.
    AtWork,
    /// No cycle is under way, or it is not in it.
    Waiting,
}

impl WorkerIs {
    /// Returns the word for people, JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leading => "leading",
            Self::AtWork => "at work",
            Self::Waiting => "waiting",
        }
    }
}

impl fmt::Display for WorkerTold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, pid, version, is, patients, problem, .. } = self;
        write!(f, "{} (pid {pid}, {version}): {}", host.escape_default(), is.as_str())?;
        if *patients > 0 {
            write!(f, ", {patients} patients")?;
        }
        match problem {
            Some(problem) => write!(f, "; {problem}"),
            None => Ok(()),
        }
    }
}

impl WorkersTold {
    /// Says how far the cycle under way is, if one is.
    pub(crate) fn describe_cycle(&self) -> Option<String> {
        let SharedProgress { given_out, total, .. } = self.cycle?;
        let workers = self.workers.iter().filter(|worker| worker.is != WorkerIs::Waiting).count();
        let counted = counted(workers, "worker", "workers");
        Some(format!(
            "a cycle is under way by {counted}: {given_out} of {total} patients have had or have their turn"
        ))
    }
}

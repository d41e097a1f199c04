//! What a pull is told to do, and what it is given to do it with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::healthex::client::Api;
use crate::plan::checkpoint::UnfinishedPull;
use crate::plan::completeness::{ShortSince, Walk};
use crate::plan::{PersonId, PullMode, Timestamp, TypeFilter};
use crate::stop::Stop;
use crate::warehouse::Warehouse;

/// What one pull is to do.
#[derive(Clone, Debug)]
pub(crate) struct PullPlan {
    pub person: PersonId,
    pub mode: PullMode,
    pub types: TypeFilter,
    pub since: Option<Timestamp>,
    pub resume: Option<ResumePoint>,
    /// Since when every pull of the patient was short.
    pub short_since: Option<ShortSince>,
}

/// An interrupted pull, and what its walks have seen.
#[derive(Clone, Debug)]
pub(crate) struct ResumePoint {
    pub unfinished: UnfinishedPull,
    pub next_url: String,
    pub walks: Vec<Walk>,
}

/// The limits of `[sync]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PullRules {
    /// `_count`; `None` asks for one streamed answer.
    pub page_size: Option<u32>,
    pub overlap: Duration,
    pub pages_max: u64,
    pub bytes_max: u64,
    pub time_max: Duration,
}

/// Everything a pull needs beside its plan.
#[derive(Clone)]
pub(crate) struct PullContext {
    pub api: Arc<Api>,
    pub warehouse: Arc<Warehouse>,
    pub rules: PullRules,
    pub stop: Stop,
    pub pace: Arc<Pace>,
    /// The name of the patient in logs.
    pub name: String,
}

/// How far the walk under way has come, for onlookers.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    received: AtomicU64,
    /// 0 where the server has not said.
    total: AtomicU64,
}

impl Pace {
    pub(super) fn note(&self, received: u64, total: Option<u64>) {
        self.received.store(received, Ordering::Relaxed);
        self.total.store(total.unwrap_or(0), Ordering::Relaxed);
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(crate) fn total(&self) -> Option<u64> {
        Some(self.total.load(Ordering::Relaxed)).filter(|total| *total > 0)
    }
}

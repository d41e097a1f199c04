//! What a pull is told to do, and what it is given to do it with.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::Connection;

use crate::healthex::client::Api;
use crate::plan::completeness::Walk;
use crate::plan::due::UnderWay;
use crate::plan::{PersonId, PullMode, Timestamp, TypeFilter};
use crate::stop::Stop;
use crate::warehouse::writer::Warehouse;

/// What one pull is to do.
#[derive(Clone, Debug)]
pub struct Order {
    pub person: PersonId,
    pub mode: PullMode,
    pub types: TypeFilter,
    pub since: Option<Timestamp>,
    pub resume: Option<Resume>,
}

/// An interrupted pull, and what its walks have seen.
#[derive(Clone, Debug)]
pub struct Resume {
    pub under_way: UnderWay,
    pub next_url: String,
    pub walks: Vec<Walk>,
}

/// The limits of `[sync]`.
#[derive(Clone, Copy, Debug)]
pub struct PullRules {
    pub page_size: Option<u32>,
    pub overlap: Duration,
    pub pages_max: u64,
    pub bytes_max: u64,
    pub time_max: Duration,
}

/// Where the rows go: into the warehouse, or into a comparison with it.
#[derive(Clone)]
pub enum Sink {
    Warehouse(Arc<Warehouse>),
    /// `None` where there is no warehouse yet.
    DryRun(Arc<Mutex<Option<Connection>>>),
}

/// Everything a pull needs beside its order.
#[derive(Clone)]
pub struct Means {
    pub api: Arc<Api>,
    pub sink: Sink,
    pub rules: PullRules,
    pub stop: Stop,
    pub pace: Arc<Pace>,
}

/// How far the walk under way has come, for onlookers.
#[derive(Debug, Default)]
pub struct Pace {
    received: AtomicU64,
    /// 0 where the server has not said.
    total: AtomicU64,
}

impl Pace {
    pub(super) fn note(&self, received: u64, total: Option<u64>) {
        self.received.store(received, Ordering::Relaxed);
        self.total.store(total.unwrap_or(0), Ordering::Relaxed);
    }

    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub fn total(&self) -> Option<u64> {
        Some(self.total.load(Ordering::Relaxed)).filter(|total| *total > 0)
    }
}

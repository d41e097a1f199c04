//! Counts what requests cost: how many, how many bytes, and how they were answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Instant;

/// The cost of requests so far.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) requests: AtomicU64,
    /// Of bodies, decompressed.
    pub(crate) bytes: AtomicU64,
    /// How often each status came; 0 where no answer came at all.
    answers: Mutex<BTreeMap<(RequestKind, u16), u64>>,
    /// How long answers took to begin, since they were last asked for.
    answer_times: Mutex<Vec<Duration>>,
    /// Requests that were sent again.
    pub(super) retries: Arc<AtomicU64>,
}

/// Where nobody asks for them, no more times are kept.
const ANSWER_TIMES_MAX: usize = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RequestKind {
    Token,
    Page,
    Records,
}

impl Meter {
    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn count_answer(&self, kind: RequestKind, status: u16) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry((kind, status)).or_default() += 1;
    }

    /// Notes how long the head of a page's answer took.
    pub(super) fn note_answer_time(&self, took: Duration) {
        let mut times = self.answer_times.lock().unwrap_or_else(PoisonError::into_inner);
        if times.len() < ANSWER_TIMES_MAX {
            times.push(took);
        }
    }

    /// Takes the times of answers since the last call.
    pub(crate) fn take_answer_times(&self) -> Vec<Duration> {
        std::mem::take(&mut self.answer_times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes the count of requests that were sent again since the last call.
    pub(crate) fn take_retries(&self) -> u64 {
        self.retries.swap(0, Ordering::Relaxed)
    }

    /// Takes the counts of answers since the last call.
    pub(crate) fn take_answers(&self) -> BTreeMap<(RequestKind, u16), u64> {
        std::mem::take(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The limits of one pull, and what it has cost so far.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) meter: Meter,
    pub(crate) bytes_max: u64,
    pub(crate) ends: Instant,
    /// The name of the patient that it is for.
    name: Option<String>,
    /// The request that was sent last, by a hash of its URL, and how often in a row.
    last: Mutex<(u64, u32)>,
    /// A body could not be decoded, so that no coding is asked for any more.
    is_plain: AtomicBool,
}

impl Budget {
    pub(crate) fn new(bytes_max: u64, ends: Instant) -> Self {
        let (meter, is_plain) = (Meter::default(), AtomicBool::new(false));
        Self { meter, bytes_max, ends, name: None, last: Mutex::default(), is_plain }
    }

    /// Says whose requests they are, for the log.
    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Counts a request, and returns the how manieth in a row it is with this URL.
    pub(super) fn count_attempt(&self, url: &str) -> u32 {
        let hash = xxhash_rust::xxh3::xxh3_64(url.as_bytes());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = if last.0 == hash { (hash, last.1 + 1) } else { (hash, 1) };
        last.1
    }

    pub(super) fn ask_plainly(&self) {
        self.is_plain.store(true, Ordering::Relaxed);
    }

    pub(super) fn asks_plainly(&self) -> bool {
        self.is_plain.load(Ordering::Relaxed)
    }
}

//! Reads the body of a 200 in batches of entries, as it arrives.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::body::Body;
use super::bundle::{BundleReader, NotABundle, PageFacts};
use super::large_entry::LargeEntryTurn;
use super::meter::{Budget, Meter};
use super::{FailureStage, RequestFailed, transport};
use crate::plan::Timestamp;
use crate::plan::outcome::is_error_entry;
use crate::plan::row::Entry;
use crate::stop::Stop;

/// A batch of a long answer has this many entries, …
const BATCH_ENTRIES: usize = 500;
/// … or this many bytes, whichever is less.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// A 200 whose body is being read.
pub(crate) struct PageStream {
    body: Body,
    reader: BundleReader,
    large_entry: LargeEntryTurn,
    held_back: Vec<Entry>,
    /// The server's clock when it answered.
    pub(crate) server_date: Option<Timestamp>,
    /// From the request to the head of the answer.
    pub(crate) answered_after: Duration,
}

impl PageStream {
    pub(super) fn new(
        body: Body,
        reader: BundleReader,
        large_entry: LargeEntryTurn,
        server_date: Option<Timestamp>,
        answered_after: Duration,
    ) -> Self {
        Self { body, reader, large_entry, held_back: Vec::new(), server_date, answered_after }
    }

    /// Returns the next entries, or `None` once the body has ended. Fewer than a batch are the
    /// last. Whether the body was whole, `finish` says.
    pub(crate) async fn next_batch(
        &mut self,
        meter: &Meter,
        budget: &Budget,
        stop: &Stop,
    ) -> Result<Option<Vec<Entry>>, RequestFailed> {
        let mut entries = std::mem::take(&mut self.held_back);
        let mut size: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
        while !self.body.has_ended() && entries.len() <= BATCH_ENTRIES && size < BATCH_BYTES {
            let chunk = self.body.next_bytes(budget, stop).await?;
            for meter in [meter, &budget.meter] {
                meter.count_bytes(chunk.len());
            }
            if budget.meter.bytes.load(Ordering::Relaxed) > budget.bytes_max {
                return Err(RequestFailed::LimitReached { what: "sync.bytes_max" });
            }
            let before = entries.len();
            self.reader.push(&chunk, &mut entries).map_err(|refused| not_a_page(&refused))?;
            size += entries[before..].iter().map(|entry| entry.bytes.len()).sum::<usize>();
            let unfinished = self.reader.unfinished_bytes();
            if self.large_entry.is_needed_for(unfinished) {
                transport::before(self.body.ends(), stop, self.large_entry.take()).await?;
            } else if self.large_entry.has_whole_entry(unfinished) {
                break;
            }
        }
        if entries.len() > BATCH_ENTRIES {
            self.held_back = entries.split_off(BATCH_ENTRIES);
        }
        Ok((!self.body.has_ended() || !entries.is_empty()).then_some(entries))
    }

    /// Returns whether other pulls wait until what was read is stored, because some of it is large.
    pub(crate) fn holds_others_up(&self) -> bool {
        self.large_entry.is_held()
    }

    /// To be called when all that was read is stored.
    pub(crate) fn let_others_go_on(&mut self) {
        self.large_entry.give_back();
    }

    /// Reads the body to its end and keeps nothing of it. An OperationOutcome of an error in it is
    /// no answer. A server that answers a question for
    /// one entry with more than a batch of them is believed before it has ended.
    pub(super) async fn skip_bundle(
        mut self,
        meter: &Meter,
        budget: &Budget,
        stop: &Stop,
    ) -> Result<(), RequestFailed> {
        while let Some(entries) = self.next_batch(meter, budget, stop).await? {
            if entries.iter().any(|entry| is_error_entry(&entry.bytes)) {
                let what = "the answer holds an OperationOutcome of an error".to_owned();
                return Err(RequestFailed::Transient {
                    what,
                    retry_after: None,
                    stage: FailureStage::Answered,
                });
            }
            if !self.body.has_ended() && !entries.is_empty() {
                return Ok(());
            }
            self.let_others_go_on();
        }
        self.finish().map(drop)
    }

    /// Returns what the page says of itself, or an error if the body was not whole.
    pub(crate) fn finish(self) -> Result<PageFacts, RequestFailed> {
        self.reader.finish().map_err(|refused| not_a_page(&refused))
    }
}

fn not_a_page(refused: &NotABundle) -> RequestFailed {
    RequestFailed::Transient { what: refused.to_string(), retry_after: None, stage: FailureStage::Answered }
}

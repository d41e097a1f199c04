//! Reads the body of a 200 in batches of entries, as it arrives.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;

use super::bundle::{BundleReader, NotABundle, PageFacts};
use super::coding::{Decoder, NotDecoded};
use super::door::Answer;
use super::meter::{Budget, Meter};
use super::{FailureStage, RequestFailed, transport};
use crate::clock::Instant;
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
    response: Answer,
    decoder: Option<Decoder>,
    /// Of the last chunk, what is not decoded yet.
    coded: Bytes,
    reader: BundleReader,
    held_back: Vec<Entry>,
    ended: bool,
    ends: Instant,
    /// The server's clock when it answered.
    pub(crate) server_date: Option<Timestamp>,
    /// From the request to the head of the answer.
    pub(crate) answered_after: Duration,
}

impl PageStream {
    pub(super) fn new(
        response: Answer,
        decoder: Decoder,
        reader: BundleReader,
        ends: Instant,
        server_date: Option<Timestamp>,
        answered_after: Duration,
    ) -> Self {
        Self {
            response,
            decoder: Some(decoder),
            coded: Bytes::new(),
            reader,
            held_back: Vec::new(),
            ended: false,
            ends,
            server_date,
            answered_after,
        }
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
        while !self.ended && entries.len() <= BATCH_ENTRIES && size < BATCH_BYTES {
            let chunk = self.next_bytes(budget, stop).await?;
            for meter in [meter, &budget.meter] {
                meter.count_bytes(chunk.len());
            }
            if budget.meter.bytes.load(Ordering::Relaxed) > budget.bytes_max {
                return Err(RequestFailed::LimitReached { what: "sync.bytes_max" });
            }
            let before = entries.len();
            self.reader.push(&chunk, &mut entries).map_err(|refused| not_a_page(&refused))?;
            size += entries[before..].iter().map(|entry| entry.bytes.len()).sum::<usize>();
        }
        if entries.len() > BATCH_ENTRIES {
            self.held_back = entries.split_off(BATCH_ENTRIES);
        }
        Ok((!self.ended || !entries.is_empty()).then_some(entries))
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
            if !self.ended && !entries.is_empty() {
                return Ok(());
            }
        }
        self.finish().map(drop)
    }

    /// Returns the next bytes of the body, decoded; sets `ended` with the last of them.
    async fn next_bytes(&mut self, budget: &Budget, stop: &Stop) -> Result<Bytes, RequestFailed> {
        if self.coded.is_empty() {
            let chunk = transport::before(self.ends, stop, self.response.chunk())
                .await?
                .map_err(|broken| transport::transient(&broken, FailureStage::Answered))?;
            let Some(chunk) = chunk else {
                self.ended = true;
                let rest = self.decoder.take().map_or_else(|| Ok(Bytes::new()), Decoder::finish);
                return rest.map_err(|failed| undecoded(&failed, budget));
            };
            self.coded = chunk;
        }
        match &mut self.decoder {
            Some(decoder) => decoder.step(&mut self.coded).map_err(|failed| undecoded(&failed, budget)),
            None => Ok(Bytes::new()),
        }
    }

    /// Returns what the page says of itself, or an error if the body was not whole.
    pub(crate) fn finish(self) -> Result<PageFacts, RequestFailed> {
        self.reader.finish().map_err(|refused| not_a_page(&refused))
    }
}

/// Whatever garbles a coding on its way leaves a plain body alone: from now on that is asked for.
pub(super) fn undecoded(failed: &NotDecoded, budget: &Budget) -> RequestFailed {
    budget.ask_plainly();
    RequestFailed::Transient {
        what: format!("{failed}; asked for without a coding"),
        retry_after: None,
        stage: FailureStage::Answered,
    }
}

fn not_a_page(refused: &NotABundle) -> RequestFailed {
    RequestFailed::Transient { what: refused.to_string(), retry_after: None, stage: FailureStage::Answered }
}

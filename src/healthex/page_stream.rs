//! The body of a 200, given out in batches of entries as it arrives.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::Response;

use super::bundle::{BundleReader, PageFacts};
use super::client::{Api, Budget, transient, until};
use super::coding::{Decoder, NotDecoded};
use super::{Reach, RequestFailed};
use crate::plan::Timestamp;
use crate::plan::row::Entry;
use crate::stop::Stop;

/// A batch of a long answer is given out at this many entries, …
const BATCH_ENTRIES: usize = 500;
/// … or this many bytes, whichever is less.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// A 200 whose body is being read.
pub struct PageStream {
    response: Response,
    decoder: Option<Decoder>,
    /// Of the last chunk, what is not decoded yet.
    coded: Bytes,
    reader: BundleReader,
    held_back: Vec<Entry>,
    ended: bool,
    ends: Instant,
    /// The server's clock when it answered.
    pub server_date: Option<Timestamp>,
    /// From the request to the head of the answer.
    pub answered_after: Duration,
}

impl PageStream {
    pub(super) fn new(
        response: Response,
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

    /// The next entries, or `None` once the body has ended; whether it was whole, `finish` says.
    /// Fewer than a batch are the last.
    pub async fn next_batch(
        &mut self,
        api: &Api,
        budget: &Budget,
        stop: &Stop,
    ) -> Result<Option<Vec<Entry>>, RequestFailed> {
        let mut entries = std::mem::take(&mut self.held_back);
        let mut size: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
        while !self.ended && entries.len() <= BATCH_ENTRIES && size < BATCH_BYTES {
            let chunk = self.next_bytes(budget, stop).await?;
            for meter in [&api.meter, &budget.meter] {
                meter.bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
            if budget.meter.bytes.load(Ordering::Relaxed) > budget.bytes_max {
                return Err(RequestFailed::LimitReached { what: "sync.bytes_max" });
            }
            let before = entries.len();
            self.reader.push(&chunk, &mut entries).map_err(|broken| RequestFailed::Transient {
                what: broken.to_string(),
                retry_after: None,
                reach: Reach::Answered,
            })?;
            size += entries[before..].iter().map(|entry| entry.bytes.len()).sum::<usize>();
        }
        if entries.len() > BATCH_ENTRIES {
            self.held_back = entries.split_off(BATCH_ENTRIES);
        }
        Ok((!self.ended || !entries.is_empty()).then_some(entries))
    }

    /// The next bytes of the body as they are meant; sets `ended` with the last of them.
    async fn next_bytes(&mut self, budget: &Budget, stop: &Stop) -> Result<Bytes, RequestFailed> {
        if self.coded.is_empty() {
            let chunk = until(self.ends, stop, self.response.chunk())
                .await?
                .map_err(|error| transient(error, Reach::Answered))?;
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

    pub fn finish(self) -> Result<PageFacts, RequestFailed> {
        self.reader.finish().map_err(|broken| RequestFailed::Transient {
            what: broken.to_string(),
            retry_after: None,
            reach: Reach::Answered,
        })
    }
}

/// Whatever garbles a coding on its way leaves a plain body alone: from now on that is asked for.
pub(super) fn undecoded(failed: &NotDecoded, budget: &Budget) -> RequestFailed {
    budget.is_plain.store(true, Ordering::Relaxed);
    RequestFailed::Transient {
        what: format!("{failed}; asked for without a coding"),
        retry_after: None,
        reach: Reach::Answered,
    }
}

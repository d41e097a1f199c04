//! The body of an answer, decoded, as it arrives.

use bytes::Bytes;

use super::coding::{Decoder, NotDecoded};
use super::door::Answer;
use super::meter::Budget;
use super::{FailureStage, RequestFailed, transport};
use crate::clock::Instant;
use crate::stop::Stop;

pub(super) struct Body {
    answer: Answer,
    decoder: Option<Decoder>,
    /// Of the last chunk, what is not decoded yet.
    coded: Bytes,
    has_ended: bool,
    ends: Instant,
}

impl Body {
    /// Begins to read the body of an answer. `ends` is when it must have come.
    pub(super) fn of(answer: Answer, ends: Instant, budget: &Budget) -> Result<Self, RequestFailed> {
        let decoder = Decoder::of(answer.headers()).map_err(|failed| undecoded(&failed, budget))?;
        Ok(Self { answer, decoder: Some(decoder), coded: Bytes::new(), has_ended: false, ends })
    }

    /// Returns whether the last bytes have been read.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Returns when it must have come.
    pub(super) fn ends(&self) -> Instant {
        self.ends
    }

    /// Returns the next bytes; none may mean that more are still to come.
    pub(super) async fn next_bytes(&mut self, budget: &Budget, stop: &Stop) -> Result<Bytes, RequestFailed> {
        if self.coded.is_empty() {
            let chunk = transport::before(self.ends, stop, self.answer.chunk())
                .await?
                .map_err(|broken| transport::transient(&broken, FailureStage::Answered))?;
            let Some(chunk) = chunk else {
                self.has_ended = true;
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
}

/// Whatever garbles a coding on its way leaves a plain body alone: from now on that is asked for.
fn undecoded(failed: &NotDecoded, budget: &Budget) -> RequestFailed {
    budget.ask_plainly();
    RequestFailed::Transient {
        what: format!("{failed}; asked for without a coding"),
        retry_after: None,
        stage: FailureStage::Answered,
    }
}

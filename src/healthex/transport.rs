//! Deadlines and failures of the connection, in the words of [`RequestFailed`].

use std::time::Instant;

use super::{FailureStage, RequestFailed};
use crate::stop::Stop;

/// Waits for `work` until `deadline`, or until the program must end at once.
pub(super) async fn before<T>(
    deadline: Instant,
    stop: &Stop,
    work: impl Future<Output = T>,
) -> Result<T, RequestFailed> {
    tokio::select! {
        biased;
        () = stop.at_once.cancelled() => Err(RequestFailed::Stopped),
        done = tokio::time::timeout_at(deadline.into(), work) => done.map_err(|_| RequestFailed::Transient {
            what: "the answer took longer than api.page_timeout".to_owned(),
            retry_after: None,
            stage: FailureStage::Answered,
        }),
    }
}

/// Describes a broken connection by its innermost cause: reqwest's errors carry the URL, which
/// names a patient.
pub(super) fn transient(error: reqwest::Error, stage: FailureStage) -> RequestFailed {
    let error = error.without_url();
    let kind = if error.is_timeout() {
        "no byte came for too long"
    } else if error.is_connect() {
        "no connection to HealthEx"
    } else if error.is_decode() {
        "the answer's body is damaged"
    } else {
        "the connection broke off"
    };
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    RequestFailed::Transient { what: format!("{kind} ({cause})"), retry_after: None, stage }
}

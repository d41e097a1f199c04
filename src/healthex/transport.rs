//! Deadlines and failures of the connection, in the words of [`RequestFailed`].

use super::door::Broken;
use super::{FailureStage, RequestFailed};
use crate::clock;
use crate::clock::Instant;
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
        done = clock::timeout_at(deadline, work) => done.map_err(|_| RequestFailed::Transient {
            what: "the answer took longer than api.page_timeout".to_owned(),
            retry_after: None,
            stage: FailureStage::Answered,
        }),
    }
}

pub(super) fn transient(broken: &Broken, stage: FailureStage) -> RequestFailed {
    RequestFailed::Transient { what: broken.to_string(), retry_after: None, stage }
}

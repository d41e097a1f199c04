//! Operators, who type a command beside the daemon; what runs then is what the command runs.

use std::path::Path;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;

use super::life;
use super::stage;
use crate::clock;
use crate::commands::ExitStatus;
use crate::commands::purge::{Patient, Told, purge_held, purge_one};
use crate::cycle::SyncRequest;
use crate::plan::PersonId;
use crate::time::Timestamp;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::place::Place;

/// The account that types.
pub(super) const OPERATOR: &str = "nina";
/// After so long a command is typed again that found the warehouse in use.
const TYPED_AGAIN_AFTER: Duration = Duration::from_mins(2);

/// A command that an operator has typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Purge { patient: usize },
    PurgeHeld,
    Resume { patient: usize },
}

/// A command that has come to its end.
pub(super) struct Done {
    pub(super) typed: Typed,
    pub(super) at: Timestamp,
    pub(super) has_worked: bool,
}

/// A command under way. Dropped, it is killed.
pub(super) type UnderWay = LocalBoxFuture<'static, Done>;

/// Has an operator type a command about the patient with this id after a while.
pub(super) fn type_in(
    typed: Typed,
    person: String,
    folder: &Path,
    place: &Place,
    after: Duration,
) -> UnderWay {
    let (folder, place) = (folder.to_owned(), place.clone());
    Box::pin(async move {
        clock::sleep(after).await;
        let done = match typed {
            Typed::Purge { .. } => purge(&place, &person).await,
            Typed::PurgeHeld => purge_all_held(&folder, &place).await,
            Typed::Resume { .. } => resume(&folder, &place, &person).await,
        };
        match &done {
            Ok(said) => tracing::debug!("{OPERATOR}: {typed:?}: {said}"),
            Err(failed) => tracing::debug!("{OPERATOR}: {typed:?}: {failed:#}"),
        }
        Done { typed, at: stage::true_time(), has_worked: done.is_ok() }
    })
}

/// `purge ID --yes`
async fn purge(place: &Place, person: &str) -> anyhow::Result<String> {
    let patient = Patient { person: PersonId::parse(person)?, named: person };
    let mut said = Vec::new();
    let status = purge_one(place, &patient, OPERATOR.to_owned(), &mut Told::new(&mut said, false)).await?;
    anyhow::ensure!(status == ExitStatus::Done, "exit {status:?}");
    Ok(String::from_utf8(said)?)
}

/// `purge --held --yes`
async fn purge_all_held(folder: &Path, place: &Place) -> anyhow::Result<String> {
    let session = life::session(folder)?;
    let mut said = Vec::new();
    purge_held(session, place, OPERATOR, None, &mut Told::new(&mut said, false)).await?;
    Ok(String::from_utf8(said)?)
}

/// `sync --patient ID`, typed until the warehouse is free.
async fn resume(folder: &Path, place: &Place, person: &str) -> anyhow::Result<String> {
    let request = SyncRequest { named: vec![PersonId::parse(person)?], ..SyncRequest::default() };
    loop {
        match life::sync(folder, place, request.clone()).await {
            Err(failed) if matches!(failed.downcast_ref(), Some(OpenFailed::InUse { .. })) => {
                clock::sleep(TYPED_AGAIN_AFTER).await;
            }
            Err(failed) => return Err(failed),
            Ok(summary) => return Ok(format!("{:?}", summary.patients)),
        }
    }
}

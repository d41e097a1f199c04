//! An operator's word that those who are held have withdrawn: asked again first, then purged.

use futures_util::{StreamExt, stream};

use super::Cycle;
use super::patient::{note_permitted, question};
use crate::clock;
use crate::healthex::RequestFailed;
use crate::plan::PersonId;
use crate::plan::state::PurgeReason;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::pull::Lease;
use crate::warehouse::purge::PurgedPatient;

/// What became of the held patients.
#[derive(Debug, Default)]
pub(crate) struct HeldDecided {
    pub(crate) purged: Vec<PurgedPatient>,
    /// Names of those that are permitted again, and so no longer held.
    pub(crate) released: Vec<String>,
    /// Names of those that are held as before, and why they could not be asked.
    pub(crate) unanswered: Vec<Unanswered>,
}

#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) name: String,
    pub(crate) why: String,
}

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeldUndecided {
    #[error(
        "{refused} held patients would be purged, and --expect says {expected}; nothing was purged or released"
    )]
    NotAsExpected { refused: usize, expected: usize },
    #[error(transparent)]
    Request(#[from] RequestFailed),
    #[error(transparent)]
    Warehouse(#[from] StoreFailed),
}

/// Asks every held patient again with a fresh token, releases those that are permitted and purges
/// those that are refused. `by` is the account that asked for it.
pub(crate) async fn decide_held(
    cycle: &Cycle,
    by: &str,
    expected: Option<usize>,
) -> Result<HeldDecided, HeldUndecided> {
    let held = cycle.warehouse.held().await?;
    if held.is_empty() && expected.is_none_or(|expected| expected == 0) {
        return Ok(HeldDecided::default());
    }
    cycle.names.learn(&held, None);
    let token = cycle.api.token_to_confirm_with(&cycle.stop).await?;
    let answers: Vec<(Lease, Result<(), RequestFailed>)> = stream::iter(held)
        .map(|lease| {
            let token = token.as_ref();
            async move {
                let answer = question(cycle, lease.person(), token).await;
                (lease, answer)
            }
        })
        .buffered(cycle.settings.sync.concurrency)
        .collect()
        .await;
    let refused =
        answers.iter().filter(|(_, answer)| matches!(answer, Err(RequestFailed::Forbidden))).count();
    if let Some(expected) = expected.filter(|expected| *expected != refused) {
        return Err(HeldUndecided::NotAsExpected { refused, expected });
    }
    let mut decided = HeldDecided::default();
    for (lease, answer) in answers {
        let (person, name): (&PersonId, _) = (lease.person(), lease.checkpoint.name().to_owned());
        match answer {
            Ok(()) if lease.checkpoint.consent_ended_at.is_some() => {
                let why = "permitted, while its consent record says that it is withdrawn or has run out; `purge ID --yes` purges it".to_owned();
                decided.unanswered.push(Unanswered { name, why });
            }
            Ok(()) => {
                note_permitted(cycle, person).await?;
                decided.released.push(name);
            }
            Err(RequestFailed::Forbidden) => {
                let purged =
                    cycle.warehouse.purge(person, PurgeReason::ConsentRevoked, by, clock::now()).await?;
                decided.purged.extend(purged);
            }
            Err(failed) => decided.unanswered.push(Unanswered { name, why: failed.to_string() }),
        }
    }
    Ok(decided)
}

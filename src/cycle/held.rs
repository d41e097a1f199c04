//! An operator's word that those who are held have withdrawn: asked again first, then purged.

use std::fmt;

use futures_util::{StreamExt, stream};

use super::Cycle;
use super::patient::{note_permitted, question};
use crate::clock;
use crate::healthex::RequestFailed;
use crate::plan::PersonId;
use crate::plan::state::PurgeReason;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::pull::{Fenced, Lease};
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

/// How many could not be asked, as the end of a sentence about the others.
#[derive(Debug)]
pub(crate) struct CouldNotBeAsked(usize);

impl fmt::Display for CouldNotBeAsked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            unasked => write!(f, " ({unasked} could not be asked, or others deal with them)"),
        }
    }
}

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeldUndecided {
    #[error(
        "{refused} held patients would be purged, and --expect says {expected}{unanswered}; nothing was purged or released"
    )]
    NotAsExpected { refused: usize, expected: usize, unanswered: CouldNotBeAsked },
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
    let mut held = cycle.warehouse.held().await?;
    if held.is_empty() && expected.is_none_or(|expected| expected == 0) {
        return Ok(HeldDecided::default());
    }
    for patient in &held {
        cycle.names.learn(patient);
    }
    let mut decided = HeldDecided::default();
    if let Some(shared) = cycle.warehouse.shared() {
        let persons = held.iter().map(|lease| lease.person().clone()).collect();
        let taken = shared.take_held(persons, clock::now()).await?;
        held.retain(|lease| {
            let is_taken = taken.contains(lease.person());
            if !is_taken {
                decided.unanswered.push(dealt_with_by_another(lease));
            }
            is_taken
        });
    }
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
        let failed = answers.len() - refused - answers.iter().filter(|(_, answer)| answer.is_ok()).count();
        let unanswered = CouldNotBeAsked(failed + decided.unanswered.len());
        return Err(HeldUndecided::NotAsExpected { refused, expected, unanswered });
    }
    for (lease, answer) in answers {
        let (person, name): (&PersonId, _) = (lease.person(), lease.checkpoint.name().to_owned());
        match answer {
            Ok(()) if lease.checkpoint.consent_ended_at.is_some() => {
                let why = "permitted, while its consent record says that it is withdrawn or has run out; `purge ID --yes` purges it".to_owned();
                decided.unanswered.push(Unanswered { name, why });
            }
            Ok(()) => match note_permitted(cycle, person).await? {
                Fenced::Kept(()) => decided.released.push(name),
                Fenced::Superseded => decided.unanswered.push(dealt_with_by_another(&lease)),
            },
            Err(RequestFailed::Forbidden) => {
                let reason = PurgeReason::ConsentRevoked;
                match cycle.warehouse.purge(person, reason, by, clock::now()).await? {
                    Some(purged) => decided.purged.push(purged),
                    None => decided.unanswered.push(dealt_with_by_another(&lease)),
                }
            }
            Err(failed) => decided.unanswered.push(Unanswered { name, why: failed.to_string() }),
        }
    }
    Ok(decided)
}

fn dealt_with_by_another(lease: &Lease) -> Unanswered {
    let why =
        "another process is dealing with it; `healthex-sync status` tells what has become of it".to_owned();
    Unanswered { name: lease.checkpoint.name().to_owned(), why }
}

//! Those that were refused are asked once more, with one new token and without filters;
//! then the confirmed withdrawals are judged together.

use std::sync::Arc;

use chrono::TimeDelta;
use futures_util::{StreamExt, stream};

use super::patient::{PatientOutcome, Refusal, consent_budget, note_permitted, pull_alone};
use super::workers::CycleTally;
use super::{Cycle, EndedEarly};
use crate::clock;
use crate::healthex::RequestFailed;
use crate::healthex::token::AccessToken;
use crate::plan::Timestamp;
use crate::plan::consent::{PurgeVerdict, judge_withdrawals};
use crate::plan::due::Due;
use crate::plan::failure::failure_delay;
use crate::plan::paging::Query;
use crate::plan::state::{Event, PatientState, PurgeReason};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::pull::{Fenced, PullOutcome, Setback};

/// A second 403.
struct Withdrawn {
    refusal: Refusal,
    confirmed_at: Timestamp,
}

/// Asks everyone again who was refused, and acts on what that shows.
pub(super) async fn confirm(cycle: &Cycle, tally: &mut CycleTally) {
    let tried = tally.tried();
    let refused = std::mem::take(&mut tally.refused);
    let result = match cycle.api.token_to_confirm_with(&cycle.stop).await {
        Ok(Some(token)) => ask_again(cycle, tally, refused, &token, tried).await,
        Ok(None) => hold_unconfirmed(cycle, tally, refused).await,
        Err(failed) => {
            if matches!(failed, RequestFailed::CredentialsRefused { .. }) {
                tally.end(EndedEarly::CredentialsRefused(failed.to_string()));
            }
            leave_unconfirmed(cycle, tally, refused, &failed).await
        }
    };
    if let Err(failed) = result {
        tally.ended = Some(EndedEarly::Warehouse(failed));
    }
}

async fn ask_again(
    cycle: &Cycle,
    tally: &mut CycleTally,
    refused: Vec<Refusal>,
    token: &Arc<AccessToken>,
    tried: usize,
) -> Result<(), StoreFailed> {
    let answers: Vec<(Refusal, Result<(), RequestFailed>)> = stream::iter(refused)
        .map(|refusal| async move {
            let url = Query::of_consent(refusal.task.person()).first_url(cycle.api.base_url());
            let answer = cycle.api.ask_consent(&url, token, &consent_budget(), &cycle.stop).await;
            (refusal, answer)
        })
        .buffer_unordered(cycle.settings.sync.concurrency)
        .collect()
        .await;
    let mut withdrawn = Vec::new();
    for (refusal, answer) in answers {
        match answer {
            Ok(()) => after_stray(cycle, tally, refusal).await?,
            Err(RequestFailed::Forbidden) => {
                withdrawn.push(Withdrawn { refusal, confirmed_at: clock::now() });
            }
            Err(failed) => leave_unconfirmed(cycle, tally, vec![refusal], &failed).await?,
        }
    }
    judge(cycle, tally, withdrawn, tried).await
}

/// Nothing was learned: the patient has failed, or was not reached before the program was to end.
async fn leave_unconfirmed(
    cycle: &Cycle,
    tally: &mut CycleTally,
    refused: Vec<Refusal>,
    failed: &RequestFailed,
) -> Result<(), StoreFailed> {
    let why = format!("refused (403), which could not be confirmed: {failed}");
    let is_stopped = matches!(failed, RequestFailed::Stopped);
    for refusal in refused {
        if is_stopped {
            let ended = refusal.ended(PullOutcome::Interrupted, Some(why.clone()));
            let (Fenced::Kept(()) | Fenced::Superseded) =
                cycle.warehouse.end_pull(ended, clock::now()).await?;
            tally.not_reached += 1;
        } else {
            fail(cycle, tally, &refusal, &why).await?;
        }
    }
    if is_stopped {
        tally.end(EndedEarly::Stopped);
    }
    Ok(())
}

/// The first refusal was a stray one, or the filter is what is not permitted.
async fn after_stray(cycle: &Cycle, tally: &mut CycleTally, refusal: Refusal) -> Result<(), StoreFailed> {
    let Due::Pull(mode) = refusal.task.due else {
        note_permitted(cycle, &refusal.task).await?;
        tally.skipped += 1;
        return Ok(());
    };
    // The pull that was refused has its row; the one that follows has its own.
    let why = "refused once (403), permitted when asked again".to_owned();
    let ended = refusal.ended(PullOutcome::Failed, Some(why));
    let (Fenced::Kept(()) | Fenced::Superseded) = cycle.warehouse.end_pull(ended, clock::now()).await?;
    let mut task = refusal.task;
    if let Some(lease) = cycle.warehouse.claim(task.person()).await? {
        task.lease = lease;
    }
    let mut report = pull_alone(cycle, task, mode).await;
    if let PatientOutcome::Refused(again) = report.outcome {
        let why = "refused (403) with the filter it is pulled with, and permitted without; check its types";
        tally.resources += report.tally;
        tally.pages += report.pages;
        return fail(cycle, tally, &again, why).await;
    }
    if let PatientOutcome::Ends(EndedEarly::Warehouse(failed)) = report.outcome {
        return Err(failed);
    }
    if let PatientOutcome::Ends(ended) = report.outcome {
        tally.end(ended);
        report.outcome = PatientOutcome::Failed(crate::plan::breaker::Contact::Answered);
    }
    tally.count(report);
    Ok(())
}

async fn judge(
    cycle: &Cycle,
    tally: &mut CycleTally,
    withdrawn: Vec<Withdrawn>,
    tried: usize,
) -> Result<(), StoreFailed> {
    let holds_rows = |one: &Withdrawn| one.refusal.task.lease.checkpoint.holds_rows;
    let confirmed = withdrawn.iter().filter(|one| holds_rows(one)).count();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let verdict = judge_withdrawals(count(confirmed), count(tried), cycle.settings.consent.hold);
    if verdict == PurgeVerdict::Hold {
        tracing::error!(
            confirmed,
            tried,
            "{confirmed} of {tried} patients were refused in one cycle: nothing is purged. If these are withdrawals, run `healthex-sync purge --held --yes`; if not, check the API key's permissions"
        );
    }
    for one in withdrawn {
        let was_held = one.refusal.task.lease.checkpoint.state == PatientState::Held;
        if holds_rows(&one) && (was_held || verdict == PurgeVerdict::Hold) {
            let why = "consent withdrawn (403 twice), and held because too many were at once";
            hold(cycle, &one.refusal, why).await?;
            tally.held += 1;
        } else {
            revoke(cycle, tally, &one).await?;
        }
    }
    Ok(())
}

/// Purges a patient whose withdrawal is confirmed.
async fn revoke(cycle: &Cycle, tally: &mut CycleTally, one: &Withdrawn) -> Result<(), StoreFailed> {
    let ended = one.refusal.ended(PullOutcome::Revoked, None);
    if let Some(erased) = cycle.warehouse.revoke(ended, one.confirmed_at, clock::now()).await? {
        let name = one.refusal.task.name();
        tally.purged.push(cycle.say_purged(name, PurgeReason::ConsentRevoked, erased.rows()));
    }
    tally.revoked += 1;
    Ok(())
}

async fn hold(cycle: &Cycle, refusal: &Refusal, why: &str) -> Result<(), StoreFailed> {
    let name = refusal.task.name();
    tracing::warn!(person = %name, "{name}: {why}; its data is kept");
    let mut ended = refusal.ended(PullOutcome::Held, Some(why.to_owned()));
    ended.setback = Some(Setback {
        event: Event::WithdrawalHeld,
        error: Some(format!("{why}; `purge --held --yes` purges it, a permitted pull releases it")),
        next_attempt_at: None,
        was_answered: true,
        forgets_pull: false,
    });
    let (Fenced::Kept(()) | Fenced::Superseded) = cycle.warehouse.end_pull(ended, clock::now()).await?;
    Ok(())
}

/// A ready token that has not changed cannot tell a withdrawal from a fault of its own.
async fn hold_unconfirmed(
    cycle: &Cycle,
    tally: &mut CycleTally,
    refused: Vec<Refusal>,
) -> Result<(), StoreFailed> {
    for refusal in refused {
        hold(cycle, &refusal, "refused (403), and there is no other token to confirm it with").await?;
        tally.held += 1;
    }
    Ok(())
}

async fn fail(
    cycle: &Cycle,
    tally: &mut CycleTally,
    refusal: &Refusal,
    why: &str,
) -> Result<(), StoreFailed> {
    let (name, now) = (refusal.task.name(), clock::now());
    tracing::warn!(person = %name, "{name}: {why}; what it has is kept");
    let period = cycle.settings.sync.schedule.period(now);
    let wait = failure_delay(refusal.task.lease.checkpoint.failures + 1, period);
    let mut ended = refusal.ended(PullOutcome::Failed, Some(why.to_owned()));
    ended.setback = Some(Setback {
        event: Event::PullFailed,
        error: Some(why.to_owned()),
        next_attempt_at: Some(now + TimeDelta::from_std(wait).unwrap_or_default()),
        was_answered: false,
        forgets_pull: false,
    });
    let (Fenced::Kept(()) | Fenced::Superseded) = cycle.warehouse.end_pull(ended, now).await?;
    tally.failed += 1;
    Ok(())
}

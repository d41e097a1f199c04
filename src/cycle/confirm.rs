//! Those that were refused are asked once more, with one new token and without filters;
//! then the confirmed withdrawals are judged together.

use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt, stream};

use super::workers::{Refused, Turn, Work, pull_patient};
use super::{EndedEarly, Means, purge_one};
use crate::clock;
use crate::healthex::RequestFailed;
use crate::healthex::client::Budget;
use crate::healthex::token::Token;
use crate::plan::consent::{PurgeVerdict, judge_withdrawals};
use crate::plan::due::{Due, failure_delay};
use crate::plan::paging::Query;
use crate::plan::{Learned, PatientState, Timestamp};
use crate::slot::Slot;
use crate::warehouse::checkpoint::Lesson;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::page::Tally;
use crate::warehouse::pulls::{PullOrigin, PullOutcome};
use crate::warehouse::purge::PurgeReason;
use crate::warehouse::{checkpoint, pulls, purge, tables};

/// What one question about a consent may cost.
pub(super) fn budget() -> Budget {
    Budget::new(u64::MAX, Instant::now() + std::time::Duration::from_hours(1))
}

/// A second 403.
struct Withdrawn {
    refused: Refused,
    confirmed_at: Timestamp,
    has_rows: bool,
}

pub(super) async fn confirm(means: &Means, work: &mut Work) {
    let tried = work.tried();
    let refused = std::mem::take(&mut work.refused);
    let result = match means.api.token_to_confirm_with(&means.stop).await {
        Ok(Some(token)) => ask_again(means, work, refused, &token, tried).await,
        Ok(None) => hold_unconfirmed(means, work, refused).await,
        Err(failed) => {
            if matches!(failed, RequestFailed::CredentialsRefused { .. }) {
                work.ended.get_or_insert(EndedEarly::CredentialsRefused(failed.to_string()));
            }
            leave_unconfirmed(means, work, refused, &failed).await
        }
    };
    if let Err(failed) = result {
        work.ended = Some(EndedEarly::Warehouse(failed));
    }
}

async fn ask_again(
    means: &Means,
    work: &mut Work,
    refused: Vec<Refused>,
    token: &Arc<Token>,
    tried: usize,
) -> Result<(), StoreFailed> {
    let answers: Vec<(Refused, Result<(), RequestFailed>)> = stream::iter(refused)
        .map(|refused| async move {
            let url = Query::of_consent(&refused.task.patient.person).first_url(means.api.base_url());
            let answer = means.api.ask_consent(&url, token, &budget(), &means.stop).await;
            (refused, answer)
        })
        .buffer_unordered(means.settings.sync.concurrency)
        .collect()
        .await;
    let mut withdrawn = Vec::new();
    for (refused, answer) in answers {
        match answer {
            Ok(()) => after_stray(means, work, refused).await?,
            Err(RequestFailed::Forbidden) => {
                let person = refused.task.patient.person.clone();
                let has_rows = means
                    .warehouse
                    .write(move |connection| tables::has_rows(connection, person.as_str()))
                    .await?;
                withdrawn.push(Withdrawn { refused, confirmed_at: clock::now(), has_rows });
            }
            Err(failed) => leave_unconfirmed(means, work, vec![refused], &failed).await?,
        }
    }
    judge(means, work, withdrawn, tried).await
}

/// Nothing was learned: the patient has failed, or was not reached before the program was to end.
async fn leave_unconfirmed(
    means: &Means,
    work: &mut Work,
    refused: Vec<Refused>,
    failed: &RequestFailed,
) -> Result<(), StoreFailed> {
    let why = format!("refused (403), which could not be confirmed: {failed}");
    if !matches!(failed, RequestFailed::Stopped) {
        return fail_all(means, work, refused, &why).await;
    }
    for refused in refused {
        end_pull(means, &refused, PullOutcome::Interrupted, Some(&why)).await?;
        work.not_reached += 1;
    }
    work.ended.get_or_insert(EndedEarly::Stopped);
    Ok(())
}

/// The first refusal was a stray one, or the filter is what is not permitted.
async fn after_stray(means: &Means, work: &mut Work, refused: Refused) -> Result<(), StoreFailed> {
    let Due::Pull(mode) = refused.task.due else {
        return match still_permitted(means, &refused.task).await {
            None => {
                work.skipped += 1;
                Ok(())
            }
            Some(_) => Err(StoreFailed::WriterGone),
        };
    };
    // The pull that was refused has its row; the one that follows has its own.
    end_pull(means, &refused, PullOutcome::Failed, Some("refused once (403), permitted when asked again"))
        .await?;
    let mut task = refused.task;
    let person = task.patient.person.clone();
    if let Some(now) = means.warehouse.write(move |connection| checkpoint::one(connection, &person)).await? {
        task.patient = now;
    }
    let (turn, tally, pages) = pull_patient(means, task, mode, &mut Slot::alone()).await;
    work.tally += tally;
    work.pages += pages;
    match turn {
        Turn::Refused(again) => {
            let why =
                "refused (403) with the filter it is pulled with, and permitted without; check its types";
            fail_all(means, work, vec![*again], why).await?;
        }
        Turn::Ok => work.ok += 1,
        Turn::NotFound => work.not_found += 1,
        Turn::Ends(EndedEarly::Warehouse(failed)) => return Err(failed),
        Turn::Permitted => work.skipped += 1,
        Turn::Interrupted => work.not_reached += 1,
        Turn::Ends(ended) => {
            work.failed += 1;
            work.ended.get_or_insert(ended);
        }
        Turn::Failed { .. } | Turn::TokenRefused(_) => work.failed += 1,
    }
    Ok(())
}

async fn judge(
    means: &Means,
    work: &mut Work,
    withdrawn: Vec<Withdrawn>,
    tried: usize,
) -> Result<(), StoreFailed> {
    let confirmed = withdrawn.iter().filter(|one| one.has_rows).count();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let verdict = judge_withdrawals(count(confirmed), count(tried), means.settings.consent.hold);
    if verdict == PurgeVerdict::Hold {
        tracing::error!(
            confirmed,
            tried,
            "{confirmed} of {tried} patients were refused in one cycle: nothing is purged. If these are withdrawals, run `healthex-sync purge --held --yes`; if not, check the API key's permissions"
        );
    }
    for one in withdrawn {
        let was_held = one.refused.task.patient.standing.state == PatientState::Held;
        if !one.has_rows {
            revoke_without_rows(means, &one.refused).await?;
            work.revoked += 1;
        } else if was_held || verdict == PurgeVerdict::Hold {
            hold(
                means,
                &one.refused,
                "consent withdrawn (403 twice), and held because too many were at once",
            )
            .await?;
            work.held += 1;
        } else {
            let Withdrawn { refused, confirmed_at, .. } = one;
            let patient = &refused.task.patient;
            purge_one(means, &patient.person, &refused.task.name, PurgeReason::ConsentRevoked, confirmed_at)
                .await?;
            end_pull(means, &refused, PullOutcome::Revoked, None).await?;
            work.revoked += 1;
        }
    }
    Ok(())
}

async fn revoke_without_rows(means: &Means, refused: &Refused) -> Result<(), StoreFailed> {
    let person = refused.task.patient.person.clone();
    means
        .warehouse
        .write(move |connection| purge::revoke_without_rows(connection, &person, clock::now()))
        .await?;
    end_pull(means, refused, PullOutcome::Revoked, None).await
}

async fn hold(means: &Means, refused: &Refused, why: &str) -> Result<(), StoreFailed> {
    let name = &refused.task.name;
    tracing::warn!(person = %name, "{name}: {why}; its data is kept");
    let lesson = Lesson {
        person: refused.task.patient.person.clone(),
        learned: Learned::ConsentWithdrawnButHeld,
        error: Some(format!("{why}; `purge --held --yes` purges it, a permitted pull releases it")),
        next_attempt_at: None,
        was_answered: true,
    };
    means.warehouse.write(move |connection| checkpoint::learn(connection, &lesson, clock::now())).await?;
    end_pull(means, refused, PullOutcome::Held, Some(why)).await
}

/// A ready token that has not changed cannot tell a withdrawal from a fault of its own.
async fn hold_unconfirmed(means: &Means, work: &mut Work, refused: Vec<Refused>) -> Result<(), StoreFailed> {
    for refused in refused {
        hold(means, &refused, "refused (403), and there is no other token to confirm it with").await?;
        work.held += 1;
    }
    Ok(())
}

async fn fail_all(
    means: &Means,
    work: &mut Work,
    refused: Vec<Refused>,
    why: &str,
) -> Result<(), StoreFailed> {
    for refused in refused {
        let name = &refused.task.name;
        tracing::warn!(person = %name, "{name}: {why}; what it has is kept");
        let now = clock::now();
        let period = means.settings.sync.schedule.period(now);
        let wait = failure_delay(refused.task.patient.failures + 1, period);
        let lesson = Lesson {
            person: refused.task.patient.person.clone(),
            learned: Learned::PullFailed,
            error: Some(why.to_owned()),
            next_attempt_at: Some(now + chrono::TimeDelta::from_std(wait).unwrap_or_default()),
            was_answered: false,
        };
        means.warehouse.write(move |connection| checkpoint::learn(connection, &lesson, now)).await?;
        end_pull(means, &refused, PullOutcome::Failed, Some(why)).await?;
        work.failed += 1;
    }
    Ok(())
}

/// A consent check got a 200. Gives a turn back only if that could not be written.
pub(super) async fn still_permitted(means: &Means, task: &super::Task) -> Option<Turn> {
    let lesson = Lesson {
        person: task.patient.person.clone(),
        learned: Learned::StillPermitted,
        error: None,
        next_attempt_at: None,
        was_answered: true,
    };
    let written =
        means.warehouse.write(move |connection| checkpoint::learn(connection, &lesson, clock::now())).await;
    written.err().map(|failed| Turn::Ends(EndedEarly::Warehouse(failed)))
}

async fn end_pull(
    means: &Means,
    refused: &Refused,
    outcome: PullOutcome,
    error: Option<&str>,
) -> Result<(), StoreFailed> {
    let (row, mode, started_at) = (refused.row, refused.mode, refused.started_at);
    let origin = PullOrigin { person: refused.task.patient.person.clone(), mode, since: None, started_at };
    let error = error.map(str::to_owned);
    means
        .warehouse
        .write(move |connection| {
            let ended = (outcome, error.as_deref(), clock::now());
            pulls::note(connection, &origin, &row, Tally::default(), Some(ended)).map(drop)
        })
        .await
}

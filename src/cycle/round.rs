//! A round: everyone who was refused is asked again with one new token, and a witness with
//! them; what that shows is acted on at once.
//!
//! Promise: a refusal that was noted is judged or stays noted, whatever goes wrong meanwhile.
//! Absent on purpose: the verdicts, which are in `plan::consent`.

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::patient::{PatientOutcome, Refusal, note_permitted, pull_alone, question};
use super::records::Word;
use super::tally::CycleTally;
use super::tasks::Task;
use super::{Cycle, EndedEarly, records};
use crate::clock;
use crate::healthex::RequestFailed;
use crate::healthex::token::AccessToken;
use crate::plan::breaker::Contact;
use crate::plan::consent::{
    Answer, RecordSays, RefusalVerdict, RoundFacts, RoundToken, WITNESSES_MAX, Withdrawals, are_too_many,
    judge_refusal,
};
use crate::plan::due::Due;
use crate::plan::state::{Event, HeldWhy, PurgeReason};
use crate::plan::{PersonId, Timestamp};
use crate::warehouse::failure::{Concern, StoreFailed};
use crate::warehouse::pull::{Fenced, PullOutcome, Setback};

/// A refused patient, as the round has found it.
struct Judged {
    refusal: Refusal,
    verdict: RefusalVerdict,
    answer: Answer,
    record: RecordSays,
    /// When it was refused again.
    at: Timestamp,
    /// What it was answered with, unless it was permitted.
    failed: Option<RequestFailed>,
}

/// Asks everyone again who is refused in `tally`, and acts on what that shows.
pub(super) async fn hold_round(cycle: &Cycle, tally: &mut CycleTally) {
    let refused = tally.take_refused();
    if refused.is_empty() {
        return;
    }
    let result = match cycle.api.token_to_confirm_with(&cycle.stop).await {
        Ok(Some(token)) => ask(cycle, tally, refused, Some(&token)).await,
        Ok(None) => ask(cycle, tally, refused, None).await,
        Err(failed) => {
            if matches!(failed, RequestFailed::CredentialsRefused { .. }) {
                tally.end(EndedEarly::CredentialsRefused(failed.to_string()));
            }
            leave(cycle, tally, refused, &failed).await
        }
    };
    if let Err(failed) = result {
        tally.ended = Some(EndedEarly::Warehouse(failed));
    }
}

/// What a round has learned of one patient.
struct Asked {
    refusal: Refusal,
    answer: Result<(), RequestFailed>,
    word: Word,
}

/// Asks the refused and a witness, who is asked before them and after them: a fault that begins or
/// ends between two questions is no withdrawal. Without a fresh `token` the present one is asked
/// with, which can still permit.
async fn ask(
    cycle: &Cycle,
    tally: &mut CycleTally,
    refused: Vec<Refusal>,
    token: Option<&Arc<AccessToken>>,
) -> Result<(), StoreFailed> {
    let witness = permitted_witness(cycle, tally, &refused, token).await?;
    let mut answers = ask_refused(cycle, refused, token).await;
    records::keep_given_again(cycle, answers.iter_mut().map(|asked| &mut asked.word)).await?;
    let any_refused = answers.iter().any(|asked| answer_of(&asked.answer) == Answer::Refused);
    let witness_permitted = match witness {
        Some(person) if any_refused => question(cycle, &person, token).await.is_ok(),
        _ => false,
    };
    let token = if token.is_some() { RoundToken::Fresh } else { RoundToken::Unchanged };
    let now = clock::now();
    let judge = |Asked { refusal, answer: result, word }: Asked| {
        let (answer, record) = (answer_of(&result), word.says);
        let Refusal { was_refused, refused_at, .. } = refusal;
        let facts = RoundFacts { answer, record, witness_permitted, token, was_refused, refused_at, now };
        let verdict = judge_refusal(facts, cycle.settings.consent.alone_after);
        Judged { refusal, verdict, answer, record, at: now, failed: result.err() }
    };
    act(cycle, tally, answers.into_iter().map(judge).collect()).await
}

async fn ask_refused(cycle: &Cycle, refused: Vec<Refusal>, token: Option<&Arc<AccessToken>>) -> Vec<Asked> {
    stream::iter(refused)
        .map(|refusal| async move {
            let answer = question(cycle, refusal.task.person(), token).await;
            let word = records::says(cycle, &refusal, answer_of(&answer)).await;
            Asked { refusal, answer, word }
        })
        .buffer_unordered(cycle.settings.sync.concurrency)
        .collect()
        .await
}

fn answer_of(answer: &Result<(), RequestFailed>) -> Answer {
    match answer {
        Ok(()) => Answer::Permitted,
        Err(RequestFailed::Forbidden) => Answer::Refused,
        Err(RequestFailed::PersonUnknown) => Answer::Unknown,
        Err(_) => Answer::None,
    }
}

/// Asks a patient that was permitted in this cycle, else the last ones that were pulled, one
/// after the other. Returns the first that is permitted. Who is refused is no witness, though the
/// same round permits it: what ends just now may have refused the others too.
async fn permitted_witness(
    cycle: &Cycle,
    tally: &CycleTally,
    refused: &[Refusal],
    token: Option<&Arc<AccessToken>>,
) -> Result<Option<PersonId>, StoreFailed> {
    let is_refused = |person: &PersonId| refused.iter().any(|refusal| refusal.task.person() == person);
    let witnesses = if let Some(permitted) = tally.permitted.clone().filter(|person| !is_refused(person)) {
        vec![permitted]
    } else {
        // As many more as may be among the refused.
        let latest = cycle.warehouse.latest_pulled(WITNESSES_MAX + refused.len()).await?;
        latest.into_iter().filter(|person| !is_refused(person)).take(WITNESSES_MAX).collect()
    };
    for person in witnesses {
        match question(cycle, &person, token).await {
            Ok(()) => return Ok(Some(person)),
            Err(RequestFailed::Stopped) => return Ok(None),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Purges, holds, pulls or leaves each patient as it was judged.
async fn act(cycle: &Cycle, tally: &mut CycleTally, judged: Vec<Judged>) -> Result<(), StoreFailed> {
    let is_confirmed = |one: &Judged| one.verdict == RefusalVerdict::Confirmed;
    let holds_rows = |one: &Judged| one.refusal.task.lease.checkpoint.holds_rows;
    // Those who wait for want of a witness, or because HealthEx permits what its record does not, may be
    // of the same fault as those who have waited enough.
    let waits = |one: &Judged| match one.verdict {
        RefusalVerdict::Held(HeldWhy::Alone) => true,
        RefusalVerdict::Held(HeldWhy::Contradicted) => matches!(one.record, RecordSays::Ended { .. }),
        _ => false,
    };
    let refused = |one: &&Judged| holds_rows(one) && (is_confirmed(one) || waits(one));
    let confirmed = judged.iter().filter(refused).count() as u64;
    let lately = cycle.warehouse.withdrawals(clock::now()).await?;
    let withdrawals = Withdrawals { confirmed, ..lately };
    let holds_many = are_too_many(withdrawals, cycle.settings.consent.hold);
    if holds_many && judged.iter().any(|one| is_confirmed(one) && holds_rows(one)) {
        let (counted, of) = (withdrawals.counted(), withdrawals.of());
        let are = if cycle.warehouse.is_rehearsal() { "would be" } else { "are" };
        tracing::error!(
            counted,
            of,
            "{counted} of {of} patients were refused or withdrew within 24 hours, which looks like broken access: no more {are} purged. If these are withdrawals, run `healthex-sync purge --held --yes`; if not, check the API key's permissions"
        );
    }
    for one in judged {
        let was_many = one.refusal.task.lease.checkpoint.held_why == Some(HeldWhy::Many);
        match one.verdict {
            RefusalVerdict::Confirmed if holds_rows(&one) && (holds_many || was_many) => {
                hold(cycle, tally, &one, HeldWhy::Many).await?;
            }
            RefusalVerdict::Confirmed => revoke(cycle, tally, &one).await?,
            RefusalVerdict::Held(why) => hold(cycle, tally, &one, why).await?,
            RefusalVerdict::Stray => pull_stray(cycle, tally, one.refusal).await?,
            // Another round of this cycle asks it again.
            RefusalVerdict::First => {
                tally.count(one.refusal.note(cycle).await);
            }
            RefusalVerdict::Unanswered => {
                let (refusal, failed) = (&one.refusal, one.failed.as_ref());
                let answer = failed.map_or_else(|| "no answer".to_owned(), ToString::to_string);
                let why = format!("{}, which could not be confirmed: {answer}", suspicion(refusal));
                let breaks_row = failed.is_some_and(RequestFailed::is_other_answer);
                fail(cycle, tally, refusal, &why, breaks_row).await?;
            }
        }
    }
    Ok(())
}

/// Nothing was asked: the patients stay refused, and the next cycle begins with them.
async fn leave(
    cycle: &Cycle,
    tally: &mut CycleTally,
    refused: Vec<Refusal>,
    failed: &RequestFailed,
) -> Result<(), StoreFailed> {
    for refusal in refused {
        let why = format!("{}, which could not be confirmed: {failed}", suspicion(&refusal));
        if matches!(failed, RequestFailed::Stopped) {
            end(cycle, &refusal, PullOutcome::Interrupted, Some(&why), None).await?;
            tally.not_reached += 1;
            tally.end(EndedEarly::Stopped);
        } else {
            fail(cycle, tally, &refusal, &why, false).await?;
        }
    }
    Ok(())
}

/// Returns why a patient is asked in a round.
fn suspicion(refusal: &Refusal) -> &'static str {
    match refusal.task.lease.checkpoint.consent_ended_at {
        Some(_) => "withdrawn or expired by its consent record",
        None => "refused (403)",
    }
}

/// Pulls a patient whose refusal was a stray one, or finds that its filter is what is not permitted.
async fn pull_stray(cycle: &Cycle, tally: &mut CycleTally, refusal: Refusal) -> Result<(), StoreFailed> {
    let why = "refused once (403), permitted when asked again";
    let is_ended = end(cycle, &refusal, PullOutcome::Failed, Some(why), None).await?;
    let mut task = refusal.task;
    let is_ours = is_ended && release(cycle, &mut task).await?;
    let mode = match task.due {
        Due::Pull(mode) | Due::AskAgain(Some(mode)) if is_ours => mode,
        _ => {
            tally.skipped += 1;
            return Ok(());
        }
    };
    let mut report = Box::pin(pull_alone(cycle, task, mode)).await;
    if let PatientOutcome::Refused(mut again) = report.outcome {
        let why = "refused (403) with the filter it is pulled with, and permitted without; check its types";
        tally.resources += report.tally;
        tally.pages += report.pages;
        if take_again(cycle, &mut again.task).await? && release(cycle, &mut again.task).await? {
            return fail(cycle, tally, &again, why, false).await;
        }
        tally.skipped += 1;
        return Ok(());
    }
    if let PatientOutcome::Ends(ended) = report.outcome {
        if let EndedEarly::Warehouse(failed) = ended {
            return Err(failed);
        }
        report.outcome = PatientOutcome::Failed { contact: Contact::Answered, why: ended.to_string() };
        tally.end(ended);
    }
    tally.count(report);
    Ok(())
}

/// Notes that a patient is permitted, and takes it again. Returns whether it is still ours to deal with.
async fn release(cycle: &Cycle, task: &mut Task) -> Result<bool, StoreFailed> {
    let is_noted = note_permitted(cycle, task.person()).await? == Fenced::Kept(());
    Ok(is_noted && take_again(cycle, task).await?)
}

/// Takes a patient again with whom one move was done. Returns whether nobody else has taken it, or purged it, since.
async fn take_again(cycle: &Cycle, task: &mut Task) -> Result<bool, StoreFailed> {
    let Some(lease) = cycle.warehouse.claim(task.person()).await? else {
        let name = task.name();
        tracing::info!(person = %name, "{name}: another worker has taken this patient, or an operator has purged it; nothing more is done about it here");
        return Ok(false);
    };
    task.lease = lease;
    Ok(true)
}

/// Purges a patient whose withdrawal is confirmed.
async fn revoke(cycle: &Cycle, tally: &mut CycleTally, one: &Judged) -> Result<(), StoreFailed> {
    let ended = one.refusal.ended(PullOutcome::Revoked, None);
    // The name goes with the rows.
    let name = one.refusal.task.name().to_owned();
    let erased = match cycle.warehouse.revoke(ended, one.at, clock::now()).await {
        // The next cycle begins with it.
        Err(failed) if failed.concern() == Concern::Patient => {
            let why = format!("consent withdrawn, and not purged: {failed}");
            return fail(cycle, tally, &one.refusal, &why, false).await;
        }
        erased => erased?,
    };
    if let Some(erased) = erased {
        tally.purged.push(cycle.say_purged(&name, PurgeReason::ConsentRevoked, erased.rows()));
    }
    tally.revoked += 1;
    Ok(())
}

/// Keeps a refused patient's data until somebody, or a later round, decides.
async fn hold(cycle: &Cycle, tally: &mut CycleTally, one: &Judged, why: HeldWhy) -> Result<(), StoreFailed> {
    let (refusal, was_permitted) = (&one.refusal, one.answer == Answer::Permitted);
    let text = match why {
        HeldWhy::Alone => {
            "refused (403), and nobody else was permitted to show that it is a withdrawal; asked again each cycle"
        }
        HeldWhy::Many => {
            "consent withdrawn, and held because too many were at once; `purge --held --yes` purges it, a permitted pull releases it"
        }
        HeldWhy::Token => {
            "refused (403), and there is no other token to confirm it with; `purge --held --yes` purges it, a permitted pull releases it"
        }
        HeldWhy::Contradicted if was_permitted => {
            "its consent record says withdrawn or expired, and HealthEx permits it all the same: not pulled, and purged once the record has said so for consent.alone_after"
        }
        HeldWhy::Contradicted => {
            "refused (403), and its consent record says that the patient consents: it is our access that is broken; mend the API key's permissions, a permitted pull releases it"
        }
    };
    let event = Event::Held(why);
    let setback = Setback { error: Some(text.to_owned()), was_permitted, ..Setback::answered(event) };
    if end(cycle, refusal, PullOutcome::Held, Some(text), Some(setback)).await? {
        tally.hold(why);
    } else {
        tally.skipped += 1;
    }
    Ok(())
}

/// Leaves a patient as it is, refused or not, because nothing more was learned of it, unless the
/// answer `breaks_row`.
async fn fail(
    cycle: &Cycle,
    tally: &mut CycleTally,
    refusal: &Refusal,
    why: &str,
    breaks_row: bool,
) -> Result<(), StoreFailed> {
    let name = refusal.task.name();
    tracing::warn!(person = %name, "{name}: {why}; what it has is kept");
    let setback = Setback {
        error: Some(why.to_owned()),
        next_attempt_at: Some(cycle.next_attempt_after(refusal.task.lease.checkpoint.failures + 1)),
        was_answered: false,
        breaks_row,
        ..Setback::answered(Event::PullFailed)
    };
    if end(cycle, refusal, PullOutcome::Failed, Some(why), Some(setback)).await? {
        tally.fail(why.to_owned());
    } else {
        tally.skipped += 1;
    }
    Ok(())
}

/// Writes down what has come of a patient. Returns whether nobody else has taken it, or purged it, meanwhile: else that
/// is theirs to say.
async fn end(
    cycle: &Cycle,
    refusal: &Refusal,
    outcome: PullOutcome,
    error: Option<&str>,
    setback: Option<Setback>,
) -> Result<bool, StoreFailed> {
    let mut ended = refusal.ended(outcome, error.map(str::to_owned));
    ended.setback = setback;
    Ok(cycle.warehouse.end_pull(ended, clock::now()).await? == Fenced::Kept(()))
}

//! HealthEx's consent records in a cycle: read where that is due, taken over, and asked about a
//! patient in a round.
//!
//! Promise: records that do not answer change nothing, and are told. Absent on purpose: what a record
//! means, which is `plan::records`'s and `plan::consent`'s.

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::patient::Refusal;
use super::tasks::Task;
use super::{Cycle, RecordsAsked};
use crate::clock;
use crate::healthex::RequestFailed;
use crate::healthex::client::Api;
use crate::healthex::consents::{AskedPatient, RecordsFailed, RecordsOf};
use crate::plan::Timestamp;
use crate::plan::consent::{Answer, RecordSays, Standing, kept_says};
use crate::plan::records::{
    Answered, Clocks, ConsentToLookAt, ConsentsUpdate, KeptConsent, PatientRecord, RecordsNow,
    SCOPES_LOOKED_AT_MAX, ScopesSeen, StudyReading, take_over, weightier,
};
use crate::roster::RosterPatient;
use crate::settings::RosterSettings;
use crate::stop::Stop;
use crate::warehouse::failure::StoreFailed;
use crate::wording::counted;

/// What a cycle knows by the records.
pub(super) struct Reading {
    pub(super) records: RecordsNow,
    /// The credentials were refused, and what was said.
    pub(super) credentials_refused: Option<String>,
}

/// Reads the records of the studies that are due, and takes them over.
pub(super) async fn read(cycle: &Cycle, of_files: &[RosterPatient]) -> Result<Reading, StoreFailed> {
    let roster = &cycle.settings.roster;
    if roster.studies.is_empty() && !cycle.warehouse.has_consents().await? {
        return Ok(Reading { records: RecordsNow::unasked(), credentials_refused: None });
    }
    let mut kept = cycle.warehouse.consents().await?;
    for patient in of_files {
        kept.known.entry(patient.person.clone()).or_default();
    }
    let wanted = roster.wanted_records(cycle.settings.consent.hold, cycle.request.allow_shrunk_roster);
    let due = match cycle.request.records {
        RecordsAsked::Now => roster.studies.clone(),
        RecordsAsked::WhenDue => kept.due(wanted, roster.consents_every, clock::now()),
    };
    let Asked { readings, server_date, credentials_refused } =
        ask_studies(&cycle.api, roster, &due, &cycle.stop).await;
    let clocks = Clocks::of(clock::now(), server_date);
    let (update, records) = take_over(kept, wanted, readings, clocks);
    say(&update, &records);
    let has_read = !update.seen.is_empty();
    cycle.warehouse.note_consents(update, clocks.now).await?;
    if has_read {
        look_at_scopes(cycle).await?;
    }
    Ok(Reading { records, credentials_refused })
}

/// What the studies that were asked have answered.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) readings: Vec<StudyReading>,
    /// The earliest of the server's answers.
    pub(crate) server_date: Option<Timestamp>,
    /// The credentials were refused, and what was said.
    pub(crate) credentials_refused: Option<String>,
}

/// Asks the studies that are due about all their patients, one after the other.
pub(crate) async fn ask_studies(api: &Api, roster: &RosterSettings, due: &[Arc<str>], stop: &Stop) -> Asked {
    let mut asked = Asked::default();
    for study in due {
        let of = RecordsOf { study, consent_type: &roster.consent_type, patient: None };
        let answer = match api.consents(of, clock::now(), stop).await {
            Ok(dated) => {
                asked.server_date = asked.server_date.into_iter().chain(dated.server_date).min();
                Ok(dated.answer)
            }
            Err(RecordsFailed::Request(RequestFailed::Stopped)) => return asked,
            Err(failed) => {
                if let RecordsFailed::Request(refused @ RequestFailed::CredentialsRefused { .. }) = &failed {
                    asked.credentials_refused = Some(refused.to_string());
                }
                Err(failed.to_string())
            }
        };
        asked.readings.push(StudyReading { study: study.clone(), answer });
    }
    asked
}

fn say(update: &ConsentsUpdate, records: &RecordsNow) {
    for problem in &records.problems {
        tracing::warn!("consent records: {problem}");
    }
    let unreadable = records.unreadable.len() + records.unreadable_kept;
    if unreadable > 0 {
        let of = counted(unreadable, "patient", "patients");
        tracing::warn!(
            patients = unreadable,
            "the consent records of {of} cannot be read; what was known of them is kept, and nobody of them counts as gone"
        );
    }
    let (changed, gone) = (update.put.len(), update.gone.len());
    let (ended, open) = (update.ended.len(), update.open.len());
    if changed + gone + ended + open > 0 {
        let patients = records.patients().len();
        tracing::info!(
            patients,
            changed,
            gone,
            ended,
            given_again = open,
            "consent records of {}: {changed} new or changed, {gone} gone, {ended} withdrawn or expired",
            counted(patients, "patient", "patients")
        );
    }
}

/// Looks at what some of the consents let through, those first that were looked at longest ago. Who
/// shares more or less than before is pulled in full.
async fn look_at_scopes(cycle: &Cycle) -> Result<(), StoreFailed> {
    let mut waiting = cycle.warehouse.consents_to_look_at(SCOPES_LOOKED_AT_MAX).await?.into_iter();
    let Some(first) = waiting.next() else { return Ok(()) };
    let (first, answer) = look_at(cycle, first).await;
    let mut seen = vec![first];
    // Where one is not answered, the others are left for another time.
    if let Err(failed) = answer {
        tracing::debug!("what consents let through cannot be looked at: {failed}");
    } else {
        let others = stream::iter(waiting)
            .map(|consent| look_at(cycle, consent))
            .buffer_unordered(cycle.settings.sync.concurrency);
        seen.extend(others.map(|(scopes, _)| scopes).collect::<Vec<_>>().await);
    }
    if cycle.stop.is_asked() {
        return Ok(());
    }
    let changed = cycle.warehouse.note_scopes(seen, clock::now()).await?;
    if !changed.is_empty() {
        let patients = changed.len();
        tracing::info!(
            patients,
            "the consents of {} let through something else: pulled in full",
            counted(patients, "patient", "patients")
        );
    }
    Ok(())
}

async fn look_at(cycle: &Cycle, consent: ConsentToLookAt) -> (ScopesSeen, Result<(), RecordsFailed>) {
    let ConsentToLookAt { person, study, record_id } = consent;
    let answer = cycle.api.consent_scopes(&record_id, &person, &cycle.stop).await;
    let scopes = answer.as_ref().ok().copied().flatten();
    (ScopesSeen { person, study, scopes }, answer.map(drop))
}

/// What the records say of a patient in a round.
pub(super) struct Word {
    pub(super) says: RecordSays,
    /// A consent that is given again, which the warehouse does not know of.
    given_again: Vec<KeptConsent>,
}

impl Word {
    fn of(says: RecordSays) -> Self {
        Self { says, given_again: Vec::new() }
    }
}

/// Keeps the consents that a round has found to be given again: what said before that they had ended is
/// broken off.
pub(super) async fn keep_given_again(
    cycle: &Cycle,
    words: impl Iterator<Item = &mut Word>,
) -> Result<(), StoreFailed> {
    let put: Vec<KeptConsent> = words.flat_map(|word| std::mem::take(&mut word.given_again)).collect();
    if put.is_empty() {
        return Ok(());
    }
    let open = put.iter().map(|kept| kept.person.clone()).collect();
    cycle
        .warehouse
        .note_consents(ConsentsUpdate { put, open, ..ConsentsUpdate::default() }, clock::now())
        .await
}

/// Returns what the records say, in a round, of a patient who was answered so.
pub(super) async fn says(cycle: &Cycle, refusal: &Refusal, answer: Answer) -> Word {
    let ended_at = refusal.task.lease.checkpoint.consent_ended_at;
    let is_asked = match answer {
        Answer::Refused => true,
        Answer::Permitted | Answer::Unknown => ended_at.is_some(),
        Answer::None => false,
    };
    if cycle.settings.roster.studies.is_empty() || !is_asked {
        return Word::of(RecordSays::Nothing);
    }
    let said = |standing: Option<Standing>| match standing {
        None => RecordSays::Nothing,
        Some(Standing::Consented) => RecordSays::Consented,
        Some(Standing::Withdrawn | Standing::Expired) => {
            RecordSays::Ended { since: Some(ended_at.unwrap_or_else(clock::now)) }
        }
    };
    // A consent may have been withdrawn since the records were read; what has ended, has.
    let record = refusal.task.record.as_deref();
    if let Some(PatientRecord { standing, is_new: true, .. }) = record
        && !standing.is_consent()
    {
        return Word::of(said(Some(*standing)));
    }
    match ask_about(cycle, &refusal.task).await {
        Ok(known) => {
            let standing = known.standing;
            let is_given_again = ended_at.is_some() && standing.is_some_and(Standing::is_consent);
            Word { says: said(standing), given_again: if is_given_again { known.kept } else { Vec::new() } }
        }
        Err(failed) => {
            let name = refusal.task.name();
            tracing::warn!(person = %name, "{name}: the consent record cannot be read: {failed}");
            Word::of(record.map_or(RecordSays::Nothing, |record| {
                kept_says(record.standing, record.seen_at, answer, refusal.refused_at)
            }))
        }
    }
}

/// What all studies together say of one patient, and the record of each.
struct Known {
    standing: Option<Standing>,
    kept: Vec<KeptConsent>,
}

/// Asks the records of all studies about one patient. One that does not answer matters only where no
/// other has a consent.
async fn ask_about(cycle: &Cycle, task: &Task) -> Result<Known, RecordsFailed> {
    let mut failure = None;
    let mut kept = Vec::new();
    let mut clocks = Clocks::of(clock::now(), None);
    let mut all = Answered::Nothing;
    let roster = &cycle.settings.roster;
    for study in &roster.studies {
        let patient = Some(AskedPatient { person: task.person(), name: task.name() });
        let of = RecordsOf { study, consent_type: &roster.consent_type, patient };
        match cycle.api.consents(of, clocks.now, &cycle.stop).await {
            Ok(dated) => {
                clocks = Clocks::of(clocks.earlier, dated.server_date);
                for (person, answered) in dated.answer.patients {
                    if let Answered::Recorded(record) = &answered {
                        let (record, seen_at) = (record.clone(), clock::now());
                        kept.push(KeptConsent { person, study: study.clone(), record, seen_at });
                    }
                    all = weightier(all, answered, clocks.earlier);
                }
            }
            Err(failed) => failure = Some(failed),
        }
    }
    match (all, failure) {
        (Answered::Recorded(record), None) => {
            Ok(Known { standing: Some(record.standing(clocks.earlier)), kept })
        }
        (Answered::Recorded(record), Some(failed)) => {
            let standing = record.standing(clocks.earlier);
            if standing.is_consent() { Ok(Known { standing: Some(standing), kept }) } else { Err(failed) }
        }
        (Answered::Nothing | Answered::Unreadable, Some(failed)) => Err(failed),
        (Answered::Nothing | Answered::Unreadable, None) => Ok(Known { standing: None, kept }),
    }
}

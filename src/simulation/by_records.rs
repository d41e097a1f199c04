//! What is always true where the consent records of a study are read.

use super::heard::Heard;
use super::look::Patient;
use super::moment::{CLOCK_MAX, DAY, FAILURE_DELAY_MAX, Moment, Untrue, untrue};
use super::network::{Answered, With};
use super::people::Person;
use super::readings::Readings;
use super::records::Said;
use super::wording::lasting;
use crate::time::{TimeDelta, Timestamp};

/// What a world's bounds are made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) every: TimeDelta,
    /// How often the records are read.
    pub(super) read_each: TimeDelta,
}

impl Bounds {
    /// Returns how long it takes at most until a cycle knows what the records say, and has acted on it.
    fn known_within(self) -> TimeDelta {
        self.read_each + self.every * 3 + TimeDelta::hours(1)
    }
}

/// Checks all of it about one patient.
pub(super) fn hold(
    moment: &Moment<'_>,
    person: &mut Person,
    patient: &Patient,
    bounds: Bounds,
    heard: &Heard,
    readings: &Readings,
) -> Result<(), Untrue> {
    let known_since = person.scopes_known_since.unwrap_or(moment.now);
    person.scopes_known_since = moment.look.knows_scopes(&person.id).then_some(known_since);
    a_withdrawal_by_record_is_purged_within_its_bound(moment, person, patient, bounds)?;
    who_has_withdrawn_or_is_listed_by_nobody_is_not_pulled(moment, person, bounds, heard)?;
    contradicted_is_only_who_is(moment, person, patient, heard, readings)?;
    an_answer_that_is_not_to_be_believed_changes_nothing(moment, patient, readings)?;
    other_scopes_bring_a_full_pull(moment, person, patient, bounds)
}

/// "Record withdrawn and `$everything` permitted: purged when the record has said so for `consent.alone_after`
/// without a break"; refused as well, at once.
fn a_withdrawal_by_record_is_purged_within_its_bound(
    moment: &Moment<'_>,
    person: &Person,
    patient: &Patient,
    bounds: Bounds,
) -> Result<(), Untrue> {
    // That is another rule's.
    if !person.has_ended_by_record(moment.now) || !patient.holds_rows || patient.is_held_as("many") {
        return Ok(());
    }
    let contradiction = if person.has_consented { DAY + CLOCK_MAX } else { TimeDelta::zero() };
    let calm_for = moment.calm_for(person);
    if calm_for <= bounds.known_within() + contradiction {
        return Ok(());
    }
    let shows = format!(
        "the record of {} ended {} ago, HealthEx {} the patient, who is {} ({})",
        person.id,
        lasting(calm_for),
        if person.has_consented { "permits" } else { "refuses" },
        patient.state,
        patient.held_why.as_deref().unwrap_or("no reason told"),
    );
    untrue("every withdrawal by record is purged within its bound", shows)
}

/// "Record withdrawn and `$everything` permitted: not pulled any more"; and "the roster is the files' patients
/// and the studies'": who is neither is not pulled.
fn who_has_withdrawn_or_is_listed_by_nobody_is_not_pulled(
    moment: &Moment<'_>,
    person: &Person,
    bounds: Bounds,
    heard: &Heard,
) -> Result<(), Untrue> {
    if person.has_ended_by_record(moment.now) {
        is_not_pulled(moment, person, bounds, heard, "who has withdrawn by its record is not pulled")?;
    }
    if !person.is_listed(moment.now) {
        is_not_pulled(moment, person, bounds, heard, "who is listed by no file and no record is not pulled")?;
    }
    Ok(())
}

fn is_not_pulled(
    moment: &Moment<'_>,
    person: &Person,
    bounds: Bounds,
    heard: &Heard,
    truth: &'static str,
) -> Result<(), Untrue> {
    let Some(calm) = moment.calm_since else { return Ok(()) };
    let since = calm.max(person.is_so_since(moment.now));
    let known = since + bounds.known_within();
    let mut late = heard.of(&person.id).rev().take_while(|answer| answer.at > known);
    match late.find(|answer| !answer.is_question) {
        None => Ok(()),
        Some(answer) => {
            untrue(truth, format!("{} was pulled at {}, and is so since {since}", person.id, answer.at))
        }
    }
}

/// "`held` as `contradicted`": HealthEx and the record say two things.
fn contradicted_is_only_who_is(
    moment: &Moment<'_>,
    person: &mut Person,
    patient: &Patient,
    heard: &Heard,
    readings: &Readings,
) -> Result<(), Untrue> {
    let is_contradicted = patient.is_held_as("contradicted");
    person.is_contradicted_by_backup &= is_contradicted;
    if !is_contradicted || person.is_contradicted_by_backup {
        return Ok(());
    }
    let told = || heard.of(&patient.person).rev().filter(|answer| answer.with != With::Other);
    // What came while the disk was full is not known.
    let is_known = |answer: &Answered| moment.commits_since.is_some_and(|since| since < answer.at);
    if !told().any(is_known) {
        return Ok(());
    }
    let contradicts = |with: With, at: Timestamp| {
        // The record is asked after HealthEx is.
        let until = at + ROUND_TAKES_MAX;
        let known = readings.of(&patient.person, until).map(|(_, said)| said.by(until));
        let mut known =
            known.filter(|said| !matches!(said, Said::Unreadable | Said::Nothing)).take(KNOWN_MAX);
        known.any(|said| {
            matches!((with, said), (With::Bundle, Said::Ended) | (With::Refusal, Said::Consented { .. }))
        })
    };
    if told().take(KNOWN_MAX).any(|answer| contradicts(answer.with, answer.at)) {
        return Ok(());
    }
    let shows = format!("{} is held as contradicted, and its record and HealthEx agree", patient.person);
    untrue("contradicted is only who is: HealthEx and the record say two things", shows)
}

/// No round takes longer from one question to its record.
const ROUND_TAKES_MAX: TimeDelta = TimeDelta::minutes(20);
/// A cycle asks up to three times about whom it has not judged yet; the one before may have died at that, too.
const KNOWN_MAX: usize = 6;

/// "An answer that fails, is cut, or has lost as many as the hold rule would hold changes nothing."
fn an_answer_that_is_not_to_be_believed_changes_nothing(
    moment: &Moment<'_>,
    patient: &Patient,
    readings: &Readings,
) -> Result<(), Untrue> {
    // A purge takes what is kept of the record, until it is read again.
    if patient.is_listed || !patient.holds_rows {
        return Ok(());
    }
    let Some(last) = readings.last_of_all() else { return Ok(()) };
    let is_stored = moment.commits_since.is_some_and(|since| since + ROUND_TAKES_MAX < last.at);
    let is_taken_over = is_stored && moment.now - last.at > ROUND_TAKES_MAX;
    let is_listed_by_it = last.said_of(&patient.person).is_some_and(|said| said.by(moment.now).is_consent());
    if !is_taken_over || !is_listed_by_it || readings.may_be_lost_since(last, &patient.person) {
        return Ok(());
    }
    let shows = format!("{} is not listed any more, and consented at {}", patient.person, last.at);
    untrue("an answer of the records that fails, is cut or has lost many changes nothing", shows)
}

/// "A record whose scopes have grown brings a full pull; narrowed ones too."
fn other_scopes_bring_a_full_pull(
    moment: &Moment<'_>,
    person: &Person,
    patient: &Patient,
    bounds: Bounds,
) -> Result<(), Untrue> {
    let Some(record) = person.record.filter(|record| record.is_there) else { return Ok(()) };
    if patient.state != "active" || !person.is_pulled(moment.now) || !person.has_consented {
        return Ok(());
    }
    // Nobody can tell that something is other than what was never seen.
    if person.scopes_known_since.is_none_or(|since| since >= record.scopes_since) {
        return Ok(());
    }
    let calm_for = moment.calm_for(person).min(moment.now - record.scopes_since);
    let is_late = calm_for > bounds.known_within() + FAILURE_DELAY_MAX;
    // By our clock, which may be behind.
    let is_older = patient.last_full_at.is_none_or(|full| full < record.scopes_since - CLOCK_MAX);
    if !is_late || !is_older {
        return Ok(());
    }
    let shows = format!(
        "{} shares something else since {}, and was not pulled in full",
        person.id, record.scopes_since
    );
    untrue("a record that lets something else through brings a full pull", shows)
}

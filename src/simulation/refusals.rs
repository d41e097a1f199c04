//! What is always true of refusals: which are believed, with what beside them, and how many at once.

use std::collections::BTreeSet;

use super::heard::Heard;
use super::look::Purge;
use super::moment::{CLOCK_MAX, DAY, HOLD_AFTER, Moment, Untrue, untrue};
use super::network::{Answered, With};
use super::readings::Readings;
use crate::time::{TimeDelta, Timestamp};

const HOLD_FRACTION: f64 = 0.02;
/// No cycle lasts longer from its reading of the records to its last round.
const CYCLE_TAKES_MAX: TimeDelta = TimeDelta::hours(3);

/// Purges for a withdrawn consent that the program has made by itself, and when they were found, by the true time.
#[derive(Default)]
pub(super) struct ConsentPurges(Vec<(String, Timestamp)>);

impl ConsentPurges {
    /// "Written down at once, believed on evidence only."
    pub(super) fn a_refusal_is_believed_on_evidence_only(
        &mut self,
        moment: &Moment<'_>,
        purge: &Purge,
        heard: &Heard,
        readings: &Readings,
    ) -> Result<(), Untrue> {
        let purged_at = moment.stage.true_time_of(purge.purged_at);
        if !is_by_its_record(&purge.person, purged_at, heard, readings) {
            is_by_refusals(&purge.person, purged_at, heard, readings)?;
        }
        self.many_at_once_are_held(moment, &purge.person)
    }

    /// "Many at once are held."
    fn many_at_once_are_held(&mut self, moment: &Moment<'_>, person: &str) -> Result<(), Untrue> {
        self.0.push((person.to_owned(), moment.now));
        // By our clock a day may have been shorter.
        let window = DAY - CLOCK_MAX;
        let lately: BTreeSet<&String> =
            self.0.iter().filter(|(_, at)| moment.now - *at < window).map(|(person, _)| person).collect();
        let holders = moment.look.patients.values().filter(|patient| patient.holds_rows).count();
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let share = lately.len() as f64 / (holders + lately.len()) as f64;
        if lately.len() >= HOLD_AFTER && share >= HOLD_FRACTION {
            let shows = format!("{} were purged within a day, {person} the last", lately.len());
            return untrue("many at once are held", shows);
        }
        Ok(())
    }
}

/// "403 and record together are a confirmed withdrawal"; with a record alone, once it "has said so for
/// `consent.alone_after` without a break". Either is said anew.
fn is_by_its_record(person: &str, purged_at: Timestamp, heard: &Heard, readings: &Readings) -> bool {
    let Some((first, last)) = readings.ended(person, purged_at) else { return false };
    if purged_at - last > CYCLE_TAKES_MAX {
        return false;
    }
    let questions = heard.of(person).rev().filter(|answer| answer.is_question && answer.at <= purged_at);
    let mut told = questions.filter(|answer| answer.with != With::Other);
    let is_refused = told
        .next()
        .is_some_and(|answer| answer.with == With::Refusal && purged_at - answer.at <= CYCLE_TAKES_MAX);
    is_refused || purged_at - first >= DAY - CLOCK_MAX
}

fn is_by_refusals(
    person: &str,
    purged_at: Timestamp,
    heard: &Heard,
    readings: &Readings,
) -> Result<(), Untrue> {
    // Of a row of refusals that nothing but silence and refusals interrupts, until it was purged.
    let mut row: Vec<&Answered> = Vec::new();
    for answer in heard.of(person).rev().filter(|answer| answer.at <= purged_at) {
        match answer.with {
            With::Refusal => row.push(answer),
            With::Bundle => break,
            With::Other => {}
        }
    }
    if row.is_empty() {
        return match readings.ended(person, purged_at) {
            None => untrue("nobody is purged without a refusal", person.to_owned()),
            Some((first, last)) => untrue(
                "nobody is purged for a record that HealthEx contradicts before consent.alone_after, or that is not said anew",
                format!(
                    "{person} was permitted, and its record had ended from {first} to {last} when it was purged"
                ),
            ),
        };
    }
    if row.len() < 2 {
        return untrue("nobody is purged on one refusal", person.to_owned());
    }
    // Who is purged is asked again in each cycle, so the one that was believed need not be the last.
    if !row.iter().any(|believed| believed.is_question) {
        return untrue("nobody is purged through a filter", person.to_owned());
    }
    let is_fresh = |believed: &&&Answered| {
        believed.is_question && row.iter().any(|earlier| earlier.token < believed.token)
    };
    let fresh: Vec<&&Answered> = row.iter().filter(is_fresh).collect();
    if fresh.is_empty() {
        return untrue("nobody is purged with the token that was refused", person.to_owned());
    }
    let first_at = row.iter().map(|answer| answer.at).min().unwrap_or_default();
    if !fresh.iter().any(|believed| is_believable(believed, first_at, heard)) {
        let shows = format!("{person}: no witness before and after, and refused since {first_at} only");
        return untrue("nobody is purged without a witness before consent.alone_after", shows);
    }
    who_consents_by_its_record_is_held(person, purged_at, &row, readings)
}

/// Returns whether a refusal has a witness before and after it, or has lasted for long enough.
fn is_believable(believed: &Answered, first_at: Timestamp, heard: &Heard) -> bool {
    let is_witness = |answer: &&Answered| {
        answer.person != believed.person
            && answer.with == With::Bundle
            && answer.is_question
            && answer.token == believed.token
    };
    let witnesses = || heard.all().filter(is_witness);
    let before = witnesses().any(|answer| answer.at <= believed.at);
    let after = witnesses().any(|answer| answer.at >= believed.at);
    before && after || believed.at - first_at >= DAY - CLOCK_MAX
}

/// "Record consented and 403: `held` as `contradicted`": where the record was asked after the refusal.
fn who_consents_by_its_record_is_held(
    person: &str,
    purged_at: Timestamp,
    row: &[&Answered],
    readings: &Readings,
) -> Result<(), Untrue> {
    let asked_at = row.iter().filter(|answer| answer.is_question).map(|answer| answer.at).max();
    let said = readings.of(person, purged_at).find(|(reading, _)| reading.of.is_some());
    match (said, asked_at) {
        (Some((reading, said)), Some(asked_at)) if reading.at >= asked_at && said.is_consent() => untrue(
            "who is refused and consents by its record is held",
            format!("{person} was purged, refused at {asked_at}, and its record says {said:?}"),
        ),
        _ => Ok(()),
    }
}

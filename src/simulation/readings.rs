//! What of the consent records was read in the last days.

use std::collections::{BTreeMap, VecDeque};

use super::look::{Look, Patient};
use super::moment::HOLD_AFTER;
use super::records::{Reading, Said};
use crate::time::{TimeDelta, Timestamp};

/// Nothing that is judged goes back further.
const REMEMBERED: TimeDelta = TimeDelta::days(8);

/// What was read in the last days, the oldest first.
#[derive(Default)]
pub(super) struct Readings {
    all: VecDeque<Reading>,
    /// When a backup was put back, and since when by it a record has ended or a roster has lacked a patient.
    restored_at: Option<Timestamp>,
    ended_in_backup: BTreeMap<String, Timestamp>,
    missing_in_backup: BTreeMap<String, Timestamp>,
}

/// So many more may be lost without that it is many by the program's count, which is of those it still has.
const SHRUNK_BY: usize = 7;

impl Readings {
    /// Takes in what was read. `has_room` says whether it could be stored.
    pub(super) fn add(&mut self, readings: Vec<Reading>, has_room: bool, now: Timestamp) {
        for mut reading in readings {
            let is_lost = |person: &&String| reading.said_of(person) == Some(Said::Nothing);
            let lost = self.last_of_all().map_or(0, |last| last.consented().filter(is_lost).count());
            let is_empty = reading.of.is_none() && reading.said.is_empty();
            reading.is_doubtful = !has_room || reading.of.is_none() && (lost >= HOLD_AFTER || is_empty);
            self.all.push_back(reading);
        }
        while self.all.front().is_some_and(|reading| now - reading.at > REMEMBERED) {
            self.all.pop_front();
        }
    }

    /// Returns the last answer about all that is to be believed.
    pub(super) fn last_of_all(&self) -> Option<&Reading> {
        self.all.iter().rev().find(|reading| reading.of.is_none() && !reading.is_doubtful)
    }

    /// Returns whether an answer lacks a patient that came after that one, and that may be believed: it
    /// has not lost so many that nobody can, nor all.
    pub(super) fn may_be_lost_since(&self, last: &Reading, person: &str) -> bool {
        let later = self.all.iter().rev().take_while(|reading| reading.at > last.at);
        let mut of_all = later.filter(|reading| reading.of.is_none());
        of_all.any(|reading| {
            let is_lost = |person: &&String| reading.said_of(person) == Some(Said::Nothing);
            let lost = last.consented().filter(is_lost).count();
            reading.said_of(person) == Some(Said::Nothing) && lost < SHRUNK_BY && !reading.said.is_empty()
        })
    }

    /// Returns what was said of a patient until then, the latest first.
    pub(super) fn of<'r>(
        &'r self,
        person: &'r str,
        until: Timestamp,
    ) -> impl Iterator<Item = (&'r Reading, Said)> {
        let before = self.all.iter().rev().filter(move |reading| reading.at <= until);
        before.filter_map(|reading| Some((reading, reading.said_of(person)?)))
    }

    /// Returns since when, without a break until then, and when last it was said of a patient that the consent has
    /// ended.
    pub(super) fn ended(&self, person: &str, until: Timestamp) -> Option<(Timestamp, Timestamp)> {
        let mut run: Option<(Timestamp, Timestamp)> = None;
        let mut went_back_to_a_backup = true;
        for (reading, said) in self.of(person, until) {
            if self.restored_at.is_some_and(|at| reading.at < at) {
                break;
            }
            match said {
                Said::Ended => run = Some((reading.at, run.map_or(reading.at, |(_, last)| last))),
                Said::Unreadable => {}
                _ if reading.is_doubtful => {}
                // The answer about one patient does not say that nothing is known of it.
                Said::Nothing if reading.of.is_some() => {}
                Said::Nothing | Said::Consented { .. } => {
                    went_back_to_a_backup = false;
                    // One that has run out has ended then, read or not.
                    if let (Said::Consented { until: Some(until) }, Some((first, _))) = (said, &mut run)
                        && until <= *first
                    {
                        *first = until;
                    }
                    break;
                }
            }
        }
        let in_backup = self.ended_in_backup.get(person).filter(|_| went_back_to_a_backup);
        run.map(|(first, last)| (in_backup.map_or(first, |at| first.min(*at)), last))
    }

    /// Returns whether the consent has ended by what was said last of a patient: withdrawn, or run out since.
    pub(super) fn have_ended(&self, person: &str, now: Timestamp) -> bool {
        let mut told = self.of(person, now).filter(|(reading, _)| !reading.is_doubtful);
        let ran_out = told.find(|(_, said)| !matches!(said, Said::Unreadable | Said::Nothing));
        self.ended(person, now).is_some() || ran_out.is_some_and(|(_, said)| said.by(now) == Said::Ended)
    }

    /// Returns whether the consent had ended by what was said of a patient, at any time since then.
    pub(super) fn have_ended_since(&self, person: &str, since: Timestamp, now: Timestamp) -> bool {
        let said_at = self.of(person, now).map(|(reading, _)| reading.at).take_while(|at| *at > since);
        // It may have run out before it was given again.
        let mut times = said_at.flat_map(|at| [at, at - TimeDelta::seconds(1)]).chain([since, now]);
        times.any(|at| self.have_ended(person, at))
    }

    /// Returns since when no answer that is to be believed has had a record of a patient.
    pub(super) fn lacked_since(&self, person: &str, until: Timestamp) -> Option<Timestamp> {
        let of_all = self.of(person, until).filter(|(reading, _)| reading.of.is_none());
        let lacking = of_all.take_while(|(reading, said)| reading.is_doubtful || *said == Said::Nothing);
        let since = lacking.filter(|(reading, _)| !reading.is_doubtful).last().map(|(reading, _)| reading.at);
        let in_backup = self.missing_in_backup.get(person).copied();
        since.into_iter().chain(in_backup).min()
    }

    /// Returns from when to when answers that are to be believed did not list a patient, if the last one is
    /// the first that does so again.
    pub(super) fn is_listed_again(&self, person: &str) -> Option<(Timestamp, Timestamp)> {
        let is_listed = |reading: &&Reading| reading.said_of(person).is_some_and(Said::is_consent);
        let mut believed =
            self.all.iter().rev().filter(|reading| reading.of.is_none() && !reading.is_doubtful);
        // One that changes nothing has listed nobody again.
        let newest = self.all.back()?;
        believed.next().filter(is_listed).filter(|last| last.at == newest.at)?;
        let mut without = believed.take_while(|reading| !is_listed(reading)).map(|reading| reading.at);
        let last = without.next()?;
        Some((without.last().unwrap_or(last), last))
    }

    /// A backup was put back: what it knows is what the program goes by.
    pub(super) fn restore(&mut self, look: &Look, now: Timestamp) {
        self.restored_at = Some(now);
        let known = |time: fn(&Patient) -> Option<Timestamp>| {
            let known = look
                .patients
                .values()
                .filter_map(move |patient| Some((patient.person.clone(), time(patient)?)));
            known.collect()
        };
        self.ended_in_backup = known(|patient| patient.consent_ended_at);
        self.missing_in_backup = known(|patient| patient.missing_since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + TimeDelta::hours(hours)
    }

    fn readings(told: &[(i64, Said)]) -> Readings {
        let mut readings = Readings::default();
        for (hours, said) in told {
            let said = BTreeMap::from([("anna".to_owned(), *said), ("ben".to_owned(), Said::Unreadable)]);
            let reading = Reading { at: at(*hours), of: None, said, is_doubtful: false };
            readings.add(vec![reading], true, at(*hours));
        }
        readings
    }

    const CONSENTED: Said = Said::Consented { until: None };

    #[test]
    fn a_consent_has_ended_by_the_last_word_or_when_it_runs_out() {
        let until = |hours| Said::Consented { until: Some(at(hours)) };
        for (told, expected) in [
            (&[(1, CONSENTED)][..], false),
            (&[(1, CONSENTED), (2, Said::Ended)], true),
            (&[(1, Said::Ended), (2, CONSENTED)], false),
            (&[(1, Said::Ended), (2, Said::Unreadable)], true),
            (&[(1, until(9))], true),
            (&[(1, until(11))], false),
            (&[(1, until(9)), (2, until(11))], false),
        ] {
            assert_eq!(readings(told).have_ended("anna", at(10)), expected, "{told:?}");
        }
    }

    #[test]
    fn who_is_listed_again_is_so_by_the_last_answer_alone() {
        let lacked = Said::Nothing;
        for (told, expected) in [
            (&[(1, CONSENTED), (2, lacked), (3, lacked), (4, CONSENTED)][..], Some((at(2), at(3)))),
            (&[(1, CONSENTED), (2, lacked), (3, CONSENTED), (4, CONSENTED)], None),
            (&[(1, CONSENTED), (2, lacked)], None),
            (&[(1, CONSENTED)], None),
        ] {
            assert_eq!(readings(told).is_listed_again("anna"), expected, "{told:?}");
        }
    }
}

//! What HealthEx's consent records say: who is on the roster by them, who has withdrawn, whose consent
//! runs out, and whether an answer is to be believed.
//!
//! The last good answer is kept. One that has failed, or that lacks as many patients as the hold rule
//! would hold, leaves it as it is: nobody is lost by an answer that was cut.

mod scopes;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::scopes::{ConsentToLookAt, SCOPES_LOOKED_AT_MAX, ScopesSeen, scopes_hash};
use super::consent::{HoldRule, Standing, Withdrawals, are_too_many};
use super::{PersonId, Timestamp};
use crate::time::TimeDelta;
use crate::wording::counted;

/// One record, or the one that counts of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConsentRecord {
    pub(crate) id: Option<String>,
    pub(crate) consented: bool,
    /// `None` is never.
    pub(crate) expires_at: Option<Timestamp>,
}

impl ConsentRecord {
    pub(crate) fn standing(&self, now: Timestamp) -> Standing {
        standing(self.consented, self.expires_at, now)
    }
}

fn standing(consented: bool, expires_at: Option<Timestamp>, now: Timestamp) -> Standing {
    match consented {
        false => Standing::Withdrawn,
        true if expires_at.is_some_and(|end| end <= now) => Standing::Expired,
        true => Standing::Consented,
    }
}

/// What an answer says of one patient in one study.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    Recorded(ConsentRecord),
    /// A record that cannot be read: neither a consent nor a withdrawal.
    Unreadable,
    /// No record of this study and type.
    Nothing,
}

/// Returns which of two answers about one patient counts. A consent that is given outweighs what has
/// ended; what cannot be read might be one.
pub(crate) fn weightier(one: Answered, other: Answered, now: Timestamp) -> Answered {
    if weight(&other, now) > weight(&one, now) { other } else { one }
}

/// The later a consent ends, the more it weighs; one without an end is the last.
fn weight(answer: &Answered, now: Timestamp) -> (u8, Timestamp) {
    match answer {
        Answered::Nothing => (0, Timestamp::MIN_UTC),
        Answered::Unreadable => (3, Timestamp::MIN_UTC),
        Answered::Recorded(record) => {
            let end = record.expires_at.unwrap_or(Timestamp::MAX_UTC);
            match record.standing(now) {
                Standing::Expired => (1, end),
                Standing::Withdrawn => (2, end),
                Standing::Consented => (4, end),
            }
        }
    }
}

/// What an answer about one study says of all its patients.
#[derive(Clone, Debug, Default)]
pub(crate) struct StudyAnswer {
    pub(crate) patients: Vec<(PersonId, Answered)>,
    /// Entries that do not say whom they are about: anybody may be among them.
    pub(crate) nameless: u64,
}

impl StudyAnswer {
    /// Returns how many patients have a consent that stands so.
    pub(crate) fn count(&self, standing: Standing, now: Timestamp) -> u64 {
        let is_it = |answered: &Answered| match answered {
            Answered::Recorded(record) => record.standing(now) == standing,
            Answered::Unreadable | Answered::Nothing => false,
        };
        self.patients.iter().filter(|(_, answered)| is_it(answered)).count() as u64
    }

    /// Puts the patients in order, each of them once.
    pub(crate) fn settle(&mut self, now: Timestamp) {
        self.patients.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        self.patients.dedup_by(|(later, answer), (person, before)| {
            let is_same = later == person;
            if is_same {
                let take = |answer| std::mem::replace(answer, Answered::Nothing);
                *before = weightier(take(before), take(answer), now);
            }
            is_same
        });
    }
}

/// A consent as the warehouse keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptConsent {
    pub(crate) person: PersonId,
    pub(crate) study: Arc<str>,
    pub(crate) record: ConsentRecord,
    /// When an answer last said so.
    pub(crate) seen_at: Timestamp,
}

/// A study whose records have been asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptStudy {
    pub(crate) study: Arc<str>,
    pub(crate) consent_type: String,
    /// When its last good answer was read.
    pub(crate) read_at: Option<Timestamp>,
    pub(crate) failing_since: Option<Timestamp>,
    /// What is wrong with every answer since.
    pub(crate) problem: Option<String>,
    /// How many rows were kept of its last good answer; `None` where that was not noted.
    pub(crate) patients: Option<u64>,
}

impl KeptStudy {
    /// Returns how many of those that its last good answer had were purged since, of whom nothing is kept.
    fn purged_since(&self, kept: &[KeptConsent]) -> u64 {
        self.patients.map_or(0, |patients| patients.saturating_sub(kept.len() as u64))
    }
}

/// What taking an answer over needs of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct KnownPatient {
    /// Purged for a consent or by an operator: nothing of it is kept but what the checkpoint says.
    pub(crate) is_settled: bool,
    /// Since when the records have said that there is no consent.
    pub(crate) consent_ended_at: Option<Timestamp>,
}

impl KnownPatient {
    fn is_open(&self) -> bool {
        !self.is_settled && self.consent_ended_at.is_none()
    }
}

/// All that the warehouse keeps of consent records.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeptConsents {
    /// In the order of studies, and of patients in each.
    pub(crate) rows: Vec<KeptConsent>,
    pub(crate) studies: Vec<KeptStudy>,
    pub(crate) known: HashMap<PersonId, KnownPatient>,
    /// Who was ever purged, or refused before anything was stored.
    pub(crate) purged: HashSet<PersonId>,
}

/// The records that are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'w> {
    pub(crate) studies: &'w [Arc<str>],
    pub(crate) consent_type: &'w str,
    pub(crate) hold: HoldRule,
    /// Whether a study may have lost any number of patients.
    pub(crate) allow_shrunk: bool,
}

impl Wanted<'_> {
    fn wants(&self, kept: &KeptStudy) -> bool {
        self.studies.contains(&kept.study) && kept.consent_type == self.consent_type
    }
}

impl KeptConsents {
    fn study(&self, study: &str, consent_type: &str) -> Option<&KeptStudy> {
        self.studies.iter().find(|kept| *kept.study == *study && kept.consent_type == consent_type)
    }

    /// Returns the studies that no good answer was ever read of.
    pub(crate) fn unread(&self, wanted: Wanted<'_>) -> Vec<Arc<str>> {
        let is_read = |study: &&Arc<str>| {
            self.study(study, wanted.consent_type).is_some_and(|kept| kept.read_at.is_some())
        };
        wanted.studies.iter().filter(|study| !is_read(study)).cloned().collect()
    }

    /// Returns the studies whose records are to be read: not read for so long, or a consent has run
    /// out since, which may have been renewed.
    pub(crate) fn due(&self, wanted: Wanted<'_>, every: Duration, now: Timestamp) -> Vec<Arc<str>> {
        // A cycle that begins a little earlier than the one before does not wait for the next.
        let every =
            TimeDelta::from_std(every.saturating_sub((every / 10).min(SLACK_MAX))).unwrap_or(TimeDelta::MAX);
        let is_due = |study: &Arc<str>| {
            let kept = self.study(study, wanted.consent_type);
            let Some(read_at) = kept.and_then(|kept| kept.read_at) else { return true };
            let has_expired = |row: &KeptConsent| {
                let is_over = row.study == *study && row.record.standing(now) == Standing::Expired;
                // Where it was over when the records were read, it was not yet by the server's clock.
                let was_consent = row.record.standing(read_at).is_consent()
                    || row.record.expires_at.is_some_and(|end| now - end <= CLOCKS_DIFFER_MAX)
                        && self.known.get(&row.person).is_some_and(KnownPatient::is_open);
                is_over && was_consent
            };
            // A time that lies ahead was noted by a wrong clock.
            read_at > now || every <= now - read_at || self.rows.iter().any(has_expired)
        };
        wanted.studies.iter().filter(|study| is_due(study)).cloned().collect()
    }
}

const SLACK_MAX: Duration = Duration::from_secs(30);

/// No clock that is to be trusted is further ahead of the server's.
const CLOCKS_DIFFER_MAX: TimeDelta = TimeDelta::days(1);

/// What the records say of one patient, over all studies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PatientRecord {
    /// The study whose record counts.
    pub(crate) study: Arc<str>,
    pub(crate) standing: Standing,
    pub(crate) expires_at: Option<Timestamp>,
    /// When an answer last said so.
    pub(crate) seen_at: Timestamp,
    /// Whether that was just now.
    pub(crate) is_new: bool,
}

/// What the warehouse is to keep after a reading of the records, in one transaction.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConsentsUpdate {
    /// No longer asked for, or for records of another type.
    pub(crate) forgotten: Vec<Arc<str>>,
    pub(crate) studies: Vec<KeptStudy>,
    /// Those that were read: every row that is kept of them was seen now, but for those in `put`.
    pub(crate) seen: Vec<Arc<str>>,
    /// New or changed.
    pub(crate) put: Vec<KeptConsent>,
    /// No longer in the records, or of a patient that nothing else is kept of.
    pub(crate) gone: Vec<(Arc<str>, PersonId)>,
    /// Known patients whose consent has ended by the records, and those it has not or no longer.
    pub(crate) ended: Vec<PersonId>,
    pub(crate) open: Vec<PersonId>,
}

/// Where the records stand after a reading.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordsNow {
    /// In the order of the ids.
    patients: Vec<(PersonId, PatientRecord)>,
    /// Whether all studies were read now.
    pub(crate) is_new: bool,
    /// What is wrong, a sentence a study.
    pub(crate) problems: Vec<String>,
    /// Who has a record that cannot be read, and none that is kept, in the order of the ids: it may be a consent, so
    /// that they are not on the roster by it, nor missing from it.
    pub(crate) unreadable: Vec<PersonId>,
    /// How many others have one that cannot be read, in whose place the one that is kept counts.
    pub(crate) unreadable_kept: usize,
}

impl RecordsNow {
    /// Returns what is known where no records are asked for.
    pub(crate) fn unasked() -> Self {
        Self { is_new: true, ..Self::default() }
    }

    pub(crate) fn patients(&self) -> &[(PersonId, PatientRecord)] {
        &self.patients
    }

    pub(crate) fn of(&self, person: &PersonId) -> Option<&PatientRecord> {
        let at = self.patients.binary_search_by(|(other, _)| other.cmp(person)).ok()?;
        Some(&self.patients[at].1)
    }
}

/// An answer about one study, or why there is none.
pub(crate) struct StudyReading {
    pub(crate) study: Arc<str>,
    pub(crate) answer: Result<StudyAnswer, String>,
}

/// What two clocks say: a consent has not run out before it has by both.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Clocks {
    pub(crate) now: Timestamp,
    /// The server's where it has told it and it is behind, else the same.
    pub(crate) earlier: Timestamp,
}

impl Clocks {
    pub(crate) fn of(now: Timestamp, server: Option<Timestamp>) -> Self {
        Self { now, earlier: server.map_or(now, |server| server.min(now)) }
    }
}

/// Takes over what was read, beside what is kept.
pub(crate) fn take_over(
    kept: KeptConsents,
    wanted: Wanted<'_>,
    readings: Vec<StudyReading>,
    clocks: Clocks,
) -> (ConsentsUpdate, RecordsNow) {
    let KeptConsents { rows, studies, known, purged } = kept;
    let mut by_study: HashMap<Arc<str>, Vec<KeptConsent>> = HashMap::new();
    for row in rows {
        by_study.entry(row.study.clone()).or_default().push(row);
    }
    let mut readings: HashMap<Arc<str>, Result<StudyAnswer, String>> =
        readings.into_iter().map(|reading| (reading.study, reading.answer)).collect();
    let mut taking = Taking { wanted, known, purged, clocks, ..Taking::default() };
    for kept in studies.iter().filter(|kept| !wanted.wants(kept)) {
        by_study.remove(&kept.study);
        taking.update.forgotten.push(kept.study.clone());
    }
    for study in wanted.studies {
        let note = studies.iter().find(|kept| kept.study == *study && wanted.wants(kept));
        let rows = by_study.remove(study).unwrap_or_default();
        taking.take_study(study, note.cloned(), rows, readings.remove(study));
    }
    taking.finish()
}

/// A reading, while it is taken over study by study.
#[derive(Default)]
struct Taking<'t> {
    wanted: Wanted<'t>,
    known: HashMap<PersonId, KnownPatient>,
    purged: HashSet<PersonId>,
    clocks: Clocks,
    update: ConsentsUpdate,
    /// What each study says of each patient.
    patients: Vec<(PersonId, PatientRecord)>,
    /// Known patients of whom an answer says that the consent has ended.
    told_ended: HashSet<PersonId>,
    unreadable: Vec<PersonId>,
    unreadable_kept: usize,
    /// A study was not read, or not well.
    is_incomplete: bool,
}

impl Taking<'_> {
    fn take_study(
        &mut self,
        study: &Arc<str>,
        note: Option<KeptStudy>,
        kept: Vec<KeptConsent>,
        reading: Option<Result<StudyAnswer, String>>,
    ) {
        let mut note = note.unwrap_or_else(|| KeptStudy {
            study: study.clone(),
            consent_type: self.wanted.consent_type.to_owned(),
            read_at: None,
            failing_since: None,
            problem: None,
            patients: None,
        });
        let judged = reading.map(|answer| {
            let answer = answer?;
            match self.judge(&note, &kept, &answer) {
                None => Ok(answer),
                Some(why) => Err(why),
            }
        });
        match judged {
            Some(Ok(answer)) => {
                (note.read_at, note.failing_since) = (Some(self.clocks.now), None);
                note.problem = nameless_problem(study, answer.nameless);
                self.update.seen.push(study.clone());
                note.patients = Some(self.merge(study, kept, answer));
            }
            not_taken => {
                self.is_incomplete = true;
                for row in kept {
                    self.stand(row, false);
                }
                if let Some(Err(why)) = not_taken {
                    note.failing_since = note.failing_since.or(Some(self.clocks.now));
                    let instead = match note.read_at {
                        Some(_) => "the last good answer is kept",
                        None => "it was never read, so that nobody is on the roster by it",
                    };
                    note.problem = Some(format!("study {study}: {why}; {instead}"));
                }
            }
        }
        self.update.studies.push(note);
    }

    /// Goes along what is kept and what was answered, both in the order of the patients. Returns how many rows are kept
    /// from now on.
    fn merge(&mut self, study: &Arc<str>, kept: Vec<KeptConsent>, answer: StudyAnswer) -> u64 {
        let before = self.patients.len();
        let is_nameless = answer.nameless > 0;
        let mut kept = kept.into_iter().peekable();
        for (person, answered) in answer.patients {
            while let Some(row) = kept.next_if(|row| row.person < person) {
                self.miss(row, is_nameless);
            }
            let before = kept.next_if(|row| row.person == person);
            match (answered, before) {
                (Answered::Recorded(record), before) => self.record(study, person, record, before),
                (Answered::Unreadable, Some(row)) => {
                    self.unreadable_kept += 1;
                    self.leave(row);
                }
                (Answered::Nothing, Some(row)) => self.miss(row, false),
                (Answered::Unreadable, None) => self.unreadable.push(person),
                (Answered::Nothing, None) => {}
            }
        }
        for row in kept {
            self.miss(row, is_nameless);
        }
        (self.patients.len() - before) as u64
    }

    /// Takes what an answer says of one patient. Of who has withdrawn and is not here, or not any more,
    /// nothing is kept.
    fn record(
        &mut self,
        study: &Arc<str>,
        person: PersonId,
        record: ConsentRecord,
        before: Option<KeptConsent>,
    ) {
        if !record.standing(self.clocks.earlier).is_consent() {
            let known = self.known.get(&person);
            if known.is_some() {
                self.told_ended.insert(person.clone());
            }
            if known.is_none_or(|known| known.is_settled) {
                self.update.gone.extend(before.map(|row| (row.study, row.person)));
                return;
            }
        }
        let is_same = before.is_some_and(|before| before.record == record);
        let row = KeptConsent { person, study: study.clone(), record, seen_at: self.clocks.now };
        if !is_same {
            self.update.put.push(row.clone());
        }
        self.stand(row, true);
    }

    /// Takes a row that the answer lacks, or may have under an entry that names nobody.
    fn miss(&mut self, row: KeptConsent, may_be_there: bool) {
        if may_be_there {
            self.leave(row);
        } else {
            self.update.gone.push((row.study, row.person));
        }
    }

    /// Keeps a row as it was.
    fn leave(&mut self, row: KeptConsent) {
        self.update.put.push(row.clone());
        self.stand(row, false);
    }

    /// Counts a row for its patient, seen now or not.
    fn stand(&mut self, row: KeptConsent, is_new: bool) {
        let KeptConsent { person, study, record, seen_at } = row;
        let (standing, expires_at) = (record.standing(self.clocks.earlier), record.expires_at);
        self.patients.push((person, PatientRecord { study, standing, expires_at, seen_at, is_new }));
    }

    /// Returns why an answer is not to be believed, or `None` if it is. An answer that was doubted does not become
    /// likelier because some of those that it lacks were purged meanwhile.
    fn judge(&self, note: &KeptStudy, kept: &[KeptConsent], answer: &StudyAnswer) -> Option<String> {
        // Where an entry names nobody, nobody counts as gone.
        if self.wanted.allow_shrunk || answer.nameless > 0 {
            return None;
        }
        let consents = kept.iter().filter(|row| row.record.standing(self.clocks.earlier).is_consent());
        let is_lost = |row: &&KeptConsent| is_missing(answer, &row.person);
        let (holders, lost) = (consents.clone().count() as u64, consents.filter(is_lost).count() as u64);
        let is_empty = answer.patients.iter().all(|(_, answered)| *answered == Answered::Nothing);
        let shrunk =
            Withdrawals { confirmed: lost, purged_lately: self.lost_and_purged(note, kept, answer), holders };
        let is_doubted = lost > 0 && (is_empty || are_too_many(shrunk, self.wanted.hold));
        let (lost, of) = (shrunk.counted(), shrunk.of());
        is_doubted.then(|| {
            format!(
                "the answer has lost {lost} of {of} patients at once; if they are meant to go, run `healthex-sync sync --allow-shrunk-roster`"
            )
        })
    }

    /// Returns how many an answer lacks of those that the last good one had and that were purged since.
    fn lost_and_purged(&self, note: &KeptStudy, kept: &[KeptConsent], answer: &StudyAnswer) -> u64 {
        let purged_since = note.purged_since(kept);
        if purged_since == 0 {
            return 0;
        }
        // Those that were purged before, and long ago, are among them too.
        let lost = self.purged.iter().filter(|person| is_missing(answer, person)).count() as u64;
        purged_since.min(lost)
    }

    fn finish(mut self) -> (ConsentsUpdate, RecordsNow) {
        let patients = combine(std::mem::take(&mut self.patients));
        let problems = self.update.studies.iter().filter_map(|note| note.problem.clone()).collect();
        let mut unreadable = std::mem::take(&mut self.unreadable);
        unreadable.sort_unstable();
        unreadable.dedup();
        let (is_new, unreadable_kept) = (!self.is_incomplete, self.unreadable_kept);
        let records = RecordsNow { patients, is_new, problems, unreadable, unreadable_kept };
        for (person, known) in &self.known {
            let has_consent = match records.of(person) {
                Some(record) => Some(record.standing.is_consent()),
                None if self.told_ended.contains(person) => Some(false),
                // Gone without a word, unless a study that was not read knows better.
                None => records.is_new.then_some(true),
            };
            match (has_consent, known.consent_ended_at) {
                (Some(true), Some(_)) => self.update.open.push(person.clone()),
                (Some(false), None) => self.update.ended.push(person.clone()),
                _ => {}
            }
        }
        (self.update, records)
    }
}

fn nameless_problem(study: &str, nameless: u64) -> Option<String> {
    (nameless > 0).then(|| {
        let entries = counted(nameless, "entry of the answer does", "entries of the answer do");
        format!("study {study}: {entries} not say which patient is meant; nobody counts as gone")
    })
}

fn is_missing(answer: &StudyAnswer, person: &PersonId) -> bool {
    let found = answer.patients.binary_search_by(|(other, _)| other.cmp(person));
    found.map_or(true, |at| answer.patients[at].1 == Answered::Nothing)
}

/// Returns what all studies together say of each patient, in the order of their ids.
fn combine(mut patients: Vec<(PersonId, PatientRecord)>) -> Vec<(PersonId, PatientRecord)> {
    let rank = |record: &PatientRecord| {
        let standing = match record.standing {
            Standing::Consented => 2,
            Standing::Withdrawn => 1,
            Standing::Expired => 0,
        };
        (standing, record.expires_at.unwrap_or(Timestamp::MAX_UTC))
    };
    // The weightiest first, which is the one that stays.
    patients.sort_unstable_by(|(one, first), (other, second)| {
        one.cmp(other).then_with(|| rank(second).cmp(&rank(first)))
    });
    patients.dedup_by(|(one, _), (other, _)| one == other);
    patients
}

/// Consents that run out soon are told so often.
const EXPIRING_TOLD_EVERY: TimeDelta = TimeDelta::days(1);

/// Returns whether consents that run out soon were told so lately that they are not told again.
pub(crate) fn was_told_lately(told: Option<Timestamp>, now: Timestamp) -> bool {
    // A time that lies ahead was noted by a wrong clock.
    told.is_some_and(|told| told <= now && now - told < EXPIRING_TOLD_EVERY)
}

#[cfg(test)]
mod tests;

//! What needs a person, and what has been said about it: once when it begins, once when it is over.
//!
//! Decides from facts; `alert` does the telling. Held in memory only: after a restart, what is
//! still a problem is told again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;

use crate::plan::{Timestamp, stamp};

/// The kinds, each told by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Problem {
    Held,
    Credentials,
    Stale,
    Scrub,
    Roster,
    Warehouse,
}

impl Problem {
    pub(super) const ALL: [Self; 6] =
        [Self::Held, Self::Credentials, Self::Stale, Self::Scrub, Self::Roster, Self::Warehouse];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Credentials => "credentials",
            Self::Stale => "stale",
            Self::Scrub => "scrub",
            Self::Roster => "roster",
            Self::Warehouse => "warehouse",
        }
    }

    /// For a sentence that lists several.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Held => "revocations are held",
            Self::Credentials => "the credentials are missing or refused",
            Self::Stale => "patients are behind",
            Self::Scrub => "bytes of purged patients wait to be removed",
            Self::Roster => "the roster cannot be used",
            Self::Warehouse => "the warehouse cannot be used",
        }
    }

    fn over(self) -> &'static str {
        match self {
            Self::Held => "no purge is held any more",
            Self::Credentials => "the credentials are accepted again",
            Self::Stale => "no patient is behind any more",
            Self::Scrub => "the last bytes of purged patients are gone",
            Self::Roster => "the roster can be used again",
            Self::Warehouse => "the warehouse can be used again",
        }
    }
}

/// A patient, as far as being behind goes.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) name: String,
    pub(super) last_success_at: Option<Timestamp>,
}

/// What is so at the end of a turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) held: Vec<String>,
    /// Listed, enabled, and pulled in vain or not at all.
    pub(super) pulled: Vec<Standing>,
    pub(super) oldest_unscrubbed: Option<Timestamp>,
    pub(super) scrub_due: Option<Timestamp>,
}

/// What began, or is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) problem: Problem,
    pub(super) is_over: bool,
    pub(super) text: String,
}

/// More names than this make no sentence.
const NAMES_MAX: usize = 10;

/// The problems there are, and whom each was told about.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    told: BTreeMap<Problem, BTreeSet<String>>,
    texts: BTreeMap<Problem, String>,
}

impl Ledger {
    pub(super) fn texts(&self) -> &BTreeMap<Problem, String> {
        &self.texts
    }

    /// A problem of the whole service, or (`None`) its end.
    pub(super) fn note(&mut self, problem: Problem, text: Option<&str>) -> Option<News> {
        let whom = text.map(|_| String::new()).into_iter().collect();
        self.note_some(problem, whom, |_| text.unwrap_or_default().to_owned())
    }

    /// A problem of `names`. News only where one is new, or none is left.
    fn note_some(
        &mut self,
        problem: Problem,
        names: BTreeSet<String>,
        word: impl Fn(&BTreeSet<String>) -> String,
    ) -> Option<News> {
        let told = self.told.entry(problem).or_default();
        let fresh: BTreeSet<String> = names.difference(told).cloned().collect();
        let was_told = !told.is_empty();
        let text = word(&names);
        let is_over = names.is_empty();
        *told = names;
        if is_over {
            self.texts.remove(&problem);
            return was_told.then(|| News { problem, is_over: true, text: problem.over().to_owned() });
        }
        self.texts.insert(problem, text);
        (!fresh.is_empty()).then(|| News { problem, is_over: false, text: word(&fresh) })
    }

    /// What a turn's end says about patients.
    pub(super) fn take(
        &mut self,
        facts: &Facts,
        stale_after: Duration,
        started_at: Timestamp,
        now: Timestamp,
    ) -> Vec<News> {
        let held = facts.held.iter().cloned().collect();
        let behind = facts.pulled.iter().filter(|patient| is_behind(patient, stale_after, started_at, now));
        let behind = behind.map(|patient| patient.name.clone()).collect();
        let patience = TimeDelta::from_std(stale_after).unwrap_or(TimeDelta::MAX);
        let scrub_late = facts.oldest_unscrubbed.filter(|since| {
            let due = facts.scrub_due.unwrap_or(*since);
            now - due > patience
        });
        let scrub = scrub_late.map(|since| {
            format!("bytes of patients purged on {} are still in the file; `healthex-sync status` says what they wait for", stamp(since))
        });
        let news = [
            self.note_some(Problem::Held, held, |names| {
                format!(
                    "{} held, because too many were refused at once to purge them unasked: if these are withdrawals, run `healthex-sync purge --held --yes`; if not, mend the API key's permissions",
                    count(names)
                )
            }),
            self.note_some(Problem::Stale, behind, |names| {
                format!("{} behind by more than {}; `healthex-sync status` says why", count(names), hours(stale_after))
            }),
            self.note(Problem::Scrub, scrub.as_deref()),
        ];
        news.into_iter().flatten().collect()
    }
}

/// One that never succeeded is behind since the daemon began to try.
pub(super) fn is_behind(
    patient: &Standing,
    stale_after: Duration,
    started_at: Timestamp,
    now: Timestamp,
) -> bool {
    let since = patient.last_success_at.unwrap_or(started_at);
    TimeDelta::from_std(stale_after).is_ok_and(|patience| now - since > patience)
}

fn count(names: &BTreeSet<String>) -> String {
    let listed: Vec<&str> = names.iter().take(NAMES_MAX).map(String::as_str).collect();
    let listed = listed.join(", ");
    match names.len() {
        1 => format!("1 patient ({listed}) is"),
        many if many <= NAMES_MAX => format!("{many} patients ({listed}) are"),
        many => format!("{many} patients ({listed} and {} more) are", many - NAMES_MAX),
    }
}

pub(super) fn hours(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds if seconds < 2 * 3600 => format!("{} min", seconds / 60),
        seconds if seconds < 2 * 86_400 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn told(ledger: &mut Ledger, facts: &Facts) -> Vec<(Problem, bool)> {
        ledger
            .take(facts, DAY, at(0), at(100_000))
            .into_iter()
            .map(|news| (news.problem, news.is_over))
            .collect()
    }

    #[test]
    fn a_problem_is_told_once_and_once_when_it_is_over() {
        let mut ledger = Ledger::default();
        let facts = Facts { held: vec!["anna".to_owned()], ..Facts::default() };
        assert_eq!(told(&mut ledger, &facts), [(Problem::Held, false)]);
        assert_eq!(told(&mut ledger, &facts), []);
        let more = Facts { held: vec!["anna".to_owned(), "ben".to_owned()], ..Facts::default() };
        assert_eq!(told(&mut ledger, &more), [(Problem::Held, false)]);
        assert_eq!(told(&mut ledger, &facts), []);
        assert_eq!(told(&mut ledger, &Facts::default()), [(Problem::Held, true)]);
        assert_eq!(told(&mut ledger, &Facts::default()), []);
        assert!(ledger.texts().is_empty());
    }

    #[test]
    fn a_patient_is_behind_by_its_last_success_or_since_the_start() {
        let standing =
            |last: Option<i64>| Standing { name: "anna".to_owned(), last_success_at: last.map(at) };
        let behind = |last| is_behind(&standing(last), DAY, at(0), at(100_000));
        assert!(behind(Some(10_000)) && behind(None));
        assert!(!behind(Some(50_000)));
    }

    #[test]
    fn bytes_that_wait_too_long_are_told() {
        let mut ledger = Ledger::default();
        let facts = Facts { oldest_unscrubbed: Some(at(0)), ..Facts::default() };
        assert_eq!(told(&mut ledger, &facts), [(Problem::Scrub, false)]);
        let later = Facts { scrub_due: Some(at(90_000)), ..facts };
        assert_eq!(told(&mut ledger, &later), [(Problem::Scrub, true)]);
    }
}

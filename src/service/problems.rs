//! The problems that need a person, each alerted once when it begins and once when it is over, and
//! what is to be told once.
//!
//! Decides from facts; `notifier` sends. Held in memory only: after a restart, what is still a
//! problem is alerted again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::format::span;
use crate::cycle::PurgeNote;
use crate::plan::state::PurgeReason;
use crate::plan::{Timestamp, stamp};
use crate::time::TimeDelta;
use crate::warehouse::report::{ExpiringConsent, ExpiringConsents};

/// The kinds of problems, each alerted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Problem {
    Held,
    Credentials,
    Stale,
    Scrub,
    Roster,
    Warehouse,
    Ledger,
    Consents,
}

impl Problem {
    pub(super) const ALL: [Self; 8] = [
        Self::Held,
        Self::Credentials,
        Self::Stale,
        Self::Scrub,
        Self::Roster,
        Self::Warehouse,
        Self::Ledger,
        Self::Consents,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Credentials => "credentials",
            Self::Stale => "stale",
            Self::Scrub => "scrub",
            Self::Roster => "roster",
            Self::Warehouse => "warehouse",
            Self::Ledger => "ledger",
            Self::Consents => "consents",
        }
    }

    /// Returns the words for a sentence that lists several.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Held => "revocations are held",
            Self::Credentials => "the credentials are missing or refused",
            Self::Stale => "patients are behind",
            Self::Scrub => "bytes of purged patients wait to be removed",
            Self::Roster => "the roster cannot be used",
            Self::Warehouse => "the warehouse cannot be used",
            Self::Ledger => "nobody can be purged, for want of the ledger",
            Self::Consents => "the consent records cannot be read",
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
            Self::Ledger => "the ledger of purges can be used again",
            Self::Consents => "the consent records are read again",
        }
    }
}

/// A patient that may be behind.
#[derive(Clone, Debug)]
pub(super) struct PulledPatient {
    pub(super) name: String,
    pub(super) last_success_at: Option<Timestamp>,
}

/// The state of the patients at the end of a cycle.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) held: Vec<String>,
    /// Why they are, as the names in the column `held_why`.
    pub(super) held_why: BTreeSet<&'static str>,
    /// Listed, enabled, and neither purged nor held.
    pub(super) pulled: Vec<PulledPatient>,
    pub(super) oldest_unscrubbed: Option<Timestamp>,
    pub(super) scrub_due: Option<Timestamp>,
    /// What is wrong with the ledger of purges.
    pub(super) ledger_fault: Option<String>,
}

/// The limits that the facts are compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct AlertRules {
    pub(super) stale_after: Duration,
    /// When the daemon began to try.
    pub(super) started_at: Timestamp,
    pub(super) now: Timestamp,
}

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    Began(Problem),
    Over(Problem),
    /// Patients were purged, which is over as it is told.
    Purge,
    /// Consents run out soon, which is told once a day.
    Expiring,
}

impl Occasion {
    /// Returns the name of what it is about: of the problem, `purge` or `expiring`.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Began(problem) | Self::Over(problem) => problem.as_str(),
            Self::Purge => "purge",
            Self::Expiring => "expiring",
        }
    }

    /// Returns whether a problem began, is over, or whether there is none.
    pub(super) fn phase(self) -> &'static str {
        match self {
            Self::Began(_) => "problem",
            Self::Over(_) => "over",
            Self::Purge | Self::Expiring => "event",
        }
    }
}

/// A problem that began or is over, or an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alert {
    pub(super) occasion: Occasion,
    pub(super) text: String,
}

/// As many purges of a cycle have an alert each; more are counted in one.
const PURGE_ALERTS_MAX: usize = 20;

/// Returns what is told of the purges of a cycle.
pub(super) fn purge_alerts(purged: &[PurgeNote]) -> Vec<Alert> {
    let alert = |text| Alert { occasion: Occasion::Purge, text };
    if purged.len() <= PURGE_ALERTS_MAX {
        let text = |PurgeNote { name, reason, rows }: &PurgeNote| {
            format!("{name} was purged: {rows} rows ({})", reason.as_str())
        };
        return purged.iter().map(text).map(alert).collect();
    }
    let by_reason = PurgeReason::ALL.map(|reason| {
        let count = purged.iter().filter(|purge| purge.reason == reason).count();
        (count > 0).then(|| format!("{count} {}", reason.as_str()))
    });
    let by_reason: Vec<String> = by_reason.into_iter().flatten().collect();
    let rows: u64 = purged.iter().map(|purge| purge.rows).sum();
    let text = format!(
        "{} patients were purged in one cycle: {rows} rows ({}); `healthex-sync audit` lists them",
        purged.len(),
        by_reason.join(", ")
    );
    vec![alert(text)]
}

/// More names than this make no sentence.
pub(super) const NAMES_MAX: usize = 10;

/// Returns what is told of consents that run out.
pub(super) fn expiring_alert(expiring: &ExpiringConsents) -> Alert {
    let name = |ExpiringConsent { name, expires_at }: &ExpiringConsent| format!("{name} ({expires_at})");
    let names: Vec<String> = expiring.shown.iter().map(name).collect();
    let more = expiring.total.saturating_sub(names.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let text = format!("{} consents run out soon: {}{more}", expiring.total, names.join(", "));
    Alert { occasion: Occasion::Expiring, text }
}

/// The problems there are, and the patients each was alerted about.
#[derive(Debug, Default)]
pub(super) struct AlertState {
    alerted: BTreeMap<Problem, BTreeSet<String>>,
    texts: BTreeMap<Problem, String>,
}

impl AlertState {
    pub(super) fn texts(&self) -> &BTreeMap<Problem, String> {
        &self.texts
    }

    /// Begins a problem of the whole service.
    pub(super) fn raise(&mut self, problem: Problem, text: &str) -> Option<Alert> {
        self.set_affected(problem, BTreeSet::from([String::new()]), |_| text.to_owned())
    }

    /// Ends a problem, if there was one.
    pub(super) fn resolve(&mut self, problem: Problem) -> Option<Alert> {
        self.texts.remove(&problem);
        let was_alerted = self.alerted.remove(&problem).is_some();
        was_alerted.then(|| Alert { occasion: Occasion::Over(problem), text: problem.over().to_owned() })
    }

    /// Begins or ends a problem of `names`. Returns an alert only if one is new, or none is left.
    fn set_affected(
        &mut self,
        problem: Problem,
        names: BTreeSet<String>,
        describe: impl Fn(&BTreeSet<String>) -> String,
    ) -> Option<Alert> {
        if names.is_empty() {
            return self.resolve(problem);
        }
        self.texts.insert(problem, describe(&names));
        let before = self.alerted.remove(&problem).unwrap_or_default();
        let new: BTreeSet<String> = names.difference(&before).cloned().collect();
        self.alerted.insert(problem, names);
        (!new.is_empty()).then(|| Alert { occasion: Occasion::Began(problem), text: describe(&new) })
    }

    /// Takes in the facts at the end of a cycle, and returns the alerts due.
    pub(super) fn update(&mut self, facts: &Facts, rules: AlertRules) -> Vec<Alert> {
        let stale_after = rules.stale_after;
        let held = facts.held.iter().cloned().collect();
        let behind = facts.pulled.iter().filter(|patient| is_behind(patient, rules));
        let behind = behind.map(|patient| patient.name.clone()).collect();
        let patience = TimeDelta::from_std(stale_after).unwrap_or(TimeDelta::MAX);
        let late_scrub = facts.oldest_unscrubbed.filter(|since| {
            let due = facts.scrub_due.unwrap_or(*since);
            rules.now - due > patience
        });
        let scrub = match late_scrub {
            Some(since) => self.raise(Problem::Scrub, &format!(
                "bytes of patients purged on {} are still in the file; `healthex-sync status` says what they wait for",
                stamp(since)
            )),
            None => self.resolve(Problem::Scrub),
        };
        let ledger = match &facts.ledger_fault {
            Some(fault) => self.raise(Problem::Ledger, &format!("the ledger of purges: {fault}")),
            None => self.resolve(Problem::Ledger),
        };
        let why: Vec<&str> = facts.held_why.iter().copied().collect();
        let held = self.set_affected(Problem::Held, held, |names| {
            format!(
                "{} held after a refusal ({}): if these are withdrawals, run `healthex-sync purge --held --yes`; if not, mend the API key's permissions; `healthex-sync status` says why",
                patients(names),
                why.join(", ")
            )
        });
        let stale = self.set_affected(Problem::Stale, behind, |names| {
            format!(
                "{} behind by more than {}; `healthex-sync status` says why",
                patients(names),
                span(stale_after)
            )
        });
        [held, stale, scrub, ledger].into_iter().flatten().collect()
    }
}

/// Returns whether a patient's last success is too long ago. One that never succeeded is behind
/// since the daemon began to try.
fn is_behind(patient: &PulledPatient, rules: AlertRules) -> bool {
    let since = patient.last_success_at.unwrap_or(rules.started_at);
    TimeDelta::from_std(rules.stale_after).is_ok_and(|patience| rules.now - since > patience)
}

/// The beginning of a sentence: how many patients, the first by name, and "is" or "are".
fn patients(names: &BTreeSet<String>) -> String {
    let listed: Vec<&str> = names.iter().take(NAMES_MAX).map(String::as_str).collect();
    let listed = listed.join(", ");
    match names.len() {
        1 => format!("1 patient ({listed}) is"),
        many if many <= NAMES_MAX => format!("{many} patients ({listed}) are"),
        many => format!("{many} patients ({listed} and {} more) are", many - NAMES_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn rules() -> AlertRules {
        AlertRules { stale_after: DAY, started_at: at(0), now: at(100_000) }
    }

    /// The problems alerted, and whether each is over.
    fn alerted(alert_state: &mut AlertState, facts: &Facts) -> Vec<(Problem, bool)> {
        let alerts = alert_state.update(facts, rules()).into_iter();
        let alerts = alerts.map(|alert| match alert.occasion {
            Occasion::Began(problem) => (problem, false),
            Occasion::Over(problem) => (problem, true),
            Occasion::Purge | Occasion::Expiring => panic!("{alert:?}"),
        });
        alerts.collect()
    }

    #[test]
    fn a_problem_is_alerted_once_and_once_when_it_is_over() {
        let mut alert_state = AlertState::default();
        let facts = Facts { held: vec!["anna".to_owned()], ..Facts::default() };
        assert_eq!(alerted(&mut alert_state, &facts), [(Problem::Held, false)]);
        assert_eq!(alerted(&mut alert_state, &facts), []);
        let more = Facts { held: vec!["anna".to_owned(), "ben".to_owned()], ..Facts::default() };
        assert_eq!(alerted(&mut alert_state, &more), [(Problem::Held, false)]);
        assert_eq!(alerted(&mut alert_state, &facts), []);
        assert_eq!(alerted(&mut alert_state, &Facts::default()), [(Problem::Held, true)]);
        assert_eq!(alerted(&mut alert_state, &Facts::default()), []);
        assert!(alert_state.texts().is_empty());
    }

    #[test]
    fn each_purge_is_told_unless_they_are_many() {
        let purge = |number: usize| PurgeNote {
            name: format!("study-{number}"),
            reason: if number == 0 { PurgeReason::Operator } else { PurgeReason::ConsentRevoked },
            rows: 6,
        };
        let told = |count: usize| {
            let purged: Vec<PurgeNote> = (0..count).map(purge).collect();
            purge_alerts(&purged).into_iter().map(|alert| alert.text).collect::<Vec<_>>()
        };
        assert_eq!(told(0), Vec::<String>::new());
        assert_eq!(told(20).len(), 20);
        assert_eq!(told(2)[1], "study-1 was purged: 6 rows (consent_revoked)");
        let many = "21 patients were purged in one cycle: 126 rows (20 consent_revoked, 1 operator); `healthex-sync audit` lists them";
        assert_eq!(told(21), [many]);
    }

    #[test]
    fn a_patient_is_behind_by_its_last_success_or_since_the_start() {
        let patient =
            |last: Option<i64>| PulledPatient { name: "anna".to_owned(), last_success_at: last.map(at) };
        let behind = |last| is_behind(&patient(last), rules());
        assert!(behind(Some(10_000)) && behind(None));
        assert!(!behind(Some(50_000)));
    }

    #[test]
    fn bytes_that_wait_too_long_are_alerted() {
        let mut alert_state = AlertState::default();
        let facts = Facts { oldest_unscrubbed: Some(at(0)), ..Facts::default() };
        assert_eq!(alerted(&mut alert_state, &facts), [(Problem::Scrub, false)]);
        let later = Facts { scrub_due: Some(at(90_000)), ..facts };
        assert_eq!(alerted(&mut alert_state, &later), [(Problem::Scrub, true)]);
    }
}

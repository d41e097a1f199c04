//! The problems there are, each told once when it begins, again after `alert.reminder`, and once when
//! it is over.
//!
//! Decides from facts; `notifier` sends. The warehouse remembers it, so that a restart tells nothing
//! twice. Absent on purpose: IO and the clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::time::TimeDelta;

use super::format::span;
use super::problems::{Alert, NAMES_MAX, Occasion, Problem, ShownProblem};
use crate::plan::verdict::NeedsLook;
use crate::plan::{PersonId, Timestamp, stamp};
use crate::warehouse::service::{KnownProblem, NamedPatient};

/// The state of the patients at the end of a cycle.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) held: Vec<NamedPatient>,
    /// Why they are, as the names in the column `held_why`.
    pub(super) held_why: BTreeSet<&'static str>,
    /// Listed, enabled, and neither purged nor held; not pulled for longer than `alert.stale_after`.
    pub(super) behind: Vec<NamedPatient>,
    pub(super) needs_look: NeedsLook,
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

/// The problems there are, and the patients each was told of.
#[derive(Debug, Default)]
pub(super) struct AlertState {
    open: BTreeMap<Problem, OpenProblem>,
}

#[derive(Debug)]
struct OpenProblem {
    since: Timestamp,
    told_at: Timestamp,
    text: String,
    /// Those it is about; nobody, where it is about the service as a whole.
    patients: BTreeMap<PersonId, String>,
}

impl AlertState {
    /// Takes up what was known before a restart. A text that was not written down is told by its title.
    pub(super) fn recall(known: &[KnownProblem]) -> Self {
        let open = known.iter().filter_map(|known| {
            let problem = Problem::parse(&known.kind)?;
            let patients: BTreeMap<PersonId, String> =
                known.patients.iter().map(|one| (one.person.clone(), one.name.clone())).collect();
            let text = match &known.text {
                Some(text) => text.clone(),
                None if patients.is_empty() => format!("{}; the log says more", problem.title()),
                None => format!("{}: {}", problem.title(), listed(&patients)),
            };
            let (since, told_at) = (known.since, known.told_at);
            Some((problem, OpenProblem { since, told_at, text, patients }))
        });
        Self { open: open.collect() }
    }

    /// Returns what is to be known after a restart.
    pub(super) fn known(&self) -> Vec<KnownProblem> {
        let known = self.open.iter().map(|(problem, open)| {
            let name = |(person, name): (&PersonId, &String)| NamedPatient {
                person: person.clone(),
                name: name.clone(),
            };
            KnownProblem {
                kind: problem.as_str().to_owned(),
                since: open.since,
                told_at: open.told_at,
                text: (!problem.names_patients()).then(|| open.text.clone()),
                patients: open.patients.iter().map(name).collect(),
            }
        });
        let mut known: Vec<KnownProblem> = known.collect();
        known.sort_by(|one, other| one.kind.cmp(&other.kind));
        known
    }

    pub(super) fn shown(&self) -> BTreeMap<Problem, ShownProblem> {
        let shown = |open: &OpenProblem| ShownProblem { since: open.since, text: open.text.clone() };
        self.open.iter().map(|(problem, open)| (*problem, shown(open))).collect()
    }

    /// Begins a problem of the whole service, or says more of one.
    pub(super) fn raise(&mut self, problem: Problem, text: &str, now: Timestamp) -> Option<Alert> {
        if let Some(open) = self.open.get_mut(&problem) {
            text.clone_into(&mut open.text);
            return None;
        }
        let (text, patients) = (text.to_owned(), BTreeMap::new());
        let alert = Alert { occasion: Occasion::Began(problem), text: text.clone(), since: now };
        self.open.insert(problem, OpenProblem { since: now, told_at: now, text, patients });
        Some(alert)
    }

    /// Ends a problem, if there was one.
    pub(super) fn resolve(&mut self, problem: Problem) -> Option<Alert> {
        let OpenProblem { since, .. } = self.open.remove(&problem)?;
        Some(Alert { occasion: Occasion::Over(problem), text: problem.over().to_owned(), since })
    }

    /// Begins or ends a problem of some patients. Returns an alert only if one of them is new, or none
    /// is left.
    fn set_patients(
        &mut self,
        problem: Problem,
        patients: BTreeMap<PersonId, String>,
        now: Timestamp,
        describe: impl Fn(&BTreeMap<PersonId, String>) -> String,
    ) -> Option<Alert> {
        if patients.is_empty() {
            return self.resolve(problem);
        }
        let before = self.open.remove(&problem);
        let (since, mut told_at) = before.as_ref().map_or((now, now), |open| (open.since, open.told_at));
        let was_told =
            |person: &PersonId| before.as_ref().is_some_and(|open| open.patients.contains_key(person));
        let new: BTreeMap<PersonId, String> =
            patients.iter().filter(|(person, _)| !was_told(person)).map(owned).collect();
        let alert = (!new.is_empty()).then(|| {
            told_at = now;
            Alert { occasion: Occasion::Began(problem), text: describe(&new), since }
        });
        let text = describe(&patients);
        self.open.insert(problem, OpenProblem { since, told_at, text, patients });
        alert
    }

    /// Returns what is told again because it has been there for so long since it was last told.
    pub(super) fn reminders(&mut self, every: Duration, now: Timestamp) -> Vec<Alert> {
        let every = TimeDelta::from_std(every).unwrap_or(TimeDelta::MAX);
        let mut reminders = Vec::new();
        for (problem, open) in &mut self.open {
            // A time in the future was noted by a wrong clock.
            if every <= now - open.told_at || now < open.told_at {
                open.told_at = now;
                let (text, since) = (format!("{} (since {})", open.text, stamp(open.since)), open.since);
                reminders.push(Alert { occasion: Occasion::Reminder(*problem), text, since });
            }
        }
        reminders
    }

    /// Takes in the facts at the end of a cycle, and returns the alerts due: at most one a kind.
    pub(super) fn update(&mut self, facts: &Facts, rules: AlertRules) -> Vec<Alert> {
        let AlertRules { stale_after, now, .. } = rules;
        let named = |one: &NamedPatient| (one.person.clone(), one.name.clone());
        let held = facts.held.iter().map(named).collect();
        let behind = facts.behind.iter().map(named).collect();
        let patience = TimeDelta::from_std(stale_after).unwrap_or(TimeDelta::MAX);
        let late_scrub = facts.oldest_unscrubbed.filter(|since| {
            let due = facts.scrub_due.unwrap_or(*since);
            now - due > patience
        });
        let scrub = match late_scrub {
            Some(since) => self.raise(Problem::Scrub, &format!(
                "bytes of patients purged on {} are not gone yet; `healthex-sync status` says what they wait for",
                stamp(since)
            ), now),
            None => self.resolve(Problem::Scrub),
        };
        let ledger = match &facts.ledger_fault {
            Some(fault) => self.raise(Problem::Ledger, &format!("the ledger of purges: {fault}"), now),
            None => self.resolve(Problem::Ledger),
        };
        let why: Vec<&str> = facts.held_why.iter().copied().collect();
        let held = self.set_patients(Problem::Held, held, now, |patients| {
            format!(
                "{} held, and not purged unasked ({}): `healthex-sync status` says why, and what to do",
                are(patients),
                why.join(", ")
            )
        });
        let stale = self.set_patients(Problem::Stale, behind, now, |patients| {
            format!(
                "{} behind by more than {}; `healthex-sync status` says why",
                are(patients),
                span(stale_after)
            )
        });
        [held, stale, scrub, ledger].into_iter().flatten().collect()
    }
}

fn owned((person, name): (&PersonId, &String)) -> (PersonId, String) {
    (person.clone(), name.clone())
}

/// Returns whether a patient's last success is too long ago. One that never succeeded is behind
/// since the daemon began to try.
pub(super) fn is_behind(last_success_at: Option<Timestamp>, rules: AlertRules) -> bool {
    let since = last_success_at.unwrap_or(rules.started_at);
    TimeDelta::from_std(rules.stale_after).is_ok_and(|patience| rules.now - since > patience)
}

/// The first names, and how many more there are.
fn listed(patients: &BTreeMap<PersonId, String>) -> String {
    let mut names: Vec<&str> = patients.values().map(String::as_str).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    let names = names.join(", ");
    if more == 0 { names } else { format!("{names} and {more} more") }
}

/// The beginning of a sentence: how many patients, the first by name, and "is" or "are".
fn are(patients: &BTreeMap<PersonId, String>) -> String {
    let listed = listed(patients);
    match patients.len() {
        1 => format!("1 patient ({listed}) is"),
        many => format!("{many} patients ({listed}) are"),
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

    fn named(id: &str) -> NamedPatient {
        NamedPatient { person: PersonId::parse(id).unwrap(), name: format!("study-{id}") }
    }

    fn held(ids: &[&str]) -> Facts {
        Facts { held: ids.iter().map(|id| named(id)).collect(), ..Facts::default() }
    }

    /// The problems alerted, and whether each is over.
    fn alerted(alert_state: &mut AlertState, facts: &Facts) -> Vec<(Problem, bool)> {
        let alerts = alert_state.update(facts, rules()).into_iter();
        let alerts = alerts.map(|alert| match alert.occasion {
            Occasion::Began(problem) => (problem, false),
            Occasion::Over(problem) => (problem, true),
            Occasion::Reminder(_)
            | Occasion::Purge
            | Occasion::Expiring
            | Occasion::Failover
            | Occasion::Test => {
                panic!("{alert:?}")
            }
        });
        alerts.collect()
    }

    #[test]
    fn a_problem_is_alerted_once_and_once_when_it_is_over() {
        let mut alert_state = AlertState::default();
        assert_eq!(alerted(&mut alert_state, &held(&["anna"])), [(Problem::Held, false)]);
        assert_eq!(alerted(&mut alert_state, &held(&["anna"])), []);
        assert_eq!(alerted(&mut alert_state, &held(&["anna", "ben"])), [(Problem::Held, false)]);
        assert_eq!(alerted(&mut alert_state, &held(&["anna"])), []);
        assert_eq!(alerted(&mut alert_state, &Facts::default()), [(Problem::Held, true)]);
        assert_eq!(alerted(&mut alert_state, &Facts::default()), []);
        assert!(alert_state.shown().is_empty());
    }

    #[test]
    fn a_restart_tells_nothing_twice_and_forgets_nobody() {
        let mut before = AlertState::default();
        alerted(&mut before, &held(&["anna"]));
        before.raise(Problem::Roster, "roster.toml:3: p1 is listed before", at(100_000));
        let known = before.known();
        assert!(known.iter().all(|known| known.text.is_none()), "a text that names somebody: {known:?}");

        let mut after = AlertState::recall(&known);
        assert_eq!(after.known(), known);
        let shown = after.shown();
        assert_eq!(shown[&Problem::Held].text, "patients are held: study-anna");
        assert_eq!(alerted(&mut after, &held(&["anna"])), []);
        assert_eq!(alerted(&mut after, &held(&["anna", "ben"])), [(Problem::Held, false)]);
        assert_eq!(alerted(&mut after, &Facts::default()), [(Problem::Held, true)]);
    }

    #[test]
    fn what_is_there_still_is_told_again_after_a_while() {
        let mut alert_state = AlertState::default();
        let told = |alert_state: &mut AlertState, now| -> Vec<String> {
            alert_state.reminders(DAY, at(now)).iter().map(Alert::sentence).collect()
        };
        alert_state.raise(Problem::Ledger, "the ledger is lost", at(0));
        assert_eq!(told(&mut alert_state, 86_399), [""; 0]);
        let again = "healthex-sync: still: the ledger is lost (since 2027-01-15T08:00:00Z)";
        assert_eq!(told(&mut alert_state, 86_400), [again]);
        assert_eq!(told(&mut alert_state, 86_401), [""; 0]);
        assert_eq!(told(&mut alert_state, 172_800), [again]);
        alert_state.resolve(Problem::Ledger);
        assert_eq!(told(&mut alert_state, 400_000), [""; 0]);
    }

    #[test]
    fn thirteen_hundred_held_patients_are_one_line() {
        let ids: Vec<String> = (0..1300).map(|number| format!("p{number:04}")).collect();
        let facts = held(&ids.iter().map(String::as_str).collect::<Vec<_>>());
        let alerts = AlertState::default().update(&facts, rules());
        let [alert] = &alerts[..] else { panic!("{} alerts", alerts.len()) };
        assert!(alert.text.starts_with("1300 patients (study-p0000, "), "{}", alert.text);
        assert!(alert.text.contains("study-p0009 and 1290 more) are held"), "{}", alert.text);
        assert!(alert.text.lines().count() == 1 && alert.text.len() < 500, "{}", alert.text);
    }

    #[test]
    fn a_patient_is_behind_by_its_last_success_or_since_the_start() {
        let behind = |last: Option<i64>| is_behind(last.map(at), rules());
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

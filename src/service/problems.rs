//! The kinds of what needs a person, and the words of an alert. `alert_state` decides when.

use crate::cycle::PurgeNote;
use crate::plan::Timestamp;
use crate::plan::state::PurgeReason;
use crate::warehouse::report::{ExpiringConsent, ExpiringConsents};

/// The kinds of problems, each alerted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Problem {
    Held,
    Credentials,
    Stale,
    Scrub,
    Roster,
    Settings,
    Warehouse,
    Ledger,
    Consents,
}

impl Problem {
    pub(super) const ALL: [Self; 9] = [
        Self::Held,
        Self::Credentials,
        Self::Stale,
        Self::Scrub,
        Self::Roster,
        Self::Settings,
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
            Self::Settings => "settings",
            Self::Warehouse => "warehouse",
            Self::Ledger => "ledger",
            Self::Consents => "consents",
        }
    }

    /// Reads a name that [`as_str`](Self::as_str) gave.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|problem| problem.as_str() == name)
    }

    /// Returns the words for a sentence that lists several.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Held => "patients are held",
            Self::Credentials => "the credentials are missing or refused",
            Self::Stale => "patients are behind",
            Self::Scrub => "bytes of purged patients wait to be removed",
            Self::Roster => "the roster cannot be used",
            Self::Settings => "the configuration cannot be used, and the former one is in force",
            Self::Warehouse => "the warehouse cannot be used",
            Self::Ledger => "nobody can be purged, for want of the ledger",
            Self::Consents => "the consent records cannot be read",
        }
    }

    pub(super) fn over(self) -> &'static str {
        match self {
            Self::Held => "nobody is held any more",
            Self::Credentials => "the credentials are accepted again",
            Self::Stale => "no patient is behind any more",
            Self::Scrub => "the last bytes of purged patients are gone",
            Self::Roster => "the roster can be used again",
            Self::Settings => "the configuration was read again and is in force",
            Self::Warehouse => "the warehouse can be used again",
            Self::Ledger => "the ledger of purges can be used again",
            Self::Consents => "the consent records are read again",
        }
    }

    /// Returns whether its text may name a patient: such a text is not written down.
    pub(super) fn names_patients(self) -> bool {
        match self {
            Self::Held | Self::Stale | Self::Roster | Self::Consents => true,
            Self::Credentials | Self::Scrub | Self::Settings | Self::Warehouse | Self::Ledger => false,
        }
    }
}

/// A problem as onlookers are shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShownProblem {
    pub(super) since: Timestamp,
    pub(super) text: String,
}

/// What an alert is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    Began(Problem),
    /// It is there still.
    Reminder(Problem),
    Over(Problem),
    /// Patients were purged, which is over as it is told.
    Purge,
    /// Consents run out soon, which is told once a day.
    Expiring,
    /// The database has another history than it had.
    Failover,
    /// Nothing happened: somebody wants to see whether alerts arrive.
    Test,
}

impl Occasion {
    /// Returns the name of what it is about: of the problem, `purge`, `expiring` or `failover`.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Began(problem) | Self::Reminder(problem) | Self::Over(problem) => problem.as_str(),
            Self::Purge => "purge",
            Self::Expiring => "expiring",
            Self::Failover => "failover",
            Self::Test => "test",
        }
    }

    /// Returns whether a problem began, is there still, is over, or whether there is none.
    pub(super) fn phase(self) -> &'static str {
        match self {
            Self::Began(_) => "problem",
            Self::Reminder(_) => "reminder",
            Self::Over(_) => "over",
            Self::Purge | Self::Expiring | Self::Failover => "event",
            Self::Test => "test",
        }
    }
}

/// A problem that began or is over, or an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Alert {
    pub(super) occasion: Occasion,
    pub(super) text: String,
    /// When it began; of an event, when it was.
    pub(super) since: Timestamp,
}

impl Alert {
    /// Returns the sentence that a person is told.
    pub(super) fn sentence(&self) -> String {
        let before = match self.occasion {
            Occasion::Over(_) => "over: ",
            Occasion::Reminder(_) => "still: ",
            Occasion::Began(_)
            | Occasion::Purge
            | Occasion::Expiring
            | Occasion::Failover
            | Occasion::Test => "",
        };
        format!("healthex-sync: {before}{}", self.text)
    }
}

/// More names than this make no sentence.
pub(super) const NAMES_MAX: usize = 10;

/// Returns what is told of consents that run out.
pub(super) fn expiring_alert(expiring: &ExpiringConsents, now: Timestamp) -> Alert {
    let name = |ExpiringConsent { name, expires_at }: &ExpiringConsent| format!("{name} ({expires_at})");
    let names: Vec<String> = expiring.shown.iter().map(name).collect();
    let more = expiring.total.saturating_sub(names.len() as u64);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let text = format!("{} consents run out soon: {}{more}", expiring.total, names.join(", "));
    Alert { occasion: Occasion::Expiring, text, since: now }
}

/// Returns what is told of the purges of a cycle: one alert, however many they are.
pub(super) fn purge_alert(purged: &[PurgeNote], now: Timestamp) -> Option<Alert> {
    let one = |PurgeNote { name, reason, rows }: &PurgeNote| {
        format!("{name} was purged: {rows} rows ({})", reason.as_str())
    };
    let text = match purged {
        [] => return None,
        [only] => one(only),
        several if several.len() <= NAMES_MAX => several.iter().map(one).collect::<Vec<_>>().join("; "),
        many => {
            let by_reason = PurgeReason::ALL.map(|reason| {
                let count = many.iter().filter(|purge| purge.reason == reason).count();
                (count > 0).then(|| format!("{count} {}", reason.as_str()))
            });
            let by_reason: Vec<String> = by_reason.into_iter().flatten().collect();
            let rows: u64 = many.iter().map(|purge| purge.rows).sum();
            format!(
                "{} patients were purged in one cycle: {rows} rows ({}); `healthex-sync audit` lists them",
                many.len(),
                by_reason.join(", ")
            )
        }
    };
    Some(Alert { occasion: Occasion::Purge, text, since: now })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_purges_of_a_cycle_are_one_alert() {
        let purge = |number: usize| PurgeNote {
            name: format!("study-{number}"),
            reason: if number == 0 { PurgeReason::Operator } else { PurgeReason::ConsentRevoked },
            rows: 6,
        };
        let told = |count: usize| {
            let purged: Vec<PurgeNote> = (0..count).map(purge).collect();
            purge_alert(&purged, Timestamp::UNIX_EPOCH).map(|alert| alert.text)
        };
        assert_eq!(told(0), None);
        assert_eq!(told(1).unwrap(), "study-0 was purged: 6 rows (operator)");
        let two = "study-0 was purged: 6 rows (operator); study-1 was purged: 6 rows (consent_revoked)";
        assert_eq!(told(2).unwrap(), two);
        let many = "21 patients were purged in one cycle: 126 rows (20 consent_revoked, 1 operator); `healthex-sync audit` lists them";
        assert_eq!(told(21).unwrap(), many);
    }

    #[test]
    fn the_kinds_that_can_be_chosen_are_those_there_are() {
        let there_are: Vec<&str> =
            Problem::ALL.map(Problem::as_str).into_iter().chain(["purge", "expiring", "failover"]).collect();
        assert_eq!(crate::settings::ALERT_KINDS.to_vec(), there_are);
    }
}

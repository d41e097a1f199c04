//! What the warehouse remembers of one patient: the facts that most rules begin from.

use super::completeness::ShortSince;
use super::leaver::Missing;
use super::state::{HeldWhy, PatientState, PurgeReason};
use super::{PersonId, PullMode, Timestamp, TypeFilter};

/// One row of the table `checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub person: PersonId,
    pub label: Option<String>,
    /// Whether the roster of the latest cycle lists the patient.
    pub listed: bool,
    /// The readings of the roster that have lacked it, where the latest did.
    pub missing: Option<Missing>,
    pub state: PatientState,
    /// The next `_since`; `None` asks for a full pull.
    pub watermark: Option<Timestamp>,
    /// The filter under which the watermark holds.
    pub types: TypeFilter,
    pub last_full_at: Option<Timestamp>,
    pub last_success_at: Option<Timestamp>,
    /// When the server last said 200, 403 or 404 about this patient.
    pub last_asked_at: Option<Timestamp>,
    /// How often in a row it has failed.
    pub failures: u32,
    pub next_attempt_at: Option<Timestamp>,
    /// Since when a suspiciously large sweep is held back.
    pub sweep_guarded_at: Option<Timestamp>,
    /// When entries that had been renamed last caused a full pull.
    pub renamed_full_at: Option<Timestamp>,
    /// Whether rows of the patient have been stored since the last purge.
    pub holds_rows: bool,
    /// Pulls in a row to which the server has sent everything, whatever was asked for.
    pub(crate) since_ignored: u64,
    /// Of the first in an unbroken row of refusals.
    pub refused_at: Option<Timestamp>,
    pub held_why: Option<HeldWhy>,
    /// Since when HealthEx's consent records have said without a break that there is no consent.
    pub consent_ended_at: Option<Timestamp>,
    /// The last purge, if nothing has been stored since.
    pub purged: Option<PastPurge>,
    /// Since when every pull was short by the same entries.
    pub(crate) short_since: Option<ShortSince>,
    pub unfinished: Option<UnfinishedPull>,
}

/// A purge that nothing has been stored after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastPurge {
    pub at: Timestamp,
    pub reason: PurgeReason,
}

/// A pull that was interrupted, as the pull columns of `checkpoint` keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedPull {
    pub mode: PullMode,
    pub types: TypeFilter,
    pub started_at: Timestamp,
    pub since: Option<Timestamp>,
    /// Where it goes on; `None` where a walk was about to begin.
    pub next_url: Option<String>,
    pub pages: u64,
    pub walk: u32,
    /// Whether the server has said how many entries the walk under way has.
    pub has_total: bool,
    /// Whether a new key was met for a type and id that are stored under another one.
    pub renamed: bool,
    /// Attempts that ended at `next_url` without a new page.
    pub link_failures: u32,
}

impl Checkpoint {
    /// Returns what is known of a patient that the warehouse has never heard of.
    pub fn unknown(person: PersonId, label: Option<String>) -> Self {
        Self {
            person,
            label,
            listed: true,
            missing: None,
            state: PatientState::New,
            watermark: None,
            types: TypeFilter::default(),
            last_full_at: None,
            last_success_at: None,
            last_asked_at: None,
            failures: 0,
            next_attempt_at: None,
            sweep_guarded_at: None,
            renamed_full_at: None,
            holds_rows: false,
            since_ignored: 0,
            refused_at: None,
            held_why: None,
            consent_ended_at: None,
            purged: None,
            short_since: None,
            unfinished: None,
        }
    }

    /// Forgets what means nothing to another server, so that a full pull is due.
    pub fn forget_server(&mut self) {
        self.watermark = None;
        self.last_full_at = None;
        self.sweep_guarded_at = None;
        self.renamed_full_at = None;
        self.short_since = None;
        self.unfinished = None;
    }

    /// Forgets how lately the patient was asked and has failed, so that it is asked whatever it waits for.
    pub fn forget_delays(&mut self) {
        self.last_asked_at = None;
        self.next_attempt_at = None;
    }

    /// Returns the name the patient goes by in logs and messages: the label, else the id.
    pub fn name(&self) -> &str {
        self.label.as_deref().unwrap_or(self.person.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_is_pulled_in_full_and_what_is_known_of_consent_stays() {
        let now = Timestamp::UNIX_EPOCH;
        let new = Checkpoint::unknown(PersonId::parse("p1").unwrap(), Some("one".to_owned()));
        let known = Checkpoint { refused_at: Some(now), last_success_at: Some(now), ..new };
        let mut here = Checkpoint {
            watermark: Some(now),
            last_full_at: Some(now),
            sweep_guarded_at: Some(now),
            renamed_full_at: Some(now),
            short_since: Some(ShortSince { since: now, fingerprint: 7 }),
            ..known.clone()
        };
        here.forget_server();
        assert_eq!(here, known);
    }

    #[test]
    fn a_patient_goes_by_its_label_else_by_its_id() {
        let patient = |label: Option<&str>| {
            Checkpoint::unknown(PersonId::parse("p1").unwrap(), label.map(str::to_owned))
        };
        assert_eq!((patient(Some("one")).name(), patient(None).name()), ("one", "p1"));
    }
}

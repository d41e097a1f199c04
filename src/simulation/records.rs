//! The consent records of a world: what a patient's record truly says, and what an answer said.

use std::collections::BTreeMap;

use crate::sandbox::PersonConsent;
use crate::time::{TimeDelta, Timestamp};

/// A patient's record, as the server has it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) is_there: bool,
    /// `None`: as HealthEx permits.
    pub(super) consented: Option<bool>,
    pub(super) ends_at: Option<Timestamp>,
    /// Since when it has been so, but for its end.
    pub(super) since: Timestamp,
    /// Since when it lets the same through.
    pub(super) scopes_since: Timestamp,
}

impl Record {
    pub(super) fn new(now: Timestamp) -> Self {
        let ends_at = Some(now + YEAR);
        Self { is_there: true, consented: None, ends_at, since: now, scopes_since: now }
    }

    /// Returns whether it says that there is no consent any more.
    pub(super) fn has_ended(&self, is_permitted: bool, now: Timestamp) -> bool {
        self.is_there && (!self.consented.unwrap_or(is_permitted) || self.has_run_out(now))
    }

    /// Writes it into the server's.
    pub(super) fn write(&self, consent: &mut PersonConsent) {
        (consent.recorded, consent.consented) = (self.is_there, self.consented);
        consent.expires = self.ends_at.map(Timestamp::rfc3339_millis);
        consent.scopes = vec![format!("LABS-{}", self.scopes_since.timestamp())];
    }

    fn has_run_out(&self, now: Timestamp) -> bool {
        self.ends_at.is_some_and(|end| end <= now)
    }

    /// Returns since when it says what it says.
    pub(super) fn says_since(&self, now: Timestamp) -> Timestamp {
        self.ends_at.filter(|end| *end <= now).map_or(self.since, |end| end.max(self.since))
    }
}

/// A consent lasts so long.
pub(super) const YEAR: TimeDelta = TimeDelta::days(365);

/// What an answer said of a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Consented {
        until: Option<Timestamp>,
    },
    Ended,
    Unreadable,
    /// It has no record of the patient.
    Nothing,
}

impl Said {
    /// Returns what is left of it at a time: a consent runs out.
    pub(super) fn by(self, now: Timestamp) -> Self {
        match self {
            Self::Consented { until: Some(until) } if until <= now => Self::Ended,
            said => said,
        }
    }

    pub(super) fn is_consent(self) -> bool {
        matches!(self, Self::Consented { .. })
    }
}

/// An answer of the records that has arrived whole.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    /// By the true time.
    pub(super) at: Timestamp,
    /// The one patient who was asked about; `None` where all were.
    pub(super) of: Option<String>,
    pub(super) said: BTreeMap<String, Said>,
    /// It has lost as many as the hold rule would hold, or there was no room on the disk for it: nothing
    /// of it need be believed.
    pub(super) is_doubtful: bool,
}

impl Reading {
    /// Reads an answer.
    pub(super) fn of(body: &[u8], of: Option<String>, at: Timestamp) -> Option<Self> {
        let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
        let said = answer.as_array()?.iter().filter_map(|entry| {
            let record = entry["consents"].get(0)?;
            let until = record["expirationTimestamp"].as_str().and_then(Timestamp::parse);
            let said = match record["hasPatientConsented"].as_bool() {
                None => Said::Unreadable,
                Some(true) => Said::Consented { until },
                Some(false) => Said::Ended,
            };
            Some((entry["patientId"].as_str()?.to_owned(), said))
        });
        Some(Self { at, of, said: said.collect(), is_doubtful: false })
    }

    /// Returns what it says of a patient, by the time of now; `None` where it was about somebody else.
    pub(super) fn said_of(&self, person: &str) -> Option<Said> {
        let is_about = self.of.as_deref().is_none_or(|of| of == person);
        is_about.then(|| self.said.get(person).map_or(Said::Nothing, |said| said.by(self.at)))
    }

    /// Returns who has consented by it.
    pub(super) fn consented(&self) -> impl Iterator<Item = &String> {
        self.said.iter().filter(|(_, said)| said.by(self.at).is_consent()).map(|(person, _)| person)
    }
}

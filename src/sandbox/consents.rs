//! The consent records of study [`STUDY`]: who has consented, until when, and to what.
//!
//! Promise: `POST /v1/consents` and `GET /v1/consents/{id}` read the documentation as a client does
//! that has nothing else. Some ids of records are texts and some are numbers. What a person's record
//! says can be changed while the server runs, by a program and, without a token, by anyone:
//!
//! ```text
//! curl http://127.0.0.1:8787/sandbox/consents/sandbox-0001
//! curl -X PUT http://127.0.0.1:8787/sandbox/consents/sandbox-0001 -d '{"consented": false}'
//! ```
//!
//! Deliberately absent: more than one record a person, other studies, and the delay of a real server.

use axum::body::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::text::{array, object, quoted};
use crate::time::{TimeDelta, Timestamp};

/// The one study there is.
pub(super) const STUDY: &str = "sandbox-study";
const ORGANIZATION: &str = "sandbox-organization";
/// The types of consents, of which every record is the second.
const TYPES: [&str; 3] = ["DATA_AUTHORIZATION", "PATIENT_DIRECTED_DATA_EXCHANGE", "FUTURE_DATA_USE"];
const RECORDED: &str = TYPES[1];

/// What a person's consent record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PersonConsent {
    /// Whether there is a record.
    pub recorded: bool,
    /// `None`: as `$everything` has it.
    pub consented: Option<bool>,
    /// As it is written; `None` is never.
    pub expires: Option<String>,
    pub scopes: Vec<String>,
    /// Whether `$everything` is permitted.
    pub permitted: bool,
}

impl Default for PersonConsent {
    fn default() -> Self {
        Self {
            recorded: true,
            consented: None,
            expires: None,
            scopes: ["LABS", "MEDICATIONS", "CLINICAL_NOTES"].map(str::to_owned).to_vec(),
            permitted: true,
        }
    }
}

impl PersonConsent {
    /// Returns the consent of a new person: given for a year.
    pub(super) fn given(now: Timestamp) -> Self {
        let end = now.checked_add_signed(TimeDelta::days(365));
        Self { expires: end.map(Timestamp::rfc3339_millis), ..Self::default() }
    }

    fn has_expired(&self, now: Timestamp) -> bool {
        let end = self.expires.as_deref().and_then(Timestamp::parse);
        end.is_some_and(|end| end <= now)
    }

    fn is_given(&self) -> bool {
        self.consented.unwrap_or(self.permitted)
    }

    /// Changes what `text`, a JSON object, names, and leaves the rest.
    pub(super) fn changed_by(&self, text: &[u8]) -> Result<Self, String> {
        let invalid = |error: serde_json::Error| error.to_string();
        let changes: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(text).map_err(invalid)?;
        let mut all = serde_json::to_value(self).map_err(invalid)?;
        for (name, value) in changes {
            all[name] = value;
        }
        serde_json::from_value(all).map_err(invalid)
    }
}

/// A person, the number of its record, and what that says.
pub(super) type RecordedConsent<'c> = (&'c str, u64, &'c PersonConsent);

/// What `POST /v1/consents` was sent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConsentsRequest {
    consent_types: Vec<String>,
    study_id: Option<String>,
    patient_id: Option<String>,
    has_consented: Option<Vec<bool>>,
    #[serde(default)]
    expired_consents: bool,
}

/// Returns the list of consents that was asked for, a piece a person, or what is wrong with the request.
pub(super) fn list<'c>(
    consents: impl Iterator<Item = RecordedConsent<'c>>,
    now: Timestamp,
    body: &[u8],
) -> Result<Vec<Bytes>, String> {
    let request: ConsentsRequest = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if request.consent_types.is_empty() {
        return Err("consentTypes is empty".to_owned());
    }
    if let Some(unknown) = request.consent_types.iter().find(|name| !TYPES.contains(&name.as_str())) {
        return Err(format!("{unknown} is no type of consents"));
    }
    if request.study_id.is_none() && request.patient_id.is_none() {
        return Err("a study or a patient is needed".to_owned());
    }
    let wanted = |person: &str| request.patient_id.as_deref().is_none_or(|wanted| wanted == person);
    let is_study = request.study_id.as_deref().is_none_or(|study| study == STUDY)
        && request.consent_types.iter().any(|name| name == RECORDED);
    let has_consented = request.has_consented.unwrap_or_else(|| vec![true]);
    let mut pieces = vec![Bytes::from_static(b"[")];
    for (person, number, consent) in consents.filter(|(person, ..)| is_study && wanted(person)) {
        let is_wanted = has_consented.contains(&consent.is_given())
            && (!consent.has_expired(now) || request.expired_consents)
            && consent.recorded;
        if is_wanted {
            let comma = if pieces.len() > 1 { "," } else { "" };
            pieces.push(format!("{comma}{}", listed(person, number, consent)).into());
        }
    }
    pieces.push(Bytes::from_static(b"]"));
    Ok(pieces)
}

fn listed(person: &str, number: u64, consent: &PersonConsent) -> String {
    let record = object(&[
        ("consentType", quoted(RECORDED)),
        ("studyId", quoted(STUDY)),
        ("hasPatientConsented", consent.is_given().to_string()),
        ("source", quoted("STUDY")),
        // Some are written as numbers.
        (
            "consentRecordId",
            if number.is_multiple_of(2) { number.to_string() } else { quoted(&number.to_string()) },
        ),
        ("expirationTimestamp", consent.expires.as_deref().map(quoted).unwrap_or_default()),
    ]);
    object(&[
        ("healthcareOrganizationId", quoted(ORGANIZATION)),
        ("patientId", quoted(person)),
        ("consents", array([record])),
    ])
}

/// Returns one record, or `None` where there is none of that id.
pub(super) fn record<'c>(
    mut consents: impl Iterator<Item = RecordedConsent<'c>>,
    now: Timestamp,
    id: &str,
) -> Option<String> {
    let (person, number, consent) =
        consents.find(|(_, number, consent)| number.to_string() == id && consent.recorded)?;
    let status = if consent.is_given() { "OPTED_IN" } else { "OPTED_OUT" };
    let record = json!({
        "id": number.to_string(),
        "timestamp": now.rfc3339_millis(),
        "patientId": person,
        "studyId": STUDY,
        "consentType": RECORDED,
        "consentStatus": status,
        "expirationTimestamp": consent.expires,
        "consentDataResourceScopes": consent.scopes,
        "consentDataSensitivityScopes": [],
    });
    Some(record.to_string())
}

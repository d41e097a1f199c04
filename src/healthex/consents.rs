//! HealthEx's consent records: who has consented to a study, and what a record lets through.
//!
//! Promise: an answer of any length is read as it arrives, one patient at a time, and is an answer only
//! if it was whole. What cannot be read of a record is neither a consent nor a withdrawal. Absent on
//! purpose: what a record means for its patient, which is `plan::records`'s.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::array::ArrayReader;
use super::client::{Api, RecordsRequest};
use super::meter::Budget;
use super::{FailureStage, RequestFailed};
use crate::clock::Instant;
use crate::plan::consent::Standing;
use crate::plan::records::{Answered, ConsentRecord, StudyAnswer, scopes_hash, weightier};
use crate::plan::{PersonId, Timestamp};
use crate::stop::Stop;

/// More is no study's answer.
const ANSWER_BYTES_MAX: u64 = 4_000_000_000;
const PATIENTS_MAX: usize = 2_000_000;
/// One record by itself.
const RECORD_BYTES_MAX: usize = 1024 * 1024;
const RECORD_ID_LENGTH_MAX: usize = 128;
/// So many patients of an answer, with so many records each, are told apart by asking for each record.
const CONTESTED_MAX: usize = 20;
const CONTESTED_RECORDS_MAX: usize = 8;
const TIME_MAX: Duration = Duration::from_hours(1);

/// Why the records brought no answer. Says nothing about any patient.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RecordsFailed {
    #[error("the API key may not read consent records (403)")]
    Forbidden,
    #[error(
        "HealthEx refused the request for consent records ({status}); check roster.studies and roster.consent_type"
    )]
    Rejected { status: u16 },
    #[error("{0}")]
    Request(RequestFailed),
}

impl From<RequestFailed> for RecordsFailed {
    fn from(failed: RequestFailed) -> Self {
        match failed {
            RequestFailed::Forbidden => Self::Forbidden,
            RequestFailed::PersonUnknown => Self::Rejected { status: 404 },
            RequestFailed::Rejected { status } => Self::Rejected { status },
            failed => Self::Request(failed),
        }
    }
}

/// Whose records are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordsOf<'r> {
    pub(crate) study: &'r str,
    pub(crate) consent_type: &'r str,
    /// Everybody's, or one patient's.
    pub(crate) patient: Option<AskedPatient<'r>>,
}

/// The patient whose records are asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AskedPatient<'r> {
    pub(crate) person: &'r PersonId,
    /// What it goes by in the log.
    pub(crate) name: &'r str,
}

/// An answer of a study's records, and the server's clock when it came.
pub(crate) struct DatedAnswer {
    pub(crate) answer: StudyAnswer,
    pub(crate) server_date: Option<Timestamp>,
}

impl Api {
    /// Returns what the records of a study say of its patients.
    pub(crate) async fn consents(
        &self,
        of: RecordsOf<'_>,
        now: Timestamp,
        stop: &Stop,
    ) -> Result<DatedAnswer, RecordsFailed> {
        let url = self.records_url(&[]);
        let mut json = serde_json::json!({
            "consentTypes": [of.consent_type],
            "studyId": of.study,
            "hasConsented": [true, false],
            "expiredConsents": true,
        });
        let mut budget = Budget::new(ANSWER_BYTES_MAX, Instant::now() + TIME_MAX);
        if let Some(AskedPatient { person, name }) = of.patient {
            json["patientId"] = person.as_str().into();
            budget = budget.named(name);
        }
        let request = RecordsRequest { url: &url, json: Some(&json) };
        let ask = || async {
            let mut records = self.open_records(request, &budget, stop).await?;
            let mut reader = ArrayReader::default();
            let mut answer = StudyAnswer::default();
            let mut contested = Vec::new();
            let mut received = 0;
            while !records.body.has_ended() {
                let bytes = records.body.next_bytes(&budget, stop).await?;
                self.meter.count_bytes(bytes.len());
                received += bytes.len() as u64;
                if received > budget.bytes_max || answer.patients.len() > PATIENTS_MAX {
                    return Err(RequestFailed::LimitReached { what: "any study's consent records" });
                }
                let each = |entry: &[u8]| {
                    let found = read_entry(entry, of, now, &mut answer);
                    contested.extend(found.filter(|_| contested.len() < CONTESTED_MAX));
                };
                reader.push(&bytes, each).map_err(not_records)?;
            }
            reader.finish().map_err(not_records)?;
            answer.settle(now);
            Ok((DatedAnswer { answer, server_date: records.server_date }, contested))
        };
        let (mut dated, contested) = self.retry(self.attempts(), stop, ask).await?;
        for Contested { person, records } in contested {
            if let Some(latest) = self.latest_record(&records, &person, stop).await
                && !latest.consented
                && let Ok(at) = dated.answer.patients.binary_search_by(|(other, _)| other.cmp(&person))
            {
                dated.answer.patients[at].1 = Answered::Recorded(latest);
            }
        }
        Ok(dated)
    }

    /// Returns which of a patient's records is the latest, or `None` where that cannot be told.
    async fn latest_record(
        &self,
        records: &[ConsentRecord],
        person: &PersonId,
        stop: &Stop,
    ) -> Option<ConsentRecord> {
        let mut latest: Option<(Timestamp, ConsentRecord)> = None;
        for record in records {
            let body = self.record_body(record.id.as_deref()?, stop).await.ok()?;
            let (time, consented) = read_status(&body, person)?;
            match &latest {
                Some((other, _)) if *other == time => return None,
                Some((other, _)) if *other > time => {}
                _ => latest = Some((time, ConsentRecord { consented, ..record.clone() })),
            }
        }
        latest.map(|(_, record)| record)
    }

    /// Returns a hash of what a record lets through, or `None` where it does not say, or is another
    /// patient's. Asked once: it is asked again soon enough.
    pub(crate) async fn consent_scopes(
        &self,
        record_id: &str,
        person: &PersonId,
        stop: &Stop,
    ) -> Result<Option<u64>, RecordsFailed> {
        Ok(read_scopes(&self.record_body(record_id, stop).await?, person))
    }

    /// Returns one record as it was sent.
    async fn record_body(&self, record_id: &str, stop: &Stop) -> Result<Vec<u8>, RecordsFailed> {
        let url = self.records_url(&[record_id]);
        let budget = Budget::new(RECORD_BYTES_MAX as u64, Instant::now() + TIME_MAX);
        let mut records = self.open_records(RecordsRequest { url: &url, json: None }, &budget, stop).await?;
        let mut body = Vec::new();
        while !records.body.has_ended() {
            body.extend_from_slice(&records.body.next_bytes(&budget, stop).await?);
            if body.len() > RECORD_BYTES_MAX {
                return Err(RequestFailed::LimitReached { what: "any consent record" }.into());
            }
        }
        self.meter.count_bytes(body.len());
        Ok(body)
    }

    fn records_url(&self, behind: &[&str]) -> Url {
        let mut url = self.base_url().clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["v1", "consents"]).extend(behind);
        }
        url
    }
}

fn not_records(what: &'static str) -> RequestFailed {
    RequestFailed::Transient {
        what: format!("the answer is no list of consent records: {what}"),
        retry_after: None,
        stage: FailureStage::Answered,
    }
}

/// An entry of the answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PatientEntry<'e> {
    #[serde(borrow)]
    patient_id: Option<&'e RawValue>,
    #[serde(borrow)]
    consents: Option<&'e RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RecordEntry<'e> {
    #[serde(borrow)]
    consent_type: Option<&'e RawValue>,
    #[serde(borrow)]
    study_id: Option<&'e RawValue>,
    #[serde(borrow)]
    has_patient_consented: Option<&'e RawValue>,
    #[serde(borrow)]
    consent_record_id: Option<&'e RawValue>,
    #[serde(borrow)]
    expiration_timestamp: Option<&'e RawValue>,
}

/// A patient of whom some records say that the consent is given, and others that it is withdrawn.
struct Contested {
    person: PersonId,
    records: Vec<ConsentRecord>,
}

/// Reads an entry into `answer`. Returns its patient where its records contradict each other.
fn read_entry(
    entry: &[u8],
    of: RecordsOf<'_>,
    now: Timestamp,
    answer: &mut StudyAnswer,
) -> Option<Contested> {
    let read = serde_json::from_slice::<PatientEntry<'_>>(entry).ok();
    let person = read.as_ref().and_then(|read| PersonId::parse(&text_of(read.patient_id?)?).ok());
    let (Some(read), Some(person)) = (read, person) else {
        answer.nameless += 1;
        return None;
    };
    // A server that does not know the filter sends everybody.
    if of.patient.is_some_and(|wanted| *wanted.person != person) {
        return None;
    }
    let records =
        read.consents.and_then(|records| serde_json::from_str::<Vec<&RawValue>>(records.get()).ok());
    let Some(records) = records else {
        answer.patients.push((person, Answered::Unreadable));
        return None;
    };
    let read: Vec<Answered> = records.into_iter().map(|record| read_record(record, of)).collect();
    let contested = contested(&person, &read, now);
    let answered = read.into_iter().fold(Answered::Nothing, |one, other| weightier(one, other, now));
    answer.patients.push((person, answered));
    contested
}

fn contested(person: &PersonId, read: &[Answered], now: Timestamp) -> Option<Contested> {
    let recorded = read.iter().filter_map(|answered| match answered {
        Answered::Recorded(record) => Some(record),
        Answered::Unreadable | Answered::Nothing => None,
    });
    let told = recorded.clone().map(|record| record.standing(now));
    let has = |standing| told.clone().any(|told| told == standing);
    let is_contested = has(Standing::Consented) && has(Standing::Withdrawn);
    let records: Vec<ConsentRecord> = recorded.take(CONTESTED_RECORDS_MAX + 1).cloned().collect();
    let is_told = is_contested && records.len() <= CONTESTED_RECORDS_MAX;
    is_told.then(|| Contested { person: person.clone(), records })
}

/// Returns when a record was made, and whether it consents.
fn read_status(body: &[u8], person: &PersonId) -> Option<(Timestamp, bool)> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Record<'r> {
        #[serde(borrow)]
        patient_id: Option<&'r RawValue>,
        timestamp: String,
        consent_status: String,
    }
    let record: Record<'_> = serde_json::from_slice(body).ok()?;
    let is_his = record.patient_id.and_then(text_of).is_none_or(|told| told == person.as_str());
    let time = Timestamp::parse(&record.timestamp).filter(|_| is_his)?;
    Some((time, record.consent_status == "OPTED_IN"))
}

fn read_record(record: &RawValue, of: RecordsOf<'_>) -> Answered {
    let Ok(record) = serde_json::from_str::<RecordEntry<'_>>(record.get()) else {
        return Answered::Unreadable;
    };
    for (told, wanted) in [(record.consent_type, of.consent_type), (record.study_id, of.study)] {
        match told.and_then(text_of) {
            None => return Answered::Unreadable,
            Some(told) if told != wanted => return Answered::Nothing,
            Some(_) => {}
        }
    }
    let consented = match record.has_patient_consented.map(RawValue::get) {
        Some("true") => true,
        Some("false") => false,
        _ => return Answered::Unreadable,
    };
    let id = record.consent_record_id.and_then(text_of).filter(|id| is_plain(id));
    Answered::Recorded(ConsentRecord {
        id,
        consented,
        expires_at: record.expiration_timestamp.and_then(time_of),
    })
}

/// Returns whether an id may stand in a URL and a table.
fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    id.len() <= RECORD_ID_LENGTH_MAX && id.bytes().all(plain) && id.bytes().any(|byte| byte != b'.')
}

/// Returns a text, or a number as it is written.
fn text_of(value: &RawValue) -> Option<String> {
    match value.get().as_bytes().first()? {
        b'"' => serde_json::from_str(value.get()).ok(),
        b'-' | b'0'..=b'9' => Some(value.get().to_owned()),
        _ => None,
    }
}

/// Returns a time in whole seconds: RFC 3339, one without a zone taken for UTC, or a number of seconds
/// or milliseconds. What cannot be read is no end.
fn time_of(value: &RawValue) -> Option<Timestamp> {
    let text = text_of(value)?;
    let seconds = if let Ok(number) = text.parse::<i64>() {
        if number.abs() >= MILLISECONDS_FROM { number / 1000 } else { number }
    } else if let Some(time) = Timestamp::parse(&text) {
        time.timestamp()
    } else {
        Timestamp::parse_without_zone(&text)?.timestamp()
    };
    Timestamp::from_timestamp(seconds, 0).filter(|time| *time < LAST_WRITTEN)
}

/// As seconds, this is the year 5138.
const MILLISECONDS_FROM: i64 = 100_000_000_000;
/// The year 9999 ends: a later time has no form that others read, and is as good as none.
const LAST_WRITTEN: Timestamp = match Timestamp::from_timestamp(253_402_300_800, 0) {
    Some(time) => time,
    None => Timestamp::MAX_UTC,
};

fn read_scopes(body: &[u8], person: &PersonId) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Record<'r> {
        #[serde(borrow)]
        patient_id: Option<&'r RawValue>,
        consent_data_resource_scopes: Option<Vec<String>>,
        consent_data_sensitivity_scopes: Option<Vec<String>>,
    }
    let record: Record<'_> = serde_json::from_slice(body).ok()?;
    if record.patient_id.and_then(text_of).is_some_and(|told| told != person.as_str()) {
        return None;
    }
    scopes_hash(record.consent_data_resource_scopes, record.consent_data_sensitivity_scopes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::array::ENTRY_BYTES_MAX;
    use super::*;
    use crate::plan::parse_stamp;

    const OF: RecordsOf<'static> =
        RecordsOf { study: "s-1", consent_type: "PATIENT_DIRECTED_DATA_EXCHANGE", patient: None };

    fn now() -> Timestamp {
        parse_stamp("2026-11-26T00:00:00Z").unwrap()
    }

    fn read_in(pieces: &[&[u8]]) -> Result<StudyAnswer, &'static str> {
        let mut reader = ArrayReader::default();
        let mut answer = StudyAnswer::default();
        for piece in pieces {
            reader.push(piece, |entry| drop(read_entry(entry, OF, now(), &mut answer)))?;
        }
        reader.finish()?;
        answer.settle(now());
        Ok(answer)
    }

    fn read(text: &str) -> Result<StudyAnswer, &'static str> {
        read_in(&[text.as_bytes()])
    }

    fn one(consents: &str) -> Answered {
        let answer = read(&format!(r#"[{{"patientId":"p","consents":{consents}}}]"#)).unwrap();
        answer.patients[0].1.clone()
    }

    fn record(rest: &str) -> String {
        format!(r#"{{"consentType":"PATIENT_DIRECTED_DATA_EXCHANGE","studyId":"s-1",{rest}}}"#)
    }

    fn recorded(id: Option<&str>, consented: bool, end: Option<&str>) -> Answered {
        let expires_at = end.map(|end| parse_stamp(end).unwrap());
        Answered::Recorded(ConsentRecord { id: id.map(str::to_owned), consented, expires_at })
    }

    #[test]
    fn a_record_is_read_as_it_is_documented_and_with_ids_as_numbers() {
        let end = r#""expirationTimestamp":"2027-04-21T19:05:59.516Z""#;
        let given =
            record(&format!(r#""hasPatientConsented":true,"consentRecordId":"21","source":"NEW",{end}"#));
        assert_eq!(one(&format!("[{given}]")), recorded(Some("21"), true, Some("2027-04-21T19:05:59Z")));
        let number = record(r#""hasPatientConsented":false,"consentRecordId":22"#);
        assert_eq!(one(&format!("[{number}]")), recorded(Some("22"), false, None));
        // The one that is given counts, wherever it stands.
        for both in [format!("[{given},{number}]"), format!("[{number},{given}]")] {
            assert_eq!(one(&both), recorded(Some("21"), true, Some("2027-04-21T19:05:59Z")));
        }
        let answer = read(r#"[{"patientId":17,"consents":[]}]"#).unwrap();
        assert_eq!(answer.patients, [(PersonId::parse("17").unwrap(), Answered::Nothing)]);
    }

    #[test]
    fn what_cannot_be_read_is_neither_a_consent_nor_a_withdrawal() {
        for record in [
            record(r#""consentRecordId":"21""#),
            record(r#""hasPatientConsented":null"#),
            record(r#""hasPatientConsented":"true""#),
            record(r#""hasPatientConsented":1"#),
            r#"{"hasPatientConsented":false}"#.to_owned(),
            r#"{"consentType":null,"studyId":"s-1","hasPatientConsented":true}"#.to_owned(),
            "null".to_owned(),
            "7".to_owned(),
        ] {
            assert_eq!(one(&format!("[{record}]")), Answered::Unreadable, "{record}");
        }
        for consents in ["null", "{}", "7", "\"x\""] {
            assert_eq!(one(consents), Answered::Unreadable, "{consents}");
        }
        for other in [
            r#"{"consentType":"SOMETHING_NEW","studyId":"s-1","hasPatientConsented":true}"#,
            r#"{"consentType":"PATIENT_DIRECTED_DATA_EXCHANGE","studyId":2,"hasPatientConsented":true}"#,
        ] {
            assert_eq!(one(&format!("[{other}]")), Answered::Nothing, "{other}");
        }
        for nameless in ["{}", "null", "7", r#"{"patientId":null}"#, r#"{"patientId":"a/b"}"#, "[1]"] {
            let answer = read(&format!(r#"[{nameless},{{"patientId":"p","consents":[]}}]"#)).unwrap();
            assert_eq!((answer.nameless, answer.patients.len()), (1, 1), "{nameless}");
        }
    }

    #[test]
    fn an_end_is_read_in_more_than_one_form_or_is_none() {
        let check = |written: &str, end: Option<&str>| {
            let given = record(&format!(r#""hasPatientConsented":true,"expirationTimestamp":{written}"#));
            assert_eq!(one(&format!("[{given}]")), recorded(None, true, end), "{written}");
        };
        check(r#""2027-04-21T21:05:59+02:00""#, Some("2027-04-21T19:05:59Z"));
        check(r#""2027-04-21T19:05:59""#, Some("2027-04-21T19:05:59Z"));
        check("1808334359", Some("2027-04-21T19:05:59Z"));
        check("1808334359516", Some("2027-04-21T19:05:59Z"));
        for none in ["null", r#""soon""#, "\"\"", "true", r#""99999-01-01T00:00:00Z""#, "99999999999999999"] {
            check(none, None);
        }
    }

    #[test]
    fn an_answer_is_an_array_and_whole_or_it_is_none() {
        assert_eq!(read("[]").unwrap().patients.len(), 0);
        assert_eq!(read("\u{feff} [ ]\n").unwrap().patients.len(), 0);
        for wrong in [
            "",
            " ",
            "{}",
            "null",
            "<html>",
            "[",
            "[{\"patientId\":\"p\"",
            "[{\"patientId\":\"p\"}",
            "[{\"patientId\":\"p\"},",
            "[{\"patientId\":\"p\"}]]",
            "[{\"patientId\":\"p\"}{}]",
            r#"{"resourceType":"OperationOutcome"}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read(&format!("[\"{}\"]", "x".repeat(ENTRY_BYTES_MAX))).is_err());
    }

    #[test]
    fn records_that_contradict_each_other_are_told_apart_by_their_time() {
        let anna = PersonId::parse("anna").unwrap();
        let recorded = |id: &str, consented, year| {
            let expires_at = parse_stamp(&format!("{year}-01-01T00:00:00Z"));
            Answered::Recorded(ConsentRecord { id: Some(id.to_owned()), consented, expires_at })
        };
        let (given, withdrawn) = (recorded("1", true, 2099), recorded("2", false, 2099));
        let found = contested(&anna, &[given.clone(), Answered::Nothing, withdrawn.clone()], now()).unwrap();
        assert_eq!(found.records.len(), 2);
        for clear in [vec![given.clone(), given.clone()], vec![recorded("1", true, 2020), withdrawn.clone()]]
        {
            assert!(contested(&anna, &clear, now()).is_none());
        }
        let many = [vec![given; 8], vec![withdrawn]].concat();
        assert!(contested(&anna, &many, now()).is_none(), "too many to ask for each");

        let status = |text: &str| read_status(text.as_bytes(), &anna);
        let earlier =
            r#"{"timestamp":"2026-01-01T00:00:00.5Z","consentStatus":"OPTED_IN","patientId":"anna"}"#;
        let later = r#"{"timestamp":"2026-01-01T02:00:00+01:00","consentStatus":"SOMETHING_NEW"}"#;
        assert!(status(earlier).unwrap().1 && !status(later).unwrap().1);
        assert!(status(earlier).unwrap().0 < status(later).unwrap().0);
        for none in ["", "[]", r#"{"consentStatus":"OPTED_IN"}"#, &earlier.replace("anna", "ben")] {
            assert_eq!(status(none), None, "{none}");
        }
    }

    #[test]
    fn scopes_are_told_apart_and_not_by_their_order() {
        let anna = PersonId::parse("anna").unwrap();
        let scopes = |text: &str| read_scopes(text.as_bytes(), &anna);
        let some = scopes(r#"{"patientId":"anna","consentDataResourceScopes":["LABS","NOTES"]}"#);
        assert!(some.is_some());
        assert_eq!(scopes(r#"{"consentDataResourceScopes":["NOTES","LABS","LABS"],"new":1}"#), some);
        assert_ne!(scopes(r#"{"consentDataResourceScopes":["LABS"]}"#), some);
        assert_ne!(scopes(r#"{"consentDataSensitivityScopes":["LABS","NOTES"]}"#), some);
        for none in [
            "",
            "[]",
            "{}",
            r#"{"consentDataResourceScopes":null}"#,
            r#"{"consentDataResourceScopes":7}"#,
            r#"{"patientId":"ben","consentDataResourceScopes":["LABS"]}"#,
        ] {
            assert_eq!(scopes(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_patients(cuts in proptest::collection::vec(0usize..400, 0..8)) {
            let given = record(r#""hasPatientConsented":true,"consentRecordId":"2]1\\\"""#);
            let text = format!(r#"[{{"patientId":"a","consents":[{given}]}}, 7 ,null,
                {{"patientId":"b","consents":[]}},"x",{{"patientId":"c"}}]"#);
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let (split, whole) = (read_in(&pieces).unwrap(), read(&text).unwrap());
            prop_assert_eq!(split.patients, whole.patients);
            prop_assert_eq!((split.nameless, whole.nameless), (3, 3));
        }
    }
}

//! Between the client and the server: the sandbox's answers, as the weather lets them arrive, and who
//! was answered with what.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use url::Url;

use super::records::Reading;
use super::weather::{Asks, Exposed, Fate, Shape, Sky};
use crate::clock;
use crate::sandbox::InProcess;
use crate::time::Timestamp;

/// Why there is no answer, or no more of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) what: &'static str,
    pub(crate) cause: &'static str,
}

const BROKE_OFF: Cut = Cut { what: "the connection broke off", cause: "simulated" };
const NO_CONNECTION: Cut = Cut { what: "no connection to HealthEx", cause: "simulated" };
const TOO_LONG: Cut = Cut { what: "no byte came for too long", cause: "simulated" };

/// What `api.idle_timeout` is in a simulation.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// From one piece of a body to the next.
const PIECE_TAKES: Duration = Duration::from_millis(1);
/// Of so many requests, the server hears of one that a coding is accepted. It costs more than all else.
const ONE_IS_CODED: u64 = 8;
const UNCODED: u64 = 1;

const UNREADABLE: &str = "\"hasPatientConsented\":\"later\"";

pub(super) struct Network {
    pub(super) server: InProcess,
    pub(super) persons: Vec<String>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    skies: Vec<Sky>,
    requests: u64,
    answered: Vec<Answered>,
    readings: Vec<Reading>,
    /// Of whom the next answer forgets an entry.
    forgotten: BTreeSet<String>,
    /// Who was asked again, and refused, and not permitted since.
    refused_again: BTreeSet<String>,
    has_just_refused: bool,
}

impl State {
    fn note(&mut self, answered: Answered) {
        match answered.with {
            With::Bundle => {
                self.refused_again.remove(&answered.person);
            }
            With::Refusal if answered.is_question => {
                self.has_just_refused = self.refused_again.insert(answered.person.clone());
            }
            With::Refusal | With::Other => {}
        }
        self.answered.push(answered);
    }
}

/// A request about a patient, and its answer.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    /// By the true time.
    pub(super) at: Timestamp,
    pub(super) person: String,
    /// The number of the token.
    pub(super) token: Option<u32>,
    /// For one entry and without any filter.
    pub(super) is_question: bool,
    pub(super) with: With,
    /// More pages are to come.
    pub(super) has_next: bool,
    /// It forgets an entry, and its count does not show it.
    pub(super) forgets: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum With {
    Bundle,
    Refusal,
    Other,
}

/// An answer on its way.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: VecDeque<Bytes>,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Whole,
    Cut,
    Stall,
}

impl Answer {
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Cut> {
        clock::sleep(PIECE_TAKES).await;
        match (self.body.pop_front(), self.end) {
            (Some(piece), _) => Ok(Some(piece)),
            (None, End::Whole) => Ok(None),
            (None, End::Cut) => Err(BROKE_OFF),
            (None, End::Stall) => {
                clock::sleep(IDLE_TIMEOUT).await;
                Err(TOO_LONG)
            }
        }
    }

    fn instead(status: u16, body: &'static str, headers: HeaderMap) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or_default();
        Self { status, headers, body: VecDeque::from([Bytes::from_static(body.as_bytes())]), end: End::Whole }
    }

    /// Says of nobody whether the consent is given.
    fn with_unreadable_records(mut self) -> Self {
        let text = String::from_utf8_lossy(&self.whole()).into_owned();
        let [given, withdrawn] = ["true", "false"].map(|word| format!("\"hasPatientConsented\":{word}"));
        let text = text.replace(&given, UNREADABLE).replace(&withdrawn, UNREADABLE);
        self.body = VecDeque::from([Bytes::from(text)]);
        self
    }

    fn whole(&self) -> Vec<u8> {
        self.body.iter().flatten().copied().collect()
    }

    /// Keeps so many thousandths of the body.
    fn cut_at(mut self, thousandths: u32, end: End) -> Self {
        let all = self.whole();
        let kept = all.len() * thousandths as usize / 1000;
        self.body = VecDeque::from([Bytes::copy_from_slice(&all[..kept])]);
        self.end = end;
        self
    }
}

impl Network {
    pub(super) fn new(server: InProcess, persons: Vec<String>) -> Self {
        Self { server, persons, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_skies(&self, skies: Vec<Sky>) {
        let faults = skies.iter().flat_map(|sky| sky.faults(&self.persons));
        self.server.set_script(faults.collect::<Vec<_>>());
        let mut state = self.state();
        let is_forgetful = |skies: &[Sky]| skies.iter().any(|sky| sky.shape == Shape::ForgetsOnce);
        if is_forgetful(&skies) && !is_forgetful(&state.skies) {
            state.forgotten.extend(self.persons.iter().cloned());
        }
        state.skies = skies;
    }

    /// Returns whether the last answer refused somebody who was asked again, for the first time in a row.
    pub(super) fn has_just_refused(&self) -> bool {
        std::mem::take(&mut self.state().has_just_refused)
    }

    pub(super) fn take_readings(&self) -> Vec<Reading> {
        std::mem::take(&mut self.state().readings)
    }

    pub(super) fn take_answered(&self) -> Vec<Answered> {
        std::mem::take(&mut self.state().answered)
    }

    /// Sends a request to the server, whose answer comes after `latency`.
    pub(super) async fn send(
        &self,
        url: Url,
        headers: HeaderMap,
        json: Option<String>,
        latency: Duration,
        true_time: impl Fn() -> Timestamp,
    ) -> Result<Answer, Cut> {
        clock::sleep(latency).await;
        let asked_records = asked_records(&url, json.as_deref());
        let person = person_of(&url);
        let is_question = url.query() == Some("_count=1");
        let asks = match (&person, &asked_records) {
            (Some(person), _) => Asks::Patient { person, is_question },
            (None, Some(records)) => Asks::Records { of_one: *records != AskedRecords::OfAll },
            (None, None) => Asks::Token,
        };
        let (fate, number) = self.fate(asks);
        let forgets = fate.is_none()
            && url.query().is_none_or(|query| !query.contains("_since"))
            && person.as_ref().is_some_and(|person| self.state().forgotten.remove(person));
        let forgetting = person.as_deref().filter(|_| forgets);
        let token = bearer(&headers).and_then(|bearer| self.server.token_number(bearer));
        // What was read of the records is read here as well.
        let number = if asked_records.is_some() { UNCODED } else { number };
        let answer = self.answer(&url, headers, json, forgetting, fate, number).await;
        if let (Some(records), Ok(answer)) = (asked_records, &answer) {
            self.state().readings.extend(read(answer, records, true_time()));
        }
        if let Some(person) = person {
            let (with, has_next) = answer.as_ref().map_or((With::Other, false), seen);
            let answered = Answered { at: true_time(), person, token, is_question, with, has_next, forgets };
            self.state().note(answered);
        }
        answer
    }

    fn fate(&self, asks: Asks<'_>) -> (Option<Fate>, u64) {
        let mut state = self.state();
        state.requests += 1;
        let number = state.requests;
        let exposed = Exposed { asks, number, persons: &self.persons };
        (state.skies.iter().find_map(|sky| sky.fate(exposed)), number)
    }

    async fn answer(
        &self,
        url: &Url,
        mut headers: HeaderMap,
        json: Option<String>,
        forgetting: Option<&str>,
        fate: Option<Fate>,
        number: u64,
    ) -> Result<Answer, Cut> {
        match fate {
            Some(Fate::NoConnection) => return Err(NO_CONNECTION),
            Some(Fate::Instead { status, body, header }) => {
                let header = header
                    .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
                return Ok(Answer::instead(status, body, header.into_iter().collect()));
            }
            Some(
                Fate::CutAt(_)
                | Fate::EndsAt(_)
                | Fate::StallsAt(_)
                | Fate::HalfOfTheRecords(_)
                | Fate::UnreadableRecords,
            )
            | None => {}
        }
        if !number.is_multiple_of(ONE_IS_CODED) {
            headers.remove(header::ACCEPT_ENCODING);
        }
        let method = if json.is_some() { Method::POST } else { Method::GET };
        let target =
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let asking = self.server.ask(method, &target, headers, json);
        let answer = match (forgetting, fate) {
            (Some(person), _) => self.server.without_an_entry(person, asking).await,
            (None, Some(Fate::HalfOfTheRecords(sky))) => {
                self.server.without_records(&sky.without_a_record(&self.persons), asking).await
            }
            (None, _) => asking.await,
        };
        let answer = answer.ok_or(BROKE_OFF)?;
        let headers = answer.headers.iter().filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        });
        let whole = Answer {
            status: StatusCode::from_u16(answer.status).unwrap_or_default(),
            headers: headers.collect(),
            body: answer.body.into(),
            end: End::Whole,
        };
        Ok(match fate {
            Some(Fate::CutAt(thousandths)) => whole.cut_at(thousandths, End::Cut),
            Some(Fate::EndsAt(thousandths)) => whole.cut_at(thousandths, End::Whole),
            Some(Fate::StallsAt(thousandths)) => whole.cut_at(thousandths, End::Stall),
            Some(Fate::UnreadableRecords) => whole.with_unreadable_records(),
            _ => whole,
        })
    }
}

/// What is asked of the consent records.
#[derive(PartialEq, Eq)]
enum AskedRecords {
    OfAll,
    Of(String),
    /// One record by itself.
    One,
}

/// Returns what of the consent records is asked for, if any.
fn asked_records(url: &Url, json: Option<&str>) -> Option<AskedRecords> {
    if !url.path().contains("/v1/consents") {
        return None;
    }
    let Some(json) = json else { return Some(AskedRecords::One) };
    let json: serde_json::Value = serde_json::from_str(json).ok()?;
    Some(json["patientId"].as_str().map_or(AskedRecords::OfAll, |person| AskedRecords::Of(person.to_owned())))
}

/// Reads an answer of the records that arrives whole.
fn read(answer: &Answer, asked: AskedRecords, at: Timestamp) -> Option<Reading> {
    if (answer.status, matches!(answer.end, End::Whole)) != (StatusCode::OK, true) {
        return None;
    }
    match asked {
        AskedRecords::OfAll => Reading::of(&answer.whole(), None, at),
        AskedRecords::Of(person) => Reading::of(&answer.whole(), Some(person), at),
        AskedRecords::One => None,
    }
}

fn person_of(url: &Url) -> Option<String> {
    let segment = url.path().split("/Person/").nth(1)?.split('/').next()?;
    Some(percent_decode_str(segment).decode_utf8_lossy().into_owned())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Returns what an answer says to a client that understands it, and whether more pages follow.
fn seen(answer: &Answer) -> (With, bool) {
    let holds =
        |text: &str| answer.body.iter().any(|piece| memchr::memmem::find(piece, text.as_bytes()).is_some());
    let is_coded = answer.headers.contains_key(header::CONTENT_ENCODING);
    let with = match (answer.status.as_u16(), answer.end) {
        (200, End::Whole) if is_coded || holds("\"searchset\"") => With::Bundle,
        (403, End::Whole) if holds("\"forbidden\"") => With::Refusal,
        _ => With::Other,
    };
    (with, is_coded || holds("\"next\""))
}

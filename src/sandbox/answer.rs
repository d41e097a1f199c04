//! Answers a request as the contract says, or with the fault that the script has for it.
//!
//! Promise: the order of refusals is route, method, token, person, consent, parameters; and
//! every request is in the log by the time its answer is sent.
//!
//! Deliberately absent: what consent records say (`consents.rs`), and sockets.

use axum::body::{Body, Bytes, to_bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::consents;
use super::faults::{ErrorBody, FaultKind};
use super::page_faults::{PageRequest, page_number};
use super::query::Parameters;
use super::script::{DueFault, RequestTarget};
use super::state::{SeenRequest, ServerState, SharedState};
use super::text::{object, operation_outcome, quoted};
use super::tokens::{API_KEY, API_SECRET};
use super::wire::{Answer, Reply};
use super::wire_faults::damage;
use crate::time::Timestamp;

const JSON: &str = "application/json";
const FHIR_JSON: &str = "application/fhir+json";

/// A key and a secret are short, and so is what is asked about consents.
const SMALL_REQUEST_BYTES_MAX: usize = 64 * 1024;

/// An answer, the fault still to be applied to its bytes, and what the log says beside it.
struct PlannedAnswer {
    answer: Answer,
    fault: Option<FaultKind>,
    person: Option<String>,
    token: Option<u32>,
}

impl PlannedAnswer {
    fn with_fault(answer: Answer, due: Option<DueFault>) -> Self {
        Self { fault: due.map(|due| due.kind), ..answer.into() }
    }
}

impl From<Answer> for PlannedAnswer {
    fn from(answer: Answer) -> Self {
        Self { answer, fault: None, person: None, token: None }
    }
}

enum Route {
    Token,
    Everything {
        person_id: String,
    },
    Consents,
    Consent {
        record_id: String,
    },
    /// Where people change what a consent record says.
    PersonConsent {
        person_id: String,
    },
    Unknown,
}

impl Route {
    fn of(path: &str) -> Self {
        if path == "/v1/auth/token" {
            return Self::Token;
        }
        // As many servers do, it takes a path for what it means.
        let segments: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(decoded).collect();
        match segments.as_slice() {
            [v1, consents] if (v1.as_str(), consents.as_str()) == ("v1", "consents") => Self::Consents,
            [v1, consents, id] if (v1.as_str(), consents.as_str()) == ("v1", "consents") => {
                Self::Consent { record_id: id.clone() }
            }
            [sandbox, consents, id] if (sandbox.as_str(), consents.as_str()) == ("sandbox", "consents") => {
                Self::PersonConsent { person_id: id.clone() }
            }
            [fhir, r4, person, id, operation]
                if fhir.eq_ignore_ascii_case("FHIR")
                    && r4.eq_ignore_ascii_case("R4")
                    && (person.as_str(), operation.as_str()) == ("Person", "$everything") =>
            {
                Self::Everything { person_id: id.clone() }
            }
            _ => Self::Unknown,
        }
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Answers a request. `base` is where the client reached the server.
pub(super) async fn answer(shared: &SharedState, base: &str, head: Parts, body: Body) -> Reply {
    let path = head.uri.path().to_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let outcome = match (Route::of(&path), &head.method) {
        (Route::Token, &Method::POST) => {
            let body = to_bytes(body, SMALL_REQUEST_BYTES_MAX).await.unwrap_or_default();
            answer_token(&mut shared.lock(), &body)
        }
        (Route::Everything { person_id }, &Method::GET) => {
            let person_id = shared.lock().id_as_known(&person_id);
            let request =
                EverythingRequest { base, headers: &head.headers, query: &query, person_id: &person_id };
            let outcome = request.answer(&mut shared.lock());
            PlannedAnswer { person: Some(person_id), ..outcome }
        }
        (Route::Consents, &Method::POST) => {
            let body = to_bytes(body, SMALL_REQUEST_BYTES_MAX).await.unwrap_or_default();
            answer_consents(&mut shared.lock(), &head.headers, &body)
        }
        (Route::Consent { record_id }, &Method::GET) => {
            answer_consent(&mut shared.lock(), &head.headers, &record_id)
        }
        (Route::PersonConsent { person_id }, method @ (&Method::GET | &Method::PUT)) => {
            let change = method == Method::PUT;
            let body = to_bytes(body, SMALL_REQUEST_BYTES_MAX).await.unwrap_or_default();
            answer_person_consent(&mut shared.lock(), &person_id, change.then_some(&body)).into()
        }
        (Route::Consent { .. }, _) => not_allowed("GET").into(),
        (Route::PersonConsent { .. }, _) => not_allowed("GET, PUT").into(),
        (Route::Token | Route::Consents, _) => not_allowed("POST").into(),
        (Route::Everything { .. }, _) => not_allowed("GET").into(),
        (Route::Unknown, _) => refusal(404, "not-found", "there is nothing at this path").into(),
    };

    let now = shared.lock().now();
    let reply = reply(dated(outcome.answer, now), outcome.fault.as_ref(), &head.headers);
    shared.lock().log(SeenRequest {
        number: 0, // the log counts
        method: head.method.to_string(),
        path,
        query,
        person: outcome.person,
        status: match &reply {
            Reply::Http(answer) => Some(answer.status),
            Reply::Wire(takeover) => takeover.status,
        },
        token: outcome.token,
        fault: outcome.fault.map(|kind| kind.name()),
        at: now,
    });
    reply
}

/// Applies the fault. An answer that no fault of the wire has touched is compressed for clients
/// that accept it.
fn reply(answer: Answer, fault: Option<&FaultKind>, headers: &HeaderMap) -> Reply {
    let reply = match fault {
        Some(kind) => damage(kind, answer),
        None => Reply::Http(answer),
    };
    match (reply, fault) {
        (Reply::Http(answer), Some(FaultKind::Coded { name, members, damaged })) if accepts_gzip(headers) => {
            Reply::Http(coded(answer, name, *members, *damaged))
        }
        (Reply::Http(answer), _) if answer.status == 200 && accepts_gzip(headers) => {
            Reply::Http(answer.gzipped())
        }
        (reply, _) => reply,
    }
}

fn coded(answer: Answer, name: &str, members: usize, damaged: bool) -> Answer {
    if damaged {
        return answer.preceded_by(b"not a coding at all").with_header("content-encoding", name);
    }
    answer.gzipped_in_members(members, name)
}

fn dated(answer: Answer, now: Timestamp) -> Answer {
    answer.with_header("date", now.http_date())
}

fn refusal(status: u16, code: &str, diagnostics: &str) -> Answer {
    Answer::whole(status, JSON, operation_outcome("error", code, diagnostics))
}

fn not_allowed(method: &str) -> Answer {
    refusal(405, "not-supported", "this method is not served here").with_header("allow", method)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenRequest {
    api_key: String,
    api_secret: String,
}

fn answer_token(state: &mut ServerState, body: &[u8]) -> PlannedAnswer {
    let Ok(given) = serde_json::from_slice::<TokenRequest>(body) else {
        return refusal(400, "invalid", "the body must be JSON with apiKey and apiSecret").into();
    };
    let right = given.api_key == API_KEY && given.api_secret == API_SECRET;
    if state.tokens.credentials_rejected || !right {
        return refusal(401, "login", "this apiKey and apiSecret are not known").into();
    }
    let due = state.faults.due(RequestTarget::Token);
    if let Some(other) = due.as_ref().and_then(|due| replacement(state, &due.kind)) {
        return PlannedAnswer::with_fault(other, due);
    }
    let now = state.now();
    let minted = state.tokens.mint(now);
    let silent = due.as_ref().is_some_and(|due| due.kind == FaultKind::TokenWithoutExpiration);
    let expiration = if silent { String::new() } else { minted.expiration_unix_seconds.to_string() };
    let body = object(&[("token", quoted(&minted.text)), ("expiration", expiration)]);
    let outcome = PlannedAnswer::with_fault(Answer::whole(201, JSON, body), due);
    PlannedAnswer { token: Some(minted.ordinal), ..outcome }
}

/// The token of a request.
struct Presented {
    ordinal: Option<u32>,
    is_valid: bool,
}

impl Presented {
    fn of(state: &ServerState, headers: &HeaderMap) -> Self {
        let bearer = bearer(headers);
        let ordinal = bearer.and_then(|bearer| state.tokens.ordinal(bearer));
        let is_valid = bearer.is_some_and(|bearer| state.tokens.is_valid(bearer, state.now()));
        Self { ordinal, is_valid }
    }
}

fn answer_consents(state: &mut ServerState, headers: &HeaderMap, body: &[u8]) -> PlannedAnswer {
    let Presented { ordinal: token, is_valid } = Presented::of(state, headers);
    if !is_valid {
        return PlannedAnswer { token, ..token_refused().into() };
    }
    let pieces = match consents::list(state.consents(), state.now(), body) {
        Ok(pieces) => pieces,
        Err(what) => return PlannedAnswer { token, ..refusal(400, "invalid", &what).into() },
    };
    let answer = Answer { body: Box::new(pieces.into_iter()), ..Answer::whole(200, JSON, Bytes::new()) };
    with_due_fault(state, RequestTarget::Consents, answer, token)
}

fn answer_consent(state: &mut ServerState, headers: &HeaderMap, record_id: &str) -> PlannedAnswer {
    let Presented { ordinal: token, is_valid } = Presented::of(state, headers);
    if !is_valid {
        return PlannedAnswer { token, ..token_refused().into() };
    }
    match consents::record(state.consents(), state.now(), record_id) {
        None => PlannedAnswer { token, ..refusal(404, "not-found", "no such consent").into() },
        Some(record) => {
            let answer = Answer::whole(200, JSON, record);
            with_due_fault(state, RequestTarget::Consent, answer, token)
        }
    }
}

/// Plays the fault that is due, if one is, on an answer or in its place.
fn with_due_fault(
    state: &mut ServerState,
    target: RequestTarget<'_>,
    answer: Answer,
    token: Option<u32>,
) -> PlannedAnswer {
    let due = state.faults.due(target);
    let other = due.as_ref().and_then(|due| replacement(state, &due.kind));
    PlannedAnswer { token, ..PlannedAnswer::with_fault(other.unwrap_or(answer), due) }
}

/// Shows what a person's record says, after a `change` if there is one.
fn answer_person_consent(state: &mut ServerState, person_id: &str, change: Option<&Bytes>) -> Answer {
    let Some(before) = state.consent(person_id) else {
        return refusal(404, "not-found", "no such Person");
    };
    let changed = change.map_or_else(|| Ok(before.clone()), |change| before.changed_by(change));
    let consent = match changed {
        Ok(consent) => consent,
        Err(what) => return refusal(400, "invalid", &what),
    };
    let shown = serde_json::to_string(&consent).unwrap_or_default();
    state.set_consent(person_id, consent);
    Answer::whole(200, JSON, shown + "\n")
}

struct EverythingRequest<'a> {
    base: &'a str,
    headers: &'a HeaderMap,
    query: &'a str,
    person_id: &'a str,
}

impl EverythingRequest<'_> {
    fn answer(&self, state: &mut ServerState) -> PlannedAnswer {
        let bearer = bearer(self.headers);
        let token = bearer.and_then(|bearer| state.tokens.ordinal(bearer));
        let outcome = match self.check(state, bearer) {
            Ok(parameters) => self.serve(state, &parameters),
            Err(refusal) => refusal.into(),
        };
        PlannedAnswer { token, ..outcome }
    }

    fn check(&self, state: &ServerState, bearer: Option<&str>) -> Result<Parameters, Answer> {
        let now = state.now();
        if !bearer.is_some_and(|bearer| state.tokens.is_valid(bearer, now)) {
            return Err(token_refused());
        }
        match state.person(self.person_id) {
            None => return Err(refusal(404, "not-found", "no such Person")),
            Some(person) if !person.consent.permitted => return Err(forbidden()),
            Some(_) => {}
        }
        if content_type(self.headers).is_none() {
            return Err(refusal(406, "not-supported", "only application/json and application/fhir+json"));
        }
        Parameters::parse(self.query).map_err(|what| refusal(400, "invalid", &what))
    }

    fn serve(&self, state: &mut ServerState, parameters: &Parameters) -> PlannedAnswer {
        let target = RequestTarget::Page { person_id: self.person_id, page: page_number(parameters) };
        let due = state.faults.due(target);
        if let Some(other) = due.as_ref().and_then(|due| replacement(state, &due.kind)) {
            return PlannedAnswer::with_fault(other, due);
        }
        let request =
            PageRequest { base: self.base, person_id: self.person_id, parameters, fault: due.as_ref() };
        let Some(person) = state.person(self.person_id) else {
            return refusal(404, "not-found", "no such Person").into();
        };
        let pieces = request.build(person).into_pieces(self.base);
        let mut answer = Answer {
            status: 200,
            headers: vec![("content-type".into(), content_type(self.headers).unwrap_or(JSON).to_owned())],
            body: Box::new(pieces),
        };
        if due.as_ref().is_some_and(|due| due.kind == FaultKind::Status203) {
            answer.status = 203;
        }
        if due.as_ref().is_some_and(|due| due.kind == FaultKind::Bom) {
            answer = answer.preceded_by(b"\xef\xbb\xbf");
        }
        PlannedAnswer::with_fault(answer, due)
    }
}

fn token_refused() -> Answer {
    refusal(401, "login", "the token is missing, unknown or expired")
        .with_header("www-authenticate", "Bearer")
}

fn forbidden() -> Answer {
    refusal(403, "forbidden", "no permission for this Person")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Returns the content type to answer with, or `None` where the client accepts neither.
fn content_type(headers: &HeaderMap) -> Option<&'static str> {
    let mut accepted =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if accepted.peek().is_none() {
        return Some(JSON);
    }
    let kinds = accepted.flat_map(|value| value.split(','));
    kinds.filter_map(|kind| kind.split(';').next()).find_map(|kind| {
        match kind.trim().to_ascii_lowercase().as_str() {
            FHIR_JSON => Some(FHIR_JSON),
            JSON | "application/*" | "*/*" => Some(JSON),
            _ => None,
        }
    })
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = weight.replace(' ', "").trim_start_matches("q=").parse() == Ok(0.0);
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// Returns the answer of faults that replace the right one.
fn replacement(state: &mut ServerState, kind: &FaultKind) -> Option<Answer> {
    let answer = match kind {
        FaultKind::Status { status, body, retry_after } => {
            let answer = error_answer(*status, *body);
            match retry_after {
                Some(retry_after) => answer.with_header("retry-after", retry_after),
                None => answer,
            }
        }
        FaultKind::ForbiddenOnce => forbidden(),
        FaultKind::ExpireTokenMidPull => {
            state.tokens.end_all();
            token_refused()
        }
        FaultKind::Html200 => Answer::whole(200, "text/html; charset=utf-8", PROXY_PAGE),
        FaultKind::WrongResource => {
            Answer::whole(200, JSON, r#"{"resourceType":"Patient","id":"not-a-bundle"}"#)
        }
        FaultKind::Answer { status, content_type, body, headers } => {
            let answer = Answer::whole(*status, content_type, body.clone());
            headers.iter().fold(answer, |answer, (name, value)| answer.with_header(name.clone(), value))
        }
        FaultKind::Redirect { location, status } => {
            Answer::whole(*status, JSON, Bytes::new()).with_header("location", location)
        }
        _ => return None,
    };
    Some(answer)
}

const PROXY_PAGE: &str = "<!DOCTYPE html><html><head><title>Sign in</title></head>\
    <body><h1>Please sign in to use this network</h1></body></html>\n";

fn error_answer(status: u16, body: ErrorBody) -> Answer {
    match body {
        ErrorBody::JsonOutcome => refusal(status, "exception", "the sandbox was told to answer this"),
        ErrorBody::Json => {
            Answer::whole(status, JSON, r#"{"message":"the sandbox was told to answer this"}"#)
        }
        ErrorBody::Html => Answer::whole(status, "text/html; charset=utf-8", PROXY_PAGE),
        ErrorBody::Empty => Answer { headers: Vec::new(), ..Answer::whole(status, "", Bytes::new()) },
    }
}

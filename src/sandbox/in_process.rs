//! A sandbox without a socket: a request in, its answer out, by a clock that is given to it.
//!
//! For simulations. Deliberately absent: faults of the wire, which has no bytes here.

use crate::time::{TimeDelta, Timestamp};
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Request};

use super::answer::answer;
use super::consents::PersonConsent;
use super::population::RecordEntry;
use super::state::SharedState;
use super::wire::Reply;

/// A server that is asked by a call.
#[derive(Debug)]
pub(crate) struct InProcess {
    shared: SharedState,
    base_url: String,
}

/// What it answers; `None` for a connection that is cut before an answer.
pub(crate) struct InProcessAnswer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<Bytes>,
}

impl InProcess {
    pub(crate) fn new(base_url: &str, clock: fn() -> Timestamp) -> Self {
        let shared = SharedState::default();
        shared.lock().clock = Some(clock);
        Self { shared, base_url: base_url.to_owned() }
    }

    /// Answers a request for `path_and_query`.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path_and_query: &str,
        headers: HeaderMap,
        body: Option<String>,
    ) -> Option<InProcessAnswer> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = path_and_query.parse().ok()?;
        *request.headers_mut() = headers;
        let (head, ()) = request.into_parts();
        let body = body.map_or_else(Body::empty, Body::from);
        let reply = answer(&self.shared, &self.base_url, head, body).await;
        self.shared.lock().clear_requests();
        match reply {
            Reply::Http(answer) => {
                let headers = answer.headers.into_iter().map(|(name, value)| (name.into_owned(), value));
                Some(InProcessAnswer {
                    status: answer.status,
                    headers: headers.collect(),
                    body: answer.body.collect(),
                })
            }
            Reply::Wire(_) => None,
        }
    }

    /// Waits for an answer that is made while the person's last entry is not there.
    pub(crate) async fn without_an_entry<T>(&self, person: &str, asking: impl Future<Output = T>) -> T {
        let entries = self.shared.lock().take_last_entry(person);
        let answer = asking.await;
        self.shared.lock().put_back(person, entries);
        answer
    }

    /// Waits for an answer that is made while there is no record of these persons.
    pub(crate) async fn without_records<T>(&self, persons: &[&str], asking: impl Future<Output = T>) -> T {
        let change = |person: &str, is_there: Option<bool>| {
            let mut state = self.shared.lock();
            let mut consent = state.consent(person)?.clone();
            let before = std::mem::replace(&mut consent.recorded, is_there?);
            state.set_consent(person, consent);
            Some(before)
        };
        let before: Vec<Option<bool>> = persons.iter().map(|person| change(person, Some(false))).collect();
        let answer = asking.await;
        for (person, before) in persons.iter().zip(before) {
            change(person, before);
        }
        answer
    }

    /// Changes what a person's consent record says.
    pub(crate) fn change_consent(&self, person: &str, change: impl FnOnce(&mut PersonConsent)) {
        let mut state = self.shared.lock();
        if let Some(consent) = state.consent(person) {
            let mut consent = consent.clone();
            change(&mut consent);
            state.set_consent(person, consent);
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.shared.lock().now()
    }

    pub(crate) fn add_person(&self, id: &str, entries: Vec<RecordEntry>) {
        self.shared.lock().add_person(id.to_owned(), entries);
    }

    pub(crate) fn entries(&self, person: &str) -> Vec<RecordEntry> {
        self.shared.lock().entries(person, &self.base_url)
    }

    /// Puts an entry that was changed so long ago and is seen only now.
    pub(crate) fn put_late(&self, person: &str, tail: &str, resource: &str, late: TimeDelta) -> Timestamp {
        let mut state = self.shared.lock();
        state.clock_offset = state.clock_offset - late;
        let changed_at = state.now();
        state.put(person, Some(tail), resource, &self.base_url);
        state.clock_offset += late;
        changed_at
    }

    pub(crate) fn remove(&self, person: &str, full_url: &str) -> bool {
        self.shared.lock().remove(person, full_url, &self.base_url)
    }

    pub(crate) fn set_withdrawn(&self, person: &str, is_withdrawn: bool) {
        self.shared.lock().set_withdrawn(person, is_withdrawn);
    }

    pub(crate) fn reject_credentials(&self, is_rejected: bool) {
        self.shared.lock().tokens.credentials_rejected = is_rejected;
    }

    pub(crate) fn expire_tokens(&self) {
        self.shared.lock().tokens.end_all();
    }

    pub(crate) fn set_clock_offset(&self, offset: TimeDelta) {
        self.shared.lock().clock_offset = offset;
    }

    /// Returns the number of a token: 1 for the first one minted.
    pub(crate) fn token_number(&self, token: &str) -> Option<u32> {
        self.shared.lock().tokens.ordinal(token)
    }

    /// Plays these faults from now on, and no others.
    pub(crate) fn set_script(&self, faults: impl IntoIterator<Item = super::ScriptedFault>) {
        let mut state = self.shared.lock();
        state.faults.clear();
        for fault in faults {
            state.faults.add(fault);
        }
    }
}

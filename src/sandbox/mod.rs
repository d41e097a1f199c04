//! A simulated HealthEx server: it serves the contract, and misbehaves as it is scripted to.
//!
//! Promise: it is an independent reading of HealthEx's documentation and shares no code with
//! the client, so that the two can disagree. What it serves can be changed while it runs, from
//! the same process, and [`Sandbox::entries`] says what a perfect client would hold.
//!
//! Deliberately absent: TLS, storage (all is gone when it stops), and
//! any real person: generated patients are made up.
//!
//! ```text
//! server ─→ answer ─→ query ─→ page_faults ─→ page ─→ wire_faults ─→ wire    a request, left to right
//!              ╰────────── state (population, tokens, script) ────────╯
//! ```

mod answer;
mod consents;
mod entry_faults;
mod fault_file;
mod faults;
mod generate;
#[cfg(test)]
mod in_process;
mod load;
mod page;
mod page_faults;
mod population;
mod query;
mod r4_types;
mod script;
mod server;
mod state;
mod text;
mod tokens;
mod wire;
mod wire_faults;

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::{io, thread};

use tokio::runtime;
use tokio::sync::oneshot;

pub use consents::PersonConsent;
pub use fault_file::FaultFileRefused;
pub use faults::{
    DuplicateOrder, ErrorBody, FaultAt, FaultKind, Keep, LinkSpelling, NamePlace, RawBytes, ScriptedFault,
    Unstorable,
};
#[cfg(test)]
pub(crate) use in_process::InProcess;
pub use load::LoadFailed;
pub use population::{Population, RecordEntry};
pub use state::SeenRequest;

use crate::time::TimeDelta;
use state::SharedState;

/// A running server. Dropping it stops it, and its port is free again.
#[derive(Debug)]
pub struct Sandbox {
    shared: SharedState,
    address: SocketAddr,
    base_url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Sandbox {
    /// The key and the secret it gives tokens for.
    pub const API_KEY: &str = tokens::API_KEY;
    pub const API_SECRET: &str = tokens::API_SECRET;
    /// The study whose consent records it serves.
    pub const STUDY: &str = consents::STUDY;

    /// Starts on a thread of its own, so that it works from any program; port 0 takes a free one.
    pub fn start(listen: SocketAddr, population: Population) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let base_url = server::base_url(address);
        let shared = SharedState::default();
        shared.lock().populate(population);

        let runtime = runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("sandbox")
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let (ready_sender, ready) = mpsc::channel();
        let (serving, base) = (shared.clone(), base_url.clone());
        let thread = thread::Builder::new().name("sandbox".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener);
                let _ = ready_sender.send(listener.as_ref().map(|_| ()).map_err(io::Error::kind));
                let Ok(listener) = listener else { return };
                tokio::select! {
                    () = server::accept(listener, serving, base) => {}
                    _ = stopped => {}
                }
            });
            // Connections that are stalled on purpose are not waited for.
            runtime.shutdown_background();
        })?;
        match ready.recv() {
            Ok(Ok(())) => Ok(Self { shared, address, base_url, stop: Some(stop), thread: Some(thread) }),
            Ok(Err(kind)) => Err(kind.into()),
            Err(_) => Err(io::Error::other("the sandbox's thread ended at once")),
        }
    }

    /// Returns where it listens, which may be at all addresses of this machine.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL by which it is reached from this machine: `http://127.0.0.1:PORT`.
    pub fn base_url(&self) -> String {
        self.base_url.clone()
    }

    pub fn person_ids(&self) -> Vec<String> {
        self.shared.lock().person_ids()
    }

    /// Adds a person, or replaces the one of that id.
    pub fn add_person(&self, id: &str, entries: Vec<RecordEntry>) {
        self.shared.lock().add_person(id.to_owned(), entries);
    }

    /// Answers requests for this person with a 404 from now on. Returns false where there was no
    /// such person.
    pub fn remove_person(&self, id: &str) -> bool {
        self.shared.lock().remove_person(id)
    }

    /// Adds an entry or replaces one, and returns its `fullUrl`. A person not known yet is made.
    ///
    /// `full_url_tail` is the entry's `fullUrl`, or what follows `{base}/FHIR/R4/` in it.
    /// Without it the first entry of the same type and id is replaced, or a new one added.
    pub fn put(&self, person: &str, full_url_tail: Option<&str>, resource_json: &str) -> String {
        self.shared.lock().put(person, full_url_tail, resource_json, &self.base_url)
    }

    /// Removes an entry. Returns false where there was none.
    pub fn remove(&self, person: &str, full_url: &str) -> bool {
        self.shared.lock().remove(person, full_url, &self.base_url)
    }

    /// Returns all entries of a person, in the order they are served in.
    pub fn entries(&self, person: &str) -> Vec<RecordEntry> {
        self.shared.lock().entries(person, &self.base_url)
    }

    /// Answers requests for this person with a 403 from now on. Returns false where there is no
    /// such person.
    pub fn withdraw(&self, person: &str) -> bool {
        self.shared.lock().set_withdrawn(person, true)
    }

    pub fn grant(&self, person: &str) -> bool {
        self.shared.lock().set_withdrawn(person, false)
    }

    /// Returns what the consent record of a person says.
    pub fn consent(&self, person: &str) -> Option<PersonConsent> {
        self.shared.lock().consent(person).cloned()
    }

    /// Changes what the consent record of a person says. Returns false where there is no such person.
    pub fn set_consent(&self, person: &str, consent: PersonConsent) -> bool {
        self.shared.lock().set_consent(person, consent)
    }

    /// Ends all tokens issued so far.
    pub fn expire_tokens(&self) {
        self.shared.lock().tokens.end_all();
    }

    /// While true, answers the right key and secret with a 401 too.
    pub fn reject_credentials(&self, rejected: bool) {
        self.shared.lock().tokens.credentials_rejected = rejected;
    }

    /// Sets how far the server's clock is ahead of the machine's.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.shared.lock().clock_offset = TimeDelta::try_seconds(seconds).unwrap_or_default();
    }

    /// Adds a fault behind those already scripted.
    pub fn script(&self, fault: ScriptedFault) {
        self.shared.lock().faults.add(fault);
    }

    pub fn clear_script(&self) {
        self.shared.lock().faults.clear();
    }

    /// Returns the requests since the start or the last `clear_requests`, oldest first.
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.shared.lock().requests()
    }

    pub fn clear_requests(&self) {
        self.shared.lock().clear_requests();
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

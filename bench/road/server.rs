//! Plays HealthEx: a process of its own that has every entry's bytes and every page's head ready
//! before it says that it listens.
//!
//! Absent on purpose: whatever the client does not need, and any rendering of a body while the
//! clock runs.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::data::{Data, RECORD, RECORDS};

pub(crate) const API_KEY: &str = "bench-key";
pub(crate) const API_SECRET: &str = "bench-secret";
pub(crate) const TOKEN: &str = "bench-token";

/// `_count` as it is asked for; `None` is one answer.
pub(crate) const PAGE_SIZES: [Option<usize>; 3] = [Some(100), Some(500), None];

/// Nothing has changed since this day.
const LAST_CHANGE: &str = "2025-01-01";

/// A patient of [`RECORD`] resources.
pub(crate) fn patient(number: usize) -> String {
    format!("patient-{number:05}")
}

/// A patient of two resources, of whom there is never anything new.
pub(crate) fn idle_patient(number: usize) -> String {
    format!("idle-{number:05}")
}

/// A patient whose record is all records in one answer, whatever is asked for.
pub(crate) fn long_patient(number: usize) -> String {
    format!("long-{number:05}")
}

/// The server's process, ended when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) base_url: String,
}

impl Server {
    pub(crate) fn start(patients: usize) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["serve", &patients.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut base_url = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut base_url).unwrap();
        Self { process, base_url: base_url.trim().to_owned() }
    }

    pub(crate) fn authorization() -> String {
        format!("Bearer {TOKEN}")
    }

    /// Returns the URL of a patient's page, as HealthEx's own links have it.
    pub(crate) fn page_url(&self, person: &str, count: usize, offset: usize) -> String {
        page_url(&self.base_url, person, count, offset)
    }

    pub(crate) fn since_url(&self, person: &str) -> String {
        format!(
            "{}/FHIR/R4/Person/{person}/$everything?_count=500&_since=2026-01-01T00:00:00Z",
            self.base_url
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn page_url(base_url: &str, person: &str, count: usize, offset: usize) -> String {
    format!("{base_url}/FHIR/R4/Person/{person}/$everything?_count={count}&_offset={offset}")
}

/// Serves until the process that started it has ended.
pub(crate) fn serve(patients: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let base_url = format!("http://{}", listener.local_addr().unwrap());
        let pages = Arc::new(RenderedPages::render(&base_url, patients));
        println!("{base_url}");
        std::io::stdout().flush().unwrap();
        std::thread::spawn(|| std::io::stdin().read_to_end(&mut Vec::new()).map(|_| std::process::abort()));
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let pages = pages.clone();
            let answer = service_fn(move |request| {
                let answer = pages.answer(&request);
                async { Ok::<_, Infallible>(answer) }
            });
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            // A client that goes away is its own business.
            tokio::spawn(async { drop(connection.await) });
        }
    });
}

struct RenderedPages {
    records: Vec<RenderedRecord>,
    /// A page up to its entries, by patient, `_count` and `_offset`.
    heads: HashMap<(String, Option<usize>, usize), Bytes>,
}

/// All entries of a record on end, and where each begins.
struct RenderedRecord {
    entries: Bytes,
    begins: Vec<usize>,
}

impl RenderedPages {
    fn render(base_url: &str, patients: usize) -> Self {
        let data = Data::load();
        let records =
            (0..RECORDS.min(patients)).map(|number| RenderedRecord::render(base_url, &data, number));
        let mut heads = HashMap::new();
        for person in (0..patients).map(patient) {
            for count in PAGE_SIZES {
                for offset in (0..RECORD).step_by(count.unwrap_or(RECORD)) {
                    heads.insert((person.clone(), count, offset), head(base_url, &person, count, offset));
                }
            }
        }
        Self { records: records.collect(), heads }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Pieces> {
        if request.method() == Method::POST {
            let text = format!("{{\"token\":\"{TOKEN}\",\"expiration\":9999999999}}");
            return respond(StatusCode::CREATED, [Bytes::from(text)]);
        }
        if request.headers().get(AUTHORIZATION).is_none_or(|value| *value != *Server::authorization()) {
            return respond(StatusCode::UNAUTHORIZED, VecDeque::new());
        }
        let path = request.uri().path();
        let person = path.strip_prefix("/FHIR/R4/Person/").and_then(|path| path.strip_suffix("/$everything"));
        let Some(person) = person else {
            return respond(StatusCode::NOT_FOUND, VecDeque::new());
        };
        let query = request.uri().query().unwrap_or_default();
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let number = |name| value(name).and_then(|value| value.parse().ok());
        if value("_since").is_some_and(|since| since > LAST_CHANGE) {
            return respond(StatusCode::OK, [Bytes::from_static(EMPTY)]);
        }
        if person.starts_with("idle-") {
            return respond(StatusCode::OK, [Bytes::from_static(SMALL)]);
        }
        if person.starts_with("long-") {
            return respond(StatusCode::OK, self.long_answer());
        }
        let (count, offset) = (number("_count"), number("_offset").unwrap_or(0));
        match self.heads.get(&(person.to_owned(), count, offset)) {
            Some(head) => {
                let entries = self.record(person).page(offset, count.unwrap_or(RECORD));
                respond(StatusCode::OK, [head.clone(), entries, Bytes::from_static(b"]}")])
            }
            None => respond(StatusCode::NOT_FOUND, VecDeque::new()),
        }
    }

    fn long_answer(&self) -> Vec<Bytes> {
        let total = self.records.len() * RECORD;
        let head =
            format!("{{\"resourceType\":\"Bundle\",\"type\":\"searchset\",\"total\":{total},\"entry\":[");
        let mut pieces = vec![Bytes::from(head)];
        for record in &self.records {
            pieces.extend([record.page(0, RECORD), Bytes::from_static(b",")]);
        }
        pieces.pop();
        pieces.push(Bytes::from_static(b"]}"));
        pieces
    }

    fn record(&self, person: &str) -> &RenderedRecord {
        let number: usize = person.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        &self.records[number % self.records.len()]
    }
}

const EMPTY: &[u8] = br#"{"resourceType":"Bundle","type":"searchset","total":0,"entry":[]}"#;
const SMALL: &[u8] = br#"{"resourceType":"Bundle","type":"searchset","total":2,"entry":[{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Person","id":"a"}},{"fullUrl":"urn:uuid:2","resource":{"resourceType":"Patient","id":"b"}}]}"#;

fn head(base_url: &str, person: &str, count: Option<usize>, offset: usize) -> Bytes {
    let mut head =
        format!("{{\"resourceType\":\"Bundle\",\"type\":\"searchset\",\"total\":{RECORD},\"link\":[");
    if let Some(count) = count {
        let mut links = vec![("self", offset), ("first", 0)];
        if offset + count < RECORD {
            links.push(("next", offset + count));
        }
        for (place, (relation, offset)) in links.into_iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let url = page_url(base_url, person, count, offset);
            let _ = write!(head, "{comma}{{\"relation\":\"{relation}\",\"url\":\"{url}\"}}");
        }
    }
    head.push_str("],\"entry\":[");
    Bytes::from(head)
}

impl RenderedRecord {
    fn render(base_url: &str, data: &Data, number: usize) -> Self {
        let (mut entries, mut begins) = (String::new(), Vec::new());
        for resource in data.record(number) {
            begins.push(entries.len());
            let (tail, text) = (resource.tail, resource.text);
            let _ = write!(
                entries,
                "{{\"fullUrl\":\"{base_url}/FHIR/R4/{tail}\",\"search\":{{\"mode\":\"match\"}},\"resource\":{text}}},"
            );
        }
        begins.push(entries.len());
        Self { entries: Bytes::from(entries), begins }
    }

    /// Returns the entries of a page, without the comma behind the last one.
    fn page(&self, offset: usize, count: usize) -> Bytes {
        let end = self.begins[(offset + count).min(RECORD)] - 1;
        self.entries.slice(self.begins[offset]..end)
    }
}

fn respond(status: StatusCode, pieces: impl Into<VecDeque<Bytes>>) -> Response<Pieces> {
    let mut response = Response::new(Pieces(pieces.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().unwrap());
    response
}

/// A body in pieces that are not copied.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}

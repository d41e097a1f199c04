//! Sends answers: through hyper, or action by action on a connection taken from hyper.
//!
//! Promise: a body is made while it is sent, and never all at once. Deliberately absent: what
//! the answer says, and which actions break it (`wire_faults.rs`).

use std::borrow::Cow;
use std::convert::Infallible;
use std::io::Write;
use std::time::Duration;
use std::{io, iter};

use axum::body::{Body, Bytes};
use axum::http::header::HeaderName;
use axum::http::{HeaderValue, Response, StatusCode};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time;

pub(super) type BodyPieces = Box<dyn Iterator<Item = Bytes> + Send>;

/// An answer before it is decided how it travels.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(Cow<'static, str>, String)>,
    pub(super) body: BodyPieces,
}

/// What becomes of a request.
pub(super) enum Reply {
    Http(Answer),
    Wire(Takeover),
}

/// The actions on a connection that is taken from hyper; then it is closed.
pub(super) struct Takeover {
    /// The status that is sent, where one is.
    pub(super) status: Option<u16>,
    pub(super) actions: Box<dyn Iterator<Item = Action> + Send>,
}

pub(super) enum Action {
    Send(Bytes),
    Pause(Duration),
    /// Nothing, until the client gives up or this has passed.
    Stall(Duration),
    Reset,
}

/// Compressed bytes are handed on in pieces of about this size.
const COMPRESSED_PIECE_BYTES: usize = 8 * 1024;

impl Answer {
    pub(super) fn whole(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let body: Bytes = body.into();
        Self {
            status,
            headers: vec![("content-type".into(), content_type.to_owned())],
            body: Box::new(iter::once(body)),
        }
    }

    pub(super) fn with_header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Inserts bytes before the body.
    pub(super) fn preceded_by(mut self, bytes: &'static [u8]) -> Self {
        self.body = Box::new(iter::once(Bytes::from_static(bytes)).chain(self.body));
        self
    }

    pub(super) fn gzipped(self) -> Self {
        let body = Gzipped { pieces: self.body, encoder: Some(new_encoder()) };
        Self { body: Box::new(body), ..self }.with_header("content-encoding", "gzip")
    }

    /// Compresses the body as so many members, and calls that by a name of its own.
    pub(super) fn gzipped_in_members(mut self, members: usize, name: &str) -> Self {
        let body = self.collect();
        let member = |part: &[u8]| {
            let pieces: BodyPieces = Box::new(iter::once(Bytes::copy_from_slice(part)));
            Gzipped { pieces, encoder: Some(new_encoder()) }.flatten().collect::<Vec<u8>>()
        };
        let parts = body.chunks(body.len().div_ceil(members.max(1)).max(1));
        let coded: Vec<u8> = parts.flat_map(member).collect();
        Self { body: Box::new(iter::once(Bytes::from(coded))), ..self }.with_header("content-encoding", name)
    }

    /// Turns into the answer that hyper sends: chunked, a piece at a time.
    pub(super) fn into_response(self) -> Response<Body> {
        let pieces = self.body.filter(|piece| !piece.is_empty());
        let mut response = Response::new(Body::from_stream(stream::iter(pieces.map(Ok::<_, Infallible>))));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in self.headers {
            // What HTTP cannot carry is left out; only a script can hold it.
            let name = HeaderName::from_bytes(name.as_bytes());
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(&value)) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }

    /// Writes status line and headers, with those that say where the body ends.
    pub(super) fn head(&self, framing: &str) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} Sandbox\r\n", self.status);
        for (name, value) in &self.headers {
            head.extend([name.as_ref(), ": ", value, "\r\n"]);
        }
        head.push_str(framing);
        head.push_str("connection: close\r\n\r\n");
        head.into_bytes()
    }

    pub(super) fn collect(&mut self) -> Vec<u8> {
        let mut whole = Vec::new();
        for piece in self.body.by_ref() {
            whole.extend_from_slice(&piece);
        }
        whole
    }
}

/// Does the actions on the connection, then closes it.
pub(super) async fn play(mut stream: TcpStream, takeover: Takeover) -> io::Result<()> {
    for action in takeover.actions {
        match action {
            Action::Send(bytes) => stream.write_all(&bytes).await?,
            Action::Pause(pause) => time::sleep(pause).await,
            Action::Stall(limit) => {
                // Whether the client gave up or the time is over, there is nothing more to say.
                let _ = time::timeout(limit, until_closed(&mut stream)).await;
            }
            Action::Reset => return stream.set_zero_linger(),
        }
    }
    stream.shutdown().await
}

async fn until_closed(stream: &mut TcpStream) {
    let mut buffer = [0; 1024];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}

struct Gzipped {
    pieces: BodyPieces,
    /// Gone once the end has been written.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

fn new_encoder() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::fast())
}

impl Iterator for Gzipped {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let encoder = self.encoder.as_mut()?;
        for piece in self.pieces.by_ref() {
            encoder.write_all(&piece).ok()?;
            if COMPRESSED_PIECE_BYTES <= encoder.get_ref().len() {
                return Some(Bytes::from(std::mem::take(encoder.get_mut())));
            }
        }
        self.encoder.take()?.finish().ok().map(Bytes::from)
    }
}

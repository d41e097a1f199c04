//! Faults of the wire: turns an answer into the actions that damage it on its way.
//!
//! Promise: what hyper would never send (a chunk cut in two, a length that lies, a reset) is
//! sent as its name says, and what is kept of a body is its true beginning.
//!
//! Deliberately absent: sockets (`wire.rs` plays the actions), and bodies made while they are
//! sent: to be cut at a place, a body is made first.

use std::iter;
use std::time::Duration;

use axum::body::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress};

use super::faults::{FaultKind, Keep};
use super::wire::{Action, Answer, Reply, Takeover};

const CHUNK_BYTES: usize = 8 * 1024;

/// A reset can overtake what was sent before it; a moment lets that arrive.
const BEFORE_RESET: Duration = Duration::from_millis(20);

/// How a body says where it ends.
#[derive(Clone, Copy)]
enum Framing {
    /// `Content-Length` of the whole body, whatever is sent of it.
    WholeLength,
    /// `Content-Length` of what is sent.
    SentLength,
    Chunks,
    /// Not at all: it ends with the connection.
    Nothing,
}

/// Applies a fault of the wire to an answer. A fault of another kind leaves it as it is.
pub(super) fn damage(kind: &FaultKind, answer: Answer) -> Reply {
    let takeover = match kind {
        FaultKind::AcceptAndClose => actions(None, Vec::new()),
        FaultKind::StallBeforeHeaders { seconds } => {
            actions(None, vec![Action::Stall(Duration::from_secs(*seconds))])
        }
        FaultKind::Raw { bytes } => {
            let bytes = Bytes::copy_from_slice(bytes.as_bytes());
            actions(status_in(&bytes), vec![Action::Send(bytes)])
        }
        FaultKind::SlowDrip { bytes, interval_ms } => {
            drip(answer, *bytes, Duration::from_millis(*interval_ms))
        }
        FaultKind::GzipBomb { megabytes } => gzip_bomb(answer, *megabytes),
        FaultKind::ResetMidBody { keep } => {
            let end = vec![Action::Pause(BEFORE_RESET), Action::Reset];
            cut(answer, Framing::WholeLength, *keep, end)
        }
        FaultKind::StallMidBody { keep, seconds } => {
            let end = vec![Action::Stall(Duration::from_secs(*seconds))];
            cut(answer, Framing::WholeLength, *keep, end)
        }
        FaultKind::CutChunk { keep } => cut(answer, Framing::Chunks, *keep, Vec::new()),
        FaultKind::ShortContentLength { keep } => cut(answer, Framing::WholeLength, *keep, Vec::new()),
        FaultKind::CloseDelimitedCut { keep } => cut(answer, Framing::Nothing, *keep, Vec::new()),
        // The page has lost its entries already.
        FaultKind::CloseDelimitedBoundary { .. } => {
            cut(answer, Framing::Nothing, Keep::Fraction(1.0), Vec::new())
        }
        FaultKind::CutGzip { keep } => cut(answer.gzipped(), Framing::SentLength, *keep, Vec::new()),
        FaultKind::HugeHeader { bytes } => {
            let answer = answer.with_header("x-sandbox-padding", "x".repeat(*bytes));
            cut(answer, Framing::WholeLength, Keep::Fraction(1.0), Vec::new())
        }
        _ => return Reply::Http(answer),
    };
    Reply::Wire(takeover)
}

fn actions(status: Option<u16>, actions: Vec<Action>) -> Takeover {
    Takeover { status, actions: Box::new(actions.into_iter()) }
}

/// Sends the beginning of a body, then does the actions at the end.
fn cut(mut answer: Answer, framing: Framing, keep: Keep, end: Vec<Action>) -> Takeover {
    let body = answer.collect();
    let sent = part(&body, keep);
    let (framing, sent) = match framing {
        Framing::WholeLength => (length(body.len()), sent),
        Framing::SentLength => (length(sent.len()), sent),
        Framing::Chunks => ("transfer-encoding: chunked\r\n".to_owned(), chunked_until(&body, sent.len())),
        Framing::Nothing => (String::new(), sent),
    };
    let mut all = vec![Action::Send(answer.head(&framing).into()), Action::Send(sent)];
    all.extend(end);
    actions(Some(answer.status), all)
}

fn status_in(head: &[u8]) -> Option<u16> {
    let digits = head.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn length(bytes: usize) -> String {
    format!("content-length: {bytes}\r\n")
}

fn part(body: &[u8], keep: Keep) -> Bytes {
    let kept = match keep {
        Keep::Bytes(bytes) => bytes,
        Keep::Fraction(fraction) => fraction_of(body.len(), fraction),
    };
    Bytes::copy_from_slice(&body[..kept.min(body.len())])
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "where a body is cut need not be exact to the byte"
)]
fn fraction_of(length: usize, fraction: f64) -> usize {
    (length as f64 * fraction.clamp(0.0, 1.0)) as usize
}

/// Returns the chunks of a body up to a byte in it. The chunk with that byte is announced whole.
fn chunked_until(body: &[u8], kept: usize) -> Bytes {
    let mut out = Vec::with_capacity(kept + kept / CHUNK_BYTES * 8 + 16);
    let mut left = kept;
    for chunk in body.chunks(CHUNK_BYTES) {
        if left == 0 {
            break;
        }
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        let sent = chunk.len().min(left);
        out.extend_from_slice(&chunk[..sent]);
        if sent == chunk.len() {
            out.extend_from_slice(b"\r\n");
        }
        left -= sent;
    }
    Bytes::from(out)
}

/// Sends the whole answer, a few bytes at a time.
fn drip(mut answer: Answer, bytes: usize, interval: Duration) -> Takeover {
    let body = Bytes::from(answer.collect());
    let head = answer.head(&length(body.len()));
    let size = bytes.max(1);
    let drops = (0..body.len()).step_by(size).flat_map(move |start| {
        let end = start.saturating_add(size).min(body.len());
        [Action::Send(body.slice(start..end)), Action::Pause(interval)]
    });
    let actions = iter::once(Action::Send(head.into())).chain(drops);
    Takeover { status: Some(answer.status), actions: Box::new(actions) }
}

/// Sends spaces, then the page, in one gzip stream.
///
/// A megabyte of spaces is compressed once, up to a full flush, and what comes out repeated:
/// it stands for itself wherever it is put.
fn gzip_bomb(mut answer: Answer, megabytes: u32) -> Takeover {
    const MEGABYTE: usize = 1024 * 1024;
    let spaces = vec![b' '; MEGABYTE];
    let mut spaces_crc = Crc::new();
    spaces_crc.update(&spaces);
    let page = answer.collect();
    let mut page_crc = Crc::new();
    page_crc.update(&page);

    let mut crc = Crc::new();
    for _ in 0..megabytes {
        crc.combine(&spaces_crc);
    }
    crc.combine(&page_crc);
    let block = Bytes::from(deflated(&spaces, FlushCompress::Full));
    let mut tail = deflated(&page, FlushCompress::Finish);
    tail.extend_from_slice(&crc.sum().to_le_bytes());
    // The length of a gzip stream is counted modulo 2^32.
    let length = u64::from(megabytes) * MEGABYTE as u64 + page.len() as u64;
    tail.extend_from_slice(&length.to_le_bytes()[..4]);

    let answer = answer.with_header("content-encoding", "gzip");
    let mut head = answer.head("");
    head.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    let blocks = (0..megabytes).map(move |_| Action::Send(block.clone()));
    let actions =
        iter::once(Action::Send(head.into())).chain(blocks).chain(iter::once(Action::Send(tail.into())));
    Takeover { status: Some(answer.status), actions: Box::new(actions) }
}

fn deflated(plain: &[u8], flush: FlushCompress) -> Vec<u8> {
    let mut compress = Compress::new(Compression::default(), false);
    // Room for the worst case: text that does not compress, and the marks of a flush.
    let mut out = Vec::with_capacity(plain.len() + plain.len() / 1000 + 1024);
    match compress.compress_vec(plain, &mut out, flush) {
        Ok(_) => out,
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    fn sent(takeover: Takeover) -> Vec<u8> {
        let mut bytes = Vec::new();
        for action in takeover.actions {
            if let Action::Send(part) = action {
                bytes.extend_from_slice(&part);
            }
        }
        bytes
    }

    fn played(kind: &FaultKind) -> Vec<u8> {
        let answer = Answer::whole(200, "application/json", "{\"a\":1}");
        let Reply::Wire(takeover) = damage(kind, answer) else { panic!("{kind:?} is not of the wire") };
        sent(takeover)
    }

    #[test]
    fn a_gzip_bomb_is_sound_gzip_of_spaces_and_the_page() {
        let bytes = played(&FaultKind::GzipBomb { megabytes: 3 });
        let body = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        assert!(bytes.len() < 30_000);
        let mut plain = String::new();
        GzDecoder::new(&bytes[body..]).read_to_string(&mut plain).unwrap();
        assert_eq!(plain.len(), 3 * 1024 * 1024 + 7);
        assert_eq!(plain.trim_start(), "{\"a\":1}");
    }

    #[test]
    fn a_cut_chunk_is_announced_whole() {
        let cut = played(&FaultKind::CutChunk { keep: Keep::Bytes(3) });
        assert!(cut.ends_with(b"\r\n\r\n7\r\n{\"a"));
        let unended = played(&FaultKind::CutChunk { keep: Keep::Fraction(1.0) });
        assert!(unended.ends_with(b"\r\n\r\n7\r\n{\"a\":1}\r\n"));
    }
}

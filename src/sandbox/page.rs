//! Renders one page of a record: which entries, which links, and the bytes of the Bundle.
//!
//! Promise: resources go out as the bytes they are stored as, and the body is written piece by
//! piece, so a record of a gigabyte costs no more memory than its largest resource.
//!
//! Deliberately absent: misbehaviour (see `page_faults.rs`).

use std::sync::Arc;
use std::vec;

use axum::body::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::population::StoredEntry;
use super::query::Parameters;
use super::text::{array, object, quoted};

/// The characters not escaped in a link: those of dates, lists of types and ids.
const IN_LINKS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b',');

/// Pieces of about this size are handed to the connection.
const PIECE_BYTES: usize = 32 * 1024;

pub(super) struct BundlePage {
    /// As it is written.
    pub(super) total: Option<String>,
    pub(super) links: Vec<(&'static str, String)>,
    pub(super) entries: Vec<PageEntry>,
    pub(super) order: LinkOrder,
}

/// Where the links stand in the Bundle: JSON leaves it to the server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkOrder {
    BeforeEntries,
    AfterEntries,
}

pub(super) enum PageEntry {
    Stored(Arc<StoredEntry>),
    /// A whole entry, right or wrong, as bytes.
    Raw(Bytes),
}

/// Which part of the matching entries a page has, and where the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) next_offset: Option<usize>,
}

/// Returns the page size in force: the one requested, else everything there is.
pub(super) fn step(parameters: &Parameters, total: usize) -> usize {
    parameters.count.unwrap_or_else(|| total.max(1))
}

impl Window {
    pub(super) fn of(parameters: &Parameters, total: usize) -> Self {
        let start = parameters.offset.min(total);
        let end = start.saturating_add(step(parameters, total)).min(total);
        let next_offset = (end < total).then_some(end);
        Self { start, end, next_offset }
    }
}

/// Writes the links of one request.
pub(super) struct Linker<'a> {
    pub(super) base: &'a str,
    pub(super) person_id: &'a str,
    pub(super) parameters: &'a Parameters,
    pub(super) step: usize,
}

impl Linker<'_> {
    pub(super) fn path(&self) -> String {
        format!("/FHIR/R4/Person/{}/$everything", utf8_percent_encode(self.person_id, IN_LINKS))
    }

    /// `_count` and `_offset` alone.
    pub(super) fn bare_query(&self, offset: usize) -> String {
        format!("_count={}&_offset={offset}", self.step)
    }

    pub(super) fn query(&self, offset: usize) -> String {
        let mut query = self.bare_query(offset);
        if !self.parameters.types.is_empty() {
            query.push_str("&_type=");
            query.extend(utf8_percent_encode(&self.parameters.types.join(","), IN_LINKS));
        }
        if let Some(since) = &self.parameters.since {
            query.push_str("&_since=");
            query.extend(utf8_percent_encode(&since.text, IN_LINKS));
        }
        query
    }

    pub(super) fn link(&self, offset: usize) -> String {
        format!("{}{}?{}", self.base, self.path(), self.query(offset))
    }

    pub(super) fn links(&self, total: usize, next_offset: Option<usize>) -> Vec<(&'static str, String)> {
        let last = total.saturating_sub(1) / self.step * self.step;
        let mut links = vec![("self", self.link(self.parameters.offset)), ("first", self.link(0))];
        links.extend(next_offset.map(|offset| ("next", self.link(offset))));
        links.push(("last", self.link(last)));
        links
    }
}

/// The Bundle, as pieces of bytes.
pub(super) struct Pieces {
    base: String,
    head: Option<String>,
    entries: vec::IntoIter<PageEntry>,
    entries_sent: usize,
    tail: Option<String>,
}

impl BundlePage {
    pub(super) fn into_pieces(self, base: &str) -> Pieces {
        let links = array(
            self.links
                .iter()
                .map(|(relation, url)| object(&[("relation", quoted(relation)), ("url", quoted(url))])),
        );
        let mut head = String::from(r#"{"resourceType":"Bundle","type":"searchset""#);
        if let Some(total) = self.total {
            head.push_str(r#","total":"#);
            head.push_str(&total);
        }
        // FHIR has no empty arrays: a page without entries has no `entry` at all.
        let (open, close) = if self.entries.is_empty() { ("", "") } else { (r#","entry":["#, "]") };
        let links = format!(r#","link":{links}"#);
        let tail = match self.order {
            LinkOrder::BeforeEntries => {
                head.push_str(&links);
                format!("{close}}}")
            }
            LinkOrder::AfterEntries => format!("{close}{links}}}"),
        };
        head.push_str(open);
        Pieces {
            base: base.to_owned(),
            head: Some(head),
            entries: self.entries.into_iter(),
            entries_sent: 0,
            tail: Some(tail),
        }
    }
}

impl Iterator for Pieces {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        piece.extend(self.head.take().unwrap_or_default().into_bytes());
        while piece.len() < PIECE_BYTES {
            let Some(entry) = self.entries.next() else {
                piece.extend(self.tail.take().unwrap_or_default().into_bytes());
                break;
            };
            if 0 < self.entries_sent {
                piece.push(b',');
            }
            self.entries_sent += 1;
            match entry {
                PageEntry::Raw(bytes) => piece.extend_from_slice(&bytes),
                PageEntry::Stored(stored) => {
                    write_entry(&mut piece, Some(&stored.full_url(&self.base)), &stored.resource);
                }
            }
        }
        if piece.is_empty() { None } else { Some(Bytes::from(piece)) }
    }
}

/// Writes an entry that the search matched.
pub(super) fn write_entry(out: &mut Vec<u8>, full_url: Option<&str>, resource: &[u8]) {
    out.push(b'{');
    if let Some(full_url) = full_url {
        out.extend_from_slice(b"\"fullUrl\":");
        out.extend_from_slice(quoted(full_url).as_bytes());
        out.push(b',');
    }
    out.extend_from_slice(b"\"resource\":");
    out.extend_from_slice(resource);
    out.extend_from_slice(br#","search":{"mode":"match"}}"#);
}

//! The ledger of purges as text: a line a purge, each holding the hash of the line before it.
//!
//! Promise: whatever line is changed, taken out, put in or moved, the chain breaks there. Only the
//! last line has none after it; the warehouse remembers its hash. Absent on purpose: files, and
//! what is done about a purge.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::plan::state::PurgeReason;
use crate::plan::{PersonId, Timestamp, parse_stamp, stamp};

/// The SHA-256 of a line without its end, in lowercase hex.
pub(in crate::warehouse) type LineHash = String;

/// What one line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::warehouse) struct Entry {
    pub(in crate::warehouse) time: Timestamp,
    pub(in crate::warehouse) person: PersonId,
    pub(in crate::warehouse) kind: EntryKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::warehouse) enum EntryKind {
    Purge(PurgeEntry),
    /// The patient is pulled again: the purges before this are not to be carried out any more.
    Returned,
}

/// What `purge_log` knows of a purge beside whose and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::warehouse) struct PurgeEntry {
    pub(in crate::warehouse) reason: PurgeReason,
    pub(in crate::warehouse) by: String,
    pub(in crate::warehouse) refused_at: Option<Timestamp>,
    pub(in crate::warehouse) rows_by_table: BTreeMap<String, u64>,
}

/// The first line: whose ledger it is.
#[derive(Serialize, Deserialize)]
struct Header {
    ledger: String,
    version: u32,
    warehouse: String,
}

const NAME: &str = "healthex-sync purges";
const VERSION: u32 = 1;

/// Every other line.
#[derive(Serialize, Deserialize)]
struct Line {
    time: String,
    person: String,
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    rows_by_table: BTreeMap<String, u64>,
    previous: LineHash,
}

const PURGE: &str = "purge";
const RETURNED: &str = "returned";

/// Where a chain is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::warehouse) struct ChainFault {
    /// From 1.
    pub(in crate::warehouse) line: usize,
    pub(in crate::warehouse) what: &'static str,
}

/// What became of the last line of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::warehouse) enum Tail {
    Whole,
    /// All of the line is there but its end.
    Unended,
    /// Half a line: its purge was never committed. The file is whole up to so many bytes.
    Torn {
        whole: usize,
    },
}

/// All that can be read of a ledger.
#[derive(Clone, Debug)]
pub(in crate::warehouse) struct LedgerText {
    /// Whose it is; `None` if its first line cannot be read.
    pub(in crate::warehouse) warehouse: Option<String>,
    pub(in crate::warehouse) entries: Vec<Entry>,
    /// Of every line, the first too.
    pub(in crate::warehouse) hashes: HashSet<LineHash>,
    pub(in crate::warehouse) last: LineHash,
    /// The first place where something is wrong.
    pub(in crate::warehouse) fault: Option<ChainFault>,
    pub(in crate::warehouse) tail: Tail,
    lines: usize,
}

/// Returns the first line of a warehouse's ledger.
pub(in crate::warehouse) fn header(warehouse: &str) -> String {
    let header = Header { ledger: NAME.to_owned(), version: VERSION, warehouse: warehouse.to_owned() };
    // Text and numbers alone cannot fail.
    serde_json::to_string(&header).unwrap_or_default()
}

/// Returns the line that follows the one with this hash.
pub(in crate::warehouse) fn line(entry: &Entry, previous: &str) -> String {
    let purge = match &entry.kind {
        EntryKind::Purge(purge) => Some(purge),
        EntryKind::Returned => None,
    };
    let line = Line {
        time: stamp(entry.time),
        person: entry.person.to_string(),
        kind: if purge.is_some() { PURGE } else { RETURNED }.to_owned(),
        reason: purge.map(|purge| purge.reason.as_str().to_owned()),
        by: purge.map(|purge| purge.by.clone()),
        refused_at: purge.and_then(|purge| purge.refused_at).map(stamp),
        rows: purge.map(|purge| purge.rows_by_table.values().sum()),
        rows_by_table: purge.map(|purge| purge.rows_by_table.clone()).unwrap_or_default(),
        previous: previous.to_owned(),
    };
    serde_json::to_string(&line).unwrap_or_default()
}

/// Returns the hash by which the next line names this one.
pub(in crate::warehouse) fn hash(line: &[u8]) -> LineHash {
    Sha256::digest(line).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Returns the text of a new ledger with these entries.
pub(in crate::warehouse) fn text_of(warehouse: &str, entries: &[Entry]) -> String {
    let mut text = header(warehouse);
    let mut previous = hash(text.as_bytes());
    text.push('\n');
    for entry in entries {
        let line = line(entry, &previous);
        previous = hash(line.as_bytes());
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// Reads as much of a ledger as can be read, and walks its chain.
pub(in crate::warehouse) fn read(bytes: &[u8]) -> LedgerText {
    let mut found = LedgerText {
        warehouse: None,
        entries: Vec::new(),
        hashes: HashSet::new(),
        last: LineHash::new(),
        fault: None,
        tail: Tail::Whole,
        lines: 0,
    };
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let (lines, tail) = bytes.split_at(whole);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        found.take(&line[..line.len() - 1]);
    }
    if !tail.is_empty() {
        found.take_tail(tail, whole);
    } else if whole == 0 {
        found.fault = Some(ChainFault { line: 1, what: "the file is empty" });
    }
    found
}

impl LedgerText {
    fn take(&mut self, line: &[u8]) {
        self.lines += 1;
        let fault = if self.lines == 1 { self.take_header(line) } else { self.take_entry(line) }.err();
        if let Some(what) = fault {
            self.fault.get_or_insert(ChainFault { line: self.lines, what });
        }
        self.last = hash(line);
        self.hashes.insert(self.last.clone());
    }

    /// Takes in a last line that has no end.
    fn take_tail(&mut self, tail: &[u8], whole: usize) {
        let is_torn = whole > 0 && serde_json::from_slice::<Line>(tail).is_err();
        if is_torn {
            self.tail = Tail::Torn { whole };
        } else {
            self.take(tail);
            self.tail = Tail::Unended;
        }
    }

    fn take_header(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let header: Header = serde_json::from_slice(line).map_err(|_| UNREADABLE)?;
        if header.ledger != NAME || header.version != VERSION {
            return Err(UNREADABLE);
        }
        self.warehouse = Some(header.warehouse);
        Ok(())
    }

    fn take_entry(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line: Line = serde_json::from_slice(line).map_err(|_| UNREADABLE)?;
        let is_chained = line.previous == self.last;
        self.entries.push(entry_of(line).ok_or(UNREADABLE)?);
        if is_chained { Ok(()) } else { Err(UNCHAINED) }
    }
}

const UNREADABLE: &str = "it is no line of a ledger";
const UNCHAINED: &str =
    "it does not follow from the line before it: one of the two was changed, or one between them is gone";

fn entry_of(line: Line) -> Option<Entry> {
    let kind = match line.kind.as_str() {
        PURGE => EntryKind::Purge(PurgeEntry {
            reason: PurgeReason::parse(line.reason.as_deref()?)?,
            by: line.by?,
            refused_at: line.refused_at.as_deref().and_then(parse_stamp),
            rows_by_table: line.rows_by_table,
        }),
        RETURNED => EntryKind::Returned,
        _ => return None,
    };
    Some(Entry { time: parse_stamp(&line.time)?, person: PersonId::parse(&line.person).ok()?, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn purge(person: &str, second: i64) -> Entry {
        let kind = EntryKind::Purge(PurgeEntry {
            reason: PurgeReason::ConsentRevoked,
            by: "healthex-sync".to_owned(),
            refused_at: Some(at(second - 60)),
            rows_by_table: BTreeMap::from([("observation".to_owned(), 4), ("patient".to_owned(), 1)]),
        });
        Entry { time: at(second), person: PersonId::parse(person).unwrap(), kind }
    }

    fn returned(person: &str, second: i64) -> Entry {
        Entry { kind: EntryKind::Returned, ..purge(person, second) }
    }

    fn five() -> Vec<Entry> {
        vec![purge("anna", 0), purge("ben", 1), returned("anna", 2), purge("anna", 3), purge("cora", 4)]
    }

    /// The lines of a ledger of five entries, with their ends.
    fn lines() -> Vec<String> {
        text_of("w1", &five()).split_inclusive('\n').map(str::to_owned).collect()
    }

    /// Returns whether a warehouse that remembers the last line of [`five`] would see that the
    /// ledger was tampered with, and where the chain says so.
    fn is_seen(lines: &[String]) -> (bool, Option<usize>) {
        let head = read(text_of("w1", &five()).as_bytes()).last;
        let found = read(lines.concat().as_bytes());
        let line = found.fault.as_ref().map(|fault| fault.line);
        (line.is_some() || found.warehouse.as_deref() != Some("w1") || !found.hashes.contains(&head), line)
    }

    #[test]
    fn what_is_written_is_read() {
        let found = read(text_of("w1", &five()).as_bytes());
        assert_eq!(found.warehouse.as_deref(), Some("w1"));
        assert_eq!(found.entries, five());
        assert_eq!((found.fault, found.tail), (None, Tail::Whole));
        assert_eq!(found.hashes.len(), 6);
        let text = text_of("w1", &five()[..1]);
        let second = text.lines().nth(1).unwrap();
        assert!(second.starts_with(
            r#"{"time":"2027-01-15T08:00:00Z","person":"anna","kind":"purge","reason":"consent_revoked","by":"healthex-sync","refused_at":"2027-01-15T07:59:00Z","rows":5,"#
        ), "{second}");
        assert!(second.ends_with(&format!(r#""previous":"{}"}}"#, hash(header("w1").as_bytes()))));
        // By `printf abc | sha256sum`.
        assert_eq!(hash(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn a_byte_changed_anywhere_is_seen() {
        let text = text_of("w1", &five());
        for at in 0..text.len() - 1 {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let changed: Vec<String> = String::from_utf8(changed).map(|text| vec![text]).unwrap();
            assert!(is_seen(&changed).0, "byte {at}: {changed:?}");
        }
    }

    #[test]
    fn a_line_taken_out_put_in_doubled_or_moved_breaks_the_chain_there() {
        for number in 1..=6 {
            let mut without = lines();
            without.remove(number - 1);
            // Of the last line only the warehouse knows.
            let place = (number < 6).then_some(number.max(1));
            assert_eq!(is_seen(&without), (true, place), "without line {number}");
            let mut doubled = lines();
            doubled.insert(number, doubled[number - 1].clone());
            assert_eq!(is_seen(&doubled), (true, Some(number + 1)), "line {number} twice");
            let mut emptied = lines();
            emptied.insert(number, "\n".to_owned());
            assert_eq!(is_seen(&emptied), (true, Some(number + 1)), "an empty line after {number}");
            if number < 6 {
                let mut moved = lines();
                moved.swap(number - 1, number);
                assert_eq!(is_seen(&moved), (true, Some(number)), "line {number} moved");
            }
            let forged = line(&purge("dora", 9), &hash(b"guessed")) + "\n";
            let mut put_in = lines();
            put_in.insert(number, forged);
            assert_eq!(is_seen(&put_in), (true, Some(number + 1)), "put in after line {number}");
            assert!(is_seen(&lines()[..number - 1]).0, "cut before line {number}");
        }
    }

    #[test]
    fn what_is_readable_of_a_broken_ledger_is_read() {
        let mut broken = lines();
        broken[2] = "gone\n".to_owned();
        let found = read(broken.concat().as_bytes());
        assert_eq!(found.fault, Some(ChainFault { line: 3, what: UNREADABLE }));
        let mut rest = five();
        rest.remove(1);
        assert_eq!(found.entries, rest);
    }

    #[test]
    fn half_a_last_line_was_never_committed_and_a_whole_one_counts() {
        let text = text_of("w1", &five());
        let last = text[..text.len() - 1].rfind('\n').unwrap() + 1;
        for length in last + 1..text.len() - 1 {
            let found = read(&text.as_bytes()[..length]);
            assert_eq!((found.tail, found.fault), (Tail::Torn { whole: last }, None), "{length}");
            assert_eq!(found.entries, five()[..4]);
        }
        let found = read(&text.as_bytes()[..text.len() - 1]);
        assert_eq!((found.tail, found.fault), (Tail::Unended, None));
        assert_eq!(found.entries, five());
    }

    #[test]
    fn a_file_that_is_no_ledger_has_its_fault_in_line_1() {
        for text in ["", "\n", "x", "x\n", "{}\n", r#"{"ledger":"another","version":1,"warehouse":"w"}"#] {
            let found = read(text.as_bytes());
            assert_eq!(found.fault.map(|fault| fault.line), Some(1), "{text:?}");
            assert_eq!(found.warehouse, None);
        }
    }
}

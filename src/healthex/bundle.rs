//! Splits the bytes of an answer into entries, as they arrive.
//!
//! Promise: memory is bounded by the largest single entry and never by the answer; any split
//! of the bytes gives the same entries; an entry is returned only when it was whole.
//! Absent on purpose: sockets, and any reading of what is inside an entry.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::plan::row::Entry;

/// The limits of a bundle reader.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of an entry longer than this only the beginning is kept.
    pub entry_bytes_max: usize,
}

/// A value beside `entry` (`link`, `meta`, …) may be this long.
const OTHER_BYTES_MAX: usize = 1024 * 1024;
/// Nothing needs as much white space between two values.
const SPACE_BYTES_MAX: u64 = 1024 * 1024;
/// Arrays and objects inside each other, beside the entries.
const DEPTH_MAX: u32 = 100;
/// Of an oversized entry, enough to tell it from another.
const OVERSIZED_KEPT: usize = 4096;

/// The answer is not a whole searchset Bundle. Holds nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not a whole Bundle: {what} at byte {at_byte}")]
pub struct NotABundle {
    pub what: &'static str,
    pub at_byte: u64,
}

const HTML: &str = "it is a web page; is a portal or a proxy on the way?";

/// The total and the next link of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PageFacts {
    pub total: Option<u64>,
    pub next: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// The `{` of the Bundle, or a byte order mark.
    Opening,
    /// The second and third byte of a byte order mark.
    Mark(u8),
    /// A key or `}`.
    FirstKey,
    Key,
    InKey,
    Colon,
    Value,
    /// Within `entry`: an element or `]`.
    FirstElement,
    Element,
    /// After a value: `,` or the end of what holds it.
    CommaInObject,
    CommaInEntries,
    /// After the Bundle: nothing but white space.
    Nothing,
}

/// The value being read, as far as its brackets and strings go.
#[derive(Debug)]
pub(super) struct Capture {
    pub(super) bytes: Vec<u8>,
    size: u64,
    depth: u32,
    deepest: u32,
    in_string: bool,
    escaped: bool,
    is_entry: bool,
}

#[derive(Debug)]
pub struct BundleReader {
    limits: Limits,
    expect: Expect,
    capture: Option<Capture>,
    key: Vec<u8>,
    at: u64,
    space: u64,
    facts: PageFacts,
    is_bundle: bool,
    is_searchset: bool,
}

impl BundleReader {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            expect: Expect::Opening,
            capture: None,
            key: Vec::new(),
            at: 0,
            space: 0,
            facts: PageFacts::default(),
            is_bundle: false,
            is_searchset: false,
        }
    }

    /// Takes the next bytes and puts the entries that they complete into `entries`.
    pub fn push(&mut self, mut bytes: &[u8], entries: &mut Vec<Entry>) -> Result<(), NotABundle> {
        while let Some(&byte) = bytes.first() {
            if self.capture.is_some() {
                let taken = self.take_value(bytes, entries)?;
                self.at += taken as u64;
                bytes = &bytes[taken..];
                continue;
            }
            self.step(byte)?;
            self.at += 1;
            // A scalar or bracket that opens a value has been put into the capture.
            bytes = &bytes[1..];
        }
        Ok(())
    }

    /// Returns how much is kept of an entry that has not come to its end.
    pub(super) fn unfinished_bytes(&self) -> usize {
        self.capture.as_ref().filter(|capture| capture.is_entry).map_or(0, |capture| capture.bytes.len())
    }

    /// Ends the answer. Returns an error if it was not a whole searchset.
    pub fn finish(self) -> Result<PageFacts, NotABundle> {
        if self.expect != Expect::Nothing {
            return Err(self.refuse("it ended too early"));
        }
        if !self.is_bundle {
            return Err(self.refuse("its resourceType is not Bundle"));
        }
        if !self.is_searchset {
            return Err(self.refuse("its type is not searchset"));
        }
        Ok(self.facts)
    }

    fn refuse(&self, what: &'static str) -> NotABundle {
        NotABundle { what, at_byte: self.at }
    }

    /// Takes one byte between values.
    fn step(&mut self, byte: u8) -> Result<(), NotABundle> {
        if matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
            && !matches!(self.expect, Expect::InKey | Expect::Mark(_))
        {
            self.space += 1;
            return if self.space > SPACE_BYTES_MAX {
                Err(self.refuse("endless white space"))
            } else {
                Ok(())
            };
        }
        self.space = 0;
        self.expect = match (self.expect, byte) {
            (Expect::Opening, 0xEF) if self.at == 0 => Expect::Mark(0xBB),
            (Expect::Mark(0xBB), 0xBB) => Expect::Mark(0xBF),
            (Expect::Mark(0xBF), 0xBF) => Expect::Opening,
            (Expect::Opening, b'{') => Expect::FirstKey,
            (Expect::Opening | Expect::Mark(_), _) => {
                return Err(self.refuse(if byte == b'<' { HTML } else { "it does not begin with a brace" }));
            }
            (Expect::FirstKey | Expect::Key, b'"') => {
                self.key.clear();
                Expect::InKey
            }
            (Expect::FirstKey | Expect::CommaInObject, b'}') => Expect::Nothing,
            (Expect::InKey, b'"') => Expect::Colon,
            (Expect::InKey, _) if self.key.len() >= 256 || byte < 0x20 || byte == b'\\' => {
                return Err(self.refuse("a key that FHIR does not have"));
            }
            (Expect::InKey, _) => {
                self.key.push(byte);
                Expect::InKey
            }
            (Expect::Colon, b':') => Expect::Value,
            (Expect::Value, b'[') if self.key == b"entry" => Expect::FirstElement,
            (Expect::FirstElement | Expect::CommaInEntries, b']') => Expect::CommaInObject,
            (Expect::Value, _) => return self.open_value(byte, false),
            (Expect::FirstElement | Expect::Element, _) => return self.open_value(byte, true),
            (Expect::CommaInObject, b',') => Expect::Key,
            (Expect::CommaInEntries, b',') => Expect::Element,
            (Expect::Nothing, _) => return Err(self.refuse("more after its end")),
            _ => return Err(self.refuse("not JSON")),
        };
        Ok(())
    }

    fn open_value(&mut self, byte: u8, is_entry: bool) -> Result<(), NotABundle> {
        let Some(capture) = Capture::begin(byte) else { return Err(self.refuse("not JSON")) };
        self.capture = Some(Capture { is_entry, ..capture });
        Ok(())
    }

    /// Takes bytes of the value being read; ends it where it ends. Returns how many were taken.
    fn take_value(&mut self, bytes: &[u8], entries: &mut Vec<Entry>) -> Result<usize, NotABundle> {
        let Some(mut capture) = self.capture.take() else { return Ok(0) };
        let (taken, ended) = capture.scan(bytes);
        let max = if capture.is_entry { self.limits.entry_bytes_max } else { OTHER_BYTES_MAX };
        capture.size += taken as u64;
        if capture.size <= max as u64 {
            capture.bytes.extend_from_slice(&bytes[..taken]);
        } else if capture.is_entry {
            // Its bytes are freed now, and the rest is not collected. As many are kept however they came.
            let kept = OVERSIZED_KEPT.min(max);
            let lacking = kept.saturating_sub(capture.bytes.len()).min(taken);
            capture.bytes.extend_from_slice(&bytes[..lacking]);
            capture.bytes.truncate(kept);
            capture.bytes.shrink_to_fit();
        } else {
            return Err(self.refuse("a value beside the entries is too long"));
        }
        if !capture.is_entry && capture.deepest > DEPTH_MAX {
            return Err(self.refuse("nested too deeply"));
        }
        if !ended {
            self.capture = Some(capture);
            return Ok(taken);
        }
        if capture.is_entry {
            self.expect = Expect::CommaInEntries;
            entries.push(Entry { bytes: capture.bytes, size: capture.size, depth: capture.deepest });
        } else {
            self.expect = Expect::CommaInObject;
            self.take_other(&capture.bytes)?;
        }
        Ok(taken)
    }

    /// Takes a value beside the entries. One that is not needed must be JSON all the same.
    fn take_other(&mut self, value: &[u8]) -> Result<(), NotABundle> {
        if self.key == b"total" {
            self.facts.total = read_total(value);
            return Ok(());
        }
        let Ok(raw) = serde_json::from_slice::<&RawValue>(value) else {
            return Err(self.refuse("not JSON"));
        };
        match self.key.as_slice() {
            b"resourceType" => {
                self.is_bundle = raw.get() == "\"Bundle\"";
                if !self.is_bundle {
                    return Err(self.refuse("its resourceType is not Bundle"));
                }
            }
            b"type" => {
                self.is_searchset = raw.get() == "\"searchset\"";
                if !self.is_searchset {
                    return Err(self.refuse("its type is not searchset"));
                }
            }
            b"link" if raw.get() != "null" => {
                self.facts.next = read_next(raw).map_err(|what| self.refuse(what))?;
            }
            b"entry" if raw.get() != "null" => return Err(self.refuse("its entry is not an array")),
            _ => {}
        }
        Ok(())
    }
}

impl Capture {
    /// Begins a value with its first byte, or returns `None` where no value begins so.
    pub(super) fn begin(byte: u8) -> Option<Self> {
        let opens = matches!(byte, b'{' | b'[');
        let in_string = byte == b'"';
        // `+1` and `.5` are no JSON either, but where they end is known: whoever reads them says so.
        if !(opens || in_string || byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')) {
            return None;
        }
        let depth = u32::from(opens);
        let bytes = vec![byte];
        Some(Self { bytes, size: 1, depth, deepest: depth, in_string, escaped: false, is_entry: false })
    }

    /// Returns how many of `bytes` belong to this value, and whether it ends with them.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> (usize, bool) {
        let is_scalar = self.depth == 0 && !self.in_string;
        if is_scalar {
            let end = bytes
                .iter()
                .position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t'));
            return (end.unwrap_or(bytes.len()), end.is_some());
        }
        let mut at = 0;
        while at < bytes.len() {
            if self.in_string {
                if self.escaped {
                    self.escaped = false;
                    at += 1;
                    continue;
                }
                let Some(found) = memchr::memchr2(b'"', b'\\', &bytes[at..]) else {
                    return (bytes.len(), false);
                };
                at += found + 1;
                if bytes[at - 1] == b'\\' {
                    self.escaped = true;
                    continue;
                }
                self.in_string = false;
                if self.depth == 0 {
                    return (at, true);
                }
                continue;
            }
            let byte = bytes[at];
            at += 1;
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    self.deepest = self.deepest.max(self.depth);
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return (at, true);
                    }
                }
                _ => {}
            }
        }
        (bytes.len(), false)
    }
}

/// A count, where it is one: a `total` that is anything else says as little as none.
fn read_total(value: &[u8]) -> Option<u64> {
    let is_count = value.iter().all(u8::is_ascii_digit);
    let total = std::str::from_utf8(value).ok().filter(|_| is_count)?.parse().ok()?;
    i64::try_from(total).ok().map(|_: i64| total)
}

fn read_next(link: &RawValue) -> Result<Option<String>, &'static str> {
    #[derive(Deserialize)]
    struct Link {
        relation: Option<String>,
        url: Option<String>,
    }
    let links: Vec<Link> = serde_json::from_str(link.get()).map_err(|_| "its link is not a list of links")?;
    let next = links.into_iter().find(|link| link.relation.as_deref() == Some("next"));
    match next {
        None => Ok(None),
        Some(Link { url: Some(url), .. }) => Ok(Some(url)),
        // Taken for the last page, it would end the pull too early.
        Some(_) => Err("its next link has no url"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { entry_bytes_max: 10_000 };
    const WHOLE: &str = r#" {"resourceType": "Bundle", "type":"searchset","total":2 ,"meta":{"x":[1,{"y":"]}\""}]},
        "link":[{"relation":"self","url":"s"},{"relation":"next","url":"n\u003d1"}],
        "entry" : [ {"resource":{"a":"}],\"\\"}} , 7,"text, \"]", [ ] , null ] , "x":-1.5e3, "y":true}
        "#;

    fn read(chunks: &[&[u8]]) -> Result<(Vec<String>, PageFacts), NotABundle> {
        let mut reader = BundleReader::new(LIMITS);
        let mut entries = Vec::new();
        for chunk in chunks {
            reader.push(chunk, &mut entries)?;
        }
        let entries = entries.into_iter().map(|entry| String::from_utf8(entry.bytes).unwrap()).collect();
        Ok((entries, reader.finish()?))
    }

    #[test]
    fn entries_come_as_the_bytes_they_were() {
        let (entries, facts) = read(&[WHOLE.as_bytes()]).unwrap();
        assert_eq!(entries, [r#"{"resource":{"a":"}],\"\\"}}"#, "7", r#""text, \"]""#, "[ ]", "null"]);
        assert_eq!(facts, PageFacts { total: Some(2), next: Some("n=1".to_owned()) });
    }

    #[test]
    fn a_byte_order_mark_is_whole_or_breaks_the_answer() {
        let bundle = br#"{"resourceType":"Bundle","type":"searchset"}"#;
        for (mark, is_fine) in [
            (&b"\xEF\xBB\xBF"[..], true),
            (b"\xEF\xBB\xBF ", true),
            (b"\xEF", false),
            (b"\xEF\xBB", false),
            (b"\xEF \xBB\xBF", false),
            (b"\xEF\xBB\xBF\xEF\xBB\xBF", false),
            (b" \xEF\xBB\xBF", false),
        ] {
            assert_eq!(read(&[mark, bundle]).is_ok(), is_fine, "{mark:x?}");
        }
    }

    #[test]
    fn an_answer_cut_anywhere_is_not_whole() {
        let end = WHOLE.trim_end().len();
        for cut in 0..end {
            assert!(read(&[&WHOLE.as_bytes()[..cut]]).is_err(), "cut at {cut}");
        }
        assert!(read(&[&WHOLE.as_bytes()[..end]]).is_ok());
    }

    #[test]
    fn what_is_no_searchset_is_refused() {
        let check =
            |text: &str, what: &str| assert_eq!(read(&[text.as_bytes()]).unwrap_err().what, what, "{text}");
        check("", "it ended too early");
        check("<html>", HTML);
        check("[]", "it does not begin with a brace");
        check("{}", "its resourceType is not Bundle");
        check(r#"{"resourceType":"Patient"}"#, "its resourceType is not Bundle");
        check(r#"{"resourceType":"Bundle"}"#, "its type is not searchset");
        check(r#"{"resourceType":"Bundle","type":"batch"}"#, "its type is not searchset");
        check(r#"{"resourceType":"Bundle","type":"searchset"}{"#, "more after its end");
        check(r#"{"resourceType":"Bundle","type":"searchset",}"#, "not JSON");
        check(r#"{"resourceType":"Bundle","type":"searchset","entry":[{},]}"#, "not JSON");
        check(r#"{"resourceType":"Bundle","type":"searchset","entry":{}}"#, "its entry is not an array");
        check(r#"{"resourceType":"Bundle","type":"searchset","link":{}}"#, "its link is not a list of links");
        check(
            r#"{"resourceType":"Bundle","type":"searchset","link":[{"relation":"next"}]}"#,
            "its next link has no url",
        );
        check(r#"{"resourceType":"Bundle","type":"searchset","x":tru}"#, "not JSON");
    }

    #[test]
    fn a_total_that_is_no_count_is_as_if_absent() {
        let check = |total: &str, expected| {
            let text =
                format!(r#"{{"resourceType":"Bundle","type":"searchset","total":{total},"entry":[1]}}"#);
            let (entries, facts) = read(&[text.as_bytes()]).unwrap();
            assert_eq!((facts.total, entries.len()), (expected, 1), "{total}");
        };
        check("0", Some(0));
        check("11", Some(11));
        check("9223372036854775807", Some(i64::MAX as u64));
        for total in [
            "-1",
            "\"11\"",
            "11.0",
            "1e3",
            "9223372036854775808",
            "18446744073709551616",
            "null",
            "true",
            "{}",
            "[11]",
            "NaN",
            "+3",
            ".5",
            "-Infinity",
            "0x10",
            "1_000",
        ] {
            check(total, None);
        }
    }

    #[test]
    fn an_entry_that_is_no_json_is_given_out_where_its_end_is_known() {
        let bad =
            [r#"{"a":+3.0}"#, r#"{"a":.5,"b":"}"}"#, r#"{"a":[NaN]}"#, "+3.0", ".5", "NaN", "[,]", "{]"];
        let text = format!(
            r#"{{"resourceType":"Bundle","type":"searchset","entry":[1,{},2],"total":2}}"#,
            bad.join(" , ")
        );
        let (entries, facts) = read(&[text.as_bytes()]).unwrap();
        assert_eq!(entries, [&["1"], &bad[..], &["2"]].concat());
        assert_eq!(facts.total, Some(2));
    }

    #[test]
    fn limits_are_errors_and_a_large_entry_passes_by() {
        let begin = r#"{"resourceType":"Bundle","type":"searchset","#;
        let spaces = " ".repeat(usize::try_from(SPACE_BYTES_MAX).unwrap() + 1);
        assert_eq!(read(&[begin.as_bytes(), spaces.as_bytes()]).unwrap_err().what, "endless white space");
        let deep = format!("{begin}\"x\":{}", "[".repeat(200));
        assert_eq!(read(&[deep.as_bytes()]).unwrap_err().what, "nested too deeply");
        let large = format!("{begin}\"entry\":[\"{}\",1]}}", "x".repeat(20_000));
        for piece in [1, 7_000, 15_000, large.len()] {
            let mut reader = BundleReader::new(LIMITS);
            let mut entries = Vec::new();
            large.as_bytes().chunks(piece).for_each(|piece| reader.push(piece, &mut entries).unwrap());
            assert_eq!(entries.iter().map(|entry| entry.size).collect::<Vec<_>>(), [20_002, 1]);
            assert_eq!(
                entries[0].bytes,
                format!("\"{}", "x".repeat(OVERSIZED_KEPT - 1)).as_bytes(),
                "{piece}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_split_gives_the_same_entries(cuts in proptest::collection::vec(0..WHOLE.len(), 0..20)) {
            let mut cuts = cuts;
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut start = 0;
            for cut in cuts {
                chunks.push(&WHOLE.as_bytes()[start..cut]);
                start = cut;
            }
            chunks.push(&WHOLE.as_bytes()[start..]);
            assert_eq!(read(&chunks), read(&[WHOLE.as_bytes()]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(0u8..=255, 0..300)) {
            let mut reader = BundleReader::new(LIMITS);
            let mut entries = Vec::new();
            if reader.push(&bytes, &mut entries).is_ok() {
                let _ = reader.finish();
            }
        }

        #[test]
        fn mangled_json_gives_only_whole_entries(at in 0..WHOLE.len(), byte in 0u8..=255) {
            let mut bytes = WHOLE.as_bytes().to_vec();
            bytes[at] = byte;
            let mut reader = BundleReader::new(LIMITS);
            let mut entries = Vec::new();
            let _ = reader.push(&bytes, &mut entries);
            for entry in entries {
                assert_eq!(entry.size, entry.bytes.len() as u64);
            }
        }
    }
}

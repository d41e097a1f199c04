//! A JSON text onto a tape, in one loop.

use super::{Entry, Json, TapeMemory};

/// How deep arrays and objects may nest; SQLite's own JSON functions go as far.
pub(super) const DEPTH_MAX: usize = 1_000;

/// A text that is not put on a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotATape {
    #[error("it is not JSON")]
    NotJson,
    #[error("it nests deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("it is longer than 4 GiB")]
    TooLong,
}

/// What may come next.
#[derive(Clone, Copy)]
enum Wanted {
    Value,
    /// The first element of an array, or its end.
    ElementOrEnd,
    /// The first name of an object, or its end.
    NameOrEnd,
    Name,
    /// A comma or the end of what is open.
    Separator,
}

struct Parser<'t, 'm> {
    bytes: &'t [u8],
    at: usize,
    memory: &'m mut TapeMemory,
}

pub(super) fn parse(text: &str, memory: &mut TapeMemory) -> Result<(), NotATape> {
    if u32::try_from(text.len()).is_err() {
        return Err(NotATape::TooLong);
    }
    memory.entries.clear();
    memory.open.clear();
    let mut parser = Parser { bytes: text.as_bytes(), at: 0, memory };
    parser.run()?;
    parser.skip_layout();
    if parser.at == parser.bytes.len() { Ok(()) } else { Err(NotATape::NotJson) }
}

impl Parser<'_, '_> {
    fn run(&mut self) -> Result<(), NotATape> {
        let mut wanted = Wanted::Value;
        loop {
            self.skip_layout();
            let byte = *self.bytes.get(self.at).ok_or(NotATape::NotJson)?;
            wanted = match (wanted, byte) {
                (Wanted::ElementOrEnd, b']') | (Wanted::NameOrEnd, b'}') => self.close(byte)?,
                (Wanted::Value | Wanted::ElementOrEnd, byte) => self.value(byte)?,
                (Wanted::Name | Wanted::NameOrEnd, b'"') => self.name()?,
                (Wanted::Separator, b',') => {
                    self.at += 1;
                    if self.is_in_object() { Wanted::Name } else { Wanted::Value }
                }
                (Wanted::Separator, b']' | b'}') => self.close(byte)?,
                _ => return Err(NotATape::NotJson),
            };
            if self.memory.open.is_empty() {
                return Ok(());
            }
        }
    }

    fn skip_layout(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.bytes.get(self.at) {
            self.at += 1;
        }
    }

    fn is_in_object(&self) -> bool {
        self.memory.open.last().is_some_and(|at| self.memory.entries[*at as usize].json == Json::Object)
    }

    fn value(&mut self, first: u8) -> Result<Wanted, NotATape> {
        match first {
            b'"' => {
                self.text(Json::Text)?;
            }
            b'{' => return self.open(Json::Object),
            b'[' => return self.open(Json::Array),
            b't' => self.word(b"true", Json::True)?,
            b'f' => self.word(b"false", Json::False)?,
            b'n' => self.word(b"null", Json::Null)?,
            b'-' | b'0'..=b'9' => self.number()?,
            _ => return Err(NotATape::NotJson),
        }
        self.end_member();
        Ok(Wanted::Separator)
    }

    fn name(&mut self) -> Result<Wanted, NotATape> {
        self.text(Json::Name)?;
        self.skip_layout();
        if self.bytes.get(self.at) != Some(&b':') {
            return Err(NotATape::NotJson);
        }
        self.at += 1;
        Ok(Wanted::Value)
    }

    fn push(&mut self, start: usize, end: usize, json: Json, has_escapes: bool) {
        let next = self.memory.entries.len() + 1;
        self.memory.entries.push(Entry {
            start: position(start),
            end: position(end),
            next: position(next),
            json,
            has_escapes,
        });
    }

    fn open(&mut self, json: Json) -> Result<Wanted, NotATape> {
        if self.memory.open.len() == DEPTH_MAX {
            return Err(NotATape::TooDeep);
        }
        self.memory.open.push(position(self.memory.entries.len()));
        self.push(self.at, self.at, json, false);
        self.at += 1;
        Ok(if json == Json::Object { Wanted::NameOrEnd } else { Wanted::ElementOrEnd })
    }

    fn close(&mut self, byte: u8) -> Result<Wanted, NotATape> {
        let opened = self.memory.open.pop().ok_or(NotATape::NotJson)?;
        self.at += 1;
        let next = position(self.memory.entries.len());
        let entry = &mut self.memory.entries[opened as usize];
        if (entry.json == Json::Object) != (byte == b'}') {
            return Err(NotATape::NotJson);
        }
        entry.end = position(self.at);
        entry.next = next;
        self.end_member_at(opened);
        Ok(Wanted::Separator)
    }

    /// The value just read is whole: a name before it ends there too.
    fn end_member(&mut self) {
        self.end_member_at(position(self.memory.entries.len() - 1));
    }

    fn end_member_at(&mut self, value: u32) {
        let next = position(self.memory.entries.len());
        if let Some(before) = value.checked_sub(1).map(|before| &mut self.memory.entries[before as usize])
            && before.json == Json::Name
        {
            before.next = next;
        }
    }

    fn word(&mut self, word: &[u8], json: Json) -> Result<(), NotATape> {
        if !self.bytes[self.at..].starts_with(word) {
            return Err(NotATape::NotJson);
        }
        self.push(self.at, self.at + word.len(), json, false);
        self.at += word.len();
        Ok(())
    }

    fn text(&mut self, json: Json) -> Result<(), NotATape> {
        let start = self.at + 1;
        let mut at = start;
        let mut has_escapes = false;
        loop {
            at = plain_end(self.bytes, at);
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    has_escapes = true;
                    at += escape_length(&self.bytes[at..])?;
                }
                // A control character, or the end.
                _ => return Err(NotATape::NotJson),
            }
        }
        self.push(start, at, json, has_escapes);
        self.at = at + 1;
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotATape> {
        let start = self.at;
        self.at += usize::from(self.bytes[start] == b'-');
        match self.digits() {
            0 => return Err(NotATape::NotJson),
            1 => {}
            _ if self.bytes[start + usize::from(self.bytes[start] == b'-')] == b'0' => {
                return Err(NotATape::NotJson);
            }
            _ => {}
        }
        let mut json = Json::Integer;
        if self.bytes.get(self.at) == Some(&b'.') {
            json = Json::Decimal;
            self.at += 1;
            if self.digits() == 0 {
                return Err(NotATape::NotJson);
            }
        }
        if let Some(b'e' | b'E') = self.bytes.get(self.at) {
            json = Json::Decimal;
            self.at += 1;
            self.at += usize::from(matches!(self.bytes.get(self.at), Some(b'+' | b'-')));
            if self.digits() == 0 {
                return Err(NotATape::NotJson);
            }
        }
        self.push(start, self.at, json, false);
        Ok(())
    }

    /// Skips digits; returns how many.
    fn digits(&mut self) -> usize {
        let before = self.at;
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at - before
    }
}

/// A tape has no more entries than its text has bytes, which `parse` has counted.
fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The length of the escape that `bytes` begin with.
fn escape_length(bytes: &[u8]) -> Result<usize, NotATape> {
    match bytes.get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
        Some(b'u') if bytes.get(2..6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) => Ok(6),
        _ => Err(NotATape::NotJson),
    }
}

/// The closing quote of a text of valid JSON whose content begins at `at`.
pub(super) fn text_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// The first quote, backslash or control character from `at` on, or the end.
///
/// Eight bytes at a time: most texts of a resource are too short for anything wider.
fn plain_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*chunk);
        let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
        let quotes = zeros(word ^ (ONES * u64::from(b'"')));
        let backslashes = zeros(word ^ (ONES * u64::from(b'\\')));
        let controls = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (quotes | backslashes | controls) & HIGHS;
        if found != 0 {
            // A borrow may mark bytes behind the first one, never before it.
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let is_plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | 0..0x20);
    at + bytes[at..].iter().take_while(|byte| is_plain(byte)).count()
}

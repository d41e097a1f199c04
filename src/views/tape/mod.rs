//! A resource's JSON as a tape: one entry a name or value, in the order of the text.
//!
//! Promise: linear in the text, nothing copied, numbers keep their digits. It takes and refuses
//! the same texts as `serde_json`, but for nesting deeper than 1,000. Of two members of
//! one name the first is found, as SQLite does. Half a surrogate pair reads as U+FFFD.
//!
//! Absent on purpose: any knowledge of FHIR, and recursion.

mod parse;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use parse::NotATape;

/// What an entry is. A name stands before the value it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    True,
    False,
    /// Digits without a point or an exponent.
    Integer,
    /// Digits with one of them.
    Decimal,
    Text,
    Array,
    Object,
    Name,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Where it begins in the text, for a text or a name behind the quote.
    start: u32,
    /// The byte behind it, or the closing quote.
    end: u32,
    /// The entry behind all of this one.
    next: u32,
    json: Json,
    has_escapes: bool,
}

/// A value on a tape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct At(u32);

/// Holds the memory of a tape between two texts.
#[derive(Debug, Default)]
pub struct TapeMemory {
    entries: Vec<Entry>,
    open: Vec<u32>,
}

/// A JSON text that was read once.
#[derive(Debug)]
pub struct Tape<'t> {
    text: &'t str,
    entries: &'t [Entry],
}

impl<'t> Tape<'t> {
    /// Reads a JSON text; the tape lives in `memory` and borrows from the text.
    pub fn read(text: &'t str, memory: &'t mut TapeMemory) -> Result<Self, NotATape> {
        parse::parse(text, memory)?;
        Ok(Self { text, entries: &memory.entries })
    }

    #[expect(clippy::unused_self, reason = "a place means something on its own tape alone")]
    pub(crate) fn root(&self) -> At {
        At(0)
    }

    fn entry(&self, at: At) -> Entry {
        self.entries[at.0 as usize]
    }

    pub(crate) fn json(&self, at: At) -> Json {
        self.entry(at).json
    }

    fn slice(&self, entry: Entry) -> &'t str {
        &self.text[entry.start as usize..entry.end as usize]
    }

    /// Returns a value as it is written; of a text, what is between the quotes.
    pub(crate) fn written(&self, at: At) -> &'t str {
        self.slice(self.entry(at))
    }

    /// Returns a text's content, or the digits of a number.
    pub(crate) fn text(&self, at: At) -> Cow<'t, str> {
        self.content(self.entry(at))
    }

    fn content(&self, entry: Entry) -> Cow<'t, str> {
        let written = self.slice(entry);
        if entry.has_escapes { Cow::Owned(unescaped(written)) } else { Cow::Borrowed(written) }
    }

    /// Returns the first member of that name; none of what is no object.
    pub(crate) fn member(&self, object: At, name: &str) -> Option<At> {
        let owner = self.entry(object);
        if owner.json != Json::Object {
            return None;
        }
        let mut at = object.0 + 1;
        while at < owner.next {
            let entry = self.entry(At(at));
            let is_it = if entry.has_escapes {
                unescaped(self.slice(entry)) == name
            } else {
                (entry.end - entry.start) as usize == name.len() && self.slice(entry) == name
            };
            if is_it {
                return Some(At(at + 1));
            }
            at = entry.next;
        }
        None
    }

    /// Returns names and values of an object in their order; none of anything else.
    pub(crate) fn members(&self, object: At) -> impl Iterator<Item = (Cow<'t, str>, At)> {
        let owner = self.entry(object);
        let end = if owner.json == Json::Object { owner.next } else { 0 };
        let mut at = object.0 + 1;
        std::iter::from_fn(move || {
            let name = self.entry((at < end).then_some(At(at))?);
            let value = At(at + 1);
            at = name.next;
            Some((self.content(name), value))
        })
    }

    /// Returns the elements of an array; none of anything else.
    pub(crate) fn elements(&self, array: At) -> impl Iterator<Item = At> {
        let owner = self.entry(array);
        let end = if owner.json == Json::Array { owner.next } else { 0 };
        let mut at = array.0 + 1;
        std::iter::from_fn(move || {
            let element = (at < end).then_some(At(at))?;
            at = self.entry(element).next;
            Some(element)
        })
    }

    /// Returns whether a value is another one or stands within it.
    pub(super) fn holds(&self, outer: At, inner: At) -> bool {
        outer.0 <= inner.0 && inner.0 < self.entry(outer).next
    }

    /// Appends a value without white space between its parts.
    pub(super) fn push_compact(&self, at: At, out: &mut String) {
        let first = self.entry(at);
        if first.json == Json::Text {
            out.extend(["\"", self.slice(first), "\""]);
            return;
        }
        let mut rest = self.slice(first);
        while let Some(space) = next_layout(rest) {
            out.push_str(&rest[..space]);
            rest = rest[space..].trim_start_matches([' ', '\t', '\n', '\r']);
        }
        out.push_str(rest);
    }

    /// Returns whether two values are the same: members in any order, numbers by their value.
    pub(super) fn same(&self, one: At, other: At) -> bool {
        let mut pairs = vec![(one, other)];
        while let Some((a, b)) = pairs.pop() {
            match (self.json(a), self.json(b)) {
                (Json::Array, Json::Array) => {
                    let (before, mut others) = (pairs.len(), self.elements(b));
                    pairs.extend(self.elements(a).zip(others.by_ref()));
                    if others.next().is_some() || pairs.len() - before != self.elements(a).count() {
                        return false;
                    }
                }
                (Json::Object, Json::Object) => {
                    if self.members(a).count() != self.members(b).count() {
                        return false;
                    }
                    for (name, value) in self.members(a) {
                        let Some(other) = self.member(b, &name) else { return false };
                        pairs.push((value, other));
                    }
                }
                (Json::Text, Json::Text) if self.text(a) != self.text(b) => return false,
                (Json::Integer | Json::Decimal, Json::Integer | Json::Decimal)
                    if self.written(a).parse::<f64>() != self.written(b).parse::<f64>() =>
                {
                    return false;
                }
                (Json::Integer | Json::Decimal, Json::Integer | Json::Decimal) => {}
                (one, other) if one != other => return false,
                _ => {}
            }
        }
        true
    }
}

/// The place of the first white space outside of texts.
fn next_layout(json: &str) -> Option<usize> {
    let bytes = json.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = parse::text_end(bytes, at + 1)? + 1,
            b' ' | b'\t' | b'\n' | b'\r' => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// What a text that was held against the grammar stands for.
fn unescaped(written: &str) -> String {
    let mut content = String::with_capacity(written.len());
    let mut rest = written;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        content.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).copied().unwrap_or_default();
        rest = rest.get(at + 2..).unwrap_or_default();
        let plain = match escape {
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let (letter, behind) = unicode(rest);
                rest = behind;
                letter
            }
            same => char::from(same),
        };
        content.push(plain);
    }
    content.push_str(rest);
    content
}

/// The character of `XXXX` or of `XXXX\uXXXX`, and what follows.
fn unicode(text: &str) -> (char, &str) {
    let unit = |text: &str| text.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let first = unit(text).unwrap_or_default();
    let rest = text.get(4..).unwrap_or_default();
    if let Some(letter) = char::from_u32(first) {
        return (letter, rest);
    }
    let low = rest.strip_prefix("\\u").and_then(unit).filter(|low| (0xDC00..0xE000).contains(low));
    match low {
        Some(low) if first < 0xDC00 => {
            let code = 0x1_0000 + ((first - 0xD800) << 10) + (low - 0xDC00);
            let letter = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            (letter, rest.get(6..).unwrap_or_default())
        }
        _ => (char::REPLACEMENT_CHARACTER, rest),
    }
}

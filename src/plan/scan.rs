//! A JSON value that is known to be whole, read in one pass: its hash and its elements.
//!
//! Absent on purpose: any judging of whether it is JSON. A `RawValue` has been held against the
//! grammar when it was made; of a text that has not, what is found is what can be made out.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::value::RawValue;
use xxhash_rust::xxh3::Xxh3;

/// What one pass over a value has found.
pub(crate) struct Scanned<'a> {
    /// xxh3-128 of the value without insignificant white space, big-endian.
    pub content_hash: [u8; 16],
    /// Of an object: names and values as they came, in their order.
    elements: Vec<(Cow<'a, str>, &'a str)>,
}

/// An object has two elements of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeated;

impl<'a> Scanned<'a> {
    /// The JSON of the one element of that name.
    pub(crate) fn element(&self, name: &str) -> Result<Option<&'a str>, Repeated> {
        let mut named = self.elements.iter().filter(|(found, _)| found == name);
        match (named.next(), named.next()) {
            (_, Some(_)) => Err(Repeated),
            (found, None) => Ok(found.map(|(_, value)| *value)),
        }
    }
}

/// Most resources have fewer elements.
const ELEMENTS_EXPECTED: usize = 32;

pub(crate) fn scan(value: &RawValue) -> Scanned<'_> {
    scan_text(value.get())
}

/// Scans what may not be JSON, without a panic.
pub(crate) fn scan_text(text: &str) -> Scanned<'_> {
    let bytes = text.as_bytes();
    let mut hasher = Xxh3::new();
    let mut elements = Vec::with_capacity(ELEMENTS_EXPECTED);
    let mut hashed_to = 0;
    let mut at = 0;
    let mut depth = 0u32;
    // The last string that is no part of a nested value: before a colon, it is a name.
    let mut string: Range<usize> = 0..0;
    let mut element: Option<(Range<usize>, usize)> = None;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = string_end(bytes, at);
                if depth == 1 {
                    string = at..end;
                }
                at = end;
                continue;
            }
            b' ' | b'\n' | b'\r' | b'\t' => {
                hasher.update(&bytes[hashed_to..at]);
                let space = bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
                at += space;
                hashed_to = at;
                continue;
            }
            b':' if depth == 1 => element = Some((string.clone(), at + 1)),
            b'{' | b'[' => depth += 1,
            b',' | b'}' | b']' => {
                if depth == 1
                    && let Some((name, value)) = element.take()
                    && let Some(name) = unquoted(&text[name])
                {
                    elements.push((name, text[value..at].trim_ascii()));
                }
                depth = depth.saturating_sub(u32::from(byte != b','));
            }
            _ => {}
        }
        at += 1;
    }
    hasher.update(&bytes[hashed_to..]);
    Scanned { content_hash: hasher.digest128().to_be_bytes(), elements }
}

/// The index after the closing quote of the string that opens at `at`.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(found) = memchr::memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) {
        at += found;
        if bytes[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    bytes.len()
}

/// A name may be written with escapes as any string may; it is missing only where this is no JSON.
fn unquoted(name: &str) -> Option<Cow<'_, str>> {
    let plain = name.strip_prefix('"')?.strip_suffix('"')?;
    if plain.contains('\\') {
        Some(serde_json::from_str(name).map_or(Cow::Borrowed(plain), Cow::Owned))
    } else {
        Some(Cow::Borrowed(plain))
    }
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_128;

    use super::*;

    fn scanned(text: &str) -> Scanned<'_> {
        scan(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn white_space_does_not_change_a_hash_and_everything_else_does() {
        let hash = |text| scanned(text).content_hash;
        let plain = r#"{"a":[1,"x y"],"b":1.50}"#;
        assert_eq!(hash(plain), hash("{ \"a\" :\n[1 ,\t\"x y\"],\r\n\"b\": 1.50 }"));
        assert_eq!(hash(plain), xxh3_128(plain.as_bytes()).to_be_bytes());
        for other in
            [r#"{"a":[1,"xy"],"b":1.50}"#, r#"{"a":[1,"x y"],"b":1.5}"#, r#"{"b":1.50,"a":[1,"x y"]}"#]
        {
            assert_ne!(hash(plain), hash(other), "{other}");
        }
        assert_ne!(hash(r#"{"a":"\" b"}"#), hash(r#"{"a":"\"b"}"#));
    }

    #[test]
    fn an_element_is_found_however_it_is_written() {
        let check = |text: &str, expected: Result<Option<&str>, Repeated>| {
            assert_eq!(scanned(text).element("id"), expected, "{text}");
        };
        check(r#"{"id":"a"}"#, Ok(Some(r#""a""#)));
        check(
            "{ \"x\" : {\"id\":1} ,\r\n\"id\"\t: [ {\"id\":2}, \"},]\\\"\" ]\n}",
            Ok(Some("[ {\"id\":2}, \"},]\\\"\" ]")),
        );
        check(r#"{"\u0069d":7}"#, Ok(Some("7")));
        check(r#"{"a":"id","b":{"id":1},"c":["id"]}"#, Ok(None));
        check(r#"{"id":1,"i\u0064":2}"#, Err(Repeated));
        check(r#"["id"]"#, Ok(None));
        check(r#""id""#, Ok(None));
        check("{}", Ok(None));
    }

    #[test]
    fn what_can_be_made_out_of_no_json_is_found() {
        let text = r#"{"fullUrl":"u","n":+3.0,"resource":{"a":NaN,"id":"i",},"z"#;
        assert_eq!(scan_text(text).element("fullUrl"), Ok(Some(r#""u""#)));
        let resource = scan_text(text).element("resource").unwrap().unwrap();
        assert_eq!(scan_text(resource).element("id"), Ok(Some(r#""i""#)));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_scanned_without_a_panic(text in r#"([{}\[\],:"\\ aä0]|"a":){0,30}"#) {
            let _ = scan_text(&text).element("a");
        }

        #[test]
        fn the_elements_are_those_that_serde_finds(names in proptest::collection::btree_set("[a-z\"\\\\]{0,3}", 0..6), value: (String, i64, Vec<bool>)) {
            let object: std::collections::BTreeMap<&String, _> = names.iter().map(|name| (name, &value)).collect();
            let text = serde_json::to_string_pretty(&object).unwrap();
            let found = scanned(&text);
            proptest::prop_assert_eq!(found.elements.len(), names.len());
            for name in &names {
                let element = found.element(name).unwrap().unwrap();
                let element: serde_json::Value = serde_json::from_str(element).unwrap();
                proptest::prop_assert_eq!(element, serde_json::to_value(&value).unwrap());
            }
        }
    }
}

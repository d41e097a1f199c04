//! Writes JSON, UUIDs and base64 as text.
//!
//! Promise: a number given as `6.50` is sent as `6.50`, and the same input gives the same
//! bytes. Deliberately absent: reading JSON, and checking that a fragment is JSON.

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Writes a JSON string, quoted and escaped.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// Writes a JSON object of fields that are JSON already. A field with an empty value is left out.
pub(super) fn object(fields: &[(&str, String)]) -> String {
    let mut out = String::from("{");
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        if 1 < out.len() {
            out.push(',');
        }
        out.push('"');
        out.push_str(name);
        out.push_str("\":");
        out.push_str(value);
    }
    out.push('}');
    out
}

/// Writes a JSON array of values that are JSON already.
pub(super) fn array<I: IntoIterator<Item = String>>(values: I) -> String {
    let values: Vec<String> = values.into_iter().collect();
    format!("[{}]", values.join(","))
}

/// Writes an `OperationOutcome` with one issue.
pub(super) fn operation_outcome(severity: &str, code: &str, diagnostics: &str) -> String {
    let issue = object(&[
        ("severity", quoted(severity)),
        ("code", quoted(code)),
        ("diagnostics", quoted(diagnostics)),
    ]);
    object(&[("resourceType", quoted("OperationOutcome")), ("issue", array([issue]))])
}

/// Makes the UUID of these bytes under this seed.
pub(super) fn uuid_of(content: &[u8], seed: u64) -> String {
    let hash = xxh3_128_with_seed(content, seed);
    // The bits that say "version 4, RFC 4122", so that it looks like any other UUID.
    let bits = (hash & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding, as FHIR's `base64Binary` wants it.
pub(super) fn base64(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4_usize {
            if place <= group.len() {
                let index = (bits >> (18 - 6 * place)) & 0x3f;
                out.push(char::from(BASE64[index as usize]));
            } else {
                out.push('=');
            }
        }
    }
    out
}

/// Base64 for URLs, without padding, as JSON Web Tokens have it.
pub(super) fn base64_url(bytes: &[u8]) -> String {
    base64(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_the_standard_says() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64_url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn the_same_content_has_the_same_uuid() {
        let uuid = uuid_of(b"content", 7);
        assert_eq!(uuid, uuid_of(b"content", 7));
        assert_ne!(uuid, uuid_of(b"content", 8));
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
    }
}

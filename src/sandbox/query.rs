//! Parses the query of a `$everything` request.
//!
//! Promise: a parameter that this server does not know is refused, never ignored, so that a
//! client's mistake shows. Deliberately absent: the search itself.

use percent_encoding::percent_decode_str;

use super::population::StoredEntry;
use super::r4_types::is_r4_type;
use crate::time::Timestamp;

/// The parameters of a request, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters {
    /// Empty: all types.
    pub(super) types: Vec<String>,
    pub(super) since: Option<Since>,
    pub(super) count: Option<usize>,
    pub(super) offset: usize,
}

/// A `_since`, with the text it was sent as, because links repeat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Since {
    pub(super) text: String,
    pub(super) at: Timestamp,
}

impl Parameters {
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut parameters = Self::default();
        let mut given = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            let value = decode(value)?;
            if given.contains(&name) {
                return Err(format!("{name} is given twice"));
            }
            match name.as_str() {
                "_type" => parameters.types = parse_types(&value)?,
                "_since" => parameters.since = Some(parse_since(value)?),
                "_count" => parameters.count = Some(parse_count(&value)?),
                "_offset" => parameters.offset = parse_number("_offset", &value)?,
                unknown => return Err(format!("unknown parameter {unknown}")),
            }
            given.push(name);
        }
        Ok(parameters)
    }

    pub(super) fn wants(&self, stored: &StoredEntry) -> bool {
        let type_fits = self.types.is_empty() || self.types.contains(&stored.kind);
        // Inclusive: what changed in that very instant is sent again rather than lost.
        let since_fits = self.since.as_ref().is_none_or(|since| since.at <= stored.changed_at);
        type_fits && since_fits
    }
}

fn decode(text: &str) -> Result<String, String> {
    let spaced = text.replace('+', " ");
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err("the query is not UTF-8".to_owned()),
    }
}

fn parse_types(value: &str) -> Result<Vec<String>, String> {
    let types: Vec<String> = value.split(',').map(str::to_owned).collect();
    match types.iter().find(|name| !is_r4_type(name)) {
        Some(unknown) => Err(format!("_type names {unknown:?}, which is not an R4 resource type")),
        None => Ok(types),
    }
}

fn parse_since(text: String) -> Result<Since, String> {
    match Timestamp::parse(&text) {
        // RFC 3339 allows a space and small letters where FHIR does not.
        Some(at) if !text.contains([' ', 't', 'z']) => Ok(Since { text, at }),
        _ => Err(format!("_since {text:?} is not an instant such as 2025-01-31T08:00:00Z")),
    }
}

fn parse_count(value: &str) -> Result<usize, String> {
    match parse_number("_count", value)? {
        0 => Err("_count must be 1 or more".to_owned()),
        count => Ok(count),
    }
}

fn parse_number(name: &str, value: &str) -> Result<usize, String> {
    // `parse` alone would take a leading plus.
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(number) if digits => Ok(number),
        _ => Err(format!("{name} {value:?} is not a whole number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_understood_or_refused() {
        for good in [
            "",
            "_count=1",
            "_count=30&_offset=60&_type=Patient%2CObservation&_since=2025-01-01T00:00:00Z",
            "_since=2025-01-01T00%3A00%3A00.123%2B02%3A00",
        ] {
            assert!(Parameters::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "_count=0",
            "_count=-1",
            "_count=%2B5",
            "_count=",
            "_count=1&_count=2",
            "_offset=x",
            "_type=",
            "_type=Patient,observation",
            "_since=2025-01-01",
            "_since=2025-01-01T00:00:00",
            "_since=2025-01-01%2000:00:00Z",
            "_page=2",
        ] {
            assert!(Parameters::parse(bad).is_err(), "{bad}");
        }
    }
}

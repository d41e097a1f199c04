//! What an expression gives, one element at a time, and how its value is read.

use std::borrow::Cow;

use super::elements::Kind;
use super::number::Number;
use super::tape::{At, Json, Tape};

/// One element of a collection.
#[derive(Clone, Debug)]
pub(super) enum Item<'d> {
    /// An element of the resource, of the JSON type that its kind asks for.
    Node(Place),
    /// A string, a date, a dateTime, an instant or a time.
    Text(Cow<'d, str>, Kind),
    Boolean(bool),
    /// An integer or a decimal.
    Number(Number, Kind),
}

/// Where an element of a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// `None` where a primitive has extensions and no value.
    pub(super) at: Option<At>,
    pub(super) kind: Kind,
    /// The `_name` beside a primitive, where it was asked for.
    pub(super) companion: Option<At>,
}

impl<'d> Item<'d> {
    pub(super) fn node(at: At, kind: Kind) -> Self {
        Self::Node(Place { at: Some(at), kind, companion: None })
    }

    pub(super) fn text(text: impl Into<Cow<'d, str>>) -> Self {
        Self::Text(text.into(), Kind::String)
    }

    pub(super) fn integer(number: i64) -> Self {
        Self::Number(Number::whole(number), Kind::Integer)
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Node(place) => place.kind,
            Self::Text(_, kind) | Self::Number(_, kind) => *kind,
            Self::Boolean(_) => Kind::Boolean,
        }
    }

    /// Returns the value of anything that is held as text.
    pub(super) fn as_text(&self, tape: &Tape<'d>) -> Option<Cow<'d, str>> {
        match self {
            Self::Node(Place { at: Some(at), kind, .. }) if kind.is_text() => Some(tape.text(*at)),
            Self::Text(text, _) => Some(text.clone()),
            _ => None,
        }
    }

    pub(super) fn as_number(&self, tape: &Tape<'d>) -> Option<Number> {
        match self {
            Self::Node(Place { at: Some(at), kind, .. }) if kind.is_number() => {
                Number::read(&digits_at(tape, *at)?)
            }
            Self::Number(number, _) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn as_boolean(&self, tape: &Tape<'d>) -> Option<bool> {
        match self {
            Self::Node(Place { at: Some(at), kind: Kind::Boolean, .. }) => Some(tape.text(*at) == "true"),
            Self::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// Returns the digits of a number as they were received, or calculated.
    pub(super) fn digits(&self, tape: &Tape<'d>) -> Option<Cow<'d, str>> {
        match self {
            Self::Node(Place { at: Some(at), kind, .. }) if kind.is_number() => digits_at(tape, *at),
            Self::Number(number, _) => Some(Cow::Owned(number.digits())),
            _ => None,
        }
    }

    /// Returns any value in words, as `toString()` and `join()` write it.
    pub(super) fn in_words(&self, tape: &Tape<'d>) -> Option<Cow<'d, str>> {
        let boolean = || self.as_boolean(tape).map(|value| if value { "true" } else { "false" }.into());
        let known = self.as_text(tape).or_else(|| self.digits(tape)).or_else(boolean);
        // What stands as text in the place of a number.
        known.or_else(|| match self {
            Self::Node(Place { at: Some(at), kind: Kind::Decimal, .. }) => Some(tape.text(*at)),
            _ => None,
        })
    }

    /// Appends the element as JSON.
    pub(super) fn push_json(&self, tape: &Tape<'d>, out: &mut String) {
        match self {
            Self::Node(Place { at: Some(at), .. }) => tape.push_compact(*at, out),
            Self::Node(_) => out.push_str("null"),
            Self::Text(text, _) => out.push_str(&serde_json::Value::from(text.as_ref()).to_string()),
            Self::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Number(number, _) => out.push_str(&number.digits()),
        }
    }
}

/// Returns the digits of a number, also of one that was sent as a text.
fn digits_at<'d>(tape: &Tape<'d>, at: At) -> Option<Cow<'d, str>> {
    match (tape.json(at), tape.text(at)) {
        (Json::Text, Cow::Borrowed(text)) => number_in(text).map(Cow::Borrowed),
        (Json::Text, Cow::Owned(text)) => number_in(&text).map(|digits| digits.to_owned().into()),
        _ => Some(Cow::Borrowed(tape.written(at))),
    }
}

/// Returns a text less the white space around it, if it says a number and nothing else.
fn number_in(text: &str) -> Option<&str> {
    let text = text.trim();
    let (mantissa, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(a, b)| (a, Some(b)));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = |text: &str| text.strip_prefix(['+', '-']).unwrap_or(text).to_owned();
    let dense = unsigned(mantissa).replacen('.', "", 1);
    (digits(&dense) && exponent.is_none_or(|exponent| digits(&unsigned(exponent)))).then_some(text)
}

/// Returns whether a JSON value is what an element of that kind holds, or what people send for it: a
/// number or a boolean as a text, and any text in the place of a decimal.
pub(super) fn fits(tape: &Tape<'_>, at: At, kind: Kind) -> bool {
    let json = tape.json(at);
    match kind {
        Kind::Complex(_) => json == Json::Object,
        Kind::Boolean => {
            matches!(json, Json::True | Json::False)
                || json == Json::Text && matches!(tape.written(at), "true" | "false")
        }
        Kind::Integer => {
            matches!(json, Json::Integer | Json::Text)
                && digits_at(tape, at).is_some_and(|digits| digits.parse::<i64>().is_ok())
        }
        Kind::Decimal => matches!(json, Json::Integer | Json::Decimal | Json::Text),
        Kind::Nothing => false,
        _ => json == Json::Text,
    }
}

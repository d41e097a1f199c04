//! The functions of one value.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::{Evaluator, Flow, Focus, Sink, TEXT_BYTES_MAX};
use crate::views::elements::Kind;
use crate::views::item::Item;
use crate::views::moment;
use crate::views::moment::Side;
use crate::views::number::Number;
use crate::views::program::{Function, Node};

/// The values of up to two arguments.
type Arguments<'a, 'd> = &'a [Option<Item<'d>>; 2];

impl<'d> Evaluator<'d> {
    pub(super) fn time(&self, function: Function) -> Option<Item<'d>> {
        let now = self.now.rfc3339_millis();
        Some(match function {
            Function::Today => Item::Text(now.get(..10)?.to_owned().into(), Kind::Date),
            Function::TimeOfDay => Item::Text(now.get(11..23)?.to_owned().into(), Kind::Time),
            _ => Item::Text(now.into(), Kind::DateTime),
        })
    }

    pub(super) fn scalar(
        &self,
        function: Function,
        item: &Item<'d>,
        arguments: Arguments<'_, 'd>,
    ) -> Option<Item<'d>> {
        use Function::*;
        match function {
            LowBoundary => self.boundary(item, Side::Low),
            HighBoundary => self.boundary(item, Side::High),
            ToText | ToInteger | ToDecimal | ToBoolean | ToDate | ToDateTime | ToTime => {
                self.converted(function, item)
            }
            Duration => {
                let [Some(end), Some(unit)] = arguments else { return None };
                let unit = match unit.as_text(self.tape)?.as_ref() {
                    "day" | "days" => 86_400_000,
                    "hour" | "hours" => 3_600_000,
                    "minute" | "minutes" => 60_000,
                    "second" | "seconds" => 1_000,
                    "millisecond" | "milliseconds" => 1,
                    _ => return None,
                };
                let (start, end) = (item.as_text(self.tape)?, end.as_text(self.tape)?);
                Some(Item::integer(moment::milliseconds_between(&start, &end)? / unit))
            }
            Abs | Round | Ceiling | Floor | Truncate | SquareRoot | Power | Exponential
            | NaturalLogarithm | Logarithm => self.calculated(function, item, arguments),
            _ => {
                let text = item.as_text(self.tape)?;
                self.of_text(function, &text, arguments)
            }
        }
    }

    fn boundary(&self, item: &Item<'d>, side: Side) -> Option<Item<'d>> {
        let kind = item.kind();
        if kind.is_number() {
            let number = item.as_number(self.tape)?.boundary(side == Side::High)?;
            return Some(Item::Number(number, Kind::Decimal));
        }
        let text = item.as_text(self.tape)?;
        let boundary = match kind {
            Kind::Date => moment::date_boundary(&text, side)?,
            Kind::DateTime | Kind::Instant => moment::date_time_boundary(&text, side)?,
            Kind::Time => moment::time_boundary(&text, side),
            _ => return None,
        };
        Some(Item::Text(boundary.into(), kind))
    }

    fn converted(&self, function: Function, item: &Item<'d>) -> Option<Item<'d>> {
        use Function::*;
        let number = || match item.as_boolean(self.tape) {
            Some(value) => Some(Number::whole(i64::from(value))),
            None => {
                item.as_number(self.tape).or_else(|| Number::read(plain_number(&item.as_text(self.tape)?)?))
            }
        };
        let moment = |kind, read: fn(&str) -> Option<&str>| {
            let text = item.as_text(self.tape)?;
            Some(Item::Text(read(&text)?.to_owned().into(), kind))
        };
        match function {
            ToText => Some(Item::Text(item.in_words(self.tape)?, Kind::String)),
            ToInteger => match item.as_text(self.tape) {
                Some(digits) => digits.parse().ok().map(Item::integer),
                None => number()?.as_i64().map(Item::integer),
            },
            ToDecimal => Some(Item::Number(number()?, Kind::Decimal)),
            ToBoolean => {
                let words = item.in_words(self.tape)?.to_ascii_lowercase();
                match words.as_str() {
                    "true" | "t" | "yes" | "y" | "1" | "1.0" => Some(Item::Boolean(true)),
                    "false" | "f" | "no" | "n" | "0" | "0.0" => Some(Item::Boolean(false)),
                    _ => None,
                }
            }
            ToDate => moment(Kind::Date, moment::to_date),
            ToDateTime => moment(Kind::DateTime, moment::to_date_time),
            _ => moment(Kind::Time, moment::to_time),
        }
    }

    fn calculated(
        &self,
        function: Function,
        item: &Item<'d>,
        arguments: Arguments<'_, 'd>,
    ) -> Option<Item<'d>> {
        use Function::*;
        let number = item.as_number(self.tape)?;
        let argument = || arguments[0].as_ref()?.as_number(self.tape);
        let whole = |number: Number| number.as_i64().map(Item::integer);
        let real =
            |number: f64| number.is_finite().then_some(Item::Number(Number::Rough(number), Kind::Decimal));
        match function {
            Abs => Some(Item::Number(number.absolute(), item.kind())),
            Round => {
                let places = match &arguments[0] {
                    Some(places) => u32::try_from(places.as_number(self.tape)?.as_i64()?).ok()?,
                    None => 0,
                };
                Some(Item::Number(number.round(places)?, Kind::Decimal))
            }
            Ceiling => whole(number.negative().floor()?.negative()),
            Floor => whole(number.floor()?),
            Truncate => whole(number.whole_quotient(Number::whole(1))?),
            SquareRoot => real(number.as_f64().sqrt()),
            Power => real(number.as_f64().powf(argument()?.as_f64())),
            Exponential => real(number.as_f64().exp()),
            NaturalLogarithm => real(number.as_f64().ln()),
            _ => real(number.as_f64().log(argument()?.as_f64())),
        }
    }

    fn of_text(&self, function: Function, text: &str, arguments: Arguments<'_, 'd>) -> Option<Item<'d>> {
        use Function::*;
        let argument = |at: usize| arguments[at].as_ref()?.as_text(self.tape);
        let count = |text: &str| i64::try_from(text.chars().count()).ok();
        // Positions are counted in characters; of what is not there, it is -1.
        let position = |found: Option<usize>| match found {
            Some(at) => count(&text[..at]).map(Item::integer),
            None => Some(Item::integer(-1)),
        };
        match function {
            StartsWith => Some(Item::Boolean(text.starts_with(argument(0)?.as_ref()))),
            EndsWith => Some(Item::Boolean(text.ends_with(argument(0)?.as_ref()))),
            Contains => Some(Item::Boolean(text.contains(argument(0)?.as_ref()))),
            IndexOf => position(text.find(argument(0)?.as_ref())),
            LastIndexOf => position(text.rfind(argument(0)?.as_ref())),
            Length => count(text).map(Item::integer),
            Lower => Some(Item::text(text.to_lowercase())),
            Upper => Some(Item::text(text.to_uppercase())),
            Trim => Some(Item::text(text.trim_matches([' ', '\t', '\n', '\r']).to_owned())),
            Replace => {
                let (part, with) = (argument(0)?, argument(1)?);
                let longest =
                    text.matches(part.as_ref()).count().checked_mul(with.len())?.checked_add(text.len())?;
                (longest <= TEXT_BYTES_MAX).then(|| Item::text(text.replace(part.as_ref(), &with)))
            }
            Substring => {
                let number = |at: usize| arguments[at].as_ref()?.as_number(self.tape)?.as_i64();
                let start = usize::try_from(number(0)?).ok()?;
                let length = match &arguments[1] {
                    Some(_) => usize::try_from(number(1)?).unwrap_or(0),
                    None => usize::MAX,
                };
                let mut letters = text.chars().skip(start).peekable();
                letters.peek()?;
                Some(Item::text(letters.take(length).collect::<String>()))
            }
            Encode => match argument(0)?.as_ref() {
                "base64" => Some(Item::text(STANDARD.encode(text))),
                "urlbase64" => Some(Item::text(URL_SAFE.encode(text))),
                "hex" => Some(Item::text(crate::plan::row::hex(text.as_bytes()))),
                _ => None,
            },
            Decode => decoded(text, &argument(0)?).map(Item::text),
            _ => None,
        }
    }

    /// The pieces of a text, none of them empty letters.
    pub(super) fn pieces(
        &self,
        function: Function,
        text: &str,
        arguments: &'d [Node],
        focus: &Focus<'d>,
        sink: Sink<'_, 'd>,
    ) -> Flow {
        let separator = match (function, arguments.first()) {
            (Function::Split, Some(separator)) => self.text(separator, focus),
            _ => Some("".into()),
        };
        let Some(separator) = separator else { return Flow::Continue(()) };
        if separator.is_empty() {
            return text.chars().try_for_each(|letter| {
                self.spend(1)?;
                sink(Item::text(letter.to_string()))
            });
        }
        text.split(separator.as_ref()).try_for_each(|piece| {
            self.spend(1)?;
            sink(Item::text(piece.to_owned()))
        })
    }
}

/// Digits with a sign and a point, and no exponent.
fn plain_number(text: &str) -> Option<&str> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (are_digits(whole) && are_digits(fraction)).then_some(text)
}

/// What was encoded, where it is text.
fn decoded(text: &str, format: &str) -> Option<String> {
    let bytes = match format {
        "base64" => {
            let dense: String = text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
            STANDARD.decode(dense).ok()?
        }
        "urlbase64" => URL_SAFE.decode(text).ok()?,
        "hex" => {
            let digits = text.as_bytes().chunks(2);
            digits
                .map(|pair| {
                    u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16)
                        .ok()
                })
                .collect::<Option<_>>()?
        }
        _ => return None,
    };
    String::from_utf8(bytes).ok()
}

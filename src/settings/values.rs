//! What a single value may be.

use std::str::FromStr;
use std::time::Duration;

use chrono::TimeDelta;
use toml::Value;
use url::Url;

use crate::plan::Timestamp;
use crate::plan::resource_type::ResourceType;

#[derive(Clone, Copy, Debug)]
pub(super) enum Allowed {
    Text,
    /// A file name that is not empty.
    Name,
    Names,
    Texts,
    BaseUrl,
    UrlOrNothing,
    Address,
    Duration,
    DurationOrZero,
    DurationOrNever,
    Bytes,
    Count {
        min: i64,
        max: i64,
    },
    Fraction,
    Truth,
    Types,
    OneOf(&'static [&'static str]),
    Schedule,
    CycleOrSchedule,
}

pub(super) fn check(allowed: Allowed, value: &Value) -> Result<(), String> {
    let text = || value.as_str().ok_or_else(|| format!("{value} is not a text in quotes"));
    let texts = || -> Result<Vec<&str>, String> {
        let items =
            value.as_array().and_then(|items| items.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        items.ok_or_else(|| format!("{value} is not a list of texts, such as [\"a\", \"b\"]"))
    };
    match allowed {
        Allowed::Text => text().map(|_| ()),
        Allowed::Name => {
            text().and_then(|name| if name.is_empty() { Err("must not be empty".to_owned()) } else { Ok(()) })
        }
        Allowed::Texts => texts().map(|_| ()),
        Allowed::Names => match texts()?.as_slice() {
            [] => Err("must name at least one file".to_owned()),
            names if names.contains(&"") => Err("must not hold an empty name".to_owned()),
            _ => Ok(()),
        },
        Allowed::BaseUrl => base_url(text()?).map(|_| ()),
        Allowed::UrlOrNothing => match text()? {
            "" => Ok(()),
            url => web_url(url).map(|_| ()),
        },
        Allowed::Address => match text()? {
            "" => Ok(()),
            address => address.parse::<std::net::SocketAddr>().map(|_| ()).map_err(|_| {
                format!("{address:?} is not an address with a port, such as \"127.0.0.1:9464\"")
            }),
        },
        Allowed::Duration => match duration(text()?)? {
            Duration::ZERO => Err("must be longer than nothing".to_owned()),
            _ => Ok(()),
        },
        Allowed::DurationOrZero => duration(text()?).map(|_| ()),
        Allowed::DurationOrNever => duration_or_never(text()?).map(|_| ()),
        Allowed::Bytes => bytes(text()?).map(|_| ()),
        Allowed::Count { min, max } => match value.as_integer() {
            Some(number) if (min..=max).contains(&number) => Ok(()),
            _ => Err(format!("{value} is not a whole number from {min} to {max}")),
        },
        Allowed::Fraction => match value
            .as_float()
            .or_else(|| value.as_integer().and_then(|whole| i32::try_from(whole).ok()).map(f64::from))
        {
            Some(number) if (0.0..=1.0).contains(&number) => Ok(()),
            _ => Err(format!("{value} is not a number from 0.0 to 1.0")),
        },
        Allowed::Truth => match value.as_bool() {
            Some(_) => Ok(()),
            None => Err(format!("{value} is neither true nor false")),
        },
        Allowed::Types => texts()?.into_iter().try_for_each(resource_type),
        Allowed::OneOf(words) => match text()? {
            word if words.contains(&word) => Ok(()),
            word => Err(format!("{word:?} is not one of {}", words.join(", "))),
        },
        Allowed::Schedule => Schedule::parse(text()?).map(|_| ()),
        Allowed::CycleOrSchedule => match text()? {
            "cycle" => Ok(()),
            cron => Schedule::parse(cron).map(|_| ()).map_err(|why| format!("{why}; or \"cycle\"")),
        },
    }
}

pub(super) fn resource_type(name: &str) -> Result<(), String> {
    match ResourceType::by_name(name) {
        Some(_) => Ok(()),
        None => Err(format!("{name:?} is not a resource type of FHIR R4, such as Observation")),
    }
}

pub(super) fn base_url(text: &str) -> Result<Url, String> {
    let url = web_url(text)?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain { Ok(url) } else { Err("must not hold a user name, a query or a fragment".to_owned()) }
}

fn web_url(text: &str) -> Result<Url, String> {
    // The text is not repeated: somebody may have written a secret into it.
    let url = Url::parse(text)
        .map_err(|error| format!("is not a URL such as https://api.healthex.io ({error})"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err("must begin with https:// or http://".to_owned()),
    }
}

const LONGEST: Duration = Duration::from_hours(24 * 3660);

/// `500ms`, `90s`, `15m`, `24h`, `7d`
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let refused = || format!("{text:?} is not a duration such as 500ms, 90s, 15m, 24h or 7d");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| refused())?;
    let unit = match &text[digits..] {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        "d" => Duration::from_hours(24),
        _ => return Err(refused()),
    };
    let seconds = unit.as_secs_f64() * number_as_f64(number);
    if seconds > LONGEST.as_secs_f64() {
        return Err(format!("{text:?} is longer than ten years"));
    }
    u32::try_from(number).map(|number| unit * number).map_err(|_| refused())
}

#[expect(clippy::cast_precision_loss, reason = "only compared with a limit")]
fn number_as_f64(number: u64) -> f64 {
    number as f64
}

pub(super) fn duration_or_never(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "never" => Ok(None),
        text => match duration(text).map_err(|why| format!("{why}, or \"never\""))? {
            Duration::ZERO => Err("must be longer than nothing, or \"never\"".to_owned()),
            every => Ok(Some(every)),
        },
    }
}

/// `500MB`, `50GB`: powers of ten.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let refused = || format!("{text:?} is not a size such as 500MB or 50GB");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().map_err(|_| refused())?;
    let unit: u64 = match text[digits..].trim_start() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(refused()),
    };
    number.checked_mul(unit).filter(|size| *size > 0).ok_or_else(refused)
}

pub(super) fn group_id(name: &str) -> Option<u32> {
    nix::unistd::Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

/// When a cycle is due, in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Schedule {
    Every(Duration),
    /// Six fields, seconds first.
    Cron(String),
}

/// More often than this no cycle can be wanted.
const EVERY_MIN: Duration = Duration::from_secs(1);

impl Schedule {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(every) = text.strip_prefix("every ") {
            let every = duration(every.trim())?;
            // What rings knows no fraction of a second.
            return if every < EVERY_MIN || every.subsec_nanos() > 0 {
                Err("must be whole seconds, at least every 1s".to_owned())
            } else {
                Ok(Self::Every(every))
            };
        }
        let fields = text.split_whitespace().count();
        let cron = if fields == 5 { format!("0 {text}") } else { text.to_owned() };
        let parsed = parse_cron(&cron).ok_or_else(|| {
            format!("{text:?} is neither \"every 15m\" nor cron with seconds, such as \"0 */15 * * * *\"")
        })?;
        // An impossible date, such as 31 February, is accepted by the parser and never comes.
        match parsed.find_next_occurrence(&Timestamp::UNIX_EPOCH, false) {
            Ok(_) => Ok(Self::Cron(cron)),
            Err(_) => Err(format!("{text:?} is a date that never comes")),
        }
    }

    /// The first moment after `now` at which a cycle is due.
    pub(crate) fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(every) => Some(now + TimeDelta::from_std(*every).ok()?),
            Self::Cron(cron) => parse_cron(cron)?.find_next_occurrence(&now, false).ok(),
        }
    }

    /// How long from one cycle to the next.
    pub(crate) fn period(&self, now: Timestamp) -> Duration {
        let span = || {
            let first = self.next_after(now)?;
            (self.next_after(first)? - first).to_std().ok()
        };
        span().unwrap_or(Duration::from_mins(15))
    }
}

fn parse_cron(text: &str) -> Option<croner::Cron> {
    if text.starts_with('@') {
        return croner::Cron::from_str(text).ok();
    }
    croner::parser::CronParser::builder().seconds(croner::parser::Seconds::Required).build().parse(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("7d"), Ok(Duration::from_hours(168)));
        for wrong in ["", "5", "s", "5 s", "-5s", "1.5h", "5w", "99999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(bytes("50GB"), Ok(50_000_000_000));
        for wrong in ["", "0GB", "50", "50GiB", "-1MB", "99999999999TB"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_schedule_is_every_or_cron() {
        let now = crate::plan::parse_stamp("2026-11-24T10:07:30Z").unwrap();
        let next =
            |text: &str| Schedule::parse(text).unwrap().next_after(now).map(crate::plan::stamp).unwrap();
        assert_eq!(next("every 15m"), "2026-11-24T10:22:30Z");
        assert_eq!(next("0 */15 * * * *"), "2026-11-24T10:15:00Z");
        assert_eq!(next("*/15 * * * *"), "2026-11-24T10:15:00Z");
        assert_eq!(Schedule::parse("0 */15 * * * *").unwrap().period(now), Duration::from_mins(15));
        for wrong in [
            "",
            "every",
            "every 0s",
            "every 1500ms",
            "every fortnight",
            "0 0 0 31 2 *",
            "* * *",
            "60 * * * * *",
        ] {
            assert!(Schedule::parse(wrong).is_err(), "{wrong}");
        }
    }
}

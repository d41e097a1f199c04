//! The types of values: how each is written, and what it may be.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use toml::Value;
use url::Url;

use super::Listen;
use super::duration::parse_duration;
use super::proxy::ProxySource;
use super::schedule::{QuietHours, Schedule};
use crate::plan::TypeFilter;
use crate::plan::resource_type::ResourceType;

type Parse<T> = Box<dyn Fn(&Value) -> Result<T, String>>;

/// Reads the values of one type, and says why one is refused.
pub(super) struct ValueType<T> {
    /// Turns the text of a variable into what the file would have.
    value_of: fn(&str) -> Value,
    parse: Parse<T>,
}

impl<T> ValueType<T> {
    pub(super) fn value_of(&self, text: &str) -> Value {
        (self.value_of)(text)
    }

    pub(super) fn parse(&self, value: &Value) -> Result<T, String> {
        (self.parse)(value)
    }

    /// Makes a type that is written as text in quotes.
    fn of_text(parse: impl Fn(&str) -> Result<T, String> + 'static) -> Self {
        let value_of = |text: &str| Value::String(text.to_owned());
        let parse = move |value: &Value| match value.as_str() {
            Some(text) => parse(text),
            None => Err(format!("{value} is not a text in quotes")),
        };
        Self { value_of, parse: Box::new(parse) }
    }

    /// Makes a type that is written as a list of texts, and in a variable also with commas between them.
    fn of_texts(parse: impl Fn(Vec<String>) -> Result<T, String> + 'static) -> Self {
        let value_of = |text: &str| {
            if let Some(list) = toml_list(text) {
                return list;
            }
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        };
        let parse = move |value: &Value| {
            let items = value.as_array().and_then(|items| {
                items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
            });
            parse(items.ok_or_else(|| format!("{value} is not a list of texts, such as [\"a\", \"b\"]"))?)
        };
        Self { value_of, parse: Box::new(parse) }
    }

    /// Makes a type that is written without quotes.
    fn of_scalar<S: FromStr + Into<Value>>(parse: impl Fn(&Value) -> Result<T, String> + 'static) -> Self {
        let value_of =
            |text: &str| text.trim().parse::<S>().map_or_else(|_| Value::String(text.to_owned()), Into::into);
        Self { value_of, parse: Box::new(parse) }
    }
}

/// Reads a list as the file would have it: `["a", "b"]`.
fn toml_list(text: &str) -> Option<Value> {
    let list = text.trim().starts_with('[').then(|| format!("list = {text}"))?;
    list.parse::<toml::Table>().ok()?.remove("list").filter(Value::is_array)
}

pub(super) fn text() -> ValueType<String> {
    ValueType::of_text(|text| Ok(text.to_owned()))
}

/// A file name, or `None` for the empty text.
pub(super) fn file_name_or_none() -> ValueType<Option<PathBuf>> {
    ValueType::of_text(|name| Ok((!name.is_empty()).then(|| PathBuf::from(name))))
}

pub(super) fn file_name() -> ValueType<PathBuf> {
    ValueType::of_text(|name| match name {
        "" => Err("must not be empty".to_owned()),
        name => Ok(PathBuf::from(name)),
    })
}

/// The ids of studies, each of them once.
pub(super) fn studies() -> ValueType<Vec<Arc<str>>> {
    ValueType::of_texts(|ids| {
        let is_id = |id: &String| {
            (1..=STUDY_LENGTH_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if let Some(wrong) = ids.iter().find(|id| !is_id(id)) {
            return Err(format!(
                "{wrong:?} is not the id of a study: 1 to {STUDY_LENGTH_MAX} letters, digits and signs without spaces"
            ));
        }
        if let Some((_, twice)) = ids.iter().enumerate().find(|(at, id)| ids[..*at].contains(id)) {
            return Err(format!("{twice:?} is there twice"));
        }
        Ok(ids.into_iter().map(Arc::from).collect())
    })
}

const STUDY_LENGTH_MAX: usize = 128;

/// A type of consents; HealthEx may have more of them than are known here.
pub(super) fn consent_type() -> ValueType<String> {
    ValueType::of_text(|name| {
        let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if (1..=64).contains(&name.len()) && name.bytes().all(is_name) {
            return Ok(name.to_owned());
        }
        Err(format!("{name:?} is not a type of consents, such as \"PATIENT_DIRECTED_DATA_EXCHANGE\""))
    })
}

/// Files, of which there may be none.
pub(super) fn file_names() -> ValueType<Vec<PathBuf>> {
    ValueType::of_texts(|names| {
        if names.iter().any(String::is_empty) {
            return Err("must not hold an empty name".to_owned());
        }
        Ok(names.into_iter().map(PathBuf::from).collect())
    })
}

pub(super) fn texts() -> ValueType<Vec<String>> {
    ValueType::of_texts(Ok)
}

/// A list of words, all of them among these.
pub(super) fn words_among(words: &'static [&'static str]) -> ValueType<Vec<String>> {
    ValueType::of_texts(|found| match found.iter().find(|word| !words.contains(&word.as_str())) {
        Some(unknown) => Err(format!("{unknown:?} is not one of {}", words.join(", "))),
        None => Ok(found),
    })
}

pub(super) fn types() -> ValueType<TypeFilter> {
    ValueType::of_texts(|names| match names.iter().find(|name| ResourceType::by_name(name).is_none()) {
        Some(unknown) => Err(format!("{unknown:?} is not a resource type of FHIR R4, such as Observation")),
        None => Ok(TypeFilter::new(names)),
    })
}

/// An `http` or `https` URL, which ends up before the paths of requests.
pub(super) fn base_url() -> ValueType<Url> {
    ValueType::of_text(parse_base_url)
}

/// Where proxies come from: the environment, nowhere, or a URL.
pub(super) fn proxy() -> ValueType<ProxySource> {
    ValueType::of_text(ProxySource::parse)
}

pub(super) fn url_or_none() -> ValueType<Option<Url>> {
    ValueType::of_text(|text| match text {
        "" => Ok(None),
        url => parse_web_url(url).map(Some),
    })
}

/// The URL of a PostgreSQL database without a password, or `None` for the empty text.
pub(super) fn database_url_or_none() -> ValueType<Option<String>> {
    ValueType::of_text(|text| match text {
        "" => Ok(None),
        url => check_database_url(url).map(|()| Some(url.to_owned())),
    })
}

/// The name of a schema that needs no quotes.
pub(super) fn schema_name() -> ValueType<String> {
    ValueType::of_text(|name| {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let begins_well = !name.starts_with(|first: char| first.is_ascii_digit());
        if !(1..=SCHEMA_LENGTH_MAX).contains(&name.len()) || !name.bytes().all(is_plain) || !begins_well {
            return Err(format!(
                "{name:?} is not the name of a schema: 1 to {SCHEMA_LENGTH_MAX} small letters, digits and _"
            ));
        }
        if name.starts_with("pg_") || name == "information_schema" {
            return Err(format!("{name:?} is one of the server for its own"));
        }
        Ok(name.to_owned())
    })
}

/// Roles are named after it, and a name has at most 63 letters.
const SCHEMA_LENGTH_MAX: usize = 48;

/// An address with a port or the path of a Unix socket, or `None` for the empty text.
pub(super) fn listen_or_none() -> ValueType<Option<Listen>> {
    ValueType::of_text(|text| {
        match (text, text.strip_prefix("unix:")) {
        ("", _) => Ok(None),
        (_, Some(path)) if !path.is_empty() => Ok(Some(Listen::Unix(PathBuf::from(path)))),
        (address, _) => address.parse().map(|address| Some(Listen::Tcp(address))).map_err(|_| {
            format!(
                "{address:?} is neither an address with a port, such as \"127.0.0.1:9464\", nor a socket, such as \"unix:/run/healthex-sync/http\""
            )
        }),
    }
    })
}

/// The id of a Unix group by its name, or `None` for the empty text.
pub(super) fn group_or_none() -> ValueType<Option<u32>> {
    ValueType::of_text(|name| match name {
        "" => Ok(None),
        name => match nix::unistd::Group::from_name(name) {
            Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
            _ => Err(format!("{name:?} is not the name of a Unix group of this machine")),
        },
    })
}

/// A duration of any length but zero.
pub(super) fn duration() -> ValueType<Duration> {
    ValueType::of_text(|text| match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than nothing".to_owned()),
        duration => Ok(duration),
    })
}

pub(super) fn duration_or_zero() -> ValueType<Duration> {
    ValueType::of_text(parse_duration)
}

/// A duration within bounds.
pub(super) fn duration_between(least: Duration, most: Duration) -> ValueType<Duration> {
    ValueType::of_text(move |text| match parse_duration(text)? {
        duration if (least..=most).contains(&duration) => Ok(duration),
        _ => Err(format!("must be between {}s and {}s", least.as_secs(), most.as_secs())),
    })
}

/// A duration of any length but zero, or `None` for the empty text.
pub(super) fn duration_or_none() -> ValueType<Option<Duration>> {
    let duration = duration();
    ValueType::of_text(move |text| match text {
        "" => Ok(None),
        text => duration.parse(&Value::from(text)).map(Some),
    })
}

/// A duration, or a word for there being none.
pub(super) fn duration_or(word: &'static str) -> ValueType<Option<Duration>> {
    ValueType::of_text(move |text| {
        if text == word {
            return Ok(None);
        }
        match parse_duration(text).map_err(|why| format!("{why}, or {word:?}"))? {
            Duration::ZERO => Err(format!("must be longer than nothing, or {word:?}")),
            duration => Ok(Some(duration)),
        }
    })
}

pub(super) fn bytes() -> ValueType<u64> {
    ValueType::of_text(parse_bytes)
}

pub(super) fn count<N: TryFrom<i64>>(min: i64, max: i64) -> ValueType<N> {
    ValueType::of_scalar::<i64>(move |value| {
        let number = value.as_integer().filter(|number| (min..=max).contains(number));
        number
            .and_then(|number| N::try_from(number).ok())
            .ok_or_else(|| format!("{value} is not a whole number from {min} to {max}"))
    })
}

pub(super) fn fraction() -> ValueType<f64> {
    ValueType::of_scalar::<f64>(|value| {
        let whole = || value.as_integer().and_then(|whole| i32::try_from(whole).ok()).map(f64::from);
        let number = value.as_float().or_else(whole).filter(|number| (0.0..=1.0).contains(number));
        number.ok_or_else(|| format!("{value} is not a number from 0.0 to 1.0"))
    })
}

pub(super) fn boolean() -> ValueType<bool> {
    ValueType::of_scalar::<bool>(|value| {
        value.as_bool().ok_or_else(|| format!("{value} is neither true nor false"))
    })
}

/// Some of some words, each with what it stands for.
pub(super) fn some_of<T: Copy + 'static>(words: &'static [(&'static str, T)]) -> ValueType<Vec<T>> {
    let one = one_of(words);
    ValueType::of_texts(move |texts| {
        texts.iter().map(|text| one.parse(&Value::from(text.as_str()))).collect()
    })
}

/// One of some words, each with what it stands for.
pub(super) fn one_of<T: Copy + 'static>(words: &'static [(&'static str, T)]) -> ValueType<T> {
    ValueType::of_text(move |text| {
        let meaning = words.iter().find_map(|(word, meaning)| (*word == text).then_some(*meaning));
        meaning.ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("{text:?} is not one of {}", words.join(", "))
        })
    })
}

pub(super) fn schedule() -> ValueType<Schedule> {
    ValueType::of_text(Schedule::parse)
}

/// A schedule, or `None` for "cycle": at the end of each cycle.
pub(super) fn schedule_or_cycle() -> ValueType<Option<Schedule>> {
    ValueType::of_text(|text| match text {
        "cycle" => Ok(None),
        cron => Schedule::parse(cron).map(Some).map_err(|why| format!("{why}; or \"cycle\"")),
    })
}

/// A time zone by its IANA name.
pub(super) fn timezone() -> ValueType<chrono_tz::Tz> {
    ValueType::of_text(|name| {
        name.parse().map_err(|_| format!("{name:?} is not an IANA time zone, such as \"Europe/Berlin\""))
    })
}

pub(super) fn quiet_hours_or_none() -> ValueType<Option<QuietHours>> {
    ValueType::of_text(|text| match text {
        "" => Ok(None),
        hours => QuietHours::parse(hours).map(Some),
    })
}

fn parse_base_url(text: &str) -> Result<Url, String> {
    let url = parse_web_url(text)?;
    if url.path().trim_end_matches('/').to_ascii_lowercase().ends_with("/fhir/r4") {
        return Err("must not end in /FHIR/R4, which is added to it".to_owned());
    }
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if plain { Ok(url) } else { Err("must not hold a user name, a query or a fragment".to_owned()) }
}

fn parse_web_url(text: &str) -> Result<Url, String> {
    // The text is not repeated: somebody may have written a secret into it.
    let url = Url::parse(text)
        .map_err(|error| format!("is not a URL such as https://api.healthex.io ({error})"))?;
    match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        _ => Err("must begin with https:// or http://".to_owned()),
    }
}

/// What may stand behind the `?` of a database's URL: where it is. How it proves
/// who it is, and what is set in it, is not left to a URL.
const DATABASE_OPTIONS: [&str; 7] = [
    "host",
    "hostaddr",
    "port",
    "target_session_attrs",
    "load_balance_hosts",
    "tcp_user_timeout",
    "keepalives",
];

const NO_PASSWORD: &str = "must hold no password; put it in the file named by warehouse.password_file, mode 0600, or into HEALTHEX_DB_PASSWORD";

/// Checks what this program needs of a database's URL; the rest is the engine's. There may be many hosts, which a
/// URL of the web cannot have.
fn check_database_url(text: &str) -> Result<(), String> {
    const EXAMPLE: &str = "such as postgres://healthex_worker@db.example/study";
    let rest = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    // The text is not repeated: somebody may have written a password into it.
    let rest = rest.ok_or_else(|| format!("must begin with postgres://, {EXAMPLE}"))?;
    if !rest.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must hold no blanks and no letters beyond ASCII; write them as %20".to_owned());
    }
    let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
    // What a password holds unescaped may look like the end of the host.
    let (account, place) = place.rsplit_once('@').unwrap_or(("", place));
    if account.contains(':') {
        return Err(NO_PASSWORD.to_owned());
    }
    let (_, database) = place.split_once('/').unwrap_or((place, ""));
    if account.is_empty() || database.is_empty() {
        return Err(format!("must name the role and the database, {EXAMPLE}"));
    }
    let names = options.split('&').filter(|option| !option.is_empty());
    let names = names.map(|option| option.split('=').next().unwrap_or_default());
    for name in names {
        match name {
            "password" => return Err(NO_PASSWORD.to_owned()),
            "sslmode" | "sslrootcert" => {
                return Err(format!(
                    "must not hold {name}: a server that is not on this machine always has to prove itself, by the system's certificates and those of warehouse.ca_file"
                ));
            }
            known if DATABASE_OPTIONS.contains(&known) => {}
            _ => {
                return Err(format!("may hold, behind the ?, only {}", DATABASE_OPTIONS.join(", ")));
            }
        }
    }
    Ok(())
}

/// Parses `500MB`, `50GB`: powers of ten.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_databases_url_has_a_role_a_database_and_no_password() {
        let check = |url: &str, why: Option<&str>| match (check_database_url(url), why) {
            (Ok(()), None) => {}
            (Err(told), Some(why)) => {
                assert!(told.contains(why) && !told.contains("canary"), "{url}: {told}");
            }
            (told, why) => panic!("{url}: {told:?}, expected {why:?}"),
        };
        check("postgres://worker@db.example/study", None);
        check("postgresql://worker@db.example:6432/study?target_session_attrs=read-write", None);
        check("postgres://worker@one.example:5432,two.example:5433/study", None);
        check("postgres://worker@%2Frun%2Fpostgresql/study", None);
        check("postgres://worker@/study?host=/run/postgresql", None);
        check("postgres://worker:canary@db.example/study", Some("no password"));
        check("postgres://worker:can/ary@db.example/study", Some("no password"));
        check("postgres://worker@db.example/study?password=canary", Some("no password"));
        check("postgres://worker@db.example/study?sslmode=disable", Some("sslmode"));
        check("postgres://worker@db.example/study?canary=1", Some("only host"));
        check("postgres://db.example/study", Some("role and the database"));
        check("postgres://worker@db.example", Some("role and the database"));
        check("postgres://worker@db.example/a canary", Some("%20"));
        check("mysql://canary@db.example/study", Some("postgres://"));
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!(parse_bytes("50GB"), Ok(50_000_000_000));
        for wrong in ["", "0GB", "50", "50GiB", "-1MB", "99999999999TB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }
}

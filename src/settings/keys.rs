//! Every key with its default and what is allowed, and the layers laid over each other.

use serde::Deserialize;
use toml::Value;

use super::values::Allowed;
use super::{Environment, values};

/// `(section, key, default as TOML, what is allowed)`
const KEYS: &[(&str, &str, &str, Allowed)] = &[
    ("api", "base_url", r#""https://api.healthex.io""#, Allowed::BaseUrl),
    ("api", "token_file", r#""""#, Allowed::Text),
    ("api", "api_key_file", r#""api-key""#, Allowed::Text),
    ("api", "api_secret_file", r#""api-secret""#, Allowed::Text),
    ("api", "connect_timeout", r#""10s""#, Allowed::Duration),
    ("api", "idle_timeout", r#""60s""#, Allowed::Duration),
    ("api", "page_timeout", r#""30m""#, Allowed::Duration),
    ("api", "max_attempts", "6", Allowed::Count { min: 1, max: 100 }),
    ("api", "retry_initial", r#""500ms""#, Allowed::Duration),
    ("api", "retry_max", r#""60s""#, Allowed::Duration),
    ("sync", "schedule", r#""0 */15 * * * *""#, Allowed::Schedule),
    ("sync", "concurrency", "4", Allowed::Count { min: 1, max: 64 }),
    ("sync", "page_size", "500", Allowed::Count { min: 0, max: 100_000 }),
    ("sync", "types", "[]", Allowed::Types),
    ("sync", "overlap", r#""1h""#, Allowed::DurationOrZero),
    ("sync", "full_every", r#""7d""#, Allowed::DurationOrNever),
    ("sync", "pages_max", "100000", Allowed::Count { min: 1, max: 1_000_000_000 }),
    ("sync", "bytes_max", r#""50GB""#, Allowed::Bytes),
    ("sync", "time_max", r#""12h""#, Allowed::Duration),
    ("warehouse", "path", r#""warehouse.db""#, Allowed::Name),
    ("warehouse", "group", r#""""#, Allowed::Text),
    ("roster", "files", r#"["roster.toml"]"#, Allowed::Names),
    ("roster", "on_removed", r#""keep""#, Allowed::OneOf(&["keep", "purge"])),
    ("consent", "recheck", r#""24h""#, Allowed::Duration),
    ("consent", "hold_after", "5", Allowed::Count { min: 1, max: 1_000_000 }),
    ("consent", "hold_fraction", "0.5", Allowed::Fraction),
    ("consent", "scrub", r#""cycle""#, Allowed::CycleOrSchedule),
    ("http", "listen", r#""""#, Allowed::Address),
    ("http", "token_file", r#""""#, Allowed::Text),
    ("alert", "heartbeat_url", r#""""#, Allowed::UrlOrNothing),
    ("alert", "command", "[]", Allowed::Texts),
    ("alert", "stale_after", r#""24h""#, Allowed::Duration),
    ("log", "format", r#""text""#, Allowed::OneOf(&["text", "json"])),
    ("log", "level", r#""info""#, Allowed::OneOf(&["error", "warn", "info", "debug", "trace"])),
    ("views", "built_in", "true", Allowed::Truth),
    ("views", "folder", r#""""#, Allowed::Text),
];

const VARIABLE_PREFIX: &str = "HEALTHEX_SYNC__";

/// The file and the variables over the defaults. A value that is refused is complained of and left out.
pub(super) fn layer(
    name: &str,
    text: &str,
    environment: &Environment,
    complaints: &mut Vec<String>,
) -> Result<config::Config, config::ConfigError> {
    let mut layers = config::Config::builder();
    for (section, key, default, _) in KEYS {
        layers = layers.set_default(format!("{section}.{key}"), to_config(&read_default(default)))?;
    }
    let table = text.parse::<toml::Table>().unwrap_or_else(|error| {
        complaints.push(format!("{name}: not TOML: {}", error.to_string().trim_end()));
        toml::Table::new()
    });
    for (section, value) in &table {
        let known = KEYS.iter().any(|(known, ..)| known == section);
        let Some(entries) = value.as_table().filter(|_| known) else {
            let sections = sections().join("], [");
            complaints.push(format!(
                "{}: {section}: unknown; the sections are [{sections}]",
                place(name, text, section, "")
            ));
            continue;
        };
        for (key, value) in entries {
            match allowed(section, key).and_then(|allowed| allowed.check(value)) {
                Ok(()) => layers = layers.set_override(format!("{section}.{key}"), to_config(value))?,
                Err(why) => {
                    complaints.push(format!("{}: {section}.{key}: {why}", place(name, text, section, key)));
                }
            }
        }
    }
    let mut variables: Vec<_> =
        environment.iter().filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)).collect();
    variables.sort();
    for (variable, text) in variables {
        let path = variable[VARIABLE_PREFIX.len()..].to_ascii_lowercase();
        let (section, key) = path.split_once("__").unwrap_or((&path, ""));
        let checked = allowed(section, key).and_then(|allowed| {
            let value = allowed.read_text(text);
            allowed.check(&value).map(|()| value)
        });
        match checked {
            Ok(value) => layers = layers.set_override(format!("{section}.{key}"), to_config(&value))?,
            Err(why) => complaints.push(format!("{variable}: {why}")),
        }
    }
    layers.build()
}

#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.iter().map(|(section, key, ..)| (*section, *key))
}

fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS.iter().map(|(section, ..)| *section).collect();
    sections.dedup();
    sections
}

fn allowed(section: &str, key: &str) -> Result<Allowed, String> {
    if let Some((.., allowed)) = KEYS.iter().find(|(s, k, ..)| *s == section && *k == key) {
        return Ok(*allowed);
    }
    if section == "api" && matches!(key, "api_key" | "api_secret" | "token") {
        return Err("secrets are never in the configuration; put it in a file named by api_key_file, api_secret_file or token_file".to_owned());
    }
    let keys: Vec<_> = KEYS.iter().filter(|(s, ..)| *s == section).map(|(_, key, ..)| *key).collect();
    if keys.is_empty() {
        return Err(format!("unknown; the sections are [{}]", sections().join("], [")));
    }
    Err(format!("unknown; the keys of [{section}] are {}", keys.join(", ")))
}

fn place(name: &str, text: &str, section: &str, key: &str) -> String {
    line_of(text, section, key).map_or_else(|| name.to_owned(), |line| format!("{name}:{line}"))
}

/// The line of a key, or of its section if `key` is empty, counted from 1.
pub(super) fn line_of(text: &str, section: &str, key: &str) -> Option<usize> {
    let mut current = "";
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            current = header.split(']').next().unwrap_or_default().trim();
            if key.is_empty() && current == section {
                return Some(number);
            }
        }
        let name = line.split('=').next().unwrap_or_default().trim();
        let is_it = if current == section {
            name == key
        } else {
            current.is_empty() && name == format!("{section}.{key}")
        };
        if line.contains('=') && !key.is_empty() && is_it {
            return Some(number);
        }
    }
    None
}

fn read_default(text: &str) -> Value {
    let table = format!("value = {text}").parse::<toml::Table>();
    // The defaults are held to be TOML by every test that loads them.
    table.ok().and_then(|mut table| table.remove("value")).unwrap_or(Value::Boolean(false))
}

fn to_config(value: &Value) -> config::Value {
    let kind = match value {
        Value::String(text) => config::ValueKind::String(text.clone()),
        Value::Integer(number) => config::ValueKind::I64(*number),
        Value::Float(number) => config::ValueKind::Float(*number),
        Value::Boolean(truth) => config::ValueKind::Boolean(*truth),
        Value::Array(items) => config::ValueKind::Array(items.iter().map(to_config).collect()),
        Value::Datetime(time) => config::ValueKind::String(time.to_string()),
        Value::Table(_) => config::ValueKind::Nil,
    };
    config::Value::new(None, kind)
}

/// The values as they are written, each already checked by itself.
#[derive(Debug, Deserialize)]
pub(super) struct Values {
    pub(crate) api: Api,
    pub(crate) sync: Sync,
    pub(crate) warehouse: Warehouse,
    pub(crate) roster: Roster,
    pub(crate) consent: Consent,
    pub(crate) http: Http,
    pub(crate) alert: Alert,
    pub(crate) log: Log,
    pub(crate) views: Views,
}

#[derive(Debug, Deserialize)]
#[expect(clippy::struct_field_names, reason = "they are the keys of [api]")]
pub(super) struct Api {
    pub(crate) base_url: String,
    pub(crate) token_file: String,
    pub(crate) api_key_file: String,
    pub(crate) api_secret_file: String,
    pub(crate) connect_timeout: String,
    pub(crate) idle_timeout: String,
    pub(crate) page_timeout: String,
    pub(crate) max_attempts: usize,
    pub(crate) retry_initial: String,
    pub(crate) retry_max: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Sync {
    pub(crate) schedule: String,
    pub(crate) concurrency: usize,
    pub(crate) page_size: u32,
    pub(crate) types: Vec<String>,
    pub(crate) overlap: String,
    pub(crate) full_every: String,
    pub(crate) pages_max: u64,
    pub(crate) bytes_max: String,
    pub(crate) time_max: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Warehouse {
    pub(crate) path: String,
    pub(crate) group: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Roster {
    pub(crate) files: Vec<String>,
    pub(crate) on_removed: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Consent {
    pub(crate) recheck: String,
    pub(crate) hold_after: u32,
    pub(crate) hold_fraction: f64,
    pub(crate) scrub: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Http {
    pub(crate) listen: String,
    pub(crate) token_file: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Alert {
    pub(crate) heartbeat_url: String,
    pub(crate) command: Vec<String>,
    pub(crate) stale_after: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Log {
    pub(crate) format: String,
    pub(crate) level: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Views {
    pub(crate) built_in: bool,
    pub(crate) folder: String,
}

impl Allowed {
    /// A variable's text as the value its key wants.
    fn read_text(self, text: &str) -> Value {
        match self {
            Self::Count { .. } => {
                text.trim().parse().map_or_else(|_| Value::String(text.to_owned()), Value::Integer)
            }
            Self::Fraction => {
                text.trim().parse().map_or_else(|_| Value::String(text.to_owned()), Value::Float)
            }
            Self::Truth => {
                text.trim().parse().map_or_else(|_| Value::String(text.to_owned()), Value::Boolean)
            }
            Self::Types | Self::Names | Self::Texts => Value::Array(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Value::String(item.to_owned()))
                    .collect(),
            ),
            _ => Value::String(text.to_owned()),
        }
    }

    fn check(self, value: &Value) -> Result<(), String> {
        values::check(self, value)
    }
}

//! Reads keys out of the configuration's layers, and collects what is wrong with their values.
//!
//! Promise: a value that is refused is complained of with its place, even where another layer
//! overrides it, and all complaints come at once. Absent on purpose: which keys there are
//! (`mod.rs`) and what a value may be (`values.rs`).

use std::collections::{BTreeMap, HashMap};

use config::{Config, ConfigError, FileFormat};
use toml::Value;

use super::Environment;
use super::values::ValueType;

const VARIABLE_PREFIX: &str = "HEALTHEX_SYNC__";
/// Between section and key in the name of a variable.
const SEPARATOR: &str = "__";

/// The place of a value. Complaints come in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// The file as a whole.
    Syntax,
    File {
        section: String,
        key: String,
    },
    Variable(String),
}

/// A key by its section and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
}

/// The configuration, while it is read key by key.
pub(super) struct Keys<'c> {
    file_name: &'c str,
    text: &'c str,
    table: toml::Table,
    /// The file, and the variables over it.
    layers: Config,
    /// Names of variables by the path of their key, `section.key`.
    variables: BTreeMap<String, String>,
    /// The keys read so far.
    known: Vec<Key>,
    complaints: BTreeMap<Origin, String>,
    /// Complaints about more than one key.
    general: Vec<String>,
}

impl<'c> Keys<'c> {
    pub(super) fn new(
        file_name: &'c str,
        text: &'c str,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let mut variables = BTreeMap::new();
        let mut texts = HashMap::new();
        for (variable, text) in environment {
            if let Some(name) = variable.strip_prefix(VARIABLE_PREFIX) {
                // One of another depth would lie over a whole section, or below a key.
                if name.split(SEPARATOR).count() == 2 {
                    texts.insert(name.to_owned(), text.clone());
                }
                variables.insert(name.to_ascii_lowercase().replacen(SEPARATOR, ".", 1), variable.clone());
            }
        }
        let mut complaints = BTreeMap::new();
        let table = text.parse::<toml::Table>().unwrap_or_else(|error| {
            complaints.insert(Origin::Syntax, format!("not TOML: {}", error.to_string().trim_end()));
            toml::Table::new()
        });
        let file = if complaints.is_empty() { text } else { "" };
        let layers = Config::builder()
            .add_source(config::File::from_str(file, FileFormat::Toml))
            .add_source(config::Environment::default().separator(SEPARATOR).source(Some(texts)))
            .build()?;
        let (known, general) = (Vec::new(), Vec::new());
        Ok(Self { file_name, text, table, layers, variables, known, complaints, general })
    }

    /// Reads one key. Where its value is refused, complains and returns the value of the layer
    /// below, so that the reading goes on to the next complaint.
    pub(super) fn read<T>(
        &mut self,
        section: &'static str,
        name: &'static str,
        default: impl Into<Value>,
        value_type: &ValueType<T>,
    ) -> T {
        self.known.push(Key { section, name });
        let path = format!("{section}.{name}");
        let in_file = self.table.get(section).and_then(|entries| entries.get(name)).and_then(|value| {
            let origin = Origin::File { section: section.to_owned(), key: name.to_owned() };
            accept(value_type.parse(value), origin, &mut self.complaints)
        });
        let in_variable = self.variables.get(&path).and_then(|variable| {
            let text = self.layers.get_string(&path).ok()?;
            let value = value_type.parse(&value_type.value_of(&text));
            accept(value, Origin::Variable(variable.clone()), &mut self.complaints)
        });
        in_variable.or(in_file).unwrap_or_else(|| {
            // Every test that loads a configuration holds that the defaults are allowed.
            value_type.parse(&default.into()).unwrap_or_else(|why| panic!("the default of {path}: {why}"))
        })
    }

    /// Returns whether somebody has written a key, in the file or as a variable.
    pub(super) fn is_written(&self, section: &str, name: &str) -> bool {
        let in_file = self.table.get(section).is_some_and(|entries| entries.get(name).is_some());
        in_file || self.variables.contains_key(&format!("{section}.{name}"))
    }

    /// Adds a complaint about a key that can be read, at the place where its value is from.
    pub(super) fn complain_of(&mut self, section: &str, name: &str, why: &str) {
        let origin = match self.variables.get(&format!("{section}.{name}")) {
            Some(variable) => Origin::Variable(variable.clone()),
            None => Origin::File { section: section.to_owned(), key: name.to_owned() },
        };
        self.complaints.entry(origin).or_insert_with(|| why.to_owned());
    }

    /// Adds a complaint about a variable that is no key's, which it names.
    pub(super) fn complain_of_variable(&mut self, why: &str) {
        self.general.push(why.to_owned());
    }

    /// Adds a complaint about more than one key.
    pub(super) fn complain(&mut self, why: &str) {
        self.general.push(format!("{}: {why}", self.file_name));
    }

    /// Returns all complaints, those about keys that nobody has read among them.
    pub(super) fn finish(mut self) -> Vec<String> {
        self.refuse_unknown();
        let Self { file_name, text, complaints, general, .. } = self;
        let about_keys = complaints.into_iter().map(|(origin, why)| match origin {
            Origin::Syntax => format!("{file_name}: {why}"),
            Origin::File { section, key } if key.is_empty() => {
                format!("{}: {section}: {why}", place(file_name, text, &section, ""))
            }
            Origin::File { section, key } => {
                format!("{}: {section}.{key}: {why}", place(file_name, text, &section, &key))
            }
            Origin::Variable(variable) => format!("{variable}: {why}"),
        });
        about_keys.chain(general).collect()
    }

    fn refuse_unknown(&mut self) {
        let mut unknown = Vec::new();
        for (section, value) in &self.table {
            match value.as_table().filter(|_| self.known.iter().any(|key| key.section == section)) {
                None => unknown.push((
                    Origin::File { section: section.clone(), key: String::new() },
                    self.unknown_section(),
                )),
                Some(entries) => unknown.extend(entries.keys().filter_map(|key| {
                    let origin = Origin::File { section: section.clone(), key: key.clone() };
                    Some((origin, self.why_unknown(section, key)?))
                })),
            }
        }
        for (path, variable) in &self.variables {
            let (section, key) = path.split_once('.').unwrap_or((path, ""));
            unknown
                .extend(self.why_unknown(section, key).map(|why| (Origin::Variable(variable.clone()), why)));
        }
        self.complaints.extend(unknown);
    }

    /// Returns what to say about a key that is not known, or `None` if it is.
    fn why_unknown(&self, section: &str, name: &str) -> Option<String> {
        let keys: Vec<&str> =
            self.known.iter().filter(|key| key.section == section).map(|key| key.name).collect();
        if keys.contains(&name) {
            return None;
        }
        if section == "api" && matches!(name, "api_key" | "api_secret" | "token") {
            return Some("secrets are never in the configuration; put it in a file named by api_key_file, api_secret_file or token_file".to_owned());
        }
        if section == "warehouse" && name == "password" {
            return Some("secrets are never in the configuration; put it in the file named by password_file, or into HEALTHEX_DB_PASSWORD".to_owned());
        }
        if keys.is_empty() {
            return Some(self.unknown_section());
        }
        Some(format!("unknown; the keys of [{section}] are {}", keys.join(", ")))
    }

    fn unknown_section(&self) -> String {
        let mut sections: Vec<&str> = self.known.iter().map(|key| key.section).collect();
        sections.dedup();
        format!("unknown; the sections are [{}]", sections.join("], ["))
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> &[Key] {
        &self.known
    }
}

/// Notes why a value was refused.
fn accept<T>(
    value: Result<T, String>,
    origin: Origin,
    complaints: &mut BTreeMap<Origin, String>,
) -> Option<T> {
    value.map_err(|why| complaints.insert(origin, why)).ok()
}

fn place(file_name: &str, text: &str, section: &str, key: &str) -> String {
    line_of(text, section, key).map_or_else(|| file_name.to_owned(), |line| format!("{file_name}:{line}"))
}

/// Returns the line of a key, or of its section if `key` is empty, counted from 1.
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

//! A SQL on FHIR v2 ViewDefinition as read from JSON, checked where checking needs no schema.
//!
//! Promise: what is held here has the required parts, names that are safe as column names,
//! and constants of one plain type. Misspelled keys inside `select` are refused, not ignored.
//!
//! Absent on purpose: FHIRPath (expressions stay text) and the canonical resource's own
//! metadata (publisher, contact, …), which means nothing for a table.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::elements::Kind;
use super::refused::Refused;

/// Longest ViewDefinition that is read.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// A view over one resource type.
#[derive(Clone, Debug)]
pub struct ViewDefinition {
    pub name: Option<String>,
    pub description: Option<String>,
    pub resource: String,
    pub(super) select: Vec<Select>,
    pub(super) filters: Vec<Filter>,
    pub(super) constants: BTreeMap<String, Constant>,
}

#[derive(Deserialize)]
struct Written {
    #[serde(rename = "resourceType")]
    resource_type: Option<String>,
    name: Option<String>,
    description: Option<String>,
    resource: String,
    select: Vec<Select>,
    #[serde(default)]
    r#where: Vec<Filter>,
    #[serde(default)]
    constant: Vec<Map<String, Value>>,
}

/// One node of the tree of `select`s.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Select {
    #[serde(default)]
    pub(super) column: Vec<ColumnDefinition>,
    #[serde(default, rename = "select")]
    pub(super) nested: Vec<Select>,
    #[serde(default)]
    pub(super) union_all: Vec<Select>,
    pub(super) for_each: Option<String>,
    pub(super) for_each_or_null: Option<String>,
    #[serde(default)]
    pub(super) repeat: Vec<String>,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "extension")]
    _extension: Option<IgnoredAny>,
    #[serde(rename = "modifierExtension")]
    _modifier_extension: Option<IgnoredAny>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ColumnDefinition {
    pub(super) name: String,
    pub(super) path: String,
    pub(super) description: Option<String>,
    #[serde(rename = "type")]
    pub(super) fhir_type: Option<String>,
    #[serde(default)]
    pub(super) collection: bool,
    #[serde(default)]
    pub(super) tag: Vec<Tag>,
    #[serde(rename = "id")]
    _id: Option<IgnoredAny>,
    #[serde(rename = "extension")]
    _extension: Option<IgnoredAny>,
    #[serde(rename = "modifierExtension")]
    _modifier_extension: Option<IgnoredAny>,
}

impl ColumnDefinition {
    pub(super) fn tag(&self, name: &str) -> Option<&str> {
        self.tag.iter().find(|tag| tag.name == name).map(|tag| tag.value.as_str())
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Tag {
    name: String,
    value: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Filter {
    pub(super) path: String,
}

/// A constant's value, as text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    pub(super) kind: Kind,
    /// Text as it is; numbers by their digits; booleans as `1` and `0`.
    pub(super) text: String,
}

impl ViewDefinition {
    /// Reads a ViewDefinition from its JSON.
    pub fn parse(json: &str) -> Result<Self, Refused> {
        if TEXT_BYTES_MAX < json.len() {
            return Err(Refused::because(format!("it is longer than {TEXT_BYTES_MAX} bytes")));
        }
        let written: Written = serde_json::from_str(json)
            .map_err(|error| Refused::because(format!("it is not a ViewDefinition: {error}")))?;
        if let Some(other) = written.resource_type.filter(|name| name != "ViewDefinition") {
            return Err(Refused::because(format!("its resourceType is {other:?}, not ViewDefinition")));
        }
        if let Some(name) = written.name.as_deref().filter(|name| !is_plain_name(name)) {
            return Err(Refused::because(format!("the name {name:?} is not {PLAIN_NAME}")));
        }
        if written.select.is_empty() {
            return Err(Refused::because("it selects nothing: `select` is empty"));
        }
        for select in &written.select {
            check_select(select)?;
        }
        Ok(Self {
            name: written.name,
            description: written.description,
            resource: written.resource,
            select: written.select,
            filters: written.r#where,
            constants: read_constants(&written.constant)?,
        })
    }
}

const PLAIN_NAME: &str = "a letter, then letters, digits and underscores (at most 100)";

/// `^[A-Za-z][A-Za-z0-9_]*$`, as the standard asks of names.
fn is_plain_name(name: &str) -> bool {
    name.len() <= 100
        && name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn check_select(select: &Select) -> Result<(), Refused> {
    let iterations =
        [select.for_each.is_some(), select.for_each_or_null.is_some(), !select.repeat.is_empty()];
    if 1 < iterations.into_iter().filter(|present| *present).count() {
        return Err(Refused::because(
            "one select has more than one of forEach, forEachOrNull and repeat: nest them instead",
        ));
    }
    if let Some(column) = select.column.iter().find(|column| !is_plain_name(&column.name)) {
        return Err(Refused::because(format!("the column name {:?} is not {PLAIN_NAME}", column.name)));
    }
    select.nested.iter().chain(&select.union_all).try_for_each(check_select)
}

fn read_constants(written: &[Map<String, Value>]) -> Result<BTreeMap<String, Constant>, Refused> {
    let mut constants = BTreeMap::new();
    for entry in written {
        let Some(name) = entry.get("name").and_then(Value::as_str) else {
            return Err(Refused::because("a constant has no name"));
        };
        if !is_plain_name(name) {
            return Err(Refused::because(format!("the constant's name {name:?} is not {PLAIN_NAME}")));
        }
        let refused = |why: &str| Refused::because(format!("constant `{name}`: {why}"));
        let mut values = entry.iter().filter(|(key, _)| key.starts_with("value"));
        let (Some((key, value)), None) = (values.next(), values.next()) else {
            return Err(refused("it needs exactly one value[x], such as valueString"));
        };
        let Some(constant) = read_constant(&key["value".len()..], value) else {
            return Err(refused(&format!(
                "`{key}` is not a type a constant can have, or its value does not fit"
            )));
        };
        if constants.insert(name.to_owned(), constant).is_some() {
            return Err(refused("it is defined twice"));
        }
    }
    Ok(constants)
}

fn read_constant(type_name: &str, value: &Value) -> Option<Constant> {
    let kind = match type_name {
        "Boolean" => Kind::Boolean,
        "Integer" | "PositiveInt" | "UnsignedInt" | "Integer64" => Kind::Integer,
        "Decimal" => Kind::Decimal,
        "Date" => Kind::Date,
        "DateTime" => Kind::DateTime,
        "Instant" => Kind::Instant,
        "Time" => Kind::Time,
        "String" | "Code" | "Id" | "Uri" | "Url" | "Uuid" | "Oid" | "Canonical" | "Base64Binary"
        | "Markdown" => Kind::String,
        _ => return None,
    };
    let text = match (kind, value) {
        (Kind::Boolean, Value::Bool(value)) => i32::from(*value).to_string(),
        (Kind::Integer, Value::Number(number)) => number.as_i64()?.to_string(),
        (Kind::Decimal, Value::Number(number)) => number.to_string(),
        // `integer64` is a string in FHIR's JSON.
        (Kind::Integer, Value::String(digits)) if type_name == "Integer64" => {
            digits.parse::<i64>().ok()?.to_string()
        }
        (kind, Value::String(text)) if kind.is_text() && !text.contains('\0') => text.clone(),
        _ => return None,
    };
    Some(Constant { kind, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, says: &str) {
        let refused = ViewDefinition::parse(json).unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        check("{}", "missing field `resource`");
        check(r#"{"resource":"Patient"}"#, "missing field `select`");
        check(r#"{"resource":"Patient","select":[]}"#, "selects nothing");
        check(r#"{"resource":"Patient","select":[{"forEach":1}]}"#, "expected a string");
        check(r#"{"resource":"Patient","select":[{"foreach":"name"}]}"#, "unknown field `foreach`");
        check(
            r#"{"resource":"Patient","select":[{"forEach":"name","repeat":["item"]}]}"#,
            "more than one of",
        );
        check(r#"{"resource":"Patient","select":[{"column":[{"name":"a b","path":"id"}]}]}"#, "column name");
        check(r#"{"resource":"Patient","select":[{}],"constant":[{"name":"x"}]}"#, "exactly one value");
        check(
            r#"{"resource":"Patient","select":[{}],"constant":[{"name":"x","valueDate":1}]}"#,
            "does not fit",
        );
        check(r#"{"resourceType":"Patient","resource":"Patient","select":[{}]}"#, "not ViewDefinition");
    }
}

//! The facts of FHIR R4 that views are compiled by: which elements a type has, of which kind,
//! and whether they repeat.
//!
//! Source: `r4-elements.txt` beside this file, generated from the R4 4.0.1 `StructureDefinition`s.
//! Absent on purpose: cardinality minima, bindings and profiles. Nothing here validates.

use std::collections::HashMap;
use std::sync::LazyLock;

const FACTS: &str = include_str!("r4-elements.txt");

/// What an element or a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Boolean,
    /// `string` and everything written like one: code, uri, id, markdown, …
    String,
    Integer,
    Decimal,
    Date,
    DateTime,
    Instant,
    Time,
    /// A type with elements of its own, by its name in the facts.
    Complex(&'static str),
    /// Always empty: `{}`, or an element no node here can have.
    Nothing,
}

impl Kind {
    fn named(name: &'static str) -> Self {
        match name {
            "boolean" => Self::Boolean,
            "string" => Self::String,
            "integer" => Self::Integer,
            "decimal" => Self::Decimal,
            "date" => Self::Date,
            "dateTime" => Self::DateTime,
            "instant" => Self::Instant,
            "time" => Self::Time,
            complex => Self::Complex(complex),
        }
    }

    /// The name a person knows it by.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::Date => "date",
            Self::DateTime => "dateTime",
            Self::Instant => "instant",
            Self::Time => "time",
            Self::Complex(name) => name,
            Self::Nothing => "nothing",
        }
    }

    pub(super) fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Decimal)
    }

    pub(super) fn is_temporal(self) -> bool {
        matches!(self, Self::Date | Self::DateTime | Self::Instant | Self::Time)
    }

    /// Held as JSON text: strings and everything temporal.
    pub(super) fn is_text(self) -> bool {
        self == Self::String || self.is_temporal()
    }
}

/// One element of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(super) repeats: bool,
    /// `value` of `valueQuantity`; empty for an element that is no choice.
    group: &'static str,
}

impl Element {
    /// An element that is no choice.
    pub(super) const fn plain(name: &'static str, kind: Kind, repeats: bool) -> Self {
        Self { name, kind, repeats, group: "" }
    }
}

type Types = HashMap<&'static str, Vec<Element>>;

static TYPES: LazyLock<Types> = LazyLock::new(|| FACTS.lines().filter_map(read_type).collect());

fn read_type(line: &'static str) -> Option<(&'static str, Vec<Element>)> {
    if line.starts_with('#') {
        return None;
    }
    let (name, elements) = line.split_once(": ")?;
    Some((name, elements.split(", ").filter_map(read_element).collect()))
}

fn read_element(text: &'static str) -> Option<Element> {
    let mut words = text.split(' ');
    let name = words.next()?;
    let kind = words.next()?;
    let group = words.next().unwrap_or_default();
    let repeats = kind.starts_with('*');
    Some(Element { name, kind: Kind::named(kind.trim_start_matches('*')), repeats, group })
}

/// The type as the facts spell it, where `name` is one with elements.
pub(super) fn complex_type(name: &str) -> Option<&'static str> {
    TYPES.get_key_value(name).map(|(name, _)| *name)
}

/// The resource type of that name: what a view can be over.
pub(super) fn resource_type(name: &str) -> Option<&'static str> {
    let concrete = !matches!(name, "Resource" | "DomainResource");
    let name = complex_type(name).filter(|_| concrete)?;
    element(name, "implicitRules").map(|_| name)
}

/// Returns whether that is the name of a type of resource, abstract ones too.
pub(super) fn is_resource(name: &str) -> bool {
    element(name, "implicitRules").is_some()
}

/// Returns whether any type has an element or a choice of that name.
pub(super) fn is_named_anywhere(name: &str) -> bool {
    name == "resourceType"
        || TYPES
            .values()
            .flatten()
            .any(|element| element.name == name || (!name.is_empty() && element.group == name))
}

pub(crate) fn element(owner: &str, name: &str) -> Option<Element> {
    TYPES.get(owner)?.iter().find(|element| element.name == name).copied()
}

/// The elements a choice such as `value[x]` can be written as; none where it is no choice.
pub(super) fn choice(owner: &str, group: &str) -> Vec<Element> {
    let elements = TYPES.get(owner).map(Vec::as_slice).unwrap_or_default();
    elements.iter().filter(|element| !group.is_empty() && element.group == group).copied().collect()
}

/// The element of a choice that holds `type_name`: `valueQuantity` for `value`, `Quantity`.
pub(super) fn chosen(owner: &str, group: &str, type_name: &str) -> Option<Element> {
    let mut letters = type_name.chars();
    let first = letters.next()?.to_ascii_uppercase();
    let wanted = format!("{group}{first}{}", letters.as_str());
    choice(owner, group).into_iter().find(|element| element.name == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_with_their_kind_and_whether_they_repeat() {
        let name = element("Patient", "name").unwrap();
        assert_eq!((name.kind, name.repeats), (Kind::Complex("HumanName"), true));
        let birth_date = element("Patient", "birthDate").unwrap();
        assert_eq!((birth_date.kind, birth_date.repeats), (Kind::Date, false));
        assert!(element("Patient", "nonsense").is_none());
    }

    #[test]
    fn a_choice_is_found_by_type() {
        assert_eq!(chosen("Observation", "value", "dateTime").unwrap().name, "valueDateTime");
        assert_eq!(chosen("Extension", "value", "code").unwrap().kind, Kind::String);
        assert!(chosen("Observation", "value", "Attachment").is_none());
    }

    #[test]
    fn every_resource_type_is_known_and_no_other_type_is_one() {
        let count = TYPES.keys().filter(|name| resource_type(name).is_some()).count();
        assert_eq!(count, 146);
        assert!(resource_type("HumanName").is_none());
    }
}

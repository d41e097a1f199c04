//! The decisions: facts in, verdicts out. No IO, no clock, no chance; each of them is an argument.
//!
//! A file here answers one question. The words that several of them share are below.

pub(crate) mod arrivals;
pub(crate) mod breaker;
pub(crate) mod checkpoint;
pub mod completeness;
pub(crate) mod consent;
pub(crate) mod drift;
pub(crate) mod due;
pub(crate) mod duplicate;
pub(crate) mod failure;
pub mod identity;
pub(crate) mod leaver;
pub mod outcome;
pub(crate) mod paging;
mod patient_reference;
pub(crate) mod quarantine;
pub(crate) mod records;
pub(crate) mod refusal;
pub mod resource_type;
pub(crate) mod resume;
pub(crate) mod retry;
pub mod roster;
pub mod row;
pub(crate) mod scan;
pub(crate) mod since;
pub(crate) mod stale;
pub(crate) mod start;
pub mod state;
pub(crate) mod sweep;
pub mod table_set;
pub(crate) mod unreadable;
pub(crate) mod unseen;
pub mod verdict;

use std::fmt;
use std::sync::Arc;

pub use crate::time::Timestamp;

/// The one way a time is written: RFC 3339 in UTC, whole seconds, `Z`.
pub fn stamp(time: Timestamp) -> String {
    time.rfc3339_seconds()
}

/// Reads what `stamp` wrote, and any other RFC 3339 time.
pub fn parse_stamp(text: &str) -> Option<Timestamp> {
    Timestamp::parse(text)
}

/// The id HealthEx knows a patient by: 1 to 64 of `A-Z a-z 0-9 - .`, and not dots alone.
///
/// Holding one means it is safe in a URL path, a log line and a SQL parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PersonId(Arc<str>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a HealthEx patient id: 1 to 64 letters, digits, dots and dashes, and not dots alone")]
pub struct NotAPersonId(pub String);

impl PersonId {
    pub const LENGTH_MAX: usize = 64;

    pub fn parse(text: &str) -> Result<Self, NotAPersonId> {
        let fits = (1..=Self::LENGTH_MAX).contains(&text.len());
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        // `..` is made of allowed characters, and a URL library quietly climbs with it.
        let climbs = text.bytes().all(|b| b == b'.');
        if fits && plain && !climbs { Ok(Self(text.into())) } else { Err(NotAPersonId(text.to_owned())) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PersonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A full pull sees everything and may find what vanished; an incremental one asks for what changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullMode {
    Full,
    Incremental,
}

impl PullMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Full, Self::Incremental].into_iter().find(|mode| mode.as_str() == text)
    }
}

/// The `_type` filter of a pull. Empty is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TypeFilter(Vec<String>);

impl TypeFilter {
    /// Sorted and without repeats, so that the same filter is always the same text.
    pub fn new(mut types: Vec<String>) -> Self {
        types.sort_unstable();
        types.dedup();
        Self(types)
    }

    /// Reads the comma-separated form, as stored in `checkpoint`.
    pub fn parse(text: &str) -> Self {
        Self::new(text.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    pub fn types(&self) -> &[String] {
        &self.0
    }

    /// Returns whether it lets a resource type through, by its name.
    pub(crate) fn asks_for(&self, type_name: &str) -> bool {
        self.is_everything() || self.0.iter().any(|name| name == type_name)
    }

    /// Does this filter let through a type that `before` did not?
    pub fn gains_over(&self, before: &Self) -> bool {
        if before.is_everything() {
            return false;
        }
        self.is_everything() || self.0.iter().any(|name| !before.0.contains(name))
    }
}

impl fmt::Display for TypeFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_climb_or_leave_the_path_is_refused() {
        for good in ["a", "19cff418-7d80", "A.b-9", &"x".repeat(64)] {
            assert!(PersonId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a?b", "a%2e", &"x".repeat(65)] {
            assert!(PersonId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_filter_that_lets_more_through_gains() {
        let check = |now: &str, before: &str, gains: bool| {
            assert_eq!(
                TypeFilter::parse(now).gains_over(&TypeFilter::parse(before)),
                gains,
                "{before:?} -> {now:?}"
            );
        };
        check("", "", false);
        check("Observation", "", false);
        check("", "Observation", true);
        check("Observation", "Condition,Observation", false);
        check("Condition,Observation", "Observation", true);
    }

    #[test]
    fn a_mode_is_read_by_the_name_that_the_column_has() {
        for (mode, name) in [(PullMode::Full, "full"), (PullMode::Incremental, "incremental")] {
            assert_eq!((mode.as_str(), PullMode::parse(name)), (name, Some(mode)));
        }
        assert_eq!(PullMode::parse("Full"), None);
    }

    #[test]
    fn a_filter_names_each_type_once_and_in_order() {
        let filter = TypeFilter::parse("Observation,,Condition,Observation");
        assert_eq!(filter.types(), ["Condition", "Observation"]);
        assert_eq!(filter.to_string(), "Condition,Observation");
    }
}

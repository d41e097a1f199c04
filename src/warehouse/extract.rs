//! The words for what is read out of a warehouse to be written elsewhere.

use std::collections::BTreeMap;

use crate::plan::Timestamp;

/// Whose rows are read, and of which time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection<'s> {
    /// `None` is everybody.
    pub person: Option<&'s str>,
    /// Only what changed then or later.
    pub since: Option<Timestamp>,
}

/// A resource as it is stored for one person.
#[derive(Clone, Copy, Debug)]
pub struct StoredResource<'r> {
    pub person_id: &'r str,
    pub key: &'r str,
    pub id: Option<&'r str>,
    pub version_id: Option<&'r str>,
    pub last_updated: Option<&'r str>,
    pub source: Option<&'r str>,
    pub patient: Option<&'r str>,
    pub first_seen_at: &'r str,
    pub changed_at: &'r str,
    pub resource: &'r str,
}

/// A resource that is not to be seen any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneResource {
    pub person_id: String,
    pub key: String,
    pub id: Option<String>,
    /// Another row of this person has the same type and id: only the key is gone.
    pub lives_on: bool,
}

/// A cell of an analysts' table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StoredCell<'c> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'c str),
}

/// An analysts' table and its columns.
#[derive(Clone, Debug)]
pub struct TableShape {
    pub name: String,
    /// The tables of the resources that its rows are made of; empty where they are of all types, or
    /// of none.
    pub sources: Vec<String>,
    pub columns: Vec<ColumnShape>,
    /// Whether all its rows are there.
    pub is_built: bool,
    /// When it was last built anew.
    pub built_at: Option<Timestamp>,
}

/// A column, with the type it is declared with.
#[derive(Clone, Debug)]
pub struct ColumnShape {
    pub name: String,
    pub declared: String,
}

/// How far everybody's data go.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Of each person that is not purged, its next `_since`.
    pub watermarks: BTreeMap<String, Option<String>>,
    /// Those of whom something is known to be missing.
    pub incomplete: Vec<String>,
}

/// A purge, as a copy elsewhere has to follow it.
#[derive(Clone, Debug)]
pub struct PurgedSince {
    pub person_id: String,
    pub purged_at: String,
    pub reason: String,
}

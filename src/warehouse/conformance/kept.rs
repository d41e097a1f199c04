//! What a warehouse has kept: every row, as text, whichever engine keeps it.

use std::collections::{BTreeMap, BTreeSet};

use crate::plan::{PersonId, Timestamp, parse_stamp};

/// The cells of a row that are not NULL, by column: a boolean is `0` or `1`, a time as
/// [`stamp`](crate::plan::stamp) writes it, and bytes in any way that tells them apart.
pub(in crate::warehouse) type KeptRow = BTreeMap<String, String>;

/// The rows by table, in an order of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::warehouse) struct Kept(pub(in crate::warehouse) BTreeMap<String, Vec<KeptRow>>);

/// A resource as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptResource {
    pub(super) resource: String,
    pub(super) first_seen_at: Timestamp,
    pub(super) changed_at: Timestamp,
    pub(super) deleted_at: Option<Timestamp>,
}

impl Kept {
    pub(in crate::warehouse) fn table(&self, name: &str) -> &[KeptRow] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Returns the resources of a patient by their keys.
    pub(super) fn resources(&self, person: &PersonId) -> BTreeMap<String, KeptResource> {
        let tables = self.0.values().flatten();
        let rows = tables.filter(|row| row.contains_key("content_hash") && is_of(row, person));
        let resource = |row: &KeptRow| {
            let time = |name: &str| row.get(name).map(|text| parse_stamp(text).unwrap());
            let kept = KeptResource {
                resource: row["resource"].clone(),
                first_seen_at: time("first_seen_at").unwrap(),
                changed_at: time("changed_at").unwrap(),
                deleted_at: time("deleted_at"),
            };
            (row["key"].clone(), kept)
        };
        rows.map(resource).collect()
    }

    /// Returns the keys of a patient's resources that are not marked as deleted.
    pub(super) fn live(&self, person: &PersonId) -> Vec<String> {
        let resources = self.resources(person).into_iter();
        resources.filter(|(_, kept)| kept.deleted_at.is_none()).map(|(key, _)| key).collect()
    }

    /// Returns the pulls of a patient, the first one first.
    pub(super) fn pulls(&self, person: &PersonId) -> Vec<KeptRow> {
        let mut pulls: Vec<KeptRow> =
            self.table("pull").iter().filter(|row| is_of(row, person)).cloned().collect();
        pulls.sort_by_key(|row| row["id"].parse::<i64>().unwrap());
        pulls
    }

    /// Returns how many rows of a patient each table has; those without any are left out.
    pub(super) fn rows_by_table(&self, person: &PersonId) -> BTreeMap<String, u64> {
        let count = |rows: &Vec<KeptRow>| rows.iter().filter(|row| is_of(row, person)).count() as u64;
        let tables = self.0.iter().map(|(table, rows)| (table.clone(), count(rows)));
        tables.filter(|(_, rows)| *rows > 0).collect()
    }

    /// Returns every time that is stored anywhere.
    pub(super) fn times(&self) -> BTreeSet<Timestamp> {
        let cells = self.0.values().flatten().flat_map(BTreeMap::values);
        cells.filter_map(|cell| parse_stamp(cell)).collect()
    }
}

fn is_of(row: &KeptRow, person: &PersonId) -> bool {
    row.get("person_id").is_some_and(|id| id == person.as_str())
}

//! What must be true of a row and of a checkpoint in any engine.

use crate::plan::resource_type::ResourceType;
use crate::plan::row::row_of;

/// A row of a table of resources, or a former version of one.
pub(super) struct StoredRow<'r> {
    pub(super) person: &'r str,
    pub(super) key: &'r str,
    pub(super) content_hash: &'r [u8],
    /// `id`, `version_id`, `last_updated`, `source` and `patient`.
    pub(super) columns: [Option<String>; 5],
    pub(super) resource: &'r str,
}

impl StoredRow<'_> {
    /// Returns what is wrong with it, held against its resource; nothing clinical.
    pub(super) fn fault(self, known: &ResourceType) -> Option<String> {
        let Self { person, key, content_hash, columns, resource } = self;
        let table = &known.table;
        let wrong = |what: &str| Some(format!("{table} {person} {key}: {what}"));
        let Some(again) = row_of(key, resource).filter(|again| again.table == table) else {
            return wrong("resource is none of this table");
        };
        if content_hash != again.content_hash {
            return wrong("content_hash does not match resource");
        }
        let is_same =
            columns == [again.id, again.version_id, again.last_updated, again.source, again.patient];
        if is_same { None } else { wrong("columns do not match resource") }
    }
}

/// Says what is wrong with the checkpoint of a patient.
pub(super) fn pull_fault(person: &str, what: &str) -> String {
    format!("checkpoint of {person}: {what}")
}

/// Says that an analysts' table is not what it should be.
pub(super) fn stale(table: &str) -> String {
    format!("{table} does not hold what its view gives; `views apply` builds it anew")
}

/// Says that the rows of a patient are not counted right.
pub(super) fn miscounted(person: &str) -> String {
    format!("live_resources of {person} is not the number of its rows; `views apply` counts anew")
}

/// Says that something is left of a patient who withdrew.
pub(super) fn left_of_revoked(table: &str, rows: u64, person: &str) -> String {
    format!("{table} holds {rows} rows of {person}, whose consent is withdrawn")
}

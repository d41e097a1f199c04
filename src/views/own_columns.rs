//! The columns of the tables that no ViewDefinition tells: `persons`, `codings`, `freshness` and
//! `analyst_column`; and those that every table has.

use std::sync::LazyLock;

use super::{Column, Declared, Index};

/// Written as `name`, `declared`, `description` and `path`; a boolean is an integer of 0 and 1.
struct Written(&'static str, Kept, &'static str, &'static str);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Text,
    Real,
    Integer,
    Boolean,
    Date,
    DateTime,
}

use Kept::{Boolean, Date, DateTime, Integer, Real, Text};

fn columns(written: &[Written]) -> Vec<Column> {
    let column = |Written(name, kept, description, path): &Written| Column {
        name: (*name).to_owned(),
        declared: match kept {
            Text => Declared::Text,
            Real => Declared::Real,
            Integer | Boolean => Declared::Integer,
            Date => Declared::Date,
            DateTime => Declared::DateTime,
        },
        boolean: *kept == Boolean,
        collection: false,
        index: Index::None,
        description: Some((*description).to_owned()),
        path: (*path).to_owned(),
    };
    written.iter().map(column).collect()
}

/// What the rows of a table made of resources begin with.
pub(super) static OWNER: LazyLock<Vec<Column>> = LazyLock::new(|| {
    columns(&[
        Written("person_id", Text, "the roster's id of the patient the row was received for", ""),
        Written("key", Text, "the resource's key in the table of its type", ""),
    ])
});

/// What they end with.
pub(super) static CHANGED_AT: LazyLock<Vec<Column>> = LazyLock::new(|| {
    columns(&[Written("changed_at", DateTime, "when the warehouse last changed the resource, in UTC", "")])
});

/// Of `codings`, between those.
pub(super) static CODINGS: LazyLock<Vec<Column>> = LazyLock::new(|| {
    columns(&[
        Written("resource_type", Text, "Observation, Condition, …", "resourceType"),
        Written("element", Text, "where it stands: code, component.code, valueCodeableConcept, …", ""),
        Written("system", Text, "the code system", "system"),
        Written("code", Text, "the code", "code"),
        Written("display", Text, "the code in words", "display"),
        Written("user_selected", Boolean, "1 where a person chose this coding", "userSelected"),
        Written("text", Text, "of the concept around it", "text"),
        Written("source", Text, "where the resource is from", "meta.source"),
    ])
});

/// Of `persons`, behind `person_id`.
pub(super) static PERSONS: LazyLock<Vec<Column>> = LazyLock::new(|| {
    columns(&[
        Written("birth_date", Date, "what most of the Patients say", "Patient.birthDate"),
        Written(
            "sex",
            Text,
            "male, female, other or unknown: what most of the Patients say",
            "Patient.gender",
        ),
        Written(
            "deceased",
            Boolean,
            "1 where any Patient says so; NULL where none says anything",
            "Patient.deceased",
        ),
        Written("deceased_date", Date, "what most of the Patients say", "Patient.deceased"),
        Written(
            "family",
            Text,
            "of the name in use now, of the Patient that changed last",
            "Patient.name.family",
        ),
        Written("given", Text, "of the same name", "Patient.name.given"),
        Written(
            "races",
            Text,
            "all OMB categories of all Patients, sorted, ; between them",
            "Patient.extension",
        ),
        Written(
            "ethnicity",
            Text,
            "Hispanic or Latino, Not Hispanic or Latino, or as sent",
            "Patient.extension",
        ),
        Written("postal_code", Text, "of the address in use now", "Patient.address.postalCode"),
        Written("patients", Integer, "how many Patients there are", ""),
        Written(
            "first_date",
            Date,
            "the first day on which something was done, measured or written down",
            "",
        ),
        Written("last_date", Date, "the last such day", ""),
        Written("source", Text, "where a Patient is from", "Patient.meta.source"),
        Written("changed_at", DateTime, "when the warehouse last changed one of the Patients, in UTC", ""),
    ])
});

/// Of the view `freshness`.
pub(super) static FRESHNESS: LazyLock<Vec<Column>> = LazyLock::new(|| {
    columns(&[
        Written("person_id", Text, "the roster's id", ""),
        Written("label", Text, "the roster's label", ""),
        Written("state", Text, "new, active, failing, not_found, refused, held or paused", ""),
        Written(
            "is_complete",
            Boolean,
            "0 until the first full pull is done, and while the patient is short",
            "",
        ),
        Written("types", Text, "the types that are pulled; NULL for all", ""),
        Written("deletions_seen_at", Text, "when a full pull last looked for what had vanished", ""),
        Written("short_by", Integer, "how many entries the server counts more than it sends", ""),
        Written("watermark", Text, "up to when changes are known", ""),
        Written("last_success_at", Text, "when a pull last ended well", ""),
        Written("age_hours", Real, "how long ago that is", ""),
        Written("live_resources", Integer, "resources that are not marked as deleted", ""),
        Written("quarantined", Integer, "entries that could not be stored as what they claim to be", ""),
        Written("first_full_pull_completed", Boolean, "1 once it is", ""),
    ])
});

/// Of `analyst_column`.
pub(super) static ANALYST_COLUMN: LazyLock<Vec<Column>> = LazyLock::new(|| {
    columns(&[
        Written("table_name", Text, "the table", ""),
        Written("position", Integer, "1, 2, … of its columns", ""),
        Written("column_name", Text, "the column", ""),
        Written("type", Text, "TEXT, INTEGER, REAL, BOOLEAN (0 and 1), DATE or DATETIME", ""),
        Written("description", Text, "what it holds", ""),
        Written("path", Text, "where it is from, as a FHIRPath expression", ""),
    ])
});

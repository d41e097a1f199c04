//! The table that rows of resources are kept in: its CREATE, its indexes and its INSERT, as text.
//!
//! Promise: readable by SQLite 3.34 and by DuckDB: no STRICT, no generated columns, nothing
//! of ours. Rows have no key of their own: a resource may give several or none, and they are
//! replaced as a whole, by `person_id` and `key`.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use xxhash_rust::xxh3::xxh3_128;

use super::medicines;
use crate::plan::resource_type::ResourceType;
use crate::plan::{Timestamp, stamp};
use crate::views::{AnalystTable, Cell, Column, Declared, Index, Made, RowSource, SOURCE_HASH};
use crate::warehouse::days::days_of;

/// When a row's resource was last changed here: the last column, unless a user's view has one of its own.
const CHANGED_AT: &str = "changed_at";

/// One table, and the texts that make and keep it.
#[derive(Debug)]
pub(super) struct ViewTable {
    pub(super) name: String,
    pub(super) source: RowSource,
    /// The table of the resources that it is made of; `None` if it is made of all.
    pub(super) source_table: Option<String>,
    /// The table, and the indexes that filling in medicines uses.
    pub(super) create: String,
    /// The index that finds the rows of a resource, made once something may have to be found by it.
    pub(super) resource_index: String,
    /// The indexes that queries use, made once there are rows.
    pub(super) late_indexes: String,
    /// Takes a person, a key, the cells of one row and, where there is a column for it, when it changed.
    pub(super) insert_row: String,
    pub(super) has_changed_at: bool,
    /// The columns with a person's days, by their places.
    pub(super) days: Vec<usize>,
    /// What the rows depend on, hashed: the definition, the table, and the evaluator's source.
    pub(super) definition: String,
}

impl ViewTable {
    /// Returns the table where it is made of resources.
    pub(super) fn of(table: &AnalystTable) -> Option<Self> {
        let Made::Of(source) = &table.made else { return None };
        let (name, columns) = (&table.name, source.columns());
        let has_changed_at = !columns.iter().any(|column| column.name.eq_ignore_ascii_case(CHANGED_AT));
        let create = create(name, columns, has_changed_at) + &medicines::indexes(name);
        let resource_index =
            format!("CREATE INDEX IF NOT EXISTS \"{name}_of_resource\" ON \"{name}\" (person_id, \"key\");");
        let late_indexes = late_indexes(name, source);
        let cells: Vec<_> =
            (1..=columns.len() + 2 + usize::from(has_changed_at)).map(|at| format!("?{at}")).collect();
        Some(Self {
            name: name.clone(),
            source: source.clone(),
            source_table: source.resource_type().map(|name| {
                ResourceType::by_name(name).map_or_else(String::new, |known| known.table.clone())
            }),
            insert_row: format!("INSERT INTO \"{name}\" VALUES ({})", cells.join(", ")),
            definition: hash(&[&table.definition, &create, &resource_index, &late_indexes, SOURCE_HASH]),
            create,
            resource_index,
            late_indexes,
            has_changed_at,
            days: days_of(name, columns),
        })
    }

    /// Returns whether `persons` is made of it.
    pub(super) fn concerns_persons(&self) -> bool {
        self.name == "patients" || !self.days.is_empty()
    }

    /// Returns whether it is made of the resources of a table.
    pub(super) fn is_of(&self, source_table: &str) -> bool {
        self.source_table.as_deref().is_none_or(|of| of == source_table)
    }

    /// What tells the rows of one source from those of another that have the same key.
    pub(super) fn of_source(&self, source_table: &str) -> String {
        match (&self.source_table, ResourceType::by_table(source_table)) {
            (None, Some(known)) => format!(" AND resource_type = '{}'", known.name),
            _ => String::new(),
        }
    }
}

/// A view of the rows of `observations` that are of one category: plain columns and a filter, which
/// DuckDB reads as SQLite does.
#[derive(Debug)]
pub(super) struct CategoryView {
    pub(super) name: String,
    pub(super) create: String,
    pub(super) definition: String,
}

impl CategoryView {
    /// Returns the view where the table is one; its columns are those of `observations`.
    pub(super) fn of(table: &AnalystTable, observations: &ViewTable) -> Option<Self> {
        let Made::Category(category) = table.made else { return None };
        let own = ["person_id", "key"].into_iter();
        let columns = own.chain(observations.source.columns().iter().map(|column| column.name.as_str()));
        let columns: Vec<_> = columns.chain([CHANGED_AT]).map(|name| format!("\"{name}\"")).collect();
        let create = format!(
            "CREATE VIEW \"{}\" AS SELECT {} FROM \"{}\" WHERE category = '{category}'",
            table.name,
            columns.join(", "),
            observations.name
        );
        Some(Self { name: table.name.clone(), definition: hash(&[&create]), create })
    }
}

/// Writes a time as the analysts' tables have it: in UTC, and read by SQLite, DuckDB, pandas and R alike.
pub(super) fn analysts_time(now: Timestamp) -> String {
    analysts_spelling(&stamp(now))
}

/// Spells one of the warehouse's own times as the analysts' tables have it.
pub(super) fn analysts_spelling(stamp: &str) -> String {
    stamp.trim_end_matches('Z').replace('T', " ")
}

pub(super) fn hash(texts: &[&str]) -> String {
    format!("{:032x}", xxh3_128(texts.join("\n").as_bytes()))
}

fn create(name: &str, columns: &[Column], has_changed_at: bool) -> String {
    let mut lines = vec!["  person_id TEXT NOT NULL".to_owned(), "  \"key\" TEXT NOT NULL".to_owned()];
    for Column { name, declared, .. } in columns {
        lines.push(format!("  \"{name}\" {}", declared.sql()));
    }
    if has_changed_at {
        lines.push(format!("  {CHANGED_AT} {} NOT NULL", Declared::DateTime.sql()));
    }
    format!("CREATE TABLE \"{name}\" (\n{}\n);", lines.join(",\n"))
}

fn late_indexes(name: &str, source: &RowSource) -> String {
    let index = |suffix: &str, columns: &str| {
        format!("CREATE INDEX IF NOT EXISTS \"{name}_by_{suffix}\" ON \"{name}\" ({columns});\n")
    };
    let of_column = |column: &Column| match column.index {
        Index::None => String::new(),
        Index::Single => index(&column.name, &format!("\"{}\"", column.name)),
        Index::OfPerson => {
            index(&format!("person_{}", column.name), &format!("person_id, \"{}\"", column.name))
        }
    };
    match source {
        RowSource::View(view) => view.columns.iter().map(of_column).collect(),
        RowSource::Codings => index("code", "code, system"),
    }
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Boolean(value) => ValueRef::Integer(i64::from(*value)),
            Self::Real(number, _) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plan::table_set::TableSet;
    use crate::views::{View, ViewDefinition, analyst_tables};

    #[test]
    fn nothing_newer_than_sqlite_3_34_is_written() {
        let all = analyst_tables(&TableSet::ALL.map(|(_, set)| set), None).tables;
        let tables: Vec<ViewTable> = all.iter().filter_map(ViewTable::of).collect();
        let observations = tables.iter().find(|table| table.name == "observations").unwrap();
        let views = all.iter().filter_map(|table| CategoryView::of(table, observations));
        let views: Vec<String> = views.map(|view| view.create).collect();
        assert_eq!(views.len(), 2);
        for table in &tables {
            assert!(
                table.resource_index.contains("_of_resource") && table.late_indexes.contains("_by_"),
                "{}",
                table.name
            );
        }
        for text in tables
            .iter()
            .flat_map(|table| [&table.create, &table.resource_index, &table.late_indexes])
            .chain(&views)
        {
            for newer in ["STRICT", "GENERATED", "->", "jsonb"] {
                assert!(!text.contains(newer), "{text}: {newer}");
            }
        }
    }

    #[test]
    fn a_table_depends_on_its_definition_to_the_letter() {
        let definition = r#"{"resource":"Patient","select":[{"column":[{"name":"c","path":"id"}]}]}"#;
        let hash = |definition: &str| {
            let view = View::compile(&ViewDefinition::parse(definition).unwrap()).unwrap();
            let made = Made::Of(RowSource::View(Arc::new(view)));
            let table = AnalystTable { name: "own".to_owned(), made, definition: definition.to_owned() };
            ViewTable::of(&table).unwrap().definition
        };
        assert_eq!(hash(definition), hash(definition));
        assert_ne!(hash(definition), hash(&definition.replace("\"id\"", "\"gender\"")));
    }
}

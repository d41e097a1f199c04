//! The table a view's rows are kept in: its CREATE, its indexes and its INSERT, as text.
//!
//! Promise: readable by SQLite 3.34 and by DuckDB: no STRICT, no generated columns, nothing
//! of ours. Rows have no key of their own: a resource may give several or none, and they are
//! replaced as a whole, by `person_id` and `key`.

use std::sync::Arc;

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use xxhash_rust::xxh3::xxh3_128;

use crate::plan::resource_type::ResourceType;
use crate::views::{AnalystTable, Cell, Column, Index, SOURCE_HASH, View};

/// One view, and the texts that make and keep its table.
#[derive(Debug)]
pub(super) struct ViewTable {
    pub(super) name: String,
    pub(super) view: Arc<View>,
    /// The table of the resources that it is made of.
    pub(super) source_table: String,
    /// The table, and the index that updates and purges use.
    pub(super) create: String,
    /// The indexes that queries use, made once there are rows.
    pub(super) late_indexes: String,
    /// Takes a person, a key and the cells of one row.
    pub(super) insert_row: String,
    /// What the rows depend on, hashed: the definition, the table, and the evaluator's source.
    pub(super) definition: String,
}

impl ViewTable {
    pub(super) fn of(table: &AnalystTable) -> Self {
        let AnalystTable { name, view, definition } = table;
        let (create, late_indexes) = (create(name, &view.columns), late_indexes(name, &view.columns));
        let cells: Vec<_> = (1..=view.columns.len() + 2).map(|at| format!("?{at}")).collect();
        let hashed = [definition.as_str(), &create, &late_indexes, SOURCE_HASH].join("\n");
        Self {
            name: name.clone(),
            view: view.clone(),
            source_table: ResourceType::by_name(view.resource_type)
                .map_or_else(String::new, |known| known.table.clone()),
            create,
            late_indexes,
            insert_row: format!("INSERT INTO \"{name}\" VALUES ({})", cells.join(", ")),
            definition: format!("{:032x}", xxh3_128(hashed.as_bytes())),
        }
    }
}

fn create(name: &str, columns: &[Column]) -> String {
    let mut lines = vec!["  person_id TEXT NOT NULL".to_owned(), "  \"key\" TEXT NOT NULL".to_owned()];
    for Column { name, declared, .. } in columns {
        lines.push(format!("  \"{name}\" {}", declared.sql()));
    }
    format!(
        "CREATE TABLE \"{name}\" (\n{}\n);\nCREATE INDEX \"{name}_of_resource\" ON \"{name}\" (person_id, \"key\");",
        lines.join(",\n")
    )
}

fn late_indexes(name: &str, columns: &[Column]) -> String {
    let indexed = columns.iter().filter(|column| column.index == Index::Single);
    let create = |column: &Column| {
        format!("CREATE INDEX IF NOT EXISTS \"{name}_by_{0}\" ON \"{name}\" (\"{0}\");\n", column.name)
    };
    indexed.map(create).collect()
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
    use super::*;
    use crate::views::{View, ViewDefinition, catalogue};

    #[test]
    fn nothing_newer_than_sqlite_3_34_is_written() {
        for built_in in catalogue() {
            let view = built_in.view().unwrap().clone();
            let (name, definition) = (built_in.name.to_owned(), built_in.json.to_owned());
            let table = ViewTable::of(&AnalystTable { name, view, definition });
            let text = table.create + &table.late_indexes;
            for newer in ["STRICT", "GENERATED", "->", "jsonb"] {
                assert!(!text.contains(newer), "{}: {newer}", built_in.name);
            }
            assert!(text.contains("_of_resource") && text.contains("_by_"), "{text}");
        }
    }

    #[test]
    fn a_table_depends_on_its_definition_to_the_letter() {
        let definition = r#"{"resource":"Patient","select":[{"column":[{"name":"c","path":"id"}]}]}"#;
        let hash = |definition: &str| {
            let view = View::compile(&ViewDefinition::parse(definition).unwrap()).unwrap();
            let (name, view) = ("own".to_owned(), Arc::new(view));
            ViewTable::of(&AnalystTable { name, view, definition: definition.to_owned() }).definition
        };
        assert_eq!(hash(definition), hash(definition));
        assert_ne!(hash(definition), hash(&definition.replace("\"id\"", "\"gender\"")));
    }
}

//! The table a view's rows are kept in: its CREATE, its indexes and its INSERTs, as text.
//!
//! Promise: readable by SQLite 3.34 and by DuckDB: no STRICT, no generated columns, nothing
//! of ours. Rows have no key of their own: a resource may give several or none, and they are
//! replaced as a whole, by `person_id` and `key`.

use crate::views::{AnalystTable, Column, Index};

/// One view, as the texts that make and keep its table.
#[derive(Clone, Debug)]
pub(super) struct ViewTable {
    pub(super) name: String,
    /// The R4 type, and the table of it that the view reads.
    pub(super) resource_type: String,
    pub(super) source_table: String,
    /// The table and its indexes.
    pub(super) create: Vec<String>,
    /// Fills the table from all resources.
    pub(super) insert_all: String,
    /// Takes the cells of one row of `select`.
    pub(super) insert_row: String,
    pub(super) select: String,
}

impl ViewTable {
    pub(super) fn of(table: &AnalystTable) -> Self {
        let AnalystTable { name, view } = table;
        let target = target(name, &view.columns);
        let cells: Vec<_> = (1..=view.columns.len() + 2).map(|at| format!("?{at}")).collect();
        Self {
            name: name.clone(),
            resource_type: view.resource_type.clone(),
            source_table: view.table.clone(),
            create: create(name, &view.columns),
            // OR FAIL: SQLite need not be ready to take back the rows of half a statement. A view that
            // fails is built anew as a whole.
            insert_all: format!("INSERT OR FAIL INTO {target}\n{}", view.select),
            insert_row: format!("INSERT INTO {target} VALUES ({})", cells.join(", ")),
            select: view.select.clone(),
        }
    }
}

fn create(name: &str, columns: &[Column]) -> Vec<String> {
    let mut lines = vec!["  person_id TEXT NOT NULL".to_owned(), "  \"key\" TEXT NOT NULL".to_owned()];
    for Column { name, declared, .. } in columns {
        lines.push(format!("  \"{name}\" {}", declared.sql()));
    }
    let mut statements = vec![
        format!("CREATE TABLE \"{name}\" (\n{}\n)", lines.join(",\n")),
        format!("CREATE INDEX \"{name}_of_resource\" ON \"{name}\" (person_id, \"key\")"),
    ];
    let indexed = columns.iter().filter(|column| column.index == Index::Single);
    statements.extend(
        indexed.map(|column| format!("CREATE INDEX \"{name}_by_{0}\" ON \"{name}\" (\"{0}\")", column.name)),
    );
    statements
}

fn target(name: &str, columns: &[Column]) -> String {
    let mut names = vec!["person_id".to_owned(), "\"key\"".to_owned()];
    names.extend(columns.iter().map(|column| format!("\"{}\"", column.name)));
    format!("\"{name}\" ({})", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::catalogue;

    #[test]
    fn nothing_newer_than_sqlite_3_34_is_written() {
        for built_in in catalogue() {
            let view = built_in.sql().unwrap().clone();
            let table = ViewTable::of(&AnalystTable { name: built_in.name.to_owned(), view });
            let text = table.create.join(";");
            for newer in ["STRICT", "GENERATED", "->", "jsonb"] {
                assert!(!text.contains(newer), "{}: {newer}", built_in.name);
            }
        }
    }
}

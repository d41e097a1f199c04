//! The table a view's rows are kept in: its CREATE, its indexes and its INSERTs, as text.
//!
//! Promise: readable by SQLite 3.34 and by DuckDB: no STRICT, no generated columns, nothing
//! of ours. Rows have no key of their own: a resource may give several or none, and they are
//! replaced as a whole, by `person_id` and `key`.

use super::{Column, Index, Sql};

/// One view, as the texts that make and keep its table.
#[derive(Clone, Debug)]
pub struct AnalystTable {
    pub name: String,
    /// The R4 type, and the table of it that the view reads.
    pub resource_type: String,
    pub source_table: String,
    /// The table and its indexes.
    pub create: Vec<String>,
    pub insert_all: String,
    /// Takes the cells of one row of `select`.
    pub insert_row: String,
    pub select: String,
}

impl Sql {
    /// The statements that make the table `name` and its indexes. `name` is a view's name.
    pub fn create(&self, name: &str) -> Vec<String> {
        let mut lines = vec!["  person_id TEXT NOT NULL".to_owned(), "  \"key\" TEXT NOT NULL".to_owned()];
        for Column { name, declared, .. } in &self.columns {
            lines.push(format!("  \"{name}\" {}", declared.sql()));
        }
        let mut statements = vec![
            format!("CREATE TABLE \"{name}\" (\n{}\n)", lines.join(",\n")),
            format!("CREATE INDEX \"{name}_of_resource\" ON \"{name}\" (person_id, \"key\")"),
        ];
        let indexed = self.columns.iter().filter(|column| column.index == Index::Single);
        statements
            .extend(indexed.map(|column| {
                format!("CREATE INDEX \"{name}_by_{0}\" ON \"{name}\" (\"{0}\")", column.name)
            }));
        statements
    }

    /// Fills the table `name` from all resources.
    pub fn insert_all(&self, name: &str) -> String {
        // OR FAIL: SQLite need not be ready to take back the rows of half a statement. A view that
        // fails is built anew as a whole.
        format!("INSERT OR FAIL INTO {}\n{}", self.target(name), self.select)
    }

    /// Adds one row of the SELECT, whose cells it takes, to the table `name`.
    pub fn insert_row(&self, name: &str) -> String {
        let cells: Vec<_> = (1..=self.columns.len() + 2).map(|at| format!("?{at}")).collect();
        format!("INSERT INTO {} VALUES ({})", self.target(name), cells.join(", "))
    }

    fn target(&self, name: &str) -> String {
        let mut columns = vec!["person_id".to_owned(), "\"key\"".to_owned()];
        columns.extend(self.columns.iter().map(|column| format!("\"{}\"", column.name)));
        format!("\"{name}\" ({})", columns.join(", "))
    }
}

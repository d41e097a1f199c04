//! The table `analyst_column`: what every column is, as this program knows it.

use rusqlite::{Connection, params};

use super::view_build::note;
use super::view_table::hash;
use crate::plan::Timestamp;
use crate::views::{AnalystTable, TableFacts, describe};
use crate::warehouse::failure::StoreFailed;

pub(super) const NAME: &str = "analyst_column";

/// What there is to tell, and a hash of it.
#[derive(Debug, Default)]
pub(super) struct Facts {
    tables: Vec<TableFacts>,
    pub(super) definition: String,
}

impl Facts {
    pub(super) fn of(tables: &[AnalystTable]) -> Self {
        let tables = describe(tables);
        let definition = hash(&[&format!("{tables:?}")]);
        Self { tables, definition }
    }

    pub(super) fn store(&self, connection: &Connection, now: Timestamp) -> Result<(), StoreFailed> {
        connection.execute("DELETE FROM analyst_column", [])?;
        let mut insert = connection.prepare("INSERT INTO analyst_column VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        for table in &self.tables {
            for (position, column) in (1..).zip(&table.columns) {
                let row =
                    params![table.name, position, column.name, column.kind, column.description, column.path];
                insert.execute(row)?;
            }
        }
        note(connection, NAME, "", &self.definition, now)
    }
}

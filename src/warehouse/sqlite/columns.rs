//! A row's columns by their names, which are looked for once a statement: SQLite compares a name with those
//! of all columns for each value of each row.

use std::collections::HashMap;

use rusqlite::types::FromSql;
use rusqlite::{Error, Row, Statement};

/// Where the columns of a statement are.
pub(super) struct Columns(HashMap<String, usize>);

/// A row whose columns are known.
#[derive(Clone, Copy)]
pub(super) struct NamedRow<'n, 'r> {
    row: &'n Row<'r>,
    columns: &'n Columns,
}

impl Columns {
    pub(super) fn of(statement: &Statement<'_>) -> Self {
        Self(statement.column_names().map(str::to_owned).zip(0..).collect())
    }

    pub(super) fn row<'n, 'r>(&'n self, row: &'n Row<'r>) -> NamedRow<'n, 'r> {
        NamedRow { row, columns: self }
    }
}

impl NamedRow<'_, '_> {
    pub(super) fn get<T: FromSql>(self, name: &str) -> rusqlite::Result<T> {
        let place = self.columns.0.get(name).ok_or_else(|| Error::InvalidColumnName(name.to_owned()))?;
        self.row.get(*place)
    }

    /// Reads a column that a file may lack until the next cycle migrates it.
    pub(super) fn get_new<T: FromSql>(self, name: &str) -> rusqlite::Result<Option<T>> {
        if self.columns.0.contains_key(name) { self.get(name) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn a_column_is_found_by_its_name_and_a_new_one_may_be_lacking() {
        let connection = Connection::open_in_memory().unwrap();
        let mut statement = connection.prepare("SELECT 1 AS one, NULL AS two, 'x' AS three").unwrap();
        let columns = Columns::of(&statement);
        let mut rows = statement.query([]).unwrap();
        let row = columns.row(rows.next().unwrap().unwrap());
        assert_eq!(row.get::<i64>("one"), Ok(1));
        assert_eq!(row.get_new::<String>("two"), Ok(None));
        assert_eq!(row.get_new::<String>("three"), Ok(Some("x".to_owned())));
        assert_eq!(row.get_new::<String>("four"), Ok(None));
        assert_eq!(row.get::<i64>("four"), Err(Error::InvalidColumnName("four".to_owned())));
    }
}

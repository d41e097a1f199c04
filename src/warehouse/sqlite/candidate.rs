//! SQLite's part in the conformance suite: a file in a folder of its own, and all that is in it.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::plan::table_set::TableSet;
use crate::views;
use crate::warehouse::conformance::{Candidate, Kept, KeptRow};
use crate::warehouse::place::{Location, Place};

pub(in crate::warehouse) struct SqliteCandidate {
    place: Place,
    _folder: TempDir,
}

impl Candidate for SqliteCandidate {
    fn new(base_url: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Place {
            location: Location::File(folder.path().join("warehouse.db")),
            base_url: base_url.to_owned(),
            group: None,
            ledger: None,
            history: true,
            views: views::analyst_tables(&[TableSet::Clinical], None).tables.into(),
        };
        Self { place, _folder: folder }
    }

    fn place(&self) -> &Place {
        &self.place
    }

    fn kept(&self) -> Kept {
        if !self.place.path().exists() {
            return Kept::default();
        }
        let connection =
            Connection::open_with_flags(self.place.path(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        let mut tables = connection
            .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
            .unwrap();
        let names = tables.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap);
        Kept(names.map(|name| (name.clone(), rows_of(&connection, &name))).collect())
    }
}

fn rows_of(connection: &Connection, table: &str) -> Vec<KeptRow> {
    let mut statement = connection.prepare(&format!("SELECT * FROM \"{table}\"")).unwrap();
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut found = statement.query([]).unwrap();
    let mut rows = Vec::new();
    while let Some(row) = found.next().unwrap() {
        let cells = columns.iter().enumerate();
        let cells = cells.filter_map(|(at, name)| Some((name.clone(), text_of(row.get_ref(at).unwrap())?)));
        rows.push(cells.collect());
    }
    rows.sort();
    rows
}

fn text_of(cell: ValueRef<'_>) -> Option<String> {
    match cell {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(text) => Some(String::from_utf8(text.to_vec()).unwrap()),
        ValueRef::Blob(bytes) => Some(format!("{bytes:02x?}")),
    }
}

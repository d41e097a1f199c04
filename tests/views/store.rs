//! A small warehouse for the tests of views, with one table a resource type.

use healthex_sync::views::{Sql, table_of};
use rusqlite::Connection;
use rusqlite::types::Value as SqlValue;
use serde_json::Value;

/// In memory.
pub(crate) struct Store(pub(crate) Connection);

impl Store {
    pub(crate) fn new() -> Self {
        Self(Connection::open_in_memory().unwrap())
    }

    pub(crate) fn table(&self, table: &str) {
        let sql = format!(
            "CREATE TABLE IF NOT EXISTS \"{table}\" (person_id TEXT NOT NULL, \"key\" TEXT NOT NULL, \
             resource TEXT NOT NULL, deleted_at TEXT, PRIMARY KEY (person_id, \"key\"))"
        );
        self.0.execute_batch(&sql).unwrap();
    }

    /// Stores text as the resource, JSON or not.
    pub(crate) fn put(&self, resource_type: &str, key: &str, resource: &str) {
        let table = table_of(resource_type);
        self.table(&table);
        let sql = format!(
            "INSERT OR REPLACE INTO \"{table}\" (person_id, \"key\", resource) VALUES ('anna', ?, ?)"
        );
        self.0.prepare_cached(&sql).unwrap().execute((key, resource)).unwrap();
    }

    /// Stores one resource; those without a type are left out.
    pub(crate) fn add(&self, number: usize, resource: &Value) {
        if let Some(resource_type) = resource["resourceType"].as_str() {
            self.put(resource_type, &format!("{resource_type}/#{number}"), &resource.to_string());
        }
    }

    /// All rows of a view, without `person_id` and `key`.
    pub(crate) fn rows(&self, sql: &Sql) -> rusqlite::Result<Vec<Vec<SqlValue>>> {
        self.table(&sql.table);
        let mut statement = self.0.prepare(&sql.select)?;
        let columns = 2..statement.column_count();
        statement.query_map([], |row| columns.clone().map(|at| row.get(at)).collect())?.collect()
    }
}

//! What the tests of the views share: the data beside the project, and a small warehouse.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::PathBuf;

use healthex_sync::views::{Sql, table_of};
use rand::Rng;
use rand::rngs::StdRng;
use rusqlite::Connection;
use rusqlite::types::Value as SqlValue;
use serde_json::Value;

/// A folder of the shared data, or `None` (with a word about it) where it is not there.
pub(crate) fn shared(path: &str) -> Option<PathBuf> {
    let roots = [
        std::env::var_os("HEALTHEX_SHARED").map(PathBuf::from),
        Some(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared"))),
        Some(PathBuf::from("/work/shared")),
    ];
    let found =
        roots.into_iter().flatten().map(|root| root.join("data").join(path)).find(|full| full.exists());
    if found.is_none() {
        eprintln!("skipped: shared/data/{path} is not here; set HEALTHEX_SHARED");
        assert!(
            std::env::var_os("HEALTHEX_SYNC_REQUIRE_ALL").is_none(),
            "HEALTHEX_SYNC_REQUIRE_ALL forbids skipping"
        );
    }
    found
}

/// A warehouse in memory with one table a resource type.
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

/// The resources of Synthea's patients.
pub(crate) fn synthea() -> Vec<Value> {
    let Some(folder) = shared("patients") else {
        return Vec::new();
    };
    let mut resources = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let bundle: Value = if path.extension().is_some_and(|end| end == "gz") {
            serde_json::from_reader(flate2::read::GzDecoder::new(bytes.as_slice())).unwrap()
        } else {
            serde_json::from_slice(&bytes).unwrap()
        };
        resources.extend(bundle["entry"].as_array().unwrap().iter().map(|entry| entry["resource"].clone()));
    }
    resources
}

/// The resources of a folder with one JSON file each.
pub(crate) fn examples(folder: &str) -> Vec<Value> {
    let Some(folder) = shared(folder) else {
        return Vec::new();
    };
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    files.iter().map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect()
}

/// A random value in `value`: one step deeper with the chance `deeper`, and again.
pub(crate) fn somewhere_inside<'v>(value: &'v mut Value, deeper: f64, random: &mut StdRng) -> &'v mut Value {
    let children = match value {
        Value::Object(members) => members.len(),
        Value::Array(elements) => elements.len(),
        _ => 0,
    };
    if children == 0 || !random.random_bool(deeper) {
        return value;
    }
    let chosen = random.random_range(0..children);
    let child = match value {
        Value::Object(members) => members.values_mut().nth(chosen),
        Value::Array(elements) => elements.get_mut(chosen),
        _ => None,
    };
    somewhere_inside(child.unwrap(), deeper, random)
}

pub(crate) fn table_text(resource: &Value) -> String {
    resource.to_string()
}

//! The schema, as text: what makes a warehouse in an empty database.

use super::tables::fill_in;
use crate::plan::resource_type::ResourceType;

/// Returns what makes a schema of this name with all tables of resources: nobody who pulls may make any.
pub(super) fn text(schema: &str, version: i64) -> String {
    let tables = ResourceType::all()
        .map(|known| fill_in(include_str!("../../../schema/postgres/resource_table.sql"), &known.table));
    let tables: String = tables.collect();
    format!(
        "CREATE SCHEMA {schema};\nSET search_path = {schema};\n{}\n{tables}\nINSERT INTO migration (version) VALUES ({version});\n",
        include_str!("../../../schema/postgres/0001_warehouse.sql")
    )
}

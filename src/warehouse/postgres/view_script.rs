//! The analysts' tables of a warehouse without rows, as text. What fills those of another is `view_build`.

use super::analyst_tables::AnalystTables;
use super::view_table::create_persons;
use super::{persons, schema};
use crate::views::ColumnFacts;

/// Returns the statements, with `now` as an expression.
pub(super) fn first_views(tables: &AnalystTables, now: &str) -> String {
    let mut each = String::new();
    let mut add = |name: &str, create: &str, resource: &str, definition: &str| {
        let text = schema::without_comments(include_str!("../../../schema/postgres/first_view.sql"));
        let text = text.replace("{name}", name).replace("{resource}", resource);
        each += &text.replace("{definition}", definition).replace("{create}", create);
    };
    for table in &tables.known {
        let create = format!("{}\n{}", table.create(&table.name), table.late_indexes(&table.name));
        add(&table.name, &create, table.source.resource_type().unwrap_or_default(), &table.definition);
    }
    if let Some(all) = &tables.persons {
        add(persons::NAME, &create_persons(persons::NAME), "", &all.definition);
    }
    for view in &tables.categories {
        add(&view.name, &format!("{};", view.create), "Observation", &view.definition);
    }
    include_str!("../../../schema/postgres/first_views.sql")
        .replace("{columns}", &columns(tables))
        .replace("{definition}", &tables.facts_definition())
        .replace("{tables}", &each)
        .replace("{now}", now)
}

/// Returns what notes the columns, with the values in it.
fn columns(tables: &AnalystTables) -> String {
    let of_table = tables.facts.iter();
    let all: Vec<_> = of_table
        .flat_map(|table| (1..).zip(&table.columns).map(|(position, column)| (&table.name, position, column)))
        .collect();
    let list = |cell: &dyn Fn(&(&String, i64, &ColumnFacts)) -> String| -> String {
        all.iter().map(cell).collect::<Vec<_>>().join(", ")
    };
    let arrays = [
        format!("ARRAY[{}]::text[]", list(&|(table, ..)| quoted(table))),
        format!("ARRAY[{}]::bigint[]", list(&|(_, position, _)| position.to_string())),
        format!("ARRAY[{}]::text[]", list(&|(.., column)| quoted(&column.name))),
        format!("ARRAY[{}]::text[]", list(&|(.., column)| quoted(&column.description))),
        format!("ARRAY[{}]::text[]", list(&|(.., column)| quoted(&column.path))),
    ];
    let text = schema::without_comments(include_str!("../../../schema/postgres/note_columns.sql"));
    text.replace("$1, $2, $3, $4, $5", &arrays.join(", "))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

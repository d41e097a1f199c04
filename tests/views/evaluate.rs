//! Views over resources, as the tests ask for them: owned rows, or why there are none.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use healthex_sync::clock;
use healthex_sync::views::{Cell, Dropped, Evaluation, Several, Tape, TapeMemory, View, ViewDefinition};
use serde_json::{Value, json};

/// A row by its columns, as JSON.
pub(crate) type Row = BTreeMap<String, Value>;

pub(crate) fn compiled(definition: &Value) -> Result<View, String> {
    let definition = ViewDefinition::parse(&definition.to_string()).map_err(|refused| refused.to_string())?;
    View::compile(&definition).map_err(|refused| refused.to_string())
}

/// The rows of one resource. What is no JSON gives none.
pub(crate) fn rows_of(view: &View, resource: &str, several: Several) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    dropped_of(view, resource, several, &mut |row| rows.push(row)).map(|_| rows)
}

/// Hands on the rows of one resource; returns what was dropped.
pub(crate) fn dropped_of(
    view: &View,
    resource: &str,
    several: Several,
    take: &mut dyn FnMut(Row),
) -> Result<Dropped, String> {
    let (mut memory, mut dropped) = (TapeMemory::default(), Dropped::default());
    let Ok(tape) = Tape::read(resource, &mut memory) else { return Ok(dropped) };
    let evaluation = Evaluation { now: clock::now(), several };
    let evaluated = view.rows(&tape, evaluation, &mut dropped, &mut |cells| {
        assert_eq!(cells.len(), view.columns.len());
        take(
            view.columns.iter().zip(cells).map(|(column, cell)| (column.name.clone(), value(cell))).collect(),
        );
        ControlFlow::Continue(())
    });
    evaluated.map(|()| dropped).map_err(|failed| failed.to_string())
}

/// The rows of those resources that are of the view's type.
pub(crate) fn rows(view: &View, resources: &[Value]) -> Vec<Row> {
    let of_type = resources.iter().filter(|resource| resource["resourceType"] == view.resource_type);
    of_type.flat_map(|resource| rows_of(view, &resource.to_string(), Several::KeepFirst).unwrap()).collect()
}

fn value(cell: &Cell<'_>) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Integer(number) => json!(number),
        Cell::Boolean(value) => json!(value),
        Cell::Real(number, digits) => {
            assert_eq!(digits.parse(), Ok(*number));
            json!(number)
        }
        Cell::Text(text) => json!(text),
    }
}

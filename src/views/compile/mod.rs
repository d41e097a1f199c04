//! A ViewDefinition to SQL: one SELECT, in three lengths, and the table its rows are kept in.
//!
//! Promise: pure. The same view and target give the same SQL, with no connection, clock or
//! file; whatever is refused is refused here and not when the SQL runs. SQLite 3.34 can run it.
//!
//! Absent on purpose: running it, and dropping or deleting anything. That is `warehouse`'s.

mod eval;
mod functions;
mod node;
mod operators;
mod output;
mod reference;
mod rows;
mod temporal;

use std::collections::BTreeSet;

use self::eval::{Compiler, Focus};
use self::output::OutputColumn;
use self::rows::Branch;
use super::definition::{Filter, ViewDefinition};
use super::refused::Refused;
use super::{Column, Sql, Target, elements, fhirpath, table_of};

/// What every row begins with, so no column of a view may be called that.
const OWN_COLUMNS: [&str; 2] = ["person_id", "key"];

/// Compiles a view, or says which column and expression cannot be.
pub fn compile(view: &ViewDefinition, target: Target) -> Result<Sql, Refused> {
    let Some(resource_type) = elements::resource_type(&view.resource) else {
        return Err(Refused::because(format!("{:?} is not a resource type of FHIR R4", view.resource)));
    };
    let mut compiler = Compiler {
        target,
        constants: &view.constants,
        aliases: 0,
        head: false,
        more: Vec::new(),
        lenient: false,
        place: String::new(),
        notes: Vec::new(),
    };
    let focus = Focus::resource(resource_type);
    let mut filters = Vec::new();
    for filter in &view.filters {
        filters.push(compiler.filter(filter, &focus)?);
    }
    let branches = compiler.selects(&view.select, &focus)?;
    check_columns(&branches)?;

    let table = table_of(resource_type);
    let selects: Vec<_> = branches.iter().map(|branch| one_select(&table, branch, &filters)).collect();
    let columns = branches.first().map(|branch| branch.columns.as_slice()).unwrap_or_default();
    // Reading a step twice, as head and whole, notes it twice.
    compiler.notes.dedup();
    Ok(Sql {
        description: view.description.clone(),
        resource_type: resource_type.to_owned(),
        select: selects.join("\nUNION ALL\n"),
        columns: columns.iter().map(reported).collect(),
        warnings: compiler.notes,
        table,
    })
}

impl Compiler<'_> {
    fn filter(&mut self, filter: &Filter, focus: &Focus) -> Result<String, Refused> {
        let refused = |why: String| Refused::because(format!("where: {why}")).in_expression(&filter.path);
        let expr = fhirpath::parse(&filter.path).map_err(refused)?;
        let before = self.notes.len();
        self.place = format!("where `{}`", filter.path);
        let condition = self.criterion(&expr, focus).map_err(refused)?;
        for note in &mut self.notes[before..] {
            *note = format!("where `{}` {note}", filter.path);
        }
        Ok(condition)
    }
}

fn check_columns(branches: &[Branch]) -> Result<(), Refused> {
    let mut seen: BTreeSet<String> = OWN_COLUMNS.iter().map(|name| (*name).to_owned()).collect();
    let columns = branches.first().map(|branch| branch.columns.as_slice()).unwrap_or_default();
    if columns.is_empty() {
        return Err(Refused::because("it has no columns"));
    }
    // SQLite's names do not differ by case.
    match columns.iter().find(|column| !seen.insert(column.name.to_ascii_lowercase())) {
        None => Ok(()),
        Some(twice) if OWN_COLUMNS.contains(&twice.name.to_ascii_lowercase().as_str()) => {
            Err(Refused::because("every row has a column of that name already").in_column(&twice.name))
        }
        Some(twice) => Err(Refused::because("there are two columns of that name").in_column(&twice.name)),
    }
}

fn one_select(table: &str, branch: &Branch, filters: &[String]) -> String {
    let mut yields = vec!["r.person_id AS person_id".to_owned(), "r.\"key\" AS \"key\"".to_owned()];
    let columns = branch.columns.iter();
    yields.extend(columns.map(|column| format!("{} AS \"{}\"", column.sql, column.name)));
    let mut tables = vec![format!("\"{table}\" AS r")];
    tables.extend_from_slice(&branch.joins);
    let mut conditions =
        vec!["r.deleted_at IS NULL AND r.superseded_at IS NULL".to_owned(), guarded(filters)];
    // The view's own filters are apart from the branch's, to be asked before anything is joined.
    if !branch.conditions.is_empty() {
        conditions.push(guarded(&branch.conditions));
    }
    format!(
        "SELECT {}\n  FROM {}\n WHERE {}",
        yields.join(",\n       "),
        tables.join("\n  "),
        conditions.join("\n   AND "),
    )
}

/// CASE, not AND: only it keeps SQLite from asking what is no JSON for a path.
fn guarded(conditions: &[String]) -> String {
    let all: Vec<_> = conditions.iter().map(|condition| format!("({condition})")).collect();
    let all = if all.is_empty() { "1".to_owned() } else { all.join("\n        AND ") };
    format!("CASE WHEN json_valid(r.resource) THEN {all} END")
}

fn reported(column: &OutputColumn) -> Column {
    Column {
        name: column.name.clone(),
        declared: column.declared,
        boolean: column.boolean,
        collection: column.collection,
        index: column.index,
        description: column.description.clone(),
    }
}

//! Which tables a warehouse keeps: the built-in ones, in sets, and those of a folder of the user's.
//!
//! Promise: a file that cannot be a table is left out and told, with its name and what to
//! change; it never stands in the way of the others. Absent on purpose: the engine, which has the
//! last word when a table is made.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{RowSource, View, ViewDefinition, built_in, catalogue};
use crate::plan::resource_type::ResourceType;
use crate::plan::table_set::TableSet;

/// The warehouse's own tables; those of the resource types are taken too.
const TAKEN: [&str; 20] = [
    "about",
    "analyst_build",
    "analyst_column",
    "analyst_left_out",
    "analyst_table",
    "checkpoint",
    "codings",
    "freshness",
    "history",
    "lab_results",
    "live_resources",
    "persons",
    "pull",
    "purge_log",
    "quarantine",
    "removed",
    "seen",
    "twin",
    "vital_signs",
    "walk",
];

const NAME_LENGTH_MAX: usize = 64;

/// A table that analysts query.
#[derive(Clone, Debug)]
pub struct AnalystTable {
    pub name: String,
    pub made: Made,
    /// What decides its rows beside the evaluator: the ViewDefinition as written.
    pub definition: String,
}

/// What a table is made of.
#[derive(Clone, Debug)]
pub enum Made {
    /// Of resources, one by one.
    Of(RowSource),
    /// Of the rows of `observations` that are of one category: no table, but a view of one.
    Category(&'static str),
    /// Of the other tables: a row for each human.
    Persons,
}

/// The categories that have a view of their own.
const CATEGORIES: [(&str, &str); 2] = [("lab_results", "laboratory"), ("vital_signs", "vital-signs")];

/// Tables that can be kept, and what is wrong with those that are left out.
#[derive(Debug)]
pub struct Loaded {
    pub tables: Vec<AnalystTable>,
    pub refused: Vec<String>,
}

/// The built-in tables of some sets and the user's own, and what is wrong with those that are left out.
pub fn analyst_tables(sets: &[TableSet], folder: Option<&Path>) -> Loaded {
    let (mut tables, mut refused) = (Vec::new(), Vec::new());
    for view in catalogue().iter().filter(|view| sets.contains(&view.set)) {
        match view.view() {
            Ok(compiled) => tables.push(AnalystTable {
                name: view.name.to_owned(),
                made: Made::Of(RowSource::View(compiled.clone())),
                definition: view.json.to_owned(),
            }),
            Err(why) => refused.push(format!("the built-in view {}: {why}", view.name)),
        }
    }
    if sets.contains(&TableSet::Clinical) {
        let table = |name: &str, made, definition: &str| AnalystTable {
            name: name.to_owned(),
            made,
            definition: definition.to_owned(),
        };
        tables.push(table("codings", Made::Of(RowSource::Codings), ""));
        tables.push(table("persons", Made::Persons, ""));
        let whole = built_in("observations").map_or("", |view| view.json);
        tables.extend(CATEGORIES.map(|(name, category)| table(name, Made::Category(category), whole)));
    }
    let (own, own_refused) = own_views(folder);
    tables.extend(own);
    refused.extend(own_refused);
    Loaded { tables, refused }
}

fn own_views(folder: Option<&Path>) -> (Vec<AnalystTable>, Vec<String>) {
    let (mut tables, mut refused) = (Vec::new(), Vec::new());
    let mut names: BTreeSet<String> = catalogue().iter().map(|view| view.name.to_owned()).collect();
    match folder.map_or_else(|| Ok(Vec::new()), definitions_in) {
        Err(why) => refused.push(why),
        Ok(files) => {
            for file in files {
                match own(&file, &mut names) {
                    Ok(table) => tables.push(table),
                    Err(why) => refused.push(format!("{}: {why}", file.display())),
                }
            }
        }
    }
    (tables, refused)
}

/// Reads and compiles one file.
pub fn read(file: &Path) -> Result<View, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    compiled(&text)
}

fn compiled(text: &str) -> Result<View, String> {
    let definition = ViewDefinition::parse(text).map_err(|refused| refused.to_string())?;
    View::compile(&definition).map_err(|refused| match &definition.name {
        Some(name) => format!("view `{name}`, {refused}"),
        None => refused.to_string(),
    })
}

fn definitions_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error: std::io::Error| {
        format!("views.folder {}: {error}; make the folder or take the key out", folder.display())
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn own(file: &Path, names: &mut BTreeSet<String>) -> Result<AnalystTable, String> {
    let definition = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let view = compiled(&definition)?;
    let name = view.name.clone().ok_or("it has no `name`; the table is called by it")?;
    let lower = name.to_ascii_lowercase();
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !plain || !name.starts_with(|first: char| first.is_ascii_alphabetic()) || name.len() > NAME_LENGTH_MAX
    {
        return Err(format!(
            "`name` {name:?}: a table is called by 1 to 64 letters, digits and _, a letter first"
        ));
    }
    if TAKEN.contains(&lower.as_str())
        || lower.starts_with("sqlite_")
        || ResourceType::by_table(&lower).is_some()
    {
        return Err(format!("`name` {name:?}: the warehouse has a table of that name; choose another"));
    }
    if !names.insert(lower) {
        return Err(format!("`name` {name:?}: another view is called that; choose another"));
    }
    if view.depends_on_time {
        return Err(format!(
            "`{name}` asks for today() or now(), which no stored row can keep: `views run` evaluates it"
        ));
    }
    Ok(AnalystTable { name, made: Made::Of(RowSource::View(Arc::new(view))), definition })
}

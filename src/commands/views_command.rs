//! `views`: lists the analysts' tables, says what they hold, builds them anew, and runs views.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Context, ExitStatus, location, place, progress, runtime};
use crate::cli::{ViewsAction, ViewsArgs};
use crate::plan::table_set::TableSet;
use crate::settings::{Complaints, Settings};
use crate::views::{ColumnFacts, Evaluation, Several, TableFacts};
use crate::warehouse::place::OtherServer;
use crate::warehouse::report::{RowFormat, ViewRefused};
use crate::warehouse::{Reader, Warehouse};
use crate::wording::counted;
use crate::{clock, views};

pub(super) fn views(
    context: &Context<'_>,
    args: &ViewsArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    match &args.action {
        None if args.json => list_as_json(&settings, out),
        None => list(&settings, out),
        Some(ViewsAction::Apply { json }) => apply(&settings, *json, out),
        Some(ViewsAction::Describe { table, json }) => describe(&settings, table.as_deref(), *json, out),
        Some(ViewsAction::Run { file, json, strict }) => {
            let several = if *strict { Several::Refuse } else { Several::KeepFirst };
            let format = if *json { RowFormat::Json } else { RowFormat::Csv };
            run(&settings, file, several, format, out)
        }
    }
}

fn complain(why: String) -> anyhow::Error {
    Complaints::one(why).into()
}

fn list(settings: &Settings, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let tables = Reader::open(&location(settings)?)?.views()?;
    let width = tables.iter().map(|table| table.name.len()).max().unwrap_or(0).max(5);
    writeln!(out, "{:width$}  {:>9}  {:>7}  {:20}  built", "table", "rows", "columns", "from")?;
    for table in &tables {
        let from = if table.resource.is_empty() { "all types" } else { &table.resource };
        let (name, rows, columns, built_at) = (&table.name, table.rows, table.columns, &table.built_at);
        let built = table.percent_built.map_or_else(|| built_at.clone(), |done| format!("{done} % so far"));
        let left_out = match table.left_out {
            0 => String::new(),
            count => format!("; {count} resources left out, too large for it"),
        };
        writeln!(out, "{name:width$}  {rows:>9}  {columns:>7}  {from:20}  {built}{left_out}")?;
    }
    if tables.is_empty() {
        writeln!(out, "none yet: the next `sync`, or `views apply`, makes them")?;
    }
    if let Some(folder) = shared_files() {
        writeln!(out, "queries, ViewDefinitions and tables.md: {}", folder.display())?;
    }
    Ok(ExitStatus::Done)
}

/// Returns where the files are that a package brings beside the program: in `share`, next to the binary's folder.
fn shared_files() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?.parent()?.join("share/healthex-sync");
    folder.is_dir().then_some(folder)
}

fn list_as_json(settings: &Settings, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let tables = Reader::open(&location(settings)?)?.views()?;
    writeln!(out, "{}", serde_json::to_string(&tables)?)?;
    Ok(ExitStatus::Done)
}

fn apply(settings: &Settings, as_json: bool, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let place = place(settings)?;
    // Only a warehouse that is there has tables to build.
    drop(Reader::open(&place.location)?);
    let warehouse = Warehouse::open(&place, OtherServer::Refuse, clock::now())?;
    let count = place.views.len();
    let bar = progress::steps(0, "resources");
    let shown = bar.clone();
    let rebuilding = warehouse.rebuild_views(clock::now(), move |steps| {
        shown.set_length(steps.of as u64);
        shown.set_position(steps.done as u64);
    });
    let failed = runtime()?.block_on(rebuilding)?;
    bar.finish_and_clear();
    let status = if failed.is_empty() { ExitStatus::Done } else { ExitStatus::Failed };
    let built = count - failed.len();
    if as_json {
        let failed =
            failed.iter().map(|ViewRefused { name, why }| serde_json::json!({ "name": name, "why": why }));
        let failed = failed.collect::<Vec<_>>();
        writeln!(out, "{}", serde_json::json!({ "built": built, "failed": failed }))?;
        return Ok(status);
    }
    for ViewRefused { name, why } in &failed {
        writeln!(out, "FAILED  {name}: {why}")?;
    }
    writeln!(out, "{} built", counted(built, "table", "tables"))?;
    Ok(status)
}

/// Prints what columns hold: of the tables that are kept, or of one of whatever set.
fn describe(
    settings: &Settings,
    only: Option<&str>,
    as_json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let all = TableSet::ALL.map(|(_, set)| set);
    let sets = if only.is_some() { &all[..] } else { &settings.views.sets };
    let mut facts = views::describe(&views::analyst_tables(sets, settings.views.folder.as_deref()).tables);
    if let Some(only) = only {
        let names: Vec<String> = facts.iter().map(|table| table.name.clone()).collect();
        facts.retain(|table| table.name == only);
        if facts.is_empty() {
            return Err(complain(format!("there is no table {only}; there are {}", names.join(", "))));
        }
    }
    if as_json {
        let columns =
            facts.iter().flat_map(|table| table.columns.iter().map(|column| as_object(table, column)));
        writeln!(out, "{:#}", serde_json::Value::Array(columns.collect()))?;
        return Ok(ExitStatus::Done);
    }
    let widest = facts.iter().flat_map(|table| &table.columns).map(|column| column.name.len()).max();
    let width = widest.unwrap_or(0);
    for (at, TableFacts { name, description, columns, .. }) in facts.iter().enumerate() {
        let gap = if at == 0 { "" } else { "\n" };
        writeln!(out, "{gap}{name}: {description}")?;
        for ColumnFacts { name, kind, description, path } in columns {
            let from = if path.is_empty() { String::new() } else { format!(" [{path}]") };
            writeln!(out, "  {name:width$}  {kind:8}  {description}{from}")?;
        }
    }
    Ok(ExitStatus::Done)
}

fn as_object(table: &TableFacts, column: &ColumnFacts) -> serde_json::Value {
    let ColumnFacts { name, kind, description, path } = column;
    serde_json::json!({
        "table": table.name, "column": name, "type": kind, "description": description, "path": path,
    })
}

fn run(
    settings: &Settings,
    file: &Path,
    several: Several,
    format: RowFormat,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let view = views::read(file).map_err(|why| complain(format!("{}: {why}", file.display())))?;
    let reader = Reader::open(&location(settings)?)?;
    let evaluation = Evaluation { now: clock::now(), several };
    let mut out = std::io::BufWriter::new(out);
    let run = reader.run_view(&view, evaluation, format, &mut out)?;
    out.flush()?;
    for (column, rows) in run.dropped.by_column(&view) {
        tracing::warn!(
            "column {column}: {rows} of {} rows had several values, and the first was kept; --strict refuses them",
            run.rows
        );
    }
    Ok(ExitStatus::Done)
}

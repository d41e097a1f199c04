//! `views`: lists the analysts' tables, builds them anew, prints their SQL and runs views.

use std::io::Write;
use std::path::Path;

use super::{Context, ExitStatus, place, progress, runtime};
use crate::cli::{ViewsAction, ViewsArgs};
use crate::settings::{Complaints, Settings};
use crate::views::Target;
use crate::warehouse::place::OtherServer;
use crate::warehouse::report::ViewRefused;
use crate::warehouse::{Reader, Warehouse};
use crate::{clock, views};

pub(super) fn views(
    context: &Context<'_>,
    args: &ViewsArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    match &args.action {
        None => list(&settings, out),
        Some(ViewsAction::Apply) => apply(&settings, out),
        Some(ViewsAction::Sql { name }) => sql(&settings, name, out),
        Some(ViewsAction::Run { file, json, strict }) => {
            let target = if *strict { Target::Strict } else { Target::Warehouse };
            run(&settings, file, target, *json, out)
        }
    }
}

fn complain(why: String) -> anyhow::Error {
    Complaints::one(why).into()
}

fn list(settings: &Settings, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let tables = Reader::open(&settings.warehouse.path)?.views()?;
    let width = tables.iter().map(|table| table.name.len()).max().unwrap_or(0).max(5);
    writeln!(out, "{:width$}  {:>9}  {:>7}  {:20}  built", "table", "rows", "columns", "from")?;
    for table in &tables {
        let from = if table.resource.is_empty() { "all types" } else { &table.resource };
        let (name, rows, columns, built_at) = (&table.name, table.rows, table.columns, &table.built_at);
        writeln!(out, "{name:width$}  {rows:>9}  {columns:>7}  {from:20}  {built_at}")?;
    }
    if tables.is_empty() {
        writeln!(out, "none yet: the next `sync`, or `views apply`, makes them")?;
    }
    Ok(ExitStatus::Done)
}

fn sql(settings: &Settings, name: &str, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    match views::select_of(name, settings.views.folder.as_deref()) {
        Some(select) => writeln!(out, "{};", select.trim_end())?,
        None => return Err(complain(format!("there is no view {name}; `views` lists them"))),
    }
    Ok(ExitStatus::Done)
}

fn apply(settings: &Settings, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let place = place(settings);
    // Only a warehouse that is there has tables to build.
    drop(Reader::open(&place.path)?);
    let warehouse = Warehouse::open(&place, OtherServer::Refuse, clock::now())?;
    let count = place.views.len();
    let bar = progress::steps(count, "tables");
    let shown = bar.clone();
    let rebuilding =
        warehouse.rebuild_views(clock::now(), move |steps| shown.set_position(steps.done as u64));
    let failed = runtime()?.block_on(rebuilding)?;
    bar.finish_and_clear();
    for ViewRefused { name, why } in &failed {
        writeln!(out, "FAILED  {name}: {why}")?;
    }
    writeln!(out, "{} tables built", count - failed.len())?;
    Ok(if failed.is_empty() { ExitStatus::Done } else { ExitStatus::Failed })
}

fn run(
    settings: &Settings,
    file: &Path,
    target: Target,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let (_, view) =
        views::read(file, target).map_err(|why| complain(format!("{}: {why}", file.display())))?;
    let mut out = std::io::BufWriter::new(out);
    Reader::open(&settings.warehouse.path)?.run_view(&view, json, &mut out)?;
    out.flush()?;
    Ok(ExitStatus::Done)
}

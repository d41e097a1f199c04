//! `migrate`: makes the schema of a warehouse on a server, or prints what makes it.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use super::{Context, ExitStatus, analyst_tables, location, progress};
use crate::cli::MigrateArgs;
use crate::clock;
use crate::settings::{Complaints, Settings};
use crate::views::AnalystTable;
use crate::warehouse;
use crate::warehouse::Reader;
use crate::warehouse::place::{Location, Server};
use crate::warehouse::report::{Migrated, Moved, ViewRefused};

pub(super) fn migrate(
    context: &Context<'_>,
    args: &MigrateArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    let Location::Server(server) = location(&settings)? else {
        return Err(Complaints::one(
            "migrate is for a warehouse on a server, and warehouse.url names none; a file is brought up to date by the next `sync`".to_owned(),
        )
        .into());
    };
    let views = analyst_tables(&settings);
    if args.print {
        let script = warehouse::migration_script(&server.schema, args.partitions, &views);
        out.write_all(script.as_bytes())?;
        return Ok(ExitStatus::Done);
    }
    let migrated = warehouse::migrate(&server, args.partitions, &views, clock::now())?;
    if !args.json {
        print(&server, &migrated, out)?;
    }
    let moved = args.from.as_deref().map(|file| move_from(file, &settings, &server, &views)).transpose()?;
    if args.json {
        print_json(&migrated, moved.as_ref(), out)?;
    } else if let (Some(file), Some(moved)) = (&args.from, &moved) {
        print_moved(file, moved, out)?;
    }
    let refused = moved.as_ref().map_or(&migrated.refused, |moved| &moved.refused);
    Ok(if refused.is_empty() { ExitStatus::Done } else { ExitStatus::Failed })
}

/// Moves a file's rows, after its ledger was asked whether it lacks a purge.
fn move_from(
    file: &Path,
    settings: &Settings,
    server: &Arc<Server>,
    views: &[AnalystTable],
) -> anyhow::Result<Moved> {
    let ledger =
        Reader::open(&Location::File(file.to_owned()))?.ledger(settings.consent.ledger.as_deref())?;
    anyhow::ensure!(
        ledger.unknown == 0,
        "nothing was moved: the ledger tells of {} purges that {} does not know, so it has patients who must not be in it; `healthex-sync sync` with the file carries them out",
        ledger.unknown,
        file.display()
    );
    let bar = progress::steps(0, "rows");
    let moved = warehouse::move_file(file, server, views, clock::now(), |steps| {
        bar.set_length(steps.of as u64);
        bar.set_position(steps.done as u64);
    });
    bar.finish_and_clear();
    Ok(moved?)
}

fn print_moved(file: &Path, moved: &Moved, out: &mut dyn Write) -> anyhow::Result<()> {
    let Moved { rows, patients, purges, unreadable, refused } = moved;
    let file = file.display();
    writeln!(out, "moved from {file} and read back: rows {rows}, patients {patients}, purges {purges}")?;
    if *unreadable > 0 {
        writeln!(out, "in quarantine, for characters that PostgreSQL cannot read: {unreadable}")?;
    }
    for ViewRefused { name, why } in refused {
        writeln!(out, "FAILED  {name}: {why}")?;
    }
    writeln!(
        out,
        "{file} still has everything: remove it and its copies once you trust the server, and keep {file}.purges, the ledger"
    )?;
    Ok(())
}

fn print(server: &Arc<Server>, migrated: &Migrated, out: &mut dyn Write) -> anyhow::Result<()> {
    let Migrated { version, from_version, partitions, role, tables, refused, missing_roles, .. } = migrated;
    let done = match from_version {
        None => "made".to_owned(),
        Some(from) if from == version => "there already".to_owned(),
        Some(from) => format!("brought up to date, from {from}"),
    };
    let parts = if *partitions > 0 { format!(", its tables in {partitions} parts") } else { String::new() };
    writeln!(out, "{server}: schema {version} is {done}{parts}")?;
    writeln!(out, "analysts' tables: {tables}")?;
    for ViewRefused { name, why } in refused {
        writeln!(out, "FAILED  {name}: {why}")?;
    }
    let schema = &server.schema;
    let Some(missing_roles) = missing_roles else {
        writeln!(out, "roles: {schema}_owner, {schema}_worker (for warehouse.url), {schema}_analyst")?;
        return Ok(());
    };
    writeln!(
        out,
        "roles: {role} may not create any; without them the tables are {role}'s alone. For a role that may, and then `migrate` again:\n\n{missing_roles}"
    )?;
    Ok(())
}

fn print_json(migrated: &Migrated, moved: Option<&Moved>, out: &mut dyn Write) -> anyhow::Result<()> {
    let Migrated { server, version, from_version, partitions, tables, refused, missing_roles, .. } = migrated;
    let refused = refused.iter().map(|ViewRefused { name, why }| json!({ "name": name, "why": why }));
    let all = json!({
        "warehouse": server,
        "version": version,
        "from_version": from_version,
        "partitions": partitions,
        "tables": tables,
        "failed": refused.collect::<Vec<_>>(),
        "missing_roles": missing_roles,
        "moved": moved.map(|moved| json!({
            "rows": moved.rows,
            "patients": moved.patients,
            "purges": moved.purges,
            "unreadable": moved.unreadable,
        })),
    });
    writeln!(out, "{all}")?;
    Ok(())
}

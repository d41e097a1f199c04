//! `migrate`: makes the schema of a warehouse on a server, or prints what makes it.

use std::io::Write;
use std::sync::Arc;

use serde_json::json;

use super::{Context, ExitStatus, analyst_tables, location};
use crate::cli::MigrateArgs;
use crate::clock;
use crate::settings::Complaints;
use crate::warehouse;
use crate::warehouse::place::{Location, Server};
use crate::warehouse::report::{Migrated, ViewRefused};

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
    if args.json {
        print_json(&migrated, out)?;
    } else {
        print(&server, &migrated, out)?;
    }
    Ok(if migrated.refused.is_empty() { ExitStatus::Done } else { ExitStatus::Failed })
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

fn print_json(migrated: &Migrated, out: &mut dyn Write) -> anyhow::Result<()> {
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
    });
    writeln!(out, "{all}")?;
    Ok(())
}

//! Each command is a function of arguments, settings and a writer. Decides nothing itself.

mod audit;
mod backup;
mod check;
mod check_server;
mod check_service;
mod check_studies;
mod checks;
mod demo;
mod export;
mod in_force;
mod kept_records;
mod migrate;
mod named;
mod progress;
pub(crate) mod purge;
mod reload;
mod report;
mod roster_command;
mod scrub;
mod service_view;
mod setup;
mod shell;
mod status;
mod status_found;
mod status_text;
mod summary;
pub(crate) mod sync;
mod terminal;
mod views_command;
mod watch;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{Cli, Color, Command};
use crate::cycle::{EndedEarly, RosterFault, Summary};
use crate::healthex::RequestFailed;
use crate::roster::Roster;
use crate::settings::{Complaints, Environment, ServerSettings, Settings, WarehouseSettings};
use crate::telemetry::ColourChoice;
use crate::views::{AnalystTable, Loaded};
use crate::warehouse::check_server;
use crate::warehouse::failure::{OpenFailed, StoreFailed};
use crate::warehouse::place::{Location, Place, Server};
use crate::{roster, settings, telemetry, views};

/// The six exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    Done = 0,
    Failed = 1,
    WrongUsage = 2,
    SomePatientsFailed = 3,
    CredentialsRefused = 4,
    WarehouseUnusable = 5,
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}

impl ExitStatus {
    /// Returns the status that stands for an error. The only place that downcasts one.
    pub fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if cause.is::<Complaints>() {
                return Self::WrongUsage;
            }
            if matches!(cause.downcast_ref(), Some(StoreFailed::Ledger(_))) {
                return Self::Failed;
            }
            if cause.is::<OpenFailed>() || cause.is::<StoreFailed>() {
                return Self::WarehouseUnusable;
            }
            if matches!(
                cause.downcast_ref(),
                Some(RequestFailed::CredentialsRefused { .. } | RequestFailed::TokenRefused)
            ) {
                return Self::CredentialsRefused;
            }
        }
        Self::Failed
    }

    fn of_cycle(summary: &Summary) -> Self {
        match &summary.ended_early {
            Some(EndedEarly::CredentialsRefused(_)) => Self::CredentialsRefused,
            Some(EndedEarly::Warehouse(_)) => Self::WarehouseUnusable,
            _ if summary.roster_shrunk.is_some() || summary.roster_fault == Some(RosterFault::None) => {
                Self::WrongUsage
            }
            _ if summary.all_is_well() => Self::Done,
            _ => Self::SomePatientsFailed,
        }
    }
}

/// Says why the program fails, if it does, and ends the log.
pub fn end_log(failure: Option<&anyhow::Error>) {
    telemetry::end(failure.map(in_full).as_deref());
}

/// Returns an error with its causes, but for those whose words it has already.
fn in_full(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string).filter(|cause| !cause.is_empty()) {
        match text.is_empty() {
            true => text = cause,
            false if text.contains(&cause) => {}
            false => text = format!("{text}: {cause}"),
        }
    }
    text
}

pub fn run(cli: &Cli, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    let environment: Environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let context = Context { cli, environment };
    telemetry::choose_colours(match cli.color {
        Color::Auto => ColourChoice::Auto,
        Color::Always => ColourChoice::Always,
        Color::Never => ColourChoice::Never,
    });
    match &cli.command {
        Command::Demo { dir } => demo::demo(&context, dir, out),
        Command::Sandbox(args) => demo::sandbox(&context, args, out),
        Command::Init(args) => setup::init(args, out),
        Command::Check(args) => check::check(&context, args, out),
        Command::Sync(args) => sync::sync(&context, args, out),
        Command::Run => sync::run(&context),
        Command::Status(args) if args.watch => watch::watch(&context, args, out),
        Command::Status(args) => status::status(&context, args, out),
        Command::Reload { json } => reload::reload(&context, *json, out),
        Command::Completions { shell } => shell::completions(*shell, out),
        Command::Man { page, to: None } => shell::man(page.as_deref(), out),
        Command::Man { to: Some(folder), .. } => shell::write_manual(folder, out),
        Command::Verify(args) => report::verify(&context, args, out),
        Command::Audit(args) => audit::audit(&context, args, out),
        Command::Backup(args) => backup::backup(&context, args, out),
        Command::Restore(args) => backup::restore(&context, args, out),
        Command::Export(args) => export::export(&context, args, out),
        Command::Migrate(args) => migrate::migrate(&context, args, out),
        Command::Views(args) => views_command::views(&context, args, out),
        Command::Roster(args) => roster_command::roster(&context, args, out),
        Command::Purge(args) => purge::purge(&context, args, out),
        Command::Scrub(args) => scrub::scrub(&context, args, out),
    }
}

/// The arguments and environment that every command is run with.
pub(crate) struct Context<'c> {
    cli: &'c Cli,
    environment: Environment,
}

impl Context<'_> {
    /// Reads the settings alone, and begins to log.
    fn settings(&self) -> Result<Settings, Complaints> {
        let settings = settings::load(self.cli.config.as_deref(), &self.environment);
        telemetry::start(settings.as_ref().ok().map(|settings| &settings.log), self.log_level());
        settings
    }

    /// Reads settings and roster. Returns all complaints about either.
    fn settings_and_roster(&self) -> Result<(Arc<Settings>, Roster), Complaints> {
        match self.settings() {
            Ok(settings) => match roster::load(&settings.roster) {
                Ok(roster) => Ok((Arc::new(settings), roster)),
                Err(mut list) => {
                    if settings.file.is_none() {
                        list.push("no configuration was found; `healthex-sync init` writes one".to_owned());
                    }
                    Err(Complaints::new(list))
                }
            },
            Err(mut complaints) => {
                let roster = complaints.roster.take();
                complaints
                    .list
                    .extend(roster.and_then(|settings| roster::load(&settings).err()).unwrap_or_default());
                Err(complaints)
            }
        }
    }

    /// Returns whether only errors are to be printed.
    fn is_quiet(&self) -> bool {
        self.cli.quiet
    }

    fn log_level(&self) -> Option<&'static str> {
        match (self.cli.verbose, self.cli.quiet) {
            (true, _) => Some("debug"),
            (_, true) => Some("error"),
            _ => None,
        }
    }
}

/// Returns the tables to keep, and complaints about views that are left out.
fn wanted_tables(settings: &Settings) -> Loaded {
    views::analyst_tables(&settings.views.sets, settings.views.folder.as_deref())
}

/// Returns the tables to keep. A view that cannot be a table is left out with a warning.
fn analyst_tables(settings: &Settings) -> Arc<[AnalystTable]> {
    let Loaded { tables, refused } = wanted_tables(settings);
    for why in refused {
        tracing::warn!("left out: {why}");
    }
    tables.into()
}

/// Returns where the warehouse is, with the password for its server.
fn location(settings: &Settings) -> Result<Location, Complaints> {
    let WarehouseSettings { path, server, .. } = settings.warehouse.clone();
    let Some(server) = server else { return Ok(Location::File(path)) };
    let ServerSettings { url, password, ca_file, schema, prepared, lease, retention } = server;
    let asked_for = format!("put the password into {password}");
    let password = password.read().map_err(Complaints::one)?;
    let server = Server {
        url,
        password,
        asked_for,
        ca_file,
        schema,
        acting_as: None,
        prepared,
        lease,
        retention,
        beside: path,
    };
    check_server(&server).map_err(|why| Complaints::one(format!("warehouse.url: {why}")))?;
    Ok(Location::Server(Arc::new(server)))
}

fn place(settings: &Settings) -> Result<Place, Complaints> {
    Ok(Place {
        location: location(settings)?,
        base_url: settings.api.base_url.as_str().trim_end_matches('/').to_owned(),
        group: settings.warehouse.group,
        ledger: settings.consent.ledger.clone(),
        history: settings.warehouse.history,
        views: analyst_tables(settings),
    })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()
}

/// Requests wait more than they work.
const WORKERS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::warehouse::failure::RestoreFailed;

    #[test]
    fn a_cause_is_said_once() {
        let source = || std::io::Error::other("no room");
        let told = RestoreFailed::Io { path: "a.db".into(), source: source() };
        assert_eq!(in_full(&told.into()), "a.db: no room; nothing was changed");
        let told = anyhow::Error::from(source()).context("a.db");
        assert_eq!(in_full(&told), "a.db: no room");
    }
}

//! `sync` runs one cycle, `run` the service.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Context, ExitStatus, place, progress, runtime, summary};
use crate::cli::SyncArgs;
use crate::cycle::progress::Progress;
use crate::cycle::{Summary, Wishes, dry_run};
use crate::healthex::client::Api;
use crate::plan::PersonId;
use crate::roster::Roster;
use crate::settings::{Complaints, Settings};
use crate::stop::Stop;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::lock::{Lock, LockFor};
use crate::warehouse::open;
use crate::warehouse::open::OtherServer;
use crate::warehouse::writer::Warehouse;
use crate::{cycle, service};

pub(super) fn sync(
    context: &Context<'_>,
    args: &SyncArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let (settings, roster) = context.settings_and_roster()?;
    let wishes = wishes(args, &roster)?;
    let api = api(context, &settings)?;
    let other_server = if args.new_server { OtherServer::Adopt } else { OtherServer::Refuse };
    let runtime = runtime()?;
    let summary = runtime.block_on(async {
        let stop = Stop::on_signals()?;
        if args.dry_run {
            rehearse(settings, api, &roster, &wishes, stop).await
        } else {
            cycle_once(settings, api, &roster, &wishes, (stop, other_server)).await
        }
    })?;
    if args.json {
        summary::print_json(&summary, out)?;
    } else {
        summary::print(&summary, out)?;
    }
    if let Some(ended) = &summary.ended_early {
        tracing::error!("the cycle ended early: {ended}");
    }
    Ok(ExitStatus::of_cycle(&summary))
}

/// Runs one cycle with the warehouse locked.
pub(super) async fn cycle_once(
    settings: Arc<Settings>,
    api: Arc<Api>,
    roster: &Roster,
    wishes: &Wishes,
    (stop, other_server): (Stop, OtherServer),
) -> anyhow::Result<Summary> {
    let place = place(&settings);
    open::prepare(&place.path)?;
    let _lock = Lock::take(&place.path, LockFor::Writing)?;
    let warehouse = Arc::new(Warehouse::open(&place, other_server)?);
    let (sender, receiver) = watch::channel(Progress::default());
    let bars = progress::show(receiver);
    let means = cycle::Means { settings, api, warehouse, stop, progress: sender };
    let result = cycle::run(&means, roster, wishes).await;
    drop(means);
    // Bars would be drawn over what is printed next. That they failed is no reason to fail.
    let _ = bars.await;
    Ok(result?)
}

async fn rehearse(
    settings: Arc<Settings>,
    api: Arc<Api>,
    roster: &Roster,
    wishes: &Wishes,
    stop: Stop,
) -> anyhow::Result<Summary> {
    let reader = match open::open_reader(&settings.warehouse.path) {
        Ok(reader) => Some(reader),
        Err(OpenFailed::Missing(_)) => None,
        Err(failed) => return Err(failed.into()),
    };
    let means = dry_run::Means { settings, api, reader, stop };
    Ok(dry_run::run(means, roster, wishes).await?)
}

fn wishes(args: &SyncArgs, roster: &Roster) -> Result<Wishes, Complaints> {
    let mut named = Vec::new();
    let mut list = Vec::new();
    for id in &args.patients {
        match PersonId::parse(id) {
            Ok(person) if roster.patients.iter().any(|patient| patient.person == person) => {
                named.push(person);
            }
            Ok(person) => list.push(format!("--patient {person}: the roster does not list it")),
            Err(error) => list.push(format!("--patient {error}")),
        }
    }
    if list.is_empty() {
        let allow_shrunk_roster = args.allow_shrunk_roster;
        Ok(Wishes { named, full: args.full, patient: false, allow_shrunk_roster })
    } else {
        Err(Complaints::new(list))
    }
}

pub(super) fn api(context: &Context<'_>, settings: &Arc<Settings>) -> anyhow::Result<Arc<Api>> {
    let credentials = settings.credentials(&context.environment).map_err(Complaints::new)?;
    Ok(Arc::new(Api::new(settings.api.base_url.clone(), credentials, settings.api.limits)?))
}

pub(super) fn run(context: &Context<'_>) -> anyhow::Result<ExitStatus> {
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let signals = service::Signals::listen()?;
        let (settings, roster) = context.settings_and_roster()?;
        let daemon = service::Daemon {
            place: place(&settings),
            settings,
            roster,
            config: context.cli.config.clone(),
            environment: context.environment.clone(),
        };
        service::run(daemon, signals).await
    });
    // The resolving of a host name cannot be cancelled, and a stop does not wait for it.
    runtime.shutdown_timeout(SHUTDOWN_TIME_MAX);
    result.map(|()| ExitStatus::Done)
}

const SHUTDOWN_TIME_MAX: Duration = Duration::from_millis(500);

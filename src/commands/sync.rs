//! `sync` runs one cycle, `run` the service.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::in_force::roster_in_force;
use super::kept_records::{kept_consents, kept_records};
use super::named::listed_patient;
use super::{Context, ExitStatus, place, progress, runtime, summary};
use crate::cli::SyncArgs;
use crate::cycle::progress::Progress;
use crate::cycle::{Cycle, EndedEarly, RecordsAsked, Summary, SyncRequest};
use crate::healthex::client::Api;
use crate::roster::Roster;
use crate::settings::{Complaints, Settings};
use crate::stop::Stop;
use crate::warehouse::Warehouse;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::place::{Close, OtherServer, Place};
use crate::{clock, service};

pub(super) fn sync(
    context: &Context<'_>,
    args: &SyncArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let (settings, roster) = context.settings_and_roster()?;
    for note in &roster.notes {
        tracing::warn!("the roster: {note}");
    }
    let request = sync_request(args, &settings, &roster)?;
    let api = api(context, &settings)?;
    let other_server = if args.new_server { OtherServer::Adopt } else { OtherServer::Refuse };
    let runtime = runtime()?;
    let summary = runtime.block_on(async {
        let stop = Stop::on_signals()?;
        let place = place(&settings)?;
        let warehouse = if args.dry_run {
            Warehouse::rehearse(&place, other_server)?
        } else {
            open(&place, other_server, &request)?
        };
        run_cycle(Session { settings, api, stop }, warehouse, &roster, request).await
    })?;
    if args.json {
        summary::print_json(&summary, out)?;
    } else if !context.is_quiet() {
        summary::print(&summary, out)?;
    }
    if let Some(ended) = &summary.ended_early {
        if matches!(ended, EndedEarly::Stopped) {
            tracing::info!("the cycle ended early: {ended}");
        } else {
            tracing::error!("the cycle ended early: {ended}");
        }
    }
    Ok(ExitStatus::of_cycle(&summary))
}

/// Opens the warehouse to lead a cycle, or to take part in the one under way, where that is all that is asked for.
fn open(place: &Place, other_server: OtherServer, request: &SyncRequest) -> Result<Warehouse, OpenFailed> {
    let is_plain = request.named.is_empty() && !request.full && !request.allow_shrunk_roster;
    if is_plain && other_server == OtherServer::Refuse {
        Warehouse::open_for_cycle(place, clock::now())
    } else {
        Warehouse::open(place, other_server, clock::now())
    }
}

/// What a command runs cycles with.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) settings: Arc<Settings>,
    pub(crate) api: Arc<Api>,
    pub(crate) stop: Stop,
}

impl Session {
    /// Makes a cycle of these.
    pub(crate) fn cycle(
        self,
        warehouse: Arc<Warehouse>,
        progress: watch::Sender<Progress>,
        request: SyncRequest,
    ) -> Cycle {
        let Self { settings, api, stop } = self;
        Cycle {
            settings,
            api,
            warehouse,
            stop,
            progress,
            request,
            active: Arc::default(),
            names: Arc::default(),
        }
    }
}

/// Runs one cycle, with bars, and closes the warehouse.
pub(super) async fn run_cycle(
    session: Session,
    warehouse: Warehouse,
    roster: &Roster,
    request: SyncRequest,
) -> anyhow::Result<Summary> {
    let (progress, receiver) = watch::channel(Progress::default());
    let bars = progress::show(receiver);
    let warehouse = Arc::new(warehouse);
    let cycle = session.cycle(warehouse.clone(), progress, request);
    let result = cycle.run(roster).await;
    drop(cycle);
    warehouse.close(Close::Settle);
    // Bars would be drawn over what is printed next. That they failed is no reason to fail.
    let _ = bars.await;
    Ok(result?)
}

fn sync_request(args: &SyncArgs, settings: &Settings, roster: &Roster) -> anyhow::Result<SyncRequest> {
    let mut named = Vec::new();
    let mut list = Vec::new();
    let known =
        if args.patients.is_empty() { roster.clone() } else { roster_in_force(settings, roster.clone())?.0 };
    let known = if args.patients.is_empty() || settings.roster.studies.is_empty() {
        known
    } else {
        known.with_records(&kept_records(settings, kept_consents(settings)?))
    };
    for id in &args.patients {
        match listed_patient(&known, id) {
            Ok(person) => named.push(person),
            Err(error) => list.push(format!("--patient {error}")),
        }
    }
    if list.is_empty() {
        let allow_shrunk_roster = args.allow_shrunk_roster;
        // For a patient by name, what was read before will do.
        let records = if named.is_empty() { RecordsAsked::Now } else { RecordsAsked::WhenDue };
        let full = args.full;
        Ok(SyncRequest { named, full, allow_shrunk_roster, records, ..SyncRequest::default() })
    } else {
        Err(Complaints::new(list).into())
    }
}

pub(super) fn api(context: &Context<'_>, settings: &Arc<Settings>) -> anyhow::Result<Arc<Api>> {
    let credentials = settings.credentials(&context.environment).map_err(Complaints::new)?;
    Ok(Arc::new(Api::new(&settings.api, credentials)?))
}

pub(super) fn run(context: &Context<'_>) -> anyhow::Result<ExitStatus> {
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let signals = service::Signals::listen()?;
        let (settings, roster) = context.settings_and_roster()?;
        let daemon = service::Daemon {
            place: place(&settings)?,
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

//! One life of the simulated process: the daemon, from its start to its end or its death.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::stage;
use crate::commands::sync::Session;
use crate::cycle::progress::Progress;
use crate::cycle::{Summary, SyncRequest};
use crate::healthex::client::Api;
use crate::plan::PersonId;
use crate::service::{Daemon, Signals};
use crate::settings::{Environment, Settings};
use crate::stop::Stop;
use crate::time::TimeDelta;
use crate::warehouse::Warehouse;
use crate::warehouse::place::{Close, Location, OtherServer, Place};
use crate::{clock, roster, service, settings, views};

/// The configuration in a folder.
pub(super) fn settings(folder: &Path) -> Arc<Settings> {
    let file = folder.join("healthex-sync.toml");
    Arc::new(settings::load(Some(&file), &Environment::new()).unwrap())
}

pub(super) fn place(settings: &Settings) -> Place {
    Place {
        location: Location::File(settings.warehouse.path.clone()),
        base_url: settings.api.base_url.as_str().trim_end_matches('/').to_owned(),
        group: None,
        history: settings.warehouse.history,
        ledger: settings.consent.ledger.clone(),
        views: views::analyst_tables(&[crate::plan::table_set::TableSet::Clinical], None).tables.into(),
    }
}

/// An init system starts again after so long.
pub(super) const RESTART_AFTER: TimeDelta = TimeDelta::minutes(1);

/// Runs the daemon of a folder until it is stopped. One that is told of a wrong configuration or roster
/// is started again.
pub(super) async fn run(folder: &Path, place: Place, stop: Stop) -> anyhow::Result<()> {
    let settings = settings(folder);
    loop {
        let Ok(roster) = roster::load(&settings.roster) else {
            if stop.sleep(RESTART_AFTER.to_std()?).await {
                continue;
            }
            return Ok(());
        };
        let config = Some(folder.join("healthex-sync.toml"));
        let (settings, place) = (settings.clone(), place.clone());
        let daemon = Daemon { settings, roster, place, config, environment: Environment::new() };
        let (heard, hangups) = mpsc::channel(1);
        if let Some(stage) = stage::current() {
            stage.hear_hangups(heard);
        }
        return service::run(daemon, Signals::simulated(stop, hangups)).await;
    }
}

/// What a command in a folder runs cycles with.
pub(super) fn session(folder: &Path) -> anyhow::Result<Session> {
    let settings = settings(folder);
    let credentials =
        settings.credentials(&Environment::new()).map_err(|why| anyhow::anyhow!(why.join("; ")))?;
    let api = Arc::new(Api::new(&settings.api, credentials)?);
    Ok(Session { settings, api, stop: Stop::default() })
}

/// Runs one cycle, as `sync` does.
pub(super) async fn sync(folder: &Path, place: &Place, request: SyncRequest) -> anyhow::Result<Summary> {
    let session = session(folder)?;
    let roster = roster::load(&session.settings.roster).map_err(|why| anyhow::anyhow!(why.join("; ")))?;
    let is_listed = |person: &PersonId| {
        // The records may list it, which the cycle knows.
        !session.settings.roster.studies.is_empty()
            || roster.patients.iter().any(|patient| patient.person == *person)
    };
    anyhow::ensure!(request.named.iter().all(is_listed), "the roster does not list it");
    let warehouse = Arc::new(Warehouse::open(place, OtherServer::Refuse, clock::now())?);
    let cycle = session.cycle(warehouse.clone(), watch::channel(Progress::default()).0, request);
    let summary = cycle.run(&roster).await?;
    drop(cycle);
    warehouse.close(Close::Settle);
    Ok(summary)
}

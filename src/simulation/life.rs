//! One life of the simulated process: the daemon, from its start to its end or its death.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::service::{Daemon, Signals};
use crate::settings::{Environment, Settings};
use crate::stop::Stop;
use crate::warehouse::place::Place;
use crate::{roster, service, settings, views};

/// The configuration in a folder.
pub(super) fn settings(folder: &Path) -> Arc<Settings> {
    let file = folder.join("healthex-sync.toml");
    Arc::new(settings::load(Some(&file), &Environment::new()).unwrap())
}

pub(super) fn place(settings: &Settings) -> Place {
    Place {
        path: settings.warehouse.path.clone(),
        base_url: settings.api.base_url.as_str().trim_end_matches('/').to_owned(),
        group: None,
        ledger: settings.consent.ledger.clone(),
        views: views::analyst_tables(&[crate::plan::table_set::TableSet::Clinical], None).tables,
    }
}

/// Runs the daemon of a folder until it is stopped.
pub(super) async fn run(folder: &Path, place: Place, stop: Stop) -> anyhow::Result<()> {
    let settings = settings(folder);
    let roster =
        roster::load(&settings.roster).map_err(|complaints| anyhow::anyhow!(complaints.join("; ")))?;
    let config = Some(folder.join("healthex-sync.toml"));
    let daemon = Daemon { settings, roster, place, config, environment: Environment::new() };
    let (_never, hangups) = mpsc::channel(1);
    service::run(daemon, Signals::simulated(stop, hangups)).await
}

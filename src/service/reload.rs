//! Reads settings, credentials and rosters again. What cannot be used is kept as it was, and logged.

use std::sync::Arc;

use super::problems::Problem;
use super::scheduler::Scheduler;
use super::systemd;
use super::worker::Worker;
use crate::healthex::client::Api;
use crate::settings;
use crate::settings::Settings;

impl Worker {
    /// Answers SIGHUP.
    pub(super) async fn reload(&mut self, scheduler: &mut Scheduler) -> anyhow::Result<()> {
        systemd::reloading();
        let result = self.reload_settings(scheduler).await;
        systemd::ready();
        result
    }

    async fn reload_settings(&mut self, scheduler: &mut Scheduler) -> anyhow::Result<()> {
        let daemon = &self.daemon;
        let mut settings = match settings::load(daemon.config.as_deref(), &daemon.environment) {
            Ok(settings) => settings,
            Err(complaints) => {
                tracing::error!(
                    "the configuration cannot be used, and the old one is kept: {}",
                    complaints.list.join("; ")
                );
                return Ok(());
            }
        };
        let fixed = keep_fixed_settings(&mut settings, &daemon.settings);
        if !fixed.is_empty() {
            tracing::error!("changed, and in force only after a restart: {}", fixed.join(", "));
        }
        if settings.sync.schedule != daemon.settings.sync.schedule {
            scheduler.reschedule(&settings.sync.schedule).await?;
        }
        self.daemon.settings = Arc::new(settings);
        {
            let mut state = self.status.state();
            state.settings = self.daemon.settings.clone();
            state.next_tick = None;
        }
        self.load_credentials();
        self.reload_roster();
        tracing::info!(patients = self.daemon.roster.patients.len(), "the configuration was read again");
        Ok(())
    }

    /// Loads the credentials; without any, the daemon waits for them instead of ending.
    pub(super) fn load_credentials(&mut self) {
        let settings = &self.daemon.settings;
        let api = match settings.credentials(&self.daemon.environment) {
            Ok(credentials) => Api::new(settings.api.base_url.clone(), credentials, settings.api.limits)
                .map_err(|failed| format!("{failed:#}")),
            Err(complaints) => Err(complaints.join("; ")),
        };
        match api {
            Ok(api) => {
                if let Some(before) = self.api.replace(Arc::new(api)) {
                    self.status.metrics.count_answers(&before.meter);
                } else {
                    self.resolve(Problem::Credentials);
                }
            }
            Err(why) if self.api.is_some() => {
                tracing::error!("the credentials cannot be read, and the old ones are kept: {why}");
            }
            Err(why) => {
                let text = format!("no credentials, so nothing is pulled; tried again at each tick: {why}");
                tracing::error!("{text}");
                self.raise(Problem::Credentials, &text);
            }
        }
    }
}

/// Takes over from `old` what only a restart can change, and returns the keys that differ.
fn keep_fixed_settings(new: &mut Settings, old: &Settings) -> Vec<&'static str> {
    let mut changed = Vec::new();
    let mut compare = |key, differs: bool| {
        if differs {
            changed.push(key);
        }
    };
    compare("api.base_url", new.api.base_url != old.api.base_url);
    compare("warehouse.path", new.warehouse.path != old.warehouse.path);
    compare("warehouse.group", new.warehouse.group != old.warehouse.group);
    compare("http.listen", new.http.listen != old.http.listen);
    compare("http.token_file", new.http.token_file != old.http.token_file);
    compare("log.format", new.log.is_json != old.log.is_json);
    compare("log.level", new.log.level != old.log.level);
    compare("views.sets", new.views.sets != old.views.sets);
    compare("views.folder", new.views.folder != old.views.folder);
    new.api.base_url = old.api.base_url.clone();
    new.warehouse = old.warehouse.clone();
    new.http = old.http.clone();
    new.log = old.log.clone();
    new.views.clone_from(&old.views);
    changed
}

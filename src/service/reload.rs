//! Settings, credentials and rosters, read again: what is broken is kept as it was, loudly.

use std::sync::Arc;

use super::alarm::Alarm;
use super::problems::Problem;
use super::systemd;
use super::worker::Worker;
use crate::healthex::client::Api;
use crate::settings;
use crate::settings::Settings;

impl Worker {
    /// SIGHUP.
    pub(super) async fn reload(&mut self, alarm: &mut Alarm) -> anyhow::Result<()> {
        systemd::reloading();
        let result = self.reload_settings(alarm).await;
        systemd::ready();
        result
    }

    async fn reload_settings(&mut self, alarm: &mut Alarm) -> anyhow::Result<()> {
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
        let fixed = keep_what_is_fixed(&mut settings, &daemon.settings);
        if !fixed.is_empty() {
            tracing::error!("changed, and in force only after a restart: {}", fixed.join(", "));
        }
        if settings.sync.schedule != daemon.settings.sync.schedule {
            alarm.set_anew(&settings.sync.schedule).await?;
        }
        self.daemon.settings = Arc::new(settings);
        {
            let mut state = self.board.state();
            state.settings = self.daemon.settings.clone();
            state.next_tick = None;
        }
        self.find_credentials();
        self.reread_roster();
        tracing::info!(patients = self.daemon.roster.patients.len(), "the configuration was read again");
        Ok(())
    }

    /// Reads the credentials; without any, the daemon waits for them instead of ending.
    pub(super) fn find_credentials(&mut self) {
        let settings = &self.daemon.settings;
        let found = settings.credentials(&self.daemon.environment);
        let made = match found {
            Ok(credentials) => Api::new(settings.api.base_url.clone(), credentials, settings.api.limits)
                .map_err(|failed| format!("{failed:#}")),
            Err(complaints) => Err(complaints.join("; ")),
        };
        match made {
            Ok(api) => {
                if let Some(before) = self.api.replace(Arc::new(api)) {
                    self.board.metrics.count_answers(&before.meter);
                } else {
                    self.tell(Problem::Credentials, None);
                }
            }
            Err(why) if self.api.is_some() => {
                tracing::error!("the credentials cannot be read, and the old ones are kept: {why}");
            }
            Err(why) => {
                let text = format!("no credentials, so nothing is pulled; tried again at each tick: {why}");
                tracing::error!("{text}");
                self.tell(Problem::Credentials, Some(&text));
            }
        }
    }
}

/// Takes over from `old` what only a restart can change, and names what would have changed.
fn keep_what_is_fixed(new: &mut Settings, old: &Settings) -> Vec<&'static str> {
    let mut changed = Vec::new();
    let mut keep = |name, differs: bool| {
        if differs {
            changed.push(name);
        }
    };
    keep("api.base_url", new.api.base_url != old.api.base_url);
    keep("warehouse.path", new.warehouse.path != old.warehouse.path);
    keep("warehouse.group", new.warehouse.group != old.warehouse.group);
    keep("http.listen", new.http.listen != old.http.listen);
    keep("http.token_file", new.http.token_file != old.http.token_file);
    keep("log.format", new.log.is_json != old.log.is_json);
    keep("log.level", new.log.level != old.log.level);
    keep("views.built_in", new.views.built_in != old.views.built_in);
    keep("views.folder", new.views.folder != old.views.folder);
    new.api.base_url = old.api.base_url.clone();
    new.warehouse = old.warehouse.clone();
    new.http = old.http.clone();
    new.log = old.log.clone();
    new.views.clone_from(&old.views);
    changed
}

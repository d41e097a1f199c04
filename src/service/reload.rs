//! Reads settings, credentials and rosters again. What cannot be used is kept as it was, and logged.

use std::sync::Arc;

use super::problems::Problem;
use super::systemd;
use super::worker::{CredentialTrust, Worker};
use crate::cycle::Summary;
use crate::healthex::client::Api;
use crate::plan::stamp;
use crate::settings::{Credentials, ServerSettings, Settings};
use crate::warehouse::service::LastReload;
use crate::{clock, settings};

/// After so many that were refused in a row, the next tick is waited for: accounts are locked for less.
const REFUSED_MAX: usize = 8;

impl Worker {
    /// Answers SIGHUP, also while a cycle is under way: that goes on as it began.
    pub(super) async fn reload(&mut self) -> anyhow::Result<()> {
        systemd::reloading();
        let result = self.reload_settings().await;
        self.tell_run_report();
        systemd::ready();
        result
    }

    async fn reload_settings(&mut self) -> anyhow::Result<()> {
        let daemon = &self.daemon;
        let mut settings = match settings::load(daemon.config.as_deref(), &daemon.environment) {
            Ok(settings) => settings,
            Err(complaints) => {
                let text = format!(
                    "the configuration cannot be used, and the old one is kept: {}",
                    complaints.list.join("; ")
                );
                tracing::error!("{text}");
                self.raise(Problem::Settings, &text);
                self.note_reload(Some(text), &[]);
                return Ok(());
            }
        };
        let fixed = keep_fixed_settings(&mut settings, &daemon.settings);
        if !fixed.is_empty() {
            tracing::error!("changed, and in force only after a restart: {}", fixed.join(", "));
        }
        if settings.sync.schedule != daemon.settings.sync.schedule {
            self.scheduler.reschedule(&settings.sync.schedule).await?;
        }
        self.daemon.settings = Arc::new(settings);
        {
            let mut state = self.status.state();
            state.settings = self.daemon.settings.clone();
            state.next_tick = None;
        }
        self.resolve(Problem::Settings);
        if self.is_in_cycle {
            // The cycle under way is watched by what its requests cost.
            self.trust = CredentialTrust::Outdated;
        } else {
            self.load_credentials();
        }
        let roster_refused = self.reload_roster();
        self.note_reload(roster_refused, &fixed);
        tracing::info!(patients = self.daemon.roster.patients.len(), "the configuration was read again");
        Ok(())
    }

    /// Takes in which roster a cycle went by, and what is wrong with that of the files.
    pub(super) fn judge_roster(&mut self, summary: &Summary) {
        if let Some(roster) = &summary.roster_in_force {
            // Until the files are read again.
            self.daemon.roster = roster.clone();
        }
        let shrunk = summary.roster_shrunk.as_ref().map(ToString::to_string);
        let fault = summary.roster_fault.as_ref().map(ToString::to_string);
        let told: Vec<String> = shrunk.into_iter().chain(fault).collect();
        if !told.is_empty() {
            self.raise(Problem::Roster, &told.join("; "));
        } else if self.roster_is_good {
            self.resolve(Problem::Roster);
        }
    }

    fn note_reload(&self, failed: Option<String>, fixed: &[&'static str]) {
        let now = clock::now();
        let next_tick = self.scheduler.trigger.next_tick(now);
        let mut state = self.status.state();
        state.next_tick = next_tick;
        state.reloads += 1;
        let needs_restart = fixed.iter().map(|key| (*key).to_owned()).collect();
        state.last_reload = Some(LastReload { at: stamp(now), failed, needs_restart });
    }

    /// Loads the credentials; without any, the daemon waits for them instead of ending.
    pub(super) fn load_credentials(&mut self) {
        if self.trust == CredentialTrust::Outdated {
            self.trust = CredentialTrust::Trusted;
        }
        let settings = &self.daemon.settings;
        let credentials = settings.credentials(&self.daemon.environment).map_err(|why| why.join("; "));
        match credentials.and_then(|credentials| self.api_with(credentials)) {
            Ok(api) => self.use_api(api),
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

    /// Looks, after a refusal, for others than those that were refused: where systemd has handed them
    /// over, and where the configuration says that they are. Returns whether there are any.
    pub(super) fn load_replaced_credentials(&mut self) -> bool {
        let Some(api) = &self.api else { return false };
        if self.refused.len() == REFUSED_MAX {
            return false;
        }
        if !self.refused.iter().any(|refused| refused.are(api.credentials())) {
            self.refused.push(api.credentials().clone());
        }
        let settings = &self.daemon.settings;
        let replaced = settings.credentials_besides(&self.daemon.environment, &self.refused);
        let Some(replaced) = replaced else { return false };
        match self.api_with(replaced) {
            Ok(api) => {
                tracing::info!("the credentials were replaced, and are tried");
                self.use_api(api);
                self.trust = CredentialTrust::Trusted;
                true
            }
            Err(why) => {
                tracing::error!("the credentials were replaced and cannot be used: {why}");
                false
            }
        }
    }

    fn api_with(&self, credentials: Credentials) -> Result<Api, String> {
        Api::new(&self.daemon.settings.api, credentials).map_err(|failed| format!("{failed:#}"))
    }

    fn use_api(&mut self, api: Api) {
        if let Some(before) = self.api.replace(Arc::new(api)) {
            self.status.metrics.count_answers(&before.meter);
        } else {
            self.resolve(Problem::Credentials);
        }
    }
}

type ServerKey = fn(&ServerSettings) -> String;

/// What says which server the warehouse is on and how it is reached: a service goes on with the one it began with.
const SERVER_KEYS: [(&str, ServerKey); 7] = [
    ("warehouse.url", |server| server.url.clone()),
    ("warehouse.password_file", |server| server.password.to_string()),
    ("warehouse.ca_file", |server| format!("{:?}", server.ca_file)),
    ("warehouse.schema", |server| server.schema.clone()),
    ("warehouse.prepared", |server| server.prepared.to_string()),
    ("warehouse.lease", |server| format!("{:?}", server.lease)),
    ("warehouse.retention", |server| format!("{:?}", server.retention)),
];

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
    compare("warehouse.history", new.warehouse.history != old.warehouse.history);
    let server = |wanted: ServerKey, settings: &Settings| settings.warehouse.server.as_ref().map(wanted);
    for (key, wanted) in SERVER_KEYS {
        compare(key, server(wanted, new) != server(wanted, old));
    }
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

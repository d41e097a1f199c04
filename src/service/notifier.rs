//! Notifies the outside: a heartbeat after a wholly good cycle, a command and a webhook when something
//! needs a person.
//!
//! Promise: the worker never waits for it, and nothing it runs lasts longer than a limit. The
//! command gets a sentence as its last argument, no shell, and none of our secrets.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use url::Url;

use super::problems::{Alert, Occasion};
use crate::clock;
use crate::healthex::door::{NO_TLS, http_client};
use crate::plan::{Timestamp, stamp};
use crate::settings::{AlertSettings, NetworkSettings, Settings};

/// How long a heartbeat or one run of the command may take.
const TIME_MAX: Duration = Duration::from_secs(30);
/// Alerts that wait; one more is left out, and logged.
const QUEUE_MAX: usize = 32;
const ATTEMPTS_MAX: u32 = 3;
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Not passed on to a command that somebody else wrote.
const WITHHELD_VARIABLES: [&str; 7] = [
    "HEALTHEX_TOKEN",
    "HEALTHEX_API_KEY",
    "HEALTHEX_API_SECRET",
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

enum Notification {
    Heartbeat(Url),
    Command { command: Vec<String>, alert: Alert },
    Webhook { url: Url, body: serde_json::Value },
}

impl Notification {
    /// Returns the key of the setting that it goes by.
    fn key(&self) -> &'static str {
        match self {
            Self::Heartbeat(_) => "alert.heartbeat_url",
            Self::Command { .. } => "alert.command",
            Self::Webhook { .. } => "alert.webhook_url",
        }
    }
}

/// Sends notifications one after the other, beside the worker.
pub(super) struct Notifier {
    commands: mpsc::Sender<Notification>,
    webhooks: mpsc::Sender<Notification>,
    heartbeats: mpsc::Sender<Notification>,
}

impl Notifier {
    pub(super) fn start(network: &NetworkSettings) -> anyhow::Result<Self> {
        let http = client(network)?;
        // One that hangs must not hold up the others.
        let [commands, webhooks] = [(); 2].map(|()| spawn_sender(http.clone(), QUEUE_MAX));
        Ok(Self { commands, webhooks, heartbeats: spawn_sender(http, 1) })
    }

    pub(super) fn heartbeat(&self, settings: &AlertSettings) {
        if let Some(url) = &settings.heartbeat_url {
            // One that still waits says the same.
            let _ = self.heartbeats.try_send(Notification::Heartbeat(url.clone()));
        }
    }

    pub(super) fn alert(&self, settings: &AlertSettings, alert: &Alert, now: Timestamp) {
        if !settings.wants(alert.occasion.kind()) {
            return;
        }
        for notification in notifications(settings, alert, now) {
            let (queue, key) = match &notification {
                Notification::Webhook { .. } => (&self.webhooks, notification.key()),
                Notification::Command { .. } | Notification::Heartbeat(_) => {
                    (&self.commands, notification.key())
                }
            };
            if let Err(TrySendError::Full(_) | TrySendError::Closed(_)) = queue.try_send(notification) {
                tracing::error!("{key} is too slow: {QUEUE_MAX} alerts wait, and one was left out");
            }
        }
    }
}

fn client(network: &NetworkSettings) -> anyhow::Result<reqwest::Client> {
    http_client(network)?.timeout(TIME_MAX).build().context(NO_TLS)
}

/// Returns an alert in each of the ways that the settings ask for.
fn notifications(settings: &AlertSettings, alert: &Alert, now: Timestamp) -> Vec<Notification> {
    let command = (!settings.command.is_empty())
        .then(|| Notification::Command { command: settings.command.clone(), alert: alert.clone() });
    let webhook = settings.webhook_url.as_ref().map(|url| {
        let body = serde_json::json!({
            "program": "healthex-sync",
            "version": env!("CARGO_PKG_VERSION"),
            "kind": alert.occasion.kind(),
            "phase": alert.occasion.phase(),
            "since": stamp(alert.since),
            "at": stamp(now),
            // Slack, Mattermost and their like show this and nothing else.
            "text": alert.sentence(),
        });
        Notification::Webhook { url: url.clone(), body }
    });
    command.into_iter().chain(webhook).collect()
}

/// Sends an alert that is none, in each of the ways that the settings ask for, once. Returns each by its
/// key, with why it failed.
pub(crate) async fn send_test_alert(
    settings: &Settings,
    now: Timestamp,
) -> anyhow::Result<Vec<(&'static str, Result<(), String>)>> {
    let text = "a test, sent by `healthex-sync check --send-test-alert`; nothing is wrong".to_owned();
    let alert = Alert { occasion: Occasion::Test, text, since: now };
    let http = client(&settings.api.network)?;
    let settings = &settings.alert;
    let mut sent = Vec::new();
    let heartbeat = settings.heartbeat_url.clone().map(Notification::Heartbeat);
    for notification in notifications(settings, &alert, now).into_iter().chain(heartbeat) {
        sent.push((notification.key(), send_once(&http, &notification).await));
    }
    Ok(sent)
}

fn spawn_sender(http: reqwest::Client, queue_max: usize) -> mpsc::Sender<Notification> {
    let (notifications, mut queue) = mpsc::channel(queue_max);
    tokio::spawn(async move {
        while let Some(notification) = queue.recv().await {
            send(&http, &notification).await;
        }
    });
    notifications
}

async fn send(http: &reqwest::Client, notification: &Notification) {
    #[cfg(test)]
    if is_told_to_the_stage(notification) {
        return;
    }
    let what = notification.key();
    for attempt in 1..=ATTEMPTS_MAX {
        match send_once(http, notification).await {
            Ok(()) => return,
            Err(why) if attempt == ATTEMPTS_MAX => tracing::error!("{what} failed {attempt} times: {why}"),
            Err(why) => tracing::warn!("{what} failed: {why}; trying again"),
        }
        clock::sleep(RETRY_DELAY).await;
    }
}

#[cfg(test)]
fn is_told_to_the_stage(notification: &Notification) -> bool {
    let Notification::Command { alert, .. } = notification else { return false };
    crate::simulation::stage::tell(alert.occasion.phase(), alert.occasion.kind(), &alert.text)
}

async fn send_once(http: &reqwest::Client, notification: &Notification) -> Result<(), String> {
    match notification {
        Notification::Heartbeat(url) => request(http.get(url.clone())).await,
        Notification::Webhook { url, body } => request(http.post(url.clone()).json(body)).await,
        Notification::Command { command, alert } => run_command(command, alert, clock::sleep(TIME_MAX)).await,
    }
}

/// The URL is a secret of its own, and is not in the error.
async fn request(request: reqwest::RequestBuilder) -> Result<(), String> {
    let answer = request.send().await.map_err(|failed| failed.without_url().to_string())?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("the answer was {}", status.as_u16())) }
}

/// Runs the command once. One that still runs at `timeout` is killed.
async fn run_command(
    command: &[String],
    alert: &Alert,
    timeout: impl Future<Output = ()>,
) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let mut process = Command::new(program);
    process
        .args(arguments)
        .arg(alert.sentence())
        .env("HEALTHEX_SYNC_ALERT", alert.occasion.phase())
        .env("HEALTHEX_SYNC_PROBLEM", alert.occasion.kind())
        .env("HEALTHEX_SYNC_TEXT", &alert.text)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .process_group(0);
    for name in WITHHELD_VARIABLES {
        process.env_remove(name);
    }
    let child = process.spawn().map_err(|failed| format!("{program} cannot be run: {failed}"))?;
    let mut group = ProcessGroup { leader: child };
    let ended = tokio::select! {
        ended = group.leader.wait() => ended,
        () = timeout => return Err(format!("{program} took longer than {} s and was ended", TIME_MAX.as_secs())),
    };
    match ended {
        Err(failed) => Err(format!("{program} was lost: {failed}")),
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program} ended with {status}")),
    }
}

/// A command and all processes that it has started. Dropped while the command runs, all of them
/// are killed: in a script, it is mostly not the shell that hangs.
struct ProcessGroup {
    leader: Child,
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        // A child that was waited for has no id any more.
        if let Some(leader) = self.leader.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            // What has ended meanwhile needs no signal.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::problems::Problem;

    /// Looks every now and then until there is something. Panics when the time is up.
    async fn found<T>(look: impl Fn() -> Option<T>) -> T {
        let looking = async {
            loop {
                if let Some(found) = look() {
                    return found;
                }
                clock::sleep(Duration::from_millis(5)).await;
            }
        };
        clock::timeout(Duration::from_secs(20), looking).await.unwrap()
    }

    fn is_alive(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // A zombie has ended, and was not waited for yet.
        stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let child = folder.path().join("child");
        let script = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", child.display());
        let command = ["sh", "-c", &script].map(str::to_owned);
        let alert = Alert {
            occasion: Occasion::Began(Problem::Held),
            text: "anna is held".to_owned(),
            since: Timestamp::UNIX_EPOCH,
        };
        let started = || std::fs::read_to_string(&child).ok();
        let result = run_command(&command, &alert, async { drop(found(started).await) }).await;
        assert!(result.unwrap_err().contains("took longer than 30 s"));
        let pid = started().unwrap();
        found(|| (!is_alive(pid.trim())).then_some(())).await;
    }
}

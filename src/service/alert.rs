//! Tells the outside: a heartbeat after a wholly good cycle, a command when something needs a person.
//!
//! Promise: the worker never waits for it, and nothing it runs lasts longer than a limit. The
//! command gets a sentence as its last argument, no shell, and none of our secrets.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use url::Url;

use super::problems::News;
use crate::settings::AlertSettings;

/// How long a heartbeat or one run of the command may take.
const TIME_MAX: Duration = Duration::from_secs(30);
/// What waits to be told; more than this is left out, and logged.
const QUEUE_MAX: usize = 32;
const ATTEMPTS_MAX: u32 = 3;
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(5);

/// What a command that somebody else wrote has no business with.
const WITHHELD: [&str; 7] = [
    "HEALTHEX_TOKEN",
    "HEALTHEX_API_KEY",
    "HEALTHEX_API_SECRET",
    "CREDENTIALS_DIRECTORY",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

enum Errand {
    Heartbeat(Url),
    Alert { command: Vec<String>, news: News },
}

/// Runs errands one after the other, beside the worker.
pub(super) struct Messenger {
    alerts: mpsc::Sender<Errand>,
    heartbeats: mpsc::Sender<Errand>,
}

impl Messenger {
    pub(super) fn start() -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("healthex-sync/", env!("CARGO_PKG_VERSION")))
            .timeout(TIME_MAX)
            .no_proxy()
            .build()?;
        // A heartbeat that hangs must not hold up an alert.
        Ok(Self { alerts: serve(http.clone(), QUEUE_MAX), heartbeats: serve(http, 1) })
    }

    pub(super) fn heartbeat(&self, settings: &AlertSettings) {
        if let Some(url) = &settings.heartbeat_url {
            // One that still waits says the same.
            let _ = self.heartbeats.try_send(Errand::Heartbeat(url.clone()));
        }
    }

    pub(super) fn alert(&self, settings: &AlertSettings, news: News) {
        if settings.command.is_empty() {
            return;
        }
        let errand = Errand::Alert { command: settings.command.clone(), news };
        if let Err(TrySendError::Full(_) | TrySendError::Closed(_)) = self.alerts.try_send(errand) {
            tracing::error!("alert.command is too slow: {QUEUE_MAX} alerts wait, and one was left out");
        }
    }
}

fn serve(http: reqwest::Client, queue_max: usize) -> mpsc::Sender<Errand> {
    let (errands, mut queue) = mpsc::channel(queue_max);
    tokio::spawn(async move {
        while let Some(errand) = queue.recv().await {
            run(&http, &errand).await;
        }
    });
    errands
}

async fn run(http: &reqwest::Client, errand: &Errand) {
    let what = match errand {
        Errand::Heartbeat(_) => "alert.heartbeat_url",
        Errand::Alert { .. } => "alert.command",
    };
    for attempt in 1..=ATTEMPTS_MAX {
        let result = match errand {
            Errand::Heartbeat(url) => beat(http, url.clone()).await,
            Errand::Alert { command, news } => call(command, news).await,
        };
        match result {
            Ok(()) => return,
            Err(why) if attempt == ATTEMPTS_MAX => tracing::error!("{what} failed {attempt} times: {why}"),
            Err(why) => tracing::warn!("{what} failed: {why}; trying again"),
        }
        tokio::time::sleep(BETWEEN_ATTEMPTS).await;
    }
}

/// The URL is a secret of its own, and is not told.
async fn beat(http: &reqwest::Client, url: Url) -> Result<(), String> {
    let answer = http.get(url).send().await.map_err(|failed| failed.without_url().to_string())?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("the answer was {}", status.as_u16())) }
}

async fn call(command: &[String], news: &News) -> Result<(), String> {
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    let begun = if news.is_over { "over" } else { "problem" };
    let mut call = Command::new(program);
    call.args(arguments)
        .arg(format!("healthex-sync: {}{}", if news.is_over { "over: " } else { "" }, news.text))
        .env("HEALTHEX_SYNC_ALERT", begun)
        .env("HEALTHEX_SYNC_PROBLEM", news.problem.as_str())
        .env("HEALTHEX_SYNC_TEXT", &news.text)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    for name in WITHHELD {
        call.env_remove(name);
    }
    let mut child = call.spawn().map_err(|failed| format!("{program} cannot be run: {failed}"))?;
    match tokio::time::timeout(TIME_MAX, child.wait()).await {
        Err(_) => Err(format!("{program} took longer than {} s and was ended", TIME_MAX.as_secs())),
        Ok(Err(failed)) => Err(format!("{program} was lost: {failed}")),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("{program} ended with {status}")),
    }
}

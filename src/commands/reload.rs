//! `reload`: has a running `run` read configuration and rosters again, and says what came of it.
//!
//! systemd's own signal comes without an answer: a unit that runs this fails where the reading failed.

use std::io::Write;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{Context, ExitStatus, location};
use crate::clock::Instant;
use crate::warehouse::look_for_service;
use crate::warehouse::service::{LastReload, RunReport, RunState};

/// A `run` answers at once, also in the middle of a cycle.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

pub(super) fn reload(context: &Context<'_>, json: bool, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    // With a configuration that cannot be used, its warehouse is not known: that is the answer already.
    let path = location(&context.settings()?)?;
    let RunState::Alive { pid, report } = look_for_service(&path) else {
        anyhow::bail!("no `run` of {path} is alive");
    };
    let before = report.map_or(0, |report| report.reloads);
    let number = pid.parse().ok().and_then(Pid::from_raw);
    let process = number.ok_or_else(|| anyhow::anyhow!("the process id of `run` is not known"))?;
    kill_process(process, Signal::HUP).map_err(|errno| {
        anyhow::anyhow!("`run` (pid {pid}) cannot be told: {errno}; type it as the account that it runs as")
    })?;
    let deadline = Instant::now() + ANSWER_TIME_MAX;
    while Instant::now() < deadline {
        std::thread::sleep(LOOK_INTERVAL);
        let RunState::Alive { report: Some(RunReport { reloads, last_reload, .. }), .. } =
            look_for_service(&path)
        else {
            continue;
        };
        if let Some(reload) = last_reload.filter(|_| before < reloads) {
            return tell(&reload, json, out);
        }
    }
    anyhow::bail!("`run` (pid {pid}) has not answered within {} s", ANSWER_TIME_MAX.as_secs())
}

fn tell(reload: &LastReload, json: bool, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    if json {
        let told = serde_json::json!({ "failed": reload.failed, "needs_restart": reload.needs_restart });
        writeln!(out, "{told}")?;
    }
    if let Some(failed) = &reload.failed {
        tracing::error!("{failed}");
        return Ok(ExitStatus::WrongUsage);
    }
    if json {
        return Ok(ExitStatus::Done);
    }
    writeln!(out, "configuration and rosters were read again")?;
    if !reload.needs_restart.is_empty() {
        writeln!(out, "in force only after a restart: {}", reload.needs_restart.join(", "))?;
    }
    Ok(ExitStatus::Done)
}

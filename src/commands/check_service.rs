//! What `check` looks at for `run`: its port, its alerts, its account, and whether one is alive.

use std::ffi::CString;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User, geteuid, getgrouplist};
use rustix::fs::{Access, access};
use url::Url;

use super::checks::Checks;
use super::{Context, ExitStatus, location, runtime, service_view};
use crate::clock;
use crate::plan::stale::Freshness;
use crate::plan::state::PatientState;
use crate::roster::Roster;
use crate::service::{send_test_alert, try_to_listen};
use crate::settings::{Environment, Settings};
use crate::warehouse::Reader;
use crate::warehouse::place::folder_of;
use crate::warehouse::service::{RunReport, RunState};

/// How long another machine may take to accept a connection.
const REACH_TIME_MAX: Duration = Duration::from_secs(5);

/// Says whether `run` is alive, what it does, and whether it reads what this command reads.
pub(super) fn check_run(
    context: &Context<'_>,
    settings: &Settings,
    roster: &Roster,
    checks: &mut Checks<'_>,
) -> anyhow::Result<()> {
    let Ok(reader) = Reader::open(&location(settings)?) else { return Ok(()) };
    let service = reader.service()?;
    let now = clock::now();
    for line in service_view::lines(&service, now) {
        let status =
            if line.what == "reload" { ExitStatus::WrongUsage } else { ExitStatus::SomePatientsFailed };
        if line.is_bad {
            checks.failed(line.what, &line.text, status)?;
        } else {
            checks.ok(line.what, &line.text)?;
        }
    }
    if let RunState::Alive { pid, report } = &service.run {
        check_what_run_reads(context, settings, pid, report.as_ref(), checks)?;
    }
    let mut freshness = Freshness { first_pull_at: service.first_pull_at, ..Freshness::default() };
    let listed = |id: &str| roster.patients.iter().any(|one| one.enabled && one.person.as_str() == id);
    for patient in reader.status()?.patients.iter().filter(|patient| listed(&patient.id)) {
        let state = PatientState::parse(&patient.state);
        let is_left_alone = matches!(state, Some(PatientState::Revoked | PatientState::Paused));
        if !is_left_alone && patient.consent_ended_at.is_none() {
            freshness.expect(patient.last_success_at.as_deref().and_then(crate::plan::parse_stamp));
        }
    }
    if let Some(since) = freshness.stale_since(settings.alert.stale_after, now) {
        let stale = service_view::describe_stale(since, settings, now);
        checks.failed("freshness", &stale, ExitStatus::SomePatientsFailed)?;
    }
    Ok(())
}

/// Compares what `run` was started with: systemd hands over other files and variables than a shell has.
fn check_what_run_reads(
    context: &Context<'_>,
    settings: &Settings,
    pid: &str,
    report: Option<&RunReport>,
    checks: &mut Checks<'_>,
) -> anyhow::Result<()> {
    let here = settings.file.as_deref().and_then(|file| std::fs::canonicalize(file).ok());
    let there = report.and_then(|report| report.config.as_deref());
    let there = there.and_then(|file| std::fs::canonicalize(file).ok());
    if let (Some(here), Some(there)) = (&here, &there)
        && here != there
    {
        let why = format!("`run` was started with {}, and this is {}", there.display(), here.display());
        checks.failed("run reads", &why, ExitStatus::WrongUsage)?;
    }
    // Another account's environment is its own.
    let Some(theirs) = environment_of(pid) else { return Ok(()) };
    let ours = &context.environment;
    let counts = |name: &&String| name.starts_with("HEALTHEX") && *name != "HEALTHEX_SYNC_CONFIG";
    let mut differing: Vec<&str> = theirs
        .keys()
        .chain(ours.keys())
        .filter(counts)
        .filter(|name| theirs.get(*name) != ours.get(*name))
        .map(String::as_str)
        .collect();
    differing.sort_unstable();
    differing.dedup();
    if !differing.is_empty() {
        let why = format!("`run` has other variables than this shell: {}", differing.join(", "));
        checks.ok("run reads", &why)?;
    }
    if let Some(folder) = theirs.get("CREDENTIALS_DIRECTORY")
        && let Some(file) = outdated_credential(settings, Path::new(folder))
    {
        let why = format!(
            "the running service still has another {} than the file here: `systemctl restart healthex-sync` hands the new one over",
            file.display()
        );
        checks.failed("run reads", &why, ExitStatus::CredentialsRefused)?;
    }
    Ok(())
}

fn environment_of(pid: &str) -> Option<Environment> {
    let text = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let pairs = text.split(|byte| *byte == 0).filter_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    Some(pairs.collect())
}

/// Returns the name of a credential that the service was handed over, and that has changed since.
fn outdated_credential(settings: &Settings, handed_over: &Path) -> Option<PathBuf> {
    let folder = settings.file.as_deref().map(folder_of)?;
    let names = [&settings.api.api_key_file, &settings.api.api_secret_file];
    let names = names.into_iter().chain(&settings.api.token_file).filter(|name| name.is_relative());
    let differs = |name: &&PathBuf| {
        let read = |folder: &Path| std::fs::read(folder.join(name)).ok();
        matches!((read(handed_over), read(folder)), (Some(theirs), Some(ours)) if theirs.trim_ascii() != ours.trim_ascii())
    };
    names.into_iter().find(differs).cloned()
}

/// Says as whom this runs and as whom the service would, and what that account cannot read or write.
pub(super) fn check_account(settings: &Settings, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let here = geteuid();
    let warehouse = &settings.warehouse.path;
    let found = std::fs::metadata(warehouse).or_else(|_| std::fs::metadata(folder_of(warehouse)));
    let owner = found.map_or(here, |found| Uid::from_raw(found.uid()));
    let mut line = name_of(here);
    if owner != here {
        line = format!("{line}; the service runs as {}, the owner of the warehouse", name_of(owner));
    }
    checks.ok("account", &line)?;
    let account = Account::of(owner);
    let files = settings.file.iter().chain(&settings.roster.files);
    for file in files {
        let Ok(found) = std::fs::metadata(file) else { continue };
        let (mode, path) = (found.mode() & 0o777, file.display());
        if owner != here && !account.may(&found, 0o4) {
            let why = format!(
                "{path} ({}, mode {mode:04o}) cannot be read by {}; chgrp {} {path} && chmod g+r {path}",
                name_of(Uid::from_raw(found.uid())),
                name_of(owner),
                account.group_name(),
            );
            checks.failed("files", &why, ExitStatus::WrongUsage)?;
        }
    }
    check_folder(warehouse, owner == here, &account, checks)
}

fn check_folder(
    warehouse: &Path,
    is_own: bool,
    account: &Account,
    checks: &mut Checks<'_>,
) -> anyhow::Result<()> {
    // What is not there yet is made.
    let there = folder_of(warehouse).ancestors().find(|folder| folder.is_dir());
    let folder = there.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(found) = std::fs::metadata(folder) else { return Ok(()) };
    let may_write = if is_own {
        access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
    } else {
        account.may(&found, 0o3)
    };
    let (path, mode) = (folder.display(), found.mode() & 0o777);
    if may_write {
        return Ok(checks.ok("folder", &format!("{path} (mode {mode:04o}) can be written"))?);
    }
    let (owner, who) = (name_of(Uid::from_raw(found.uid())), name_of(account.user));
    let why = format!(
        "{path} ({owner}, mode {mode:04o}) cannot be written by {who}; chown {who} {path}, or correct warehouse.path"
    );
    Ok(checks.failed("folder", &why, ExitStatus::WarehouseUnusable)?)
}

fn name_of(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name)
}

/// An account, by what the mode of a file says of it.
struct Account {
    user: Uid,
    groups: Vec<Gid>,
}

impl Account {
    fn of(uid: Uid) -> Self {
        let user = User::from_uid(uid).ok().flatten();
        let groups = user.as_ref().and_then(|user| {
            let name = CString::new(user.name.as_str()).ok()?;
            getgrouplist(&name, user.gid).ok()
        });
        let groups = groups.unwrap_or_else(|| user.map(|user| user.gid).into_iter().collect());
        Self { user: uid, groups }
    }

    /// Returns whether all of these permission bits are its own.
    fn may(&self, found: &std::fs::Metadata, bits: u32) -> bool {
        let mode = found.mode();
        let own = if found.uid() == self.user.as_raw() {
            mode >> 6
        } else if self.groups.contains(&Gid::from_raw(found.gid())) {
            mode >> 3
        } else {
            mode
        };
        self.user.is_root() || own & bits == bits
    }

    fn group_name(&self) -> String {
        let first = self.groups.first().copied();
        let group = first.and_then(|gid| Group::from_gid(gid).ok().flatten());
        group.map_or_else(|| "GROUP".to_owned(), |group| group.name)
    }
}

/// Tries the status page's port, unless a `run` has it.
pub(super) fn check_port(settings: &Settings, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let Some(listen) = settings.http.listen.as_ref() else { return Ok(()) };
    let run = crate::warehouse::look_for_service(&location(settings)?);
    let is_alive = matches!(run, RunState::Alive { .. });
    match try_to_listen(&settings.http) {
        Ok(()) => checks.ok("http.listen", &format!("{listen} is free"))?,
        Err(why) if is_alive && why.is_in_use => {
            checks.ok("http.listen", &format!("{listen} is in use, by the `run` that is alive"))?;
        }
        Err(why) => checks.failed("http.listen", &why.text, ExitStatus::Failed)?,
    }
    Ok(())
}

/// Looks for the alert command, as `run` would.
pub(super) fn check_command(
    context: &Context<'_>,
    settings: &Settings,
    checks: &mut Checks<'_>,
) -> anyhow::Result<()> {
    let Some(program) = settings.alert.command.first() else { return Ok(()) };
    let path = context.environment.get("PATH").map_or("", String::as_str);
    let candidates = if program.contains('/') {
        vec![PathBuf::from(program)]
    } else {
        std::env::split_paths(path).map(|folder| folder.join(program)).collect()
    };
    let found = candidates.iter().find(|file| file.is_file() && access(*file, Access::EXEC_OK).is_ok());
    if let Some(file) = found {
        return Ok(checks.ok("alert.command", &file.display().to_string())?);
    }
    let why = format!("{program}: no such program that can be run; correct alert.command");
    Ok(checks.failed("alert.command", &why, ExitStatus::WrongUsage)?)
}

/// Reaches for the servers of the heartbeat and the webhook; their addresses are secrets.
pub(super) fn check_alert_servers(settings: &Settings, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let urls = [
        ("alert.heartbeat_url", &settings.alert.heartbeat_url),
        ("alert.webhook_url", &settings.alert.webhook_url),
    ];
    for (key, url) in urls {
        let Some(url) = url else { continue };
        match reach(url) {
            Ok(place) => {
                checks.ok(key, &format!("{place} was reached; --send-test-alert sends something"))?;
            }
            Err(why) => checks.failed(key, &why, ExitStatus::Failed)?,
        }
    }
    Ok(())
}

fn reach(url: &Url) -> Result<String, String> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    let place = format!("{host}:{port}");
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (bare, port).to_socket_addrs();
    let addresses = addresses.map_err(|error| format!("{place}: the name cannot be resolved: {error}"))?;
    let mut failed = format!("{place}: the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, REACH_TIME_MAX) {
            Ok(_) => return Ok(place),
            Err(error) => failed = format!("{place}: {error}"),
        }
    }
    Err(failed)
}

/// Sends an alert that is none, by every way that is configured.
pub(super) fn check_alerts_arrive(settings: &Settings, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let sent = runtime()?.block_on(send_test_alert(settings, clock::now()))?;
    if sent.is_empty() {
        let why = "nothing is configured: set alert.webhook_url, alert.command or alert.heartbeat_url";
        checks.failed("alert", why, ExitStatus::WrongUsage)?;
    }
    for (key, result) in sent {
        match result {
            Ok(()) => checks.ok(key, "a test was sent")?,
            Err(why) => checks.failed(key, &why, ExitStatus::Failed)?,
        }
    }
    Ok(())
}

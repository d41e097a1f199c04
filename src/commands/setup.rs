//! `init` writes the first files; `check` says what would stand in the way.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::Context;
use super::Outcome;
use super::place;
use super::runtime;
use super::sync;
use super::wanted_tables;
use crate::clock;
use crate::healthex::RequestFailed;
use crate::healthex::client::Budget;
use crate::healthex::client::Meter;
use crate::plan::TypeFilter;
use crate::plan::paging::Query;
use crate::roster::Roster;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::glance;
use crate::warehouse::lock::Lock;
use crate::warehouse::lock::LockFor;
use crate::warehouse::open;

const CONFIG: &str = include_str!("../../config/healthex-sync.toml");
const ROSTER: &str = include_str!("../../config/roster.toml");

/// A clock further off than this deserves a word; the pull is right all the same.
const CLOCK_OFF_MAX_SECONDS: i64 = 60;

pub(super) fn init(dir: &Path, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    std::fs::create_dir_all(dir)?;
    for (name, text) in [("healthex-sync.toml", CONFIG), ("roster.toml", ROSTER)] {
        let path = dir.join(name);
        match write_new(&path, text, 0o644) {
            Ok(()) => writeln!(out, "wrote {}", path.display())?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                writeln!(out, "kept  {}, which is there already", path.display())?;
            }
            Err(error) => return Err(anyhow::anyhow!("{}: {error}", path.display())),
        }
    }
    writeln!(
        out,
        "next: put the API key and secret into {} and {} (mode 0600), list your patients in roster.toml, then `healthex-sync check`",
        dir.join("api-key").display(),
        dir.join("api-secret").display()
    )?;
    Ok(Outcome::Done)
}

/// Writes a file that is not there yet.
pub(super) fn write_new(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(text.as_bytes())
}

pub(super) fn check(context: &Context<'_>, offline: bool, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let mut checks = Checks { out, outcome: Outcome::Done };
    let (settings, roster) = match context.settings_and_roster() {
        Ok(found) => found,
        Err(complaints) => {
            for complaint in &complaints.list {
                checks.failed("configuration", complaint, Outcome::WrongUsage)?;
            }
            return Ok(checks.outcome);
        }
    };
    let file =
        settings.file.as_ref().map_or_else(|| "defaults".to_owned(), |file| file.display().to_string());
    checks.ok("configuration", &file)?;
    let enabled = roster.patients.iter().filter(|patient| patient.enabled).count();
    checks.ok("roster", &format!("{} patients, {enabled} enabled", roster.patients.len()))?;
    check_warehouse(&settings, &mut checks)?;
    check_views(&settings, &mut checks)?;
    match sync::api(context, &settings) {
        Err(error) => checks.failed("credentials", &format!("{error:#}"), Outcome::WrongUsage)?,
        Ok(_) if offline => checks.ok("credentials", "found; not tried (--offline)")?,
        Ok(api) => runtime()?.block_on(check_network(&settings, &roster, &api, &mut checks))?,
    }
    Ok(checks.outcome)
}

struct Checks<'o> {
    out: &'o mut dyn Write,
    outcome: Outcome,
}

impl Checks<'_> {
    fn ok(&mut self, what: &str, detail: &str) -> std::io::Result<()> {
        writeln!(self.out, "ok      {what:13}  {detail}")
    }

    /// The first failure decides the exit status.
    fn failed(&mut self, what: &str, why: &str, outcome: Outcome) -> std::io::Result<()> {
        if self.outcome == Outcome::Done {
            self.outcome = outcome;
        }
        writeln!(self.out, "FAILED  {what:13}  {why}")
    }
}

fn check_warehouse(settings: &Settings, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let place = place(settings);
    match open::open_reader(&place.path) {
        Err(OpenFailed::Missing(path)) => {
            checks.ok("warehouse", &format!("{}: none yet; the first sync makes it", path.display()))?;
            return Ok(());
        }
        Err(failed) => checks.failed("warehouse", &failed.to_string(), Outcome::WarehouseUnusable)?,
        Ok(connection) => {
            if let Err(failed) = open::check_server(&connection, &place) {
                checks.failed("warehouse", &failed.to_string(), Outcome::WarehouseUnusable)?;
            } else {
                let (version, known) = (open::user_version(&connection)?, open::SCHEMA_VERSION);
                checks.ok("warehouse", &format!("{}, schema {version} of {known}", place.path.display()))?;
                check_file(&place.path, checks)?;
            }
        }
    }
    match Lock::take(&place.path, LockFor::Writing) {
        Ok(_) => {}
        Err(OpenFailed::InUse { pid, .. }) => {
            checks.ok("lock", &format!("held by a cycle under way (pid {pid})"))?;
        }
        Err(failed) => checks.failed("lock", &failed.to_string(), Outcome::WarehouseUnusable)?,
    }
    Ok(())
}

/// Who may read the warehouse, and whether there is room to remove the last bytes of a purge.
fn check_file(path: &Path, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let mode = std::fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o027 == 0 {
        checks.ok("file mode", &format!("{mode:04o}"))?;
    } else {
        let why = format!("{mode:04o}: others can read or write it; chmod 600 {}", path.display());
        checks.failed("file mode", &why, Outcome::Failed)?;
    }
    let Some((free, needed)) = glance::room(path) else { return Ok(()) };
    let line = format!("{} MB free, and VACUUM may need {} MB", free / 1_000_000, needed / 1_000_000);
    if free < needed {
        checks.failed("disk room", &format!("{line}; make room"), Outcome::Failed)?;
    } else {
        checks.ok("disk room", &line)?;
    }
    Ok(())
}

/// Each of the user's own views that cannot be a table, with its file.
fn check_views(settings: &Settings, checks: &mut Checks<'_>) -> anyhow::Result<()> {
    let (tables, mut wrong) = wanted_tables(settings);
    wrong.extend(tables.rehearse()?.into_iter().map(|(name, why)| format!("{name}: {why}")));
    for why in &wrong {
        checks.failed("views", why, Outcome::WrongUsage)?;
    }
    if wrong.is_empty() {
        checks.ok("views", &format!("{} tables", tables.iter().count()))?;
    }
    Ok(())
}

async fn check_network(
    settings: &Arc<Settings>,
    roster: &Roster,
    api: &crate::healthex::client::Api,
    checks: &mut Checks<'_>,
) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    match api.token(&stop).await {
        Ok(token) => {
            let minutes = token.remaining().as_secs() / 60;
            checks.ok("credentials", &format!("{}, a token for {minutes} min", settings.api.base_url))?;
        }
        Err(failed @ RequestFailed::CredentialsRefused { .. }) => {
            return Ok(checks.failed("credentials", &failed.to_string(), Outcome::CredentialsRefused)?);
        }
        Err(failed) => {
            return Ok(checks.failed("credentials", &failed.to_string(), Outcome::SomePatientsFailed)?);
        }
    }
    let Some(patient) = roster.patients.iter().find(|patient| patient.enabled).or(roster.patients.first())
    else {
        return Ok(());
    };
    let query = Query {
        person: patient.person.clone(),
        types: TypeFilter::default(),
        since: None,
        page_size: Some(1),
    };
    let ends = Instant::now() + settings.api.limits.page_timeout;
    let budget = Budget { meter: Meter::default(), bytes_max: u64::MAX, ends };
    let name = patient.name();
    match api.open_page(&query.first_url(api.base_url()), &budget, &stop).await {
        Ok(page) => {
            checks.ok("request", &format!("{name} is permitted"))?;
            if let Some(date) = page.server_date {
                let off = (date - clock::now()).num_seconds();
                let line = format!("{off} s from the server's; pulls are right all the same");
                if off.abs() > CLOCK_OFF_MAX_SECONDS {
                    checks.failed("clock", &line, Outcome::Failed)?;
                } else {
                    checks.ok("clock", &line)?;
                }
            }
        }
        Err(RequestFailed::Forbidden) => {
            checks.ok("request", &format!("{name} is refused (403): no consent"))?;
        }
        Err(failed @ RequestFailed::TokenRefused) => {
            checks.failed("request", &failed.to_string(), Outcome::CredentialsRefused)?;
        }
        Err(failed) => checks.failed("request", &format!("{name}: {failed}"), Outcome::SomePatientsFailed)?,
    }
    Ok(())
}

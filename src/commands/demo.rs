//! `demo` shows the main job with made-up patients, and `sandbox` is the server it runs against.

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;

use super::setup::{make_private_folder, write_new};
use super::sync::{Session, api, run_cycle};
use super::terminal::Screen;
use super::{Context, ExitStatus, location, place, runtime, summary};
use crate::cli::SandboxArgs;
use crate::cycle::{RecordsAsked, SyncRequest};
use crate::sandbox::{PersonConsent, Population, Sandbox, ScriptedFault};
use crate::settings::Complaints;
use crate::stop::Stop;
use crate::warehouse::place::OtherServer;
use crate::warehouse::{Reader, Warehouse};
use crate::{clock, roster, settings, telemetry};

/// Only a folder that holds this file is used by a second demo.
const MARKER: &str = ".healthex-sync-demo";
/// What a demo, and what is done with its warehouse, leaves in its folder. All else is somebody's.
const MADE: [&str; 15] = [
    MARKER,
    "healthex-sync.toml",
    "roster.toml",
    "api-key",
    "api-secret",
    "warehouse.db",
    "warehouse.db-wal",
    "warehouse.db-shm",
    "warehouse.db-journal",
    "warehouse.db.new",
    "warehouse.db.lock",
    "warehouse.db.run.lock",
    "warehouse.db.purges",
    "warehouse.db.copies",
    "warehouse.db.purge-requests",
];
const PATIENTS: usize = 12;
const SEED: u64 = 1;
/// The default of `sandbox --listen`, so that a later `sync` finds it where the demo's was.
const PORT: u16 = 8787;

pub(super) fn demo(context: &Context<'_>, dir: &Path, out: &mut dyn Write) -> anyhow::Result<ExitStatus> {
    telemetry::start(None, context.log_level().or(Some("error")));
    prepare_folder(dir)?;
    let listen = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let population = Population::generated(PATIENTS, SEED);
    let sandbox = Sandbox::start(listen(PORT), population)
        .or_else(|_| Sandbox::start(listen(0), Population::generated(PATIENTS, SEED)))
        .context("the sandbox cannot listen on a loopback port")?;
    let base_url = sandbox.base_url();
    begin_without_the_late(&sandbox)?;
    let config = write_files(dir, &base_url, &sandbox.person_ids())?;
    let settings = Arc::new(settings::load(Some(&config), &std::collections::HashMap::new())?);
    let roster = roster::load(&settings.roster).map_err(Complaints::new)?;
    let api = api(&Context { cli: context.cli, environment: std::collections::HashMap::new() }, &settings)?;
    let runtime = runtime()?;
    writeln!(out, "A simulated HealthEx with {PATIENTS} made-up patients listens on {base_url}.\n")?;
    writeln!(out, "First cycle: everything.")?;
    let status = runtime.block_on(async {
        let stop = Stop::on_signals()?;
        let session = Session { settings: settings.clone(), api, stop };
        let place = place(&settings)?;
        let open = || Warehouse::open(&place, OtherServer::Refuse, clock::now());
        let request = || SyncRequest { records: RecordsAsked::Now, ..SyncRequest::default() };
        let first = run_cycle(session.clone(), open()?, &roster, request()).await?;
        summary::print(&first, out)?;
        let Changes { changed, consents, withdraws } = change_the_server(&sandbox)?;
        writeln!(out)?;
        let happens = format!(
            "On the server, {changed} has a new lab result, {withdraws} withdraws the consent, and {consents}, whom no file lists, consents."
        );
        Screen::of_stdout().write(0, &happens, out)?;
        writeln!(out, "Second cycle: what changed.")?;
        let second = run_cycle(session, open()?, &roster, request()).await?;
        summary::print(&second, out)?;
        anyhow::Ok(ExitStatus::of_cycle(&second))
    })?;
    let reader = Reader::open(&location(&settings)?)?;
    writeln!(out, "\nThe latest HbA1c of each patient, from the warehouse:")?;
    print_table(&reader.demo_table()?, out)?;
    print_next_steps(dir, &base_url, out)?;
    Ok(status)
}

fn print_next_steps(dir: &Path, base_url: &str, out: &mut dyn Write) -> anyhow::Result<()> {
    let listen = base_url.trim_start_matches("http://");
    let program = name_of_this_program(dir);
    let screen = Screen::of_stdout();
    writeln!(out)?;
    let warehouse = dir.join("warehouse.db");
    let place = format!("The warehouse is {}, a SQLite file. Type next:", warehouse.display());
    screen.write(0, &place, out)?;
    writeln!(out, "  cd {}", dir.display())?;
    let sandbox = format!("sandbox --listen {listen} &");
    for (command, remark) in [
        ("status", ""),
        ("audit", ""),
        (sandbox.as_str(), ""),
        ("sync", "  # from the server as it was at first"),
    ] {
        let line = format!("  {program} {command}");
        let fits = line.chars().count() + remark.len() <= screen.width;
        writeln!(out, "{line}{}", if fits { remark } else { "" })?;
    }
    Ok(())
}

/// Returns what a shell in `dir` finds this program by: its name, or its path, the shorter of two.
fn name_of_this_program(dir: &Path) -> String {
    const NAME: &str = "healthex-sync";
    let Ok(program) = std::env::current_exe() else { return NAME.to_owned() };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(NAME)).find(|file| file.is_file());
    let is_it = found.and_then(|file| fs::canonicalize(file).ok()).is_some_and(|file| file == program);
    if is_it {
        return NAME.to_owned();
    }
    let (near, far) =
        (fs::canonicalize(dir).map(|dir| relative(&program, &dir)), program.display().to_string());
    near.map(|near| near.display().to_string()).ok().filter(|near| near.len() < far.len()).unwrap_or(far)
}

/// Returns the way to `path` from `folder`, both of them absolute.
fn relative(path: &Path, folder: &Path) -> PathBuf {
    let shared = path.components().zip(folder.components()).take_while(|(one, other)| one == other).count();
    let up = folder.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(path.components().skip(shared)).collect()
}

/// Makes a folder, or clears an earlier demo's of what that has made.
fn prepare_folder(dir: &Path) -> anyhow::Result<()> {
    let refuse = || {
        let why = format!(
            "{}: is there already and is not a demo's folder; name another: healthex-sync demo DIR",
            dir.display()
        );
        anyhow::Error::from(Complaints::one(why))
    };
    // A link would lead to a folder that somebody else chose.
    let is_link = dir.symlink_metadata().is_ok_and(|found| found.is_symlink());
    match fs::read_dir(dir).map(Iterator::count) {
        _ if is_link => return Err(refuse()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(_) => return Err(refuse()),
        Ok(0) => {}
        Ok(_) if is_my_file(&dir.join(MARKER)) => clear(dir)?,
        Ok(_) => return Err(refuse()),
    }
    make_private_folder(dir).with_context(|| dir.display().to_string())?;
    Ok(write_new(&dir.join(MARKER), "`healthex-sync demo` made this folder and may replace it.\n", 0o600)?)
}

fn is_my_file(path: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    path.symlink_metadata().is_ok_and(|found| found.is_file() && found.uid() == me)
}

/// Removes what a demo has made, and nothing else.
fn clear(dir: &Path) -> anyhow::Result<()> {
    for path in MADE.map(|name| dir.join(name)) {
        let removed = match path.symlink_metadata() {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&path),
            Ok(_) => fs::remove_file(&path),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn write_files(dir: &Path, base_url: &str, ids: &[String]) -> anyhow::Result<PathBuf> {
    let dir = fs::canonicalize(dir)?;
    let config = dir.join("healthex-sync.toml");
    let text = format!(
        "# Made by `healthex-sync demo`. `healthex-sync init` writes a file with every key.\n[api]\nbase_url = \"{base_url}\"\nproxy = \"none\"\n\n[roster]\nstudies = [\"{}\"]   # whoever consents is on the roster beside roster.toml\n",
        Sandbox::STUDY
    );
    write_new(&config, &text, 0o644)?;
    let mut roster = String::new();
    let late = cast(ids)?.late;
    for (number, id) in (1..).zip(ids).filter(|(_, id)| *id != late) {
        writeln!(roster, "[[patient]]\nid = \"{id}\"\nlabel = \"demo-{number:02}\"\n")?;
    }
    write_new(&dir.join("roster.toml"), &roster, 0o600)?;
    write_new(&dir.join("api-key"), Sandbox::API_KEY, 0o600)?;
    write_new(&dir.join("api-secret"), Sandbox::API_SECRET, 0o600)?;
    Ok(config)
}

/// Whom the demo changes between its cycles, by the names it shows.
struct Changes {
    changed: String,
    consents: String,
    withdraws: String,
}

/// The patients that the demo changes, of those that the sandbox has.
struct Cast<'i> {
    first: &'i str,
    /// Consents during the demo, and is in no file.
    late: &'i str,
    last: &'i str,
}

fn cast(ids: &[String]) -> anyhow::Result<Cast<'_>> {
    match ids {
        [first, .., late, last] => Ok(Cast { first, late, last }),
        _ => anyhow::bail!("the sandbox has too few patients"),
    }
}

/// Lets the late one not have consented yet.
fn begin_without_the_late(sandbox: &Sandbox) -> anyhow::Result<()> {
    let ids = sandbox.person_ids();
    let late = cast(&ids)?.late;
    let consent = sandbox.consent(late).unwrap_or_default();
    sandbox.set_consent(late, PersonConsent { recorded: false, permitted: false, ..consent });
    Ok(())
}

/// Adds a result for the first patient, withdraws the last one, and has another consent.
fn change_the_server(sandbox: &Sandbox) -> anyhow::Result<Changes> {
    let ids = sandbox.person_ids();
    let Cast { first, late, last } = cast(&ids)?;
    let resource = r#"{"resourceType":"Observation","id":"demo-hba1c","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"4548-4","display":"Hemoglobin A1c/Hemoglobin.total in Blood"}]},"effectiveDateTime":"2026-11-02T08:30:00Z","valueQuantity":{"value":6.10,"unit":"%","system":"http://unitsofmeasure.org","code":"%"}}"#;
    sandbox.put(first, None, resource);
    sandbox.withdraw(last);
    let consent = sandbox.consent(late).unwrap_or_default();
    sandbox.set_consent(late, PersonConsent { recorded: true, permitted: true, ..consent });
    let withdraws = format!("demo-{:02}", ids.len());
    Ok(Changes { changed: "demo-01".to_owned(), consents: late.to_owned(), withdraws })
}

fn print_table(rows: &[Vec<String>], out: &mut dyn Write) -> std::io::Result<()> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "  {}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

pub(super) fn sandbox(
    context: &Context<'_>,
    args: &SandboxArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    telemetry::start(None, context.log_level().or(Some("warn")));
    if !args.listen.ip().is_loopback() && !args.public {
        let why = format!(
            "--listen {}: other machines reach this address, and whoever knows the sandbox's key could read what it serves; add --public if they may",
            args.listen
        );
        return Err(Complaints::one(why).into());
    }
    let population = match &args.data {
        Some(folder) => {
            Population::from_folder(folder).map_err(|failed| Complaints::one(failed.to_string()))?
        }
        None => Population::generated(args.patients, args.seed),
    };
    let faults = match &args.faults {
        Some(file) => ScriptedFault::load(file).map_err(|failed| Complaints::one(failed.to_string()))?,
        None => Vec::new(),
    };
    let sandbox = Sandbox::start(args.listen, population)
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    for fault in faults {
        sandbox.script(fault);
    }
    if args.public {
        tracing::warn!(
            "other machines can read what is served here; on this one it is {}",
            sandbox.base_url()
        );
    }
    // Whoever reads that it listens may stop it at once.
    let runtime = runtime()?;
    let stop = runtime.block_on(async { Stop::on_signals() })?;
    let (base_url, ids) = (format!("http://{}", sandbox.address()), sandbox.person_ids());
    if args.json {
        writeln!(out, "{}", serde_json::json!({ "base_url": base_url, "patients": ids }))?;
    } else {
        writeln!(out, "listening on {base_url}")?;
        ids.iter().try_for_each(|id| writeln!(out, "{id}"))?;
    }
    out.flush()?;
    runtime.block_on(stop.gently.cancelled());
    Ok(ExitStatus::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_goes_up_as_far_as_needed() {
        let check = |path: &str, folder: &str, way: &str| {
            assert_eq!(relative(Path::new(path), Path::new(folder)), Path::new(way), "{path} from {folder}");
        };
        check("/a/target/release/x", "/a/demo", "../target/release/x");
        check("/a/x", "/a", "x");
        check("/x", "/tmp/demo", "../../x");
    }
}

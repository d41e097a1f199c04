//! `export`: writes a folder that appears as a whole or not at all.

use std::fs;
use std::fs::DirBuilder;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::named::known_patient;
use super::{Context, ExitStatus, location, progress, wanted_tables};
use crate::cli::{ExportArgs, ExportFormat as FormatArg};
use crate::clock;
use crate::export::{
    Dates, Earlier, Exported, Format, MANIFEST_NAME, Pseudonyms, Request, Source, sources, told_of, write,
};
use crate::plan::{Timestamp, parse_stamp, stamp};
use crate::settings::{Complaints, Settings, parse_bytes};
use crate::warehouse::place::{Location, folder_of};
use crate::warehouse::report::{CopyKind, PatientCopy};
use crate::warehouse::{Reader, Snapshot};
use crate::wording::counted;

/// How often an export is begun again because somebody was purged while it was written.
const ATTEMPTS: usize = 3;

pub(super) fn export(
    context: &Context<'_>,
    args: &ExportArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    let format = format_of(args)?;
    check_free(&args.dir)?;
    let split_bytes = parse_bytes(&args.split).map_err(|why| complain(format!("--split: {why}")))?;
    let location = location(&settings)?;
    let reader = Reader::open(&location)?;
    check_purges(&reader, &settings)?;
    let person = args.patient.as_deref().map(|named| known_patient(&settings, &reader, named)).transpose()?;
    if let Some(person) = &person
        && !reader.knows(person)?
    {
        let named = args.patient.as_deref().unwrap_or_default();
        return Err(complain(format!("--patient {named}: the warehouse does not know this patient")));
    }
    let pseudonyms = args.pseudonymous.then(|| pseudonyms(args, &settings)).transpose()?;
    let since = args.since.as_deref().map(|text| since(text, format, pseudonyms.as_ref())).transpose()?;
    let mut request = Request {
        format,
        names: &args.tables,
        person: person.as_ref(),
        since,
        pseudonyms: pseudonyms.as_ref(),
        split_bytes,
        views: &wanted_tables(&settings).tables,
        now: clock::now(),
    };
    // Before anything is written: a wrong name is told at once.
    chosen(&reader.snapshot()?, &request)?;
    let copy = PatientCopy { kind: CopyKind::Export, place: &args.dir, person: person.as_ref() };
    reader.begin_copy(&copy, clock::now())?;
    if let Location::Server(_) = location {
        tracing::info!(
            "while it is written, the database keeps the last bytes of patients who are purged: no scrub ends before it"
        );
    }
    let exported = write_folder(&reader, &mut request, &args.dir);
    reader.end_copy(&copy, exported.is_ok(), clock::now())?;
    let exported = exported?;
    if args.json {
        let Exported { files, rows, left_out } = exported;
        let folder = std::path::absolute(&args.dir)?;
        let told =
            serde_json::json!({ "folder": folder, "files": files, "rows": rows, "left_out": left_out });
        writeln!(out, "{told}")?;
        return Ok(ExitStatus::Done);
    }
    writeln!(
        out,
        "{} in {} in {}",
        counted(exported.rows, "row", "rows"),
        counted(exported.files, "file", "files"),
        args.dir.display()
    )?;
    if exported.left_out > 0 {
        writeln!(
            out,
            "{} resources were left out: they say something that no pseudonymous export can; {MANIFEST_NAME} has how many of each type",
            exported.left_out
        )?;
    }
    Ok(ExitStatus::Done)
}

fn format_of(args: &ExportArgs) -> anyhow::Result<Format> {
    match (args.format, args.safe) {
        (FormatArg::Csv, true) => Ok(Format::SafeCsv),
        (_, true) => Err(complain("--safe: is for CSV, which spreadsheets open".to_owned())),
        (FormatArg::Csv, false) => Ok(Format::Csv),
        (FormatArg::Ndjson, false) => Ok(Format::Ndjson),
        (FormatArg::Parquet, false) => Ok(Format::Parquet),
        (FormatArg::Bundle, false) => Ok(Format::Bundle),
    }
}

/// Refuses a file that was put back from a copy and still has patients who were purged since.
fn check_purges(reader: &Reader, settings: &Settings) -> anyhow::Result<()> {
    let ledger = reader.ledger(settings.consent.ledger.as_deref())?;
    anyhow::ensure!(
        ledger.unknown == 0,
        "nothing was exported: the ledger tells of {} purges that this warehouse does not know, so it has patients who must not be in it; `healthex-sync sync` carries them out",
        ledger.unknown
    );
    Ok(())
}

/// Reads the key of pseudonyms, or makes one.
fn pseudonyms(args: &ExportArgs, settings: &Settings) -> anyhow::Result<Pseudonyms> {
    let beside_the_warehouse = || {
        let mut name = settings.warehouse.path.as_os_str().to_owned();
        name.push(".pseudonym-key");
        PathBuf::from(name)
    };
    let file = args.key_file.clone().unwrap_or_else(beside_the_warehouse);
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if absolute(&file).starts_with(absolute(&args.dir)) {
        return Err(complain(format!(
            "--key-file {}: whoever has the export must not have the key; keep it apart",
            file.display()
        )));
    }
    let dates = if args.shift_dates { Dates::Shifted } else { Dates::AsTheyAre };
    Pseudonyms::from_file(&file, dates).map_err(complain)
}

/// Reads a time, a day, or since when an export has to follow an earlier one.
fn since(text: &str, format: Format, pseudonyms: Option<&Pseudonyms>) -> anyhow::Result<Timestamp> {
    if let Some(time) = parse_stamp(text).or_else(|| parse_stamp(&format!("{text}T00:00:00Z"))) {
        return Ok(time);
    }
    let place = Path::new(text);
    let manifest = if place.is_dir() { place.join(MANIFEST_NAME) } else { place.to_owned() };
    let name = manifest.display();
    let read = fs::read(&manifest).map_err(|error| {
        complain(format!(
            "--since {text}: is no time such as 2026-11-01T00:00:00Z and no day, and no earlier export: {name}: {error}"
        ))
    })?;
    let earlier: Earlier = serde_json::from_slice(&read)
        .map_err(|error| complain(format!("--since {text}: {name} is no manifest of an export: {error}")))?;
    if earlier.format != format.as_str() {
        return Err(complain(format!(
            "--since {text}: that export is {}, and this one {}; what follows has to be the same",
            earlier.format,
            format.as_str()
        )));
    }
    if earlier.pseudonymous != pseudonyms.map(told_of) {
        return Err(complain(format!(
            "--since {text}: that export has other names for the patients; use the same key, or none"
        )));
    }
    let time = parse_stamp(&earlier.next_since);
    time.ok_or_else(|| complain(format!("--since {text}: {name} has no time in next_since")))
}

/// Returns what is asked for, if it can be had.
fn chosen(snapshot: &Snapshot<'_>, request: &Request<'_>) -> anyhow::Result<Vec<Source>> {
    let chosen = sources(snapshot, request)?.map_err(complain)?;
    if let (Some(since), Some(known)) = (request.since, snapshot.removals_known_since()?)
        && since < known
    {
        return Err(complain(format!(
            "--since {}: what vanished before {} is no longer known; export everything",
            stamp(since),
            stamp(known)
        )));
    }
    Ok(chosen)
}

/// Writes the files, and lets the folder appear when they are whole. Of a patient who was purged meanwhile nothing
/// may be in them, so that they are written anew.
fn write_folder(reader: &Reader, request: &mut Request<'_>, dir: &Path) -> anyhow::Result<Exported> {
    for _ in 0..ATTEMPTS {
        let staging = Staging::beside(dir)?;
        request.now = clock::now();
        let snapshot = reader.snapshot()?;
        let last_purge = snapshot.last_purge()?;
        let chosen = chosen(&snapshot, request)?;
        let bar = progress::steps(0, "files");
        let exported = write(&snapshot, request, &chosen, &staging.folder, |steps| {
            bar.set_length(steps.of as u64);
            bar.set_position(steps.done as u64);
        });
        bar.finish_and_clear();
        let exported = exported.with_context(|| format!("exporting into {}", dir.display()))?;
        drop(snapshot);
        if reader.last_purge()? == last_purge {
            staging.put_in_place(dir).with_context(|| dir.display().to_string())?;
            return Ok(exported);
        }
        tracing::warn!("a patient was purged while the export was written; it is written anew without it");
    }
    anyhow::bail!(
        "nothing was exported: {ATTEMPTS} times a patient was purged while it was written; export again when the purges are over"
    )
}

fn complain(why: String) -> anyhow::Error {
    Complaints::one(why).into()
}

/// Refuses a place where there is anything but an empty folder.
fn check_free(dir: &Path) -> anyhow::Result<()> {
    let name = dir.display();
    if dir.symlink_metadata().is_ok_and(|found| found.is_symlink()) {
        return Err(complain(format!("{name}: is a symbolic link; name the folder itself")));
    }
    match fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(complain(format!("{name}: is there already and not empty; name another folder"))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(complain(format!("{name}: {error}; name another folder"))),
    }
}

/// A folder beside its final place; removed unless it is moved there.
struct Staging {
    folder: PathBuf,
}

impl Staging {
    fn beside(dir: &Path) -> anyhow::Result<Self> {
        let Some(name) = dir.file_name() else {
            return Err(complain(format!("{}: name a folder", dir.display())));
        };
        let stem = format!(".{}.partial-", name.to_string_lossy());
        let folder = dir.with_file_name(format!("{stem}{}", std::process::id()));
        let beside = folder_of(dir);
        let made = DirBuilder::new().mode(0o700).recursive(true).create(beside);
        made.with_context(|| beside.display().to_string())?;
        clear_leftovers(beside, &stem);
        // Only a folder that is new is nobody else's.
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.with_context(|| folder.display().to_string())?;
        Ok(Self { folder })
    }

    fn put_in_place(self, dir: &Path) -> std::io::Result<()> {
        fs::File::open(&self.folder)?.sync_all()?;
        // Replaces an empty folder, and nothing else.
        fs::rename(&self.folder, dir)?;
        fs::File::open(folder_of(dir))?.sync_all()
    }
}

/// Removes what killed exports into the same place have left behind: it is patients' data.
fn clear_leftovers(folder: &Path, stem: &str) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(stem));
        let is_left = owner
            .and_then(|owner| owner.parse::<u32>().ok())
            .is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists());
        if is_left && is_my_folder(&entry.path()) {
            match fs::remove_dir_all(entry.path()) {
                Ok(()) => tracing::warn!("{}: left by a killed export; removed", entry.path().display()),
                Err(error) => tracing::warn!("{}: {error}; remove it", entry.path().display()),
            }
        }
    }
}

/// Returns whether it is a folder of this account's, and no link to one.
fn is_my_folder(path: &Path) -> bool {
    let me = rustix::process::geteuid().as_raw();
    path.symlink_metadata().is_ok_and(|found| found.is_dir() && found.uid() == me)
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Of a finished export nothing is left here; of a failed one, patients' data.
        if self.folder.exists()
            && let Err(error) = fs::remove_dir_all(&self.folder)
        {
            tracing::warn!("{}: {error}; remove it", self.folder.display());
        }
    }
}

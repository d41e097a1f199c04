//! `export`: writes a folder that appears as a whole or not at all.

use std::fs;
use std::fs::DirBuilder;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::named::known_patient;
use super::{Context, ExitStatus, progress};
use crate::cli::{ExportArgs, ExportFormat as FormatArg};
use crate::clock;
use crate::plan::PersonId;
use crate::settings::Complaints;
use crate::warehouse::Reader;
use crate::warehouse::place::folder_of;
use crate::warehouse::report::{CopyKind, ExportFormat, Exported, PatientCopy};

pub(super) fn export(
    context: &Context<'_>,
    args: &ExportArgs,
    out: &mut dyn Write,
) -> anyhow::Result<ExitStatus> {
    let settings = context.settings()?;
    check_free(&args.dir)?;
    let reader = Reader::open(&settings.warehouse.path)?;
    let person = args.patient.as_deref().map(|named| known_patient(&settings, &reader, named)).transpose()?;
    if let Some(person) = &person
        && !reader.knows(person)?
    {
        return Err(complain(format!("--patient {person}: the warehouse does not know this patient")));
    }
    let format = match args.format {
        FormatArg::Ndjson => ExportFormat::Ndjson,
        FormatArg::Csv => ExportFormat::Csv,
        FormatArg::Parquet => ExportFormat::Parquet,
    };
    let copy = PatientCopy { kind: CopyKind::Export, place: &args.dir, person: person.as_ref() };
    reader.begin_copy(&copy, clock::now())?;
    let exported = write_folder(&reader, format, &args.dir, person.as_ref());
    reader.end_copy(&copy, exported.is_ok(), clock::now())?;
    let exported = exported?;
    writeln!(out, "{} rows in {} files in {}", exported.rows, exported.files, args.dir.display())?;
    Ok(ExitStatus::Done)
}

/// Writes the files, and lets the folder appear when they are whole.
fn write_folder(
    reader: &Reader,
    format: ExportFormat,
    dir: &Path,
    person: Option<&PersonId>,
) -> anyhow::Result<Exported> {
    let staging = Staging::beside(dir)?;
    let bar = progress::steps(0, "files");
    let exported = reader.export(format, &staging.folder, person, |steps| {
        bar.set_length(steps.of as u64);
        bar.set_position(steps.done as u64);
    });
    bar.finish_and_clear();
    let exported = exported.with_context(|| format!("exporting into {}", dir.display()))?;
    staging.put_in_place(dir).with_context(|| dir.display().to_string())?;
    Ok(exported)
}

fn complain(why: String) -> anyhow::Error {
    Complaints::one(why).into()
}

/// Refuses a place where there is anything but an empty folder.
fn check_free(dir: &Path) -> anyhow::Result<()> {
    let name = dir.display();
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
        clear_leftovers(folder_of(dir), &stem);
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&folder)
            .with_context(|| folder.display().to_string())?;
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
        if is_left {
            match fs::remove_dir_all(entry.path()) {
                Ok(()) => tracing::warn!("{}: left by a killed export; removed", entry.path().display()),
                Err(error) => tracing::warn!("{}: {error}; remove it", entry.path().display()),
            }
        }
    }
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

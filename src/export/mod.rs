//! The warehouse as files for other tools: resources and analysts' tables, as NDJSON, CSV, Parquet or Bundles.
//!
//! Promise: all files are of one moment, readable by their owner only, and on the disk when [`write`] returns; what
//! was marked as deleted or belongs to a purged patient is in none of them. With pseudonyms, nothing is in them that is not
//! known to be harmless. Absent on purpose: where the folder ends up (`commands` moves the whole of it into place),
//! and any engine.

mod bundle;
mod cell;
mod code;
mod columns;
mod known_words;
mod manifest;
mod output;
mod parquet_file;
mod pseudonym;
mod redact;
mod resources;
mod rows_file;
mod spreadsheet;
mod tables;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::json;

use self::columns::ColumnTypes;
use self::known_words::KnownWords;
use self::manifest::{Manifest, PseudonymsTold};
use self::output::{Content, FileName, HashedFile, WrittenFile};
use self::redact::Redaction;
use self::rows_file::{RowsFormat, Target};
use crate::plan::resource_type::ResourceType;
use crate::plan::{PersonId, Timestamp, stamp};
use crate::views::AnalystTable;
use crate::warehouse::Snapshot;
use crate::warehouse::extract::{Selection, TableShape};
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::report::Steps;

pub(crate) use self::manifest::{Earlier, NAME as MANIFEST_NAME};
pub(crate) use self::pseudonym::{Dates, Pseudonyms};

/// Why an export was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportFailed {
    #[error(transparent)]
    Store(#[from] StoreFailed),
    #[error(
        "the analysts' table {0} is still being built: `sync` goes on with it, `views apply` builds it now"
    )]
    Unfinished(String),
    #[error("writing files: {0}")]
    Io(#[from] std::io::Error),
    #[error("writing rows: {0}")]
    Csv(#[from] csv::Error),
    #[error("writing rows: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
}

/// What an export is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Ndjson,
    Csv,
    /// CSV that a spreadsheet may open.
    SafeCsv,
    Parquet,
    /// One person as one Bundle.
    Bundle,
}

impl Format {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv | Self::SafeCsv => "csv",
            Self::Parquet => "parquet",
            Self::Bundle => "bundle",
        }
    }

    fn rows(self) -> RowsFormat {
        match self {
            Self::Ndjson | Self::Bundle => RowsFormat::Ndjson,
            Self::Csv => RowsFormat::Csv,
            Self::SafeCsv => RowsFormat::SafeCsv,
            Self::Parquet => RowsFormat::Parquet,
        }
    }
}

/// What is asked of an export.
pub(crate) struct Request<'e> {
    pub(crate) format: Format,
    /// Names of analysts' tables and of types; empty is what the format is for.
    pub(crate) names: &'e [String],
    pub(crate) person: Option<&'e PersonId>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) pseudonyms: Option<&'e Pseudonyms>,
    pub(crate) split_bytes: u64,
    /// The views that the tables are made by: what their columns are.
    pub(crate) views: &'e [AnalystTable],
    pub(crate) now: Timestamp,
}

/// What is written: a type's resources, or a table.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Resources(&'static ResourceType),
    Table(TableShape),
}

/// What an export came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exported {
    pub(crate) files: u64,
    pub(crate) rows: u64,
    pub(crate) left_out: u64,
}

/// Returns what the request names, or a complaint about a name.
pub(crate) fn sources(
    snapshot: &Snapshot<'_>,
    request: &Request<'_>,
) -> Result<Result<Vec<Source>, String>, StoreFailed> {
    let (types, tables) = (snapshot.resource_types()?, snapshot.tables()?);
    let all_types = || types.iter().copied().map(Source::Resources);
    if request.names.is_empty() {
        let all_tables = tables.iter().cloned().map(Source::Table);
        return Ok(Ok(match request.format {
            Format::Ndjson | Format::Bundle => all_types().collect(),
            Format::Csv | Format::SafeCsv => all_tables.collect(),
            Format::Parquet => all_tables.chain(all_types()).collect(),
        }));
    }
    let mut chosen: Vec<Source> = Vec::new();
    for name in request.names {
        let table = tables.iter().find(|table| table.name == *name);
        let known = ResourceType::by_name(name).or_else(|| ResourceType::by_table(name));
        match (table, known) {
            (Some(_), _) if request.format == Format::Bundle => {
                return Ok(Err(format!("--tables {name}: a Bundle has resources; name their types")));
            }
            (Some(table), _) => chosen.push(Source::Table(table.clone())),
            // Of a type that never arrived there is nothing to write.
            (None, Some(known)) => {
                let is_there = types.iter().any(|one| one.name == known.name);
                chosen.extend(is_there.then_some(Source::Resources(known)));
            }
            (None, None) => {
                let there: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
                return Ok(Err(format!(
                    "--tables {name}: there is neither such a type nor such a table; tables are {}",
                    there.join(", ")
                )));
            }
        }
    }
    Ok(Ok(chosen))
}

/// What all pieces of an export share.
struct Job<'j> {
    snapshot: &'j Snapshot<'j>,
    request: &'j Request<'j>,
    target: Target<'j>,
    known: KnownWords,
    types: ColumnTypes,
}

impl Job<'_> {
    fn selection(&self) -> Selection<'_> {
        Selection { person: self.request.person.map(PersonId::as_str), since: self.request.since }
    }

    /// What files hold, where everything that changed is known.
    fn content(&self) -> Content {
        if self.request.since.is_some() { Content::Changed } else { Content::Whole }
    }

    fn redaction<'r>(&'r self, person_id: &'r str) -> Option<Redaction<'r>> {
        let pseudonyms = self.request.pseudonyms?;
        Some(Redaction { pseudonyms, known: &self.known, person_id })
    }

    fn person_name(&self, person_id: &str) -> String {
        self.request
            .pseudonyms
            .map_or_else(|| person_id.to_owned(), |pseudonyms| pseudonyms.person(person_id))
    }

    fn key_name(&self, key: &str) -> String {
        self.request.pseudonyms.map_or_else(|| key.to_owned(), |pseudonyms| pseudonyms.key(key))
    }
}

/// Writes into `folder`, which is there and empty. `told` hears how many pieces are done.
pub(crate) fn write(
    snapshot: &Snapshot<'_>,
    request: &Request<'_>,
    sources: &[Source],
    folder: &Path,
    mut told: impl FnMut(Steps),
) -> Result<Exported, ExportFailed> {
    let target = Target { folder, format: request.format.rows(), split_bytes: request.split_bytes };
    let types = ColumnTypes::of(request.views);
    let mut job = Job { snapshot, request, target, known: KnownWords::default(), types };
    if request.pseudonyms.is_some() {
        job.known = known_words(snapshot, job.selection())?;
    }
    let mut files = Vec::new();
    let mut left_out: BTreeMap<String, u64> = BTreeMap::new();
    if request.format == Format::Bundle {
        resources::bundles(&job, sources, &mut files, &mut left_out)?;
    }
    let mut keys = resources::Keys::new(&job);
    for (done, source) in (1..).zip(sources) {
        match source {
            Source::Table(table) => tables::write(&job, table, &mut files)?,
            Source::Resources(known) => {
                let withheld = match request.format {
                    Format::Bundle => 0,
                    Format::Ndjson => resources::lines(&job, known, &mut keys, &mut files)?,
                    Format::Csv | Format::SafeCsv | Format::Parquet => {
                        resources::rows(&job, known, &mut files)?
                    }
                };
                if withheld > 0 {
                    left_out.insert(known.name.to_owned(), withheld);
                }
                resources::gone(&job, known, &mut files)?;
            }
        }
        told(Steps { done, of: sources.len() });
    }
    files.extend(keys.finish()?);
    if request.since.is_some() {
        files.push(purged(&job)?);
    }
    let counted = files.iter().filter(|file| matches!(file.content, Content::Whole | Content::Changed));
    let rows = counted.map(|file| file.count).sum();
    let exported = Exported { files: files.len() as u64, rows, left_out: left_out.values().sum() };
    manifest(&job, files, left_out)?.write(folder)?;
    Ok(exported)
}

/// Reads who is who, of everybody, also where other types are asked for, and what changed long ago.
fn known_words(snapshot: &Snapshot<'_>, selection: Selection<'_>) -> Result<KnownWords, ExportFailed> {
    let mut known = KnownWords::default();
    let everything = Selection { since: None, ..selection };
    for kind in snapshot.resource_types()?.into_iter().filter(|kind| known_words::TYPES.contains(&kind.name))
    {
        snapshot.resources::<ExportFailed>(kind, everything, |found| {
            known.learn(found.person_id, found.resource);
            Ok(())
        })?;
    }
    Ok(known)
}

/// Writes which patients were purged since.
fn purged(job: &Job<'_>) -> Result<WrittenFile, ExportFailed> {
    const NAME: &str = "purged.json";
    let purges = job.snapshot.purged(job.selection())?;
    let told: Vec<_> = purges
        .iter()
        .map(|purge| {
            let person = job.person_name(&purge.person_id);
            json!({"person_id": person, "purged_at": purge.purged_at, "reason": purge.reason})
        })
        .collect();
    let mut file = HashedFile::create(job.target.folder, NAME)?;
    writeln!(file, "{:#}", json!(told))?;
    let name = FileName { file: NAME, of: None, content: Content::Purged };
    Ok(file.finish(name, told.len() as u64)?)
}

fn manifest(
    job: &Job<'_>,
    files: Vec<WrittenFile>,
    left_out: BTreeMap<String, u64>,
) -> Result<Manifest, ExportFailed> {
    let request = job.request;
    let progress = job.snapshot.progress(request.person.map(PersonId::as_str))?;
    let watermarks = progress.watermarks.into_iter();
    Ok(Manifest {
        time: stamp(request.now),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        format: request.format.as_str().to_owned(),
        since: request.since.map(stamp),
        next_since: stamp(manifest::next_since(request.now, job.snapshot.cycle_times()?)),
        person: request.person.map(|person| job.person_name(person.as_str())),
        pseudonymous: request.pseudonyms.map(told_of),
        watermarks: watermarks.map(|(person, mark)| (job.person_name(&person), mark)).collect(),
        incomplete: progress.incomplete.iter().map(|person| job.person_name(person)).collect(),
        left_out,
        files,
    })
}

/// Returns what a manifest says of pseudonyms.
pub(crate) fn told_of(pseudonyms: &Pseudonyms) -> PseudonymsTold {
    let dates = match pseudonyms.dates() {
        Dates::AsTheyAre => "as they are",
        Dates::Shifted => "shifted",
    };
    PseudonymsTold { key: pseudonyms.fingerprint(), dates: dates.to_owned() }
}

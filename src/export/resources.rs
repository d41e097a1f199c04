//! Resources of a type on their way into files, and what vanished of it.

use std::collections::BTreeMap;

use super::bundle::{Deletions, PersonBundle, full_url, pseudonymous_url};
use super::cell::{Cell, Column, ColumnKind};
use super::output::{Content, WrittenFile};
use super::rows_file::{RowsFiles, RowsFormat, Target};
use super::{ExportFailed, Format, Job, Source};
use crate::plan::resource_type::ResourceType;
use crate::views::TapeMemory;
use crate::warehouse::extract::{GoneResource, Selection, StoredResource};

/// Whose line is whose in the NDJSON files, which have resources and nothing else.
pub(super) struct Keys<'j> {
    files: RowsFiles<'j>,
}

impl<'j> Keys<'j> {
    pub(super) fn new(job: &Job<'j>) -> Self {
        let target = Target { format: RowsFormat::Csv, ..job.target };
        let columns = [
            Column::new("file", ColumnKind::Text),
            Column::new("line", ColumnKind::Integer),
            Column::new("person_id", ColumnKind::Text),
            Column::new("key", ColumnKind::Text),
        ];
        Self { files: RowsFiles::new(target, "keys", "", Content::Keys, columns.to_vec()) }
    }

    pub(super) fn finish(self) -> Result<Vec<WrittenFile>, ExportFailed> {
        self.files.finish(false)
    }
}

/// Writes resources as they came, a line each. Returns how many were left out.
pub(super) fn lines(
    job: &Job<'_>,
    known: &ResourceType,
    keys: &mut Keys<'_>,
    written: &mut Vec<WrittenFile>,
) -> Result<u64, ExportFailed> {
    let mut files = RowsFiles::new(job.target, known.name, known.name, job.content(), Vec::new());
    let withheld = each(job, known, |told| {
        let (file, line) = files.place()?;
        let line = Cell::Integer(i64::try_from(line).unwrap_or(i64::MAX));
        let (person, key) = (told.person_id.into(), told.key.into());
        keys.files.row(&[Cell::Text(file.into()), line, Cell::Text(person), Cell::Text(key)])?;
        // Inside a string a line break is escaped, so these are only layout.
        files.line(told.resource.split(['\n', '\r']))
    })?;
    written.extend(files.finish(false)?);
    Ok(withheld)
}

/// Hands over each resource as it may be told. Returns how many are left out.
fn each(
    job: &Job<'_>,
    known: &ResourceType,
    mut tell: impl FnMut(Told<'_>) -> Result<(), ExportFailed>,
) -> Result<u64, ExportFailed> {
    let mut memory = TapeMemory::default();
    let mut withheld = 0;
    job.snapshot.resources(known, job.selection(), |found| {
        let Some(told) = Told::of(job, &found, &mut memory) else {
            withheld += 1;
            return Ok(());
        };
        tell(told)
    })?;
    Ok(withheld)
}

/// The columns of resources as rows; times as received are text where rows are text.
const COLUMNS: [(&str, ColumnKind); 10] = [
    ("person_id", ColumnKind::Text),
    ("key", ColumnKind::Text),
    ("id", ColumnKind::Text),
    ("version_id", ColumnKind::Text),
    ("last_updated", ColumnKind::DateTime),
    ("source", ColumnKind::Text),
    ("patient", ColumnKind::Text),
    ("first_seen_at", ColumnKind::DateTime),
    ("changed_at", ColumnKind::DateTime),
    ("resource", ColumnKind::Text),
];

/// Writes resources as rows, as their table has them. Returns how many were left out.
pub(super) fn rows(
    job: &Job<'_>,
    known: &ResourceType,
    written: &mut Vec<WrittenFile>,
) -> Result<u64, ExportFailed> {
    let columns = COLUMNS.iter().map(|(name, kind)| Column::new(name, *kind)).collect();
    let mut files = RowsFiles::new(job.target, &known.table, known.name, job.content(), columns);
    let withheld = each(job, known, |told| files.row(&told.cells()))?;
    written.extend(files.finish(false)?);
    Ok(withheld)
}

/// A resource and its columns as they may be told.
struct Told<'t> {
    person_id: String,
    key: String,
    id: Option<String>,
    version_id: Option<&'t str>,
    last_updated: Option<String>,
    source: Option<&'t str>,
    patient: Option<String>,
    first_seen_at: Option<String>,
    changed_at: Option<String>,
    resource: std::borrow::Cow<'t, str>,
}

impl<'t> Told<'t> {
    /// `None` where it may not be told at all.
    fn of(job: &Job<'_>, found: &StoredResource<'t>, memory: &mut TapeMemory) -> Option<Self> {
        let Some(redaction) = job.redaction(found.person_id) else {
            return Some(Self {
                person_id: found.person_id.to_owned(),
                key: found.key.to_owned(),
                id: found.id.map(str::to_owned),
                version_id: found.version_id,
                last_updated: found.last_updated.map(str::to_owned),
                source: found.source,
                patient: found.patient.map(str::to_owned),
                first_seen_at: Some(found.first_seen_at.to_owned()),
                changed_at: Some(found.changed_at.to_owned()),
                resource: found.resource.into(),
            });
        };
        let names = redaction.pseudonyms;
        let time = |text: &str| names.machine_time(found.person_id, text);
        Some(Self {
            person_id: names.person(found.person_id),
            key: names.key(found.key),
            id: found.id.map(|id| names.id(id)),
            version_id: None,
            last_updated: found.last_updated.and_then(time),
            source: None,
            patient: found.patient.and_then(|patient| names.reference(patient)),
            first_seen_at: time(found.first_seen_at),
            changed_at: time(found.changed_at),
            resource: redaction.resource(found.resource, memory)?.into(),
        })
    }

    fn cells(&self) -> [Cell<'_>; 10] {
        [
            Cell::Text(self.person_id.as_str().into()),
            Cell::Text(self.key.as_str().into()),
            self.id.as_deref().into(),
            self.version_id.into(),
            self.last_updated.as_deref().into(),
            self.source.into(),
            self.patient.as_deref().into(),
            self.first_seen_at.as_deref().into(),
            self.changed_at.as_deref().into(),
            Cell::Text(self.resource.as_ref().into()),
        ]
    }
}

/// Writes what vanished: as Bulk Data has it beside resources, and by person and key beside rows.
pub(super) fn gone(
    job: &Job<'_>,
    known: &ResourceType,
    written: &mut Vec<WrittenFile>,
) -> Result<(), ExportFailed> {
    if job.request.since.is_none() {
        return Ok(());
    }
    if !matches!(job.request.format, Format::Ndjson | Format::Bundle) {
        let mut files = gone_rows(job, &known.table, known.name);
        job.snapshot.gone(known, job.selection(), |gone| add_gone_row(job, &mut files, &gone))?;
        written.extend(files.finish(false)?);
        return Ok(());
    }
    let target = Target { format: RowsFormat::Ndjson, ..job.target };
    let stem = format!("deleted/{}", known.name);
    let files = RowsFiles::new(target, &stem, known.name, Content::Deleted, Vec::new());
    let mut deletions = Deletions::new(files);
    job.snapshot.gone::<ExportFailed>(known, job.selection(), |gone| {
        // What has another name now is still the same resource.
        if gone.lives_on {
            return Ok(());
        }
        let url = match (&gone.id, job.request.pseudonyms) {
            (Some(id), None) => format!("{}/{id}", known.name),
            (Some(id), Some(names)) => format!("{}/{}", known.name, names.id(id)),
            (None, _) => job.key_name(&gone.key),
        };
        deletions.add(&job.person_name(&gone.person_id), url)
    })?;
    written.extend(deletions.finish()?);
    Ok(())
}

/// Returns files for persons and keys of what is not there any more.
pub(super) fn gone_rows<'j>(job: &Job<'j>, name: &str, of: &str) -> RowsFiles<'j> {
    let columns = ["person_id", "key"].map(|name| Column::new(name, ColumnKind::Text)).to_vec();
    RowsFiles::new(job.target, &format!("deleted/{name}"), of, Content::Deleted, columns)
}

pub(super) fn add_gone_row(
    job: &Job<'_>,
    files: &mut RowsFiles<'_>,
    gone: &GoneResource,
) -> Result<(), ExportFailed> {
    let (person, key) = (job.person_name(&gone.person_id), job.key_name(&gone.key));
    files.row(&[Cell::Text(person.into()), Cell::Text(key.into())])
}

/// Writes each person's resources as one Bundle.
pub(super) fn bundles(
    job: &Job<'_>,
    sources: &[Source],
    written: &mut Vec<WrittenFile>,
    left_out: &mut BTreeMap<String, u64>,
) -> Result<(), ExportFailed> {
    let base_url = job.snapshot.base_url()?.unwrap_or_default();
    let persons = match job.request.person {
        Some(person) => vec![person.as_str().to_owned()],
        None => job.snapshot.persons()?,
    };
    let mut memory = TapeMemory::default();
    for person in persons {
        let selection = Selection { person: Some(&person), since: job.request.since };
        let mut bundle: Option<PersonBundle> = None;
        for source in sources {
            let Source::Resources(known) = source else { continue };
            job.snapshot.resources::<ExportFailed>(known, selection, |found| {
                let Some(told) = Told::of(job, &found, &mut memory) else {
                    *left_out.entry(known.name.to_owned()).or_default() += 1;
                    return Ok(());
                };
                let url = match (job.request.pseudonyms, &told.id) {
                    (None, _) => full_url(&base_url, &told.key),
                    (Some(_), Some(id)) if found.key.starts_with("urn:uuid:") => format!("urn:uuid:{id}"),
                    (Some(_), Some(id)) => pseudonymous_url(known.name, id),
                    (Some(_), None) => format!("urn:uuid:{}", told.key),
                };
                if bundle.is_none() {
                    bundle = Some(PersonBundle::begin(job.target.folder, &told.person_id, job.request.now)?);
                }
                bundle.as_mut().map_or(Ok(()), |bundle| bundle.add(&url, &told.resource))
            })?;
        }
        if let Some(bundle) = bundle {
            written.push(bundle.finish(job.content())?);
        }
    }
    Ok(())
}

//! FHIR Bundles: one person's resources as a collection, and what vanished as Bulk Data tells it.

use std::collections::HashSet;
use std::io::Write;

use serde_json::json;

use super::ExportFailed;
use super::output::{Content, FileName, HashedFile, WrittenFile};
use super::rows_file::RowsFiles;
use crate::plan::{Timestamp, stamp};

/// Where `fullUrl`s of a pseudonymous export lead: nowhere.
const NOWHERE: &str = "https://pseudonymous.invalid";

/// Returns the `fullUrl` of a stored key: the server's own, as far as it can be made again.
pub(super) fn full_url(base_url: &str, key: &str) -> String {
    if key.contains(':') { key.to_owned() } else { format!("{base_url}/FHIR/R4/{key}") }
}

/// Returns the `fullUrl` of what has that pseudonym.
pub(super) fn pseudonymous_url(type_name: &str, id: &str) -> String {
    format!("{NOWHERE}/{type_name}/{id}")
}

/// One person's Bundle, written entry by entry.
pub(super) struct PersonBundle {
    file: HashedFile,
    name: String,
    entries: u64,
    /// No two entries of a Bundle may have one `fullUrl`.
    urls: HashSet<u64>,
}

impl PersonBundle {
    pub(super) fn begin(
        folder: &std::path::Path,
        person: &str,
        now: Timestamp,
    ) -> Result<Self, ExportFailed> {
        let name = format!("{person}.bundle.json");
        let mut file = HashedFile::create(folder, &name)?;
        let (id, time) = (json!(person), json!(stamp(now)));
        write!(
            file,
            "{{\"resourceType\":\"Bundle\",\"id\":{id},\"type\":\"collection\",\"timestamp\":{time},\"entry\":["
        )?;
        Ok(Self { file, name, entries: 0, urls: HashSet::new() })
    }

    /// Adds an entry; one whose `fullUrl` is another's goes without.
    pub(super) fn add(&mut self, full_url: &str, resource: &str) -> Result<(), ExportFailed> {
        self.file.write_all(if self.entries == 0 { b"\n{" } else { b",\n{" })?;
        if self.urls.insert(xxhash_rust::xxh3::xxh3_64(full_url.as_bytes())) {
            write!(self.file, "\"fullUrl\":{},", json!(full_url))?;
        }
        self.file.write_all(b"\"resource\":")?;
        self.file.write_all(resource.as_bytes())?;
        self.file.write_all(b"}")?;
        self.entries += 1;
        Ok(())
    }

    pub(super) fn finish(mut self, content: Content) -> Result<WrittenFile, ExportFailed> {
        self.file.write_all(b"]}\n")?;
        let name = FileName { file: &self.name, of: None, content };
        Ok(self.file.finish(name, self.entries)?)
    }
}

/// Entries of one Bundle of what vanished.
const DELETIONS_MAX: usize = 1000;

/// Bundles of what vanished of one type, a line each, of one person each.
pub(super) struct Deletions<'f> {
    files: RowsFiles<'f>,
    person: String,
    urls: Vec<String>,
}

impl<'f> Deletions<'f> {
    pub(super) fn new(files: RowsFiles<'f>) -> Self {
        Self { files, person: String::new(), urls: Vec::new() }
    }

    /// Takes what vanished, a person's together. `url` is its type and id.
    pub(super) fn add(&mut self, person: &str, url: String) -> Result<(), ExportFailed> {
        if self.person != person || self.urls.len() >= DELETIONS_MAX {
            self.flush()?;
            person.clone_into(&mut self.person);
        }
        self.urls.push(url);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Vec<WrittenFile>, ExportFailed> {
        self.flush()?;
        self.files.finish(false)
    }

    fn flush(&mut self) -> Result<(), ExportFailed> {
        if self.urls.is_empty() {
            return Ok(());
        }
        let urls = std::mem::take(&mut self.urls);
        let entries: Vec<_> =
            urls.iter().map(|url| json!({"request": {"method": "DELETE", "url": url}})).collect();
        let tag = json!([{"system": PERSON_SYSTEM, "code": self.person}]);
        let bundle = json!({
            "resourceType": "Bundle", "meta": {"tag": tag}, "type": "transaction", "entry": entries,
        });
        self.files.line([bundle.to_string().as_str()])
    }
}

/// Says of a Bundle's tag that its code is the id of the person: ids of resources repeat from one to another.
const PERSON_SYSTEM: &str = "urn:healthex-sync:person_id";

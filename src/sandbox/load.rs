//! Reads a folder of FHIR files into a [`Population`]: one Bundle or NDJSON file is one person.
//!
//! Promise: every resource is served with the bytes it has in its file. A file that is not
//! what its name says stops the loading and is named, with the line where there is one.
//!
//! Deliberately absent: subfolders, files of other names, Bundles inside NDJSON being taken
//! apart (a line is always one resource), and the `fullUrl`s of the files.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fs, io};

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::population::{Population, ResourceFacts};

/// Why a folder could not be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadFailed {
    #[error("{} cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{} {what}", path.display())]
    NotFhir { path: PathBuf, what: String },
    #[error(
        "{} holds no .json or .ndjson file (plain or .gz); give a folder of FHIR Bundles",
        path.display()
    )]
    NothingThere { path: PathBuf },
}

impl Population {
    /// Reads every Bundle and NDJSON file of a folder.
    pub fn from_folder(folder: &Path) -> Result<Self, LoadFailed> {
        let mut population = Self::empty();
        let mut unnamed = 0;
        for path in fhir_files(folder)? {
            let resources = resources_in(&path)?;
            let id = person_id_in(&resources).unwrap_or_else(|| {
                unnamed += 1;
                format!("sandbox-{unnamed:04}")
            });
            let refuse = |what: String| LoadFailed::NotFhir { path: path.clone(), what };
            if !is_person_id(&id) {
                return Err(refuse(format!(
                    "has a Person with the id {id:?}: 1 to 64 letters, digits, dots and dashes"
                )));
            }
            if population.person_ids().contains(&id) {
                return Err(refuse(format!("is a second file for the person {id}")));
            }
            population.add_resources(&id, &resources, 0);
        }
        Ok(population)
    }
}

fn is_person_id(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
        && !id.bytes().all(|byte| byte == b'.')
}

fn person_id_in(resources: &[String]) -> Option<String> {
    resources
        .iter()
        .map(|text| ResourceFacts::of(text))
        .find(|facts| facts.kind == "Person" && !facts.id.is_empty())
        .map(|facts| facts.id)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FileForm {
    Bundle,
    Lines,
}

/// Returns the form of a file and whether it is compressed, or `None` for a file of another name.
fn form_of(path: &Path) -> Option<(FileForm, bool)> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    if name.starts_with('.') {
        return None;
    }
    let (plain, compressed) = match name.strip_suffix(".gz") {
        Some(plain) => (plain, true),
        None => (name.as_str(), false),
    };
    match plain.rsplit_once('.')?.1 {
        "json" => Some((FileForm::Bundle, compressed)),
        "ndjson" => Some((FileForm::Lines, compressed)),
        _ => None,
    }
}

fn fhir_files(folder: &Path) -> Result<Vec<PathBuf>, LoadFailed> {
    let unreadable = |cause| LoadFailed::Unreadable { path: folder.to_owned(), cause };
    let mut paths = Vec::new();
    for item in fs::read_dir(folder).map_err(unreadable)? {
        let path = item.map_err(unreadable)?.path();
        if path.is_file() && form_of(&path).is_some() {
            paths.push(path);
        }
    }
    if paths.is_empty() {
        return Err(LoadFailed::NothingThere { path: folder.to_owned() });
    }
    paths.sort();
    Ok(paths)
}

fn resources_in(path: &Path) -> Result<Vec<String>, LoadFailed> {
    let (form, compressed) = form_of(path).unwrap_or((FileForm::Bundle, false));
    let text = read_text(path, compressed)
        .map_err(|cause| LoadFailed::Unreadable { path: path.to_owned(), cause })?;
    let resources = match form {
        FileForm::Bundle => resources_of_bundle(&text),
        FileForm::Lines => resources_of_lines(&text),
    };
    resources.map_err(|what| LoadFailed::NotFhir { path: path.to_owned(), what })
}

fn read_text(path: &Path, compressed: bool) -> io::Result<String> {
    let file = fs::File::open(path)?;
    let mut text = String::new();
    if compressed {
        MultiGzDecoder::new(file).read_to_string(&mut text)?;
    } else {
        io::BufReader::new(file).read_to_string(&mut text)?;
    }
    Ok(text)
}

#[derive(Deserialize)]
struct BundleFile<'a> {
    #[serde(rename = "resourceType")]
    kind: String,
    #[serde(borrow, default)]
    entry: Vec<BundleFileEntry<'a>>,
}

#[derive(Deserialize)]
struct BundleFileEntry<'a> {
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    search: Option<BundleFileSearch>,
}

#[derive(Deserialize)]
struct BundleFileSearch {
    mode: Option<String>,
}

fn resources_of_bundle(text: &str) -> Result<Vec<String>, String> {
    let bundle: BundleFile<'_> =
        serde_json::from_str(text).map_err(|error| format!("is not a FHIR Bundle: {error}"))?;
    if bundle.kind != "Bundle" {
        return Err(format!("is a {}, not a Bundle", bundle.kind));
    }
    let resources = bundle.entry.iter().filter(|entry| {
        // An outcome is about the search that made the file, not about the patient.
        let mode = entry.search.as_ref().and_then(|search| search.mode.as_deref());
        mode != Some("outcome")
    });
    resources.filter_map(|entry| entry.resource).map(|resource| checked(resource.get())).collect()
}

fn resources_of_lines(text: &str) -> Result<Vec<String>, String> {
    (1..)
        .zip(text.lines())
        .map(|(number, line)| (number, line.trim()))
        .filter(|(_, line)| !line.is_empty())
        .map(|(number, line)| checked(line).map_err(|what| format!("{what} (line {number})")))
        .collect()
}

fn checked(text: &str) -> Result<String, String> {
    let facts: ResourceFacts =
        serde_json::from_str(text).map_err(|error| format!("holds no FHIR resource: {error}"))?;
    if facts.kind.is_empty() {
        return Err("holds a resource without resourceType".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const PATIENT: &str = r#"{ "resourceType" : "Patient", "id": "p1", "multipleBirthInteger": 1.50 }"#;

    fn folder_with(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    #[test]
    fn a_file_is_a_person_and_its_resources_keep_their_bytes() {
        let bundle = format!(
            r#"{{"resourceType":"Bundle","type":"collection","entry":[{{"resource":{PATIENT}}},{{"resource":{PATIENT}}}]}}"#
        );
        let lines = "{\"resourceType\":\"Person\",\"id\":\"zoe\"}\n\n{\"resourceType\":\"Bundle\",\"id\":\"b\",\"entry\":[]}\r\n";
        let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
        zipped.write_all(lines.as_bytes()).unwrap();
        let zipped = zipped.finish().unwrap();
        let folder = folder_with(&[
            ("b.json", bundle.as_bytes()),
            ("a.ndjson.gz", &zipped),
            ("notes.txt", b"not ours"),
        ]);

        let population = Population::from_folder(folder.path()).unwrap();

        assert_eq!(population.person_ids(), ["zoe", "sandbox-0001"]);
        let zoe = population.entries("zoe");
        assert_eq!(zoe[0].full_url, "Person/zoe");
        assert!(zoe[1].full_url.starts_with("Bundle/"));
        let unnamed = population.entries("sandbox-0001");
        assert!(unnamed[0].resource.contains(r#""reference":"Patient/p1""#));
        assert_eq!(unnamed[1].resource, PATIENT);
        assert_ne!(unnamed[1].full_url, unnamed[2].full_url);
    }

    #[test]
    fn a_file_that_is_not_fhir_is_named_with_its_line() {
        let folder = folder_with(&[("x.ndjson", b"{\"resourceType\":\"Basic\"}\n{\"id\":\"1\"}\n")]);
        let complaint = Population::from_folder(folder.path()).unwrap_err().to_string();
        assert!(complaint.contains("x.ndjson") && complaint.contains("line 2"), "{complaint}");
        let single = folder_with(&[("x.json", PATIENT.as_bytes())]);
        let complaint = Population::from_folder(single.path()).unwrap_err().to_string();
        assert!(complaint.contains("is a Patient, not a Bundle"), "{complaint}");
    }
}

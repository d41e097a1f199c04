//! Reads the roster files into a list of patients, or complaints that name file and line.
//!
//! Absent on purpose: the checkpoint. The cycle finds out who is new or gone.

mod csv;

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Spanned, Value};

use crate::plan::leaver::ListedBy;
use crate::plan::records::RecordsNow;
use crate::plan::resource_type::ResourceType;
pub(crate) use crate::plan::roster::RosterPatient;
use crate::plan::roster::{RosterHash, RosterPatients};
use crate::plan::{PersonId, TypeFilter};
use crate::settings::{RosterSettings, read_trusted};

/// Labels appear in logs and tables.
const LABEL_LENGTH_MAX: usize = 100;
/// A larger file is refused.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    /// First those of the files, in their order.
    pub(crate) patients: RosterPatients,
    /// How many of them the files list.
    pub(crate) of_files: usize,
    /// Whether it stands in for one that cannot be read.
    pub(crate) is_outdated: bool,
    /// What is no fault, and may be none of what was meant.
    pub(crate) notes: Vec<String>,
    /// By which others know it; `None` where it is left to them.
    pub(crate) version: Option<RosterHash>,
}

impl Roster {
    /// Returns who lists the patient at this place.
    pub(crate) fn listed_by(&self, at: usize, records: &RecordsNow) -> ListedBy {
        let is_recorded = self.patients.get(at).is_some_and(|patient| records.of(&patient.person).is_some());
        match (at < self.of_files, is_recorded) {
            (true, false) => ListedBy::File,
            (true, true) => ListedBy::Both,
            (false, _) => ListedBy::Study,
        }
    }

    /// Adds those whom the consent records know. What a file says of a patient wins.
    pub(crate) fn with_records(&self, records: &RecordsNow) -> Self {
        let others = records.patients().iter().filter(|(person, _)| self.patients.of(person).is_none());
        let others: Vec<RosterPatient> = others.map(|(person, _)| person.clone().into()).collect();
        if others.is_empty() {
            return self.clone();
        }
        let patients: Vec<RosterPatient> = self.patients.iter().cloned().chain(others).collect();
        Self { patients: patients.into(), notes: self.notes.clone(), version: self.version.clone(), ..*self }
    }
}

/// Reads all roster files. A roster that lists nobody is an error: it would look as if all had left.
pub(crate) fn load(settings: &RosterSettings) -> Result<Roster, Vec<String>> {
    let mut reader = RosterReader::default();
    for file in files(settings, &mut reader.complaints) {
        reader.read_file(&file);
    }
    let may_be_empty = !settings.studies.is_empty() || settings.is_left_to_others;
    if reader.patients.is_empty() && reader.complaints.is_empty() && !may_be_empty {
        let names: Vec<_> = settings.files.iter().map(|file| file.display().to_string()).collect();
        reader.complaints.push(format!(
            "{}: the roster lists no patient; nothing is done with an empty roster",
            names.join(", ")
        ));
    }
    if reader.complaints.is_empty() {
        reader.note_shared_labels();
        let patients = RosterPatients::from(reader.patients);
        let version = (!settings.is_left_to_others).then(|| RosterHash::of(&patients));
        Ok(Roster { of_files: patients.len(), patients, is_outdated: false, notes: reader.notes, version })
    } else {
        Err(reader.complaints)
    }
}

fn files(settings: &RosterSettings, complaints: &mut Vec<String>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for pattern in &settings.files {
        let text = pattern.to_string_lossy();
        if !text.contains(['*', '?', '[']) || pattern.exists() {
            files.push(pattern.clone());
            continue;
        }
        match glob::glob(&text) {
            Err(error) => complaints.push(format!("roster.files: {text}: {error}")),
            Ok(found) => {
                let mut found: Vec<_> = found.filter_map(Result::ok).collect();
                if found.is_empty() {
                    complaints.push(format!("roster.files: {text}: no such file"));
                }
                found.sort();
                files.append(&mut found);
            }
        }
    }
    files.dedup();
    files
}

#[derive(Default)]
struct RosterReader {
    patients: Vec<RosterPatient>,
    /// Where each id is listed, to name the place of a second one.
    places: HashMap<PersonId, Place>,
    /// The names of the files, in the order in which they are read.
    files: Vec<String>,
    complaints: Vec<String>,
    notes: Vec<String>,
}

/// A line of a file: small, since a roster has as many as patients.
#[derive(Clone, Copy)]
struct Place {
    /// The place of its name among those of the files.
    file: u32,
    line: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RosterFile {
    #[serde(default)]
    patient: Vec<Spanned<toml::Table>>,
}

impl RosterReader {
    fn read_file(&mut self, file: &Path) {
        let name = file.display().to_string();
        self.files.push(name.clone());
        let text = match read_trusted(file, FILE_BYTES_MAX) {
            Ok(text) => text,
            Err(why) => {
                self.complaints.push(why);
                return;
            }
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => self.read_toml(&name, &text),
            Some("csv") => self.read_csv(&name, &text),
            _ => self.complaints.push(format!("{name}: a roster's name ends in .toml or .csv")),
        }
    }

    fn read_toml(&mut self, name: &str, text: &str) {
        let file: RosterFile = match toml::from_str(text) {
            Ok(file) => file,
            Err(error) => {
                let line = error.span().map_or(1, |span| LineNumbers::of(text).at(span.start));
                self.complaints
                    .push(format!("{name}:{line}: {}; a roster holds [[patient]] tables", error.message()));
                return;
            }
        };
        let mut lines = LineNumbers::of(text);
        for patient in file.patient {
            let place = self.place(lines.at(patient.span().start));
            self.read_table(place, patient.get_ref());
        }
    }

    /// Returns a line of the file that is being read.
    fn place(&self, line: usize) -> Place {
        let small = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Place { file: small(self.files.len().saturating_sub(1)), line: small(line) }
    }

    fn told(&self, Place { file, line }: Place) -> String {
        format!("{}:{line}", self.files.get(file as usize).map_or("", String::as_str))
    }

    fn complain(&mut self, place: Place, why: impl Display) {
        self.complaints.push(format!("{}: {why}", self.told(place)));
    }

    fn read_table(&mut self, place: Place, table: &toml::Table) {
        let mut fields = PatientFields::default();
        let mut wrong = Vec::new();
        for (key, value) in table {
            match (key.as_str(), value) {
                ("id", Value::String(id)) => fields.id = Some(id.clone()),
                ("label", Value::String(label)) => fields.label = Some(label.clone()),
                ("enabled", Value::Boolean(enabled)) => fields.enabled = Some(*enabled),
                ("types", Value::Array(types)) if types.iter().all(Value::is_str) => {
                    fields.types = Some(types.iter().filter_map(Value::as_str).map(str::to_owned).collect());
                }
                ("id" | "label", _) => wrong.push(format!("{key} must be a text in quotes")),
                ("enabled", _) => wrong.push("enabled must be true or false".to_owned()),
                ("types", _) => wrong.push("types must be a list such as [\"Observation\"]".to_owned()),
                _ => wrong.push(format!("{key} is unknown; a patient has id, label, types and enabled")),
            }
        }
        for why in wrong {
            self.complain(place, why);
        }
        self.add_patient(place, fields);
    }

    fn add_patient(&mut self, place: Place, fields: PatientFields) {
        let Some(id) = fields.id else {
            return self.complain(place, "id is missing");
        };
        for name in fields.types.iter().flatten().filter(|name| ResourceType::by_name(name).is_none()) {
            self.complain(place, format!("{name:?} is not a resource type of FHIR R4, such as Observation"));
        }
        let label = fields.label.filter(|label| !label.is_empty());
        if label.as_ref().is_some_and(|label| {
            label.chars().count() > LABEL_LENGTH_MAX || label.chars().any(is_unprintable)
        }) {
            self.complain(place, format!("label must be at most {LABEL_LENGTH_MAX} printable characters"));
        }
        let person = match PersonId::parse(&id) {
            Ok(person) => person,
            Err(error) => return self.complain(place, error),
        };
        if let Some(earlier) = self.places.insert(person.clone(), place) {
            let earlier = self.told(earlier);
            return self.complain(place, format!("{person} is listed before, at {earlier}"));
        }
        let types = fields.types.map(TypeFilter::new);
        self.patients.push(RosterPatient { person, label, types, enabled: fields.enabled.unwrap_or(true) });
    }
}

/// Returns whether a letter is a control character, or turns the rest of a line around or breaks
/// it: a label stands in logs and tables, where it must not write over its neighbours.
fn is_unprintable(letter: char) -> bool {
    let turns_around = matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || turns_around || matches!(letter, '\u{2028}'..='\u{202e}')
}

/// More than these are counted.
const SHARED_LABELS_TOLD: usize = 5;

impl RosterReader {
    /// A label is what logs and `status` know a patient by: several of one name are not told apart.
    fn note_shared_labels(&mut self) {
        let mut named: Vec<&RosterPatient> =
            self.patients.iter().filter(|patient| patient.label.is_some()).collect();
        named.sort_by_key(|patient| patient.label.as_deref());
        let shared = named.chunk_by(|one, other| one.label == other.label);
        let shared: Vec<&[&RosterPatient]> = shared.filter(|patients| patients.len() > 1).collect();
        let mut notes: Vec<String> = Vec::new();
        for patients in shared.iter().take(SHARED_LABELS_TOLD) {
            let places = patients.iter().filter_map(|patient| self.places.get(&patient.person));
            let places: Vec<String> = places.map(|place| self.told(*place)).collect();
            notes.push(format!(
                "the label {:?} is that of {} patients: {}",
                patients[0].name(),
                patients.len(),
                places.join(", ")
            ));
        }
        if shared.len() > SHARED_LABELS_TOLD {
            notes.push(format!(
                "{} more labels are those of several patients",
                shared.len() - SHARED_LABELS_TOLD
            ));
        }
        self.notes.extend(notes);
    }
}

#[derive(Default)]
struct PatientFields {
    id: Option<String>,
    label: Option<String>,
    types: Option<Vec<String>>,
    enabled: Option<bool>,
}

/// Counts lines, for places asked in their order from the beginning of a text to its end.
struct LineNumbers<'t> {
    text: &'t [u8],
    byte: usize,
    line: usize,
}

impl<'t> LineNumbers<'t> {
    fn of(text: &'t str) -> Self {
        Self { text: text.as_bytes(), byte: 0, line: 1 }
    }

    /// Returns the line of a byte. It counts on from the last place: from the beginning each time, a
    /// roster of a hundred thousand patients would take minutes.
    fn at(&mut self, byte: usize) -> usize {
        let passed = self.text.get(self.byte..byte).unwrap_or_default();
        self.line += memchr::memchr_iter(b'\n', passed).count();
        self.byte = self.byte.max(byte);
        self.line
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::OnRemoved;

    fn load_files(files: &[(&str, &str)]) -> Result<Roster, Vec<String>> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let settings = RosterSettings {
            files: vec![folder.path().join("*.*")],
            on_removed: OnRemoved::Keep,
            removed_after: Duration::ZERO,
            is_left_to_others: false,
            studies: Vec::new(),
            consent_type: String::new(),
            consents_every: Duration::ZERO,
            consent_warning: Duration::ZERO,
        };
        let prefix = format!("{}/", folder.path().display());
        load(&settings).map(|roster| {
            let notes = roster.notes.iter().map(|note| note.replace(&prefix, "")).collect();
            Roster { notes, ..roster }
        })
    }

    pub(super) fn notes(files: &[(&str, &str)]) -> Vec<String> {
        load_files(files).unwrap().notes
    }

    #[track_caller]
    pub(super) fn check(files: &[(&str, &str)], expected: Result<&[&str], &[&str]>) {
        let found = load_files(files).map(|roster| {
            roster.patients.iter().map(|patient| patient.name().to_owned()).collect::<Vec<_>>()
        });
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => {
                assert_eq!(found.len(), expected.len(), "{found:#?}");
                for (found, expected) in found.iter().zip(expected) {
                    assert!(found.contains(expected), "{expected:?} in {found:?}");
                }
            }
            (found, _) => panic!("{found:#?}"),
        }
    }

    #[test]
    fn patients_come_from_toml_and_csv() {
        check(
            &[
                ("a.csv", "id,label,types,enabled\np1,one,Observation Condition,false\np2,,,\n"),
                ("b.toml", "[[patient]]\nid = \"p3\"\nlabel = \"three\"\n"),
            ],
            Ok(&["one", "p2", "three"]),
        );
    }

    #[test]
    fn a_label_of_several_patients_is_noted_with_their_places() {
        let files = [
            ("a.csv", "id,label\np1,one\np2,two\n"),
            ("b.toml", "[[patient]]\nid = \"p3\"\nlabel = \"one\"\n"),
        ];
        assert_eq!(notes(&files), ["the label \"one\" is that of 2 patients: a.csv:2, b.toml:1"]);
    }

    #[test]
    fn a_label_that_would_turn_its_line_around_is_refused() {
        for letter in ['\u{202e}', '\u{2066}', '\u{200f}', '\u{61c}', '\u{2028}', '\u{7}'] {
            let text = format!("id,label\np1,anna{letter}x\n");
            check(&[("a.csv", &text)], Err(&["a.csv:2: label must be"]));
        }
        check(&[("a.csv", "id,label\np1,Zoë–שרה\n")], Ok(&["Zoë–שרה"]));
    }

    #[test]
    fn every_fault_of_a_roster_is_told_with_its_line() {
        check(
            &[(
                "a.toml",
                "\n[[patient]]\nid = \"p1\"\n[[patient]]\nid = \"p1\"\n[[patient]]\nlabel = \"x\"\n[[patient]]\nid = \"a/b\"\nwhat = 1\n",
            )],
            Err(&[
                "a.toml:4: p1 is listed before",
                "a.toml:6: id is missing",
                "a.toml:8: what is unknown",
                "a.toml:8: \"a/b\"",
            ]),
        );
        check(&[("a.csv", "id,label\np1,\"x\np2,y\n")], Err(&["a.csv:2: a quote is opened"]));
        check(&[("a.csv", "id,label\np1,\"x\"\"\np2,y\n")], Err(&["a.csv:2: a quote is opened"]));
        check(&[("a.csv", "id,label\np1,\"x, \"\"y\"\"\"\np2,5\" tall\n")], Ok(&["x, \"y\"", "5\" tall"]));
        check(&[("a.csv", "id,types\np1,Obs\n\"..\",\n")], Err(&["a.csv:2: \"Obs\"", "a.csv:3"]));
        check(&[("a.toml", "")], Err(&["lists no patient"]));
        check(&[("a.toml", "[[patients]]\n")], Err(&["a.toml:1"]));
        check(&[("a.txt", "x")], Err(&["ends in .toml or .csv"]));
        check(&[], Err(&["no such file"]));
    }
}

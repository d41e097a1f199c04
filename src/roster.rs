//! Reads the roster files into a list of patients, or complaints that name file and line.
//!
//! Absent on purpose: the checkpoint. The cycle finds out who is new or gone.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Spanned, Value};

use crate::plan::leaver::ListedBy;
use crate::plan::records::RecordsNow;
use crate::plan::resource_type::ResourceType;
use crate::plan::{PersonId, TypeFilter};
use crate::settings::{RosterSettings, read_trusted};

/// Labels appear in logs and tables.
const LABEL_LENGTH_MAX: usize = 100;
/// A larger file is refused.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RosterPatient {
    pub(crate) person: PersonId,
    pub(crate) label: Option<String>,
    /// Overrides `sync.types`.
    pub(crate) types: Option<TypeFilter>,
    pub(crate) enabled: bool,
}

impl RosterPatient {
    /// Returns the name of this patient in logs and tables.
    pub(crate) fn name(&self) -> &str {
        self.label.as_deref().unwrap_or(self.person.as_str())
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Roster {
    /// First those of the files, in their order.
    pub(crate) patients: Vec<RosterPatient>,
    /// How many of them the files list.
    pub(crate) of_files: usize,
    /// Whether it stands in for one that cannot be read.
    pub(crate) is_outdated: bool,
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
        let of_files: HashSet<&PersonId> = self.patients.iter().map(|patient| &patient.person).collect();
        let others = records.patients().iter().filter(|(person, _)| !of_files.contains(person));
        let others = others.map(|(person, _)| RosterPatient {
            person: person.clone(),
            label: None,
            types: None,
            enabled: true,
        });
        let patients = self.patients.iter().cloned().chain(others).collect();
        Self { patients, ..*self }
    }
}

/// Reads all roster files. A roster that lists nobody is an error: it would look as if all had left.
pub(crate) fn load(settings: &RosterSettings) -> Result<Roster, Vec<String>> {
    let mut reader = RosterReader::default();
    for file in files(settings, &mut reader.complaints) {
        reader.read_file(&file);
    }
    if reader.patients.is_empty() && reader.complaints.is_empty() && settings.studies.is_empty() {
        let names: Vec<_> = settings.files.iter().map(|file| file.display().to_string()).collect();
        reader.complaints.push(format!(
            "{}: the roster lists no patient; nothing is done with an empty roster",
            names.join(", ")
        ));
    }
    if reader.complaints.is_empty() {
        let of_files = reader.patients.len();
        Ok(Roster { patients: reader.patients, of_files, is_outdated: false })
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
    places: HashMap<PersonId, String>,
    complaints: Vec<String>,
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
            let place = format!("{name}:{}", lines.at(patient.span().start));
            self.read_table(&place, patient.get_ref());
        }
    }

    fn read_table(&mut self, place: &str, table: &toml::Table) {
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
        self.complaints.extend(wrong.into_iter().map(|why| format!("{place}: {why}")));
        self.add_patient(place, fields);
    }

    fn read_csv(&mut self, name: &str, text: &str) {
        if let Some(line) = unterminated_quote(text) {
            self.complaints.push(format!("{name}:{line}: a quote is opened on this line and never closed"));
            return;
        }
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(false).from_reader(text.as_bytes());
        let header = match reader.headers() {
            Ok(header) => header.clone(),
            Err(error) => {
                self.complaints.push(format!("{name}:1: {error}"));
                return;
            }
        };
        let header: Vec<String> =
            header.iter().map(|column| column.trim_start_matches('\u{feff}').to_owned()).collect();
        let complaints = header_complaints(&header);
        if !complaints.is_empty() {
            self.complaints.extend(complaints.into_iter().map(|why| format!("{name}:1: {why}")));
            return;
        }
        for record in reader.records() {
            match record {
                Err(error) => {
                    let line = error.position().map_or(0, csv::Position::line);
                    self.complaints
                        .push(format!("{name}:{line}: {} columns are expected on each line", header.len()));
                }
                Ok(record) => {
                    let place = format!("{name}:{}", record.position().map_or(0, csv::Position::line));
                    self.read_record(&place, &header, &record);
                }
            }
        }
    }

    fn read_record(&mut self, place: &str, header: &[String], record: &csv::StringRecord) {
        let column = |name: &str| {
            let at = header.iter().position(|column| column == name)?;
            record.get(at).filter(|value| !value.is_empty())
        };
        let enabled = match column("enabled").map(str::to_ascii_lowercase).as_deref() {
            None | Some("true") => Some(true),
            Some("false") => Some(false),
            Some(_) => {
                self.complaints.push(format!("{place}: enabled must be true or false"));
                None
            }
        };
        let types = column("types").map(|types| types.split_whitespace().map(str::to_owned).collect());
        let id = column("id").map(str::to_owned);
        self.add_patient(
            place,
            PatientFields { id, label: column("label").map(str::to_owned), types, enabled },
        );
    }

    fn add_patient(&mut self, place: &str, fields: PatientFields) {
        let Some(id) = fields.id else {
            self.complaints.push(format!("{place}: id is missing"));
            return;
        };
        for name in fields.types.iter().flatten().filter(|name| ResourceType::by_name(name).is_none()) {
            self.complaints
                .push(format!("{place}: {name:?} is not a resource type of FHIR R4, such as Observation"));
        }
        let label = fields.label.filter(|label| !label.is_empty());
        if label.as_ref().is_some_and(|label| {
            label.chars().count() > LABEL_LENGTH_MAX || label.chars().any(is_unprintable)
        }) {
            self.complaints
                .push(format!("{place}: label must be at most {LABEL_LENGTH_MAX} printable characters"));
        }
        let person = match PersonId::parse(&id) {
            Ok(person) => person,
            Err(error) => {
                self.complaints.push(format!("{place}: {error}"));
                return;
            }
        };
        if let Some(earlier) = self.places.insert(person.clone(), place.to_owned()) {
            self.complaints.push(format!("{place}: {person} is listed before, at {earlier}"));
            return;
        }
        let types = fields.types.map(TypeFilter::new);
        self.patients.push(RosterPatient { person, label, types, enabled: fields.enabled.unwrap_or(true) });
    }
}

const COLUMNS: [&str; 4] = ["id", "label", "types", "enabled"];

fn header_complaints(header: &[String]) -> Vec<String> {
    let known = "a roster has the column id and may have label, types and enabled";
    let mut complaints = Vec::new();
    for (at, column) in header.iter().enumerate() {
        if !COLUMNS.contains(&column.as_str()) {
            complaints.push(format!("the column {column:?} is unknown; {known}"));
        } else if header[..at].contains(column) {
            complaints.push(format!("the column {column:?} is there twice"));
        }
    }
    if !header.iter().any(|column| column == "id") {
        complaints.push(format!("the column id is missing; {known}"));
    }
    complaints
}

/// Returns the line of a quote that is opened at the beginning of a field and not closed: all that
/// follows would be taken for one field.
fn unterminated_quote(text: &str) -> Option<usize> {
    let (mut line, mut opened, mut at_field) = (1, None, true);
    let mut letters = text.trim_start_matches('\u{feff}').chars().peekable();
    while let Some(letter) = letters.next() {
        line += usize::from(letter == '\n');
        match (letter, opened) {
            ('"', Some(_)) if letters.peek() == Some(&'"') => drop(letters.next()),
            ('"', Some(_)) => opened = None,
            ('"', None) if at_field => opened = Some(line),
            _ => {}
        }
        at_field = opened.is_none() && matches!(letter, ',' | '\n' | '\r');
    }
    opened
}

/// Returns whether a letter is a control character, or turns the rest of a line around or breaks
/// it: a label stands in logs and tables, where it must not write over its neighbours.
fn is_unprintable(letter: char) -> bool {
    let turns_around = matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || turns_around || matches!(letter, '\u{2028}'..='\u{202e}')
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

    fn check(files: &[(&str, &str)], expected: Result<&[&str], &[&str]>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let settings = RosterSettings {
            files: vec![folder.path().join("*.*")],
            on_removed: OnRemoved::Keep,
            removed_after: Duration::ZERO,
            studies: Vec::new(),
            consent_type: String::new(),
            consents_every: Duration::ZERO,
            consent_warning: Duration::ZERO,
        };
        let found = load(&settings).map(|roster| {
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
        check(&[("a.csv", "id,name\np1,x\n")], Err(&["a.csv:1: the column \"name\" is unknown"]));
        check(
            &[("a.csv", "ID,label,label\np1,x,y\n")],
            Err(&["\"ID\" is unknown", "\"label\" is there twice", "the column id is missing"]),
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

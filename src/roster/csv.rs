//! A roster as CSV, as people have them: separated by commas, semicolons or tabs, with columns of their
//! own, comments and blank rows.
//!
//! Promise: what is not understood is refused with its line, or named in a note; nothing is guessed.

use super::{PatientFields, Place, RosterReader};

const COLUMNS: [&str; 4] = ["id", "label", "types", "enabled"];
const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];
const COMMENT: u8 = b'#';

impl RosterReader {
    pub(super) fn read_csv(&mut self, name: &str, text: &str) {
        let text = text.trim_start_matches('\u{feff}');
        let separator = separator_of(text);
        if let Some(line) = unterminated_quote(text, separator) {
            self.complaints.push(format!("{name}:{line}: a quote is opened on this line and never closed"));
            return;
        }
        let mut reader = ::csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .trim(::csv::Trim::All)
            .comment(Some(COMMENT))
            .delimiter(separator)
            .from_reader(text.as_bytes());
        let mut lines = RecordLines { lines: text.lines(), passed: 0 };
        let mut header: Option<Vec<String>> = None;
        for record in reader.records() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    let line = error.position().map_or(0, ::csv::Position::line);
                    self.complaints.push(format!("{name}:{line}: {error}"));
                    continue;
                }
            };
            // A line that a spreadsheet has left over, or one that says what separates.
            if record.iter().all(str::is_empty) || header.is_none() && names_separator(&record) {
                continue;
            }
            let line = record.position().map_or(0, ::csv::Position::line);
            let place = self.place(lines.of_record(line));
            match &header {
                None => match self.read_header(place, &record) {
                    Some(columns) => header = Some(columns),
                    None => return,
                },
                Some(header) => self.read_record(place, header, &record),
            }
        }
        if header.is_none() {
            self.complaints.push(format!("{name}:1: the header line is missing; {KNOWN}"));
        }
    }

    /// Returns the names of the columns. Those that mean nothing here are named in a note.
    fn read_header(&mut self, place: Place, record: &::csv::StringRecord) -> Option<Vec<String>> {
        let header: Vec<String> = record.iter().map(str::to_ascii_lowercase).collect();
        let complaints = header_complaints(&header);
        let is_fine = complaints.is_empty();
        for why in complaints {
            self.complain(place, why);
        }
        let is_other =
            |column: &&str| !column.is_empty() && !COLUMNS.contains(&column.to_ascii_lowercase().as_str());
        let others: Vec<&str> = record.iter().filter(is_other).collect();
        if !others.is_empty() {
            self.notes.push(format!(
                "{}: not read: the columns {} (a roster has id, label, types and enabled)",
                self.told(place),
                others.join(", ")
            ));
        }
        is_fine.then_some(header)
    }

    fn read_record(&mut self, place: Place, header: &[String], record: &::csv::StringRecord) {
        let beyond = record.iter().skip(header.len()).any(|value| !value.is_empty());
        if record.len() < header.len() || beyond {
            let (expected, found) = (header.len(), record.len());
            let why = format!("{expected} columns are expected on each line, and this has {found}");
            return self.complain(place, why);
        }
        let column = |name: &str| {
            let at = header.iter().position(|column| column == name)?;
            record.get(at).filter(|value| !value.is_empty())
        };
        let enabled = match column("enabled").map(str::to_ascii_lowercase).as_deref() {
            None | Some("true" | "yes" | "1") => Some(true),
            Some("false" | "no" | "0") => Some(false),
            Some(_) => {
                self.complain(place, "enabled must be true or false");
                None
            }
        };
        let types = column("types").map(|types| types.split_whitespace().map(str::to_owned).collect());
        let id = column("id").map(str::to_owned);
        let label = column("label").map(str::to_owned);
        self.add_patient(place, PatientFields { id, label, types, enabled });
    }
}

const KNOWN: &str = "a roster has the column id and may have label, types and enabled";

fn header_complaints(header: &[String]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (at, column) in header.iter().enumerate() {
        if COLUMNS.contains(&column.as_str()) && header[..at].contains(column) {
            complaints.push(format!("the column {column:?} is there twice"));
        }
    }
    if !header.iter().any(|column| column == "id") {
        complaints.push(format!("the column id is missing; {KNOWN}"));
    }
    complaints
}

/// Returns what separates the columns of the first line that is no comment.
fn separator_of(text: &str) -> u8 {
    let is_said = |line: &str| line.trim().is_empty() || line.as_bytes().first() == Some(&COMMENT);
    let first = text.lines().find(|line| !is_said(line)).unwrap_or_default();
    if let Some(separator) = first.strip_prefix("sep=").and_then(|rest| rest.bytes().next()) {
        return if SEPARATORS.contains(&separator) { separator } else { b',' };
    }
    let mut is_quoted = false;
    let mut counts = [0_usize; SEPARATORS.len()];
    for byte in first.bytes() {
        is_quoted ^= byte == b'"';
        if let Some(at) = SEPARATORS.iter().position(|one| *one == byte).filter(|_| !is_quoted) {
            counts[at] += 1;
        }
    }
    let most = (0..counts.len()).rev().max_by_key(|at| counts[*at]).unwrap_or(0);
    SEPARATORS[most]
}

/// Finds the line of a record: the reader counts from where the comments and blank lines before it begin.
struct RecordLines<'t> {
    lines: std::str::Lines<'t>,
    /// So many lines have been taken.
    passed: usize,
}

impl RecordLines<'_> {
    /// Returns the first line from `line` on that is neither blank nor a comment. To be asked in the order
    /// of the records.
    fn of_record(&mut self, line: u64) -> usize {
        for text in self.lines.by_ref() {
            self.passed += 1;
            if line <= self.passed as u64 && !text.is_empty() && !text.starts_with(char::from(COMMENT)) {
                break;
            }
        }
        self.passed
    }
}

/// Returns whether the line is a spreadsheet's own, `sep=;`.
fn names_separator(record: &::csv::StringRecord) -> bool {
    record.get(0).is_some_and(|first| first.starts_with("sep="))
}

/// Returns the line of a quote that is opened at the beginning of a field and not closed: all that
/// follows would be taken for one field.
fn unterminated_quote(text: &str, separator: u8) -> Option<usize> {
    let (mut line, mut opened, mut at_field, mut at_line) = (1, None, true, true);
    let mut is_comment = false;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        line += usize::from(letter == '\n');
        if at_line && opened.is_none() {
            is_comment = letter == char::from(COMMENT);
        }
        at_line = letter == '\n';
        if is_comment {
            at_field = at_line;
            continue;
        }
        match (letter, opened) {
            ('"', Some(_)) if letters.peek() == Some(&'"') => drop(letters.next()),
            ('"', Some(_)) => opened = None,
            ('"', None) if at_field => opened = Some(line),
            _ => {}
        }
        at_field = opened.is_none() && (matches!(letter, '\n' | '\r') || letter == char::from(separator));
    }
    opened
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, notes};
    use super::*;

    #[test]
    fn a_table_is_read_as_a_spreadsheet_leaves_it() {
        let files = [
            ("a.csv", "\u{feff}ID;Label;Site\r\np1;one;Ulm\r\n;;\r\np2;two, too;Bonn\r\n\r\n"),
            ("b.csv", "# kept by Anna\nid\tLABEL\n# \"those of May\np3\tthree\n   \n"),
            ("c.csv", "sep=;\nid;enabled\np4;YES\np5;0;\n"),
            ("d.csv", "label,id\nfour,p6\n"),
        ];
        check(&files, Ok(&["one", "two, too", "three", "p4", "p5", "four"]));
        assert_eq!(
            notes(&files),
            ["a.csv:1: not read: the columns Site (a roster has id, label, types and enabled)"]
        );
    }

    #[test]
    fn what_cannot_be_a_table_is_refused_with_its_line() {
        check(
            &[("a.csv", "id;label\np1;x\np2\n")],
            Err(&["a.csv:3: 2 columns are expected on each line, and this has 1"]),
        );
        check(&[("a.csv", "id,label\np1,x,y\n")], Err(&["a.csv:2: 2 columns are expected"]));
        check(&[("a.csv", "# nothing\n\n")], Err(&["a.csv:1: the header line is missing"]));
        check(
            &[("a.csv", "patient,label,label\np1,x,y\n")],
            Err(&["\"label\" is there twice", "the column id is missing"]),
        );
        check(&[("a.csv", "id;label\np1;\"x\np2;y\n")], Err(&["a.csv:2: a quote is opened"]));
    }

    #[test]
    fn what_separates_is_seen_by_the_header() {
        for (text, separator) in [
            ("id,label\n", b','),
            ("id;label;a,b\n", b';'),
            ("id\n", b','),
            ("\"a,b,c\";id\n", b';'),
            ("# a,b,c\n\nid\tlabel\n", b'\t'),
        ] {
            assert_eq!(separator_of(text), separator, "{text:?}");
        }
    }
}

//! The house: walls between its rooms, who names whom, and what every file owes its reader.

mod imports;
mod migrations;
mod paths;
mod source;
mod walls;

use self::source::sources;

const LINES_MAX: usize = 600;

#[test]
fn clinical_content_cannot_be_displayed() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.file.starts_with("src/sandbox")) {
        for (number, line) in (1..).zip(source.code.lines()) {
            let names = ["Entry", "Row", "Quarantined"];
            if names.iter().any(|name| line.contains(&format!("Display for {name} "))) {
                found.push(format!("{}:{number}: {line}", source.file.display()));
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_file_says_what_it_is_for_and_has_one_job() {
    let mut found = Vec::new();
    for source in sources() {
        let file = source.file.display();
        if !source.text.starts_with("//! ") {
            found.push(format!("{file}: no header"));
        }
        if source.text.lines().count() > LINES_MAX {
            found.push(format!("{file}: past {LINES_MAX} lines"));
        }
        let stem = source.file.file_stem().unwrap().to_str().unwrap();
        if ["utils", "helpers", "common", "manager", "engine", "types", "error"].contains(&stem) {
            found.push(format!("{file}: a name that says nothing"));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

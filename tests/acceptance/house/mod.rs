//! The walls between the rooms: what may not be written where.

mod migrations;

use std::fs;
use std::path::{Path, PathBuf};

/// (where, what may not be written there, why)
const ABSENT: &[(&str, &[&str], &str)] = &[
    (
        "src/plan",
        &[
            "tokio",
            "reqwest",
            "rusqlite",
            "std::fs",
            "async fn",
            ".await",
            "::now()",
            "tracing",
            "crate::healthex",
            "crate::warehouse",
            "crate::cycle",
            "crate::pull",
        ],
        "plan decides from facts alone",
    ),
    ("src/healthex", &["rusqlite", "warehouse"], "the server's dialect knows no table"),
    ("src/warehouse", &["reqwest", "healthex::", "Url"], "the warehouse knows no server"),
    ("src/commands", &["rusqlite", "reqwest", "process::exit", "println!"], "a command asks, it does not do"),
    ("src/cycle", &["reqwest"], "a cycle orders pulls and purges, it does not do them"),
    (
        "src/sandbox",
        &[
            "crate::healthex",
            "crate::warehouse",
            "crate::pull",
            "crate::cycle",
            "crate::settings",
            "rusqlite",
            "reqwest",
        ],
        "a fake that shares the client's code agrees with its mistakes",
    ),
    ("src/roster.rs", &["rusqlite", "warehouse::", "healthex::"], "the roster is a file"),
    (
        "src/settings",
        &["rusqlite", "warehouse::", "crate::healthex", "crate::cycle"],
        "settings are read, not acted on",
    ),
];

/// (what, the only rooms where it may be written)
const ONLY_IN: &[(&str, &[&str])] = &[
    ("StatusCode", &["src/healthex", "src/sandbox", "src/service"]),
    ("SELECT ", &["src/warehouse", "src/views"]),
    ("INSERT INTO", &["src/warehouse", "src/views"]),
    ("UPDATE ", &["src/warehouse", "src/views"]),
    ("DELETE FROM", &["src/warehouse", "src/views"]),
    ("PRAGMA ", &["src/warehouse", "src/views"]),
    ("Utc::now", &["src/clock.rs", "src/sandbox"]),
    ("SystemTime::now", &["src/clock.rs", "src/sandbox"]),
    ("reqwest", &["src/healthex", "src/service"]),
    ("clap::", &["src/cli.rs", "src/main.rs"]),
];

const LINES_MAX: usize = 600;

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file, by its path from the project's folder.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    rust_files(&root.join("src"), &mut files);
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            (file.strip_prefix(root).unwrap().to_owned(), text)
        })
        .collect()
}

/// The code before a file's tests, with line numbers and without comments.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().take_while(|line| *line != "#[cfg(test)]");
    (1..).zip(lines.map(|line| line.split("//").next().unwrap_or_default()))
}

#[test]
fn every_room_keeps_to_its_side_of_the_wall() {
    let mut found = Vec::new();
    for (file, text) in sources() {
        for (number, code) in code(&text) {
            let place = format!("{}:{number}", file.display());
            for (room, words, why) in ABSENT.iter().filter(|(room, ..)| file.starts_with(room)) {
                for word in words.iter().filter(|word| code.contains(**word)) {
                    found.push(format!("{place}: `{word}` in {room}: {why}"));
                }
            }
            for (word, rooms) in ONLY_IN.iter().filter(|(word, _)| code.contains(word)) {
                if !rooms.iter().any(|room| file.starts_with(room)) {
                    found.push(format!("{place}: `{word}` belongs in {rooms:?}"));
                }
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn clinical_content_cannot_be_displayed() {
    let mut found = Vec::new();
    for (file, text) in sources() {
        for (number, code) in code(&text) {
            for name in ["Entry", "Row", "Quarantined"] {
                let displayed = code.contains(&format!("Display for {name} "));
                if displayed && !file.starts_with("src/sandbox") {
                    found.push(format!("{}:{number}: {code}", file.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn a_file_says_what_it_is_for_and_has_one_job() {
    let mut found = Vec::new();
    for (file, text) in sources() {
        if !text.starts_with("//! ") {
            found.push(format!("{}: no header", file.display()));
        }
        if text.lines().count() > LINES_MAX {
            found.push(format!("{}: past {LINES_MAX} lines", file.display()));
        }
        let stem = file.file_stem().unwrap().to_str().unwrap();
        if ["utils", "helpers", "common", "manager", "engine", "types", "error"].contains(&stem) {
            found.push(format!("{}: a name that says nothing", file.display()));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

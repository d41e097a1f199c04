//! A source file as the house looks at it: without comments, without its tests, and, where only
//! names count, without what is written between quotes.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::world::project;

pub(super) struct Source {
    /// From the project's folder: `src/plan/mod.rs`.
    pub(super) file: PathBuf,
    pub(super) text: String,
    /// As long as the text, with blanks for comments and tests.
    pub(super) code: String,
    /// With blanks for what is between quotes too.
    pub(super) names: String,
}

impl Source {
    pub(super) fn new(file: &str, text: &str) -> Self {
        let (comments, quoted) = asides(text);
        let mut names = text.as_bytes().to_vec();
        blank(&mut names, comments.iter().chain(&quoted));
        let tests = test_items(&names);
        blank(&mut names, &tests);
        let mut code = text.as_bytes().to_vec();
        blank(&mut code, comments.iter().chain(&tests));
        let [code, names] = [code, names].map(|bytes| String::from_utf8(bytes).unwrap());
        Self { file: file.into(), text: text.to_owned(), code, names }
    }
}

/// Returns every file of `src/`.
pub(super) fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    rust_files(&project("src"), &mut files);
    files.sort();
    let read = |file: &PathBuf| {
        let name = file.strip_prefix(project("")).unwrap().to_str().unwrap();
        Source::new(name, &fs::read_to_string(file).unwrap())
    };
    files.iter().map(read).collect()
}

/// Returns every file of `src/` that the program is built of: not those that a `mod.rs` names for
/// tests alone.
pub(super) fn shipped() -> Vec<Source> {
    let mut sources = sources();
    let for_tests: Vec<PathBuf> = sources.iter().flat_map(modules_for_tests).collect();
    sources.retain(|source| {
        let module = source.file.with_extension("");
        !for_tests.iter().any(|tests| module.starts_with(tests))
    });
    sources
}

/// Returns the places of the modules that a file names for tests alone, as `src/room/tests`.
fn modules_for_tests(source: &Source) -> Vec<PathBuf> {
    let folder = source.file.parent().unwrap();
    let marked = source.text.split("#[cfg(test)]\n").skip(1);
    let named = marked.filter_map(|rest| {
        let line = rest.lines().next()?.trim().strip_suffix(';')?;
        line.strip_prefix("mod ").or_else(|| line.split_once(" mod ").map(|(_, name)| name))
    });
    named.map(|name| folder.join(name)).collect()
}

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

fn blank<'r>(bytes: &mut [u8], ranges: impl IntoIterator<Item = &'r Range<usize>>) {
    for range in ranges {
        for byte in bytes[range.clone()].iter_mut().filter(|byte| **byte != b'\n') {
            *byte = b' ';
        }
    }
}

/// Returns where the comments are, and where there is something between quotes.
fn asides(text: &str) -> (Vec<Range<usize>>, Vec<Range<usize>>) {
    let (mut comments, mut quoted) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let first = rest.chars().next().unwrap();
        if rest.starts_with("//") {
            let end = at + rest.find('\n').unwrap_or(rest.len());
            comments.push(at..end);
            at = end;
        } else if rest.starts_with("/*") {
            let end = at + nested_comment(rest);
            comments.push(at..end);
            at = end;
        } else if let Some(length) = quotation(rest) {
            quoted.push(at..at + length);
            at += length;
        } else if first.is_alphanumeric() || first == '_' {
            at += rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        } else {
            at += first.len_utf8();
        }
    }
    (comments, quoted)
}

fn nested_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Returns the length of the string or character that `rest` begins with.
fn quotation(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| {
        let quote = rest.strip_prefix(prefix).map(|rest| rest.trim_start_matches('#'));
        quote.is_some_and(|quote| quote.starts_with(['"', '\'']))
    })?;
    let after = &rest[prefix.len()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    let quote = &after[hashes..];
    if prefix.ends_with('r') {
        let closing = format!("\"{}", "#".repeat(hashes));
        let inner = quote.strip_prefix('"')?;
        return Some(rest.len() - inner.len() + inner.find(&closing)? + closing.len());
    }
    if hashes > 0 {
        return None;
    }
    let closing = quote.chars().next()?;
    let mut characters = quote.char_indices().skip(1);
    let mut length = 0;
    while let Some((at, character)) = characters.next() {
        length += 1;
        if character == closing {
            return Some(prefix.len() + at + 1);
        }
        if character == '\\' {
            characters.next();
        } else if closing == '\'' && length > 1 {
            // A lifetime: it has no second quote.
            return None;
        }
    }
    None
}

/// Returns where the items are that are for tests alone.
fn test_items(names: &[u8]) -> Vec<Range<usize>> {
    const MARK: &str = "#[cfg(test)]";
    let text = str::from_utf8(names).unwrap();
    let mut found: Vec<Range<usize>> = Vec::new();
    for (start, _) in text.match_indices(MARK) {
        let mut depth = 0;
        let ends = |character: &(usize, char)| {
            depth += match character.1 {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            depth == 0 && matches!(character.1, '}' | ';')
        };
        let item = text[start..].char_indices().find(ends);
        found.push(start..item.map_or(text.len(), |(length, _)| start + length + 1));
    }
    found
}

#[test]
fn comments_tests_and_quotes_are_told_from_code() {
    let text = "//! rusqlite\nuse a; /* b /* c */ \" */ let d = \"// e\"; // f\n\
                let g = ['\\'', '\"', b'\"', 'é']; fn h<'i>(j: &'i str) { r#\"\"k\"\"#; \"l\\\"m\" }\n\
                #[cfg(test)]\nuse n;\n#[cfg(test)]\nmod tests { fn o() { \"}\" } }\nfn p() {}";
    let source = Source::new("src/x.rs", text);
    let words = |code: &str| code.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(
        words(&source.code),
        "use a; let d = \"// e\"; let g = ['\\'', '\"', b'\"', 'é']; \
         fn h<'i>(j: &'i str) { r#\"\"k\"\"#; \"l\\\"m\" } fn p() {}"
    );
    assert_eq!(
        words(&source.names),
        "use a; let d = ; let g = [ , , , ]; fn h<'i>(j: &'i str) { ; } fn p() {}"
    );
    assert_eq!(source.names.lines().count(), text.lines().count());
}

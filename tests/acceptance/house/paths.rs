//! The paths that a source file writes, in imports and in expressions: a parser of as much Rust as
//! that takes.

#[derive(Debug, PartialEq)]
pub(super) struct NamedPath {
    pub(super) names: Vec<String>,
    /// What an import is called where it is imported.
    pub(super) called: Option<String>,
}

/// Returns every path in a file, those of a grouped import one by one.
pub(super) fn paths(text: &str) -> Vec<NamedPath> {
    let tokens = tokens(text);
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_inside = at > 0 && ["::", "."].contains(&tokens[at - 1]);
        // `use<'a>` is a bound.
        if tokens[at] == "use" && tokens.get(at + 1) != Some(&"<") {
            at = import(&tokens, at + 1, &[], &mut found);
        } else if is_word(tokens[at]) && !is_inside && tokens.get(at + 1) == Some(&"::") {
            let mut names = vec![tokens[at].to_owned()];
            while tokens.get(at + 1) == Some(&"::") && tokens.get(at + 2).is_some_and(|next| is_word(next)) {
                names.push(tokens[at + 2].to_owned());
                at += 2;
            }
            found.push(NamedPath { names, called: None });
            at += 1;
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one import, or one branch of a group, and returns what comes after it.
fn import(tokens: &[&str], mut at: usize, before: &[String], found: &mut Vec<NamedPath>) -> usize {
    let mut names = before.to_vec();
    while let Some(token) = tokens.get(at) {
        match *token {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| *token != "}") {
                    at = if tokens[at] == "," { at + 1 } else { import(tokens, at, &names, found) };
                }
                return at + 1;
            }
            "as" => {
                let called = tokens.get(at + 1).map(|called| (*called).to_owned());
                found.push(NamedPath { names, called });
                return at + 2;
            }
            "self" if !names.is_empty() => at += 1,
            token if is_word(token) || token == "*" => {
                names.push(token.to_owned());
                at += 1;
            }
            _ => break,
        }
    }
    let called = names.last().filter(|name| *name != "*").cloned();
    found.push(NamedPath { names, called });
    // Whatever ended it has been seen, but for the end of a group, which is the group's.
    if matches!(tokens.get(at), Some(&("}" | ","))) { at } else { at + 1 }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Returns the words, `::`, and every other character that is no blank.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = match first {
            _ if word > 0 => word,
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

#[test]
fn imports_are_read_in_every_form() {
    let text = "use crate::a::{b, c::{D as E, self}, super_::*}; pub(crate) use self::f::G;\n\
                use std::fs::{self, File};\n\
                fn h() -> impl crate::i::J + use<> { super::super::k(l::m::<N>(), o.p::<Q>()) }";
    let read = |text| -> Vec<(String, Option<String>)> {
        paths(text).into_iter().map(|path| (path.names.join("::"), path.called)).collect()
    };
    let imported = |path: &str, called: &str| (path.to_owned(), Some(called.to_owned()));
    let named = |path: &str| (path.to_owned(), None);
    assert_eq!(
        read(text),
        [
            imported("crate::a::b", "b"),
            imported("crate::a::c::D", "E"),
            imported("crate::a::c", "c"),
            named("crate::a::super_::*"),
            imported("self::f::G", "G"),
            imported("std::fs", "fs"),
            imported("std::fs::File", "File"),
            named("crate::i::J"),
            named("super::super::k"),
            named("l::m"),
        ]
    );
}

//! Who names whom: no circle between the files of a room, and no room that names a later one.
//!
//! A path counts wherever it is written, in a `use` or in an expression, and is followed through
//! the names that a `mod.rs` passes on. A `mod.rs` itself is its room's door: it names its files,
//! and they may name it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use super::paths::{NamedPath, paths};
use super::source::{Source, shipped, sources};

/// The rooms, each naming only those before it.
const ORDER: &[&str] = &[
    "time",
    "wording",
    "sandbox",
    "plan",
    "clock",
    "machine",
    "stop",
    "settings",
    "telemetry",
    "roster",
    "views",
    "healthex",
    "warehouse",
    "export",
    "pull",
    "cycle",
    "service",
    "cli",
    "manual",
    "commands",
    "main",
];

/// A module's place, or the name of something in it, from the crate's root: `plan`, `due`, `Due`.
type Names = Vec<String>;

type Graph = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

struct Module {
    file: PathBuf,
    is_door: bool,
    /// All that it names inside the crate.
    named: BTreeSet<Names>,
    /// What its imports are called here.
    imported: BTreeMap<String, Names>,
}

/// The crate's modules, by their place in it.
struct Modules(BTreeMap<Names, Module>);

impl Modules {
    fn of(sources: &[Source]) -> Self {
        let places: BTreeSet<Names> = sources.iter().map(|source| place(&source.file)).collect();
        let modules = sources.iter().map(|source| {
            let place = place(&source.file);
            let mut module = Module {
                file: source.file.clone(),
                is_door: source.file.ends_with("mod.rs") || place.is_empty(),
                named: BTreeSet::new(),
                imported: BTreeMap::new(),
            };
            let (imports, others): (Vec<_>, Vec<_>) =
                paths(&source.names).into_iter().partition(|path| path.called.is_some());
            for NamedPath { names, called } in imports.into_iter().chain(others) {
                let imported = module.imported.get(&names[0]);
                let imported = imported.map(|import| [import, &names[1..]].concat());
                let Some(names) = imported.or_else(|| from_root(&names, &place, &places)) else { continue };
                if let Some(called) = called {
                    module.imported.insert(called, names.clone());
                }
                module.named.insert(names);
            }
            (place, module)
        });
        Self(modules.collect())
    }

    /// Returns the module where `names` leads to, past those that only pass a name on.
    fn home(&self, names: &[String], passed_on: usize) -> Option<&Module> {
        const PASSED_ON_MAX: usize = 16;
        let known = (0..=names.len()).rev().find(|length| self.0.contains_key(&names[..*length]))?;
        let module = &self.0[&names[..known]];
        let passes = names.get(known).and_then(|name| module.imported.get(name));
        match passes.filter(|next| passed_on < PASSED_ON_MAX && next.as_slice() != names) {
            Some(next) => self.home(&[next, &names[known + 1..]].concat(), passed_on + 1),
            None => Some(module),
        }
    }

    /// Returns which file names which others.
    fn graph(&self) -> Graph {
        let named = |module: &Module| {
            let homes = module.named.iter().filter_map(|names| self.home(names, 0));
            homes.map(|home| home.file.clone()).filter(|file| *file != module.file).collect()
        };
        self.0.values().map(|module| (module.file.clone(), named(module))).collect()
    }

    /// Returns that graph without the doors.
    fn graph_behind_the_doors(&self) -> Graph {
        let doors: BTreeSet<&PathBuf> =
            self.0.values().filter(|module| module.is_door).map(|module| &module.file).collect();
        let mut graph = self.graph();
        graph.retain(|file, _| !doors.contains(file));
        for named in graph.values_mut() {
            named.retain(|file| !doors.contains(file));
        }
        graph
    }
}

/// Returns the place of a file's module: `plan`, `due` for `src/plan/due.rs`.
fn place(file: &Path) -> Names {
    let parts = file.strip_prefix("src").unwrap().with_extension("");
    let mut names: Names = parts.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if matches!(names.last().map(String::as_str), Some("mod" | "lib")) {
        names.pop();
    }
    names
}

/// Returns the names as they are from the crate's root, `None` where they lead out of the crate.
fn from_root(names: &[String], place: &[String], places: &BTreeSet<Names>) -> Option<Names> {
    let ups = names.iter().take_while(|name| *name == "super").count();
    match names.first()?.as_str() {
        "crate" | "healthex_sync" => Some(names[1..].to_vec()),
        "self" => Some([place, &names[1..]].concat()),
        "super" => Some([&place[..place.len().checked_sub(ups)?], &names[ups..]].concat()),
        first => {
            let is_mine = places.contains(&[place, &[first.to_owned()]].concat());
            is_mine.then(|| [place, names].concat())
        }
    }
}

/// Returns the shortest way from one file to another, along who names whom.
fn way<'g>(graph: &'g Graph, from: &'g PathBuf, to: &PathBuf) -> Option<Vec<&'g PathBuf>> {
    let mut ways = VecDeque::from([vec![from]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in graph.get(way[way.len() - 1]).into_iter().flatten() {
            let longer = [way.as_slice(), &[next]].concat();
            if next == to {
                return Some(longer);
            }
            if seen.insert(next) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// Returns each strongly connected component: its files, and the shortest way round the first.
fn circles(graph: &Graph) -> Vec<String> {
    let mut told = Vec::new();
    let mut placed: BTreeSet<&PathBuf> = BTreeSet::new();
    for file in graph.keys() {
        let Some(round) = way(graph, file, file) else { continue };
        if placed.contains(file) {
            continue;
        }
        let is_in = |other: &&PathBuf| {
            *other == file || (way(graph, file, other).is_some() && way(graph, other, file).is_some())
        };
        let members: Vec<&PathBuf> = graph.keys().filter(is_in).collect();
        let list = |files: &[&PathBuf], between: &str| {
            files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(between)
        };
        told.push(format!("{} files: {}: {}", members.len(), list(&members, " "), list(&round, " → ")));
        placed.extend(members);
    }
    told
}

/// Returns what rooms name against their order.
fn out_of_order(graph: &Graph, order: &[&str]) -> Vec<String> {
    let room = |file: &PathBuf| place(file).into_iter().next();
    let at = |room: &str| order.iter().position(|known| *known == room);
    let mut found = Vec::new();
    for (file, named) in graph {
        let Some(mine) = room(file) else { continue };
        let Some(place) = at(&mine) else {
            found.push(format!("{}: {mine} is no room that is known", file.display()));
            continue;
        };
        for other in named {
            let is_later = room(other).is_some_and(|room| at(&room).is_none_or(|other| other > place));
            if is_later {
                found.push(format!("{} names {}, of a later room", file.display(), other.display()));
            }
        }
    }
    found
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    let found = circles(&Modules::of(&sources()).graph_behind_the_doors());
    assert!(found.is_empty(), "{} circles\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_room_names_one_that_is_later_on_the_road() {
    let found = out_of_order(&Modules::of(&shipped()).graph(), ORDER);
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Files by their names in `src/room/`, with what is in them.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<Source> =
        files.iter().map(|(name, text)| Source::new(&format!("src/room/{name}.rs"), text)).collect();
    circles(&Modules::of(&files).graph_behind_the_doors())
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let there = ("one", "use super::two::Two; fn one() {}");
    for back in [
        "use super::one::one;",
        "use super::{one::{one}};",
        "use crate::room::one as first;",
        "fn two() { super::one::one() }",
        "fn two() { crate::room::one::one() }",
        "use super::passed_on;",
        "use super::door; fn two() { door::passed_on() }",
    ] {
        let door = ("mod", "mod one; mod two; mod door; pub(crate) use self::one::one as passed_on;");
        let inner = ("door/mod", "pub(crate) use super::passed_on;");
        let found = circles_of(&[door, inner, there, ("two", back)]);
        let round = "src/room/one.rs → src/room/two.rs → src/room/one.rs";
        assert!(found.len() == 1 && found[0].ends_with(round), "{back}: {found:?}");
    }
    for innocent in [
        "// use super::one::one;",
        "const TOLD: &str = \"use super::one::one;\";",
        "#[cfg(test)]\nmod tests { use super::super::one::one; }",
        "use other::one::one;",
        "use super::Door;",
    ] {
        let found = circles_of(&[("mod", "mod one; mod two; struct Door;"), there, ("two", innocent)]);
        assert_eq!(found, Vec::<String>::new(), "{innocent}");
    }
}

#[test]
fn two_circles_are_told_apart_and_each_is_told_once() {
    let found = circles_of(&[
        ("a", "use super::b::B;"),
        ("b", "use super::c::C;"),
        ("c", "use super::{a, d};"),
        ("d", "use super::e::E;"),
        ("e", "use super::d::D;"),
        ("f", "use super::a::A;"),
    ]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("3 files: src/room/a.rs src/room/b.rs src/room/c.rs:"), "{found:?}");
    assert!(found[1].starts_with("2 files: src/room/d.rs src/room/e.rs:"), "{found:?}");
}

#[test]
fn a_room_that_names_a_later_one_is_told() {
    let files = [("plan/due", "use crate::cycle::Cycle;"), ("cycle/mod", "use crate::plan::due;")]
        .map(|(name, text)| Source::new(&format!("src/{name}.rs"), text));
    let graph = Modules::of(&files).graph();
    let told = out_of_order(&graph, &["plan", "cycle"]);
    assert_eq!(told, ["src/plan/due.rs names src/cycle/mod.rs, of a later room"]);
    assert_eq!(out_of_order(&graph, &["cycle", "plan"]).len(), 1);
    assert_eq!(out_of_order(&graph, &["plan"]).len(), 2, "a room that is not known");
}

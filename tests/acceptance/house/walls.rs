//! The walls between the rooms: what may not be written where, and what in one room alone.

use std::path::Path;

use super::source::{Source, shipped};

/// What may not be written in some rooms.
struct Absent {
    rooms: &'static [&'static str],
    words: &'static [&'static str],
    why: &'static str,
}

/// What may be written in some rooms alone.
struct Only {
    words: &'static [&'static str],
    rooms: &'static [&'static str],
}

const SQLITE: &str = "src/warehouse/sqlite";
const POSTGRES: &str = "src/warehouse/postgres";

const ABSENT: &[Absent] = &[
    Absent {
        rooms: &["src/plan"],
        words: &[
            "tokio",
            "reqwest",
            "rusqlite",
            "std::fs",
            "std::net",
            "std::process",
            "std::env",
            "async fn",
            "async move",
            ".await",
            "::now()",
            "rand::",
            "tracing",
        ],
        why: "plan decides from facts alone",
    },
    Absent {
        rooms: &[
            "src/warehouse/extract.rs",
            "src/warehouse/failure.rs",
            "src/warehouse/page.rs",
            "src/warehouse/patient.rs",
            "src/warehouse/pull.rs",
            "src/warehouse/purge.rs",
            "src/warehouse/report.rs",
        ],
        words: &["tokio", "std::fs", "std::net", "async fn", ".await", "::now()", "sqlite", "postgres"],
        why: "the door's words are plain data, the same for each engine",
    },
    Absent {
        rooms: &["src/warehouse"],
        words: &["reqwest", "healthex::", "url::", "Url::", "clock::now"],
        why: "the warehouse knows no server, and is told what time it is",
    },
    Absent {
        rooms: &["src/healthex"],
        words: &["rusqlite", "warehouse"],
        why: "the server's dialect knows no table",
    },
    Absent { rooms: &["src/views"], words: &["warehouse::", "async fn", ".await"], why: "a view is text" },
    Absent {
        rooms: &["src/export"],
        words: &["sqlite", "settings", "async fn", ".await", "::now()"],
        why: "an export reads a snapshot and writes files",
    },
    Absent {
        rooms: &["src/pull"],
        words: &["Semaphore", "Permit", "Slot"],
        why: "a walk takes its pages; who may walk is the cycle's to say",
    },
    Absent {
        rooms: &["src/cycle"],
        words: &["reqwest"],
        why: "a cycle orders pulls and purges, it does not do them",
    },
    Absent {
        rooms: &["src/commands"],
        words: &["reqwest", "process::exit", "println!"],
        why: "a command asks, it does not do",
    },
    Absent {
        rooms: &["src/sandbox"],
        words: &[
            "crate::healthex",
            "crate::warehouse",
            "crate::pull",
            "crate::cycle",
            "crate::settings",
            "crate::plan",
            "reqwest",
        ],
        why: "a fake that shares the client's code agrees with its mistakes",
    },
    Absent {
        rooms: &["src/roster.rs", "src/roster"],
        words: &["warehouse::", "healthex::"],
        why: "the roster is a file",
    },
    Absent {
        rooms: &["src/settings"],
        words: &["warehouse::", "crate::healthex", "crate::cycle"],
        why: "settings are read, not acted on",
    },
];

const ONLY: &[Only] = &[
    Only { words: &["rusqlite"], rooms: &[SQLITE] },
    Only { words: &["tokio_postgres"], rooms: &[POSTGRES] },
    Only { words: &["sqlite::", "postgres::"], rooms: &["src/warehouse"] },
    Only {
        words: &["INSERT INTO", "UPDATE ", "DELETE FROM", "PRAGMA ", "ALTER TABLE", "DROP TABLE", ".sql\""],
        rooms: &[SQLITE, POSTGRES],
    },
    Only { words: &["CREATE TABLE", "CREATE INDEX", "CREATE VIEW"], rooms: &[SQLITE, POSTGRES] },
    // A view is compiled to one SELECT.
    Only { words: &["SELECT "], rooms: &[SQLITE, POSTGRES, "src/views"] },
    // Those that speak HTTP have connections of another kind.
    Only {
        words: &["connection", "Connection"],
        rooms: &[SQLITE, POSTGRES, "src/healthex", "src/sandbox", "src/service/port.rs"],
    },
    Only { words: &["StatusCode"], rooms: &["src/healthex", "src/sandbox", "src/service"] },
    Only { words: &["Utc::now", "SystemTime::now"], rooms: &["src/clock.rs", "src/sandbox"] },
    // A simulation has a clock, dice and no threads of its own.
    Only {
        words: &["tokio::time", "std::time::Instant", "std::time::{"],
        rooms: &["src/clock.rs", "src/sandbox", "src/telemetry"],
    },
    // What is to stay secret is the system's own chance, in a simulation too.
    Only { words: &["rand::"], rooms: &["src/machine.rs", "src/sandbox", "src/export/pseudonym.rs"] },
    Only { words: &["spawn_blocking"], rooms: &["src/machine.rs"] },
    // Time zones are where cron times are.
    Only { words: &["chrono::", "chrono_tz"], rooms: &["src/time.rs", "src/settings"] },
    Only { words: &["reqwest"], rooms: &["src/healthex", "src/service"] },
    Only { words: &["clap::"], rooms: &["src/cli.rs", "src/main.rs", "src/manual.rs"] },
];

fn is_in(file: &Path, rooms: &[&str]) -> bool {
    rooms.iter().any(|room| file.starts_with(room))
}

/// Returns each word that goes through a wall, a line for each file.
fn breaches(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for Source { file, code, .. } in sources {
        let mut tell = |words: &[&str], why: &str| {
            for word in words {
                let lines = (1..).zip(code.lines()).filter(|(_, line)| line.contains(word));
                let lines: Vec<String> = lines.map(|(number, _)| number.to_string()).collect();
                if !lines.is_empty() {
                    found.push(format!("{}:{}: `{word}`: {why}", file.display(), lines.join(",")));
                }
            }
        };
        for Absent { words, why, .. } in ABSENT.iter().filter(|wall| is_in(file, wall.rooms)) {
            tell(words, why);
        }
        for Only { words, rooms } in ONLY.iter().filter(|wall| !is_in(file, wall.rooms)) {
            tell(words, &format!("only in {}", rooms.join(", ")));
        }
    }
    found
}

#[test]
fn every_room_keeps_to_its_side_of_the_wall() {
    let found = breaches(&shipped());
    assert!(found.is_empty(), "{} breaches\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_breach_is_told_by_its_line() {
    for (file, line) in [
        ("src/cycle/mod.rs", "use rusqlite::Connection;"),
        ("src/warehouse/page.rs", "use rusqlite::Connection;"),
        ("src/warehouse/sqlite/page.rs", "use tokio_postgres::Client;"),
        ("src/commands/demo.rs", "query(include_str!(\"../../schema/demo.sql\"))"),
        ("src/service/facts.rs", "warehouse.write(move |connection| all(connection))"),
        ("src/service/mod.rs", "let url = \"https://x\"; ask(\"SELECT 1\")"),
        ("src/pull/mod.rs", "use crate::warehouse::sqlite::open;"),
        ("src/views/load.rs", "use crate::warehouse::Warehouse;"),
        ("src/plan/due.rs", "let now = Instant::now();"),
        ("src/plan/retry.rs", "let jitter = rand::random();"),
        ("src/warehouse/patient.rs", "async fn one() {}"),
        ("src/sandbox/page.rs", "use crate::healthex::bundle;"),
        ("src/warehouse/sqlite/page.rs", "use url::Url;"),
        ("src/cycle/mod.rs", "let begun = std::time::Instant::now();"),
        ("src/healthex/pause.rs", "use std::time::{Duration, Instant};"),
        ("src/service/worker.rs", "let opening = spawn_blocking(open);"),
    ] {
        let told = breaches(&[Source::new(file, &format!("//! Told.\n\n{line}\n"))]);
        assert!(told.iter().any(|told| told.starts_with(&format!("{file}:3: `"))), "{line}: {told:?}");
    }
    for (file, line) in [
        ("src/warehouse/sqlite/page.rs", "use rusqlite::Connection;"),
        ("src/warehouse/mod.rs", "use self::sqlite::Engine;"),
        ("src/views/mod.rs", "//! One SELECT; absent on purpose: a connection."),
        ("src/service/port.rs", "let served = serve_connection(stream, service);"),
    ] {
        assert_eq!(breaches(&[Source::new(file, line)]), Vec::<String>::new());
    }
}

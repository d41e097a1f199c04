//! Scrubs files that chance has made: sound, damaged, written by others, killed half-way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;

use super::database::{Commits, Unfit, commits, unfit};
use super::look::{Look, look};
use super::oracle;
use super::slice::{SliceLimits, zero_slice};
use super::walk::{Refused, Remains};
use crate::warehouse::failure::StoreFailed;

/// In rows that are deleted, and in versions of rows that are replaced.
const MARKERS: [&str; 2] = ["DOOMED-MARKER", "REPLACED-MARKER"];

/// Files of a run; `SCRUB_FILES` asks for more.
const FILES: u64 = 32;

fn files() -> u64 {
    std::env::var("SCRUB_FILES").ok().and_then(|files| files.parse().ok()).unwrap_or(FILES)
}

#[derive(Clone, Copy)]
struct Style {
    page_size: usize,
    secure_delete: &'static str,
}

impl Style {
    fn any(chance: &mut StdRng) -> Self {
        let secure_delete = ["ON", "OFF", "FAST"][chance.random_range(0..3)];
        Self { page_size: 512 << chance.random_range(0..8), secure_delete }
    }

    fn small(chance: &mut StdRng) -> Self {
        Self { page_size: 512 << chance.random_range(0..2), secure_delete: "OFF" }
    }
}

fn open(path: &Path, style: Style) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "page_size", style.page_size).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", "OFF").unwrap();
    connection.pragma_update(None, "secure_delete", style.secure_delete).unwrap();
    connection.busy_timeout(Duration::ZERO).unwrap();
    connection
}

const SCHEMA: &str = "
    CREATE TABLE resource (id INTEGER PRIMARY KEY, name TEXT, body BLOB);
    CREATE INDEX resource_by_name ON resource (name);
    CREATE TABLE part (name TEXT, number INTEGER, body TEXT, PRIMARY KEY (name, number)) WITHOUT ROWID;
    CREATE INDEX part_by_body ON part (body);
    CREATE TABLE tiny (number INTEGER PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE passing (body);
";

/// A text that begins with `word` and is sometimes much longer than a page.
fn text(chance: &mut StdRng, word: &str, page_size: usize) -> String {
    let length = match chance.random_range(0..10) {
        0..6 => chance.random_range(0..120),
        6..9 => chance.random_range(0..page_size),
        _ => chance.random_range(0..3 * page_size),
    };
    word.repeat(length / word.len() + 1)
}

fn word(chance: &mut StdRng) -> &'static str {
    ["live words ", MARKERS[0], "other live words ", MARKERS[1]][chance.random_range(0..4)]
}

/// One change of the kinds that leave bytes behind.
fn change(connection: &Connection, chance: &mut StdRng, page_size: usize) -> rusqlite::Result<()> {
    let word = word(chance);
    let number: i64 = chance.random_range(0..200);
    match chance.random_range(0..20) {
        0..6 => connection.execute(
            "INSERT OR REPLACE INTO resource (id, name, body) VALUES (?1, ?2, ?3)",
            (number, text(chance, word, 40), text(chance, word, page_size)),
        ),
        6..10 => connection.execute(
            "INSERT OR REPLACE INTO part (name, number, body) VALUES (?1, ?2, ?3)",
            (word, number, text(chance, word, page_size / 4)),
        ),
        10..13 => connection.execute(
            "UPDATE resource SET body = ?2 WHERE id % 17 = ?1",
            (number % 17, text(chance, word, page_size)),
        ),
        13 => connection.execute("DELETE FROM resource WHERE id BETWEEN ?1 AND ?1 + 9", [number]),
        14 => connection.execute("DELETE FROM part WHERE number % 11 = ?1", [number % 11]),
        15 => connection.execute("INSERT OR IGNORE INTO tiny (number) VALUES (?1 % 9), (?1)", [number]),
        16 => connection.execute("DELETE FROM tiny WHERE number % 3 = ?1", [number % 3]),
        17..19 => {
            connection.execute("INSERT INTO passing (body) VALUES (?1)", [text(chance, word, page_size)])
        }
        _ => {
            connection.execute_batch("DROP TABLE passing; CREATE TABLE passing (body)")?;
            Ok(0)
        }
    }
    .map(drop)
}

/// Transactions of several changes, some of them taken back.
fn churn(connection: &Connection, chance: &mut StdRng, style: Style, transactions: u32) {
    for _ in 0..transactions {
        connection.execute_batch("BEGIN").unwrap();
        for _ in 0..chance.random_range(1..12) {
            change(connection, chance, style.page_size).unwrap();
        }
        let end = if chance.random_ratio(1, 6) { "ROLLBACK" } else { "COMMIT" };
        connection.execute_batch(end).unwrap();
    }
}

/// What a purge does: no row that is left has a marker.
fn purge(connection: &Connection) {
    for marker in MARKERS {
        for (table, column) in
            [("resource", "body"), ("resource", "name"), ("part", "name"), ("part", "body")]
        {
            let delete = format!("DELETE FROM {table} WHERE instr({column}, ?1)");
            connection.execute(&delete, [marker]).unwrap();
        }
        connection.execute("DELETE FROM passing WHERE instr(body, ?1)", [marker]).unwrap();
    }
}

fn make(path: &Path, seed: u64, style: impl Fn(&mut StdRng) -> Style) -> Connection {
    let mut chance = StdRng::seed_from_u64(seed);
    let style = style(&mut chance);
    let connection = open(path, style);
    connection.execute_batch(SCHEMA).unwrap();
    let transactions = chance.random_range(5..40);
    churn(&connection, &mut chance, style, transactions);
    if chance.random_ratio(1, 8) {
        connection.execute_batch("VACUUM").unwrap();
        churn(&connection, &mut chance, style, 5);
    }
    purge(&connection);
    empty_wal(&connection);
    connection
}

fn empty_wal(connection: &Connection) {
    let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0);
}

/// Every cell of every table, or how reading it fails.
fn contents(connection: &Connection) -> BTreeMap<String, String> {
    let mut contents = BTreeMap::new();
    for table in ["resource", "part", "tiny", "passing"] {
        let mut rows = String::new();
        if let Err(error) = write_rows(connection, table, &mut rows) {
            write!(rows, "{error}").unwrap();
        }
        contents.insert(table.to_owned(), rows);
    }
    contents
}

fn write_rows(connection: &Connection, table: &str, out: &mut String) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("SELECT * FROM {table}"))?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            match row.get_ref(column)? {
                ValueRef::Text(text) => out.push_str(&String::from_utf8_lossy(text)),
                other => write!(out, "{other:?}").unwrap(),
            }
            out.push('|');
        }
        out.push('\n');
    }
    Ok(())
}

fn integrity(connection: &Connection) -> String {
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

#[derive(Debug)]
enum Ended {
    Clean { zeroed: u64, moved: u64 },
    Unfit,
    Refused(Refused),
}

const ONE_PAGE: SliceLimits = SliceLimits { pages_max: 1, time_max: Duration::from_mins(1) };

fn sound(connection: &Connection) -> Result<Result<Remains, Refused>, StoreFailed> {
    Ok(match look(connection, || true)? {
        Look::Sound(remains) => Ok(remains),
        Look::Refused(refused) => Err(refused),
        Look::Stopped => panic!("nobody stopped it"),
    })
}

/// Scrubs the database, with `between` called between two slices.
fn scrub(
    connection: &Connection,
    limits: SliceLimits,
    mut between: impl FnMut(),
) -> Result<Ended, StoreFailed> {
    match unfit(connection)? {
        // The files of these tests are free by a quarter more often than not.
        None | Some(Unfit::MuchIsFree) => {}
        Some(_) => return Ok(Ended::Unfit),
    }
    let (mut zeroed, mut moved) = (0, 0);
    for _ in 0..20 {
        let remains = match sound(connection)? {
            Ok(remains) if remains.is_clean() => {
                empty_wal(connection);
                return Ok(Ended::Clean { zeroed, moved });
            }
            Ok(remains) => remains,
            Err(refused) => return Ok(Ended::Refused(refused)),
        };
        let mut start = 0;
        while start < remains.dirty_pages() {
            let slice = zero_slice(connection, &remains, start, limits)?;
            assert!(start < slice.end && !slice.wal_is_held);
            start = slice.end;
            zeroed += slice.zeroed;
            moved += slice.moved;
            between();
        }
    }
    panic!("it never came to an end");
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    memchr::memmem::find(haystack, needle.as_bytes()).is_some()
}

/// Without what SQLite itself counts on in the header when a page is written.
fn without_counters(mut file: Vec<u8>) -> Vec<u8> {
    file[24..28].fill(0);
    file[92..100].fill(0);
    file
}

fn file_with(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("file.db")
}

#[test]
fn a_file_of_any_make_is_zeroed_as_the_oracle_says_and_else_unchanged() {
    let mut had_remains = 0;
    for seed in 0..files() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_with(&folder);
        let connection = make(&path, seed, Style::any);
        let (before, rows) = (fs::read(&path).unwrap(), contents(&connection));
        had_remains += u64::from(MARKERS.iter().any(|marker| contains(&before, marker)));

        let ended = scrub(&connection, SliceLimits::default(), || {}).unwrap();
        assert!(matches!(ended, Ended::Clean { moved: 0, .. }), "seed {seed}: {ended:?}");
        let after = fs::read(&path).unwrap();
        let expected = without_counters(oracle::zeroed(&before));
        assert!(without_counters(after.clone()) == expected, "seed {seed}: other bytes than the oracle's");
        assert_eq!(integrity(&connection), "ok", "seed {seed}");
        assert!(rows == contents(&connection), "seed {seed}: other rows");
        let (before, zeroed) = (without_counters(before), without_counters(after.clone()));
        let mut changed = before.iter().zip(&zeroed).filter(|(before, after)| before != after);
        assert!(changed.all(|(_, after)| *after == 0), "seed {seed}: a byte became another than zero");
        for marker in MARKERS {
            assert!(!contains(&after, marker), "seed {seed}: {marker} is still there");
        }
        assert_eq!(fs::metadata(folder.path().join("file.db-wal")).unwrap().len(), 0);

        let again = scrub(&connection, SliceLimits::default(), || panic!("a second run writes")).unwrap();
        assert!(matches!(again, Ended::Clean { zeroed: 0, .. }), "seed {seed}: {again:?}");
        assert!(fs::read(&path).unwrap() == after, "seed {seed}: a second run changed the file");
    }
    assert!(had_remains > files() / 3, "only {had_remains} files had anything to find");
}

#[test]
fn a_damaged_file_is_refused_or_holds_what_it_held() {
    let (mut refused, mut scrubbed) = (0, 0);
    for seed in 0..6 * files() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_with(&folder);
        drop(make(&path, seed % 8, Style::small));
        let mut chance = StdRng::seed_from_u64(seed);
        let mut bytes = fs::read(&path).unwrap();
        for _ in 0..chance.random_range(1..5) {
            let page = chance.random_range(0..bytes.len() / 512) * 512;
            // Where a page's header, pointers and counters are, or anywhere.
            let within = if chance.random_ratio(2, 3) { 24 } else { 512 };
            bytes[page + chance.random_range(0..within)] = chance.random();
        }
        fs::write(&path, &bytes).unwrap();
        let connection = Connection::open(&path).unwrap();
        let rows = contents(&connection);
        match scrub(&connection, ONE_PAGE, || {}) {
            Ok(Ended::Clean { .. }) => scrubbed += 1,
            Ok(Ended::Refused(_) | Ended::Unfit) | Err(_) => {
                refused += 1;
                assert!(fs::read(&path).unwrap() == bytes, "seed {seed}: refused and changed");
            }
        }
        assert!(rows == contents(&connection), "seed {seed}: other rows");
    }
    assert!(refused > 0 && scrubbed > 0, "{refused} refused, {scrubbed} scrubbed");
}

/// Which limit on the size of a file kills the child of this test.
const KILLED_BEYOND: &str = "SCRUB_KILLED_BEYOND";

/// A limit on the size of a file kills a process that writes beyond it: in the WAL at each frame in
/// turn, and, once the whole WAL fits, at the pages of the file when the WAL is moved into it.
#[test]
fn a_kill_at_any_write_leaves_a_sound_file_that_the_next_scrub_finishes() {
    if let Ok(limit) = std::env::var(KILLED_BEYOND) {
        let connection = Connection::open(std::env::var("SCRUB_FILE").unwrap()).unwrap();
        let remains = sound(&connection).unwrap().unwrap();
        let limit = Some(limit.parse().unwrap());
        let limits = rustix::process::Rlimit { current: limit, maximum: limit };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limits).unwrap();
        let half = SliceLimits { pages_max: remains.dirty_pages() / 2 + 1, ..ONE_PAGE };
        let middle = zero_slice(&connection, &remains, 0, half).unwrap().end;
        zero_slice(&connection, &remains, middle, half).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = file_with(&folder);
    let connection = make(&path, 3, |_| Style { page_size: 512, secure_delete: "OFF" });
    let rows = contents(&connection);
    drop(connection);
    let before = fs::read(&path).unwrap();
    let expected = without_counters(oracle::zeroed(&before));
    let test = module_path!().split_once("::").unwrap().1.to_owned()
        + "::a_kill_at_any_write_leaves_a_sound_file_that_the_next_scrub_finishes";
    let (mut killed, mut hot) = (0, 0);
    for limit in (0..before.len() + 1024).step_by(512) {
        fs::write(&path, &before).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", &test]).env(KILLED_BEYOND, limit.to_string()).env("SCRUB_FILE", &path);
        let ended = child.output().unwrap().status;
        let wal = folder.path().join("file.db-wal");
        killed += u32::from(!ended.success());
        hot += u32::from(fs::metadata(&wal).is_ok_and(|wal| wal.len() > 0));
        let connection = Connection::open(&path).unwrap();
        assert_eq!(integrity(&connection), "ok", "limit {limit}");
        assert!(rows == contents(&connection), "limit {limit}: other rows");
        let ended = scrub(&connection, SliceLimits::default(), || {}).unwrap();
        assert!(matches!(ended, Ended::Clean { .. }), "limit {limit}: {ended:?}");
        assert!(without_counters(fs::read(&path).unwrap()) == expected, "limit {limit}: other bytes");
    }
    assert!(killed > 20 && hot > 10, "{killed} killed, {hot} of them with a hot WAL");
}

#[test]
fn others_may_write_between_slices() {
    let mut moved_in_all = 0;
    for seed in 0..files() {
        let folder = tempfile::tempdir().unwrap();
        let (path, twin_path) = (file_with(&folder), folder.path().join("twin.db"));
        let connection = make(&path, seed, Style::small);
        let twin = make(&twin_path, seed, Style::small);
        let mut chance = StdRng::seed_from_u64(seed);
        let style = Style::small(&mut chance);
        let other = open(&path, Style { secure_delete: "OFF", ..style });
        let mut turns = 12;
        let ended = scrub(&connection, ONE_PAGE, || {
            if turns == 0 {
                return;
            }
            turns -= 1;
            // Now the same connection, as pages that are stored meanwhile, now another.
            let writer = if chance.random() { &connection } else { &other };
            let mut same = chance.clone();
            churn(writer, &mut chance, style, 1);
            churn(&twin, &mut same, style, 1);
            if chance.random_ratio(1, 6) {
                other.execute_batch("VACUUM").unwrap();
            }
        });
        let Ended::Clean { moved, .. } = ended.unwrap() else { panic!("seed {seed}") };
        moved_in_all += moved;
        assert_eq!(integrity(&connection), "ok", "seed {seed}");
        assert!(contents(&connection) == contents(&twin), "seed {seed}: other rows");
        let file = fs::read(&path).unwrap();
        assert!(without_counters(file.clone()) == without_counters(oracle::zeroed(&file)), "seed {seed}");
    }
    assert!(moved_in_all > 0, "no page was ever anywhere else");
}

/// Pages that the look found free hold a payload by the time of the slice, and the payload reads as
/// a trunk would: no next page, one leaf.
#[test]
fn a_free_page_that_is_in_use_again_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let style = Style { page_size: 512, secure_delete: "OFF" };
    let connection = open(&file_with(&folder), style);
    connection.execute_batch("CREATE TABLE t (body BLOB)").unwrap();
    for rotation in 0..4 {
        let body: Vec<u8> = [0, 0, 0, 1].into_iter().cycle().skip(rotation).take(20_000).collect();
        let insert = |body: &[u8]| connection.execute("INSERT INTO t (body) VALUES (?1)", [body]).unwrap();
        insert(&vec![0xee; 20_000]);
        connection.execute_batch("DELETE FROM t").unwrap();
        let remains = sound(&connection).unwrap().unwrap();
        insert(&body);
        let slice = zero_slice(&connection, &remains, 0, SliceLimits::default()).unwrap();
        assert!(slice.moved > 30, "{slice:?}");
        let stored: Vec<u8> = connection.query_row("SELECT body FROM t", [], |row| row.get(0)).unwrap();
        assert!(stored == body, "rotation {rotation}");
        connection.execute_batch("DELETE FROM t").unwrap();
    }
}

#[test]
fn an_older_connection_reads_and_writes_what_was_scrubbed() {
    let folder = tempfile::tempdir().unwrap();
    let path = file_with(&folder);
    let connection = make(&path, 5, Style::small);
    let older = Connection::open(&path).unwrap();
    let rows = contents(&older);
    assert!(matches!(scrub(&connection, ONE_PAGE, || {}), Ok(Ended::Clean { zeroed: 1.., .. })));
    assert!(rows == contents(&older));
    let before = commits(&connection).unwrap();
    churn(&older, &mut StdRng::seed_from_u64(5), Style { page_size: 512, secure_delete: "ON" }, 20);
    assert_eq!(integrity(&older), "ok");
    assert_eq!(integrity(&connection), "ok");
    assert_ne!(commits(&connection).unwrap().others, before.others);
}

#[test]
fn a_reader_keeps_its_snapshot_while_pages_are_zeroed() {
    let folder = tempfile::tempdir().unwrap();
    let path = file_with(&folder);
    let connection = make(&path, 5, Style::small);
    let reader = Connection::open(&path).unwrap();
    let snapshot = reader.unchecked_transaction().unwrap();
    let rows = contents(&snapshot);
    let remains = sound(&connection).unwrap().unwrap();
    let before = commits(&connection).unwrap();
    let slice = zero_slice(&connection, &remains, 0, SliceLimits::default()).unwrap();
    assert!(slice.zeroed > 0 && slice.end == remains.dirty_pages());
    let changes = before.changes + slice.zeroed;
    assert_eq!(commits(&connection).unwrap(), Commits { changes, ..before });
    assert!(rows == contents(&snapshot));
    assert!(sound(&connection).unwrap().unwrap().is_clean());
}

#[test]
fn a_slice_ends_at_its_time_and_has_done_something() {
    let folder = tempfile::tempdir().unwrap();
    let connection = make(&file_with(&folder), 5, Style::small);
    let remains = sound(&connection).unwrap().unwrap();
    let limits = SliceLimits { pages_max: usize::MAX, time_max: Duration::ZERO };
    assert_eq!(zero_slice(&connection, &remains, 0, limits).unwrap().end, 1);
    assert!(remains.dirty_pages() > 1);
}

#[test]
fn a_look_stops_when_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let connection = make(&file_with(&folder), 5, Style::small);
    assert!(matches!(look(&connection, || false), Ok(Look::Stopped)));
}

#[test]
fn what_cannot_be_zeroed_in_place_is_left_to_vacuum() {
    let folder = tempfile::tempdir().unwrap();
    let path = file_with(&folder);
    let connection = make(&path, 5, Style::small);
    connection.execute_batch("VACUUM").unwrap();
    assert_eq!(unfit(&connection).unwrap(), None);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).unwrap();
    assert_eq!(unfit(&connection).unwrap(), Some(Unfit::Defensive));
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false).unwrap();
    connection.execute_batch("DELETE FROM resource; DELETE FROM part").unwrap();
    assert_eq!(unfit(&connection).unwrap(), Some(Unfit::MuchIsFree));
    connection.execute_batch("VACUUM; PRAGMA journal_mode = DELETE").unwrap();
    assert_eq!(unfit(&connection).unwrap(), Some(Unfit::NoWal));

    let path = folder.path().join("auto.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA auto_vacuum = FULL; PRAGMA journal_mode = WAL").unwrap();
    connection.execute_batch(SCHEMA).unwrap();
    let refused = scrub(&connection, ONE_PAGE, || {}).unwrap();
    let Ended::Refused(refused) = refused else { panic!("{refused:?}") };
    assert_eq!(refused.to_string(), "page 1: the file is one of auto_vacuum");
}

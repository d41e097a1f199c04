//! Measures what the analysts' tables cost to keep and what they save, as ratios from one run:
//! `cargo bench --bench analyst_tables [-- OBSERVATIONS]`.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on says where")]
#![allow(clippy::print_stdout, reason = "prints what it measured")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use healthex_sync::plan::row::{Row, row_of};
use healthex_sync::plan::{PersonId, PullMode, TypeFilter};
use healthex_sync::sandbox::Population;
use healthex_sync::warehouse::analyst_tables::AnalystTables;
use healthex_sync::warehouse::checkpoint;
use healthex_sync::warehouse::checkpoint::Listed;
use healthex_sync::warehouse::open::{OtherServer, Place, open_writer};
use healthex_sync::warehouse::page::{Batch, PlacedRow, Progress, PullFrame, store};
use healthex_sync::warehouse::pulls::PullRow;
use healthex_sync::{clock, views};
use rusqlite::Connection;

const OBSERVATIONS: usize = 100_000;
const PAGE: usize = 500;
const ROUNDS: usize = 3;

/// Repeats the sandbox's Observations, each under a key of its own.
fn observations(count: usize) -> Vec<Row> {
    let population = Population::generated(12, 1);
    let all: Vec<String> = population
        .person_ids()
        .iter()
        .flat_map(|person| population.entries(person))
        .filter(|entry| entry.resource.contains("\"resourceType\":\"Observation\""))
        .map(|entry| entry.resource.clone())
        .collect();
    let row = |number: usize| row_of(&format!("Observation/{number}"), &all[number % all.len()]).unwrap();
    (0..count).map(row).collect()
}

fn fill(folder: &Path, tables: AnalystTables, rows: &[Row]) -> (Connection, Duration) {
    let place = Place {
        path: folder.join("warehouse.db"),
        base_url: "https://x".to_owned(),
        group: None,
        analyst_tables: Arc::new(tables),
    };
    let connection = open_writer(&place, OtherServer::Refuse).unwrap();
    let person = PersonId::parse("anna").unwrap();
    checkpoint::take_roster(&connection, &[Listed { person: person.clone(), label: None }]).unwrap();
    let now = clock::now();
    let frame = PullFrame {
        person,
        mode: PullMode::Full,
        types: TypeFilter::default(),
        started_at: now,
        since: None,
        is_resumed: false,
    };
    let mut pull = PullRow { id: None, pages: 0, requests: 0, bytes: 0, entries: 0 };
    let begun = Instant::now();
    for page in rows.chunks(PAGE) {
        let rows = page.iter().map(|row| PlacedRow { row: row.clone(), is_repeat: false }).collect();
        let batch = Batch { rows, quarantined: Vec::new(), progress: Progress::Partial };
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let stored = store(&connection, &place.analyst_tables, &frame, pull, &batch, now).unwrap();
        connection.execute_batch("COMMIT").unwrap();
        pull.id = Some(stored.pull_id);
    }
    (connection, begun.elapsed())
}

fn ask(connection: &Connection, question: &str) -> (Duration, usize) {
    let begun = Instant::now();
    let mut statement = connection.prepare(question).unwrap();
    let answers = statement.query_map([], |row| row.get::<_, Option<f64>>(1)).unwrap().count();
    (begun.elapsed(), answers)
}

fn main() {
    let asked = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let rows = observations(asked.unwrap_or(OBSERVATIONS));
    let (mut bare, mut kept) = (Duration::MAX, Duration::MAX);
    let (mut table, mut json) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        bare = bare.min(fill(folder.path(), AnalystTables::default(), &rows).1);
        let folder = tempfile::tempdir().unwrap();
        let (connection, took) = fill(folder.path(), views::analyst_tables(None).0, &rows);
        kept = kept.min(took);
        let from_table = ask(&connection, "SELECT loinc, avg(value) FROM lab_results GROUP BY loinc");
        let select = views::select_of("lab_results", None).unwrap();
        let from_json = ask(&connection, &format!("SELECT loinc, avg(value) FROM ({select}) GROUP BY loinc"));
        assert_eq!(from_table.1, from_json.1);
        table = table.min(from_table.0);
        json = json.min(from_json.0);
    }
    let rate = |took: Duration| f64::from(u32::try_from(rows.len()).unwrap_or(u32::MAX)) / took.as_secs_f64();
    println!("{} Observations, {PAGE} a transaction, best of {ROUNDS}", rows.len());
    println!("without tables     {:>9.0} rows/s", rate(bare));
    println!("tables kept up     {:>9.0} rows/s", rate(kept));
    let more = (kept.as_secs_f64() - bare.as_secs_f64()) / bare.as_secs_f64();
    println!("keeping them up costs {more:.2} of storing without them (wanted: at most 1)");
    let times = json.as_secs_f64() / table.as_secs_f64();
    println!("avg by code: table {table:?}, JSON {json:?}: {times:.0} times faster (wanted: at least 10)");
}

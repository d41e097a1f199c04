//! Measures what the analysts' tables cost to keep and what they save, as ratios from one run:
//! `cargo bench --bench analyst_tables [-- OBSERVATIONS]`.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on says where")]
#![allow(clippy::print_stdout, reason = "prints what it measured")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use healthex_sync::plan::row::{Row, row_of};
use healthex_sync::plan::{PersonId, PullMode, TypeFilter};
use healthex_sync::sandbox::Population;
use healthex_sync::views::{AnalystTable, Evaluation, Several};
use healthex_sync::warehouse::page::{Batch, IncomingRow, PullProgress};
use healthex_sync::warehouse::patient::RosterReading;
use healthex_sync::warehouse::place::{Location, OtherServer, Place};
use healthex_sync::warehouse::pull::{Fenced, PullCost, PullHead};
use healthex_sync::warehouse::{Reader, RowFormat, Warehouse};
use healthex_sync::{clock, views};
use rusqlite::Connection;

const OBSERVATIONS: usize = 100_000;
const PAGE: usize = 500;
const ROUNDS: usize = 3;
/// Patients that are pulled side by side: what one gives its views is worked out while another is stored.
const PULLS: usize = 2;

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

/// How long a first fill took, and with the indexes made at its end.
#[derive(Clone, Copy)]
struct Took {
    stored: Duration,
    with_indexes: Duration,
}

impl Took {
    const NEVER: Self = Self { stored: Duration::MAX, with_indexes: Duration::MAX };

    fn min(self, other: Self) -> Self {
        Self {
            stored: self.stored.min(other.stored),
            with_indexes: self.with_indexes.min(other.with_indexes),
        }
    }
}

fn fill(folder: &Path, views: Vec<AnalystTable>, rows: &[Row]) -> (PathBuf, Took) {
    let path = folder.join("warehouse.db");
    let place = Place {
        location: Location::File(path.clone()),
        base_url: "https://x".to_owned(),
        group: None,
        ledger: None,
        history: false,
        views: views.into(),
    };
    let now = clock::now();
    let warehouse = Arc::new(Warehouse::open(&place, OtherServer::Refuse, now).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(PULLS).build().unwrap();
    let took = runtime.block_on(async {
        let persons: Vec<PersonId> =
            (0..PULLS).map(|number| PersonId::parse(&format!("person-{number}")).unwrap()).collect();
        let listed = persons.iter().map(|person| person.clone().into()).collect();
        warehouse.begin_cycle(RosterReading::of_files(listed), now).await.unwrap();
        // Copied before the clock runs.
        let shares = rows.chunks(rows.len().div_ceil(PULLS)).map(<[Row]>::to_vec);
        let pulls: Vec<(PersonId, Vec<Row>)> = persons.into_iter().zip(shares).collect();
        let begun = Instant::now();
        let pulls =
            pulls.into_iter().map(|(person, rows)| tokio::spawn(pull(warehouse.clone(), person, rows)));
        for pull in pulls.collect::<Vec<_>>() {
            pull.await.unwrap();
        }
        let stored = begun.elapsed();
        // The indexes that queries use come last.
        warehouse.settle_views(now).await.unwrap();
        Took { stored, with_indexes: begun.elapsed() }
    });
    drop(warehouse);
    (path, took)
}

/// Stores the pages of one pull, one after the other, as a pull does.
async fn pull(warehouse: Arc<Warehouse>, person: PersonId, rows: Vec<Row>) {
    let now = clock::now();
    let (mode, types) = (PullMode::Full, TypeFilter::default());
    let head = PullHead { person, mode, types, started_at: now, since: None, is_resumed: false };
    let mut cost = PullCost::default();
    let mut rows = rows.into_iter().map(|row| IncomingRow { row, is_repeat: false });
    loop {
        let rows: Vec<IncomingRow> = rows.by_ref().take(PAGE).collect();
        if rows.is_empty() {
            return;
        }
        let progress = PullProgress::Partial;
        let batch = Batch { rows, quarantined: Vec::new(), progress, is_mostly_changes: true };
        let stored = warehouse.store_page(&head, cost, batch, now).await.unwrap();
        let Fenced::Kept(stored) = stored else { panic!("nobody else pulls") };
        cost.row = stored.row;
    }
}

/// Evaluates a view over all resources, its rows thrown away; returns how long that takes.
fn run_view(path: &Path, name: &str) -> (Duration, u64) {
    let view = views::built_in(name).unwrap().view().unwrap();
    let begun = Instant::now();
    let evaluation = Evaluation { now: clock::now(), several: Several::KeepFirst };
    let reader = Reader::open(&Location::File(path.to_owned())).unwrap();
    let run = reader.run_view(view, evaluation, RowFormat::Csv, &mut std::io::sink()).unwrap();
    (begun.elapsed(), run.rows)
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
    let (mut bare, mut kept) = (Took::NEVER, Took::NEVER);
    let (mut table, mut fresh) = (Duration::MAX, Duration::MAX);
    for _ in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        bare = bare.min(fill(folder.path(), Vec::new(), &rows).1);
        let folder = tempfile::tempdir().unwrap();
        let (path, took) = fill(
            folder.path(),
            views::analyst_tables(&[healthex_sync::plan::table_set::TableSet::Clinical], None).tables,
            &rows,
        );
        kept = kept.min(took);
        let connection = Connection::open(&path).unwrap();
        let from_table = ask(&connection, "SELECT loinc, avg(value) FROM observations GROUP BY loinc");
        let stored: u64 =
            connection.query_row("SELECT count(*) FROM observations", [], |row| row.get(0)).unwrap();
        let (ran, ran_rows) = run_view(&path, "observations");
        assert_eq!(stored, ran_rows);
        table = table.min(from_table.0);
        fresh = fresh.min(ran);
    }
    let rate = |took: Duration| f64::from(u32::try_from(rows.len()).unwrap_or(u32::MAX)) / took.as_secs_f64();
    println!("{} Observations, {PAGE} a transaction, best of {ROUNDS}", rows.len());
    println!("without tables              {:>9.0} rows/s", rate(bare.stored));
    println!("tables kept up              {:>9.0} rows/s", rate(kept.stored));
    println!("and their indexes at the end {:>8.0} rows/s", rate(kept.with_indexes));
    let more = |took: Duration| (took.as_secs_f64() - bare.stored.as_secs_f64()) / bare.stored.as_secs_f64();
    println!(
        "keeping them up costs {:.2} of storing without them, with indexes {:.2} (wanted: at most 1)",
        more(kept.stored),
        more(kept.with_indexes)
    );
    let times = fresh.as_secs_f64() / table.as_secs_f64();
    println!(
        "avg by code of the table: {table:?}; the view over all resources: {fresh:?}, {times:.0} times as long"
    );
    println!("the view over all resources: {:.2} µs a resource", 1e6 / rate(fresh));
}

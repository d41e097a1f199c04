//! Writes rows that are ready: raw, which is the limit, and by the program's own writer.

use std::collections::HashSet;
use std::sync::Arc;

use healthex_sync::clock;
use healthex_sync::plan::completeness::WalkCounts;
use healthex_sync::plan::row::{KeyHash, Row, row_of};
use healthex_sync::plan::table_set::TableSet;
use healthex_sync::plan::{PersonId, PullMode, TypeFilter};
use healthex_sync::views::{AnalystTable, analyst_tables};
use healthex_sync::warehouse::Warehouse;
use healthex_sync::warehouse::page::{
    Batch, Completion, IncomingRow, PullProgress, ShortfallChange, WalkMark,
};
use healthex_sync::warehouse::patient::RosterReading;
use healthex_sync::warehouse::place::{Location, OtherServer, Place};
use healthex_sync::warehouse::pull::{Fenced, PullCost, PullHead};
use rusqlite::{Connection, params};

use crate::data::{Data, RECORD};
use crate::process;
use crate::process::Cost;
use crate::program::scratch;
use crate::server::patient;
use crate::wire::runtime;

const BASE_URL: &str = "https://x";
/// Of the raw INSERT.
const ROWS_IN_TRANSACTION: usize = 1_000;
pub(crate) const PAGE: usize = 500;
/// As many as the program pulls at once.
const AT_ONCE: usize = 4;

/// Makes the rows of the first patients, as the program makes them of entries.
pub(crate) fn ready(data: &Data, patients: usize) -> Vec<Vec<Row>> {
    (0..patients)
        .map(|number| {
            data.record(number).map(|resource| row_of(&resource.tail, &resource.text).unwrap()).collect()
        })
        .collect()
}

/// Runs a prepared INSERT into one table without an index: as fast as SQLite takes these rows.
pub(crate) fn insert_raw(patients: &[Vec<Row>]) -> Cost {
    let folder = scratch();
    let connection = Connection::open(folder.path().join("limit.db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
             PRAGMA cache_size = -65536; PRAGMA wal_autocheckpoint = 4000;
             CREATE TABLE resource (
                 person_id TEXT, key TEXT, id TEXT, version_id TEXT, last_updated TEXT, source TEXT, patient TEXT,
                 first_seen_at TEXT, changed_at TEXT, deleted_at TEXT, content_hash BLOB, resource TEXT)",
        )
        .unwrap();
    let mut insert = connection
        .prepare("INSERT INTO resource VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, NULL, ?9, ?10)")
        .unwrap();
    let persons: Vec<String> = (0..patients.len()).map(patient).collect();
    let rows: Vec<(&String, &Row)> = persons
        .iter()
        .zip(patients)
        .flat_map(|(person, rows)| rows.iter().map(move |row| (person, row)))
        .collect();
    let now = "2026-01-01T00:00:00Z";
    let ((), cost) = process::measure(|| {
        for rows in rows.chunks(ROWS_IN_TRANSACTION) {
            connection.execute_batch("BEGIN").unwrap();
            for (person, row) in rows {
                let Row {
                    key, id, version_id, last_updated, source, patient, content_hash, resource, ..
                } = row;
                insert
                    .execute(params![
                        person,
                        key,
                        id,
                        version_id,
                        last_updated,
                        source,
                        patient,
                        now,
                        content_hash,
                        resource
                    ])
                    .unwrap();
            }
            connection.execute_batch("COMMIT").unwrap();
        }
    });
    cost
}

/// Stores the same rows through the warehouse's writer thread, page by page, some patients at once.
pub(crate) fn write(patients: &[Vec<Row>], with_analyst_tables: bool) -> Cost {
    let folder = scratch();
    let warehouse =
        Arc::new(open(Location::File(folder.path().join("warehouse.db")), views(with_analyst_tables)));
    store(&warehouse, (0..patients.len()).map(patient), patients)
}

/// Returns the analysts' tables that a warehouse keeps up.
pub(crate) fn views(with_analyst_tables: bool) -> Vec<AnalystTable> {
    if with_analyst_tables { analyst_tables(&[TableSet::Clinical], None).tables } else { Vec::new() }
}

/// Opens a warehouse that keeps these analysts' tables up.
pub(crate) fn open(location: Location, views: Vec<AnalystTable>) -> Warehouse {
    let base_url = BASE_URL.to_owned();
    let place = Place { location, base_url, group: None, ledger: None, history: false, views: views.into() };
    Warehouse::open(&place, OtherServer::Refuse, clock::now()).unwrap()
}

/// Stores rows as those of these persons, page by page, some persons at once.
pub(crate) fn store(
    warehouse: &Arc<Warehouse>,
    persons: impl Iterator<Item = String>,
    patients: &[Vec<Row>],
) -> Cost {
    let mut pulls: Vec<Vec<PreparedPull>> = (0..AT_ONCE).map(|_| Vec::new()).collect();
    for (number, (person, rows)) in persons.zip(patients.iter().cycle()).enumerate() {
        pulls[number % AT_ONCE].push(PreparedPull::of(&person, rows));
    }
    let listed = pulls.iter().flatten().map(|pull| pull.head.person.clone().into()).collect();
    let ((), cost) = process::measure(|| {
        runtime().block_on(async {
            warehouse.begin_cycle(RosterReading::of_files(listed), clock::now()).await.unwrap();
            let lanes = pulls.into_iter().map(|lane| {
                let warehouse = warehouse.clone();
                tokio::spawn(async move {
                    for pull in lane {
                        pull.store(&warehouse).await;
                    }
                })
            });
            for lane in lanes.collect::<Vec<_>>() {
                lane.await.unwrap();
            }
        });
    });
    cost
}

/// One patient's pages, as a pull stores them.
struct PreparedPull {
    head: PullHead,
    batches: Vec<Batch>,
}

impl PreparedPull {
    fn of(person: &str, rows: &[Row]) -> Self {
        let now = clock::now();
        let head = PullHead {
            person: PersonId::parse(person).unwrap(),
            mode: PullMode::Full,
            types: TypeFilter::default(),
            started_at: now,
            since: None,
            is_resumed: false,
        };
        let pages: Vec<&[Row]> = rows.chunks(PAGE).collect();
        let last = pages.len();
        let batch = |(page, rows): (usize, &[Row])| {
            let keys: HashSet<KeyHash> = rows.iter().map(|row| row.identity().hash()).collect();
            let keys = keys.into_iter().collect();
            let (pages, received) = (page as u64, (page * PAGE) as u64);
            let counts = WalkCounts { pages, received, total: Some(RECORD as u64), ..WalkCounts::default() };
            let walk = WalkMark { number: 1, counts };
            let progress = if page == last {
                PullProgress::End(Completion {
                    watermark: now,
                    note: None,
                    sweep: None,
                    keys: Some(keys),
                    walk,
                    shortfall: ShortfallChange::Clear,
                    brought: None,
                })
            } else {
                PullProgress::Next { url: format!("{BASE_URL}/{page}"), keys, walk }
            };
            let rows = rows.iter().map(|row| IncomingRow { row: row.clone(), is_repeat: false }).collect();
            Batch { rows, quarantined: Vec::new(), progress, is_mostly_changes: true }
        };
        Self { batches: (1..).zip(pages).map(batch).collect(), head }
    }

    async fn store(self, warehouse: &Warehouse) {
        let mut cost = PullCost::default();
        for batch in self.batches {
            let stored = warehouse.store_page(&self.head, cost, batch, clock::now()).await.unwrap();
            let Fenced::Kept(stored) = stored else { panic!("nobody else pulls") };
            cost.row = stored.row;
        }
    }
}

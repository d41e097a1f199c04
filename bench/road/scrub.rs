//! The removal of a purge's last bytes, beside a VACUUM of the same file and beside pages that are stored.

use std::fs;
use std::sync::Arc;

use healthex_sync::clock;
use healthex_sync::plan::PersonId;
use healthex_sync::plan::row::Row;
use healthex_sync::plan::state::PurgeReason;
use healthex_sync::warehouse::Warehouse;
use healthex_sync::warehouse::place::{Location, OtherServer, Place};
use healthex_sync::warehouse::purge::{Scrub, ScrubbedBy};
use rusqlite::Connection;

use crate::data::RECORD;
use crate::program::{Program, scratch};
use crate::server::{Server, patient};
use crate::table::Measured;
use crate::wire::runtime;
use crate::{process, rows};

const ROUNDS: usize = 3;
/// Patients that are stored beside a scrub, and as many without one.
const STORED: usize = 8;

/// Measures scrubs of a warehouse of so many patients, of which `purged` are gone already.
pub(crate) fn measure(
    program: &Program,
    server: &Server,
    ready: &[Vec<Row>],
    patients: usize,
    purged: usize,
    of: &str,
) -> Vec<Measured> {
    let place = Place {
        ledger: None,
        history: false,
        location: Location::File(program.warehouse()),
        base_url: server.base_url.clone(),
        group: None,
        views: [].into(),
    };
    let warehouse = Arc::new(Warehouse::open(&place, OtherServer::Refuse, clock::now()).unwrap());
    let rows = patients * RECORD;
    let mut scrub = Measured::new(format!("scrub {of} after a purge"), "rows");
    let mut vacuum = Measured::new(format!("VACUUM of {of}"), "rows");
    for number in purged..purged + ROUNDS {
        purge(&warehouse, number);
        let (scrubbed, cost) = process::measure(|| runtime().block_on(warehouse.scrub(clock::now)).unwrap());
        let Scrub::Done(scrubbed) = scrubbed else { panic!("{scrubbed:?}") };
        assert_eq!(scrubbed.by, ScrubbedBy::Zeroing);
        scrub.add(rows, cost);
        scrub.note = format!("{} pages zeroed by the last", scrubbed.pages);
        vacuum.add(rows, vacuum_copy(program));
    }
    scrub.against(&vacuum, "VACUUM").wanted(1.0 / 0.15).guard(2.0);
    let mut all = vec![vacuum, scrub];
    all.extend(store_beside(&warehouse, ready, purged + ROUNDS));
    all
}

fn purge(warehouse: &Warehouse, number: usize) {
    let person = PersonId::parse(&patient(number)).unwrap();
    runtime().block_on(warehouse.purge(&person, PurgeReason::Operator, "bench", clock::now())).unwrap();
}

/// Leaves the warehouse as it is for the next scrub.
fn vacuum_copy(program: &Program) -> process::Cost {
    let folder = scratch();
    let copy = folder.path().join("copy.db");
    fs::copy(program.warehouse(), &copy).unwrap();
    let connection = Connection::open(&copy).unwrap();
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA temp_store = FILE").unwrap();
    connection.pragma_update(None, "temp_store_directory", folder.path().to_str()).unwrap();
    let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
    let ((), cost) = process::measure(|| {
        connection.execute_batch("VACUUM").unwrap();
        connection.query_row(truncate, [], |_| Ok(())).unwrap();
    });
    cost
}

/// Stores patients alone, and as many others beside scrubs of purges, one after the other.
fn store_beside(warehouse: &Arc<Warehouse>, ready: &[Vec<Row>], mut next_purge: usize) -> [Measured; 2] {
    let mut alone = Measured::new("store pages into it", "rows");
    let mut beside = Measured::new("store pages beside a scrub of it", "rows");
    let rows: usize = ready.iter().take(STORED).map(Vec::len).sum();
    for round in 0..ROUNDS {
        let names = |half: usize| (0..STORED).map(move |number| format!("new-{round}-{half}-{number}"));
        alone.add(rows, rows::store(warehouse, names(0), ready));
        purge(warehouse, next_purge);
        next_purge += 1;
        let scrubbing = warehouse.clone();
        let scrub = std::thread::spawn(move || runtime().block_on(scrubbing.scrub(clock::now)).unwrap());
        beside.add(rows, rows::store(warehouse, names(1), ready));
        beside.note = match scrub.join().unwrap() {
            Scrub::Done(scrubbed) => format!("scrubbed, {} pages zeroed", scrubbed.pages),
            ended => format!("{ended:?}"),
        };
    }
    beside.against(&alone, "the rate without a scrub").wanted(0.8);
    [alone, beside]
}

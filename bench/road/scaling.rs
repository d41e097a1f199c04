//! Scaling: the rate of a first load over more and more rows, and the cost of erasing one patient.

use std::time::Instant;

use healthex_sync::clock;
use healthex_sync::plan::PersonId;
use healthex_sync::plan::state::PurgeReason;
use healthex_sync::warehouse::Warehouse;
use healthex_sync::warehouse::place::{Location, OtherServer, Place};

use crate::data::{Data, RECORD};
use crate::process::Cost;
use crate::program::{Program, USUAL};
use crate::server::{Server, patient};
use crate::table::Measured;
use crate::wire::runtime;
use crate::{rows, scrub};

/// Of sizes that take a minute at most.
const ROUNDS: usize = 3;
/// Patients whose rows are erased, and as many whose bytes are too.
const PURGES: usize = 3;
/// Patients whose rows are made for what is stored beside a scrub.
const READY: usize = 8;
/// Sizes of which a dozen patients are no quarter, and a VACUUM is no matter of minutes.
const SCRUBBED: std::ops::RangeInclusive<usize> = 100..=400;

/// Measures first loads of so many patients each, and purges from the warehouses they leave.
pub(crate) fn measure(server: &Server, data: &Data, sizes: &[usize]) -> Vec<Measured> {
    let name = |patients: &usize| format!("{} million resources", millions(patients * RECORD));
    let mut loads: Vec<Measured> = sizes
        .iter()
        .map(|size| Measured::new(format!("first load of {}", name(size)), "resources"))
        .collect();
    let mut purges = Vec::new();
    for round in 1..=ROUNDS {
        for (load, size) in loads.iter_mut().zip(sizes) {
            if round > 1 && *size * RECORD > MANY {
                continue;
            }
            eprintln!("scaling, round {round}: {}", name(size));
            let program = Program::new(server, (0..*size).map(patient), USUAL);
            let cycle = program.cycle(&[]);
            assert_eq!(cycle.inserted, (size * RECORD) as u64);
            load.add(size * RECORD, cycle.cost);
            if round == 1 && *size * RECORD <= MANY {
                purges.extend(purge(&program, server, &name(size)));
            }
            if round == 1 && SCRUBBED.contains(size) {
                let ready = rows::ready(data, READY);
                purges.extend(scrub::measure(&program, server, &ready, *size, 2 * PURGES, &name(size)));
            }
        }
    }
    for at in (1..loads.len()).rev() {
        let (before, rest) = loads.split_at_mut(at);
        let ratio = rest[0].against(&before[at - 1], format!("the rate at {}", name(&sizes[at - 1])));
        if sizes[at] * RECORD > MANY {
            ratio.wanted(0.80);
        }
    }
    loads.extend(purges);
    loads
}

/// Beyond this, rows are loaded once only, and without a VACUUM.
const MANY: usize = 2_000_000;

fn millions(resources: usize) -> String {
    let tenths = resources / 100_000;
    if tenths.is_multiple_of(10) {
        (tenths / 10).to_string()
    } else {
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

/// Measures the erasing of one patient's rows, and then the command, which removes the last bytes too.
fn purge(program: &Program, server: &Server, of: &str) -> [Measured; 2] {
    let mut rows = Measured::new(format!("erase one patient's rows of {of}"), "rows");
    let place = Place {
        location: Location::File(program.warehouse()),
        base_url: server.base_url.clone(),
        group: None,
        ledger: None,
        history: false,
        views: [].into(),
    };
    let warehouse = Warehouse::open(&place, OtherServer::Refuse, clock::now()).unwrap();
    for number in 0..PURGES {
        let person = PersonId::parse(&patient(number)).unwrap();
        let erase = warehouse.purge(&person, PurgeReason::Operator, "bench", clock::now());
        let begun = Instant::now();
        runtime().block_on(erase).unwrap();
        rows.add(RECORD, Cost { seconds: begun.elapsed().as_secs_f64(), ..Cost::default() });
    }
    drop(warehouse);
    rows.note = each(&rows);
    let mut whole = Measured::new(format!("`purge`, to the last byte, of {of}"), "rows");
    for number in PURGES..2 * PURGES {
        let (_, cost) = program.run(&["purge", &patient(number), "--yes"]);
        whole.add(RECORD, cost);
    }
    whole.note = each(&whole);
    [rows, whole]
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand rows")]
fn each(measured: &Measured) -> String {
    format!("{:.0} ms a patient of {RECORD} rows", 1000.0 * RECORD as f64 / measured.median())
}

//! The road from the server to committed rows, beside what SQLite and the wire allow and beside
//! what people would use instead: one table of ratios from one run. `bench/run` builds and starts it.
//!
//! Absent on purpose: a profile, and any way into the program but its command line; only the
//! rows that are ready go through the library, as there is no command for them.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on says where")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "prints what it measured, and how far it is")]

mod data;
mod process;
mod program;
mod rows;
mod server;
mod table;
mod wire;

use std::process::ExitCode;

use data::{Data, RECORD};
use program::{Options, Program, USUAL};
use server::{Server, idle_patient, patient};
use table::Measured;

/// What is measured, and how often.
struct Plan {
    patients: usize,
    idle_patients: usize,
    rounds: usize,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [command, patients] = arguments.as_slice()
        && command == "serve"
    {
        server::serve(patients.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    let plan = Plan { patients: 20, idle_patients: 10_000, rounds: 5 };
    let server = Server::start(plan.patients);
    let data = Data::load();
    let (size, types) = data.shape();
    let mut all = core(&plan, &server, &data);
    all.extend(idle(&plan, &server));
    let title = format!(
        "{} resources of {size} bytes in {types} types, {} patients; {}; {} rounds",
        plan.patients * RECORD,
        plan.patients,
        data.origin,
        plan.rounds
    );
    println!("{}", table::print(&title, &all));
    ExitCode::SUCCESS
}

/// The limit, the writer alone, and the whole pull in its usual form, with and without tables.
fn core(plan: &Plan, server: &Server, data: &Data) -> Vec<Measured> {
    let ready = rows::ready(data, plan.patients);
    let count = plan.patients * RECORD;
    let mut limit = Measured::new("the limit: raw INSERT into one table", "rows");
    let mut wire = Measured::new("the wire: bare reqwest, read and dropped", "resources");
    let mut writer = Measured::new("the writer alone, rows ready", "rows");
    let mut first = Measured::new("first load: 4 at once, pages of 500", "resources");
    let mut unchanged = Measured::new("nothing changed: full pull", "resources");
    let mut kept = Measured::new("first load, analysts' tables kept up", "resources");
    let mut kept_unchanged = Measured::new("nothing changed, analysts' tables kept up", "resources");
    let with_tables = Options { analyst_tables: true, ..USUAL };
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        limit.add(count, rows::insert_raw(&ready));
        wire.add(count, wire::read_and_drop(page_urls(plan, server), USUAL.concurrency).1);
        writer.add(count, rows::write(&ready, false));
        load(plan, server, USUAL, &mut first, &mut unchanged);
        load(plan, server, with_tables, &mut kept, &mut kept_unchanged);
    }
    wire.against(&limit, "the limit");
    writer.against(&limit, "the limit").wanted(0.85);
    unchanged.against(&first, "the first load").wanted(2.5);
    first.against(&limit, "the limit").wanted(0.60);
    kept.against(&limit, "the limit").wanted(0.25);
    kept.against(&first, "the first load without them");
    kept_unchanged.against(&kept, "the first load with them");
    vec![limit, wire, writer, first, unchanged, kept, kept_unchanged]
}

fn page_urls(plan: &Plan, server: &Server) -> Vec<String> {
    let persons = (0..plan.patients).map(patient);
    let offsets = || (0..RECORD).step_by(500);
    persons.flat_map(|person| offsets().map(move |offset| server.page_url(&person, 500, offset))).collect()
}

/// One first load and one full pull after it.
fn load(plan: &Plan, server: &Server, options: Options, first: &mut Measured, unchanged: &mut Measured) {
    let count = plan.patients * RECORD;
    let program = Program::new(server, (0..plan.patients).map(patient), options);
    let cycle = program.cycle(&[]);
    assert_eq!(cycle.inserted, count as u64);
    first.add(count, cycle.cost);
    let cycle = program.cycle(&["--full"]);
    assert_eq!((cycle.inserted, cycle.unchanged), (0, count as u64));
    unchanged.add(count, cycle.cost);
}

/// Nothing new from any of many patients.
fn idle(plan: &Plan, server: &Server) -> Vec<Measured> {
    let persons = || (0..plan.idle_patients).map(idle_patient);
    let program = Program::new(server, persons(), USUAL);
    program.cycle(&[]);
    let mut wire = Measured::new("bare reqwest, empty answers", "requests");
    let mut cycle = Measured::new("incremental cycle, nothing changed", "patients");
    for _ in 0..plan.rounds {
        let urls = persons().map(|person| server.since_url(&person)).collect();
        wire.add(plan.idle_patients, wire::read_and_drop(urls, USUAL.concurrency).1);
        let done = program.cycle(&[]);
        assert_eq!((done.inserted, done.unchanged), (0, 0));
        cycle.add(plan.idle_patients, done.cost);
    }
    cycle.against(&wire, "bare reqwest").wanted(0.40);
    vec![wire, cycle]
}

//! Throughput from the server to committed rows, beside what SQLite and the wire allow and beside
//! what people would use instead: one table of ratios from one run:
//! `cargo bench --bench road [-- --help]`.
//!
//! Absent on purpose: a profile, and any way into the program but its command line; only rows
//! that are ready, and the erasing of rows alone, go through the library, as no command does that.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on says where")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "prints what it measured, and how far it is")]

mod data;
mod options;
mod peers;
mod postgres;
mod process;
mod program;
mod rows;
mod scaling;
mod scrub;
mod server;
mod table;
mod wire;
mod workers;

use std::process::ExitCode;

use data::{Data, RECORD};
use options::{Options, Part};
use peers::Peer;
use postgres::OverPostgres;
use program::{Configuration, Program, USUAL};
use server::{Server, idle_patient, long_patient, patient};
use table::Measured;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [command, patients] = arguments.as_slice()
        && command == "serve"
    {
        server::serve(patients.parse().unwrap());
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{}", options::USAGE);
        return ExitCode::SUCCESS;
    }
    let options = match Options::read(&arguments) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let data = Data::load();
    let scale_to = if options.has(Part::Scaling) { options.scale_to } else { 0 };
    let server = Server::start(options.patients.max(scale_to));
    let mut all = throughput(&options, &server, &data);
    if options.has(Part::Idle) {
        all.extend(idle(&options, &server));
    }
    if options.has(Part::Scaling) {
        let sizes: Vec<usize> =
            [20, 200, 2_000].into_iter().filter(|size| *size <= options.scale_to).collect();
        all.extend(scaling::measure(&server, &data, &sizes));
    }
    if options.has(Part::Workers) {
        all.extend(workers::measure(&server));
    }
    let (size, types) = data.shape();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let title = format!(
        "{} resources of {size} bytes in {types} types, {} patients; {}\n{} rounds, {cores} cores, SQLite {}",
        options.count(),
        options.patients,
        data.origin,
        options.rounds,
        rusqlite::version(),
    );
    println!("{}", table::print(&title, &all));
    let failed = table::failed_guards(&all);
    for guard in &failed {
        eprintln!("SLOWER THAN ANY NOISE: {guard}");
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A first load, and a full pull after it that finds nothing new.
struct Loads {
    configuration: Configuration,
    first: Measured,
    unchanged: Measured,
}

impl Loads {
    fn new(how: &str, configuration: Configuration) -> Self {
        let first = Measured::new(format!("first load: {how}"), "resources");
        let unchanged = Measured::new(format!("nothing changed, full pull: {how}"), "resources");
        Self { configuration, first, unchanged }
    }

    fn program(&self, options: &Options, server: &Server) -> Program {
        Program::new(server, (0..options.patients).map(patient), self.configuration)
    }

    /// Measures them by a program that has stored nothing yet.
    fn measure(&mut self, options: &Options, program: &Program) {
        let count = options.count();
        let cycle = program.cycle(&[]);
        assert_eq!(cycle.inserted, count as u64);
        self.first.add(count, cycle.cost);
        let cycle = program.cycle(&["--full"]);
        assert_eq!((cycle.inserted, cycle.unchanged), (0, count as u64));
        self.unchanged.add(count, cycle.cost);
        self.first.note = format!("{count} rows");
        self.unchanged.note = format!("{count} rows, none written");
    }
}

/// Measures the limits, the writer alone, the program as it is usually configured and in other
/// ways, and the peers.
fn throughput(options: &Options, server: &Server, data: &Data) -> Vec<Measured> {
    let ready = rows::ready(data, options.patients);
    let count = options.count();
    let mut limit = Measured::new("the limit: raw INSERT into one table", "rows");
    limit.note.push_str("1,000 a transaction, no index, synchronous = NORMAL");
    let mut wire = Measured::new("the wire: bare reqwest, read and dropped", "resources");
    let mut writer = Measured::new("the writer alone, rows ready", "rows");
    let mut kept_writer = Measured::new("the writer alone, analysts' tables kept up", "rows");
    let mut usual = Loads::new("4 at once, pages of 500", USUAL);
    let mut kept = Loads::new("analysts' tables kept up", Configuration { analyst_tables: true, ..USUAL });
    let mut others = if options.has(Part::Variants) { variants() } else { Vec::new() };
    let mut long = Measured::new("first load: 4 at once, one answer of all records each", "resources");
    let mut over_postgres = options.has(Part::Postgres).then(OverPostgres::start).flatten();
    let mut peers: Vec<Peer> = if options.has(Part::Peers) { peers::all().into() } else { Vec::new() };
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        limit.add(count, rows::insert_raw(&ready));
        wire.add(count, wire::read_and_drop(page_urls(options, server), USUAL.concurrency).1);
        writer.add(count, rows::write(&ready, false));
        kept_writer.add(count, rows::write(&ready, true));
        for loads in [&mut usual, &mut kept].into_iter().chain(&mut others) {
            loads.measure(options, &loads.program(options, server));
        }
        if let Some(over_postgres) = &mut over_postgres {
            over_postgres.measure(options, server, &ready);
        }
        for peer in &mut peers {
            peer.measure(round, server, options.patients, count);
        }
    }
    if options.has(Part::Variants) {
        measure_long(options, server, &mut long);
    }
    compare(&limit, &mut wire, [&mut writer, &mut kept_writer], [&mut usual, &mut kept], &peers);
    for Loads { first, unchanged, .. } in &mut others {
        first.against(&usual.first, "the usual first load");
        unchanged.against(first, "its first load");
    }
    let over_postgres = over_postgres.map(|measured| measured.compare(&usual, &kept));
    let mut all = vec![limit, wire, writer, kept_writer];
    let loads = [usual, kept].into_iter().chain(others);
    all.extend(loads.flat_map(|Loads { first, unchanged, .. }| [first, unchanged]));
    all.push(long);
    all.extend(over_postgres.into_iter().flatten());
    all.extend(peers.into_iter().flat_map(Peer::into_measured));
    all
}

/// Configurations that differ from the usual one in one thing each.
fn variants() -> Vec<Loads> {
    vec![
        Loads::new("1 at once", Configuration { concurrency: 1, ..USUAL }),
        Loads::new("16 at once", Configuration { concurrency: 16, ..USUAL }),
        Loads::new("pages of 100", Configuration { page_size: Some(100), ..USUAL }),
        Loads::new("one answer a patient", Configuration { page_size: None, ..USUAL }),
    ]
}

/// Measures answers so long that memory would show if it grew with them.
fn measure_long(options: &Options, server: &Server, long: &mut Measured) {
    let configuration = Configuration { page_size: None, ..USUAL };
    let program = Program::new(server, (0..configuration.concurrency).map(long_patient), configuration);
    let cycle = program.cycle(&[]);
    let count = configuration.concurrency * options.patients.min(data::RECORDS) * RECORD;
    assert_eq!(cycle.inserted, count as u64);
    long.add(count, cycle.cost);
    long.note = format!("{count} rows");
    long.rss_at_most(RSS_MAX);
}

const RSS_MAX: u64 = 100_000_000;

/// Compares with what performance.md asks. The guards are a third of that or less: they hold on a
/// busy machine and where the disk flushes twenty times slower, and a tenfold mistake shows.
fn compare(
    limit: &Measured,
    wire: &mut Measured,
    [writer, kept_writer]: [&mut Measured; 2],
    [usual, kept]: [&mut Loads; 2],
    peers: &[Peer],
) {
    wire.against(limit, "the limit");
    writer.against(limit, "the limit").wanted(0.85).guard(0.15);
    kept_writer.against(writer, "the writer without them");
    usual.first.against(limit, "the limit").wanted(0.60).guard(0.08);
    usual.first.rss_at_most(RSS_MAX);
    usual.unchanged.against(&usual.first, "the first load").wanted(2.5).guard(0.8);
    kept.first.against(limit, "the limit").wanted(0.20).guard(0.05);
    kept.first.against(&usual.first, "the first load without them");
    kept.first.rss_at_most(RSS_MAX);
    kept.unchanged.against(&kept.first, "its first load");
    for (peer, wanted) in peers.iter().zip([3.0, 5.0, 20.0, 20.0]) {
        usual.first.against(peer.first(), peer.first().what()).wanted(wanted);
    }
    if let Some(by_hand) = peers.first() {
        kept.first
            .against(by_hand.first(), format!("{}, which keeps none", by_hand.first().what()))
            .wanted(1.0);
        usual.unchanged.against(by_hand.unchanged(), by_hand.unchanged().what()).wanted(5.0);
    }
}

fn page_urls(options: &Options, server: &Server) -> Vec<String> {
    let persons = (0..options.patients).map(patient);
    let offsets = || (0..RECORD).step_by(500);
    persons.flat_map(|person| offsets().map(move |offset| server.page_url(&person, 500, offset))).collect()
}

/// Measures a cycle in which none of many patients has anything new.
fn idle(options: &Options, server: &Server) -> Vec<Measured> {
    let persons = || (0..options.idle_patients).map(idle_patient);
    let program = Program::new(server, persons(), USUAL);
    program.cycle(&[]);
    let mut wire = Measured::new("bare reqwest, empty answers", "requests");
    let mut cycle = Measured::new(format!("idle cycle over {} patients", options.idle_patients), "requests");
    for _ in 0..options.rounds {
        let urls = persons().map(|person| server.since_url(&person)).collect();
        wire.add(options.idle_patients, wire::read_and_drop(urls, USUAL.concurrency).1);
        let done = program.cycle(&[]);
        assert_eq!((done.inserted, done.unchanged), (0, 0));
        cycle.add(options.idle_patients, done.cost);
    }
    cycle.against(&wire, "bare reqwest").wanted(0.40).guard(0.02);
    vec![wire, cycle]
}

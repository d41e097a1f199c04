//! The same road into PostgreSQL, beside raw COPY and beside SQLite: a server of the bench's own, which waits
//! for the disk as it comes from Debian.

#[path = "../../tests/support/cluster.rs"]
pub(crate) mod cluster;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use healthex_sync::plan::row::Row;
use healthex_sync::warehouse::place::{Location, Server as Warehouse};
use healthex_sync::{clock, warehouse};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, NoTls};

use self::cluster::Cluster;
use crate::options::Options;
use crate::process::Cost;
use crate::program::{Configuration, Program, USUAL, scratch};
use crate::server::{Server, idle_patient, patient};
use crate::table::Measured;
use crate::wire::runtime;
use crate::{Loads, process, rows};

/// Of whom an idle cycle has nothing new.
const IDLE_PATIENTS: usize = 4_000;

/// What is measured over PostgreSQL, round by round.
pub(crate) struct OverPostgres {
    cluster: Cluster,
    copy: Measured,
    writer: Measured,
    kept_writer: Measured,
    usual: Loads,
    kept: Loads,
    idle: Measured,
}

impl OverPostgres {
    /// Starts the server; `None` where PostgreSQL is not installed.
    pub(crate) fn start() -> Option<Self> {
        Some(Self {
            cluster: Cluster::start("")?,
            copy: Measured::new("PostgreSQL: binary COPY into one table", "rows"),
            writer: Measured::new("PostgreSQL: the writer alone, rows ready", "rows"),
            kept_writer: Measured::new("PostgreSQL: the writer alone, analysts' tables kept up", "rows"),
            usual: Loads::new("PostgreSQL", USUAL),
            kept: Loads::new(
                "PostgreSQL, analysts' tables kept up",
                Configuration { analyst_tables: true, ..USUAL },
            ),
            idle: Measured::new(format!("PostgreSQL: idle cycle over {IDLE_PATIENTS} patients"), "requests"),
        })
    }

    pub(crate) fn measure(&mut self, options: &Options, server: &Server, ready: &[Vec<Row>]) {
        let count = options.count();
        self.copy.add(count, copy(&database(&self.cluster), ready));
        self.writer.add(count, self.write(ready, false));
        self.kept_writer.add(count, self.write(ready, true));
        for loads in [&mut self.usual, &mut self.kept] {
            loads.measure(options, &loads.program(options, server).over(&database(&self.cluster)));
        }
        let persons = (0..IDLE_PATIENTS).map(idle_patient);
        let program = Program::new(server, persons, USUAL).over(&database(&self.cluster));
        program.cycle(&[]);
        let done = program.cycle(&[]);
        assert_eq!((done.inserted, done.unchanged), (0, 0));
        self.idle.add(IDLE_PATIENTS, done.cost);
    }

    /// Compares with what postgres.md asks.
    pub(crate) fn compare(mut self, sqlite: &Loads, kept_sqlite: &Loads) -> Vec<Measured> {
        self.copy.note.push_str("500 a transaction, no index");
        self.writer.against(&self.copy, "COPY").wanted(0.60).guard(0.06);
        self.kept_writer.against(&self.writer, "the writer without them");
        self.usual.first.against(&sqlite.first, "SQLite").wanted(0.50).guard(0.05);
        self.usual.unchanged.against(&self.usual.first, "its first load").wanted(2.0).guard(0.5);
        self.kept.first.against(&kept_sqlite.first, "SQLite").wanted(0.50).guard(0.05);
        self.kept.unchanged.against(&self.kept.first, "its first load").wanted(2.0).guard(0.5);
        let Self { copy, writer, kept_writer, usual, kept, idle, .. } = self;
        let loads = [usual, kept].into_iter().flat_map(|Loads { first, unchanged, .. }| [first, unchanged]);
        [copy, writer, kept_writer].into_iter().chain(loads).chain([idle]).collect()
    }

    /// Stores the rows through the warehouse, page by page, some patients at once.
    fn write(&self, ready: &[Vec<Row>], with_analyst_tables: bool) -> Cost {
        let folder = scratch();
        let server = Arc::new(Warehouse::at(database(&self.cluster), folder.path().join("warehouse")));
        let views = rows::views(with_analyst_tables);
        warehouse::migrate(&server, None, &views, clock::now()).unwrap();
        let warehouse = Arc::new(rows::open(Location::Server(server), views));
        rows::store(&warehouse, (0..ready.len()).map(patient), ready)
    }
}

/// Makes a database, and returns how it is reached.
pub(crate) fn database(cluster: &Cluster) -> String {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let name = format!("bench{}", MADE.fetch_add(1, Ordering::Relaxed));
    runtime().block_on(async {
        let client = connect(&cluster.url("postgres", "postgres")).await;
        for statement in cluster.making(&name, "") {
            client.batch_execute(&statement).await.unwrap();
        }
        client.batch_execute("CHECKPOINT").await.unwrap();
    });
    cluster.url("postgres", &name)
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Copies the rows into one table without an index, a page a transaction: as fast as one connection takes them.
fn copy(url: &str, patients: &[Vec<Row>]) -> Cost {
    let runtime = runtime();
    let client = runtime.block_on(async {
        let client = connect(url).await;
        client.batch_execute(TABLE).await.unwrap();
        client
    });
    let ((), cost) = process::measure(|| {
        for (number, rows) in patients.iter().enumerate() {
            let person = patient(number);
            for page in rows.chunks(rows::PAGE) {
                runtime.block_on(copy_page(&client, &person, page));
            }
        }
    });
    cost
}

const TABLE: &str = "CREATE TABLE resource (
    person_id text, key text, id text, version_id text, last_updated text, source text, patient text,
    content_hash bytea, resource json COMPRESSION lz4)";

async fn copy_page(client: &Client, person: &str, page: &[Row]) {
    client.batch_execute("BEGIN").await.unwrap();
    let sink = client.copy_in("COPY resource FROM STDIN (FORMAT binary)").await.unwrap();
    // JSON comes as its text.
    let mut types = vec![Type::TEXT; 9];
    types[7] = Type::BYTEA;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    for row in page {
        let Row { key, id, version_id, last_updated, source, patient, resource, .. } = row;
        let hash = row.content_hash.as_slice();
        let values: [&(dyn ToSql + Sync); 9] =
            [&person, key, id, version_id, last_updated, source, patient, &hash, resource];
        writer.as_mut().write(&values).await.unwrap();
    }
    writer.as_mut().finish().await.unwrap();
    client.batch_execute("COMMIT").await.unwrap();
}

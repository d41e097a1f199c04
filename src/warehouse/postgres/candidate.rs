//! PostgreSQL's part in the conformance suite: a database of a cluster that lives as long as the test process.
//!
//! Where PostgreSQL is not installed, no claim is tried, and that is said; `HEALTHEX_SYNC_REQUIRE_ALL=1` makes it a
//! failure.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::cluster::{Cluster, VERSIONS};
use super::runtime;
use super::values::Decimal;
use super::workers::OF_WORKERS;
use crate::plan::stamp;
use crate::plan::table_set::TableSet;
use crate::time::Day;
use crate::views::analyst_tables;
use crate::warehouse::conformance::{Candidate, Kept, KeptRow, at};
use crate::warehouse::place::{Location, Place, Server};

pub(in crate::warehouse) struct PostgresCandidate {
    place: Place,
    _folder: TempDir,
}

const SCHEMA: &str = "healthex";

impl Candidate for PostgresCandidate {
    fn new(base_url: &str) -> Self {
        // Each claim has a copy of one that was migrated.
        static TEMPLATE: OnceLock<String> = OnceLock::new();
        let views = analyst_tables(&[TableSet::Clinical], None).tables;
        let folder = tempfile::tempdir().unwrap();
        let beside = folder.path().join("healthex-sync");
        let template = TEMPLATE.get_or_init(|| {
            let (name, url) = make_database("");
            let server = Arc::new(Server::at(url, beside.clone()));
            let migrated = super::migrate(&server, None, &views, at(0)).unwrap();
            assert!(migrated.refused.is_empty(), "{:?}", migrated.refused);
            name
        });
        let (_, url) = make_database(&format!("TEMPLATE {template}"));
        let server = Arc::new(Server::at(url, beside));
        let place = Place {
            location: Location::Server(server),
            base_url: base_url.to_owned(),
            group: None,
            ledger: None,
            history: true,
            views: views.into(),
        };
        Self { place, _folder: folder }
    }

    fn is_here() -> bool {
        let is_here = Cluster::shared().is_some();
        let is_required = std::env::var_os("HEALTHEX_SYNC_REQUIRE_ALL").is_some_and(|value| value == "1");
        assert!(is_here || !is_required, "PostgreSQL is not installed below {VERSIONS}");
        if !is_here {
            let said = format!("skipped: PostgreSQL is not installed below {VERSIONS}\n");
            std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes()).unwrap();
        }
        is_here
    }

    fn place(&self) -> &Place {
        &self.place
    }

    fn kept(&self) -> Kept {
        let Location::Server(server) = &self.place.location else { return Kept::default() };
        let read = async {
            let client = connect(&server.url).await;
            let names = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'healthex'
                            AND tablename NOT IN ('migration', 'writer', 'worker', 'shared_cycle', 'turn', 'ticket', 'shared_cycle_part')";
            let mut kept = Kept::default();
            for name in client.query(names, &[]).await.unwrap() {
                let table: String = name.get(0);
                kept.0.insert(table.clone(), rows_of(&client, &table).await);
            }
            kept
        };
        runtime::wait(read).unwrap()
    }
}

impl PostgresCandidate {
    /// Does something to the database behind the program's back.
    pub(super) fn run(&self, statements: &str) {
        let Location::Server(server) = &self.place.location else { unreachable!() };
        let run = async { connect_to(&server.url).await.batch_execute(statements).await.unwrap() };
        runtime::wait(run).unwrap();
    }

    /// Returns what the database answers, yes or no.
    pub(super) fn says(&self, question: &str) -> bool {
        let Location::Server(server) = &self.place.location else { unreachable!() };
        runtime::wait(async { connect_to(&server.url).await.query_one(question, &[]).await.unwrap().get(0) })
            .unwrap()
    }
}

/// Returns the name of a new database, and how it is reached.
fn make_database(options: &str) -> (String, String) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("claim_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let cluster = Cluster::shared().expect("a claim was begun without a server");
    let url = |database: &str| cluster.url("postgres", database);
    runtime::wait(async {
        let client = connect(&url("postgres")).await;
        for statement in cluster.making(&name, options) {
            client.batch_execute(&statement).await.unwrap();
        }
    })
    .unwrap();
    let url = url(&name);
    (name, url)
}

/// Connects as somebody who stands in the schema.
async fn connect_to(url: &str) -> Client {
    let client = connect(url).await;
    client.batch_execute(&format!("SET search_path = {SCHEMA}")).await.unwrap();
    client
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn rows_of(client: &Client, table: &str) -> Vec<KeptRow> {
    let rows = client.query(&format!("SELECT * FROM healthex.\"{table}\""), &[]).await.unwrap();
    let mut kept: Vec<KeptRow> = rows
        .iter()
        .map(|row| {
            let columns = row.columns().iter().enumerate();
            columns
                .filter(|(_, column)| !(table == "checkpoint" && OF_WORKERS.contains(&column.name())))
                .filter_map(|(at, column)| Some((column.name().to_owned(), text_of(row, at)?)))
                .collect()
        })
        .collect();
    kept.sort();
    kept
}

fn text_of(row: &tokio_postgres::Row, at: usize) -> Option<String> {
    match row.columns()[at].type_().name() {
        "text" => row.get(at),
        "int8" => row.get::<_, Option<i64>>(at).map(|number| number.to_string()),
        "float8" => row.get::<_, Option<f64>>(at).map(|number| number.to_string()),
        "bool" => row.get::<_, Option<bool>>(at).map(|value| u8::from(value).to_string()),
        "bytea" => row.get::<_, Option<Vec<u8>>>(at).map(|bytes| format!("{bytes:02x?}")),
        "timestamptz" => row.get::<_, Option<crate::plan::Timestamp>>(at).map(stamp),
        "json" => row.get::<_, Option<Verbatim>>(at).map(|text| text.0),
        "numeric" => row.get::<_, Option<Decimal>>(at).map(|number| number.0.to_string()),
        "date" => row.get::<_, Option<Day>>(at).map(|day| day.to_string()),
        other => panic!("a column of type {other}"),
    }
}

/// JSON as it is stored, to the last blank.
struct Verbatim(String);

impl<'a> tokio_postgres::types::FromSql<'a> for Verbatim {
    fn from_sql(
        _: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(kind: &tokio_postgres::types::Type) -> bool {
        *kind == tokio_postgres::types::Type::JSON
    }
}

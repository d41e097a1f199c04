//! A database of a server that all tests of this process share, and what it holds.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::cluster::{Cluster, VERSIONS};
use crate::support::skip;
use crate::world::World;

/// The rows of a query as text.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

pub(crate) struct Database {
    pub(crate) cluster: &'static Cluster,
    pub(crate) name: String,
}

impl Database {
    /// Makes an empty one. Skips aloud where PostgreSQL is not installed.
    pub(crate) fn empty() -> Option<Self> {
        Self::made_with("")
    }

    pub(crate) fn made_with(options: &str) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Some(cluster) = Cluster::shared() else {
            skip(&format!("PostgreSQL is not installed below {VERSIONS}"));
            return None;
        };
        let name = format!("world_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let server = Self { cluster, name: "postgres".to_owned() };
        server.exec(&format!("CREATE DATABASE {name} {options}"));
        Some(Self { cluster, name })
    }

    /// Makes one with the schema in it, and has a world use it as its worker.
    pub(crate) fn of(world: &World) -> Option<Self> {
        let database = Self::migrated(world)?;
        database.take(world);
        Some(database)
    }

    /// Has a world use it as its worker.
    pub(crate) fn take(&self, world: &World) {
        world.remove_setting("warehouse.path");
        world.change_setting("warehouse.url", &format!("{:?}", self.url("healthex_worker")));
    }

    /// Makes an empty one on a server that may be restarted.
    pub(crate) fn on_a_server_of_its_own() -> Option<Self> {
        Self::empty()?;
        let cluster = Cluster::start("")?;
        // It ends with this process.
        Some(Self { cluster: Box::leak(Box::new(cluster)), name: "postgres".to_owned() })
    }

    /// Makes one, and the schema in it.
    pub(crate) fn migrated(world: &World) -> Option<Self> {
        let database = Self::empty()?;
        database.migrate(world, &[]).exits(0);
        Some(database)
    }

    pub(crate) fn url(&self, role: &str) -> String {
        self.cluster.url(role, &self.name)
    }

    /// Runs `migrate` of this world as an administrator.
    pub(crate) fn migrate(&self, world: &World, args: &[&str]) -> crate::world::Ran {
        crate::world::Running::start(&mut self.migration(world, "postgres", args)).ended()
    }

    pub(crate) fn migration(&self, world: &World, role: &str, args: &[&str]) -> Command {
        let mut command = world.command([&["migrate"], args].concat());
        command.env("HEALTHEX_SYNC__WAREHOUSE__URL", self.url(role));
        command.env("HEALTHEX_SYNC__WAREHOUSE__PATH", "");
        command
    }

    /// Runs the program over this warehouse in place of the world's file, as the worker.
    pub(crate) fn run(&self, world: &World, args: &[&str]) -> crate::world::Ran {
        self.run_as("healthex_worker", world, args)
    }

    pub(crate) fn run_as(&self, role: &str, world: &World, args: &[&str]) -> crate::world::Ran {
        let mut command = world.command(args.to_vec());
        command.env("HEALTHEX_SYNC__WAREHOUSE__URL", self.url(role));
        command.env("HEALTHEX_SYNC__WAREHOUSE__PATH", "");
        crate::world::Running::start(&mut command).ended()
    }

    pub(crate) fn exec(&self, sql: &str) {
        self.rows(sql);
    }

    pub(crate) fn rows(&self, sql: &str) -> Rows {
        self.rows_as("postgres", sql).unwrap_or_else(|failed| panic!("{sql}: {failed}"))
    }

    /// The first cell of the first row.
    pub(crate) fn ask(&self, sql: &str) -> Option<String> {
        self.rows(sql).into_iter().next()?.into_iter().next()?
    }

    pub(crate) fn count(&self, sql: &str) -> i64 {
        self.ask(sql).unwrap().parse().unwrap()
    }

    /// What a role is answered, or why it is not.
    pub(crate) fn rows_as(&self, role: &str, sql: &str) -> Result<Rows, String> {
        let (runtime, url) = (runtime(), self.url(role));
        runtime.block_on(async {
            let client = connect(&url).await?;
            let answered = client.simple_query(sql).await.map_err(|error| match error.as_db_error() {
                Some(told) => told.message().to_owned(),
                None => error.to_string(),
            })?;
            let rows = answered.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
                }
                _ => None,
            });
            Ok(rows.collect())
        })
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn connect(url: &str) -> Result<Client, String> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.map_err(|error| format!("{error}: {url}"))?;
    tokio::spawn(connection);
    Ok(client)
}

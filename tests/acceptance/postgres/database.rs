//! A database of a server that all tests of this process share, and what it holds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::cluster::{Cluster, DSN, VERSIONS};
use crate::support::skip;
use crate::world::{Ran, Running, World};

/// Set to `postgres`, each world's warehouse is a database of the shared server: the tests that ask for no file are
/// held to the other engine.
const SWITCH: &str = "HEALTHEX_TEST_WAREHOUSE";

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
        for statement in cluster.making(&name, options) {
            server.exec(&statement);
        }
        Some(Self { cluster, name })
    }

    /// Makes one as `migrate` makes it, where each world's warehouse is to be on a server; there is no skip then.
    pub(crate) fn instead_of_a_file() -> Option<Self> {
        if std::env::var(SWITCH).as_deref() != Ok("postgres") {
            return None;
        }
        let made = Self::as_migrated().unwrap_or_else(|| panic!("{SWITCH} wants PostgreSQL"));
        // Nobody pulls the plug of the tests' server, which waits for no disk: `check` is not to say so in each world.
        made.exec(
            "CREATE FUNCTION healthex.current_setting(name text) RETURNS text LANGUAGE sql AS
             $$SELECT CASE name WHEN 'fsync' THEN 'on' ELSE pg_catalog.current_setting(name) END$$",
        );
        Some(made)
    }

    /// Makes a copy of one that `migrate` has made, once for all tests of this process.
    fn as_migrated() -> Option<Self> {
        struct Template {
            name: String,
            /// What a copy lacks: it is kept by the name of a database, and not in it.
            settings_of_roles: Rows,
        }
        static TEMPLATE: OnceLock<Option<Template>> = OnceLock::new();
        let make = || {
            let made = Self::empty()?;
            let folder = tempfile::tempdir().unwrap();
            let mut command = crate::world::binary();
            command.arg("migrate").current_dir(folder.path());
            command.env("HEALTHEX_SYNC__WAREHOUSE__URL", made.url("postgres"));
            Running::start(&mut command).ended().exits(0);
            let settings_of_roles = made.rows(
                "SELECT setrole::regrole, split_part(setting, '=', 1), split_part(setting, '=', 2)
                   FROM pg_db_role_setting CROSS JOIN unnest(setconfig) AS setting
                  WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
            );
            assert!(!settings_of_roles.is_empty());
            Some(Template { name: made.name, settings_of_roles })
        };
        let template = TEMPLATE.get_or_init(make).as_ref()?;
        let made = Self::made_with(&format!("TEMPLATE {}", template.name))?;
        let settings = template.settings_of_roles.iter().map(|row| {
            let [role, setting, value] = [0, 1, 2].map(|at| row[at].as_deref().unwrap());
            format!("ALTER ROLE {role} IN DATABASE {} SET {setting} = '{value}';", made.name)
        });
        made.exec(&settings.collect::<String>());
        Some(made)
    }

    /// The rows of a query that is written for a file, as a file would give them.
    pub(crate) fn cells(&self, sql: &str) -> Rows {
        let rows = self.rows(&format!("SET search_path = healthex; {sql}")).into_iter();
        let as_in_file = |cell: String| match cell.as_str() {
            "t" => "1".to_owned(),
            "f" => "0".to_owned(),
            text => moment(text).unwrap_or(cell),
        };
        rows.map(|row| row.into_iter().map(|cell| cell.map(as_in_file)).collect()).collect()
    }

    /// Live rows of a person: key to resource.
    pub(crate) fn live_rows(&self, person: &str) -> BTreeMap<String, String> {
        let each = self.tables_with("content_hash").into_iter().filter(|table| table != "history").map(|table| {
            format!(
                "SELECT key, resource::text FROM healthex.\"{table}\" WHERE person_id = '{person}' AND deleted_at IS NULL"
            )
        });
        let all = self.rows(&each.collect::<Vec<_>>().join(" UNION ALL "));
        all.into_iter().map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap())).collect()
    }

    /// Whether its files can be looked into. Skips aloud where they are another server's.
    pub(crate) fn shows_files(&self) -> bool {
        if self.cluster.folder.is_none() {
            skip(&format!("the files of the server in {DSN} are not to be seen"));
        }
        self.cluster.folder.is_some()
    }

    /// The folder of its files, brought up to date. Those of another's server are not to be seen.
    pub(crate) fn files(&self) -> PathBuf {
        self.exec("CHECKPOINT");
        let folder = self.cluster.folder.as_ref().expect("the server's files are asked for");
        let oid = "SELECT oid FROM pg_database WHERE datname = current_database()";
        folder.join("data/base").join(self.ask(oid).unwrap())
    }

    /// The tables that have a column.
    pub(crate) fn tables_with(&self, column: &str) -> Vec<String> {
        let tables = self.rows(&format!(
            "SELECT c.relname FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
              WHERE c.relnamespace = 'healthex'::regnamespace AND a.attname = '{column}' AND c.relkind IN ('r', 'p')"
        ));
        tables.into_iter().flatten().flatten().collect()
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

    /// The same on a standby of its server.
    pub(crate) fn on_a_standby(&self) -> Self {
        let standby = self.cluster.standby().unwrap();
        Self { cluster: Box::leak(Box::new(standby)), name: self.name.clone() }
    }

    /// Makes one, and the schema in it that this world wants.
    pub(crate) fn migrated(world: &World) -> Option<Self> {
        let settings = world.settings_text();
        let asks_for_another =
            |line: &str| line.starts_with("views.") || line.starts_with("warehouse.schema");
        if !settings.lines().any(asks_for_another) {
            return Self::as_migrated();
        }
        let database = Self::empty()?;
        database.migrate(world, &[]).exits(0);
        Some(database)
    }

    pub(crate) fn url(&self, role: &str) -> String {
        self.cluster.url(role, &self.name)
    }

    /// Runs `migrate` of this world as an administrator.
    pub(crate) fn migrate(&self, world: &World, args: &[&str]) -> Ran {
        Running::start(&mut self.migration(world, "postgres", args)).ended()
    }

    pub(crate) fn migration(&self, world: &World, role: &str, args: &[&str]) -> Command {
        let mut command = world.command([&["migrate"], args].concat());
        command.env("HEALTHEX_SYNC__WAREHOUSE__URL", self.url(role));
        command.env("HEALTHEX_SYNC__WAREHOUSE__PATH", "");
        command
    }

    /// Runs the program over this warehouse in place of the world's file, as the worker.
    pub(crate) fn run(&self, world: &World, args: &[&str]) -> Ran {
        self.run_as("healthex_worker", world, args)
    }

    pub(crate) fn run_as(&self, role: &str, world: &World, args: &[&str]) -> Ran {
        self.start_as(role, world, args).ended()
    }

    pub(crate) fn start_as(&self, role: &str, world: &World, args: &[&str]) -> Running {
        let mut command = world.command(args.to_vec());
        command.env("HEALTHEX_SYNC__WAREHOUSE__URL", self.url(role));
        command.env("HEALTHEX_SYNC__WAREHOUSE__PATH", "");
        Running::start(&mut command)
    }

    /// Makes another that holds the same.
    pub(crate) fn copied(&self) -> Self {
        Self::made_with(&format!("TEMPLATE {}", self.name)).unwrap()
    }

    /// Somebody who has looked at a table, and goes on seeing it as it is now.
    pub(crate) fn reader_as(&self, role: &str) -> StayingReader {
        let runtime = runtime();
        let client = runtime.block_on(async {
            let client = connect(&self.url(role)).await.unwrap();
            let look = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM healthex.patient";
            client.batch_execute(look).await.unwrap();
            client
        });
        StayingReader { _client: client, _runtime: runtime }
    }

    /// Somebody who has changed something, and has not committed it.
    pub(crate) fn transaction(&self, sql: &str) -> OpenTransaction {
        let runtime = runtime();
        let client = runtime.block_on(async {
            let client = connect(&self.url("postgres")).await.unwrap();
            client.batch_execute(&format!("BEGIN; {sql}")).await.unwrap();
            client
        });
        OpenTransaction { client, runtime }
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

pub(crate) struct OpenTransaction {
    client: Client,
    runtime: Runtime,
}

impl OpenTransaction {
    pub(crate) fn commit(self) {
        self.runtime.block_on(self.client.batch_execute("COMMIT")).unwrap();
    }
}

/// Dropped, it sees nothing any more.
pub(crate) struct StayingReader {
    _client: Client,
    _runtime: Runtime,
}

/// Returns a time as a file has it, if it is one.
fn moment(text: &str) -> Option<String> {
    let time = text.strip_suffix("+00").filter(|time| time.len() >= 19 && time.as_bytes()[10] == b' ')?;
    let is_part = |byte: u8| byte.is_ascii_digit() || b"- :.".contains(&byte);
    time.bytes().all(is_part).then(|| format!("{}T{}Z", &time[..10], &time[11..]))
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

//! A PostgreSQL server for a test process, where PostgreSQL is installed or [`DSN`] names one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Where Debian has the programs of each version.
pub(crate) const VERSIONS: &str = "/usr/lib/postgresql";

/// Names a server that the tests use in place of one of their own: on 127.0.0.1 or by a tunnel to there, as a superuser,
/// and with `trust` for the roles that `migrate` makes. What is about the server itself is skipped, or has one of its own.
pub(crate) const DSN: &str = "HEALTHEX_TEST_POSTGRES_DSN";

/// A server, of which its two users need different parts. One of its own ends with this process, however that ends: its
/// watcher sees its input close.
pub(crate) struct Cluster {
    /// A user who may do everything, with the password if there is one.
    superuser: String,
    pub(crate) port: u16,
    #[allow(dead_code, reason = "the conformance suite runs none")]
    pub(crate) programs: PathBuf,
    /// With the server's data and its log; `None` where it is another's.
    #[allow(dead_code, reason = "the conformance suite restarts none")]
    pub(crate) folder: Option<PathBuf>,
    _watcher: Option<Child>,
}

impl Cluster {
    /// Returns the server that all tests of this process share; `None` where PostgreSQL is not installed.
    #[allow(dead_code, reason = "the benchmark has one of its own")]
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        if let Ok(dsn) = std::env::var(DSN) {
            return SHARED.get_or_init(|| Some(Self::named(&dsn))).as_ref();
        }
        // Nobody pulls its plug, and each test makes a database.
        SHARED
            .get_or_init(|| {
                Self::start(
                    "-c wal_level=minimal -c max_wal_senders=0 -c full_page_writes=off -c autovacuum=off -c fsync=off",
                )
            })
            .as_ref()
    }

    /// Starts a server with these settings, as `-c name=value`.
    pub(crate) fn start(settings: &str) -> Option<Self> {
        Self::filled_by("initdb -U postgres -A trust -E UTF8 --no-sync", settings)
    }

    /// Starts a standby of this server, which follows it, and which no commit waits for.
    #[allow(dead_code, reason = "the conformance suite has no second server")]
    pub(crate) fn standby(&self) -> Option<Self> {
        let from = format!("-h 127.0.0.1 -p {} -U {}", self.port, self.superuser);
        Self::filled_by(&format!("pg_basebackup {from} -R -X stream -c fast --no-sync"), "")
    }

    /// Starts a server whose folder one of its programs fills.
    fn filled_by(program: &str, settings: &str) -> Option<Self> {
        let programs = newest_programs()?;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let script = format!(
            r#"set -e
            folder=$(mktemp -d)
            trap 'rm -rf "$folder"' EXIT
            as=
            if [ "$(id -u)" = 0 ]; then chown postgres "$folder"; as="setpriv --reuid postgres --regid postgres --clear-groups"; fi
            cd "$folder"
            $as {bin}/{program} -D "$folder/data" >/dev/null
            $as {bin}/pg_ctl -D "$folder/data" -w -s -l "$folder/log" \
                -o "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200 {settings}" start
            echo "$folder"
            cat >/dev/null
            $as {bin}/pg_ctl -D "$folder/data" -s -m immediate stop 2>/dev/null || true"#,
            bin = programs.display()
        );
        let mut watcher = Command::new("sh");
        watcher.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut watcher = watcher.spawn().unwrap();
        let mut told = String::new();
        BufReader::new(watcher.stdout.take().unwrap()).read_line(&mut told).unwrap();
        assert!(told.starts_with('/'), "the server does not start");
        Some(Self {
            superuser: "postgres".to_owned(),
            port,
            programs,
            folder: Some(told.trim_end().into()),
            _watcher: Some(watcher),
        })
    }

    #[allow(dead_code, reason = "the benchmark has one of its own")]
    fn named(dsn: &str) -> Self {
        let named = || {
            let (superuser, port) = dsn.strip_prefix("postgres://")?.rsplit_once("@127.0.0.1:")?;
            Some((superuser.to_owned(), port.parse().ok()?))
        };
        let (superuser, port) =
            named().unwrap_or_else(|| panic!("{DSN} is to be postgres://superuser@127.0.0.1:port"));
        Self {
            superuser,
            port,
            programs: newest_programs().unwrap_or_default(),
            folder: None,
            _watcher: None,
        }
    }

    /// Returns what makes a database, in place of one that an earlier run has left on another's server.
    pub(crate) fn making(&self, database: &str, options: &str) -> Vec<String> {
        let drop = format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)");
        // Copied as files: by its pages, as is usual, a copy takes three times as long.
        let make = format!("CREATE DATABASE {database} STRATEGY file_copy {options}");
        if self.folder.is_some() { vec![make] } else { vec![drop, make] }
    }

    /// Restarts the server, and waits until it takes work.
    #[allow(dead_code, reason = "the conformance suite restarts none")]
    pub(crate) fn restart(&self, mode: &str) {
        self.control(&[
            "-m",
            mode,
            "-l",
            &self.folder.as_ref().unwrap().join("log").display().to_string(),
            "restart",
        ]);
    }

    /// Ends the server as a crash of its machine does.
    #[allow(dead_code, reason = "the conformance suite ends none")]
    pub(crate) fn crash(&self) {
        self.control(&["-m", "immediate", "stop"]);
    }

    /// Makes a standby the primary.
    #[allow(dead_code, reason = "the conformance suite has no standby")]
    pub(crate) fn promote(&self) {
        self.control(&["promote"]);
    }

    fn control(&self, order: &[&str]) {
        let pg_ctl = self.programs.join("pg_ctl").display().to_string();
        let data = self.folder.as_ref().unwrap().join("data").display().to_string();
        let script = r#"cd /; as=
            if [ "$(id -u)" = 0 ]; then as="setpriv --reuid postgres --regid postgres --clear-groups"; fi
            $as "$0" -w -s -D "$@""#;
        let done = Command::new("sh").args(["-c", script, &pg_ctl, &data]).args(order).status().unwrap();
        assert!(done.success(), "pg_ctl {order:?}");
    }

    /// Returns how a role reaches a database.
    pub(crate) fn url(&self, role: &str, database: &str) -> String {
        let role = if role == "postgres" { &self.superuser } else { role };
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }
}

fn newest_programs() -> Option<PathBuf> {
    let versions = fs::read_dir(VERSIONS).ok()?.filter_map(|found| Some(found.ok()?.path()));
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    versions
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(|path| version(path))
        .map(|path| path.join("bin"))
}

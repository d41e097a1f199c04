//! A PostgreSQL server for a test process, where PostgreSQL is installed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// Where Debian has the programs of each version.
pub(crate) const VERSIONS: &str = "/usr/lib/postgresql";

/// A server of its own, of which its two users need different parts. It ends with this process, however that ends: its watcher sees its input close.
pub(crate) struct Cluster {
    pub(crate) port: u16,
    #[allow(dead_code, reason = "the conformance suite runs none")]
    pub(crate) programs: PathBuf,
    /// With the server's data and its log.
    #[allow(dead_code, reason = "the conformance suite restarts none")]
    pub(crate) folder: PathBuf,
    _watcher: Child,
}

impl Cluster {
    /// Returns the server that all tests of this process share; `None` where PostgreSQL is not installed.
    #[allow(dead_code, reason = "the benchmark has one of its own")]
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        // Nobody pulls its plug, and each test makes a database.
        SHARED
            .get_or_init(|| {
                Self::start(
                    "-c wal_level=minimal -c max_wal_senders=0 -c full_page_writes=off -c autovacuum=off",
                )
            })
            .as_ref()
    }

    /// Starts a server with these settings, as `-c name=value`.
    pub(crate) fn start(settings: &str) -> Option<Self> {
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
            $as {bin}/initdb -D "$folder/data" -U postgres -A trust -E UTF8 --no-sync >/dev/null
            $as {bin}/pg_ctl -D "$folder/data" -w -s -l "$folder/log" \
                -o "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200 {settings}" start
            echo "$folder"
            cat >/dev/null
            $as {bin}/pg_ctl -D "$folder/data" -s -m immediate stop"#,
            bin = programs.display()
        );
        let mut watcher = Command::new("sh");
        watcher.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut watcher = watcher.spawn().unwrap();
        let mut told = String::new();
        BufReader::new(watcher.stdout.take().unwrap()).read_line(&mut told).unwrap();
        assert!(told.starts_with('/'), "the server does not start");
        Some(Self { port, programs, folder: told.trim_end().into(), _watcher: watcher })
    }

    /// Restarts the server, and waits until it takes work.
    #[allow(dead_code, reason = "the conformance suite restarts none")]
    pub(crate) fn restart(&self, mode: &str) {
        let pg_ctl = self.programs.join("pg_ctl").display().to_string();
        let data = self.folder.join("data").display().to_string();
        let script = r#"cd /; as=
            if [ "$(id -u)" = 0 ]; then as="setpriv --reuid postgres --regid postgres --clear-groups"; fi
            $as "$0" -D "$1" -w -s -m "$2" -l "$1/../log" restart"#;
        let restarted = Command::new("sh").args(["-c", script, &pg_ctl, &data, mode]).status().unwrap();
        assert!(restarted.success(), "the server does not restart");
    }

    /// Returns how a role reaches a database.
    pub(crate) fn url(&self, role: &str, database: &str) -> String {
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

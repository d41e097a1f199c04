//! Workers that share a cycle over many patients of whom there is nothing new: what is left is taking turns, one
//! empty answer each, and ending them. A part of the cycle is measured, once its turns are planned.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio_postgres::Client;

use crate::postgres::cluster::Cluster;
use crate::postgres::{connect, database};
use crate::process::{Cost, number_in};
use crate::program::{USUAL, program, scratch};
use crate::server::{Server, idle_patient};
use crate::table::Measured;
use crate::wire::runtime;

const WORKERS: usize = 8;
const ROUNDS: usize = 2;
/// So long turns are counted.
const WINDOW: Duration = Duration::from_secs(15);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

const FEW: usize = 100_000;
const MANY: usize = 1_000_000;

/// Measures one worker and several over a roster, and several over one ten times as large, round by round.
pub(crate) fn measure(server: &Server) -> Vec<Measured> {
    let Some(cluster) = Cluster::start("") else { return Vec::new() };
    let row = |workers: &str, patients| Measured::new(format!("{workers} over {patients} patients"), "turns");
    let several = format!("{WORKERS} workers");
    let [mut one, mut few, mut many] = [row("1 worker", FEW), row(&several, FEW), row(&several, MANY)];
    let rosters = [FEW, MANY].map(|patients| Roster::new(server, &cluster, patients));
    for round in 1..=ROUNDS {
        eprintln!("workers, round {round}");
        rosters[0].measure(1, &mut one);
        rosters[0].measure(WORKERS, &mut few);
        rosters[1].measure(WORKERS, &mut many);
    }
    many.against(&few, format!("the rate at {FEW} patients")).wanted(0.80);
    few.against(&one, "one worker on the same cores");
    vec![one, few, many]
}

/// Patients who are known, each of them as if pulled an hour ago, and a folder to start workers in.
struct Roster {
    folder: tempfile::TempDir,
    url: String,
}

impl Roster {
    fn new(server: &Server, cluster: &Cluster, patients: usize) -> Self {
        let url = database(cluster);
        let folder = scratch();
        let settings = |files: &str| {
            format!(
                "api.base_url = \"{}\"\nsync.concurrency = {}\nlog.level = \"warn\"\nroster.files = [{files}]\nwarehouse.url = \"{url}\"\n",
                server.base_url, USUAL.concurrency
            )
        };
        fs::write(folder.path().join("lead.toml"), settings("\"roster.csv\"")).unwrap();
        // The others take the roster from the warehouse.
        fs::write(folder.path().join("worker.toml"), settings("")).unwrap();
        let lines: Vec<String> = (0..patients).map(|number| format!("{}\n", idle_patient(number))).collect();
        fs::write(folder.path().join("roster.csv"), format!("id\n{}", lines.concat())).unwrap();
        let migrated = program(folder.path()).args(["--config", "lead.toml", "migrate"]).output().unwrap();
        assert!(migrated.status.success(), "{migrated:?}");
        let known = format!(
            "INSERT INTO healthex.checkpoint (person_id, state, watermark, last_success_at, last_full_at, last_asked_at, holds_rows)
             SELECT 'idle-' || lpad(i::text, greatest(5, length(i::text)), '0'), 'active', now() - interval '1 hour', now(), now(), now(), true
               FROM generate_series(0, {patients} - 1) AS i;
             ANALYZE healthex.checkpoint"
        );
        let roster = Self { folder, url };
        roster.ask(async |client| client.batch_execute(&known).await.unwrap());
        roster
    }

    fn ask<T>(&self, ask: impl AsyncFnOnce(Client) -> T) -> T {
        runtime().block_on(async { ask(connect(&self.url).await).await })
    }

    fn start(&self, name: &str, config: &str) -> Child {
        let state = self.folder.path().join(name);
        fs::create_dir_all(&state).unwrap();
        program(self.folder.path())
            .args(["--config", config, "sync"])
            .env("STATE_DIRECTORY", state)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Returns how many turns of the cycle under way were given out, once they are planned.
    fn given_out(&self) -> Option<i64> {
        let statement =
            "SELECT next FROM healthex.shared_cycle WHERE ended_at IS NULL AND planned_at IS NOT NULL";
        self.ask(async |client| client.query_opt(statement, &[]).await.unwrap().map(|row| row.get(0)))
    }

    fn measure(&self, workers: usize, measured: &mut Measured) {
        let begun = Instant::now();
        let lead = self.start("lead", "lead.toml");
        while self.given_out().is_none() {
            thread::sleep(LOOK_AGAIN);
        }
        let planned = begun.elapsed();
        let others: Vec<Child> =
            (1..workers).map(|number| self.start(&format!("worker-{number}"), "worker.toml")).collect();
        let at_work = "SELECT count(*) FROM healthex.worker WHERE until > now()";
        let at_work =
            || self.ask(async |client| client.query_one(at_work, &[]).await.unwrap().get::<_, i64>(0));
        while usize::try_from(at_work()).unwrap() < workers {
            thread::sleep(LOOK_AGAIN);
        }
        let (from, begun) = (self.given_out().unwrap(), Instant::now());
        thread::sleep(WINDOW);
        let to = self.given_out().expect("the cycle is not over within the time that it is measured for");
        let seconds = begun.elapsed().as_secs_f64();
        let rss = |worker: &Child| {
            number_in(
                Path::new("/proc").join(worker.id().to_string()).join("status").to_str().unwrap(),
                "VmHWM:",
            ) * 1024
        };
        let of_lead = rss(&lead);
        let of_others = others.iter().map(rss).max().unwrap_or(of_lead);
        measured.add(
            usize::try_from(to - from).unwrap(),
            Cost { seconds, rss_bytes: of_others, ..Cost::default() },
        );
        measured.note = format!(
            "memory of a worker; {} MiB of the one that leads; planned {:.1} s after its start",
            of_lead >> 20,
            planned.as_secs_f64()
        );
        for mut worker in others.into_iter().chain([lead]) {
            let pid = Pid::from_raw(worker.id().cast_signed()).unwrap();
            let _ = kill_process(pid, Signal::TERM);
            worker.wait().unwrap();
        }
    }
}

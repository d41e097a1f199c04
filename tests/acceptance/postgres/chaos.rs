//! Daemons that share a roster, of which some are always being killed, frozen or cut off from a database that crashes,
//! while records change, patients withdraw, operators purge and HealthEx refuses everybody for a while.
//!
//! What must be so in the end: nobody's record is missed, nobody is purged but who withdrew or was ordered to be, and
//! each once; nothing of them is left. `HEALTHEX_SYNC_CHAOS_SECONDS` makes it longer, `HEALTHEX_SYNC_CHAOS_SEED` repeats
//! what is done, though not what comes of it: the processes are the machine's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use healthex_sync::sandbox::Population;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;

use super::database::Database;
use super::proxy::Proxy;
use super::sync::assert_equals_sandbox;
use super::workers::{person, start};
use crate::world::{Running, World, observation, record};

const DAEMONS: usize = 8;
const PATIENTS: usize = 40;
const SECONDS: u64 = 20;
/// Between two of the things that are done.
const PAUSE: Duration = Duration::from_millis(400);

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

struct Chaos {
    world: World,
    database: Database,
    dice: StdRng,
    daemons: Vec<Running>,
    frozen: Vec<usize>,
    withdrawn: BTreeSet<String>,
    ordered: BTreeSet<String>,
    operators: Vec<(String, Running)>,
    storm_ends: Option<Instant>,
    edits: usize,
    done: BTreeMap<&'static str, usize>,
}

impl Chaos {
    fn begin(seed: u64) -> Option<Self> {
        let mut population = Population::empty();
        for patient in 0..PATIENTS {
            population.add_person(&person(patient), record(&person(patient), 10));
        }
        let world = World::serving(population)
            .set("sync.schedule", r#""every 1s""#)
            .set("sync.page_size", "5")
            .set("sync.concurrency", "2")
            .set("http.listen", r#""127.0.0.1:0""#)
            .set("warehouse.lease", r#""10s""#);
        let database = Database::on_a_server_of_its_own()?;
        database.migrate(&world, &[]).exits(0);
        database.take(&world);
        let mut chaos = Self {
            world,
            database,
            dice: StdRng::seed_from_u64(seed),
            daemons: Vec::new(),
            frozen: Vec::new(),
            withdrawn: BTreeSet::new(),
            ordered: BTreeSet::new(),
            operators: Vec::new(),
            storm_ends: None,
            edits: 0,
            done: BTreeMap::new(),
        };
        let proxy = Proxy::cutting_seldom(chaos.database.cluster.port);
        let through = proxy.url("healthex_worker", &chaos.database.name);
        chaos.world.change_setting("warehouse.url", &format!("{through:?}"));
        chaos.daemons =
            (0..DAEMONS).map(|at| start(&chaos.world, &format!("daemon-{at}"), &["run"])).collect();
        Some(chaos)
    }

    fn note(&mut self, what: &'static str) {
        *self.done.entry(what).or_default() += 1;
    }

    fn some_daemon(&mut self) -> usize {
        self.dice.random_range(0..DAEMONS)
    }

    fn step(&mut self) {
        match self.dice.random_range(0..20) {
            0..=4 => self.kill(),
            5..=7 => self.freeze(),
            8..=9 => self.thaw(),
            10 => {
                let mode = *["immediate", "fast"].choose(&mut self.dice).unwrap();
                self.database.cluster.restart(mode);
                self.note("crashes of the database");
            }
            11 => self.withdraw(),
            12 => self.purge(),
            13 if self.storm_ends.is_none() => {
                self.world.fault("kind = 'status', status = 403, times = 1000000");
                self.storm_ends = Some(Instant::now() + Duration::from_secs(2));
                self.note("storms of refusals");
            }
            _ => self.edit(),
        }
        if self.storm_ends.is_some_and(|end| end <= Instant::now()) {
            self.world.sandbox.clear_script();
            self.storm_ends = None;
        }
    }

    /// One that is frozen is killed as well as any.
    fn kill(&mut self) {
        let at = self.some_daemon();
        self.frozen.retain(|frozen| *frozen != at);
        self.daemons.remove(at).kill();
        self.daemons.insert(at, start(&self.world, &format!("daemon-{at}"), &["run"]));
        self.note("kills");
    }

    fn freeze(&mut self) {
        let at = self.some_daemon();
        if !self.frozen.contains(&at) {
            self.daemons[at].signal(Signal::STOP);
            self.frozen.push(at);
            self.note("freezes");
        }
    }

    fn thaw(&mut self) {
        if !self.frozen.is_empty() {
            let at = self.frozen.remove(0);
            self.daemons[at].signal(Signal::CONT);
        }
    }

    fn edit(&mut self) {
        let patient = person(self.dice.random_range(0..PATIENTS));
        self.edits += 1;
        let changed = observation(&patient, 1_000 + self.edits % 5, &format!("edit {}", self.edits));
        self.world.sandbox.put(&patient, None, &changed);
        self.note("edits");
    }

    /// Fewer than are held for being many.
    fn withdraw(&mut self) {
        let patient = person(self.dice.random_range(0..PATIENTS));
        if self.withdrawn.len() < 3 && !self.ordered.contains(&patient) {
            self.world.sandbox.withdraw(&patient);
            self.withdrawn.insert(patient);
            self.note("withdrawals");
        }
    }

    /// Whoever is frozen within a transaction keeps the patient's row from it, until the server ends that.
    fn purge(&mut self) {
        let patient = person(self.dice.random_range(0..PATIENTS));
        if self.operators.len() < 4 && !self.withdrawn.contains(&patient) {
            let operator = start(&self.world, "operator", &["purge", &patient, "--yes"]);
            self.ordered.insert(patient.clone());
            self.operators.push((patient, operator));
            self.note("purges");
        }
    }

    /// An operator does not give up before it is done. Who was never pulled is not known yet.
    fn end_purges(&mut self) {
        for (patient, operator) in std::mem::take(&mut self.operators) {
            let is_done = |code: i32| code == 0 || code == 2;
            let done = is_done(operator.ended().code)
                || (0..5).any(|_| {
                    is_done(start(&self.world, "operator", &["purge", &patient, "--yes"]).ended().code)
                });
            assert!(done, "{patient} is not purged");
            let known = format!("SELECT count(*) FROM healthex.purge_log WHERE person_id = '{patient}'");
            if self.database.count(&known) == 0 {
                self.ordered.remove(&patient);
            }
        }
    }

    /// Ends all of it, and lets one process come to the end of what is left.
    fn settle(&mut self) {
        for mut daemon in std::mem::take(&mut self.daemons) {
            assert!(!daemon.has_ended(), "a daemon has ended by itself: {}", daemon.stderr());
            daemon.signal(Signal::CONT);
            daemon.kill();
        }
        self.world.sandbox.clear_script();
        self.database.take(&self.world);
        self.end_purges();
        let settled = (0..5).any(|_| [0, 3].contains(&start(&self.world, "last", &["sync"]).ended().code));
        assert!(settled, "no cycle gets through");
        // Those who withdrew in a storm are held with all others.
        start(&self.world, "last", &["purge", "--held", "--yes"]).ended();
        start(&self.world, "last", &["sync", "--full"]).ended().exits(0);
    }

    fn assert_sound(&self) {
        let gone: BTreeSet<String> = self.withdrawn.union(&self.ordered).cloned().collect();
        for patient in (0..PATIENTS).map(person) {
            if gone.contains(&patient) {
                assert!(self.database.live_rows(&patient).is_empty(), "{patient} was purged");
            } else {
                assert_equals_sandbox(&self.world, &self.database, &patient);
            }
        }
        let purges =
            self.database.rows("SELECT person_id, reason, count(*) FROM healthex.purge_log GROUP BY 1, 2");
        let purges: BTreeMap<(String, String), usize> = purges
            .into_iter()
            .map(|row| {
                let cell = |at: usize| row[at].clone().unwrap();
                ((cell(0), cell(1)), cell(2).parse().unwrap())
            })
            .collect();
        for ((patient, reason), times) in &purges {
            let expected = match reason.as_str() {
                "consent_revoked" => self.withdrawn.contains(patient) && *times == 1,
                "operator" => self.ordered.contains(patient),
                _ => false,
            };
            assert!(expected, "{patient} was purged {times} times ({reason})");
        }
        let ledgers: String = (0..DAEMONS)
            .map(|at| format!("daemon-{at}"))
            .chain(["operator".to_owned(), "last".to_owned()])
            .filter_map(|name| {
                std::fs::read_to_string(self.world.path(&name).join("healthex-sync.purges")).ok()
            })
            .collect();
        assert!(purges.keys().all(|(patient, _)| ledgers.contains(patient.as_str())), "{purges:?}");
        for table in ["turn", "ticket", "shared_cycle_part", "writer"] {
            let left = self.database.count(&format!("SELECT count(*) FROM healthex.{table}"));
            assert_eq!(left, 0, "{table}");
        }
        let held = "SELECT count(*) FROM healthex.checkpoint WHERE owner IS NOT NULL OR state IN ('held', 'refused')";
        assert_eq!(self.database.count(held), 0);
        assert_eq!(self.database.count("SELECT count(*) FROM healthex.pull WHERE finished_at IS NULL"), 0);
        start(&self.world, "last", &["verify"]).ended().exits(0);
    }
}

#[test]
fn whatever_happens_to_workers_nobody_is_lost_or_purged_by_mistake() {
    let seed =
        number("HEALTHEX_SYNC_CHAOS_SEED").unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    let seconds = number("HEALTHEX_SYNC_CHAOS_SECONDS").unwrap_or(SECONDS);
    eprintln!("HEALTHEX_SYNC_CHAOS_SEED={seed}");
    let Some(mut chaos) = Chaos::begin(seed) else { return };
    let ends = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < ends {
        chaos.step();
        std::thread::sleep(PAUSE);
    }
    chaos.settle();
    eprintln!("{:?}", chaos.done);
    chaos.assert_sound();
}

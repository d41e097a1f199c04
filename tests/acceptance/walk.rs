//! A random walk: edits, faults, kills and clocks that are off, from a printed seed.
//!
//! Safety, at each step: whatever changed on the server before a patient's watermark is in the
//! warehouse. Not held to it is a patient of whom something was removed under a pull, until a full
//! pull has gone undisturbed: if as much is added, the server's count cannot show what slid through
//! the offsets. Liveness: when the faults stop, the warehouse equals the server within two cycles.
//!
//! `HEALTHEX_SYNC_WALK_SECONDS` makes it longer, `HEALTHEX_SYNC_WALK_SEED` repeats one.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use healthex_sync::sandbox::Population;
use healthex_sync::time::Timestamp;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::world::{World, observation, record, wait_until};

const PERSONS: [&str; 3] = ["anna", "ben", "cora"];
const SECONDS: u64 = 6;
const STEPS: usize = 8;

/// Met once in a walk: refused again before anything else is answered, a patient has withdrawn.
const REFUSAL: &str = "kind = 'status', status = 403, times = 1";

/// Faults that a pull gets over or fails at, whatever they meet. Those that hide an entry are
/// played once: hidden twice in the same way, the server's count is rightly called wrong.
const FAULTS: &[&str] = &[
    "kind = 'reset_mid_body', times = 2",
    "kind = 'cut_chunk', times = 4",
    "kind = 'cut_chunk', keep = 1.0, times = 1",
    "kind = 'short_content_length', times = 1",
    "kind = 'close_delimited_cut', times = 3",
    "kind = 'close_delimited_boundary', drop = 2, times = 1",
    "kind = 'cut_gzip', times = 1",
    "kind = 'accept_and_close', times = 5",
    "kind = 'status', status = 500, times = 4",
    "kind = 'status', status = 503, retry_after = '1', times = 1",
    "kind = 'status', status = 429, times = 1",
    "kind = 'status', status = 400, page = 2, times = 1",
    "kind = 'status', status = 410, page = 3, times = 1",
    "kind = 'status', status = 404, page = 2, times = 1",
    "kind = 'status', status = 401, times = 1",
    REFUSAL,
    "kind = 'status', status = 403, body = 'html', times = 2",
    "kind = 'expire_token_mid_pull', times = 1",
    "kind = 'html_200', times = 1",
    "kind = 'wrong_resource', times = 4",
    "kind = 'huge_header', times = 1",
    "kind = 'next_self_loop', times = 1",
    "kind = 'next_ab_loop', times = 1",
    "kind = 'next_other_path', times = 1",
    "kind = 'next_relative', times = 9",
    "kind = 'next_lost_filters', times = 5",
    "kind = 'links_last', times = 3",
    "kind = 'total_shrinks', times = 1",
    "kind = 'total_off', by = 1, times = 1",
    "kind = 'total_off', by = -2, times = 8",
    "kind = 'page_skips_entry', page = 2, times = 1",
    "kind = 'page_slides', page = 2, times = 1",
    "kind = 'page_repeats_entry', times = 4",
    "kind = 'since_ignored', times = 9",
    "kind = 'broken_json', times = 3",
    "kind = 'error_outcome_entry', times = 2",
    "kind = 'warning_outcome_entry', times = 2",
    "kind = 'unknown_type_entry', times = 9",
    "kind = 'duplicate_entry', order = 'older_first', times = 1",
    "kind = 'status', status = 503, at = 'token', times = 2",
    "kind = 'token_without_expiration', at = 'token', times = 1",
];

/// How the server's clock goes, in seconds from ours.
#[derive(Clone, Copy, Debug)]
struct Clock {
    begins: i64,
    /// At each step, so that watermarks pass what was edited in the steps before.
    advances: i64,
    /// No more than the overlap is made for.
    steps_back: i64,
    overlap: &'static str,
}

const CLOCKS: &[Clock] = &[
    Clock { begins: 0, advances: 0, steps_back: 0, overlap: "0s" },
    Clock { begins: -5 * 3600, advances: 900, steps_back: 0, overlap: "0s" },
    Clock { begins: -9 * 3600, advances: 3000, steps_back: 1500, overlap: "1h" },
    Clock { begins: 5 * 3600, advances: 900, steps_back: 1500, overlap: "1h" },
];

struct Walk {
    world: World,
    dice: StdRng,
    clock: Clock,
    at: i64,
    edits: usize,
    /// Patients of whom entries may have slid past a pull.
    slid: BTreeSet<&'static str>,
    said: Vec<String>,
}

impl Walk {
    fn begin(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut population = Population::empty();
        for person in PERSONS {
            let observations = dice.random_range(3..40);
            population.add_person(person, record(person, observations));
        }
        let page_size = *["4", "7", "15", "0"].choose(&mut dice).unwrap();
        let world = World::serving(population)
            .set("sync.page_size", page_size)
            .set("api.idle_timeout", r#""1s""#)
            .set("consent.hold_after", "100");
        let clock = *CLOCKS.choose(&mut dice).unwrap();
        world.change_setting("sync.overlap", &format!("{:?}", clock.overlap));
        let said = vec![format!("page_size {page_size}, {clock:?}")];
        let mut walk = Self { world, dice, clock, at: clock.begins, edits: 0, slid: BTreeSet::new(), said };
        walk.tick();
        walk
    }

    /// Time passes on the server, more of it than here, and not evenly.
    fn tick(&mut self) {
        self.at += self.clock.advances;
        let back = self.dice.random_range(0..=self.clock.steps_back);
        self.world.sandbox.set_clock_offset(self.at - back);
    }

    fn edit(&mut self, under_a_cycle: bool) {
        let person = *PERSONS.choose(&mut self.dice).unwrap();
        self.edits += 1;
        let entries = self.world.sandbox.entries(person);
        // The Person and the Patient stay.
        let some = entries.get(2..).unwrap_or_default().choose(&mut self.dice);
        let text = format!("edit {} {}", self.edits, "x".repeat(self.dice.random_range(0..3000)));
        match (self.dice.random_range(0..10), some) {
            (0..=1, Some(entry)) if entries.len() > 5 => {
                if under_a_cycle || self.is_under_way(person) {
                    self.slid.insert(person);
                }
                let root = format!("{}/FHIR/R4/", self.world.sandbox.base_url());
                let tail = entry.full_url.trim_start_matches(&root);
                self.world.sandbox.remove(person, tail);
            }
            (2..=5, Some(entry)) => {
                let tail = self.world.key_of(entry);
                // With another id it would be another thing.
                let changed = observation(person, number_of(&entry.resource), &text);
                self.world.sandbox.put(person, Some(&tail), &changed);
            }
            _ => {
                let tail = format!("Observation/new-{}", self.edits);
                let new = observation(person, 1000 + self.edits, &text);
                self.world.sandbox.put(person, Some(&tail), &new);
            }
        }
    }

    fn is_under_way(&self, person: &str) -> bool {
        self.world.warehouse().exists() && self.world.checkpoint(person, "pull_mode").is_some()
    }

    fn step(&mut self) {
        self.world.sandbox.clear_requests();
        self.tick();
        for _ in 0..self.dice.random_range(0..6) {
            self.edit(false);
        }
        let undisturbed: Vec<_> =
            self.slid.iter().copied().filter(|person| !self.is_under_way(person)).collect();
        for _ in 0..self.dice.random_range(0..3) {
            let fault = *FAULTS.choose(&mut self.dice).unwrap();
            if fault == REFUSAL && self.said.iter().any(|said| said == REFUSAL) {
                continue;
            }
            self.said.push(fault.to_owned());
            if fault.contains("'token'") || self.dice.random_bool(0.4) {
                self.world.fault(fault);
            } else {
                let person = *PERSONS.choose(&mut self.dice).unwrap();
                self.world.fault(&format!("{fault}, person = '{person}'"));
            }
        }
        let full = self.dice.random_bool(0.3);
        let mut running =
            if full { self.world.start(["sync", "--full"]) } else { self.world.start(["sync"]) };
        let number = self.dice.random_range(1..12);
        if self.dice.random_bool(0.4) {
            self.said.push(format!("kill at request {number}"));
            wait_until("the request arrives", || {
                self.world.sandbox.requests().len() >= number || running.has_ended()
            });
            running.kill();
        } else {
            // The record changes under the walk.
            wait_until("the request arrives", || {
                self.world.sandbox.requests().len() >= number || running.has_ended()
            });
            let slid = std::mem::take(&mut self.slid);
            self.edit(true);
            let removed_from = std::mem::replace(&mut self.slid, slid);
            let ran = running.ended();
            assert!([0, 3, 4].contains(&ran.code), "{ran}");
            if full && ran.code == 0 {
                self.slid.retain(|person| !undisturbed.contains(person));
            }
            self.slid.extend(removed_from);
        }
        self.world.sandbox.clear_script();
        self.assert_safe();
    }

    /// No watermark has passed what is missing.
    fn assert_safe(&self) {
        if !self.world.warehouse().exists() {
            return;
        }
        for person in PERSONS.into_iter().filter(|person| !self.slid.contains(person)) {
            let Some(watermark) = self.world.watermark(person) else {
                continue;
            };
            let watermark = Timestamp::parse(&watermark).unwrap();
            let rows = self.world.rows(person);
            for entry in self.world.sandbox.entries(person) {
                let key = self.world.key_of(&entry);
                let is_there = rows.get(&key) == Some(&entry.resource);
                assert!(
                    is_there || entry.changed_at >= watermark,
                    "{person}: the watermark {watermark} has passed {key} of {}",
                    entry.changed_at
                );
            }
        }
    }

    fn settle(&self) {
        self.world.sandbox.clear_script();
        // A resumed walk may still hold a count that was wrong; the patient then fails once more.
        let ran = self.world.run(["sync"]);
        assert!([0, 3].contains(&ran.code), "{ran}");
        self.assert_safe();
        // Only a full pull can see what was removed.
        self.world.run(["sync", "--full"]).exits(0);
        for person in PERSONS {
            self.world.assert_equals_sandbox(person);
        }
        self.world.assert_sound();
        assert_eq!(self.world.count("SELECT count(*) FROM purge_log"), 0);
    }
}

/// The number that an observation was made from.
fn number_of(resource: &str) -> usize {
    let resource: serde_json::Value = serde_json::from_str(resource).unwrap();
    let id = resource["id"].as_str().unwrap();
    id.rsplit('-').next().unwrap().parse().unwrap()
}

/// Tells how to repeat a walk that failed.
struct Told<'w>(u64, &'w mut Walk);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            use std::io::Write;
            let Self(seed, walk) = self;
            let _ = writeln!(std::io::stderr(), "HEALTHEX_SYNC_WALK_SEED={seed}: {:#?}", walk.said);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whatever_happens_the_warehouse_catches_up_and_no_watermark_passes_what_is_missing() {
    let given = number("HEALTHEX_SYNC_WALK_SEED");
    let seconds = number("HEALTHEX_SYNC_WALK_SECONDS").unwrap_or(SECONDS);
    let ends = Instant::now() + Duration::from_secs(seconds);
    let mut seed = given.unwrap_or_else(|| rand::rng().random_range(0..1_000_000_000));
    while Instant::now() < ends {
        eprintln!("HEALTHEX_SYNC_WALK_SEED={seed}");
        let mut walk = Walk::begin(seed);
        let told = Told(seed, &mut walk);
        for _ in 0..STEPS {
            told.1.step();
        }
        told.1.settle();
        drop(told);
        if given.is_some() {
            break;
        }
        seed += 1;
    }
}

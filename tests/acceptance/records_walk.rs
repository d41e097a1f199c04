//! A random life of consents: given, withdrawn, expired, gone and contradicted, with outages and kills
//! in between, from a printed seed.
//!
//! Safety, at each step: nobody is purged whom HealthEx permits, or whose record consents while it
//! answers, and nobody is pulled whose record does not. Liveness: when the outages stop, whoever
//! consents is complete, and of whoever withdrew nothing remains.
//!
//! `HEALTHEX_SYNC_WALK_SECONDS` makes it longer, `HEALTHEX_SYNC_WALK_SEED` repeats one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use healthex_sync::sandbox::{PersonConsent, Population};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::world::{World, observation, record};

const PERSONS: [&str; 4] = ["anna", "ben", "cora", "dan"];
const SECONDS: u64 = 6;
const STEPS: usize = 10;

/// What an outage of the consent records looks like.
const OUTAGES: &[&str] = &[
    "kind = 'status', status = 400",
    "kind = 'status', status = 401",
    "kind = 'status', status = 403",
    "kind = 'status', status = 403, body = 'html'",
    "kind = 'status', status = 404",
    "kind = 'status', status = 500",
    "kind = 'html_200'",
    "kind = 'wrong_resource'",
    "kind = 'cut_chunk'",
    "kind = 'close_delimited_cut'",
    "kind = 'reset_mid_body'",
    "kind = 'accept_and_close'",
    "kind = 'answer', body = ''",
    "kind = 'answer', body = '[]'",
    "kind = 'answer', body = '[{}, 7, null]'",
];

/// What the record says, and whether `$everything` permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Consented,
    Withdrawn,
    Expired,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stand {
    says: Says,
    permitted: bool,
}

impl Stand {
    /// Returns whether a cycle may purge a patient who stands so.
    fn may_be_purged(self, is_outage: bool) -> bool {
        !self.permitted && (is_outage || self.says != Says::Consented)
    }
}

struct Life {
    world: World,
    dice: StdRng,
    persons: Vec<&'static str>,
    stands: BTreeMap<&'static str, Stand>,
    /// Whose purge may stand in the ledger and not be done: a kill came between the two. The next cycle
    /// carries it out, whatever is so by then.
    owed: BTreeSet<&'static str>,
    edits: usize,
    said: Vec<String>,
}

impl Life {
    fn begin(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        // A roster of one as often as not.
        let persons = PERSONS[..if dice.random_bool(0.5) { 1 } else { 4 }].to_vec();
        let mut population = Population::empty();
        for person in &persons {
            population.add_person(person, record(person, dice.random_range(1..6)));
        }
        let files = dice.random_bool(0.4);
        let world = World::serving(population)
            .set("roster.studies", r#"["sandbox-study"]"#)
            .set("roster.files", if files { r#"["roster.toml"]"# } else { "[]" })
            .set("api.max_attempts", "2")
            .set("consent.hold_after", "1000");
        if files {
            world.list(&persons[..1]);
        }
        let begins = Stand { says: Says::Consented, permitted: true };
        let stands = persons.iter().map(|person| (*person, begins)).collect();
        let said = vec![format!("{} persons, files: {files}", persons.len())];
        Self { world, dice, persons, stands, owed: BTreeSet::new(), edits: 0, said }
    }

    fn change(&mut self) {
        let person = *self.persons.choose(&mut self.dice).unwrap();
        let both = [
            Stand { says: Says::Consented, permitted: true },
            Stand { says: Says::Withdrawn, permitted: false },
            Stand { says: Says::Expired, permitted: false },
            Stand { says: Says::Nothing, permitted: true },
            Stand { says: Says::Withdrawn, permitted: true },
            Stand { says: Says::Expired, permitted: true },
            Stand { says: Says::Consented, permitted: false },
        ];
        let stand = *both.choose(&mut self.dice).unwrap();
        self.stands.insert(person, stand);
        let year = if stand.says == Says::Expired { 2024 } else { 2099 };
        let consent = PersonConsent {
            recorded: stand.says != Says::Nothing,
            consented: Some(stand.says != Says::Withdrawn),
            expires: Some(format!("{year}-04-21T19:05:59.516Z")),
            scopes: vec![format!("SCOPE_{}", self.dice.random_range(0..3))],
            permitted: stand.permitted,
        };
        self.world.sandbox.set_consent(person, consent);
        self.said.push(format!("{person}: {stand:?}"));
        let person = *self.persons.choose(&mut self.dice).unwrap();
        self.edits += 1;
        let number = 100 + self.edits % 3;
        let text = observation(person, number, &format!("edit {}", self.edits));
        self.world.sandbox.put(person, Some(&format!("Observation/edit-{person}-{number}")), &text);
    }

    fn rows(&self) -> BTreeMap<&'static str, BTreeMap<String, String>> {
        if !self.world.warehouse().exists() {
            return BTreeMap::new();
        }
        self.persons.iter().map(|person| (*person, self.world.rows(person))).collect()
    }

    /// A cycle, in an outage, cut off by a kill, or neither.
    fn step(&mut self) {
        self.change();
        let before = self.rows();
        let is_outage = self.dice.random_bool(0.3);
        if is_outage {
            let outage = *OUTAGES.choose(&mut self.dice).unwrap();
            self.said.push(format!("outage: {outage}"));
            self.world.fault(&format!("{outage}, at = 'consents'"));
        }
        let is_killed = self.dice.random_bool(0.25);
        let mut is_dry = false;
        if is_killed {
            self.kill();
        } else {
            let dry = self.dice.random_bool(0.2);
            is_dry = dry;
            let ran = if dry { self.world.run(["sync", "--dry-run"]) } else { self.world.run(["sync"]) };
            self.said.push(format!("sync (dry: {dry}): exit {}", ran.code));
            assert!([0, 3].contains(&ran.code), "{ran}\n{}", self.story());
            if dry {
                assert_eq!(self.rows(), before, "a dry run has written\n{}", self.story());
            }
        }
        self.world.sandbox.clear_script();
        self.assert_safe(&before, is_outage);
        if is_killed {
            let may_be_purged = |(_, stand): &(&&str, &Stand)| stand.may_be_purged(is_outage);
            self.owed.extend(self.stands.iter().filter(may_be_purged).map(|(person, _)| *person));
        } else if !is_dry {
            self.owed.clear();
        }
    }

    /// Kills a cycle after so many requests, or at its end.
    fn kill(&mut self) {
        let requests = self.dice.random_range(1..8);
        self.said.push(format!("killed after {requests} requests"));
        self.world.sandbox.clear_requests();
        let mut running = self.world.start(["sync"]);
        let deadline = Instant::now() + crate::world::DEADLINE;
        while !running.has_ended() && self.world.sandbox.requests().len() < requests {
            assert!(Instant::now() < deadline, "{}", self.story());
            std::thread::yield_now();
        }
        running.kill();
    }

    fn assert_safe(&self, before: &BTreeMap<&'static str, BTreeMap<String, String>>, is_outage: bool) {
        let after = self.rows();
        for (person, stand) in &self.stands {
            let (Some(before), Some(after)) = (before.get(person), after.get(person)) else { continue };
            let has_lost = !before.is_empty() && after.is_empty();
            let may_lose =
                stand.may_be_purged(is_outage) || self.owed.contains(person) && self.is_carried_out(person);
            assert!(!has_lost || may_lose, "{person} has lost all as {stand:?}\n{}", self.story());
            let is_pulled = before != after && !after.is_empty();
            let may_be_pulled =
                stand.permitted && (is_outage || matches!(stand.says, Says::Consented | Says::Nothing));
            assert!(!is_pulled || may_be_pulled, "{person} was pulled as {stand:?}\n{}", self.story());
        }
    }

    /// Returns whether a purge of the ledger was done that the warehouse did not know.
    fn is_carried_out(&self, person: &str) -> bool {
        let carried_out = "SELECT count(*) FROM purge_log WHERE carried_out_at IS NOT NULL AND person_id";
        self.world.count(&format!("{carried_out} = '{person}'")) > 0
    }

    /// Two cycles without an outage show where everybody stands.
    fn assert_comes_to_rest(&self) {
        for _ in 0..2 {
            self.world.run(["sync"]);
        }
        for (person, stand) in &self.stands {
            match (stand.says, stand.permitted) {
                (Says::Consented, true) => self.world.assert_equals_sandbox(person),
                (Says::Withdrawn | Says::Expired, false) => {
                    assert_eq!(self.world.rows_anywhere(person), 0, "{person}\n{}", self.story());
                }
                (Says::Consented, false) => {
                    let held = self.world.checkpoint(person, "held_why");
                    assert_eq!(held.as_deref(), Some("contradicted"), "{person}\n{}", self.story());
                }
                _ => {}
            }
        }
        self.world.assert_sound();
    }

    fn story(&self) -> String {
        self.said.join("\n")
    }
}

#[test]
fn a_life_of_consents_ends_as_the_records_say() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = variable("HEALTHEX_SYNC_WALK_SECONDS").unwrap_or(SECONDS);
    let ends = Instant::now() + Duration::from_secs(seconds);
    let mut seed = variable("HEALTHEX_SYNC_WALK_SEED").unwrap_or_else(rand::random);
    loop {
        eprintln!("HEALTHEX_SYNC_WALK_SEED={seed}");
        let mut life = Life::begin(seed);
        for _ in 0..STEPS {
            life.step();
        }
        life.assert_comes_to_rest();
        if Instant::now() > ends {
            return;
        }
        seed = seed.wrapping_add(1);
    }
}

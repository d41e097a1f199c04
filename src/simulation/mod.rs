//! The whole program in simulated time: a year in minutes, from one seed.
//!
//! The daemon that runs is the real one, with the real cycle, the real client and a real SQLite file.
//! Only what it takes from the machine is simulated: time, sleep and chance (`clock`, `machine`), the
//! network (`healthex::door`), and the writer's thread. Built for tests alone.
//!
//! ```text
//! script ─→ world ─→ life        what happens (`happenings`), to whom, and the daemon to which it happens
//!   │         ├─→ operators      commands that are typed beside the daemon
//!   │         ├─→ people, records what the server truly holds of each patient, and its consent record
//!   │         ├─→ look ─→ truths, sweeps, refusals, by_records, by_hand   what is always true, judged from outside
//!   │         ╰─→ stage          what the daemon is given in the machine's place
//!   │               ╰─→ network ─→ weather       the sandbox's answers, and what befalls them
//!   ╰─→ story                    a failing script, made small and told
//! ```
//!
//! A year of fifty patients at `*/15` takes some five minutes of one processor in release. After each cycle all patients are looked
//! at; their rows are counted by turns, and `verify` runs once a day.
//!
//! `HEALTHEX_SYNC_SIMULATION_SECONDS` makes it longer, `…_SEED` repeats one world (with seconds: begins with it), and `…_PATIENTS`,
//! `…_DAYS` and `…_EVERY` (minutes) say what a world is to be like; `…_LOG` prints what the program logs.

mod by_hand;
mod by_records;
mod happenings;
mod heard;
mod ledger;
mod life;
mod log;
mod look;
mod moment;
pub(crate) mod network;
mod operators;
mod people;
mod readings;
mod records;
mod refusals;
mod run;
mod script;
pub(crate) mod stage;
mod story;
mod sweeps;
mod truths;
mod weather;
mod wording;
mod world;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use rand::Rng;

use self::run::run;
use self::script::{Script, script};
use self::story::{shrink, tell};
use crate::clock::Instant;

/// How long `cargo test` looks for what is untrue.
const SECONDS: u64 = 12;
/// About so many are in a world whose days nobody says.
const PULLS: u64 = 3000;
/// How long a world that fails is made smaller.
const SHRINKING_SECONDS: u64 = 60;

fn variable(name: &str) -> Option<u64> {
    std::env::var(format!("HEALTHEX_SYNC_SIMULATION_{name}")).ok()?.parse().ok()
}

/// Says a line to whoever runs the tests with `--nocapture`.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Where worlds are: in memory, where that is to be had.
fn roots() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// Makes up a world for a seed, of the size that is asked for.
fn some_script(seed: u64) -> Script {
    let patients = variable("PATIENTS").unwrap_or(2 + seed % 7);
    let every = variable("EVERY").unwrap_or([60, 15, 360][(seed % 3) as usize]);
    let pulls_a_day = patients * 24 * 60 / every;
    let days = variable("DAYS").unwrap_or((PULLS / pulls_a_day).clamp(4, 30));
    let number = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    script(seed, usize::try_from(patients).unwrap_or(1), number(days), number(every))
}

#[test]
fn whatever_happens_what_is_promised_stays_true() {
    let given = variable("SEED");
    // One seed is one world, unless more time is given.
    let default = if given.is_some() { 0 } else { SECONDS };
    let ends = Instant::now() + Duration::from_secs(variable("SECONDS").unwrap_or(default));
    // Whoever lets it look for longer wants to see other worlds than yesterday's.
    let first = || variable("SECONDS").map_or(3, |_| rand::rng().random_range(0..1_000_000_000));
    let mut seed = given.unwrap_or_else(first);
    let (mut worlds, mut days) = (0, 0);
    while worlds == 0 || Instant::now() < ends {
        let script = some_script(seed);
        let ran = run(&script, &roots());
        if let Some(failed) = ran.failed {
            let (log, shows) = (failed.log.join("\n"), tell(&script, &failed));
            let patience = Duration::from_secs(variable("SHRINKING").unwrap_or(SHRINKING_SECONDS));
            let (small, failed) = shrink(script, failed, patience, &roots());
            panic!(
                "\n{log}\n\nafter {worlds} worlds and {days} days:\n{shows}\nmade small:\n{}\n\
                 again: HEALTHEX_SYNC_SIMULATION_SEED={seed} cargo test --lib simulation",
                tell(&small, &failed)
            );
        }
        (worlds, days, seed) = (worlds + 1, days + script.days, seed + 1);
    }
    say(&format!("{worlds} worlds, {days} days"));
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_last_line() {
    let script = script(7, 3, 5, 60);
    let (first, second) = (run(&script, &roots()), run(&script, &roots()));
    say(&format!("the log of both has the hash {:016x}, of {} lines", first.log.0, first.log.1));
    assert_eq!(first.log, second.log);
    assert!(first.log.1 > 500, "{} lines", first.log.1);
}

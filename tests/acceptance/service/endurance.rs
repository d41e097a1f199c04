//! A day in fast motion: what must stay flat stays flat, nothing is lost, and no kill does harm.
//!
//! `HEALTHEX_SYNC_ENDURANCE=3600` makes the day so many seconds long, and the kills as many more.

use std::fs;
use std::io::Write;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::world;
use crate::world::{Daemon, World};

const PATIENTS: usize = 8;
/// How long it is watched at least; after this many cycles all that is kept has been filled.
const DAY: Duration = Duration::from_secs(10);
const WARM_UP_CYCLES: u64 = 4;
const KILLS: u64 = 24;

/// The allocator's arenas and SQLite's cache settle at their own pace.
const RESIDENT_GROWTH_MAX: u64 = 8 * 1024 * 1024;
/// What `journal_size_limit` leaves.
const WAL_MAX: u64 = 64 * 1024 * 1024;
/// One look at `/metrics`, one reload, one connection to HealthEx for each that is pulled.
const FILES_MAX: u64 = 40;

fn seconds_asked_for() -> Option<u64> {
    std::env::var("HEALTHEX_SYNC_ENDURANCE").ok()?.parse().ok()
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn open_files(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64
}

fn tell(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// Changes one resource of one patient.
fn change(world: &World, number: u64) {
    let person = format!("sandbox-{:04}", 1 + number % PATIENTS as u64);
    let note = format!(
        r#"{{"resourceType":"Observation","id":"endurance","status":"final","valueInteger":{number}}}"#
    );
    world.sandbox.put(&person, Some("Observation/endurance"), &note);
}

/// All cycles, however they ended, and the ticks that were left out.
fn ticks(daemon: &Daemon) -> (u64, u64) {
    let metrics = daemon.get("/metrics").body;
    let sum = |name: &str| {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    };
    (sum("healthex_sync_cycles_total{"), sum("healthex_sync_ticks_skipped_total "))
}

#[track_caller]
fn assert_equals_sandbox(world: &World) {
    for person in world.sandbox.person_ids() {
        world.assert_equals_sandbox(&person);
    }
}

#[test]
fn a_day_in_fast_motion_grows_nothing_loses_no_tick_and_heals_alone() {
    let world = world(PATIENTS, "every 1s");
    let daemon = world.daemon();
    let begun = Instant::now();
    daemon.waits("it to be warm", || (ticks(&daemon).0 >= WARM_UP_CYCLES).then_some(()));
    let (resident_at_first, files_at_first) = (resident(daemon.pid()), open_files(daemon.pid()));
    let (mut resident_max, mut files_max, mut wal_max) = (0, 0, 0);
    let day = seconds_asked_for().map_or(DAY, Duration::from_secs);
    let mut cycles_seen = ticks(&daemon).0;
    while begun.elapsed() < day {
        // A look, a change and now and then a reload for each cycle, as in a year of operation.
        cycles_seen =
            daemon.waits("another cycle", || Some(ticks(&daemon).0).filter(|now| *now > cycles_seen));
        change(&world, cycles_seen);
        daemon.get("/");
        if cycles_seen.is_multiple_of(5) {
            daemon.hang_up();
        }
        world.sandbox.clear_requests();
        resident_max = resident_max.max(resident(daemon.pid()));
        files_max = files_max.max(open_files(daemon.pid()));
        wal_max = wal_max.max(fs::metadata(world.path("data/warehouse.db-wal")).map_or(0, |wal| wal.len()));
        if cycles_seen.is_multiple_of(60) {
            let (resident, files) = (resident(daemon.pid()) / 1024, open_files(daemon.pid()));
            tell(&format!("{cycles_seen} cycles: {resident} KiB resident, {files} files, WAL {wal_max}"));
        }
    }
    let (cycles, skipped) = ticks(&daemon);
    let elapsed = begun.elapsed().as_secs();
    tell(&format!(
        "{cycles} cycles and {skipped} skipped in {elapsed} s; resident {} then at most {} KiB; files {files_at_first} then at most {files_max}; WAL at most {wal_max}",
        resident_at_first / 1024,
        resident_max / 1024
    ));
    assert!(resident_max < resident_at_first + RESIDENT_GROWTH_MAX);
    assert!(files_max < FILES_MAX && wal_max <= WAL_MAX);
    // The first cycle comes before the first tick; the tick at hand may be counted or not.
    assert!((cycles + skipped).abs_diff(elapsed + 1) <= 2, "{cycles} + {skipped} ticks in {elapsed} s");

    world.fault("kind = 'accept_and_close'");
    daemon.says("HealthEx answers nobody");
    daemon.is_unwell();
    change(&world, cycles_seen + 1);
    world.sandbox.clear_script();
    daemon.is_healthy();
    daemon.stops();
    assert_equals_sandbox(&world);
}

#[test]
fn killed_at_random_and_started_again_it_loses_nothing() {
    let seed = rand::random();
    tell(&format!("seed {seed}"));
    let mut chance = StdRng::seed_from_u64(seed);
    // Always a full pull with pages to be killed between.
    let world = world(PATIENTS, "every 1s").set("sync.page_size", "20").set("sync.full_every", r#""1s""#);
    for kill in 0..KILLS + seconds_asked_for().unwrap_or(0) {
        change(&world, kill);
        world.sandbox.clear_requests();
        let daemon = world.daemon();
        let requests = chance.random_range(1..40);
        daemon.waits("some requests", || (world.sandbox.requests().len() >= requests).then_some(()));
        daemon.kill();
    }
    world.run(["sync"]).exits(0);
    world.assert_sound();
    assert_equals_sandbox(&world);
}

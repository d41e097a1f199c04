//! How much memory a sync takes, whatever the server sends.

use std::fs;
use std::thread;
use std::time::Duration;

use healthex_sync::sandbox::{Population, RecordEntry};

use crate::world::World;

const MIB: usize = 1024 * 1024;
/// Just below the largest that is stored.
const LARGE: usize = 62 * MIB;
/// A process that is let grow without a bound takes three times as much for the same.
const RESIDENT_MAX: usize = 300 * MIB;

/// A document as they are: a few elements, and one that is a scan.
fn large_document(person: &str) -> RecordEntry {
    let data = "QUJD".repeat(LARGE / 4);
    let resource = format!(
        r#"{{"resourceType":"DocumentReference","id":"large","status":"current","subject":{{"reference":"Patient/p-{person}"}},"content":[{{"attachment":{{"contentType":"application/pdf","data":"{data}"}}}}]}}"#
    );
    RecordEntry::new(&format!("DocumentReference/large-{person}"), &resource)
}

#[test]
fn four_of_the_largest_resources_at_once_fit_into_300_mib() {
    let persons = ["anna", "ben", "cleo", "dan"];
    let mut population = Population::empty();
    for person in persons {
        population.add_person(person, vec![large_document(person)]);
    }
    let world = World::serving(population)
        .set("sync.concurrency", "4")
        .set("api.idle_timeout", r#""60s""#)
        .set("api.page_timeout", r#""5m""#);
    let mut sync = world.start(["sync"]);
    let mut most = 0;
    while !sync.has_ended() {
        most = most.max(resident_at_most(sync.pid()));
        thread::sleep(Duration::from_millis(2));
    }
    sync.ended().exits(0).says("4 ok");
    assert_eq!(world.count("SELECT count(*) FROM document_reference WHERE length(resource) > 60000000"), 4);
    assert!(100 * MIB < most && most < RESIDENT_MAX, "{} MiB", most / MIB);
}

/// The most that a process has had in memory since its start; 0 once it has ended.
fn resident_at_most(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kib.unwrap_or_default() * 1024
}

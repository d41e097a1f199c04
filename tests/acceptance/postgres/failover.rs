//! A standby that is made the primary: what was acknowledged and had not come to it is noticed, told, and repeated.

use healthex_sync::sandbox::Population;
use rustix::process::Signal;

use super::database::Database;
use super::sync::assert_equals_sandbox;
use super::workers::start;
use crate::world::{Ran, Running, World, record, wait_until};

/// A primary with a warehouse in it and a standby that follows, which the program knows both of.
struct Pair {
    primary: Database,
    standby: Database,
}

impl Pair {
    fn of(world: &World) -> Option<Self> {
        let primary = Database::on_a_server_of_its_own()?;
        primary.migrate(world, &[]).exits(0);
        let standby = primary.on_a_standby();
        let pair = Self { primary, standby };
        let url = format!(
            "postgres://healthex_worker@127.0.0.1:{},127.0.0.1:{}/postgres?target_session_attrs=read-write",
            pair.primary.cluster.port, pair.standby.cluster.port
        );
        world.remove_setting("warehouse.path");
        world.change_setting("warehouse.url", &format!("{url:?}"));
        Some(pair)
    }

    /// Waits until the standby has all that the primary has written.
    fn catch_up(&self) {
        let written = self.primary.ask("SELECT pg_current_wal_lsn()").unwrap();
        let has_replayed = format!("SELECT (pg_last_wal_replay_lsn() >= '{written}')::int");
        wait_until("the standby has replayed all", || self.standby.count(&has_replayed) == 1);
    }

    /// From now on nothing comes to the standby any more, and no commit waits for it.
    fn cut(&self) {
        self.standby.exec("ALTER SYSTEM SET primary_conninfo = ''");
        self.standby.exec("SELECT pg_reload_conf()");
        let receivers = "SELECT count(*) FROM pg_stat_wal_receiver";
        wait_until("the standby receives nothing", || self.standby.count(receivers) == 0);
    }

    fn fail_over(&self) {
        self.primary.cluster.crash();
        self.standby.cluster.promote();
    }
}

fn rows_anywhere(database: &Database, person: &str) -> i64 {
    let tables = database.tables_with("person_id").into_iter();
    let tables = tables
        .filter(|table| !matches!(table.as_str(), "checkpoint" | "purge_log" | "pull" | "roster" | "turn"));
    let each = tables.map(|table| {
        format!("SELECT count(*) AS rows FROM healthex.\"{table}\" WHERE person_id = '{person}'")
    });
    let each = each.collect::<Vec<_>>().join(" UNION ALL ");
    database.count(&format!("SELECT sum(rows)::bigint FROM ({each}) AS each_table"))
}

#[test]
fn a_failover_under_a_cycle_is_noticed_by_that_cycle() {
    let world = World::with_patients(["anna", "ben"]).set("api.page_timeout", r#""60s""#);
    let Some(pair) = Pair::of(&world) else { return };
    world.run(["sync"]).exits(0);
    world.fault("kind = 'slow_drip', person = 'ben', bytes = 200, interval_ms = 250");
    let asked = world.asked("ben").len();
    let cycle = world.start(["sync", "--full"]);
    wait_until("ben is asked for", || world.asked("ben").len() > asked);
    cycle.signal(Signal::STOP);
    pair.catch_up();
    pair.cut();
    world.run(["purge", "anna", "--yes"]).exits(0);
    assert_ne!(rows_anywhere(&pair.standby, "anna"), 0);
    pair.fail_over();
    cycle.signal(Signal::CONT);
    let ran = cycle.ended().exits(0).says("failed over to a standby");
    let ran = ran.says("which this warehouse did not know");
    assert_eq!(rows_anywhere(&pair.standby, "anna"), 0, "{ran}");
    assert_eq!(pair.standby.count("SELECT count(*) FROM healthex.purge_log"), 1);
    assert_equals_sandbox(&world, &pair.standby, "ben");
}

#[test]
fn purges_that_a_failover_has_lost_are_repeated_and_everyone_is_asked() {
    let world = World::with_patients(["anna", "ben", "carl", "dora"]);
    let Some(pair) = Pair::of(&world) else { return };
    world.run(["sync"]).exits(0);
    world.sandbox.remove_person("carl");
    world.run(["sync"]).exits(3);
    pair.catch_up();
    pair.cut();
    world.run(["purge", "anna", "--yes"]).exits(0);
    world.sandbox.withdraw("dora");
    world.run(["sync"]).exits(3).says("1 revoked");
    for gone in ["anna", "dora"] {
        assert_eq!(rows_anywhere(&pair.primary, gone), 0);
        assert_ne!(rows_anywhere(&pair.standby, gone), 0);
    }
    assert_eq!(pair.primary.ask("SELECT count(*) FROM healthex.about WHERE name = 'failover'").unwrap(), "0");
    pair.fail_over();

    // It looks and changes nothing, so what it says is not noted either.
    world.run(["audit", "--verify"]).exits(0).says("has 2 purges that the warehouse does not know");
    world.sandbox.clear_requests();
    let ran = world.run(["sync"]).exits(3);
    let ran = ran.says("failed over to a standby").says("(timeline 2 after 1)").says("may be lost");
    assert_eq!(ran.stderr.matches("which this warehouse did not know").count(), 2, "{ran}");
    for gone in ["anna", "dora"] {
        assert_eq!(rows_anywhere(&pair.standby, gone), 0);
    }
    let state = |person: &str| {
        pair.standby
            .ask(&format!("SELECT state FROM healthex.checkpoint WHERE person_id = '{person}'"))
            .unwrap()
    };
    assert_eq!((state("anna").as_str(), state("dora").as_str()), ("paused", "revoked"));
    assert_eq!(pair.standby.count("SELECT count(*) FROM healthex.purge_log"), 2);
    // Who is not known to HealthEx is asked once a day else.
    assert_eq!((world.asked("carl").len(), world.asked("ben").len()), (1, 1));
    world.run(["audit", "--verify"]).exits(0).says("the ledger is whole: 2 purges");
    let status = world.run(["status"]).exits(0);
    status.says("failover, noticed at").says("everyone has been asked for consent since");

    world.sandbox.clear_requests();
    world.run(["sync"]).exits(3).says_nothing_of("failed over");
    assert_eq!((world.asked("carl").len(), world.asked("ben").len()), (0, 1));
    let told = world.run(["status", "--json"]).json();
    assert_eq!(told["failover"]["everyone_asked"], true, "{told}");
}

fn run_as(world: &World, name: &str, args: &[&str]) -> Ran {
    start(world, name, args).ended()
}

#[test]
fn what_workers_held_when_a_failover_took_it_back_is_pulled_once_more() {
    let persons: Vec<String> = (0..16).map(|number| format!("p{number:02}")).collect();
    let mut population = Population::empty();
    for person in &persons {
        population.add_person(person, record(person, 4));
    }
    let world = World::serving(population).set("sync.concurrency", "2").set("warehouse.lease", r#""10s""#);
    let Some(pair) = Pair::of(&world) else { return };
    world.fault("kind = 'slow_drip', bytes = 2000, interval_ms = 100, times = 1000");
    let pulled =
        || pair.primary.count("SELECT count(*) FROM healthex.checkpoint WHERE last_success_at IS NOT NULL");
    let one = start(&world, "one", &["sync"]);
    wait_until("one of them has pulled", || pulled() > 0);
    let two = start(&world, "two", &["sync"]);
    pair.cut();
    let before = pulled();
    wait_until("more is pulled than the standby knows of", || pulled() > before + 1);
    pair.fail_over();
    let mut ran = Vec::from([one, two].map(Running::ended));
    for worker in &ran {
        assert!(matches!(worker.code, 0 | 3 | 5), "{worker}");
    }
    world.sandbox.clear_script();
    ran.push(run_as(&world, "three", &["sync"]).exits(0).says("16 ok"));
    // Whoever comes first to the new server tells of it.
    let told = ran.iter().filter(|ran| ran.stderr.contains("failed over to a standby")).count();
    assert_eq!(told, 1, "{ran:?}");
    for person in &persons {
        assert_equals_sandbox(&world, &pair.standby, person);
    }
    let left = "SELECT count(*) FROM healthex.checkpoint WHERE owner IS NOT NULL OR pull_mode IS NOT NULL";
    assert_eq!(pair.standby.count(left), 0);
    let twice = "SELECT count(*) FROM healthex.pull WHERE finished_at IS NULL";
    assert_eq!(pair.standby.count(twice), 0);
    run_as(&world, "one", &["verify"]).exits(0);
}

#[test]
fn each_worker_repeats_the_purges_of_its_own_ledger() {
    let world = World::with_patients(["anna", "ben", "cora"]);
    let Some(pair) = Pair::of(&world) else { return };
    let one = |args: &[&str]| run_as(&world, "one", args);
    let two = |args: &[&str]| run_as(&world, "two", args);
    one(&["sync"]).exits(0);
    two(&["sync"]).exits(0);
    pair.catch_up();
    pair.cut();
    one(&["purge", "anna", "--yes"]).exits(0);
    two(&["purge", "ben", "--yes"]).exits(0);
    pair.fail_over();
    let ran = one(&["sync"]).exits(0).says("failed over to a standby");
    assert_eq!(ran.stderr.matches("which this warehouse did not know").count(), 1, "{ran}");
    assert_eq!(rows_anywhere(&pair.standby, "anna"), 0);
    assert_ne!(rows_anywhere(&pair.standby, "ben"), 0, "nobody but the other worker knows of it");
    let ran = two(&["sync"]).exits(0).says_nothing_of("failed over");
    assert_eq!(ran.stderr.matches("which this warehouse did not know").count(), 1, "{ran}");
    assert_eq!(rows_anywhere(&pair.standby, "ben"), 0);
    assert_ne!(rows_anywhere(&pair.standby, "cora"), 0);
    for ran in [one(&["sync"]), two(&["sync"])] {
        ran.exits(0).says_nothing_of("did not know");
    }
}

#[test]
fn until_a_cycle_gets_through_everyone_is_still_to_be_asked() {
    let world = World::with_patients(["anna", "ben"]);
    let Some(pair) = Pair::of(&world) else { return };
    world.sandbox.remove_person("ben");
    world.run(["sync"]).exits(3);
    pair.catch_up();
    pair.fail_over();
    world.sandbox.reject_credentials(true);
    world.run(["sync"]).exits(4).says("failed over");
    world.run(["sync"]).exits(4).says_nothing_of("failed over");
    let told = world.run(["status", "--json"]).json();
    assert_eq!(told["failover"]["everyone_asked"], false, "{told}");
    world.run(["status"]).says("the next cycle asks everyone for consent");
    world.sandbox.reject_credentials(false);
    // Some are not everyone.
    world.run(["sync", "--patient", "anna"]).exits(0);
    world.sandbox.clear_requests();
    world.run(["sync", "--dry-run"]);
    assert_eq!(world.asked("ben").len(), 1);
    world.run(["sync"]).exits(3);
    assert_eq!(world.asked("ben").len(), 2);
    world.run(["sync"]).exits(3);
    assert_eq!(world.asked("ben").len(), 2);
    world.run(["status"]).says("everyone has been asked for consent since");
}

#[test]
fn a_daemon_tells_of_a_failover_once() {
    let world = World::for_daemons(2);
    let command = r#"["sh", "-c", "echo $HEALTHEX_SYNC_PROBLEM $HEALTHEX_SYNC_ALERT >> \"$0\"", "ALERTS"]"#;
    let alerts = world.path("alerts");
    let command = command.replace("ALERTS", alerts.to_str().unwrap());
    let world = world.set("sync.schedule", r#""every 1s""#).set("alert.command", &command);
    let Some(pair) = Pair::of(&world) else { return };
    world.run(["check"]).says("1 connected, and a commit waits for none").says("noticed by the timeline");
    pair.primary.exec("ALTER SYSTEM SET synchronous_standby_names = '*'");
    pair.primary.exec("SELECT pg_reload_conf()");
    let waits = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    wait_until("a commit waits for the standby", || pair.primary.count(waits) == 1);
    world.run(["check"]).says("a commit waits for *: a failover to it loses no purge");
    let daemon = world.daemon();
    daemon.is_healthy();
    pair.fail_over();
    daemon.says("failed over to a standby");
    let told = || std::fs::read_to_string(&alerts).unwrap_or_default();
    daemon.waits("an alert", || told().contains("failover event").then_some(()));
    let cycles = "healthex_sync_cycles_total{outcome=\"good\"}";
    let before = daemon.shows(cycles, |_| true);
    daemon.shows(cycles, |cycles| cycles > before + 1);
    assert_eq!(told().matches("failover").count(), 1, "{}", told());
    assert!(daemon.get("/").body.contains("Another server"));
    daemon.stops();
}

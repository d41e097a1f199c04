//! Workers whose roster files disagree: the newest counts, an old copy purges nobody, and going back is ordered.

use super::database::Database;
use crate::world::{Ran, Running, World, binary};

/// A worker with files of its own beside those of the world, over the same warehouse.
struct Other<'w> {
    world: &'w World,
    folder: String,
}

impl<'w> Other<'w> {
    fn of(world: &'w World, name: &str, persons: &[&str]) -> Self {
        let other = Self { world, folder: name.to_owned() };
        world.write(&other.file("healthex-sync.toml"), &world.settings_text());
        for key in ["api-key", "api-secret"] {
            let text = std::fs::read_to_string(world.path(key)).unwrap();
            world.write_private(&other.file(key), &text);
        }
        other.list(persons);
        other
    }

    /// Without any file.
    fn without_files(world: &'w World, name: &str) -> Self {
        let other = Self::of(world, name, &["nobody"]);
        other.set("roster.files", "[]");
        other
    }

    fn set(&self, key: &str, value: &str) {
        let text = self.world.settings_text();
        let others: String =
            text.lines().filter(|line| !line.starts_with(key)).flat_map(|line| [line, "\n"]).collect();
        self.world.write(&self.file("healthex-sync.toml"), &format!("{others}{key} = {value}\n"));
    }

    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.folder)
    }

    fn list(&self, persons: &[&str]) {
        let lines: Vec<String> = persons.iter().map(|id| format!("[[patient]]\nid = \"{id}\"\n")).collect();
        self.world.write(&self.file("roster.toml"), &lines.join("\n"));
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut command = binary();
        command.arg("--config").arg(self.world.path(&self.file("healthex-sync.toml"))).args(args);
        Running::start(&mut command).ended()
    }
}

/// A world whose leavers go at once, and its warehouse.
fn purging<const N: usize>(persons: [&str; N], listed: &[&str]) -> Option<(World, Database)> {
    let world = World::with_patients(persons)
        .set("roster.on_removed", r#""purge""#)
        .set("roster.removed_after", r#""0s""#);
    world.list(listed);
    let database = Database::of(&world)?;
    Some((world, database))
}

const OLD: &str = "the roster files here are an old copy: another roster, of 3 patients, took their place at";

#[test]
fn an_old_copy_of_a_roster_purges_nobody_however_often_it_is_read() {
    let Some((world, database)) = purging(["anna", "ben", "cora"], &["anna", "ben"]) else { return };
    world.run(["sync"]).exits(0);
    let other = Other::of(&world, "other", &["anna", "ben", "cora"]);
    other.run(&["sync"]).exits(0);
    assert!(!database.live_rows("cora").is_empty());

    for _ in 0..4 {
        world.sandbox.clear_requests();
        let ran = world.run(["sync"]).exits(3).says(OLD);
        ran.says("patients   3: 3 ok");
        assert_eq!(world.asked("cora").len(), 1, "it is worked on by the newest");
    }
    assert_eq!(database.count("SELECT count(*) FROM healthex.purge_log"), 0);
    assert_eq!(database.count("SELECT count(*) FROM healthex.checkpoint WHERE missing_since IS NOT NULL"), 0);
    world.run(["sync", "--dry-run"]).exits(3).says("patients   3: 3 ok");
    world.run(["status"]).exits(0).says("roster: the roster files here are an old copy");
    let told = world.run(["status", "--json"]).json();
    assert!(told["roster_fault"].as_str().unwrap().starts_with(OLD), "{told}");
    world.run(["check", "--offline"]).says("FAILED  roster").says(OLD).says("3 in step");
    world.run(["roster"]).exits(3).says("cora").says("3 patients");
    world.run(["sync", "--patient", "cora"]).exits(3).says("1 ok");
    other.run(&["status"]).exits(0).says_nothing_of("old copy");
    assert_eq!(other.run(&["status", "--json"]).json()["roster_fault"], serde_json::Value::Null);

    // Brought up to date, in another order.
    world.list(&["cora", "ben", "anna"]);
    world.run(["sync"]).exits(0).says_nothing_of("old copy");
}

#[test]
fn who_is_not_on_the_newest_roster_goes_whichever_worker_reads_it() {
    let Some((world, database)) = purging(["anna", "ben", "cora"], &["anna", "ben"]) else { return };
    world.run(["sync"]).exits(0);
    let other = Other::of(&world, "other", &["anna", "cora"]);
    other.run(&["sync"]).exits(0);
    assert_eq!(database.count("SELECT count(*) FROM healthex.purge_log"), 0);
    world.run(["sync"]).exits(3).says("ben was purged");
    assert!(database.live_rows("ben").is_empty());
    assert!(!database.live_rows("cora").is_empty());
    let left = "SELECT reason FROM healthex.purge_log WHERE person_id = 'ben'";
    assert_eq!(database.ask(left).as_deref(), Some("roster"));
    // What is left of the purged is what was before there were rosters in the warehouse.
    assert_eq!(database.count("SELECT count(*) FROM healthex.roster WHERE person_id = 'ben'"), 0);
}

#[test]
fn publishing_goes_back_to_an_earlier_roster() {
    let Some((world, database)) = purging(["anna", "ben", "cora"], &["anna", "ben"]) else { return };
    world.run(["roster", "publish"]).exits(0).says("the roster of 2 patients is in force");
    world.run(["sync"]).exits(0);
    let other = Other::of(&world, "other", &["anna", "ben", "cora"]);
    other.run(&["sync"]).exits(0);
    world.run(["sync"]).exits(3).says(OLD);
    let told = world.run(["roster", "publish"]).exits(0);
    told.says("the roster of 2 patients is in force, in place of 3 patients of");
    world.run(["roster", "publish"]).exits(0).says("is in force already");
    assert_eq!(world.run(["roster", "publish", "--json"]).exits(0).json()["published"], false);
    world.run(["sync"]).exits(0).says_nothing_of("old copy");
    other
        .run(&["sync"])
        .exits(3)
        .says("the roster files here are an old copy: another roster, of 2 patients");
    assert!(database.live_rows("cora").is_empty());
    assert_eq!(database.count("SELECT count(*) FROM healthex.roster_version"), 2);
    let told = other.run(&["roster", "publish", "--json"]).exits(0).json();
    assert_eq!((&told["published"], &told["former"]["patients"]), (&true.into(), &2.into()), "{told}");
}

#[test]
fn a_roster_that_is_changed_back_where_it_was_changed_counts() {
    let Some((world, database)) = purging(["anna", "ben"], &["anna", "ben"]) else { return };
    world.run(["sync"]).exits(0);
    // A mistake, put right.
    for listed in [&["anna"][..], &["anna", "ben"], &["anna"], &["anna", "ben"]] {
        world.list(listed);
        world.run(["sync"]).exits(0).says(&format!("patients   {}: ", listed.len()));
    }
    assert_eq!(database.count("SELECT count(*) FROM healthex.checkpoint WHERE missing_since IS NOT NULL"), 0);
    assert_eq!(database.count("SELECT count(*) FROM healthex.purge_log"), 0);
    // A machine that knows nothing any more, and has old files: whoever put these there is not known.
    world.list(&["anna"]);
    std::fs::remove_file(world.path("healthex-sync.roster")).unwrap();
    for _ in 0..3 {
        world.run(["sync"]).exits(3).says("an old copy").says("patients   2: 2 ok");
    }
    assert_eq!(database.count("SELECT count(*) FROM healthex.purge_log"), 0);
}

#[test]
fn a_worker_without_files_goes_by_the_roster_of_the_others() {
    let Some((world, database)) = purging(["anna", "ben"], &["anna", "ben"]) else { return };
    let other = Other::without_files(&world, "other");
    let none = "no other worker has given the warehouse a roster yet";
    other.run(&["sync"]).exits(2).says(none);
    // It has led nobody: whoever has a roster would have found that there was nothing to do.
    assert_eq!(database.count("SELECT count(*) FROM healthex.shared_cycle"), 0);
    other.run(&["check", "--offline"]).says("FAILED  roster").says(none);
    world.write_roster(
        "[[patient]]\nid = \"anna\"\nlabel = \"one\"\ntypes = [\"Observation\"]\n[[patient]]\nid = \"ben\"\nenabled = false\n",
    );
    world.run(["sync"]).exits(0);
    world.sandbox.clear_requests();
    other.run(&["sync"]).exits(0).says("patients   2: 1 ok, 1 skipped");
    assert!(world.queries("anna").iter().all(|query| query.contains("_type=Observation")));
    other
        .run(&["check", "--offline"])
        .says("ok      roster         2 patients, 1 enabled, from the warehouse");
    other.run(&["sync", "--patient", "one"]).exits(0).says("1 ok");
    other.run(&["sync", "--patient", "cora"]).exits(2).says("the roster does not list it");
    other.run(&["status"]).exits(0).says("disabled: enabled = false in the roster");
    other.run(&["roster", "publish"]).exits(2).says("roster.files names none");
    // Neither files that cannot be read nor a roster that lists nobody.
    world.write_roster("[[patient]]\nid = \"a/b\"\n");
    world.run(["sync"]).exits(2);
    other.run(&["sync"]).exits(0).says("patients   2: 1 ok, 1 skipped");
}

#[test]
fn a_purged_patient_has_no_label_in_the_warehouses_roster_until_it_is_pulled_again() {
    let Some((world, database)) = purging(["anna", "ben"], &["anna", "ben"]) else { return };
    let lines =
        |label: &str| format!("[[patient]]\nid = \"anna\"\nlabel = \"{label}\"\n[[patient]]\nid = \"ben\"\n");
    world.write_roster(&lines("Mondkalb-7"));
    world.run(["sync"]).exits(0);
    let label = || database.ask("SELECT label FROM healthex.roster WHERE person_id = 'anna'");
    assert_eq!(label().as_deref(), Some("Mondkalb-7"));
    world.run(["purge", "anna", "--yes"]).exits(0);
    assert_eq!(label(), None);
    world.run(["sync"]).exits(0).says_nothing_of("old copy");
    let other = Other::without_files(&world, "other");
    other.run(&["sync"]).exits(0);
    // Nor by a roster that is new.
    world.write_roster(&lines("Mondkalb-8"));
    world.run(["sync"]).exits(0);
    assert_eq!(database.count("SELECT count(*) FROM healthex.roster WHERE label LIKE 'Mondkalb%'"), 0);
    world.run(["sync", "--patient", "anna"]).exits(0);
    world.run(["sync"]).exits(0);
    // A worker without files leaves the label that another has given back.
    other.run(&["sync"]).exits(0);
    let known = "SELECT label FROM healthex.checkpoint WHERE person_id = 'anna'";
    assert_eq!(database.ask(known).as_deref(), Some("Mondkalb-8"));
}

#[test]
fn a_file_has_no_roster_to_publish() {
    let world = World::with_patients(["anna"]);
    if !world.is_on_server() {
        world.run(["roster", "publish"]).exits(2).says("a warehouse in a file has one roster");
        world.change_setting("roster.files", "[]");
        world.run(["sync"]).exits(2).says("roster.files");
    }
}

#[test]
fn a_daemon_with_an_old_copy_says_so_and_works_on() {
    let world = World::for_daemons(3).set("sync.schedule", r#""every 1s""#);
    world.list_generated(2);
    let Some(_database) = Database::of(&world) else { return };
    let other = Other::of(&world, "other", &["sandbox-0001", "sandbox-0002", "sandbox-0003"]);
    other.set("http.listen", r#""""#);
    let stale = "healthex_sync_roster_stale";
    let problem = "healthex_sync_problem{problem=\"roster\"}";
    let active = "healthex_sync_patients{state=\"active\"}";
    let daemon = world.daemon();
    daemon.shows(active, |patients| patients == 2);
    daemon.shows(stale, |stale| stale == 0);
    daemon.waits("a cycle beside the daemon's", || (other.run(&["sync"]).code == 0).then_some(()));
    daemon.says("the roster files here are an old copy");
    daemon.shows(stale, |stale| stale == 1);
    daemon.shows(problem, |problem| problem == 1);
    daemon.shows(active, |patients| patients == 3);
    daemon.is_healthy();
    other.list(&["sandbox-0001", "sandbox-0002"]);
    daemon.waits("the other's is changed back", || (other.run(&["sync"]).code == 0).then_some(()));
    // Those of the daemon have labels: they are others still.
    daemon.shows(stale, |stale| stale == 1);
    world.list(&["sandbox-0002", "sandbox-0001"]);
    daemon.shows(stale, |stale| stale == 0);
    daemon.shows(problem, |problem| problem == 0);
    daemon.stops();
}

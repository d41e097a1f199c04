//! The whole program in simulated time: a year in a minute, from one seed.
//!
//! The daemon that runs is the real one, with the real cycle, the real client and a real SQLite file.
//! Only what it takes from the machine is simulated: time, sleep and chance (`clock`, `machine`), the
//! network (`healthex::door`), and the writer's thread. Built for tests alone.
//!
//! ```text
//! life       the daemon, from its start to its end
//! stage      what the program is given in the machine's place
//! network    the sandbox's answers, and the weather between it and the client
//! ```

mod life;
pub(crate) mod network;
pub(crate) mod stage;

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use chrono::DateTime;

use self::network::Network;
use self::stage::Stage;
use crate::clock;
use crate::sandbox::{InProcess, Population};
use crate::stop::Stop;
use crate::warehouse::Reader;

const BASE_URL: &str = "http://healthex.invalid";

fn write_private(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

/// Writes what the daemon is configured by.
fn write_configuration(folder: &Path, persons: &[String]) {
    let [key, secret] = ["api-key", "api-secret"].map(|name| folder.join(name));
    write_private(&key, "sandbox-key");
    write_private(&secret, "sandbox-secret");
    let settings = format!(
        "api.base_url = {BASE_URL:?}\napi.api_key_file = {key:?}\napi.api_secret_file = {secret:?}\n\
         alert.command = [\"told\"]\n"
    );
    fs::write(folder.join("healthex-sync.toml"), settings).unwrap();
    let roster: Vec<String> = persons.iter().map(|id| format!("[[patient]]\nid = {id:?}\n")).collect();
    fs::write(folder.join("roster.toml"), roster.concat()).unwrap();
}

#[test]
fn the_daemon_lives_a_day_in_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let server = InProcess::new(BASE_URL, stage::true_time);
    let population = Population::generated(2, 1);
    let persons = population.person_ids();
    for id in &persons {
        server.add_person(id, population.entries(id).to_vec());
    }
    write_configuration(folder.path(), &persons);
    let begins = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let stage = Stage::new(1, begins, Network { server });
    let _set = stage.set();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let place = life::place(&life::settings(folder.path()));
    runtime.block_on(async {
        stage.life_begins();
        let stop = Stop::default();
        let daemon = life::run(folder.path(), place.clone(), stop.clone());
        tokio::pin!(daemon);
        tokio::select! {
            biased;
            ended = &mut daemon => panic!("{ended:?}"),
            () = clock::sleep(Duration::from_hours(24)) => {}
        }
        stop.gently.cancel();
        daemon.await.unwrap();
        stage.life_ends();
    });
    let lasted = stage.true_time() - begins;
    assert!((24..25).contains(&lasted.num_hours()), "{lasted}");
    assert_eq!(stage.take_told(), []);
    let reader = Reader::open(&place.path).unwrap();
    let status = reader.status().unwrap();
    let all: usize = persons.iter().map(|id| population.entries(id).len()).sum();
    assert_eq!(status.resources.values().sum::<u64>(), all as u64);
}

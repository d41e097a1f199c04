//! The daemon as an operator meets it: real binary, real signals, real sockets.

mod alerts;
mod endurance;
mod honest;
mod hours;
mod monitoring;
mod port;

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::world::{DEADLINE, Running, World, faketime, get, pipe, tool, wait_until};

/// The metric of the cycles that ended well.
const GOOD_CYCLES: &str = "healthex_sync_cycles_total{outcome=\"good\"}";

/// Patients whose cycles come this often: `every 1s`.
fn world(patients: usize, schedule: &str) -> World {
    World::for_daemons(patients).set("sync.schedule", &format!("{schedule:?}"))
}

#[test]
fn systemd_is_told_and_onlookers_see_that_all_is_well() {
    let world = world(3, "every 1s");
    let daemon = world.daemon();
    daemon.tells("READY=1");
    daemon.tells("WATCHDOG=1");
    daemon.shows(GOOD_CYCLES, |cycles| cycles >= 2);
    daemon.tells("STATUS=waiting; last cycle at");
    daemon.is_healthy();

    daemon.shows("healthex_sync_patients{state=\"active\"}", |patients| patients == 3);
    daemon.shows("healthex_sync_requests_total{kind=\"page\",status=\"200\"}", |requests| requests >= 6);
    let metrics = daemon.get("/metrics");
    assert!(metrics.head.to_ascii_lowercase().contains("text/plain; version=0.0.4"), "{}", metrics.head);
    assert!(
        !metrics.body.contains("demo-") && !metrics.body.contains("sandbox-"),
        "a metric names a patient"
    );
    if let Some(promtool) = tool("promtool") {
        let (is_fine, said) = pipe(Command::new(promtool).args(["check", "metrics"]), &metrics.body);
        assert!(is_fine && said.trim().is_empty(), "{said}");
    }

    let page = daemon.get("/").body;
    assert!(page.contains("All is well"), "{page}");
    assert!(
        !page.contains("http://") && !page.contains("<script") && !page.contains("src="),
        "an asset from elsewhere"
    );
    for entry in
        world.sandbox.entries("sandbox-0001").iter().filter(|entry| entry.resource.contains("\"family\""))
    {
        let family = entry
            .resource
            .split("\"family\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap_or("?");
        assert!(!page.contains(family) && !metrics.body.contains(family), "clinical content: {family}");
    }
    assert_eq!(daemon.get("/nothing").status, 404);

    let told = daemon.told();
    assert!(told.iter().any(|line| line.contains("of 3 patients")), "{told:?}");
    daemon.stops();
}

#[test]
fn a_token_keeps_strangers_out_and_a_rebound_name_is_refused() {
    let world = world(1, "every 1s");
    let daemon = world.daemon();
    assert_eq!(get(&daemon.address(), "/healthz", "Host: rebound.example\r\n").status, 421);
    daemon.stops();

    let world = world.with_page_token("letmein");
    let daemon = world.daemon();
    let status = |headers: &str| get(&daemon.address(), "/metrics", headers).status;
    assert_eq!(status(""), 401);
    assert_eq!(status("Authorization: Bearer letmeout\r\n"), 401);
    assert_eq!(status("Authorization: Bearer letmein\r\n"), 200);
    assert_eq!(status("Authorization: Basic YW55OmxldG1laW4=\r\n"), 200);
    // Who starts containers has none: it learns whether all is well, and not why.
    daemon.is_healthy();
    for path in ["/healthz", "/healthz?alive"] {
        let answer = get(&daemon.address(), path, "");
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
        assert!(!daemon.get(path).body.is_empty());
    }
    daemon.stops();
}

#[test]
fn hangup_rereads_settings_and_roster_and_says_what_cannot_change() {
    let world = world(3, "every 7d");
    world.list_generated(2);
    let daemon = world.daemon();
    daemon.shows("healthex_sync_patients{state=\"active\"}", |patients| patients == 2);

    world.change_setting("sync.schedule", r#""never mind""#);
    daemon.hang_up();
    daemon.says("the old one is kept");
    daemon.tells("RELOADING=1");

    world.list_generated(3);
    world.change_setting("sync.schedule", r#""every 1s""#);
    world.change_setting("log.level", r#""debug""#);
    daemon.hang_up();
    daemon.says("in force only after a restart: log.level");
    daemon.shows("healthex_sync_patients{state=\"active\"}", |patients| patients == 3);

    world.write_roster("[[patient]]\nid = \"..\"\n");
    daemon.says("the last good one is kept");
    daemon.shows("healthex_sync_problem{problem=\"roster\"}", |problem| problem == 1);
    daemon.is_healthy();
    world.list_generated(3);
    daemon.shows("healthex_sync_problem{problem=\"roster\"}", |problem| problem == 0);
    daemon.stops();
}

#[test]
fn credentials_are_waited_for_and_a_person_is_told_once() {
    let world = world(1, "every 1s");
    fs::remove_file(world.path("api-secret")).unwrap();
    let script = format!("echo \"$1 ${{HEALTHEX_API_SECRET-none}}\" >> {}", world.path("alerts").display());
    alert_by(&world, &script);
    let daemon = world.daemon();
    daemon.tells("READY=1");
    daemon.says("no credentials, so nothing is pulled");
    assert!(daemon.is_unwell().contains("no cycle has ended well yet"));
    world.write_keys();
    daemon.is_healthy();

    let alerts = || fs::read_to_string(world.path("alerts")).unwrap_or_default();
    let told =
        |count: usize, what: &str| daemon.waits(what, || (alerts().lines().count() == count).then(alerts));
    assert!(told(2, "an alert and its end").lines().next().unwrap().contains("no credentials"));
    world.sandbox.reject_credentials(true);
    world.sandbox.expire_tokens();
    told(3, "an alert about refused credentials");
    daemon.shows("healthex_sync_cycles_total{outcome=\"bad\"}", |cycles| cycles >= 4);
    world.sandbox.reject_credentials(false);
    let alerts = told(4, "the end of the refusal");
    assert!(
        alerts.lines().last().unwrap().contains("over: the credentials are accepted again none"),
        "{alerts}"
    );
    daemon.stops();
}

/// Has `sh` run this script at each alert.
fn alert_by(world: &World, script: &str) {
    world.change_setting("alert.command", &format!("[\"sh\", \"-c\", '''{script}''', \"alert\"]"));
}

#[test]
fn an_alert_command_that_hangs_holds_up_neither_cycles_nor_the_end() {
    let world = world(1, "every 1s");
    world.sandbox.reject_credentials(true);
    let script = format!("echo $$ > {}; exec sleep 1000", world.path("alert").display());
    alert_by(&world, &script);
    let mut daemon = world.daemon();
    daemon.waits("the command to run", || fs::read_to_string(world.path("alert")).ok());
    world.sandbox.reject_credentials(false);
    daemon.shows(GOOD_CYCLES, |cycles| cycles >= 2);
    let asked = Instant::now();
    daemon.terminate();
    daemon.ends().exits(0);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[test]
fn a_dead_server_is_left_alone_and_seen_when_it_is_back() {
    let (beats, heartbeat) = count_beats();
    let world = world(2, "every 1s").set("alert.heartbeat_url", &format!("{heartbeat:?}"));
    let daemon = world.daemon();
    beats.recv_timeout(DEADLINE).expect("a heartbeat");
    daemon.is_healthy();
    world.fault("kind = 'accept_and_close'");
    daemon.says("HealthEx answers nobody");
    let reason = daemon.is_unwell();
    assert!(reason.contains("no cycle has ended well since"), "{reason}");
    daemon.waits("the page to say so", || {
        daemon.get("/").body.contains("HealthEx does not answer").then_some(())
    });
    while beats.try_recv().is_ok() {}
    world.sandbox.clear_script();
    daemon.says("HealthEx answers again");
    daemon.is_healthy();
    beats.recv_timeout(DEADLINE).expect("a heartbeat after the outage");
    daemon.stops();
}

/// A server that counts who calls.
fn count_beats() -> (mpsc::Receiver<()>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/beat", listener.local_addr().unwrap());
    let (sender, beats) = mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = sender.send(());
        }
    });
    (beats, url)
}

#[test]
fn ticks_during_a_cycle_are_skipped_and_a_stalled_server_does_not_hold_up_the_end() {
    let world = world(2, "every 1s");
    world.fault("kind = 'stall_before_headers', seconds = 3, times = 1");
    let mut daemon = world.daemon();
    daemon.tells("STATUS=cycle: ");
    daemon.shows("healthex_sync_ticks_skipped_total", |ticks| ticks >= 1);
    daemon.says("ticks of the schedule passed during the cycle");

    world.fault("kind = 'stall_before_headers', seconds = 3600");
    let stalled = || world.sandbox.requests().len();
    let before = stalled();
    daemon.waits("a request that gets no answer", || (stalled() >= before + 2).then_some(()));
    let asked = Instant::now();
    daemon.terminate();
    daemon.tells("STATUS=stopping; cycle");
    daemon.ends().exits(0);
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    assert!(daemon.told().contains(&"STOPPING=1".to_owned()));

    let mut daemon = world.daemon();
    daemon.tells("STATUS=cycle: ");
    daemon.terminate();
    daemon.says("asked to stop");
    let asked = Instant::now();
    daemon.terminate();
    daemon.ends().exits(0);
    assert!(asked.elapsed() < Duration::from_secs(3), "a second signal ends at once: {:?}", asked.elapsed());
}

#[test]
fn a_clock_that_is_set_brings_neither_a_flood_of_cycles_nor_silence() {
    let Some(faketime) = faketime() else { return };
    let world = world(1, "every 2s");
    let set_clock = |offset: &str| world.write("clock", offset);
    set_clock("+0");
    let mut command = world.command(["run"]);
    command
        .env("LD_PRELOAD", faketime)
        .env("FAKETIME_TIMESTAMP_FILE", world.path("clock"))
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let daemon = world.daemon_by(&mut command);
    daemon.is_healthy();

    set_clock("+1d");
    daemon.says("was set ahead by");
    let at_first = daemon.shows(GOOD_CYCLES, |_| true);
    let begun = Instant::now();
    daemon.shows(GOOD_CYCLES, |cycles| cycles >= at_first + 4);
    // One had been rung already, and one makes up for what was jumped over.
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());

    set_clock("+23h");
    daemon.says("was set back by");
    let at_first = daemon.shows(GOOD_CYCLES, |_| true);
    daemon.shows(GOOD_CYCLES, |cycles| cycles > at_first);

    // Nor does the future that was hide that nothing ends well.
    daemon.is_healthy();
    world.fault("kind = 'accept_and_close'");
    daemon.says("HealthEx answers nobody");
    set_clock("+0");
    daemon.is_unwell();
    daemon.stops();
}

/// A FIFO for a configuration holds the daemon up before it has read anything.
#[test]
fn a_signal_that_comes_before_the_configuration_is_read_is_heeded() {
    let world = world(1, "every 7d");
    let start = || {
        fs::remove_file(world.config()).unwrap();
        let (is_made, said) = pipe(Command::new("mkfifo").arg(world.config()), "");
        assert!(is_made, "{said}");
        let daemon = world.daemon();
        // Opened only when the daemon has opened it as well.
        let fifo = File::options().write(true).open(world.config()).unwrap();
        world.change_setting("sync.schedule", r#""every 7d""#);
        (daemon, fifo)
    };
    let (mut daemon, mut fifo) = start();
    daemon.terminate();
    fifo.write_all(world.settings_text().as_bytes()).unwrap();
    drop(fifo);
    daemon.ends().exits(0);

    let (daemon, mut fifo) = start();
    daemon.hang_up();
    fifo.write_all(world.settings_text().as_bytes()).unwrap();
    drop(fifo);
    daemon.says("the configuration was read again");
    daemon.stops();
}

#[test]
fn a_restart_remembers_and_a_replaced_warehouse_is_exit_status_5() {
    let world = world(1, "every 7d");
    let daemon = world.daemon();
    daemon.shows(GOOD_CYCLES, |cycles| cycles == 1);
    daemon.is_healthy();
    daemon.stops();

    let daemon = world.daemon();
    daemon.tells("STATUS=waiting; last cycle at");
    daemon.is_healthy();
    assert_eq!(daemon.shows(GOOD_CYCLES, |_| true), 0);
    daemon.stops();

    world.change_setting("sync.schedule", r#""every 1s""#);
    let mut daemon = world.daemon();
    daemon.shows(GOOD_CYCLES, |cycles| cycles >= 1);
    fs::copy(world.warehouse(), world.path("copy.db")).unwrap();
    fs::rename(world.path("copy.db"), world.warehouse()).unwrap();
    daemon.ends().exits(5);

    let first = world.daemon();
    first.tells("READY=1");
    let mut second = world.daemon();
    second.ends().exits(5);
    first.stops();
}

#[test]
fn the_journal_gets_priorities() {
    let world = world(1, "every 7d");
    fs::remove_file(world.path("api-key")).unwrap();
    let running = Running::start_knowing_stderr(&mut world.command(["run"]), |command, stderr| {
        let found = stderr.metadata().unwrap();
        command.env("JOURNAL_STREAM", format!("{}:{}", found.dev(), found.ino()));
    });
    wait_until("it says what it lacks", || running.stderr().contains("no credentials"));
    let text = running.kill().stderr;
    assert!(text.contains("<3>no credentials"), "{text}");
    assert!(text.lines().all(|line| line.starts_with("<6>") || line.starts_with("<3>")), "{text}");
}

/// Held revocations, failures and a cycle under way, seen by a browser in both themes and on a phone.
#[test]
fn the_page_says_who_is_behind_why_and_what_to_do() {
    // A cycle may see only the first of them refused, and is to hold it all the same.
    let world = world(12, "every 1s")
        .set("consent.hold_after", "1")
        .set("consent.hold_fraction", "0.01")
        .with_page_token("letmein");
    let daemon = world.daemon();
    daemon.shows("healthex_sync_patients{state=\"active\"}", |patients| patients == 12);
    for number in 1..=7 {
        world.sandbox.withdraw(&format!("sandbox-{number:04}"));
    }
    world.sandbox.remove_person("sandbox-0008");
    world.fault("kind = 'html_200', person = 'sandbox-0009'");
    daemon.shows("healthex_sync_purges_held", |held| held == 7);
    daemon.shows("healthex_sync_problem{problem=\"held\"}", |problem| problem == 1);
    daemon.shows("healthex_sync_patients{state=\"failing\"}", |failing| failing == 1);
    daemon.shows("healthex_sync_cycle_duration_seconds_count", |cycles| cycles >= 5);
    let page = daemon.waits("a page with all of it", || {
        let page = daemon.get("/").body;
        [
            "This needs a person: patients are held",
            "healthex-sync purge --held --yes",
            "demo-07",
            "demo-09",
            "<svg",
        ]
        .iter()
        .all(|word| page.contains(word))
        .then_some(page)
    });
    assert!(!page.contains("sandbox-0"), "an id where there is a label: {page}");
    if let Some(chromium) = tool("chromium") {
        for (name, size, more) in [
            ("light", "1100,1400", &[][..]),
            (
                "dark",
                "1100,1400",
                &["--enable-features=WebContentsForceDark:inversion_method/none", "--force-dark-mode"][..],
            ),
            ("phone", "500,1900", &[][..]),
        ] {
            let shot = format!("{}/status-{name}.png", env!("CARGO_TARGET_TMPDIR"));
            let _ = fs::remove_file(&shot);
            let mut browser = Command::new(&chromium);
            browser.args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--hide-scrollbars",
                "--virtual-time-budget=500",
            ]);
            browser.arg(format!("--user-data-dir={}", world.path(name).display())).args(more);
            browser.arg(format!("--window-size={size}")).arg(format!("--screenshot={shot}"));
            browser.arg(format!("http://any:letmein@{}/", daemon.address()));
            let (is_fine, said) = pipe(&mut browser, "");
            assert!(is_fine && fs::metadata(&shot).is_ok_and(|shot| shot.len() > 5_000), "{said}");
        }
    }
    daemon.stops();
}

#[test]
fn each_purge_is_alerted_counted_and_shown_for_a_month() {
    let world = world(3, "every 1s").with_page_token("letmein");
    let alerts = world.path("alerts");
    alert_by(
        &world,
        &format!("echo \"$HEALTHEX_SYNC_ALERT $HEALTHEX_SYNC_PROBLEM $1\" >> {}", alerts.display()),
    );
    let daemon = world.daemon();
    let purges = |reason: &str| format!("healthex_sync_purges_total{{reason=\"{reason}\"}}");
    daemon.shows(&purges("roster"), |purges| purges == 0);
    daemon.shows("healthex_sync_patients{state=\"refused\"}", |refused| refused == 0);
    daemon.shows("healthex_sync_patients{state=\"active\"}", |active| active == 3);
    world.sandbox.withdraw("sandbox-0001");
    daemon.shows(&purges("consent_revoked"), |purges| purges == 1);
    let told = |what: &str| {
        daemon.waits(what, || {
            fs::read_to_string(&alerts).ok()?.lines().find(|line| line.contains(what)).map(str::to_owned)
        })
    };
    let alert = told("demo-01 was purged");
    assert!(alert.starts_with("event purge healthex-sync: demo-01 was purged: "), "{alert}");
    assert!(alert.ends_with(" rows (consent_revoked)"), "{alert}");

    // During a cycle, which tells it as its own.
    world.fault("kind = 'stall_before_headers', person = 'sandbox-0003', seconds = 5, times = 1");
    world.sandbox.clear_requests();
    daemon.waits("a cycle that stalls", || (!world.asked("sandbox-0003").is_empty()).then_some(()));
    world.run(["purge", "sandbox-0002", "--yes"]).exits(0).says("demo-02: ");
    told("demo-02 was purged");
    daemon.shows(&purges("operator"), |purges| purges == 1);
    let page = daemon.waits("a page that shows them", || {
        let page = daemon.get("/").body;
        page.contains("<td data-is=\"when\">").then_some(page)
    });
    for shown in ["Purged in the last 30 days", "sandbox-0001", "consent revoked", "sandbox-0002", "operator"]
    {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    world.age_purges();
    daemon.waits("a page without them", || {
        (!daemon.get("/").body.contains("Purged in the last")).then_some(())
    });
    daemon.stops();
}

/// As near to the unit as a machine without systemd allows: no privilege, no capability, a strict umask.
#[test]
fn it_runs_without_any_privilege() {
    let Some(setpriv) = tool("setpriv") else { return };
    let world = world(1, "every 1s");
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if is_root {
        fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o777)).unwrap();
        for name in ["api-key", "api-secret"] {
            std::os::unix::fs::chown(world.path(name), Some(65_534), Some(65_534)).unwrap();
        }
    }
    let mut command = Command::new(setpriv);
    command.args(["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]);
    if is_root {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    command.arg(env!("CARGO_BIN_EXE_healthex-sync")).arg("--config").arg(world.config()).arg("run");
    let daemon = world.daemon_by(&mut command);
    daemon.tells("READY=1");
    daemon.is_healthy();
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    assert!(status.contains("CapBnd:\t0000000000000000") && status.contains("NoNewPrivs:\t1"), "{status}");
    assert_eq!(fs::metadata(world.warehouse()).unwrap().permissions().mode() & 0o777, 0o600);
    daemon.stops();
}

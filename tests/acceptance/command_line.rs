//! Commands, exit statuses, and what is said about wrong usage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::world::{Running, World, binary, pipe, tool, wait_until};

#[test]
fn help_and_version_are_exit_0_and_wrong_usage_is_exit_2() {
    for args in [["--help"], ["--version"]] {
        let output = binary().args(args).output().unwrap();
        assert!(output.status.success());
        assert!(!output.stdout.is_empty());
    }
    for args in [&["frobnicate"][..], &["sync", "--frobnicate"], &["purge"], &[]] {
        let output = binary().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn the_version_names_commit_schema_and_sqlite() {
    let output = binary().arg("--version").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("healthex-sync {}", env!("CARGO_PKG_VERSION")));
    assert!(lines[1].starts_with("commit ") && lines[1].len() > "commit ".len(), "{said}");
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    assert_eq!(lines[2], format!("schema {}", world.count("PRAGMA user_version")));
    assert_eq!(lines[3], format!("SQLite {}", rusqlite::version()));
}

#[test]
fn the_manual_has_a_page_for_each_command_that_troff_reads() {
    let folder = tempfile::tempdir().unwrap();
    let written = binary().args(["man", "--to"]).arg(folder.path()).output().unwrap();
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
    let help = String::from_utf8(binary().arg("--help").output().unwrap().stdout).unwrap();
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let names = commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let mut pages: Vec<_> = names.filter_map(|line| line.split_whitespace().next()).collect();
    pages.retain(|name| *name != "help");
    assert!(pages.len() > 10, "{help}");
    let mut paths: Vec<_> =
        pages.iter().map(|name| folder.path().join(format!("man1/healthex-sync-{name}.1"))).collect();
    paths.extend(["man1/healthex-sync.1", "man5/healthex-sync.toml.5"].map(|name| folder.path().join(name)));
    let groff = tool("groff");
    for path in paths {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let wanted = if path.extension().is_some_and(|section| section == "5") {
            &["KEYS", "EXIT STATUS", "ENVIRONMENT", "SIGNALS", "EXAMPLES"]
        } else {
            &["SYNOPSIS", "EXIT STATUS", "ENVIRONMENT", "SIGNALS", "EXAMPLES"]
        };
        for section in wanted {
            assert!(text.contains(&format!(".SH {section}")), "{}: {section}", path.display());
        }
        if let Some(groff) = &groff {
            let (is_fine, said) =
                pipe(Command::new(groff).args(["-man", "-Tutf8", "-ww", "-z"]).arg(&path), "");
            assert!(is_fine && said.is_empty(), "{}: {said}", path.display());
        }
    }
    let output = binary().args(["man", "no-such"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn all_that_is_wrong_is_said_at_once_and_nothing_is_touched() {
    let world = World::with_patients(["anna"])
        .set("sync.concurrency", "0")
        .set("sync.page_sise", "3")
        .set("consent.hold_fraction", "1.5")
        .set("sync.overlap", r#""soon""#);
    world.write_roster("[[patient]]\nid = \"anna\"\n[[patient]]\nid = \"anna\"\n");
    let mut command = world.command(["sync"]);
    command.env("HEALTHEX_SYNC__SYNC__PAGE_SIZE", "many");
    command.env("HEALTHEX_SYNC__NO__SUCH", "1");

    let ran = Running::start(&mut command).ended().exits(2);

    for word in [
        "concurrency",
        "page_sise",
        "hold_fraction",
        "overlap",
        "HEALTHEX_SYNC__SYNC__PAGE_SIZE",
        "HEALTHEX_SYNC__NO__SUCH",
        "healthex-sync.toml:",
        "roster.toml",
        "anna",
    ] {
        assert!(ran.stderr.contains(word), "{word} is missing: {ran}");
    }
    assert!(!world.path("data").exists());
    assert!(world.sandbox.requests().is_empty());
}

#[test]
fn a_secret_in_the_configuration_is_refused_and_not_printed() {
    let world = World::with_patients(["anna"]).set("api.api_secret", r#""hush-hush""#);
    world.run(["sync"]).exits(2).says("api_secret").says_nothing_of("hush-hush");
}

#[test]
fn a_setting_that_is_impossible_is_refused() {
    for (key, value) in [
        ("sync.schedule", r#""0 0 0 31 2 *""#),
        ("sync.schedule", r#""now and then""#),
        ("sync.types", r#"["Horoscope"]"#),
        ("sync.page_size", "-1"),
        ("api.base_url", r#""ftp://example.org""#),
        ("api.idle_timeout", r#""0s""#),
        ("roster.on_removed", r#""explode""#),
        ("log.format", r#""xml""#),
    ] {
        let world = World::with_patients(["anna"]).set(key, value);
        world.run(["sync"]).exits(2).says(key);
    }
}

#[test]
fn a_roster_that_cannot_be_right_is_refused_with_file_and_line() {
    for (roster, said) in [
        ("[[patient]]\nid = \"..\"\n", "roster.toml:1"),
        ("[[patient]]\nid = \"a/b\"\n", "roster.toml:1"),
        ("[[patient]]\nid = \"anna\"\nnick = \"x\"\n", "nick"),
        ("[[patient]\n", "roster.toml"),
        ("", "roster"),
    ] {
        let world = World::with_patients(["anna"]);
        world.write_roster(roster);
        world.run(["sync"]).exits(2).says(said);
    }
}

#[test]
fn a_csv_roster_does_as_well() {
    let world = World::with_patients(["anna", "ben"]);
    world.change_setting("roster.files", r#"["*.csv"]"#);
    fs::write(
        world.path("some.csv"),
        "id,label,types,enabled\nanna,study-1,Observation Patient,true\nben,,,false\n",
    )
    .unwrap();
    let ran = world.run(["sync", "--json"]).exits(0);
    assert_eq!(ran.number("/patients/ok"), 1);
    assert_eq!(ran.number("/patients/skipped"), 1);
    assert_eq!(world.rows("anna").len(), 5);
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    let world = World::with_patients(["anna"]);
    let key = world.path("api-secret");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    world.run(["sync"]).exits(2).says("api-secret");
    fs::remove_file(&key).unwrap();
    world.run(["sync"]).exits(2).says("api-secret");
    assert!(world.sandbox.requests().is_empty());
}

#[test]
fn the_environment_overrides_the_file() {
    let world = World::with_record(30);
    let mut command = world.command(["sync"]);
    command.env("HEALTHEX_SYNC__SYNC__PAGE_SIZE", "16");
    Running::start(&mut command).ended().exits(0);
    assert!(world.queries("anna")[0].contains("_count=16"));
}

#[test]
fn credentials_may_come_from_the_environment() {
    let world = World::with_patients(["anna"]);
    fs::remove_file(world.path("api-key")).unwrap();
    let mut command = world.command(["sync"]);
    command.env("HEALTHEX_API_KEY", "sandbox-key").env("HEALTHEX_API_SECRET", "sandbox-secret");
    Running::start(&mut command).ended().exits(0);
}

#[test]
fn init_writes_two_files_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let init = || {
        let mut command = binary();
        command.arg("init").arg(folder.path());
        Running::start(&mut command).ended().exits(0)
    };
    init();
    let config = folder.path().join("healthex-sync.toml");
    assert!(fs::read_to_string(&config).unwrap().contains("[warehouse]"));
    fs::write(&config, "# mine\n").unwrap();
    fs::remove_file(folder.path().join("roster.toml")).unwrap();
    init();
    assert_eq!(fs::read_to_string(&config).unwrap(), "# mine\n");
    assert!(folder.path().join("roster.toml").exists());
}

#[test]
fn what_init_writes_is_a_configuration_that_check_understands() {
    let world = World::with_patients(["anna"]);
    let mut command = binary();
    command.arg("init").arg(world.path("new"));
    Running::start(&mut command).ended().exits(0);
    for name in ["api-key", "api-secret"] {
        fs::copy(world.path(name), world.path("new").join(name)).unwrap();
    }
    let mut command = binary();
    command.arg("--config").arg(world.path("new/healthex-sync.toml")).args(["check", "--offline"]);
    Running::start(&mut command).ended().exits(0);
}

#[test]
fn check_says_what_is_well_and_what_is_not() {
    let world = World::with_patients(["anna"]);
    let ran = world.run(["check"]).exits(0);
    assert!(ran.stdout.lines().count() >= 4, "{ran}");
    assert!(ran.stdout.lines().all(|line| line.starts_with("ok")), "{ran}");
    assert!(!world.warehouse().exists());
    world.sandbox.clear_requests();
    world.run(["check", "--offline"]).exits(0);
    assert!(world.sandbox.requests().is_empty());

    world.sandbox.reject_credentials(true);
    world.run(["check"]).exits(4).says("FAILED");
    world.sandbox.reject_credentials(false);
    world.change_setting("sync.concurrency", "0");
    world.run(["check"]).exits(2).says("FAILED");
}

#[test]
fn a_system_without_root_certificates_is_told_what_to_install() {
    let world = World::with_patients(["anna"]);
    for verb in ["check", "sync"] {
        let mut command = world.command([verb]);
        command.env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", world.path("nowhere"));
        let ran = Running::start(&mut command).ended().says("ca-certificates");
        assert_ne!(ran.code, 0, "{ran}");
    }
}

#[test]
fn check_says_where_roster_and_warehouse_differ() {
    let world = World::with_patients(["anna", "ben", "cleo", "dora", "emil"]);
    world.list(&["anna", "ben", "cleo", "dora"]);
    world.run(["sync"]).exits(0);
    world.run(["purge", "cleo", "--yes"]).exits(0);
    world.sandbox.remove_person("dora");
    world.run(["sync"]).exits(3);
    world.list(&["anna", "cleo", "dora", "emil"]);

    let ran = world.run(["check"]).exits(0);
    let patients = ran.stdout.lines().find(|line| line.starts_with("ok      patients")).unwrap();
    for words in ["1 in step", "1 never pulled", "1 not found", "1 purged by hand", "1 on no roster"] {
        assert!(patients.contains(words), "{words:?} is missing: {patients}");
    }
    world.change_setting("roster.on_removed", r#""purge""#);
    world.run(["check"]).exits(0).says("ben: not on the roster");
}

#[test]
fn check_says_that_the_next_cycle_brings_an_older_schema_up_to_date() {
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    world.run(["check"]).exits(0).says_nothing_of("up to date");
    world.exec("PRAGMA user_version = 1");
    world.run(["check"]).exits(0).says("schema 1 of").says("the next cycle brings it up to date");
}

#[test]
fn check_wants_no_group_to_read_that_was_not_named() {
    let world = World::with_patients(["anna"]);
    world.run(["sync"]).exits(0);
    world.run(["check"]).exits(0).says("0600");
    fs::set_permissions(world.warehouse(), fs::Permissions::from_mode(0o640)).unwrap();
    world.run(["check"]).exits(1).says("FAILED  file mode").says("chmod 600");
    fs::set_permissions(world.warehouse(), fs::Permissions::from_mode(0o644)).unwrap();
    world.run(["check"]).exits(1).says("FAILED  file mode").says("others");
    // What is said is what helps; and a cycle does it too.
    world.run(["sync"]).exits(0);
    world.run(["check"]).exits(0);
}

/// The room that `check` finds needed, and for what.
fn room_needed(world: &World, by: &str) -> u64 {
    let ran = world.run(["check"]).exits(0);
    let after = ran.stdout.split(&format!("{by} after a purge may need ")).nth(1).unwrap_or_default();
    after.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{ran}"))
}

#[test]
fn check_says_what_room_a_scrub_needs() {
    let world = World::with_record(4000).set("sync.page_size", "500");
    world.run(["sync"]).exits(0);
    let size = std::fs::metadata(world.warehouse()).unwrap().len() / 1_000_000;
    let needed = room_needed(&world, "zeroing");
    assert!((size..=size * 11 / 10 + 2).contains(&needed), "{needed} MB for {size} MB");
}

#[test]
fn free_pages_need_no_room_for_a_vacuum() {
    let world = World::with_record(4000).set("sync.page_size", "500");
    world.run(["sync"]).exits(0);
    // Without a WAL a file cannot be zeroed in place.
    world.exec("PRAGMA journal_mode = DELETE");
    let before = room_needed(&world, "VACUUM");
    world.exec("DELETE FROM observation; DELETE FROM observations; DELETE FROM codings");
    let after = room_needed(&world, "VACUUM");
    assert!(2 * after <= before, "{before} MB, then {after} MB");
}

#[test]
fn status_without_a_warehouse_says_so_and_makes_none() {
    let world = World::with_patients(["anna"]);
    for args in [["status"], ["verify"], ["audit"]] {
        world.run(args).exits(5);
    }
    assert!(!world.warehouse().exists());
}

#[test]
fn the_demo_works_is_repeatable_and_replaces_only_its_own_folder() {
    let home = tempfile::tempdir().unwrap();
    let demo = || {
        let output = binary().current_dir(home.path()).arg("demo").output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), stdout)
    };
    let (code, said) = demo();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("1 revoked"), "{said}");
    assert!(said.contains("sandbox-0011, whom no file lists, consents"), "{said}");
    assert!(said.matches("12: 11 ok").count() == 1 && said.contains("11: 11 ok"), "{said}");
    assert!(said.contains("warehouse.db"), "{said}");
    // It is looked at on terminals of eighty columns; only a path may be longer.
    let too_long = |line: &&str| line.chars().count() > 80 && !line.contains("/healthex-sync ");
    assert_eq!(said.lines().find(too_long), None);
    let folder = home.path().join("healthex-demo");
    assert!(folder.join("warehouse.db").exists());
    let mode = fs::metadata(folder.join("api-secret")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(demo().0, Some(0));

    // What it says next works: the server again, and a sync with it.
    let config = folder.join("healthex-sync.toml");
    let text = fs::read_to_string(&config).unwrap();
    let address = text.split("http://").nth(1).unwrap().split('"').next().unwrap();
    let mut command = binary();
    let sandbox = Running::start(command.args(["sandbox", "--listen", address]));
    wait_until("the sandbox listens", || sandbox.stdout().contains("listening on"));
    for command_line in ["status", "audit", "sync"] {
        let output = binary().arg("--config").arg(&config).arg(command_line).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{command_line}");
    }
    sandbox.terminate();
    sandbox.ended().exits(0);

    let foreign = home.path().join("thesis");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("chapter-1"), "It was a dark night").unwrap();
    let output = binary().arg("demo").arg(&foreign).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);
}

#[test]
fn a_label_stands_for_the_id_in_logs_and_status() {
    let world = World::with_patients(["anna"]);
    world.write_roster("[[patient]]\nid = \"anna\"\nlabel = \"study-1\"\n");
    world.fault("kind = 'status', status = 400");
    let ran = world.run(["-v", "sync"]).exits(3);
    ran.says("study-1").says_nothing_of("anna");
    world.run(["status"]).exits(3).says("study-1").says_nothing_of("anna");
}

#[test]
fn logs_are_json_lines_where_that_is_wanted() {
    let world = World::with_patients(["anna"]).set("log.format", r#""json""#);
    world.fault("kind = 'status', status = 400");
    let ran = world.run(["sync"]).exits(3);
    assert!(!ran.stderr.is_empty());
    for line in ran.stderr.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn a_patient_is_named_by_id_or_label() {
    let world = World::for_daemons(2);
    world.run(["sync", "--patient", "demo-01"]).exits(0).says("1 ok");
    world.run(["sync"]).exits(0).says("2 ok");
    let folder = world.path("copy");
    let folder = folder.to_str().unwrap();
    world.run(["export", "--format", "ndjson", "--patient", "demo-02", folder]).exits(0);
    world.run(["purge", "demo-01", "--yes"]).exits(0);
    assert_eq!(world.rows_anywhere("sandbox-0001"), 0);
    // Of one that is purged, the roster alone has the label.
    world.run(["audit", "demo-01"]).exits(0).says("sandbox-0001");
    world.run(["purge", "demo-03", "--yes"]).exits(2).says("does not know");
    world.run(["purge", "sandbox-0002", "--yes", "--expect", "1"]).exits(2);
    world.run(["purge", "demo-02", "--yes"]).exits(0);
}

#[test]
fn rosters_are_read_as_people_have_them() {
    let world = World::with_patients(["anna", "ben", "cleo"]);
    world.change_setting("roster.files", r#"["people.csv"]"#);
    world.write("people.csv", "ID;Label;Site\n# of May\nanna;study-1;Ulm\n\n;;\nben;study-1;Bonn\ncleo;;\n");
    world
        .run(["sync"])
        .exits(0)
        .says("3 ok")
        .says("not read: the columns Site")
        .says("is that of 2 patients");
    world.run(["check"]).exits(0).says("people.csv:1: not read: the columns Site").says("people.csv:3, ");
    world.write("people.csv", "id\tLABEL\nanna\tstudy-1\n");
    world.run(["sync"]).exits(0).says("1 ok");
    std::fs::write(world.path("people.csv"), b"id,label\nanna,M\xfcller\n").unwrap();
    world.run(["sync"]).exits(2).says("people.csv:2: a letter is not UTF-8, but perhaps Latin-1");
    let mut command = world.command(["check", "--offline"]);
    world.write("one.csv", "id\nanna\n");
    world.write("two, three.csv", "id\nben\n");
    command.env("HEALTHEX_SYNC__ROSTER__FILES", r#"["one.csv", "two, three.csv"]"#);
    Running::start(&mut command).ended().exits(0).says("2 patients, 2 enabled");
}

#[test]
fn status_shows_who_is_asked_for_and_those_in_need_first() {
    let world = World::with_patients(["anna", "ben", "cleo", "dora", "emil"]);
    world.run(["sync"]).exits(0);
    world.fault("kind = 'status', status = 503, person = 'dora'");
    world.sandbox.remove_person("emil");
    world.run(["purge", "ben", "--yes"]).exits(0);
    world.write_roster(
        "[[patient]]\nid = \"anna\"\nlabel = \"study-1\"\n[[patient]]\nid = \"ben\"\n[[patient]]\nid = \"cleo\"\nenabled = false\n[[patient]]\nid = \"dora\"\n[[patient]]\nid = \"emil\"\n",
    );
    world.run(["sync"]).exits(3);
    let listed = |args: &[&str]| -> Vec<String> {
        let ran = world.run([&["status"], args].concat());
        let lines = ran
            .stdout
            .lines()
            .skip(1)
            .take_while(|line| !line.starts_with(|letter: char| letter.is_ascii_digit()));
        let names = lines.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split(' ').next());
        names.map(str::to_owned).collect()
    };
    assert_eq!(listed(&[]), ["emil", "dora", "study-1", "cleo", "ben"]);
    assert_eq!(listed(&["--state", "failing", "--state", "paused"]), ["dora", "ben"]);
    assert_eq!(listed(&["--state", "disabled"]), ["cleo"]);
    assert_eq!(listed(&["--label", "study-*", "--label", "emil"]), ["emil", "study-1"]);
    world.run(["status", "--label", "study-1"]).exits(0);
    world.run(["status", "--label", "anna"]).exits(0).says("study-1").says("1 patient (");
    world.run(["status"]).exits(3).says("purged by hand").says("sync --patient ben").says("disabled: ");
    world.run(["status", "--state", "nonsense"]).exits(2);
    let json = world.run(["status", "--json", "--state", "disabled"]).exits(0).json();
    assert_eq!(
        (&json["patients"][0]["id"], &json["patients"][0]["enabled"]),
        (&"cleo".into(), &false.into())
    );
    let coloured = world.run(["--color", "always", "status"]).exits(3).stdout;
    assert!(coloured.contains("\x1b[33mfailing"), "{coloured}");
}

#[test]
fn whatever_is_told_is_told_as_json_too() {
    let world = World::with_patients(["anna", "ben"]);
    world.run(["sync"]).exits(0);
    let verified = world.run(["verify", "--json"]).exits(0);
    assert_eq!(verified.json()["sound"], true);
    assert!(verified.number("/resources") > 0);
    let views = world.run(["views", "--json"]).exits(0).json();
    assert!(views.as_array().unwrap().iter().any(|view| view["name"] == "lab_results"), "{views}");
    let built = world.run(["views", "apply", "--json"]).exits(0);
    assert_eq!((built.number("/built") > 20, &built.json()["failed"]), (true, &serde_json::json!([])));
    let folder = world.path("out");
    let exported = world.run(["export", "--format", "csv", "--json", folder.to_str().unwrap()]).exits(0);
    let written = std::fs::read_dir(&folder).unwrap().count() as u64;
    assert_eq!(
        (exported.number("/files"), exported.json()["folder"].as_str()),
        (written - 1, folder.to_str()),
        "all but the manifest"
    );
    let purged = world.run(["purge", "anna", "--yes", "--json"]).exits(0);
    assert_eq!(
        (&purged.json()["purged"][0]["name"], &purged.json()["scrubbed"]),
        (&"anna".into(), &true.into())
    );
    assert!(purged.number("/purged/0/rows") > 0);
    let held = world.run(["purge", "--held", "--yes", "--json"]).exits(0).json();
    assert_eq!(held["purged"], serde_json::json!([]));
    let former = world.run(["audit", "--new-ledger", "--json"]).exits(0).json()["former"].clone();
    assert!(Path::new(former.as_str().unwrap()).exists(), "{former}");
    world.exec("UPDATE observation SET content_hash = randomblob(16) WHERE person_id = 'ben'");
    let verified = world.run(["verify", "--json"]).exits(1).json();
    assert_eq!(verified["sound"], false);
    assert!(!verified["wrong"].as_array().unwrap().is_empty(), "{verified}");
}

#[test]
fn init_says_as_json_what_it_wrote_and_what_it_kept() {
    let world = World::with_patients(["anna"]);
    let folder = world.path("study");
    let files = ["healthex-sync.toml", "roster.toml"].map(|name| folder.join(name));
    let init = || world.run(["init", folder.to_str().unwrap(), "--json"]).exits(0).json();
    assert_eq!(init(), serde_json::json!({ "wrote": files, "kept": [] }));
    assert_eq!(init(), serde_json::json!({ "wrote": [], "kept": files }));
}

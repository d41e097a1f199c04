//! What the program is handed out with beside the Debian package: units, and manifests for Kubernetes.

use std::fs;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::postgres::database::Database;
use crate::support::skip;
use crate::world::{World, binary, get, pipe, project, python_with, tool};

const VALIDATOR: &str = "kubernetes-validate==1.37.0";
/// The oldest release with all that the manifests say, and the newest that the validator knows.
const RELEASES: [&str; 2] = ["1.27.0", "1.37.0"];
/// The user of the image.
const USER: u32 = 65_532;

#[test]
fn the_units_are_hardened_and_sound() {
    let Some(analyze) = tool("systemd-analyze") else { return };
    let folder = tempfile::tempdir().unwrap();
    for (name, instance) in [
        ("healthex-sync.service", "healthex-sync.service"),
        ("healthex-sync@.service", "healthex-sync@2.service"),
    ] {
        let unit = folder.path().join(instance);
        let text = fs::read_to_string(project("systemd").join(name)).unwrap();
        fs::write(&unit, text.replace("/usr/bin/healthex-sync", env!("CARGO_BIN_EXE_healthex-sync")))
            .unwrap();
        let (is_fine, said) = pipe(Command::new(&analyze).args(["verify", "--man=no"]).arg(&unit), "");
        assert!(is_fine && said.trim().is_empty(), "{name}: {said}");
        let (is_fine, said) = pipe(
            Command::new(&analyze).args(["security", "--offline=true", "--threshold=13"]).arg(&unit),
            "",
        );
        assert!(is_fine, "{name}: {said}");
    }
}

/// What a unit says, without remarks.
fn directives(unit: &str) -> Vec<String> {
    let text = fs::read_to_string(project("systemd").join(unit)).unwrap();
    let is_said = |line: &&str| !line.is_empty() && !line.starts_with('#');
    text.lines().filter(is_said).map(str::to_owned).collect()
}

#[test]
fn one_more_worker_may_do_no_more_than_the_first() {
    let (first, more) = (directives("healthex-sync.service"), directives("healthex-sync@.service"));
    let only = |these: &[String], others: &[String]| -> Vec<String> {
        let names = these.iter().filter(|line| !others.contains(line));
        names.map(|line| line.split('=').next().unwrap().to_owned()).collect()
    };
    let named_after_it = ["Description", "After", "ExecStart", "ExecReload"];
    // The group of a file is none of a server's.
    assert_eq!(
        only(&first, &more),
        [&named_after_it[..], &["RuntimeDirectory", "SystemCallFilter"]].concat()
    );
    let of_its_own = ["LoadCredential", "Environment", "EnvironmentFile", "RuntimeDirectory"];
    assert_eq!(only(&more, &first), [&named_after_it[..], &of_its_own].concat());
}

/// A Python that has the validator, and `PyYAML` with it.
fn python() -> Result<PathBuf, String> {
    python_with("kubernetes-venv", &[VALIDATOR])
}

/// What the validator makes of a file: whether it is sound, and what it says.
fn validated(python: &Path, release: &str, files: &[PathBuf]) -> (bool, String) {
    let mut command = Command::new(python);
    command.args(["-m", "kubernetes_validate", "--strict", "-k", release]).args(files);
    let ran = command.output().unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    (ran.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Writes the files of the `ConfigMap`, and returns what each container runs.
fn looked_at(python: &Path, manifests: &Path, out: &Path) -> Result<String, String> {
    let script = project("tests/acceptance/packaging/manifests.py");
    let ran = Command::new(python).arg(script).arg(manifests).arg(out).output().unwrap();
    let (said, complained) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    if ran.status.success() { Ok(said.into_owned()) } else { Err(complained.into_owned()) }
}

fn manifests() -> Vec<PathBuf> {
    let files = fs::read_dir(project("packaging/kubernetes")).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_manifests_are_kubernetes_own_and_give_no_more_than_is_needed() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return skip(&format!("the manifests were not validated: {why}")),
    };
    for release in RELEASES {
        let (is_sound, said) = validated(&python, release, &manifests());
        assert!(is_sound && said.matches(" passed for resource ").count() == 8, "{said}");
    }
    let folder = tempfile::tempdir().unwrap();
    let told = looked_at(&python, &project("packaging/kubernetes"), folder.path()).unwrap();
    for container in told.lines() {
        let (version, command) = container.split_once(' ').unwrap();
        assert_eq!(version, env!("CARGO_PKG_VERSION"), "{container}");
        assert!(binary().args([command, "--help"]).output().unwrap().status.success(), "{container}");
    }
    let image = fs::read_to_string(project("packaging/container")).unwrap();
    assert!(image.contains(&format!("\nuid={USER}\n")));

    // Neither would say so of whatever it is given.
    let text = fs::read_to_string(project("packaging/kubernetes/workers.yaml")).unwrap();
    let misspelt = folder.path().join("misspelt.yaml");
    fs::write(&misspelt, text.replace("readOnlyRootFilesystem", "readonlyRootFilesystem")).unwrap();
    assert!(!validated(&python, RELEASES[1], &[misspelt]).0);
    let careless = folder.path().join("careless");
    fs::create_dir(&careless).unwrap();
    for file in manifests() {
        fs::copy(&file, careless.join(file.file_name().unwrap())).unwrap();
    }
    fs::write(careless.join("workers.yaml"), text.replace("runAsNonRoot: true", "runAsNonRoot: false"))
        .unwrap();
    assert!(looked_at(&python, &careless, folder.path()).is_err());
}

/// As a kubelet lays them: root's, and the group's to read; the claim the group's to write.
fn laid(folder: &Path, mode: u32) {
    chown(folder, Some(0), Some(USER)).unwrap();
    fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_worker_runs_from_what_the_manifests_mount() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return skip(&format!("the manifests were not tried: {why}")),
    };
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return skip("only root can lay files as a kubelet does");
    }
    let Some(setpriv) = tool("setpriv") else { return };
    let world = World::with_patients(["19cff418-7d80"]);
    let Some(database) = Database::migrated(&world) else { return };
    let (configuration, state) = (world.path("etc"), world.path("state"));
    for folder in [&configuration, &state] {
        fs::create_dir(folder).unwrap();
    }
    fs::set_permissions(world.path(""), Permissions::from_mode(0o755)).unwrap();
    looked_at(&python, &project("packaging/kubernetes"), &configuration).unwrap();
    for name in ["api-key", "api-secret"] {
        fs::copy(world.path(name), configuration.join(name)).unwrap();
    }
    fs::write(configuration.join("db-password"), "not-asked-for").unwrap();
    fs::write(configuration.join("page-token"), "letmein").unwrap();
    for file in fs::read_dir(&configuration).unwrap() {
        laid(&file.unwrap().path(), 0o440);
    }
    laid(&state, 0o2770);
    let mut command = Command::new(setpriv);
    command.args(["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]);
    command.args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"]);
    command.arg(env!("CARGO_BIN_EXE_healthex-sync"));
    command.arg("--config").arg(configuration.join("healthex-sync.toml")).arg("run");
    command.env("STATE_DIRECTORY", &state);
    for (name, value) in [
        ("API__BASE_URL", world.sandbox.base_url()),
        ("WAREHOUSE__URL", database.url("healthex_worker")),
        ("HTTP__LISTEN", "0.0.0.0:0".to_owned()),
        ("LOG__FORMAT", "text".to_owned()),
        ("SYNC__SCHEDULE", "every 1s".to_owned()),
    ] {
        command.env(format!("HEALTHEX_SYNC__{name}"), value);
    }
    let daemon = world.daemon_by(&mut command);
    let probed = |path: &str| get(&daemon.address(), path, "").status;
    assert_eq!(probed("/healthz?alive"), 200);
    daemon.waits("a worker that is ready", || (probed("/healthz") == 200).then_some(()));
    assert_eq!(probed("/metrics"), 401);
    let metrics = get(&daemon.address(), "/metrics", "Authorization: Bearer letmein\r\n").body;
    assert!(metrics.contains("healthex_sync_patients{state=\"active\"} 1"), "{metrics}");
    assert_eq!(database.live_rows("19cff418-7d80").len(), world.oracle("19cff418-7d80").len());
    let ledger = fs::metadata(state.join("healthex-sync.purges")).unwrap();
    assert_eq!((ledger.uid(), ledger.mode() & 0o777), (USER, 0o600));
    daemon.stops();
}

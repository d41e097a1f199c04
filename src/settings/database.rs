//! Where the warehouse is: one file, or a schema of a PostgreSQL server.
//!
//! Promise: a password in the URL is refused, and no text of a URL that is refused is repeated.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Environment;
use super::keys::Keys;
use super::network::why_no_certificates;
use super::secrets::PasswordSource;
use super::values;

/// When last bytes are removed on a server, where nothing else is said.
pub(super) const SCRUB_ON_SERVER: &str = "0 30 3 * * *";

/// A shorter lease would be lost to a slow disk, a longer one keep a killed worker's patients from others.
const LEASE_MIN: Duration = Duration::from_secs(10);
const LEASE_MAX: Duration = Duration::from_hours(1);

/// Where the folder of a configuration that is one of the system's has its state.
const SYSTEM_CONFIGURATION: &str = "/etc/healthex-sync";
const SYSTEM_STATE: &str = "/var/lib/healthex-sync";

#[derive(Clone, Debug)]
pub(crate) struct WarehouseSettings {
    /// The file; with a server what this machine's own files are named after: lock, ledger, run report, copies.
    pub(crate) path: PathBuf,
    pub(crate) group: Option<u32>,
    pub(crate) server: Option<ServerSettings>,
    /// Whether former versions of resources are kept.
    pub(crate) history: bool,
}

/// A schema of a PostgreSQL server, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSettings {
    /// Without a password.
    pub(crate) url: String,
    pub(crate) password: PasswordSource,
    /// Certificates that are trusted beside the system's.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) schema: String,
    /// Whether statements are prepared by name.
    pub(crate) prepared: bool,
    /// A worker that is silent for so long loses its patients to others.
    pub(crate) lease: Duration,
    /// How long backups and archives of the server keep what was purged, where that is stated.
    pub(crate) retention: Option<Duration>,
}

/// Reads the keys, and complains where both a file and a server are named.
pub(super) fn read(keys: &mut Keys<'_>, file: Option<&Path>, environment: &Environment) -> WarehouseSettings {
    let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
    let path = keys.read("warehouse", "path", "warehouse.db", &values::file_name_or_none());
    let group = keys.read("warehouse", "group", "", &values::group_or_none());
    let url = keys.read("warehouse", "url", "", &values::database_url_or_none());
    let password_file = keys.read("warehouse", "password_file", "db-password", &values::file_name());
    let ca_file =
        keys.read("warehouse", "ca_file", "", &values::file_name_or_none()).map(|file| folder.join(file));
    let schema = keys.read("warehouse", "schema", "healthex", &values::schema_name());
    let prepared = keys.read("warehouse", "prepared", true, &values::boolean());
    let lease = keys.read("warehouse", "lease", "2m", &values::duration_between(LEASE_MIN, LEASE_MAX));
    let retention = keys.read("warehouse", "retention", "", &values::duration_or_none());
    let history = keys.read("warehouse", "history", false, &values::boolean());
    if let Some(why) = ca_file.as_deref().and_then(why_no_certificates) {
        keys.complain_of("warehouse", "ca_file", &why);
    }
    let Some(url) = url else {
        if path.is_none() {
            keys.complain_of("warehouse", "path", "must name a file, or warehouse.url a server");
        }
        let path = folder.join(path.unwrap_or_default());
        return WarehouseSettings { path, group, server: None, history };
    };
    if path.is_some() && keys.is_written("warehouse", "path") {
        keys.complain(
            "warehouse.path and warehouse.url exclude each other: take out the one that is not meant",
        );
    }
    if group.is_some() {
        keys.complain_of(
            "warehouse",
            "group",
            "is for a file; with warehouse.url the server's roles say who may read",
        );
    }
    let password = PasswordSource::find(&password_file, file, environment);
    let server = ServerSettings { url, password, ca_file, schema, prepared, lease, retention };
    WarehouseSettings { path: own_files(file, environment), group: None, server: Some(server), history }
}

/// Returns what this machine's own files are named after, where the warehouse is on a server: as the
/// configuration is, in the service's own folder or beside the configuration.
fn own_files(file: Option<&Path>, environment: &Environment) -> PathBuf {
    let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
    // systemd lists all that it has made, with a colon between them.
    let state = environment.get("STATE_DIRECTORY").and_then(|folders| folders.split(':').next());
    let folder = match state.filter(|folder| !folder.is_empty()) {
        Some(state) => Path::new(state),
        // What is typed by hand finds the service's files too.
        None if folder == Path::new(SYSTEM_CONFIGURATION) => Path::new(SYSTEM_STATE),
        None => folder,
    };
    folder.join(file.and_then(Path::file_stem).unwrap_or("healthex-sync".as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(text: &str) -> Vec<String> {
        let environment = Environment::new();
        let mut keys = Keys::new("c.toml", text, &environment).unwrap();
        super::super::read(&mut keys, None, &environment);
        keys.finish()
    }

    #[test]
    fn a_warehouse_is_a_file_or_on_a_server() {
        let url = "url = \"postgres://worker@db.example/study\"";
        let check = |text: &str, why: Option<&str>| {
            let found = complaints(text);
            match why {
                Some(why) => assert!(found.len() == 1 && found[0].contains(why), "{text}: {found:?}"),
                None => assert_eq!(found, Vec::<String>::new(), "{text}"),
            }
        };
        check(&format!("[warehouse]\n{url}"), None);
        check(&format!("[warehouse]\n{url}\npath = \"\""), None);
        check(&format!("[warehouse]\n{url}\npath = \"warehouse.db\""), Some("exclude each other"));
        check(&format!("[warehouse]\n{url}\ngroup = \"root\""), Some("roles"));
        check(&format!("[warehouse]\n{url}\n[consent]\nscrub = \"0 0 4 * * *\""), None);
        check(&format!("[warehouse]\n{url}\n[consent]\nscrub = \"cycle\""), Some("a cron time"));
        check("[warehouse]\npath = \"\"", Some("a server"));
        check("[warehouse]\npassword = \"canary\"", Some("never in the configuration"));
        check("[warehouse]\nca_file = \"nowhere.pem\"", Some("warehouse.ca_file: nowhere.pem"));
        check("[warehouse]\nschema = \"Study 1\"", Some("small letters"));
        check("[warehouse]\nschema = \"pg_study\"", Some("its own"));
        check("[warehouse]\nlease = \"5s\"", Some("10s"));
        check("[warehouse]\nretention = \"35 days\"", Some("7d"));
    }

    #[test]
    fn this_machines_own_files_are_the_services_or_beside_the_configuration() {
        let check = |file: Option<&str>, state: Option<&str>, expected: &str| {
            let state = state.map(|state| ("STATE_DIRECTORY".to_owned(), state.to_owned()));
            let found = own_files(file.map(Path::new), &state.into_iter().collect());
            assert_eq!(found, Path::new(expected), "{file:?} {state:?}", state = ());
        };
        check(Some("study/healthex-sync.toml"), None, "study/healthex-sync");
        check(Some("study/other.toml"), None, "study/other");
        check(None, None, "healthex-sync");
        check(Some("/etc/healthex-sync/healthex-sync.toml"), None, "/var/lib/healthex-sync/healthex-sync");
        check(Some("/etc/a/healthex-sync.toml"), Some("/var/lib/a:/var/lib/b"), "/var/lib/a/healthex-sync");
    }
}

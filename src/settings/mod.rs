//! Reads the configuration into types, once. Every complaint names its place and what is allowed.
//!
//! Layers, the later overriding: the defaults, the file, `HEALTHEX_SYNC__…` variables. A key is
//! named once, in the line that reads it. Absent on purpose: secrets. The file says where they
//! are, and they are read when needed.

mod database;
mod duration;
mod keys;
mod network;
mod proxy;
mod schedule;
mod secrets;
mod trust;
mod values;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

pub(crate) use database::{ServerSettings, WarehouseSettings};
use keys::Keys;
pub(crate) use network::{NetworkSettings, Proxy, place_of};
pub(crate) use schedule::{Schedule, SimpleSchedule};
pub(crate) use secrets::{Credentials, read_secret};
pub(crate) use trust::read_trusted;
pub(crate) use values::parse_bytes;

use crate::plan::TypeFilter;
use crate::plan::consent::HoldRule;
use crate::plan::due::DueRules;
use crate::plan::records::Wanted;
use crate::plan::table_set::TableSet;

/// The environment variables, read once.
pub(crate) type Environment = HashMap<String, String>;

/// Everything that is wrong with configuration or roster: exit status 2.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    pub(crate) list: Vec<String>,
    /// The rosters, where at least their names could be read.
    pub(crate) roster: Option<Box<RosterSettings>>,
}

impl Complaints {
    pub(crate) fn new(list: Vec<String>) -> Self {
        Self { list, roster: None }
    }

    pub(crate) fn one(complaint: String) -> Self {
        Self::new(vec![complaint])
    }
}

impl fmt::Display for Complaints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.list.join("\n"))
    }
}

impl std::error::Error for Complaints {}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The file that was read, if there was one.
    pub(crate) file: Option<PathBuf>,
    pub(crate) api: ApiSettings,
    pub(crate) sync: SyncSettings,
    pub(crate) warehouse: WarehouseSettings,
    pub(crate) roster: RosterSettings,
    pub(crate) consent: ConsentSettings,
    pub(crate) http: HttpSettings,
    pub(crate) alert: AlertSettings,
    pub(crate) log: LogSettings,
    pub(crate) views: ViewsSettings,
}

#[derive(Clone, Debug)]
pub(crate) struct ApiSettings {
    pub(crate) base_url: Url,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) api_key_file: PathBuf,
    pub(crate) api_secret_file: PathBuf,
    pub(crate) limits: ApiLimits,
    pub(crate) network: NetworkSettings,
}

/// Timeouts and attempts of requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ApiLimits {
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) page_timeout: Duration,
    pub(crate) max_attempts: usize,
    pub(crate) retry_initial: Duration,
    pub(crate) retry_max: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct SyncSettings {
    pub(crate) schedule: Schedule,
    /// What a cron time means.
    pub(crate) timezone: chrono_tz::Tz,
    pub(crate) concurrency: usize,
    /// `None` asks for one streamed answer.
    pub(crate) page_size: Option<u32>,
    pub(crate) types: TypeFilter,
    pub(crate) overlap: Duration,
    pub(crate) full_every: Option<Duration>,
    pub(crate) pages_max: u64,
    pub(crate) bytes_max: u64,
    pub(crate) time_max: Duration,
    /// How long rows that vanished at the source stay, marked; `None` is for ever.
    pub(crate) keep_deleted: Option<Duration>,
}

#[derive(Clone, Debug)]
pub(crate) struct RosterSettings {
    pub(crate) files: Vec<PathBuf>,
    /// Without files and with a server: the roster is the one that other workers have given the warehouse.
    pub(crate) is_left_to_others: bool,
    pub(crate) on_removed: OnRemoved,
    /// How long every reading must have lacked a patient before it is purged.
    pub(crate) removed_after: Duration,
    /// Whoever has consented to one is on the roster.
    pub(crate) studies: Vec<Arc<str>>,
    /// The type of consents that counts.
    pub(crate) consent_type: String,
    /// How often the consent records are read.
    pub(crate) consents_every: Duration,
    /// How long before a consent runs out that is told.
    pub(crate) consent_warning: Duration,
}

impl RosterSettings {
    /// Returns which consent records are asked for. With `allow_shrunk`, a study may have lost any
    /// number of patients.
    pub(crate) fn wanted_records(&self, hold: HoldRule, allow_shrunk: bool) -> Wanted<'_> {
        Wanted { studies: &self.studies, consent_type: &self.consent_type, hold, allow_shrunk }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnRemoved {
    Keep,
    Purge,
}

impl OnRemoved {
    const WORDS: &[(&str, Self)] = &[("keep", Self::Keep), ("purge", Self::Purge)];
}

#[derive(Clone, Debug)]
pub(crate) struct ConsentSettings {
    pub(crate) recheck: Duration,
    /// A refusal without a witness is believed after so long.
    pub(crate) alone_after: Duration,
    pub(crate) hold: HoldRule,
    /// `None` is beside the warehouse.
    pub(crate) ledger: Option<PathBuf>,
    /// `None` scrubs at the end of each cycle.
    pub(crate) scrub: Option<Schedule>,
    /// How long a purge may take, from the refusal to the last byte.
    pub(crate) deadline: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct HttpSettings {
    pub(crate) listen: Option<Listen>,
    pub(crate) token_file: Option<PathBuf>,
}

/// Where the status page is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Listen {
    fn is_for_other_machines(&self) -> bool {
        matches!(self, Self::Tcp(address) if !address.ip().is_loopback())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct AlertSettings {
    pub(crate) heartbeat_url: Option<Url>,
    pub(crate) command: Vec<String>,
    pub(crate) webhook_url: Option<Url>,
    pub(crate) stale_after: Duration,
    /// Only these are told; empty is all.
    pub(crate) kinds: Vec<String>,
    /// What still needs a person is told again after so long.
    pub(crate) reminder: Duration,
}

impl AlertSettings {
    /// Returns whether anything is told of this kind.
    pub(crate) fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind)
    }
}

/// The kinds of alerts.
pub(crate) const ALERT_KINDS: [&str; 12] = [
    "held",
    "credentials",
    "stale",
    "scrub",
    "roster",
    "settings",
    "warehouse",
    "ledger",
    "consents",
    "purge",
    "expiring",
    "failover",
];

#[derive(Clone, Debug)]
pub(crate) struct LogSettings {
    pub(crate) is_json: bool,
    pub(crate) level: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ViewsSettings {
    /// The built-in analysts' tables that are kept.
    pub(crate) sets: Vec<TableSet>,
    pub(crate) folder: Option<PathBuf>,
}

impl Settings {
    pub(crate) fn due_rules(&self) -> DueRules {
        DueRules { full_every: self.sync.full_every, recheck: self.consent.recheck }
    }
}

/// Finds and reads the configuration.
///
/// The file is `given`, else `$HEALTHEX_SYNC_CONFIG`, else the first that exists of
/// `./healthex-sync.toml` and `/etc/healthex-sync/healthex-sync.toml`.
pub(crate) fn load(given: Option<&Path>, environment: &Environment) -> Result<Settings, Complaints> {
    let (file, text) = match find(given, environment) {
        None => (None, String::new()),
        Some(found) => {
            // Nothing else is looked at: what a stranger's file names is the stranger's choice.
            let text = found.read().map_err(Complaints::one)?;
            (Some(found.path), text)
        }
    };
    let name = file.as_ref().map_or_else(|| "configuration".to_owned(), |path| path.display().to_string());
    let mut keys =
        Keys::new(&name, &text, environment).map_err(|error| Complaints::one(format!("{name}: {error}")))?;
    let settings = read(&mut keys, file, environment);
    let mut complaints = keys.finish();
    if let Some(folder) = &settings.views.folder {
        complaints.extend(trust::folder_refusals(folder, "json"));
    }
    if complaints.is_empty() {
        Ok(settings)
    } else {
        Err(Complaints { list: complaints, roster: Some(Box::new(settings.roster)) })
    }
}

const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A configuration that was found.
struct FoundFile {
    path: PathBuf,
    /// Somebody said that it is to be this one, or it is in a place that only root can write.
    is_named: bool,
}

impl FoundFile {
    fn read(&self) -> Result<String, String> {
        let refusal = if self.is_named { trust::refusal } else { trust::refusal_unnamed };
        trust::read_if(&self.path, FILE_BYTES_MAX, refusal).map_err(|why| {
            if self.path.exists() { why } else { format!("{why}; `healthex-sync init` writes one") }
        })
    }
}

fn find(given: Option<&Path>, environment: &Environment) -> Option<FoundFile> {
    let variable = environment.get("HEALTHEX_SYNC_CONFIG").filter(|path| !path.is_empty());
    if let Some(path) = given.or(variable.map(Path::new)) {
        return Some(FoundFile { path: path.to_owned(), is_named: true });
    }
    [("healthex-sync.toml", false), ("/etc/healthex-sync/healthex-sync.toml", true)]
        .map(|(path, is_named)| FoundFile { path: path.into(), is_named })
        .into_iter()
        .find(|found| found.path.exists())
}

/// Reads every key. Relative paths are relative to the file's folder.
fn read(keys: &mut Keys<'_>, file: Option<PathBuf>, environment: &Environment) -> Settings {
    let folder = file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    let in_folder = |file: PathBuf| folder.join(file);
    let warehouse = database::read(keys, file.as_deref(), environment);
    let sync = read_sync(keys, warehouse.server.is_some());
    let timezone = sync.timezone;
    Settings {
        api: read_api(keys, environment, &folder),
        sync,
        consent: read_consent(keys, &folder, timezone, warehouse.server.is_some()),
        roster: read_roster(keys, &folder, warehouse.server.is_some()),
        warehouse,
        http: read_http(keys, &folder),
        alert: AlertSettings {
            heartbeat_url: keys.read("alert", "heartbeat_url", "", &values::url_or_none()),
            command: keys.read("alert", "command", NO_TEXTS.to_vec(), &values::texts()),
            webhook_url: keys.read("alert", "webhook_url", "", &values::url_or_none()),
            stale_after: keys.read("alert", "stale_after", "24h", &values::duration()),
            kinds: keys.read("alert", "kinds", NO_TEXTS.to_vec(), &values::words_among(&ALERT_KINDS)),
            reminder: keys.read("alert", "reminder", "24h", &values::duration()),
        },
        log: LogSettings {
            is_json: keys.read("log", "format", "text", &values::one_of(&[("text", false), ("json", true)])),
            level: keys.read("log", "level", "info", &values::one_of(LOG_LEVELS)),
        },
        views: ViewsSettings {
            sets: read_sets(keys),
            folder: keys.read("views", "folder", "", &values::file_name_or_none()).map(in_folder),
        },
        file,
    }
}

/// Where the warehouse is on a server, last bytes are removed at a time of day: others wait meanwhile.
fn read_consent(
    keys: &mut Keys<'_>,
    folder: &Path,
    timezone: chrono_tz::Tz,
    is_on_server: bool,
) -> ConsentSettings {
    let scrub = if is_on_server { database::SCRUB_ON_SERVER } else { "cycle" };
    let scrub = keys.read("consent", "scrub", scrub, &values::schedule_or_cycle());
    if is_on_server && scrub.is_none() {
        let why = format!(
            "with warehouse.url it is a cron time, such as \"{}\": nobody reads a table while it is written anew",
            database::SCRUB_ON_SERVER
        );
        keys.complain_of("consent", "scrub", &why);
    }
    ConsentSettings {
        recheck: keys.read("consent", "recheck", "24h", &values::duration()),
        alone_after: keys.read("consent", "alone_after", "24h", &values::duration_or_zero()),
        hold: HoldRule {
            hold_after: keys.read("consent", "hold_after", 5, &values::count(1, 1_000_000)),
            hold_fraction: keys.read("consent", "hold_fraction", 0.02, &values::fraction()),
        },
        ledger: keys
            .read("consent", "ledger", "", &values::file_name_or_none())
            .map(|file| folder.join(file)),
        scrub: scrub.map(|scrub| scrub.in_zone(timezone)),
        deadline: keys.read("consent", "deadline", "30d", &values::duration()),
    }
}

/// `built_in = false` is the same as no sets.
fn read_sets(keys: &mut Keys<'_>) -> Vec<TableSet> {
    let sets = keys.read("views", "sets", vec![TableSet::Clinical.name()], &values::some_of(&TableSet::ALL));
    if keys.read("views", "built_in", true, &values::boolean()) { sets } else { Vec::new() }
}

const NO_TEXTS: [&str; 0] = [];

const LOG_LEVELS: &[(&str, &str)] =
    &[("error", "error"), ("warn", "warn"), ("info", "info"), ("debug", "debug"), ("trace", "trace")];

/// The files are not in the configuration's folder if they are among systemd's credentials.
fn read_api(keys: &mut Keys<'_>, environment: &Environment, folder: &Path) -> ApiSettings {
    let base_url = keys.read("api", "base_url", "https://api.healthex.io", &values::base_url());
    ApiSettings {
        network: network::read(keys, &base_url, environment, folder),
        base_url,
        token_file: keys.read("api", "token_file", "", &values::file_name_or_none()),
        api_key_file: keys.read("api", "api_key_file", "api-key", &values::text()).into(),
        api_secret_file: keys.read("api", "api_secret_file", "api-secret", &values::text()).into(),
        limits: ApiLimits {
            connect_timeout: keys.read("api", "connect_timeout", "10s", &values::duration()),
            idle_timeout: keys.read("api", "idle_timeout", "60s", &values::duration()),
            page_timeout: keys.read("api", "page_timeout", "30m", &values::duration()),
            max_attempts: keys.read("api", "max_attempts", 6, &values::count(1, 100)),
            retry_initial: keys.read("api", "retry_initial", "500ms", &values::duration()),
            retry_max: keys.read("api", "retry_max", "60s", &values::duration()),
        },
    }
}

/// Several processes may go by the schedule of a warehouse that is on a server.
fn read_sync(keys: &mut Keys<'_>, is_on_server: bool) -> SyncSettings {
    let schedule = keys.read("sync", "schedule", "0 */15 * * * *", &values::schedule());
    let timezone = keys.read("sync", "timezone", "UTC", &values::timezone());
    let not_between = keys.read("sync", "not_between", "", &values::quiet_hours_or_none());
    let schedule = schedule.in_zone(timezone).not_between(not_between);
    SyncSettings {
        schedule: if is_on_server { schedule.shared() } else { schedule },
        timezone,
        concurrency: keys.read("sync", "concurrency", 4, &values::count(1, 64)),
        page_size: Some(keys.read("sync", "page_size", 500, &values::count(0, 100_000)))
            .filter(|page_size| *page_size > 0),
        types: keys.read("sync", "types", NO_TEXTS.to_vec(), &values::types()),
        overlap: keys.read("sync", "overlap", "1h", &values::duration_or_zero()),
        full_every: keys.read("sync", "full_every", "7d", &values::duration_or("never")),
        pages_max: keys.read("sync", "pages_max", 100_000, &values::count(1, 1_000_000_000)),
        bytes_max: keys.read("sync", "bytes_max", "50GB", &values::bytes()),
        time_max: keys.read("sync", "time_max", "12h", &values::duration()),
        keep_deleted: keys.read("sync", "keep_deleted", "forever", &values::duration_or("forever")),
    }
}

fn read_roster(keys: &mut Keys<'_>, folder: &Path, has_server: bool) -> RosterSettings {
    let files = keys.read("roster", "files", vec!["roster.toml"], &values::file_names());
    let studies = keys.read("roster", "studies", NO_TEXTS.to_vec(), &values::studies());
    let is_left_to_others = files.is_empty() && has_server;
    if files.is_empty() && studies.is_empty() && !has_server {
        let why = "must name at least one file, or roster.studies a study, or warehouse.url a server whose roster it is";
        keys.complain_of("roster", "files", why);
    }
    RosterSettings {
        files: files.into_iter().map(|file| folder.join(file)).collect(),
        is_left_to_others,
        on_removed: keys.read("roster", "on_removed", "keep", &values::one_of(OnRemoved::WORDS)),
        removed_after: keys.read("roster", "removed_after", "24h", &values::duration_or_zero()),
        studies,
        consent_type: keys.read(
            "roster",
            "consent_type",
            "PATIENT_DIRECTED_DATA_EXCHANGE",
            &values::consent_type(),
        ),
        consents_every: keys.read("roster", "consents_every", "1h", &values::duration()),
        consent_warning: keys.read("roster", "consent_warning", "30d", &values::duration_or_zero()),
    }
}

fn read_http(keys: &mut Keys<'_>, folder: &Path) -> HttpSettings {
    let listen = keys.read("http", "listen", "", &values::listen_or_none()).map(|listen| match listen {
        Listen::Unix(path) => Listen::Unix(folder.join(path)),
        Listen::Tcp(_) => listen,
    });
    let token_file = keys.read("http", "token_file", "", &values::file_name_or_none());
    if listen.as_ref().is_some_and(Listen::is_for_other_machines) && token_file.is_none() {
        keys.complain_of(
            "http",
            "listen",
            "is not a loopback address, so http.token_file must name a file with a token",
        );
    }
    HttpSettings { listen, token_file: token_file.map(|file| folder.join(file)) }
}

#[cfg(test)]
mod tests {
    use super::keys::Key;
    use super::*;

    fn complaints(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, text).unwrap();
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        match load(Some(&file), &environment) {
            Ok(_) => Vec::new(),
            Err(complaints) => {
                let prefix = format!("{}", folder.path().display());
                complaints
                    .list
                    .iter()
                    .map(|line| line.replace(&prefix, "").replace("/c.toml", "c.toml"))
                    .collect()
            }
        }
    }

    #[test]
    fn the_annotated_file_says_what_the_defaults_are() {
        let annotated = include_str!("../../config/healthex-sync.toml");
        let settings = |text: &str| {
            let mut keys = Keys::new("f", text, &HashMap::new()).unwrap();
            let settings = read(&mut keys, None, &HashMap::new());
            let known = keys.known().to_vec();
            assert_eq!(keys.finish(), Vec::<String>::new());
            (format!("{settings:#?}"), known)
        };
        let (defaults, known) = settings("");
        assert_eq!(settings(annotated).0, defaults);
        for Key { section, name } in known {
            assert!(
                keys::line_of(annotated, section, name).is_some(),
                "{section}.{name} is missing from the file"
            );
        }
    }

    #[test]
    fn all_complaints_come_at_once_with_line_key_and_what_is_allowed() {
        let text = "[api]\nbase_url = \"ftp://x\"\nkey = 1\n\n[sync]\npage_size = 10.7\noverlap = \"1 hour\"\nschedule = \"0 0 0 31 2 *\"\ntypes = [\"Obs\"]\n[nonsense]\na = 1\n";
        let found = complaints(
            text,
            &[("HEALTHEX_SYNC__SYNC__CONCURRENCY", "none"), ("HEALTHEX_SYNC__SYNC__NONSENSE", "1")],
        );
        let has = |parts: &[&str]| {
            assert!(
                found.iter().any(|line| parts.iter().all(|part| line.contains(part))),
                "{parts:?} in {found:#?}"
            );
        };
        has(&["c.toml:2", "api.base_url", "http"]);
        has(&["c.toml:3", "api.key", "unknown"]);
        has(&["c.toml:6", "sync.page_size", "whole number"]);
        has(&["c.toml:7", "sync.overlap", "90s"]);
        has(&["c.toml:8", "sync.schedule", "never"]);
        has(&["c.toml:9", "sync.types", "Obs"]);
        has(&["c.toml:10", "nonsense", "unknown"]);
        has(&["HEALTHEX_SYNC__SYNC__CONCURRENCY", "whole number"]);
        has(&["HEALTHEX_SYNC__SYNC__NONSENSE", "unknown"]);
        assert_eq!(found.len(), 9, "{found:#?}");
    }

    #[test]
    fn a_variable_wins_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, "[sync]\npage_size = 7\nconcurrency = 2\n").unwrap();
        let environment = HashMap::from([("HEALTHEX_SYNC__SYNC__PAGE_SIZE".to_owned(), "9".to_owned())]);
        let settings = load(Some(&file), &environment).unwrap();
        assert_eq!((settings.sync.page_size, settings.sync.concurrency), (Some(9), 2));
        assert_eq!(settings.warehouse.path, folder.path().join("warehouse.db"));
    }

    #[test]
    fn a_roster_has_files_or_studies() {
        assert!(complaints("[roster]\nfiles = []\n", &[])[0].contains("or roster.studies a study"));
        assert!(complaints("[roster]\nfiles = []\nstudies = [\"s-1\"]\n", &[]).is_empty());
        let has = |text: &str, why: &str| {
            let found = complaints(&format!("[roster]\n{text}\n"), &[]);
            assert!(found.len() == 1 && found[0].contains("c.toml:2") && found[0].contains(why), "{found:?}");
        };
        has("studies = [\"\"]", "roster.studies");
        has("studies = [\"a b\"]", "without spaces");
        has("studies = [\"a\", \"a\"]", "twice");
        has("studies = [1]", "list of texts");
        has("consent_type = \"\"", "PATIENT_DIRECTED_DATA_EXCHANGE");
        has("consents_every = \"0s\"", "longer than nothing");
    }

    #[test]
    fn a_status_page_for_the_world_needs_a_token() {
        assert!(complaints("[http]\nlisten = \"0.0.0.0:9464\"\n", &[])[0].contains("http.token_file"));
        assert!(complaints("[http]\nlisten = \"127.0.0.1:9464\"\n", &[]).is_empty());
    }
}

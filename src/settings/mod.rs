//! The configuration, typed and checked once. Every complaint names its place and what is allowed.
//!
//! Layers, the later winning: the defaults in `keys.rs`, the file, `HEALTHEX_SYNC__…` variables.
//! Absent on purpose: secrets. The file names where they are, and they are read when needed.

mod keys;
mod secrets;
mod values;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

pub(crate) use secrets::{Credentials, read_secret};
pub(crate) use values::Schedule;

use crate::plan::TypeFilter;
use crate::plan::consent::HoldRule;
use crate::plan::due::DueRules;

/// The environment variables, read once.
pub(crate) type Environment = HashMap<String, String>;

/// What is wrong with configuration or roster, all of it: exit status 2.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    pub(crate) list: Vec<String>,
    /// The rosters, where at least their names could be read.
    pub(crate) roster: Option<RosterSettings>,
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
    pub(crate) concurrency: usize,
    /// `None` asks for one streamed answer.
    pub(crate) page_size: Option<u32>,
    pub(crate) types: TypeFilter,
    pub(crate) overlap: Duration,
    pub(crate) full_every: Option<Duration>,
    pub(crate) pages_max: u64,
    pub(crate) bytes_max: u64,
    pub(crate) time_max: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct WarehouseSettings {
    pub(crate) path: PathBuf,
    pub(crate) group: Option<u32>,
}

#[derive(Clone, Debug)]
pub(crate) struct RosterSettings {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) on_removed: OnRemoved,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnRemoved {
    Keep,
    Purge,
}

#[derive(Clone, Debug)]
pub(crate) struct ConsentSettings {
    pub(crate) recheck: Duration,
    pub(crate) hold: HoldRule,
    /// `None` scrubs at the end of each cycle.
    pub(crate) scrub: Option<Schedule>,
}

#[derive(Clone, Debug)]
pub(crate) struct HttpSettings {
    pub(crate) listen: Option<std::net::SocketAddr>,
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub(crate) struct AlertSettings {
    pub(crate) heartbeat_url: Option<Url>,
    pub(crate) command: Vec<String>,
    pub(crate) stale_after: Duration,
}

#[derive(Clone, Debug)]
pub(crate) struct LogSettings {
    pub(crate) is_json: bool,
    pub(crate) level: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ViewsSettings {
    /// Whether the built-in analysts' tables are kept.
    pub(crate) built_in: bool,
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
    let file = find(given, environment);
    let mut complaints = Vec::new();
    let text = match &file {
        None => String::new(),
        Some(path) => std::fs::read_to_string(path).unwrap_or_else(|error| {
            complaints.push(format!(
                "{}: cannot be read: {error}; `healthex-sync init` writes one",
                path.display()
            ));
            String::new()
        }),
    };
    let name = file.as_ref().map_or_else(|| "configuration".to_owned(), |path| path.display().to_string());
    let folder = file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    let layers = keys::layer(&name, &text, environment, &mut complaints);
    let values: keys::Values = match layers.and_then(config::Config::try_deserialize::<keys::Values>) {
        Ok(values) => values,
        Err(error) => {
            // Single values have been checked, so this is a complaint only where there was none yet.
            if complaints.is_empty() {
                complaints.push(format!("{name}: {error}"));
            }
            return Err(Complaints { list: complaints, roster: None });
        }
    };
    let roster = roster(&values, &folder);
    let settings = typed(values, file, &folder, &name, &mut complaints);
    match settings {
        Some(settings) if complaints.is_empty() => Ok(settings),
        _ => Err(Complaints { list: complaints, roster: Some(roster) }),
    }
}

fn find(given: Option<&Path>, environment: &Environment) -> Option<PathBuf> {
    let named = given.map(Path::to_owned);
    let named = named.or_else(|| {
        environment.get("HEALTHEX_SYNC_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from)
    });
    named.or_else(|| {
        ["healthex-sync.toml", "/etc/healthex-sync/healthex-sync.toml"]
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
    })
}

fn roster(values: &keys::Values, folder: &Path) -> RosterSettings {
    RosterSettings {
        files: values.roster.files.iter().map(|file| folder.join(file)).collect(),
        on_removed: if values.roster.on_removed == "purge" { OnRemoved::Purge } else { OnRemoved::Keep },
    }
}

/// Values that passed one by one become types; what holds between several is checked here.
fn typed(
    values: keys::Values,
    file: Option<PathBuf>,
    folder: &Path,
    name: &str,
    complaints: &mut Vec<String>,
) -> Option<Settings> {
    let file_in = |file: &str| folder.join(file);
    let some_file = |file: &str| (!file.is_empty()).then(|| file_in(file));
    let roster = roster(&values, folder);
    let keys::Values { api, sync, warehouse, consent, http, alert, log, views, .. } = values;
    let group = match warehouse.group.as_str() {
        "" => None,
        group => {
            if let Some(id) = values::group_id(group) {
                Some(id)
            } else {
                complaints.push(format!(
                    "{name}: warehouse.group = {group:?}: the name of a Unix group of this machine"
                ));
                None
            }
        }
    };
    let listen: Option<std::net::SocketAddr> = http.listen.parse().ok();
    if listen.is_some_and(|listen| !listen.ip().is_loopback()) && http.token_file.is_empty() {
        complaints.push(format!(
            "{name}: http.listen is not a loopback address, so http.token_file must name a file with a token"
        ));
    }
    Some(Settings {
        api: ApiSettings {
            base_url: values::base_url(&api.base_url).ok()?,
            token_file: some_file(&api.token_file).map(|_| PathBuf::from(&api.token_file)),
            api_key_file: PathBuf::from(&api.api_key_file),
            api_secret_file: PathBuf::from(&api.api_secret_file),
            limits: ApiLimits {
                connect_timeout: values::duration(&api.connect_timeout).ok()?,
                idle_timeout: values::duration(&api.idle_timeout).ok()?,
                page_timeout: values::duration(&api.page_timeout).ok()?,
                max_attempts: api.max_attempts,
                retry_initial: values::duration(&api.retry_initial).ok()?,
                retry_max: values::duration(&api.retry_max).ok()?,
            },
        },
        sync: SyncSettings {
            schedule: Schedule::parse(&sync.schedule).ok()?,
            concurrency: sync.concurrency,
            page_size: (sync.page_size > 0).then_some(sync.page_size),
            types: TypeFilter::new(sync.types),
            overlap: values::duration(&sync.overlap).ok()?,
            full_every: values::duration_or_never(&sync.full_every).ok()?,
            pages_max: sync.pages_max,
            bytes_max: values::bytes(&sync.bytes_max).ok()?,
            time_max: values::duration(&sync.time_max).ok()?,
        },
        warehouse: WarehouseSettings { path: file_in(&warehouse.path), group },
        roster,
        consent: ConsentSettings {
            recheck: values::duration(&consent.recheck).ok()?,
            hold: HoldRule { hold_after: consent.hold_after, hold_fraction: consent.hold_fraction },
            scrub: if consent.scrub == "cycle" { None } else { Some(Schedule::parse(&consent.scrub).ok()?) },
        },
        http: HttpSettings { listen, token_file: some_file(&http.token_file) },
        alert: AlertSettings {
            heartbeat_url: alert.heartbeat_url.parse().ok(),
            command: alert.command,
            stale_after: values::duration(&alert.stale_after).ok()?,
        },
        log: LogSettings { is_json: log.format == "json", level: log.level },
        views: ViewsSettings { built_in: views.built_in, folder: some_file(&views.folder) },
        file,
    })
}

#[cfg(test)]
mod tests {
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
        let nothing = HashMap::new();
        let mut wrong = Vec::new();
        let defaults = keys::layer("", "", &nothing, &mut wrong).unwrap();
        let annotated =
            keys::layer("f", include_str!("../../config/healthex-sync.toml"), &nothing, &mut wrong).unwrap();
        assert_eq!(wrong, Vec::<String>::new());
        let read = |layers: config::Config| layers.try_deserialize::<toml::Table>().unwrap();
        assert_eq!(read(annotated), read(defaults));
        let text = include_str!("../../config/healthex-sync.toml");
        for (section, key) in keys::names() {
            assert!(keys::line_of(text, section, key).is_some(), "{section}.{key} is missing from the file");
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
    fn a_status_page_for_the_world_needs_a_token() {
        assert!(complaints("[http]\nlisten = \"0.0.0.0:9464\"\n", &[])[0].contains("http.token_file"));
        assert!(complaints("[http]\nlisten = \"127.0.0.1:9464\"\n", &[]).is_empty());
    }
}

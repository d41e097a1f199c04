//! Finds and reads key, secret, token, and the password of a database.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};

use super::{Environment, Settings, trust};

const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// The credentials found, and where a token is to come from.
#[derive(Clone, Debug)]
pub(crate) enum Credentials {
    /// A JWT from the environment.
    Ready(SecretString),
    /// A JWT in a file, which somebody else renews.
    ReadyFile(PathBuf),
    KeyAndSecret {
        key: SecretString,
        secret: SecretString,
    },
}

impl Credentials {
    /// Returns whether a refusal of these is one of the others.
    pub(crate) fn are(&self, others: &Self) -> bool {
        let is_same = |one: &SecretString, other: &SecretString| one.expose_secret() == other.expose_secret();
        match (self, others) {
            (Self::Ready(one), Self::Ready(other)) => is_same(one, other),
            // Read anew for each token.
            (Self::ReadyFile(one), Self::ReadyFile(other)) => one == other,
            (
                Self::KeyAndSecret { key, secret },
                Self::KeyAndSecret { key: other_key, secret: other_secret },
            ) => is_same(key, other_key) && is_same(secret, other_secret),
            _ => false,
        }
    }
}

fn owned((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

impl Settings {
    /// Returns the first of: a ready token, key and secret from the environment, key and secret from files.
    pub(crate) fn credentials(&self, environment: &Environment) -> Result<Credentials, Vec<String>> {
        let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        if let Some(token) = variable("HEALTHEX_TOKEN") {
            return Ok(Credentials::Ready(SecretString::from(token.trim())));
        }
        if let Some(file) = &self.api.token_file {
            let path = self.secret_path(file, environment);
            return read_secret(&path).map(|_| Credentials::ReadyFile(path)).map_err(|why| vec![why]);
        }
        match (variable("HEALTHEX_API_KEY"), variable("HEALTHEX_API_SECRET")) {
            (Some(key), Some(secret)) => {
                return Ok(Credentials::KeyAndSecret {
                    key: SecretString::from(key.trim()),
                    secret: SecretString::from(secret.trim()),
                });
            }
            (Some(_), None) => {
                return Err(vec!["HEALTHEX_API_KEY is set and HEALTHEX_API_SECRET is not".to_owned()]);
            }
            (None, Some(_)) => {
                return Err(vec!["HEALTHEX_API_SECRET is set and HEALTHEX_API_KEY is not".to_owned()]);
            }
            (None, None) => {}
        }
        let key = read_secret(&self.secret_path(&self.api.api_key_file, environment));
        let secret = read_secret(&self.secret_path(&self.api.api_secret_file, environment));
        match (key, secret) {
            (Ok(key), Ok(secret)) => Ok(Credentials::KeyAndSecret { key, secret }),
            (key, secret) => Err([key.err(), secret.err()].into_iter().flatten().collect()),
        }
    }

    /// Returns key and secret, or the token's file, other than those that were refused: they may have been
    /// replaced since. systemd hands over what was there at the start; the configured files may be newer.
    pub(crate) fn credentials_besides(
        &self,
        environment: &Environment,
        refused: &[Credentials],
    ) -> Option<Credentials> {
        let without = environment.iter().filter(|(name, _)| *name != "CREDENTIALS_DIRECTORY");
        let configured: Environment = without.map(owned).collect();
        let found = [environment, &configured].map(|environment| self.credentials(environment).ok());
        found.into_iter().flatten().find(|found| !refused.iter().any(|refused| found.are(refused)))
    }

    fn secret_path(&self, file: &Path, environment: &Environment) -> PathBuf {
        secret_path(file, self.file.as_deref(), environment)
    }
}

/// systemd's credentials come first; then the configuration's own folder.
fn secret_path(file: &Path, configuration: Option<&Path>, environment: &Environment) -> PathBuf {
    let handed_over = environment.get("CREDENTIALS_DIRECTORY").map(|folder| Path::new(folder).join(file));
    let folder = configuration.and_then(Path::parent).unwrap_or(Path::new(""));
    handed_over.filter(|path| file.is_relative() && path.exists()).unwrap_or_else(|| folder.join(file))
}

/// Where the password of a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PasswordSource {
    Variable,
    /// Need not be there: a server may ask for no password.
    File(PathBuf),
}

impl PasswordSource {
    const VARIABLE: &str = "HEALTHEX_DB_PASSWORD";

    /// Chooses the variable where it is set.
    pub(super) fn find(file: &Path, configuration: Option<&Path>, environment: &Environment) -> Self {
        match environment.get(Self::VARIABLE) {
            Some(password) if !password.is_empty() => Self::Variable,
            _ => Self::File(secret_path(file, configuration, environment)),
        }
    }

    /// Reads the password, if there is one.
    pub(crate) fn read(&self) -> Result<Option<SecretString>, String> {
        let file = match self {
            Self::Variable => return Ok(std::env::var(Self::VARIABLE).ok().map(SecretString::from)),
            Self::File(file) if !file.try_exists().unwrap_or(true) => return Ok(None),
            Self::File(file) => file,
        };
        let password = read_line(file, "it is warehouse.password_file")?;
        if password.is_empty() || password.chars().any(char::is_control) {
            return Err(format!("{}: must hold one line of text and nothing else", file.display()));
        }
        Ok(Some(SecretString::from(password)))
    }
}

impl fmt::Display for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable => f.write_str(Self::VARIABLE),
            Self::File(file) => file.display().fmt(f),
        }
    }
}

/// Reads a secret of HealthEx's, which is one word. The complaint never holds it.
pub(crate) fn read_secret(path: &Path) -> Result<SecretString, String> {
    let secret = read_line(
        path,
        "put the API key and secret from HealthEx's admin page into api.api_key_file and api.api_secret_file, mode 0600",
    )?;
    let plain = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic());
    if plain {
        Ok(SecretString::from(secret))
    } else {
        Err(format!("{}: must hold one line of text and nothing else", path.display()))
    }
}

/// Reads what only its owner and its group may read, and only its owner write, without blanks around it.
fn read_line(path: &Path, what_to_do: &str) -> Result<String, String> {
    let name = path.display();
    let file = std::fs::File::open(path)
        .map_err(|error| format!("{name}: cannot be read: {error}; {what_to_do}"))?;
    let metadata = file.metadata().map_err(|error| format!("{name}: cannot be read: {error}"))?;
    if let Some(why) = trust::refusal_of_secret(path, &metadata) {
        return Err(why);
    }
    let mut text = String::new();
    file.take(SECRET_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| format!("{name}: cannot be read: {error}"))?;
    Ok(text.trim().to_owned())
}

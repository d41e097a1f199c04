//! How requests get out: through which proxy, whom to trust, and whether the way may be in clear.
//!
//! Promise: a proxy's password is in no `Debug` and in no complaint.

use std::fmt;
use std::path::{Path, PathBuf};

use url::{Host, Url};

use super::Environment;
use super::keys::Keys;
use super::proxy::{ProxySource, parse_proxy};
use super::values;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkSettings {
    pub(crate) proxies: Vec<Proxy>,
    /// Certificates that are trusted beside the system's.
    pub(crate) ca_file: Option<PathBuf>,
}

/// A proxy, and for which requests it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) url: Url,
    /// For `https://` alone.
    pub(crate) only_https: bool,
    /// The hosts that are asked without it, as `NO_PROXY` lists them.
    pub(crate) but_not: String,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, only_https, but_not } = self;
        write!(f, "Proxy({}, {only_https}, {but_not:?})", place_of(url))
    }
}

/// Returns host and port, which are no secret where a whole URL may be.
pub(crate) fn place_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Reads the keys, and complains of a way in clear that nobody has allowed.
pub(super) fn read(
    keys: &mut Keys<'_>,
    base_url: &Url,
    environment: &Environment,
    folder: &Path,
) -> NetworkSettings {
    let source = keys.read("api", "proxy", "environment", &values::proxy());
    let ca_file = keys.read("api", "ca_file", "", &values::file_name_or_none()).map(|file| folder.join(file));
    let allow_http = keys.read("api", "allow_http", false, &values::boolean());
    if base_url.scheme() == "http" && !allow_http && !is_this_machine(base_url) {
        let why = format!(
            "http:// would send the key and every record in clear to {}; write https://, or set api.allow_http = true",
            place_of(base_url)
        );
        keys.complain_of("api", "base_url", &why);
    }
    if let Some(why) = ca_file.as_deref().and_then(why_no_certificates) {
        keys.complain_of("api", "ca_file", &why);
    }
    let proxies = match source {
        ProxySource::None => Vec::new(),
        ProxySource::Url(url) => vec![Proxy { url, only_https: false, but_not: String::new() }],
        ProxySource::Environment => {
            let (proxies, refused) = proxies_of(environment);
            for why in &refused {
                keys.complain_of_variable(why);
            }
            proxies
        }
    };
    NetworkSettings { proxies, ca_file }
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost") || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

pub(super) fn why_no_certificates(file: &Path) -> Option<String> {
    let name = file.display();
    match std::fs::read(file) {
        Err(error) => Some(format!("{name}: cannot be read: {error}")),
        Ok(text) if memchr::memmem::find(&text, b"-----BEGIN CERTIFICATE-----").is_none() => {
            Some(format!("{name}: holds no certificate in PEM, -----BEGIN CERTIFICATE-----"))
        }
        Ok(_) => None,
    }
}

/// Reads `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or not.
fn proxies_of(environment: &Environment) -> (Vec<Proxy>, Vec<String>) {
    let find = |name: &str| {
        let names = [name.to_owned(), name.to_ascii_lowercase()];
        let value = names.iter().find_map(|name| environment.get(name));
        value.map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    let but_not = find("NO_PROXY").unwrap_or_default();
    let (mut proxies, mut refused) = (Vec::new(), Vec::new());
    for (name, only_https) in [("HTTPS_PROXY", true), ("ALL_PROXY", false)] {
        match find(name).map(|text| parse_proxy(&text)) {
            None => {}
            Some(Ok(url)) => proxies.push(Proxy { url, only_https, but_not: but_not.clone() }),
            Some(Err(why)) => refused.push(format!("the variable {name} {why}; or set api.proxy")),
        }
    }
    (proxies, refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_may_be_asked_in_clear() {
        let check =
            |url: &str, is_here| assert_eq!(is_this_machine(&Url::parse(url).unwrap()), is_here, "{url}");
        check("http://127.0.0.1:8787", true);
        check("http://127.9.9.9", true);
        check("http://localhost:8787", true);
        check("http://[::1]:8787", true);
        check("http://0.0.0.0:8787", false);
        check("http://192.168.1.2", false);
        check("http://localhost.example", false);
    }

    #[test]
    fn proxies_are_those_of_the_environment_in_capitals_or_not() {
        let of = |variables: &[(&str, &str)]| {
            let environment = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let (proxies, refused) = proxies_of(&environment);
            (format!("{proxies:?}"), refused)
        };
        let (proxies, refused) = of(&[
            ("https_proxy", "http://anna:canary@proxy.example:3128"),
            ("ALL_PROXY", "other.example:80"),
            ("NO_PROXY", ".example.org"),
            ("HTTP_PROXY", "http://never.example"),
        ]);
        assert_eq!(
            proxies,
            "[Proxy(proxy.example:3128, true, \".example.org\"), Proxy(other.example:80, false, \".example.org\")]"
        );
        assert_eq!(refused, Vec::<String>::new());
        let (proxies, refused) = of(&[("ALL_PROXY", "socks5://anna:canary@proxy.example")]);
        assert_eq!(proxies, "[]");
        assert!(
            refused[0].starts_with("the variable ALL_PROXY is not the URL of an HTTP proxy"),
            "{refused:?}"
        );
        assert!(!refused[0].contains("canary"), "{refused:?}");
    }
}

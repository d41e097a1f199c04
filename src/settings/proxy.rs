//! How a proxy is written. A text that is refused is not repeated: it may hold a password.

use url::Url;

/// Where proxies come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProxySource {
    None,
    Environment,
    Url(Url),
}

/// Parses `http://proxy.example:3128`, with or without the scheme.
pub(super) fn parse_proxy(text: &str) -> Result<Url, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    // The text is not repeated: it may hold a password.
    match Url::parse(&whole) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("is not the URL of an HTTP proxy, such as \"http://proxy.example:3128\"".to_owned()),
    }
}

impl ProxySource {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "environment" => Ok(Self::Environment),
            "none" => Ok(Self::None),
            url => parse_proxy(url)
                .map(Self::Url)
                .map_err(|why| format!("{why}, nor \"environment\" or \"none\"")),
        }
    }
}

//! The door to HealthEx: a request goes out; a status, headers and a stream of bytes come in.
//!
//! Promise: redirects are not followed, and no failure holds a URL, which would name a patient. All of
//! `healthex` but this file is the same in a simulation, where the sandbox's answers come in.
//! Absent on purpose: tokens, attempts, and what an answer means.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use reqwest::header::HeaderMap;
use reqwest::{Certificate, NoProxy, StatusCode};
use url::Url;

use super::remedy::{Breakage, BreakageKind, Peer, describe};
use crate::settings::{ApiSettings, NetworkSettings, place_of};

/// Says what to do on a system without any root certificate.
pub(crate) const NO_TLS: &str = "no TLS connection can be made; install root certificates (ca-certificates)";

/// How requests get out.
pub(super) enum Door {
    Http(reqwest::Client, Arc<Peer>),
    #[cfg(test)]
    Simulated,
}

/// A request: a POST of JSON where there is a body, and a GET where there is none.
pub(super) struct Request {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) json: Option<String>,
}

/// The head of an answer. Its body is read from it, piece by piece.
pub(super) enum Answer {
    Http(reqwest::Response, Arc<Peer>),
    #[cfg(test)]
    Simulated(Box<crate::simulation::network::Answer>),
}

/// There was no connection, or it broke off. Says where, and what mends it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Broken(String);

/// Returns a client that goes by these settings. What else it does is the caller's to say.
pub(crate) fn http_client(network: &NetworkSettings) -> anyhow::Result<reqwest::ClientBuilder> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("healthex-sync/", env!("CARGO_PKG_VERSION")))
        // Only those of the settings.
        .no_proxy();
    for proxy in &network.proxies {
        let url = proxy.url.clone();
        let made = if proxy.only_https { reqwest::Proxy::https(url) } else { reqwest::Proxy::all(url) };
        let made = made.map_err(|failed| anyhow::anyhow!("api.proxy: {}", failed.without_url()))?;
        builder = builder.proxy(made.no_proxy(NoProxy::from_string(&proxy.but_not)));
    }
    if let Some(file) = &network.ca_file {
        let name = file.display();
        let text = std::fs::read(file).with_context(|| format!("api.ca_file: {name}"))?;
        let certificates = Certificate::from_pem_bundle(&text)
            .map_err(|failed| anyhow::anyhow!("api.ca_file: {name}: {}", failed.without_url()))?;
        builder = builder.tls_certs_merge(certificates);
    }
    Ok(builder)
}

impl Door {
    /// Makes the door that leads to a server.
    pub(super) fn new(settings: &ApiSettings) -> anyhow::Result<Self> {
        #[cfg(test)]
        if crate::simulation::stage::is_set() {
            return Ok(Self::Simulated);
        }
        let limits = settings.limits;
        let http = http_client(&settings.network)?
            .connect_timeout(limits.connect_timeout)
            .read_timeout(limits.idle_timeout)
            // The token would follow a redirect to wherever it leads.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context(NO_TLS)?;
        Ok(Self::Http(http, Arc::new(peer_of(settings))))
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn send(&self, request: Request) -> Result<Answer, Broken> {
        match self {
            Self::Http(http, peer) => {
                let Request { url, headers, json } = request;
                let sending = match json {
                    None => http.get(url),
                    Some(json) => {
                        http.post(url).header(reqwest::header::CONTENT_TYPE, "application/json").body(json)
                    }
                };
                match sending.headers(headers).send().await {
                    Ok(response) => Ok(Answer::Http(response, peer.clone())),
                    Err(error) => Err(broken(error, peer)),
                }
            }
            #[cfg(test)]
            Self::Simulated => {
                let Request { url, headers, json } = request;
                let answer = Box::pin(crate::simulation::stage::send(url, headers, json)).await;
                answer.map(|answer| Answer::Simulated(Box::new(answer))).map_err(Broken::from)
            }
        }
    }
}

impl Answer {
    /// Returns the next bytes of the body as they travel, or `None` at its end.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Broken> {
        match self {
            Self::Http(response, peer) => response.chunk().await.map_err(|error| broken(error, peer)),
            #[cfg(test)]
            Self::Simulated(answer) => Ok(answer.chunk().await?),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Http(response, _) => response.status(),
            #[cfg(test)]
            Self::Simulated(answer) => answer.status,
        }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        match self {
            Self::Http(response, _) => response.headers(),
            #[cfg(test)]
            Self::Simulated(answer) => &answer.headers,
        }
    }
}

#[cfg(test)]
impl From<crate::simulation::network::Cut> for Broken {
    fn from(cut: crate::simulation::network::Cut) -> Self {
        Self(format!("{} ({})", cut.what, cut.cause))
    }
}

/// Returns the other side, as far as the settings say which way leads there.
fn peer_of(settings: &ApiSettings) -> Peer {
    let is_https = settings.base_url.scheme() == "https";
    let host = settings.base_url.host_str().unwrap_or_default();
    let leads_there = |proxy: &&crate::settings::Proxy| {
        (is_https || !proxy.only_https) && !proxy.but_not.split(',').any(|name| names(name.trim(), host))
    };
    let proxy = settings.network.proxies.iter().find(leads_there);
    let proxy = proxy.map(|proxy| place_of(&proxy.url));
    Peer { server: place_of(&settings.base_url), is_https, proxy }
}

/// Returns whether an entry of `NO_PROXY` names the host, for what is told of it.
fn names(entry: &str, host: &str) -> bool {
    let name = entry.trim_start_matches('.');
    !name.is_empty() && (name == "*" || host == name || host.ends_with(&format!(".{name}")))
}

fn broken(error: reqwest::Error, peer: &Peer) -> Broken {
    let error = error.without_url();
    let mut causes = Vec::new();
    let mut is_refused = false;
    let mut next: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(cause) = next {
        let io = cause.downcast_ref::<std::io::Error>();
        is_refused |= io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused);
        causes.push(cause.to_string());
        next = cause.source();
    }
    let kind = match (error.is_timeout(), error.is_connect()) {
        (true, true) => BreakageKind::NoConnectionInTime,
        (true, false) => BreakageKind::Silence,
        (false, true) => BreakageKind::NoConnection,
        (false, false) if error.is_decode() => BreakageKind::Damage,
        (false, false) => BreakageKind::BrokenOff,
    };
    Broken(describe(&Breakage { kind, is_refused, causes }, peer))
}

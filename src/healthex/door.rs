//! The door to HealthEx: a request goes out; a status, headers and a stream of bytes come in.
//!
//! Promise: redirects are not followed, and no failure holds a URL, which would name a patient. All of
//! `healthex` but this file is the same in a simulation, where the sandbox's answers come in.
//! Absent on purpose: tokens, attempts, and what an answer means.

use anyhow::Context;
use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;
use url::Url;

use crate::settings::ApiLimits;

/// Says what to do on a system without any root certificate.
pub(crate) const NO_TLS: &str = "no TLS connection can be made; install root certificates (ca-certificates)";

/// How requests get out.
pub(super) enum Door {
    Http(reqwest::Client),
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
    Http(reqwest::Response),
    #[cfg(test)]
    Simulated(Box<crate::simulation::network::Answer>),
}

/// There was no connection, or it broke off.
#[derive(Debug, thiserror::Error)]
#[error("{what} ({cause})")]
pub(super) struct Broken {
    what: &'static str,
    cause: String,
}

impl Door {
    /// Makes the door that leads to a server.
    pub(super) fn new(limits: ApiLimits) -> anyhow::Result<Self> {
        #[cfg(test)]
        if crate::simulation::stage::is_set() {
            return Ok(Self::Simulated);
        }
        let http = reqwest::Client::builder()
            .user_agent(concat!("healthex-sync/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(limits.connect_timeout)
            .read_timeout(limits.idle_timeout)
            // The token would follow a redirect to wherever it leads.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .context(NO_TLS)?;
        Ok(Self::Http(http))
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn send(&self, request: Request) -> Result<Answer, Broken> {
        match self {
            Self::Http(http) => {
                let Request { url, headers, json } = request;
                let sending = match json {
                    None => http.get(url),
                    Some(json) => {
                        http.post(url).header(reqwest::header::CONTENT_TYPE, "application/json").body(json)
                    }
                };
                Ok(Answer::Http(sending.headers(headers).send().await?))
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
            Self::Http(response) => Ok(response.chunk().await?),
            #[cfg(test)]
            Self::Simulated(answer) => Ok(answer.chunk().await?),
        }
    }

    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Http(response) => response.status(),
            #[cfg(test)]
            Self::Simulated(answer) => answer.status,
        }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        match self {
            Self::Http(response) => response.headers(),
            #[cfg(test)]
            Self::Simulated(answer) => &answer.headers,
        }
    }
}

#[cfg(test)]
impl From<crate::simulation::network::Cut> for Broken {
    fn from(cut: crate::simulation::network::Cut) -> Self {
        Self { what: cut.what, cause: cut.cause.to_owned() }
    }
}

/// Describes a broken connection by its innermost cause.
impl From<reqwest::Error> for Broken {
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        let what = if error.is_timeout() {
            "no byte came for too long"
        } else if error.is_connect() {
            "no connection to HealthEx"
        } else if error.is_decode() {
            "the answer's body is damaged"
        } else {
            "the connection broke off"
        };
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Self { what, cause: cause.to_string() }
    }
}

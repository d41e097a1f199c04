//! Who is answered on the status port, and who may see the patients' names.
//!
//! Promise: a name is shown only to those who have the token, or may open the socket. Without either
//! only requests for this machine's own name are answered, and no answer is another site's to use. Where
//! there is a token, who comes without learns of `/healthz` the status and not a word more.

use std::net::IpAddr;
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};

use crate::clock;

/// A request that takes longer is answered with a 503.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

const HEADERS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What an orchestrator asks, which has no token to send.
const HEALTH: &str = "/healthz";

/// Whether patients are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Shown,
    Hidden,
}

/// What a request has to bring.
pub(super) enum Access {
    Token(SecretString),
    /// The mode of a Unix socket says who may open it.
    Socket,
    /// Whoever is on this machine.
    Loopback,
}

impl Access {
    pub(super) fn names(&self) -> Names {
        match self {
            Self::Token(_) | Self::Socket => Names::Shown,
            Self::Loopback => Names::Hidden,
        }
    }

    /// Refuses requests without a right to an answer, limits their time, and sets the headers that
    /// every answer carries.
    pub(super) async fn guard(&self, request: Request, next: Next) -> Response {
        let hides_why = self.hides_why(&request);
        let mut response = match self.refusal(&request) {
            Some(refusal) => refusal.into_response(),
            None => clock::timeout(ANSWER_TIME_MAX, next.run(request)).await.unwrap_or_else(|_| {
                (StatusCode::SERVICE_UNAVAILABLE, "the warehouse takes too long to answer\n").into_response()
            }),
        };
        if hides_why {
            response = response.status().into_response();
        }
        for (name, value) in HEADERS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            let asks = HeaderValue::from_static("Basic realm=\"healthex-sync\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, asks);
        }
        response
    }

    fn refusal(&self, request: &Request) -> Option<(StatusCode, &'static str)> {
        if !request.body().is_end_stream() {
            return Some((StatusCode::PAYLOAD_TOO_LARGE, "no request here has a body\n"));
        }
        match self {
            Self::Token(token) if request.uri().path() != HEALTH && !has_token(request.headers(), token) => {
                Some((StatusCode::UNAUTHORIZED, "a token is needed\n"))
            }
            // Another site's name can be made to resolve to this machine (DNS rebinding); its scripts
            // could then read the page in a visitor's browser.
            Self::Loopback if !is_for_this_machine(request.headers()) => Some((
                StatusCode::MISDIRECTED_REQUEST,
                "ask for 127.0.0.1 or localhost, or set http.token_file\n",
            )),
            _ => None,
        }
    }

    /// Returns whether the answer is its status alone.
    fn hides_why(&self, request: &Request) -> bool {
        match self {
            Self::Token(token) => request.uri().path() == HEALTH && !has_token(request.headers(), token),
            Self::Socket | Self::Loopback => false,
        }
    }
}

/// Accepts `Bearer TOKEN`, and `Basic` with the token as the password and any user name.
fn has_token(headers: &HeaderMap, token: &SecretString) -> bool {
    let Some(given) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let Some((scheme, rest)) = given.split_once(' ') else { return false };
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return is_equal(rest.as_bytes(), token.expose_secret().as_bytes());
    }
    let basic = scheme
        .eq_ignore_ascii_case("basic")
        .then(|| STANDARD.decode(rest).ok())
        .flatten()
        .unwrap_or_default();
    let password = basic.iter().position(|byte| *byte == b':').map(|colon| &basic[colon + 1..]);
    password.is_some_and(|password| is_equal(password, token.expose_secret().as_bytes()))
}

/// Compares in constant time.
fn is_equal(given: &[u8], right: &[u8]) -> bool {
    let differs = given.iter().zip(right).fold(0, |differs, (a, b)| differs | (a ^ b));
    given.len() == right.len() && differs == 0
}

fn is_for_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return true };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn a_token_is_sent_as_bearer_or_password() {
        let token = SecretString::from("canary");
        let check = |value: &str, fits: bool| {
            assert_eq!(has_token(&headers(header::AUTHORIZATION, value), &token), fits, "{value}");
        };
        check("Bearer canary", true);
        check("bearer canary", true);
        check(&format!("Basic {}", STANDARD.encode("prometheus:canary")), true);
        check(&format!("Basic {}", STANDARD.encode("canary")), false);
        check("Bearer canar", false);
        check("Bearer canaryy", false);
        check("canary", false);
        check("Bearer ", false);
    }

    #[test]
    fn only_this_machine_is_asked_for_without_a_token() {
        let check = |host: &str, fits: bool| {
            assert_eq!(is_for_this_machine(&headers(header::HOST, host)), fits, "{host}");
        };
        check("127.0.0.1:9464", true);
        check("localhost", true);
        check("[::1]:9464", true);
        check("rebound.example:9464", false);
        check("127.0.0.1.rebound.example", false);
    }
}

//! HealthEx's API, as documented and as it is: requests out, pages in.
//!
//! Promise: the token goes to the base URL's origin and nowhere else, and no error holds a
//! body, a token or a URL. Absent on purpose: tables, and what a page means.

mod array;
pub(crate) mod attempts;
mod body;
pub mod bundle;
pub(crate) mod client;
mod coding;
pub(crate) mod consents;
pub(crate) mod door;
mod large_entry;
pub(crate) mod meter;
pub(crate) mod page_stream;
mod pause;
mod remedy;
mod request_log;
pub(crate) mod token;
mod transport;

use std::time::Duration;

/// Why a request brought no page.
///
/// No variant can hold a response body: a body can hold clinical content.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RequestFailed {
    /// Even with a fresh token.
    #[error("the token was refused (401); check the API key and its permissions")]
    TokenRefused,
    #[error(
        "the credentials were refused by the token endpoint ({status}); check the API key and secret on HealthEx's admin page"
    )]
    CredentialsRefused { status: u16 },
    #[error("no permission for this patient (403)")]
    Forbidden,
    #[error("HealthEx does not know this patient (404); check the id in the roster")]
    PersonUnknown,
    #[error("HealthEx rejected the request ({status}){}", hint(*.status))]
    Rejected { status: u16 },
    /// May pass: worth another attempt.
    #[error("{what}")]
    Transient { what: String, retry_after: Option<Duration>, stage: FailureStage },
    /// The server asked for a longer wait than `api.retry_max`.
    #[error("HealthEx asks to wait {} s, longer than api.retry_max ({what})", .wait.as_secs())]
    WaitTooLong { what: String, wait: Duration, all_workers: bool },
    #[error("more than {what} in one pull")]
    LimitReached { what: &'static str },
    #[error("stopped")]
    Stopped,
}

/// How far a failed request got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureStage {
    /// No connection or no answer at all: the server may be down.
    NoAnswer,
    /// An answer that was no page, or broke off.
    Answered,
    /// 429: everybody is to slow down.
    RateLimited,
}

impl RequestFailed {
    /// Returns whether the server answered, and neither permitted nor refused.
    pub(crate) fn is_other_answer(&self) -> bool {
        match self {
            Self::TokenRefused | Self::PersonUnknown | Self::Rejected { .. } | Self::WaitTooLong { .. } => {
                true
            }
            Self::Transient { stage, .. } => *stage != FailureStage::NoAnswer,
            Self::CredentialsRefused { .. } | Self::Forbidden | Self::LimitReached { .. } | Self::Stopped => {
                false
            }
        }
    }
}

fn hint(status: u16) -> &'static str {
    match status {
        300..=399 => {
            ": unexpected redirect, which is not followed; of a portal or a proxy on the way? check api.base_url and api.proxy"
        }
        400 => ": invalid parameters; check sync.types and sync.page_size",
        403 => ": not HealthEx's own answer, perhaps a proxy's",
        _ => "",
    }
}

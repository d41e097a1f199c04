//! The tokens the server has given out.
//!
//! Promise: each is accepted until its expiration by the server's clock, or until all are
//! ended, and never after. It looks like a JSON Web Token and cannot be guessed.
//!
//! Deliberately absent: a signature that verifies; a token is known by being remembered.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngCore;

use super::text::base64_url;

pub(super) const API_KEY: &str = "sandbox-key";
pub(super) const API_SECRET: &str = "sandbox-secret";

const LIFETIME_DEFAULT: Duration = Duration::from_hours(24);

#[derive(Debug)]
pub(super) struct Tokens {
    given: HashMap<String, GivenToken>,
    pub(super) lifetime: Duration,
    pub(super) credentials_rejected: bool,
}

#[derive(Clone, Copy, Debug)]
struct GivenToken {
    ordinal: u32,
    expires_at: DateTime<Utc>,
    ended: bool,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { given: HashMap::new(), lifetime: LIFETIME_DEFAULT, credentials_rejected: false }
    }
}

pub(super) struct MintedToken {
    pub(super) text: String,
    pub(super) ordinal: u32,
    pub(super) expiration_unix_seconds: i64,
}

impl Tokens {
    pub(super) fn mint(&mut self, now: DateTime<Utc>) -> MintedToken {
        let ordinal = u32::try_from(self.given.len()).unwrap_or(u32::MAX).saturating_add(1);
        let lifetime = TimeDelta::from_std(self.lifetime).unwrap_or(TimeDelta::MAX);
        let expires_at = now.checked_add_signed(lifetime).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let mut signature = [0_u8; 32];
        rand::rng().fill_bytes(&mut signature);
        let claims = format!(
            r#"{{"iss":"healthex-sandbox","jti":"{ordinal}","iat":{},"exp":{}}}"#,
            now.timestamp(),
            expires_at.timestamp()
        );
        let text = format!(
            "{}.{}.{}",
            base64_url(br#"{"alg":"HS256","typ":"JWT"}"#),
            base64_url(claims.as_bytes()),
            base64_url(&signature)
        );
        self.given.insert(text.clone(), GivenToken { ordinal, expires_at, ended: false });
        MintedToken { text, ordinal, expiration_unix_seconds: expires_at.timestamp() }
    }

    /// Which token this is, expired or not.
    pub(super) fn ordinal(&self, token: &str) -> Option<u32> {
        self.given.get(token).map(|given| given.ordinal)
    }

    pub(super) fn is_valid(&self, token: &str, now: DateTime<Utc>) -> bool {
        let given = self.given.get(token);
        given.is_some_and(|given| !given.ended && now < given.expires_at)
    }

    pub(super) fn end_all(&mut self) {
        for given in self.given.values_mut() {
            given.ended = true;
        }
    }
}

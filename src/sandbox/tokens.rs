//! The tokens the server has issued.
//!
//! Promise: each is accepted until its expiration by the server's clock, or until all are
//! ended, and never after. It looks like a JSON Web Token and cannot be guessed.
//!
//! Deliberately absent: a signature that verifies; a token is known by being remembered.

use std::collections::HashMap;

use rand::RngCore;

use super::text::base64_url;
use crate::time::{TimeDelta, Timestamp};

pub(super) const API_KEY: &str = "sandbox-key";
pub(super) const API_SECRET: &str = "sandbox-secret";

const LIFETIME: TimeDelta = TimeDelta::hours(24);

#[derive(Debug, Default)]
pub(super) struct Tokens {
    issued: HashMap<String, TokenRecord>,
    pub(super) credentials_rejected: bool,
}

#[derive(Clone, Copy, Debug)]
struct TokenRecord {
    ordinal: u32,
    expires_at: Timestamp,
    ended: bool,
}

pub(super) struct MintedToken {
    pub(super) text: String,
    pub(super) ordinal: u32,
    pub(super) expiration_unix_seconds: i64,
}

impl Tokens {
    pub(super) fn mint(&mut self, now: Timestamp) -> MintedToken {
        let ordinal = u32::try_from(self.issued.len()).unwrap_or(u32::MAX).saturating_add(1);
        let expires_at = now.checked_add_signed(LIFETIME).unwrap_or(Timestamp::MAX_UTC);
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
        self.issued.insert(text.clone(), TokenRecord { ordinal, expires_at, ended: false });
        MintedToken { text, ordinal, expiration_unix_seconds: expires_at.timestamp() }
    }

    /// Returns the number of a token, expired or not.
    pub(super) fn ordinal(&self, token: &str) -> Option<u32> {
        self.issued.get(token).map(|record| record.ordinal)
    }

    pub(super) fn is_valid(&self, token: &str, now: Timestamp) -> bool {
        let record = self.issued.get(token);
        record.is_some_and(|record| !record.ended && now < record.expires_at)
    }

    pub(super) fn end_all(&mut self) {
        for record in self.issued.values_mut() {
            record.ended = true;
        }
    }
}

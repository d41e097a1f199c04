//! The access token, its age, and when it is renewed: once for all who wait.
//!
//! A token's age is measured from its fetching, so a wrong clock on this machine does not matter;
//! a 401 always wins over what was believed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};

/// A token and its age. Its `Debug` prints `AccessToken(generation)`.
pub(crate) struct AccessToken {
    pub(super) secret: SecretString,
    /// Counts the tokens of this process.
    pub(super) generation: u64,
    fetched: Instant,
    lifetime: Duration,
    /// Fetched because the one before was refused.
    is_second_try: bool,
    /// Some request was accepted with it.
    proven: AtomicBool,
}

impl std::fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AccessToken({})", self.generation)
    }
}

/// Assumed where neither the answer nor the JWT says how long.
pub(super) const LIFETIME_ASSUMED: Duration = Duration::from_hours(24);
/// A token that claims to have expired already (a clock is wrong) is used this long.
const LIFETIME_MIN: Duration = Duration::from_mins(1);
/// Renewed this long before its end, or a tenth of its life if that is less.
const MARGIN: Duration = Duration::from_mins(5);

impl AccessToken {
    pub(super) fn new(
        secret: SecretString,
        generation: u64,
        lifetime: Option<Duration>,
        is_second_try: bool,
    ) -> Self {
        let lifetime = lifetime.unwrap_or(LIFETIME_ASSUMED).max(LIFETIME_MIN);
        let proven = AtomicBool::new(false);
        Self { secret, generation, fetched: Instant::now(), lifetime, is_second_try, proven }
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.fetched.elapsed() < self.lifetime.saturating_sub(MARGIN.min(self.lifetime / 10))
    }

    /// Returns how long it is believed to be valid.
    pub(crate) fn remaining(&self) -> Duration {
        self.lifetime.saturating_sub(self.fetched.elapsed())
    }

    /// Notes an answer other than 401.
    pub(super) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Returns whether another token would help once this one was refused. It would not if this
    /// one was fetched for that reason and has never been accepted.
    pub(super) fn is_worth_replacing(&self) -> bool {
        !self.is_second_try || self.proven.load(Ordering::Relaxed)
    }
}

/// Reads an expiration in seconds since 1970, as HealthEx gives it. Milliseconds, as others give
/// it, are recognised by their size.
pub(super) fn unix_seconds(expiration: f64) -> Option<i64> {
    const LATEST_SECONDS: f64 = 1e11;
    let seconds = if expiration > LATEST_SECONDS { expiration / 1000.0 } else { expiration };
    #[expect(clippy::cast_possible_truncation, reason = "checked to be in range")]
    (seconds.is_finite() && (0.0..=LATEST_SECONDS).contains(&seconds)).then_some(seconds as i64)
}

/// Reads the `exp` of a JWT. It is not verified: only its owner relies on it.
pub(super) fn jwt_expiration(token: &SecretString) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Claims {
        exp: f64,
    }
    let payload = token.expose_secret().split('.').nth(1)?;
    let claims: Claims =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()?;
    unix_seconds(claims.exp)
}

/// The token in use, shared by all workers.
#[derive(Debug, Default)]
pub(super) struct TokenCache {
    current: Mutex<Option<Arc<AccessToken>>>,
    /// Held while a new token is fetched, so that everyone else waits for it.
    pub(super) fetching: tokio::sync::Mutex<()>,
}

impl TokenCache {
    pub(super) fn current(&self) -> Option<Arc<AccessToken>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn put(&self, token: Arc<AccessToken>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_says_when_it_expires() {
        let jwt = SecretString::from("eyJhbGciOiJub25lIn0.eyJleHAiOjE4MDAwMDAwMDB9.sig");
        assert_eq!(jwt_expiration(&jwt), Some(1_800_000_000));
        assert_eq!(jwt_expiration(&SecretString::from("opaque")), None);
        assert_eq!(unix_seconds(1_800_000_000_000.0), Some(1_800_000_000));
        assert_eq!(unix_seconds(f64::NAN), None);
    }

    #[test]
    fn a_token_is_renewed_before_its_end_and_never_printed() {
        let token = AccessToken::new(SecretString::from("canary"), 1, Some(Duration::from_hours(24)), false);
        assert!(token.is_fresh());
        assert!(!format!("{token:?}").contains("canary"));
    }
}

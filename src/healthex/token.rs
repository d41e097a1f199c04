//! Where the token comes from, and when it is renewed: once for all who wait.
//!
//! A token's age is measured since it was fetched, so a wrong clock here does not matter; a
//! 401 always wins over what we believed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};

/// A token and its age. Prints as `Token(generation)`.
pub struct Token {
    pub secret: SecretString,
    /// Which token of this process it is.
    pub generation: u64,
    fetched: Instant,
    lifetime: Duration,
    /// Fetched because the one before was refused.
    is_second_try: bool,
    /// Some request has got through with it.
    proven: AtomicBool,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({})", self.generation)
    }
}

/// Assumed where neither the answer nor the JWT says how long.
pub const LIFETIME_ASSUMED: Duration = Duration::from_hours(24);
/// A token that claims to have expired already (a clock is wrong) is used this long.
const LIFETIME_MIN: Duration = Duration::from_mins(1);
/// Renewed this long before its end, or a tenth of its life if that is less.
const MARGIN: Duration = Duration::from_mins(5);

impl Token {
    pub fn new(
        secret: SecretString,
        generation: u64,
        lifetime: Option<Duration>,
        is_second_try: bool,
    ) -> Self {
        let lifetime = lifetime.unwrap_or(LIFETIME_ASSUMED).max(LIFETIME_MIN);
        let proven = AtomicBool::new(false);
        Self { secret, generation, fetched: Instant::now(), lifetime, is_second_try, proven }
    }

    pub fn is_fresh(&self) -> bool {
        self.fetched.elapsed() < self.lifetime.saturating_sub(MARGIN.min(self.lifetime / 10))
    }

    /// How long it is believed to be good for.
    pub fn remaining(&self) -> Duration {
        self.lifetime.saturating_sub(self.fetched.elapsed())
    }

    /// Any answer but a 401 proves it.
    pub fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    /// Refused, would another one help? Not if this one was fetched for that reason and has
    /// never been accepted by anybody.
    pub fn is_worth_replacing(&self) -> bool {
        !self.is_second_try || self.proven.load(Ordering::Relaxed)
    }
}

/// Seconds since 1970 as HealthEx gives them; milliseconds, as others do, are told apart by size.
pub fn seconds(expiration: f64) -> Option<i64> {
    const LATEST_SECONDS: f64 = 1e11;
    let seconds = if expiration > LATEST_SECONDS { expiration / 1000.0 } else { expiration };
    #[expect(clippy::cast_possible_truncation, reason = "checked to be in range")]
    (seconds.is_finite() && (0.0..=LATEST_SECONDS).contains(&seconds)).then_some(seconds as i64)
}

/// The `exp` of a JWT. It is not verified: only its owner needs to believe it.
pub fn jwt_expiration(token: &SecretString) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Claims {
        exp: f64,
    }
    let payload = token.expose_secret().split('.').nth(1)?;
    let claims: Claims =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()?;
    seconds(claims.exp)
}

/// The token in use, shared by all workers.
#[derive(Debug, Default)]
pub struct TokenShelf {
    current: Mutex<Option<std::sync::Arc<Token>>>,
    /// Held by the one who fetches a new one, so that the others wait for it.
    pub fetching: tokio::sync::Mutex<()>,
}

impl TokenShelf {
    pub fn current(&self) -> Option<std::sync::Arc<Token>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn put(&self, token: std::sync::Arc<Token>) {
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
        assert_eq!(seconds(1_800_000_000_000.0), Some(1_800_000_000));
        assert_eq!(seconds(f64::NAN), None);
    }

    #[test]
    fn a_token_is_renewed_before_its_end_and_never_printed() {
        let token = Token::new(SecretString::from("canary"), 1, Some(Duration::from_hours(24)), false);
        assert!(token.is_fresh());
        assert!(!format!("{token:?}").contains("canary"));
    }
}

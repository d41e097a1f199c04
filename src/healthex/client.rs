//! Requests: timeouts, no redirects, one token for all, and waits that all workers share.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use reqwest::{Response, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::attempts::Attempts;
use super::bundle::{BundleReader, Limits};
use super::coding::{Decoder, NotDecoded};
use super::page_stream::{PageStream, undecoded};
use super::token::{Token, TokenShelf, jwt_expiration, seconds};
use super::{Reach, RequestFailed};
use crate::plan::Timestamp;
use crate::plan::refusal::{ForbiddenAnswer, ForbiddenMeans, judge_forbidden};
use crate::plan::retry::parse_retry_after;
use crate::settings::{ApiLimits, Credentials};
use crate::stop::Stop;

/// Larger entries are quarantined without their bytes.
pub const ENTRY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A token's answer and the body of a refusal are no longer than this.
const SMALL_BODY_MAX: usize = 64 * 1024;
/// A JWT that only says when it was made reads the same when it is minted twice in one second.
const SAME_SECOND: Duration = Duration::from_millis(1100);
/// Wrong credentials lock an account; a token is asked for this often at most.
const TOKEN_ATTEMPTS_MAX: usize = 3;

/// What a system without any root certificate is told.
pub const NO_CLIENT: &str = "no TLS connection can be made; install root certificates (ca-certificates)";

/// What requests have cost.
#[derive(Debug, Default)]
pub struct Meter {
    pub requests: AtomicU64,
    /// Of bodies, decompressed.
    pub bytes: AtomicU64,
    /// How often each status came; 0 where no answer came at all.
    answers: Mutex<BTreeMap<(Asked, u16), u64>>,
}

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    Token,
    Page,
}

impl Meter {
    fn note(&self, asked: Asked, status: u16) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry((asked, status)).or_default() += 1;
    }

    /// The answers since this was last called.
    pub fn take_answers(&self) -> BTreeMap<(Asked, u16), u64> {
        std::mem::take(&mut self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn status_of<E>(response: &Result<Response, E>) -> u16 {
    response.as_ref().map_or(0, |response| response.status().as_u16())
}

/// What one pull may cost.
#[derive(Debug)]
pub struct Budget {
    pub meter: Meter,
    pub bytes_max: u64,
    pub ends: Instant,
    /// A coded body could not be decoded: no coding is asked for any more.
    pub(super) is_plain: AtomicBool,
}

impl Budget {
    pub fn new(bytes_max: u64, ends: Instant) -> Self {
        Self { meter: Meter::default(), bytes_max, ends, is_plain: AtomicBool::new(false) }
    }
}

/// HealthEx, as one process talks to it.
pub struct Api {
    http: reqwest::Client,
    base_url: Url,
    credentials: Credentials,
    limits: ApiLimits,
    tokens: TokenShelf,
    generation: AtomicU64,
    /// Wrong credentials are not tried again in the same cycle: accounts are locked for less.
    credentials_refused: AtomicU16,
    /// Nobody sends anything before this.
    paused_until: Mutex<Option<Instant>>,
    pub meter: Meter,
}

impl Api {
    pub fn new(base_url: Url, credentials: Credentials, limits: ApiLimits) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("healthex-sync/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(limits.connect_timeout)
            .read_timeout(limits.idle_timeout)
            // The token would follow a redirect to wherever it leads.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .context(NO_CLIENT)?;
        Ok(Self {
            http,
            base_url,
            credentials,
            limits,
            tokens: TokenShelf::default(),
            generation: AtomicU64::new(0),
            credentials_refused: AtomicU16::new(0),
            paused_until: Mutex::new(None),
            meter: Meter::default(),
        })
    }

    pub fn base_url(&self) -> &Url {
        &self.base_url
    }

    /// Credentials that were refused may have been mended since the last cycle.
    pub fn begin_cycle(&self) {
        self.credentials_refused.store(0, Ordering::Relaxed);
    }

    /// A fresh count of attempts for one request.
    pub fn attempts(&self) -> Attempts {
        Attempts::new(self.limits, self.limits.max_attempts)
    }

    /// Sends the request for a page. The page itself is read from what is returned.
    ///
    /// A 401 is answered with one fresh token, fetched once for all who wait.
    pub async fn open_page(
        &self,
        url: &Url,
        budget: &Budget,
        stop: &Stop,
    ) -> Result<PageStream, RequestFailed> {
        let token = self.token(stop).await?;
        match self.try_page(url, &token, budget, stop).await {
            Err(RequestFailed::TokenRefused) if token.is_worth_replacing() => {
                let fresh = self.replace(&token, stop).await?.ok_or(RequestFailed::TokenRefused)?;
                self.try_page(url, &fresh, budget, stop).await
            }
            answer => answer,
        }
    }

    /// Is this patient permitted, as far as this very token can tell? Nothing is read of a 200.
    pub async fn ask_consent(
        &self,
        url: &Url,
        token: &Token,
        budget: &Budget,
        stop: &Stop,
    ) -> Result<(), RequestFailed> {
        self.persist(self.attempts(), stop, || self.try_page(url, token, budget, stop)).await.map(drop)
    }

    /// Sends a request until it is answered, or until `attempts` has no more of them.
    pub async fn persist<T, F>(
        &self,
        mut attempts: Attempts,
        stop: &Stop,
        send: impl Fn() -> F,
    ) -> Result<T, RequestFailed>
    where
        F: Future<Output = Result<T, RequestFailed>>,
    {
        loop {
            match send().await {
                Ok(answer) => return Ok(answer),
                Err(failed) => attempts.wait(failed, self, stop).await?,
            }
        }
    }

    async fn try_page(
        &self,
        url: &Url,
        token: &Token,
        budget: &Budget,
        stop: &Stop,
    ) -> Result<PageStream, RequestFailed> {
        self.wait_out_pause(stop).await?;
        let mut request = self
            .http
            .get(url.clone())
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, bearer(token)?);
        if !budget.is_plain.load(Ordering::Relaxed) {
            request = request.header(header::ACCEPT_ENCODING, "gzip");
        }
        for meter in [&self.meter, &budget.meter] {
            meter.requests.fetch_add(1, Ordering::Relaxed);
        }
        let sent = Instant::now();
        let ends = (sent + self.limits.page_timeout).min(budget.ends);
        let response = until(ends, stop, request.send()).await?;
        self.meter.note(Asked::Page, status_of(&response));
        let response = response.map_err(|error| transient(error, Reach::Nothing))?;
        let answered_after = sent.elapsed();
        let server_date = server_date(&response);
        if response.status() != StatusCode::UNAUTHORIZED {
            token.prove();
        }
        // A proxy that has changed something on the way says 203.
        if !matches!(response.status(), StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION) {
            return Err(self.refusal(response, ends, stop).await);
        }
        let decoder = Decoder::of(response.headers()).map_err(|failed| undecoded(&failed, budget))?;
        let limits = Limits { entry_bytes_max: ENTRY_BYTES_MAX };
        let reader = BundleReader::new(limits);
        Ok(PageStream::new(response, decoder, reader, ends, server_date, answered_after))
    }

    /// What an answer without a page means.
    async fn refusal(&self, response: Response, ends: Instant, stop: &Stop) -> RequestFailed {
        let status = response.status();
        match status.as_u16() {
            401 => RequestFailed::TokenRefused,
            403 => self.forbidden(response, ends, stop).await,
            404 => RequestFailed::PersonUnknown,
            408 | 425 | 429 | 500..=599 => RequestFailed::Transient {
                what: format!("HealthEx is busy or down ({})", status.as_u16()),
                retry_after: retry_after(&response),
                reach: if status == StatusCode::TOO_MANY_REQUESTS { Reach::TooMany } else { Reach::Answered },
            },
            status => RequestFailed::Rejected { status },
        }
    }

    async fn forbidden(&self, response: Response, ends: Instant, stop: &Stop) -> RequestFailed {
        let retry_after = retry_after(&response);
        let headers = response.headers().clone();
        let body = match until(ends, stop, small_body(response)).await {
            Err(failed) => return failed,
            Ok(Err(failed)) => return unread(failed, Reach::Answered),
            Ok(Ok(body)) => body,
        };
        let headers = headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let answer = ForbiddenAnswer { headers: &headers.collect::<Vec<_>>(), body: body.as_deref() };
        match judge_forbidden(answer) {
            ForbiddenMeans::Refused => RequestFailed::Forbidden,
            ForbiddenMeans::NotTheServers => RequestFailed::Rejected { status: 403 },
            ForbiddenMeans::SlowDown => RequestFailed::Transient {
                what: "HealthEx asks to slow down (403)".to_owned(),
                retry_after,
                reach: Reach::TooMany,
            },
        }
    }

    /// The token all requests share, fetched if there is none or its end is near.
    pub async fn token(&self, stop: &Stop) -> Result<Arc<Token>, RequestFailed> {
        if let Some(token) = self.tokens.current().filter(|token| token.is_fresh()) {
            return Ok(token);
        }
        let _turn = self.tokens.fetching.lock().await;
        let current = self.tokens.current();
        if let Some(token) = current.clone().filter(|token| token.is_fresh()) {
            return Ok(token);
        }
        match self.fetch_token(false, stop).await {
            Ok(token) => Ok(token),
            // The one at hand is still good for a while.
            Err(RequestFailed::Transient { .. }) if current.is_some() => {
                current.ok_or(RequestFailed::TokenRefused)
            }
            Err(failed) => Err(failed),
        }
    }

    /// Another token than `refused`, or `None` where no different one can be had.
    async fn replace(&self, refused: &Token, stop: &Stop) -> Result<Option<Arc<Token>>, RequestFailed> {
        let _turn = self.tokens.fetching.lock().await;
        if let Some(current) =
            self.tokens.current().filter(|current| current.generation != refused.generation)
        {
            return Ok(Some(current));
        }
        let fresh = self.fetch_token(true, stop).await?;
        Ok(self.differs(refused, &fresh).then_some(fresh))
    }

    /// Minting is what makes a token another one; a ready JWT is another one if it reads differently.
    fn differs(&self, before: &Token, fresh: &Token) -> bool {
        match &self.credentials {
            Credentials::KeyAndSecret { .. } => true,
            Credentials::Ready(_) | Credentials::ReadyFile(_) => {
                before.secret.expose_secret() != fresh.secret.expose_secret()
            }
        }
    }

    /// A token that was minted after all the refusals it is to confirm; `None` where only the
    /// same one can be had.
    pub async fn token_to_confirm_with(&self, stop: &Stop) -> Result<Option<Arc<Token>>, RequestFailed> {
        let _turn = self.tokens.fetching.lock().await;
        let before = self.tokens.current();
        let same = |fresh: &Token| {
            before
                .as_ref()
                .is_some_and(|before| before.secret.expose_secret() == fresh.secret.expose_secret())
        };
        let fresh = self.fetch_token(false, stop).await?;
        if !same(&fresh) {
            return Ok(Some(fresh));
        }
        if matches!(self.credentials, Credentials::Ready(_)) || !stop.sleep(SAME_SECOND).await {
            return Ok(None);
        }
        let fresh = self.fetch_token(false, stop).await?;
        Ok((!same(&fresh)).then_some(fresh))
    }

    async fn fetch_token(&self, is_second_try: bool, stop: &Stop) -> Result<Arc<Token>, RequestFailed> {
        let (secret, lifetime) = match &self.credentials {
            Credentials::Ready(secret) => (secret.clone(), ready_lifetime(secret)),
            Credentials::ReadyFile(path) => {
                let secret = read_ready(path).await?;
                let lifetime = ready_lifetime(&secret);
                (secret, lifetime)
            }
            Credentials::KeyAndSecret { key, secret } => self.mint(key, secret, stop).await?,
        };
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let token = Arc::new(Token::new(secret, generation, lifetime, is_second_try));
        self.tokens.put(token.clone());
        Ok(token)
    }

    async fn mint(
        &self,
        key: &SecretString,
        secret: &SecretString,
        stop: &Stop,
    ) -> Result<(SecretString, Option<Duration>), RequestFailed> {
        match self.credentials_refused.load(Ordering::Relaxed) {
            0 => {}
            status => return Err(RequestFailed::CredentialsRefused { status }),
        }
        let attempts = Attempts::new(self.limits, self.limits.max_attempts.min(TOKEN_ATTEMPTS_MAX));
        let minted = self.persist(attempts, stop, || self.try_mint(key, secret, stop)).await;
        if let Err(RequestFailed::CredentialsRefused { status }) = &minted {
            self.credentials_refused.store(*status, Ordering::Relaxed);
        }
        minted
    }

    async fn try_mint(
        &self,
        key: &SecretString,
        secret: &SecretString,
        stop: &Stop,
    ) -> Result<(SecretString, Option<Duration>), RequestFailed> {
        self.wait_out_pause(stop).await?;
        let mut url = self.base_url.clone();
        url.set_path(&format!("{}/v1/auth/token", self.base_url.path().trim_end_matches('/')));
        let body = serde_json::json!({"apiKey": key.expose_secret(), "apiSecret": secret.expose_secret()});
        self.meter.requests.fetch_add(1, Ordering::Relaxed);
        let ends = Instant::now() + self.limits.idle_timeout.min(self.limits.page_timeout);
        let request = self.http.post(url).header(header::ACCEPT, "application/json").json(&body);
        let response = until(ends, stop, request.send()).await?;
        self.meter.note(Asked::Token, status_of(&response));
        let response = response.map_err(|error| transient(error, Reach::Nothing))?;
        let status = response.status();
        let unusable = |what: &str| RequestFailed::Transient {
            what: format!("the token endpoint {what}"),
            retry_after: None,
            reach: Reach::Nothing,
        };
        match status.as_u16() {
            200..=299 => {}
            400 | 401 | 403 | 422 => {
                return Err(RequestFailed::CredentialsRefused { status: status.as_u16() });
            }
            408 | 425 | 429 | 500..=599 => {
                return Err(RequestFailed::Transient {
                    what: format!("the token endpoint is busy or down ({})", status.as_u16()),
                    retry_after: retry_after(&response),
                    reach: if status == StatusCode::TOO_MANY_REQUESTS {
                        Reach::TooMany
                    } else {
                        Reach::Nothing
                    },
                });
            }
            other => return Err(unusable(&format!("answered {other}; check api.base_url"))),
        }
        let date = server_date(&response);
        let body = until(ends, stop, small_body(response)).await?;
        let body = body.map_err(|failed| unread(failed, Reach::Nothing))?;
        let body = body.ok_or_else(|| unusable("sent an answer that is too long"))?;
        self.meter.bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        read_token(&body, date).ok_or_else(|| unusable("sent no token; check api.base_url"))
    }

    /// All workers wait until a moment that the server has named to one of them.
    pub(super) fn pause_all(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut paused = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        *paused = Some(paused.map_or(until, |earlier| earlier.max(until)));
    }

    async fn wait_out_pause(&self, stop: &Stop) -> Result<(), RequestFailed> {
        if stop.is_asked() {
            return Err(RequestFailed::Stopped);
        }
        let until = *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(wait) = until.and_then(|until| until.checked_duration_since(Instant::now())) else {
            return Ok(());
        };
        if stop.sleep(wait).await { Ok(()) } else { Err(RequestFailed::Stopped) }
    }
}

/// Waits for `work` until `ends`, or until the program must end at once.
pub(super) async fn until<T>(
    ends: Instant,
    stop: &Stop,
    work: impl Future<Output = T>,
) -> Result<T, RequestFailed> {
    tokio::select! {
        biased;
        () = stop.at_once.cancelled() => Err(RequestFailed::Stopped),
        done = tokio::time::timeout_at(ends.into(), work) => done.map_err(|_| RequestFailed::Transient {
            what: "the answer took longer than api.page_timeout".to_owned(),
            retry_after: None,
            reach: Reach::Answered,
        }),
    }
}

fn bearer(token: &Token) -> Result<header::HeaderValue, RequestFailed> {
    let mut value = header::HeaderValue::from_str(&format!("Bearer {}", token.secret.expose_secret()))
        .map_err(|_| RequestFailed::TokenRefused)?;
    value.set_sensitive(true);
    Ok(value)
}

/// reqwest's errors carry the URL, which names a patient; only the innermost cause is told.
pub(super) fn transient(error: reqwest::Error, reach: Reach) -> RequestFailed {
    let error = error.without_url();
    let kind = if error.is_timeout() {
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
    RequestFailed::Transient { what: format!("{kind} ({cause})"), retry_after: None, reach }
}

fn server_date(response: &Response) -> Option<Timestamp> {
    let value = response.headers().get(header::DATE)?.to_str().ok()?;
    httpdate::parse_http_date(value).ok().map(Timestamp::from)
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    parse_retry_after(value, server_date(response))
}

/// Why a small body could not be read.
#[derive(Debug)]
enum Unread {
    BrokeOff(reqwest::Error),
    NotDecoded(NotDecoded),
}

impl From<reqwest::Error> for Unread {
    fn from(error: reqwest::Error) -> Self {
        Self::BrokeOff(error)
    }
}

impl From<NotDecoded> for Unread {
    fn from(failed: NotDecoded) -> Self {
        Self::NotDecoded(failed)
    }
}

fn unread(failed: Unread, reach: Reach) -> RequestFailed {
    match failed {
        Unread::BrokeOff(error) => transient(error, reach),
        Unread::NotDecoded(failed) => {
            RequestFailed::Transient { what: failed.to_string(), retry_after: None, reach }
        }
    }
}

/// The body, or `None` if it is longer than any that is expected.
async fn small_body(mut response: Response) -> Result<Option<Vec<u8>>, Unread> {
    let mut decoder = Decoder::of(response.headers())?;
    let mut body = Vec::new();
    let mut is_empty = true;
    while let Some(mut chunk) = response.chunk().await? {
        is_empty &= chunk.is_empty();
        while !chunk.is_empty() {
            body.extend_from_slice(&decoder.step(&mut chunk)?);
            if body.len() > SMALL_BODY_MAX {
                return Ok(None);
            }
        }
    }
    if !is_empty {
        body.extend_from_slice(&decoder.finish()?);
    }
    Ok((body.len() <= SMALL_BODY_MAX).then_some(body))
}

fn read_token(body: &[u8], date: Option<Timestamp>) -> Option<(SecretString, Option<Duration>)> {
    #[derive(serde::Deserialize)]
    struct Answer {
        token: String,
        expiration: Option<serde_json::Value>,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    if answer.token.is_empty() {
        return None;
    }
    let token = SecretString::from(answer.token);
    let stated = answer.expiration.and_then(|value| value.as_f64()).and_then(seconds);
    let lifetime = stated.or_else(|| jwt_expiration(&token)).map(|end| lifetime_until(end, date));
    Some((token, lifetime))
}

fn ready_lifetime(token: &SecretString) -> Option<Duration> {
    jwt_expiration(token).map(|end| lifetime_until(end, None))
}

/// How long from now, by the server's clock where it is known.
fn lifetime_until(end: i64, date: Option<Timestamp>) -> Duration {
    let now = date.unwrap_or_else(crate::clock::now).timestamp();
    Duration::from_secs(u64::try_from(end - now).unwrap_or(0))
}

async fn read_ready(path: &Path) -> Result<SecretString, RequestFailed> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || crate::settings::read_secret(&path)).await;
    match read {
        Ok(Ok(secret)) => Ok(secret),
        _ => Err(RequestFailed::Transient {
            what: "api.token_file cannot be read".to_owned(),
            retry_after: None,
            reach: Reach::Nothing,
        }),
    }
}

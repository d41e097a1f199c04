//! Sends requests: timeouts, no redirects, one token for all, and waits that all workers share.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::attempts::Attempts;
use super::body::Body;
use super::bundle::{BundleReader, Limits};
use super::coding::{Decoder, NotDecoded};
use super::door::{Answer, Broken, Door, Request};
use super::large_entry::{LargeEntryTurn, LargeEntryTurns};
use super::meter::{Budget, Meter, RequestKind};
use super::page_stream::PageStream;
use super::pause::SharedPause;
use super::request_log::Sent;
use super::token::{AccessToken, TokenCache, jwt_expiration, unix_seconds};
use super::{FailureStage, RequestFailed, transport};
use crate::clock::Instant;
use crate::machine;
use crate::plan::Timestamp;
use crate::plan::refusal::{ForbiddenAnswer, ForbiddenMeans, judge_forbidden};
use crate::plan::retry::parse_retry_after;
use crate::settings::{ApiLimits, ApiSettings, Credentials, place_of};
use crate::stop::Stop;

/// Larger entries are quarantined without their bytes.
pub(crate) const ENTRY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The answer with a token and the body of a refusal are no longer than this.
const SMALL_BODY_MAX: usize = 64 * 1024;
/// A JWT that only says when it was made reads the same when it is minted twice in one second.
const SAME_SECOND: Duration = Duration::from_millis(1100);
/// Wrong credentials lock an account; a token is asked for this often at most.
const TOKEN_ATTEMPTS_MAX: usize = 3;

/// What an answer may be of that HealthEx does not give.
const PORTAL: &str =
    "is a portal or a proxy on the way? open api.base_url in a browser on this machine, and see api.proxy";

fn status_of<E>(answer: &Result<Answer, E>) -> u16 {
    answer.as_ref().map_or(0, |answer| answer.status().as_u16())
}

/// A request for consent records.
#[derive(Clone, Copy)]
pub(super) struct RecordsRequest<'r> {
    pub(super) url: &'r Url,
    /// What is posted; without it, the URL says all.
    pub(super) json: Option<&'r serde_json::Value>,
}

/// An answer about consent records whose body is to be read.
pub(super) struct Records {
    pub(super) body: Body,
    /// The server's clock when it answered.
    pub(super) server_date: Option<Timestamp>,
}

/// The API, as one process uses it.
pub(crate) struct Api {
    door: Door,
    base_url: Url,
    credentials: Credentials,
    limits: ApiLimits,
    tokens: TokenCache,
    generation: AtomicU64,
    /// The status of the refusal, or 0. Wrong credentials are not tried again in the same cycle:
    /// accounts are locked for less.
    credentials_refused: AtomicU16,
    pause: Arc<SharedPause>,
    large_entries: LargeEntryTurns,
    pub(crate) meter: Meter,
}

impl Api {
    pub(crate) fn new(settings: &ApiSettings, credentials: Credentials) -> anyhow::Result<Self> {
        Ok(Self {
            door: Door::new(settings)?,
            base_url: settings.base_url.clone(),
            credentials,
            limits: settings.limits,
            tokens: TokenCache::default(),
            generation: AtomicU64::new(0),
            credentials_refused: AtomicU16::new(0),
            pause: Arc::default(),
            large_entries: LargeEntryTurns::default(),
            meter: Meter::default(),
        })
    }

    pub(crate) fn base_url(&self) -> &Url {
        &self.base_url
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Allows credentials to be tried again: they may have been corrected since the last cycle.
    pub(crate) fn begin_cycle(&self) {
        self.credentials_refused.store(0, Ordering::Relaxed);
    }

    /// Returns a fresh count of attempts for one request.
    pub(crate) fn attempts(&self) -> Attempts {
        self.attempts_up_to(self.limits.max_attempts)
    }

    fn attempts_up_to(&self, attempts: usize) -> Attempts {
        Attempts::new(self.limits, attempts, self.pause.clone(), self.meter.retries.clone())
    }

    /// Sends the request for a page. The page itself is read from what is returned.
    ///
    /// A 401 is answered with one fresh token, fetched once for all who wait.
    pub(crate) async fn open_page(
        &self,
        url: &Url,
        budget: &Budget,
        stop: &Stop,
    ) -> Result<PageStream, RequestFailed> {
        let token = self.token(stop).await?;
        match self.try_page(url, &token, budget, stop).await {
            Err(RequestFailed::TokenRefused) => {
                let fresh = self.replace(&token, stop).await?;
                self.try_page(url, &fresh, budget, stop).await
            }
            answer => answer,
        }
    }

    /// Asks whether a patient may be read, with this token or else the present one. Only a
    /// searchset Bundle permits it, and a refusal is [`RequestFailed::Forbidden`].
    pub(crate) async fn ask_consent(
        &self,
        url: &Url,
        token: Option<&AccessToken>,
        budget: &Budget,
        stop: &Stop,
    ) -> Result<(), RequestFailed> {
        let ask = || async {
            let page = match token {
                Some(token) => self.try_page(url, token, budget, stop).await?,
                None => self.open_page(url, budget, stop).await?,
            };
            page.skip_bundle(&self.meter, budget, stop).await
        };
        self.retry(self.attempts(), stop, ask).await
    }

    /// Sends a request until it is answered, or until there are no attempts left.
    pub(crate) async fn retry<T, F>(
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
                Err(failed) => attempts.wait(failed, stop).await?,
            }
        }
    }

    /// Sends a request for consent records, with a `body` or without one. The answer is read from what is
    /// returned. A 401 is answered as one to a page.
    pub(super) async fn open_records(
        &self,
        request: RecordsRequest<'_>,
        budget: &Budget,
        stop: &Stop,
    ) -> Result<Records, RequestFailed> {
        let token = self.token(stop).await?;
        match self.try_records(request, &token, budget, stop).await {
            Err(RequestFailed::TokenRefused) => {
                let fresh = self.replace(&token, stop).await?;
                self.try_records(request, &fresh, budget, stop).await
            }
            answer => answer,
        }
    }

    async fn try_records(
        &self,
        request: RecordsRequest<'_>,
        token: &AccessToken,
        budget: &Budget,
        stop: &Stop,
    ) -> Result<Records, RequestFailed> {
        self.pause.wait_out(stop).await?;
        let mut headers = accepting_json();
        headers.insert(header::AUTHORIZATION, bearer(token)?);
        if !budget.asks_plainly() {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let json = request.json.map(ToString::to_string);
        let (url, method) = (request.url, if json.is_some() { "POST" } else { "GET" });
        let request = Request { url: url.clone(), headers, json };
        self.meter.count_request();
        let sent = Instant::now();
        let ends = (sent + self.limits.page_timeout).min(budget.ends);
        let response = transport::before(ends, stop, self.door.send(request)).await?;
        let status = status_of(&response);
        self.meter.count_answer(RequestKind::Records, status);
        let (name, attempt) = (budget.name(), budget.count_attempt(url.as_str()));
        Sent { method, url, name, attempt, status, took: sent.elapsed() }.log();
        let response = response.map_err(|broken| transport::transient(&broken, FailureStage::NoAnswer))?;
        if response.status() != StatusCode::UNAUTHORIZED {
            token.prove();
        }
        if !matches!(response.status(), StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION) {
            return Err(self.refusal(response, ends, stop).await);
        }
        let server_date = server_date(&response);
        Ok(Records { body: Body::of(response, ends, budget)?, server_date })
    }

    async fn try_page(
        &self,
        url: &Url,
        token: &AccessToken,
        budget: &Budget,
        stop: &Stop,
    ) -> Result<PageStream, RequestFailed> {
        self.pause.wait_out(stop).await?;
        let mut headers = accepting_json();
        headers.insert(header::AUTHORIZATION, bearer(token)?);
        if !budget.asks_plainly() {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let request = Request { url: url.clone(), headers, json: None };
        for meter in [&self.meter, &budget.meter] {
            meter.count_request();
        }
        let sent = Instant::now();
        let ends = (sent + self.limits.page_timeout).min(budget.ends);
        let response = transport::before(ends, stop, self.door.send(request)).await?;
        let status = status_of(&response);
        self.meter.count_answer(RequestKind::Page, status);
        let (name, attempt) = (budget.name(), budget.count_attempt(url.as_str()));
        Sent { method: "GET", url, name, attempt, status, took: sent.elapsed() }.log();
        let response = response.map_err(|broken| transport::transient(&broken, FailureStage::NoAnswer))?;
        let answered_after = sent.elapsed();
        self.meter.note_answer_time(answered_after);
        let server_date = server_date(&response);
        if response.status() != StatusCode::UNAUTHORIZED {
            token.prove();
        }
        // A proxy that has changed something on the way says 203.
        if !matches!(response.status(), StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION) {
            return Err(self.refusal(response, ends, stop).await);
        }
        let body = Body::of(response, ends, budget)?;
        let reader = BundleReader::new(Limits { entry_bytes_max: ENTRY_BYTES_MAX });
        let turn = LargeEntryTurn::of(&self.large_entries);
        Ok(PageStream::new(body, reader, turn, server_date, answered_after))
    }

    /// Classifies an answer without a page.
    async fn refusal(&self, response: Answer, ends: Instant, stop: &Stop) -> RequestFailed {
        let status = response.status();
        match status.as_u16() {
            401 => RequestFailed::TokenRefused,
            403 => self.forbidden(response, ends, stop).await,
            404 => RequestFailed::PersonUnknown,
            408 | 425 | 429 | 500..=599 => RequestFailed::Transient {
                what: format!("HealthEx is busy or down ({})", status.as_u16()),
                retry_after: retry_after(&response),
                stage: if status == StatusCode::TOO_MANY_REQUESTS {
                    FailureStage::RateLimited
                } else {
                    FailureStage::Answered
                },
            },
            status => RequestFailed::Rejected { status },
        }
    }

    async fn forbidden(&self, response: Answer, ends: Instant, stop: &Stop) -> RequestFailed {
        let retry_after = retry_after(&response);
        let headers = response.headers().clone();
        let body = match transport::before(ends, stop, small_body(response)).await {
            Err(failed) => return failed,
            Ok(Err(failed)) => return failed.at(FailureStage::Answered),
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
                stage: FailureStage::RateLimited,
            },
        }
    }

    /// Returns the token that all requests share, fetched if there is none or it expires soon.
    pub(crate) async fn token(&self, stop: &Stop) -> Result<Arc<AccessToken>, RequestFailed> {
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
            // The current one is still valid for a while.
            Err(RequestFailed::Transient { .. }) if current.is_some() => {
                current.ok_or(RequestFailed::TokenRefused)
            }
            Err(failed) => Err(failed),
        }
    }

    /// Returns another token than `refused`, which stays refused where no different one can be had.
    async fn replace(&self, refused: &AccessToken, stop: &Stop) -> Result<Arc<AccessToken>, RequestFailed> {
        if !refused.is_worth_replacing() {
            return Err(RequestFailed::TokenRefused);
        }
        let _turn = self.tokens.fetching.lock().await;
        if let Some(current) =
            self.tokens.current().filter(|current| current.generation != refused.generation)
        {
            return Ok(current);
        }
        let fresh = self.fetch_token(true, stop).await?;
        if self.differs(refused, &fresh) { Ok(fresh) } else { Err(RequestFailed::TokenRefused) }
    }

    /// Returns whether `fresh` is another token. One that was minted always is; a ready JWT is if
    /// its text differs.
    fn differs(&self, before: &AccessToken, fresh: &AccessToken) -> bool {
        match &self.credentials {
            Credentials::KeyAndSecret { .. } => true,
            Credentials::Ready(_) | Credentials::ReadyFile(_) => {
                before.secret.expose_secret() != fresh.secret.expose_secret()
            }
        }
    }

    /// Returns a token that was minted after all the refusals it is to confirm, or `None` where
    /// only the same one can be had.
    pub(crate) async fn token_to_confirm_with(
        &self,
        stop: &Stop,
    ) -> Result<Option<Arc<AccessToken>>, RequestFailed> {
        let _turn = self.tokens.fetching.lock().await;
        let before = self.tokens.current();
        let same = |fresh: &AccessToken| {
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

    async fn fetch_token(&self, is_second_try: bool, stop: &Stop) -> Result<Arc<AccessToken>, RequestFailed> {
        let issued = match &self.credentials {
            Credentials::Ready(secret) => IssuedToken::ready(secret.clone()),
            Credentials::ReadyFile(path) => IssuedToken::ready(read_ready(path).await?),
            Credentials::KeyAndSecret { key, secret } => self.mint(key, secret, stop).await?,
        };
        let generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let token = Arc::new(AccessToken::new(issued.secret, generation, issued.lifetime, is_second_try));
        self.tokens.put(token.clone());
        Ok(token)
    }

    async fn mint(
        &self,
        key: &SecretString,
        secret: &SecretString,
        stop: &Stop,
    ) -> Result<IssuedToken, RequestFailed> {
        match self.credentials_refused.load(Ordering::Relaxed) {
            0 => {}
            status => return Err(RequestFailed::CredentialsRefused { status }),
        }
        let attempts = self.attempts_up_to(self.limits.max_attempts.min(TOKEN_ATTEMPTS_MAX));
        let tries = AtomicU32::new(0);
        let mint = || self.try_mint(key, secret, tries.fetch_add(1, Ordering::Relaxed) + 1, stop);
        let minted = self.retry(attempts, stop, mint).await;
        if let Err(RequestFailed::CredentialsRefused { status }) = &minted {
            self.credentials_refused.store(*status, Ordering::Relaxed);
        }
        minted
    }

    fn token_url(&self) -> Url {
        let mut url = self.base_url.clone();
        url.set_path(&format!("{}/v1/auth/token", self.base_url.path().trim_end_matches('/')));
        url
    }

    async fn try_mint(
        &self,
        key: &SecretString,
        secret: &SecretString,
        attempt: u32,
        stop: &Stop,
    ) -> Result<IssuedToken, RequestFailed> {
        self.pause.wait_out(stop).await?;
        let body = serde_json::json!({"apiKey": key.expose_secret(), "apiSecret": secret.expose_secret()});
        let request =
            Request { url: self.token_url(), headers: accepting_json(), json: Some(body.to_string()) };
        self.meter.count_request();
        let sent = Instant::now();
        let ends = sent + self.limits.idle_timeout.min(self.limits.page_timeout);
        let response = transport::before(ends, stop, self.door.send(request)).await?;
        let status = status_of(&response);
        self.meter.count_answer(RequestKind::Token, status);
        Sent { method: "POST", url: &self.token_url(), name: None, attempt, status, took: sent.elapsed() }
            .log();
        let response = response.map_err(|broken| transport::transient(&broken, FailureStage::NoAnswer))?;
        let status = response.status();
        let unusable = |what: &str| RequestFailed::Transient {
            what: format!("the token endpoint of {} {what}", place_of(&self.base_url)),
            retry_after: None,
            stage: FailureStage::NoAnswer,
        };
        match status.as_u16() {
            200..=299 => {}
            400 | 401 | 403 | 422 => {
                return Err(RequestFailed::CredentialsRefused { status: status.as_u16() });
            }
            408 | 425 | 429 | 500..=599 => {
                return Err(RequestFailed::Transient {
                    what: format!(
                        "the token endpoint of {} is busy or down ({})",
                        place_of(&self.base_url),
                        status.as_u16()
                    ),
                    retry_after: retry_after(&response),
                    stage: if status == StatusCode::TOO_MANY_REQUESTS {
                        FailureStage::RateLimited
                    } else {
                        FailureStage::NoAnswer
                    },
                });
            }
            other @ 300..=399 => return Err(unusable(&format!("answered {other}; {PORTAL}"))),
            other => return Err(unusable(&format!("answered {other}; check api.base_url"))),
        }
        let date = server_date(&response);
        let body = transport::before(ends, stop, small_body(response)).await?;
        let body = body.map_err(|failed| failed.at(FailureStage::NoAnswer))?;
        let body = body.ok_or_else(|| unusable("sent an answer that is too long"))?;
        self.meter.count_bytes(body.len());
        read_token(&body, date).ok_or_else(|| match body.trim_ascii_start().first() {
            Some(b'<') => unusable(&format!("sent a web page and no token; {PORTAL}")),
            _ => unusable("sent no token; check api.base_url"),
        })
    }
}

fn accepting_json() -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("application/json"))])
}

fn bearer(token: &AccessToken) -> Result<HeaderValue, RequestFailed> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.secret.expose_secret()))
        .map_err(|_| RequestFailed::TokenRefused)?;
    value.set_sensitive(true);
    Ok(value)
}

fn server_date(response: &Answer) -> Option<Timestamp> {
    let value = response.headers().get(header::DATE)?.to_str().ok()?;
    httpdate::parse_http_date(value).ok().map(Timestamp::from)
}

fn retry_after(response: &Answer) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?.to_str().ok()?;
    parse_retry_after(value, server_date(response))
}

/// Why a small body could not be read.
#[derive(Debug)]
enum Unread {
    BrokeOff(Broken),
    NotDecoded(NotDecoded),
}

impl From<Broken> for Unread {
    fn from(broken: Broken) -> Self {
        Self::BrokeOff(broken)
    }
}

impl From<NotDecoded> for Unread {
    fn from(failed: NotDecoded) -> Self {
        Self::NotDecoded(failed)
    }
}

impl Unread {
    fn at(self, stage: FailureStage) -> RequestFailed {
        match self {
            Self::BrokeOff(broken) => transport::transient(&broken, stage),
            Self::NotDecoded(failed) => {
                RequestFailed::Transient { what: failed.to_string(), retry_after: None, stage }
            }
        }
    }
}

/// Reads the body, or returns `None` if it is longer than any that is expected.
async fn small_body(mut response: Answer) -> Result<Option<Vec<u8>>, Unread> {
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

/// A token as it was issued, before anybody used it.
struct IssuedToken {
    secret: SecretString,
    lifetime: Option<Duration>,
}

impl IssuedToken {
    /// A token that somebody else has fetched.
    fn ready(secret: SecretString) -> Self {
        let lifetime = jwt_expiration(&secret).map(|end| lifetime_until(end, None));
        Self { secret, lifetime }
    }
}

fn read_token(body: &[u8], date: Option<Timestamp>) -> Option<IssuedToken> {
    #[derive(serde::Deserialize)]
    struct TokenResponse {
        token: String,
        expiration: Option<serde_json::Value>,
    }
    let answer: TokenResponse = serde_json::from_slice(body).ok()?;
    if answer.token.is_empty() {
        return None;
    }
    let secret = SecretString::from(answer.token);
    let stated = answer.expiration.and_then(|value| value.as_f64()).and_then(unix_seconds);
    let lifetime = stated.or_else(|| jwt_expiration(&secret)).map(|end| lifetime_until(end, date));
    Some(IssuedToken { secret, lifetime })
}

/// Returns how long from now `end` is, by the server's clock where it is known.
fn lifetime_until(end: i64, date: Option<Timestamp>) -> Duration {
    let now = date.unwrap_or_else(crate::clock::now).timestamp();
    Duration::from_secs(u64::try_from(end - now).unwrap_or(0))
}

async fn read_ready(path: &Path) -> Result<SecretString, RequestFailed> {
    let path = path.to_owned();
    let read = machine::aside(move || crate::settings::read_secret(&path)).await;
    match read {
        Ok(Ok(secret)) => Ok(secret),
        _ => Err(RequestFailed::Transient {
            what: "api.token_file cannot be read".to_owned(),
            retry_after: None,
            stage: FailureStage::NoAnswer,
        }),
    }
}

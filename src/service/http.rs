//! Serves `/`, `/healthz` and `/metrics`, by a read-only connection of its own.
//!
//! Promise: nothing here changes anything, the warehouse is read by one request at a time, and
//! without a token only requests for this machine's own name are answered. Absent on purpose:
//! TLS, and scripts.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::extract::{Request, State as Extract};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::status::Status;
use super::{health, page};
use crate::clock;
use crate::plan::stamp;
use crate::settings::{Complaints, HttpSettings, read_secret};
use crate::warehouse::Reader;
use crate::warehouse::report::{Overview, OverviewRequest};

/// Patients that the page lists; the rest are counted.
const LISTED_MAX: usize = 200;
/// An overview of the warehouse answers all requests within this.
const OVERVIEW_AGE_MAX: Duration = Duration::from_secs(1);
/// A request that takes longer is answered with a 503.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

/// All that answers are made from.
struct AppState {
    status: Arc<Status>,
    warehouse: PathBuf,
    token: Option<SecretString>,
    last_overview: tokio::sync::Mutex<Option<CachedOverview>>,
}

struct CachedOverview {
    read_at: Instant,
    overview: Arc<Overview>,
}

/// Listens until `stop`, if `http.listen` is set.
pub(super) async fn serve(
    settings: &HttpSettings,
    status: Arc<Status>,
    warehouse: PathBuf,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(listen) = settings.listen else { return Ok(()) };
    let token = settings.token_file.as_deref().map(read_secret).transpose();
    let token = token.map_err(|why| Complaints::one(format!("http.token_file: {why}")))?;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("http.listen: {listen} cannot be listened on"))?;
    let address = listener.local_addr().unwrap_or(listen);
    tracing::info!(%address, "status page at http://{address}/");
    let app = Arc::new(AppState { status, warehouse, token, last_overview: tokio::sync::Mutex::default() });
    let routes = Router::new()
        .route("/", get(status_page))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .with_state(app);
    tokio::spawn(async move {
        let serving = axum::serve(listener, routes);
        tokio::select! {
            ended = serving.into_future() => tracing::error!("the status page has ended: {ended:?}"),
            () = stop.cancelled() => {}
        }
    });
    Ok(())
}

/// Refuses requests without a right to an answer, limits their time, and sets the headers that
/// every answer carries.
async fn guard(Extract(app): Extract<Arc<AppState>>, request: Request, next: Next) -> Response {
    let refused = match &app.token {
        Some(token) if !has_token(request.headers(), token) => Some(
            (
                StatusCode::UNAUTHORIZED,
                [(header::WWW_AUTHENTICATE, "Basic realm=\"healthex-sync\"")],
                "a token is needed\n",
            )
                .into_response(),
        ),
        // Another site's name can be made to resolve to this machine (DNS rebinding); its scripts
        // could then read the page in a visitor's browser.
        None if !is_for_this_machine(request.headers()) => Some(
            (StatusCode::MISDIRECTED_REQUEST, "ask for 127.0.0.1 or localhost, or set http.token_file\n")
                .into_response(),
        ),
        _ => None,
    };
    let mut response = match refused {
        Some(refused) => refused,
        None => match tokio::time::timeout(ANSWER_TIME_MAX, next.run(request)).await {
            Ok(response) => response,
            Err(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "the warehouse takes too long to answer\n").into_response()
            }
        },
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
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

async fn healthz(Extract(app): Extract<Arc<AppState>>) -> Response {
    let state = app.status.snapshot();
    let now = clock::now();
    let reason =
        health::unhealthy_reason(&state.settings.sync.schedule, state.last_good_end, now).map(|reason| {
            let running = state.running_since.map(|since| {
                let progress = app.status.progress.borrow();
                format!(
                    "; a cycle is under way since {}: {} of {} patients",
                    stamp(since),
                    progress.done,
                    progress.total
                )
            });
            let paused = state
                .paused_until
                .map(|until| format!("; HealthEx does not answer, and is left alone until {}", stamp(until)));
            format!("{reason}{}{}", running.unwrap_or_default(), paused.unwrap_or_default())
        });
    let problems: Vec<&str> = state.problems.keys().map(|problem| problem.as_str()).collect();
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::json!({
        "status": if reason.is_none() { "ok" } else { "stale" },
        "reason": reason,
        "last_good_cycle": state.last_good_end.map(stamp),
        "problems": problems,
    });
    (status, axum::Json(body)).into_response()
}

async fn metrics(Extract(app): Extract<Arc<AppState>>) -> Response {
    let overview = app.overview().await;
    let progress = app.status.progress.borrow().clone();
    let (state, overview) = (app.status.snapshot(), overview.as_deref().ok());
    let text = app.status.metrics.render(&state, &progress, overview, clock::now());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn status_page(Extract(app): Extract<Arc<AppState>>) -> Response {
    let overview = app.overview().await;
    let progress = app.status.progress.borrow().clone();
    let model = page::PageModel {
        state: &app.status.snapshot(),
        progress: &progress,
        overview: overview.as_deref(),
        now: clock::now(),
    };
    let text = page::render(&model).into_string();
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

impl AppState {
    /// Reads an overview of the warehouse, shared by all requests of the same second. The error is
    /// for a person.
    async fn overview(&self) -> Result<Arc<Overview>, String> {
        let mut last = self.last_overview.lock().await;
        if let Some(last) = last.as_ref().filter(|last| last.read_at.elapsed() < OVERVIEW_AGE_MAX) {
            return Ok(last.overview.clone());
        }
        let path = self.warehouse.clone();
        let deadline = self.status.state().settings.consent.deadline;
        let patience =
            TimeDelta::from_std(self.status.state().settings.alert.stale_after).unwrap_or(TimeDelta::MAX);
        let now = clock::now();
        let request = OverviewRequest {
            behind_since: now.checked_sub_signed(patience).unwrap_or_default(),
            behind_max: LISTED_MAX,
            purged_since: now - page::PURGES_SHOWN_FOR,
            purges_max: page::PURGES_SHOWN_MAX,
        };
        let reading = tokio::task::spawn_blocking(move || {
            let reader = Reader::open(&path).map_err(|failed| failed.to_string())?;
            let mut overview = reader.overview(request).map_err(|failed| failed.to_string())?;
            overview.late_purges = reader.late_purges(deadline, now).map_err(|failed| failed.to_string())?;
            Ok::<_, String>(overview)
        });
        let overview =
            Arc::new(reading.await.map_err(|_| "the look at the warehouse has failed".to_owned())??);
        *last = Some(CachedOverview { read_at: Instant::now(), overview: overview.clone() });
        Ok(overview)
    }
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

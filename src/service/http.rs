//! Serves `/`, `/healthz` and `/metrics`, by a read-only connection of its own.
//!
//! Promise: nothing here changes anything, and the warehouse is read by one request at a time. Who
//! is answered is said in `access`, and how many at a time in `port`. Absent on purpose: TLS, and
//! scripts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::{Query, Request, State as Extract};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::port::Port;
use super::status::Status;
use super::{health, page};
use crate::clock;
use crate::clock::Instant;
use crate::machine;
use crate::plan::stamp;
use crate::settings::{Complaints, HttpSettings, Listen, read_secret};
use crate::time::TimeDelta;
use crate::warehouse::Reader;
use crate::warehouse::place::{Location, Place, folder_of};
use crate::warehouse::report::{Overview, OverviewRequest};

/// Patients of one state that the page lists; the rest are counted.
const LISTED_MAX: usize = 20;
/// An overview of the warehouse answers all requests within this.
const OVERVIEW_AGE_MAX: Duration = Duration::from_secs(1);

/// All that answers are made from.
struct AppState {
    status: Arc<Status>,
    warehouse: Location,
    access: Access,
    last_overview: tokio::sync::Mutex<Option<CachedOverview>>,
}

struct CachedOverview {
    read_at: Instant,
    overview: Arc<Overview>,
}

/// Why the status page cannot be served.
pub(crate) struct CannotListen {
    pub(crate) text: String,
    pub(crate) is_in_use: bool,
}

/// Tries for a moment what [`serve`] does for long.
pub(crate) fn try_to_listen(settings: &HttpSettings) -> Result<(), CannotListen> {
    let Some(listen) = &settings.listen else { return Ok(()) };
    if let Some(Err(why)) = settings.token_file.as_deref().map(read_secret) {
        return Err(CannotListen { text: format!("http.token_file: {why}"), is_in_use: false });
    }
    let tried = match listen {
        Listen::Tcp(address) => std::net::TcpListener::bind(address).map(drop),
        Listen::Unix(path) => folder_of(path).metadata().map(drop),
    };
    tried.map_err(|error| CannotListen {
        text: format!("{listen} cannot be listened on: {error}; choose another place"),
        is_in_use: error.kind() == std::io::ErrorKind::AddrInUse,
    })
}

/// Listens until `stop`, if `http.listen` is set.
pub(super) async fn serve(
    settings: &HttpSettings,
    status: Arc<Status>,
    place: &Place,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(listen) = &settings.listen else { return Ok(()) };
    let token = settings.token_file.as_deref().map(read_secret).transpose();
    let token = token.map_err(|why| Complaints::one(format!("http.token_file: {why}")))?;
    let access = match (token, listen) {
        (Some(token), _) => Access::Token(token),
        (None, Listen::Unix(_)) => Access::Socket,
        (None, Listen::Tcp(_)) => Access::Loopback,
    };
    let port = Port::bind(listen, place.group).await;
    let port = port.with_context(|| format!("http.listen: {listen} cannot be listened on"))?;
    tracing::info!("status page at {port}");
    let app = Arc::new(AppState {
        status,
        warehouse: place.location.clone(),
        access,
        last_overview: tokio::sync::Mutex::default(),
    });
    let routes = Router::new()
        .route("/", get(status_page))
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .layer(middleware::from_fn_with_state(app.clone(), guard))
        .with_state(app);
    tokio::spawn(async move {
        tokio::select! {
            () = port.serve(routes) => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(())
}

async fn guard(Extract(app): Extract<Arc<AppState>>, request: Request, next: Next) -> Response {
    app.access.guard(request, next).await
}

#[derive(serde::Deserialize)]
struct HealthQuery {
    /// `?strict`: what needs a person is no 200 either.
    strict: Option<String>,
    /// `?alive`: only whether the daemon is, and not stuck; a restart mends nothing else.
    alive: Option<String>,
}

async fn healthz(Extract(app): Extract<Arc<AppState>>, Query(query): Query<HealthQuery>) -> Response {
    let is_set =
        |value: &Option<String>| value.as_deref().is_some_and(|value| !matches!(value, "0" | "false"));
    if is_set(&query.alive) {
        return alive(&app.status);
    }
    let state = app.status.snapshot();
    let now = clock::now();
    let stale =
        health::unhealthy_reason(&state.settings.sync.schedule, state.last_well_end, now).map(|reason| {
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
    let needs_a_person = state.needs_a_person();
    let status = if stale.is_some() || is_set(&query.strict) && needs_a_person {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let reason = stale.clone().or_else(|| needs_a_person.then(|| health::why_a_person(&state)));
    let problems: Vec<&str> = state.problems.keys().map(|problem| problem.as_str()).collect();
    let body = serde_json::json!({
        "status": if stale.is_some() { "stale" } else if needs_a_person { "needs a person" } else { "ok" },
        "reason": reason,
        "needs_a_person": needs_a_person,
        "problems": problems,
        "patients": state.needs_look,
        "last_cycle": state.cycles.back().map(|cycle| cycle.verdict.as_str()),
        "last_ended_well": state.last_well_end.map(stamp),
        "last_good_cycle": state.last_good_end().map(stamp),
    });
    (status, axum::Json(body)).into_response()
}

fn alive(status: &Status) -> Response {
    let (status, told) = if status.alive.is_fresh() {
        (StatusCode::OK, "alive")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stuck")
    };
    (status, axum::Json(serde_json::json!({ "status": told }))).into_response()
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
        names: app.access.names(),
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
        let warning = self.status.state().settings.roster.consent_warning;
        let warning = TimeDelta::from_std(warning).unwrap_or(TimeDelta::MAX);
        let now = clock::now();
        let overlap =
            TimeDelta::from_std(self.status.state().settings.sync.overlap).unwrap_or(TimeDelta::MAX);
        let request = OverviewRequest {
            overlap,
            behind_since: now.checked_sub_signed(patience).unwrap_or_default(),
            behind_max: LISTED_MAX,
            purged_since: now - page::PURGES_SHOWN_FOR,
            purges_max: page::PURGES_SHOWN_MAX,
            now,
            expiring_until: now.checked_add_signed(warning).unwrap_or(now),
            expiring_max: page::EXPIRING_SHOWN_MAX,
        };
        let reading = machine::aside(move || {
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

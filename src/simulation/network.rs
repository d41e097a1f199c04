//! Between the client and the server: the sandbox's answers, as they arrive or do not.

use std::collections::VecDeque;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use bytes::Bytes;
use url::Url;

use crate::clock;
use crate::sandbox::InProcess;

/// Why there is no answer, or no more of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) what: &'static str,
    pub(crate) cause: &'static str,
}

pub(super) struct Network {
    pub(super) server: InProcess,
}

/// From one piece of a body to the next.
const PIECE_TAKES: Duration = Duration::from_millis(1);

/// An answer on its way.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: VecDeque<Bytes>,
}

impl Answer {
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Cut> {
        clock::sleep(PIECE_TAKES).await;
        Ok(self.body.pop_front())
    }
}

impl Network {
    /// Sends a request to the server, whose answer comes after `latency`.
    pub(super) async fn send(
        &self,
        url: Url,
        headers: HeaderMap,
        json: Option<String>,
        latency: Duration,
    ) -> Result<Answer, Cut> {
        clock::sleep(latency).await;
        let method = if json.is_some() { Method::POST } else { Method::GET };
        let target =
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let answer = self.server.ask(method, &target, headers, json).await;
        let answer = answer.ok_or(Cut { what: "the connection broke off", cause: "simulated" })?;
        let headers = answer.headers.iter().filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        });
        let status = StatusCode::from_u16(answer.status).unwrap_or_default();
        Ok(Answer { status, headers: headers.collect(), body: answer.body.into() })
    }
}

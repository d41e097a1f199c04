//! The listener and its connections: hyper reads requests and writes answers, until a fault
//! takes a connection away from it.
//!
//! Promise: connections are kept alive and served side by side. Deliberately absent: TLS,
//! HTTP/2, limits on clients (it is for one machine).

use std::future::{Future, pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::answer::answer;
use super::state::SharedState;
use super::wire::{Reply, Takeover, play};

/// Accepts connections for ever.
pub(super) async fn accept(listener: TcpListener, shared: SharedState, base: String) {
    let base: Arc<str> = base.into();
    loop {
        // A client that is gone before it is greeted is no reason to stop.
        if let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_connection(stream, shared.clone(), Arc::clone(&base)));
        } else {
            tokio::task::yield_now().await;
        }
    }
}

async fn serve_connection(stream: TcpStream, shared: SharedState, base: Arc<str>) {
    let _ = stream.set_nodelay(true);
    let (takeover_sender, mut takeovers) = mpsc::channel(1);
    let service =
        service_fn(move |request| serve(request, shared.clone(), Arc::clone(&base), takeover_sender.clone()));
    let mut connection = http1::Builder::new()
        // Ours goes by the sandbox's clock.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let takeover = tokio::select! {
        _ = poll_fn(|context| connection.poll_without_shutdown(context)) => None,
        takeover = takeovers.recv() => takeover,
    };
    let mut stream = connection.into_parts().io.into_inner();
    // However it ends, the client is the one to notice.
    let _: io::Result<()> = match takeover {
        Some(takeover) => play(stream, takeover).await,
        None => stream.shutdown().await,
    };
}

type Served = Pin<Box<dyn Future<Output = io::Result<Response<Body>>> + Send>>;

/// Boxed, because hyper lends a connection back only where futures may be moved.
fn serve(
    request: Request<Incoming>,
    shared: SharedState,
    base: Arc<str>,
    takeovers: mpsc::Sender<Takeover>,
) -> Served {
    Box::pin(async move {
        let (head, body) = request.into_parts();
        // Links lead back to where the client came from, be it by another name.
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let base = host.map_or_else(|| base.to_string(), |host| format!("http://{host}"));
        match answer(&shared, &base, head, Body::new(body)).await {
            Reply::Http(answer) => Ok(answer.into_response()),
            Reply::Wire(takeover) => {
                let _ = takeovers.send(takeover).await;
                // The connection is taken from under this, so it must not answer.
                pending().await
            }
        }
    })
}

/// Returns the URL by which clients on this machine reach a listener.
pub(super) fn base_url(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}")
}

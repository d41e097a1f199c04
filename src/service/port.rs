//! The status port: a few connections at a time, each for one request and not for long.
//!
//! Promise: whoever opens connections and says nothing holds up neither the cycles nor other
//! visitors. Where there is no room for one more, the connection that has waited longest for its
//! request goes; one that is being answered stays.

use std::collections::VecDeque;
use std::fmt;
use std::fs::{Permissions, symlink_metadata};
use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::fs::Mode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::clock;
use crate::settings::Listen;
use crate::warehouse::place::folder_of;

const CONNECTIONS_MAX: usize = 32;
/// A request is read whole within this, …
const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// … and its answer too within this.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(30);

/// Where connections come in.
pub(super) enum Port {
    Tcp(TcpListener, SocketAddr),
    Unix(UnixListener, SocketFile),
}

impl Port {
    /// Listens. Members of `group` may open a Unix socket as well as its owner.
    pub(super) async fn bind(listen: &Listen, group: Option<u32>) -> Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await?;
                let address = listener.local_addr()?;
                Ok(Self::Tcp(listener, address))
            }
            Listen::Unix(path) => {
                let listener = bind_socket(path, group).await?;
                Ok(Self::Unix(listener, SocketFile(path.clone())))
            }
        }
    }

    /// Answers by `routes` until it is dropped.
    pub(super) async fn serve(self, routes: Router) {
        match self {
            Self::Tcp(listener, _) => accept_all(listener, routes).await,
            Self::Unix(listener, _file) => accept_all(listener, routes).await,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(_, address) => write!(f, "http://{address}/"),
            Self::Unix(_, SocketFile(path)) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The file of a Unix socket. Dropped, it is removed.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // One that stays is cleared away by the next start.
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn bind_socket(path: &Path, group: Option<u32>) -> Result<UnixListener> {
    let folder = folder_of(path).metadata()?.mode();
    if folder & 0o1002 == 0o002 {
        let name = folder_of(path).display();
        return Err(Error::other(format!("others can write its folder and replace it; chmod o-w {name}")));
    }
    clear_stale(path).await?;
    // Nobody else may open it even for a moment.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(path);
    rustix::process::umask(before);
    let listener = bound?;
    if group.is_some() {
        lchown(path, None, group)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
    }
    Ok(listener)
}

/// Removes the socket of a process that was killed.
async fn clear_stale(path: &Path) -> Result<()> {
    let found = match symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(Error::new(ErrorKind::AlreadyExists, "there is something that is no socket"));
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Err(Error::new(ErrorKind::AddrInUse, "another program listens there")),
    }
}

async fn accept_all(mut listener: impl Listener, routes: Router) {
    let mut open = OpenConnections::default();
    loop {
        let (stream, _) = listener.accept().await;
        open.make_room().await;
        open.serve(stream, routes.clone());
    }
}

/// The connections that are open. Dropped, it closes them.
#[derive(Default)]
struct OpenConnections {
    tasks: JoinSet<()>,
    /// The oldest first.
    connections: VecDeque<OpenConnection>,
}

struct OpenConnection {
    task: AbortHandle,
    /// Its request has come.
    is_answered: Arc<AtomicBool>,
}

impl OpenConnections {
    /// Waits until there is room for one more, and closes whoever has said nothing for the longest.
    async fn make_room(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        loop {
            self.connections.retain(|connection| !connection.task.is_finished());
            if self.connections.len() < CONNECTIONS_MAX {
                return;
            }
            if let Some(silent) = self.connections.iter().find(|one| !one.is_answered.load(Ordering::Relaxed))
            {
                silent.task.abort();
            }
            self.tasks.join_next().await;
        }
    }

    fn serve(&mut self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, routes: Router) {
        let is_answered = Arc::<AtomicBool>::default();
        let has_asked = is_answered.clone();
        let routes = TowerToHyperService::new(routes);
        let service = service_fn(move |request: Request<Incoming>| {
            has_asked.store(true, Ordering::Relaxed);
            routes.call(request)
        });
        let connection = http1::Builder::new()
            .keep_alive(false)
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), service);
        let task = self.tasks.spawn(async move {
            // A visitor that went away, or takes too long, is no fault of ours.
            let _ = clock::timeout(CONNECTION_TIME_MAX, connection).await;
        });
        self.connections.push_back(OpenConnection { task, is_answered });
    }
}

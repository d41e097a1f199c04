//! Connections to the server: how one is made, how many there are, and what is set on each.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, RecyclingMethod, Runtime};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure::{Undone, innermost};
use super::session::{Begin, Session, Step, settings};
use super::{no_way_in, runtime};
use crate::warehouse::failure::OpenFailed;
use crate::warehouse::place::Server;

/// As many as pulls work side by side, their ends, and a look at what is there.
const CONNECTIONS_MAX: usize = 16;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever waits longer for a connection that is free is told so.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Connections that are made when they are wanted, and kept.
#[derive(Clone)]
pub(super) struct Pool {
    connections: deadpool_postgres::Pool,
    server: Arc<Server>,
    was_cut_off: Arc<AtomicBool>,
}

impl Pool {
    /// Makes the pool. Nothing is connected yet.
    pub(super) fn new(server: &Arc<Server>) -> Result<Self, OpenFailed> {
        let config = config(server).map_err(|error| server.unusable(innermost(&error)))?;
        let was_cut_off = Arc::new(AtomicBool::new(false));
        let connect =
            Connector::new(server, &config, was_cut_off.clone()).map_err(|why| server.unusable(why))?;
        let how = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let connections = deadpool_postgres::Pool::builder(Manager::from_connect(config, connect, how))
            .max_size(CONNECTIONS_MAX)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(WAIT_MAX))
            .build()
            .map_err(|error| server.unusable(error))?;
        Ok(Self { connections, server: server.clone(), was_cut_off })
    }

    /// Makes a pool whose statements are carried out as this role.
    pub(super) fn acting_as(server: &Server, role: &str) -> Result<Self, OpenFailed> {
        Self::new(&Arc::new(Server { acting_as: Some(role.to_owned()), ..server.clone() }))
    }

    /// Returns a connection that nobody else uses.
    pub(super) async fn connection(&self) -> Result<Object, Undone> {
        self.connections.get().await.map_err(|failed| match failed {
            deadpool_postgres::PoolError::Backend(error) => no_way_in::why(&error, &self.server),
            other => Undone::Lost(other.to_string()),
        })
    }

    /// Begins a transaction on a connection that nobody else uses.
    pub(super) async fn begin(&self, begin: Begin) -> Result<Session, Undone> {
        Session::begin(self.connection().await?, &self.server, begin).await
    }

    /// Answers by one look as of one moment, which cannot write.
    pub(super) async fn look<T>(
        &self,
        look: impl for<'s> FnOnce(&'s Session) -> Step<'s, T>,
    ) -> Result<T, Undone> {
        let session = self.begin(Begin::Snapshot).await?;
        let found = look(&session).await?;
        session.rollback().await;
        Ok(found)
    }

    pub(super) fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// Returns whether a connection was lost since the last call, in use or not: another server may answer since.
    pub(super) fn take_cut_off(&self) -> bool {
        self.was_cut_off.swap(false, Ordering::Relaxed)
    }

    pub(super) fn note_cut_off(&self) {
        self.was_cut_off.store(true, Ordering::Relaxed);
    }
}

/// Returns why a URL cannot be used.
pub(in crate::warehouse) fn check_url(server: &Server) -> Result<(), String> {
    config(server).map(|_| ()).map_err(|error| innermost(&error))
}

/// Returns whether the way there leaves this machine nowhere.
pub(super) fn is_on_this_machine(server: &Server) -> bool {
    config(server).is_ok_and(|config| is_near(&config))
}

/// Returns the ports that the URL names, or the usual one.
pub(super) fn ports(server: &Server) -> Vec<u16> {
    const USUAL: u16 = 5432;
    let named = config(server).map(|config| config.get_ports().to_vec()).unwrap_or_default();
    if named.is_empty() { vec![USUAL] } else { named }
}

fn config(server: &Server) -> Result<Config, Error> {
    let mut config: Config = server.url.parse()?;
    let tls = if is_near(&config) { SslMode::Disable } else { SslMode::Require };
    if let Some(password) = &server.password {
        config.password(password.expose_secret());
    }
    config
        .application_name("healthex-sync")
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(Duration::from_secs(30))
        .ssl_mode(tls);
    // A pooler that lends connections refuses them, and does not lend the one on which they were set.
    if server.prepared {
        let escaped = |value: String| value.replace('\\', r"\\").replace(' ', r"\ ");
        let set = settings(server).into_iter().map(|(name, value)| format!("-c {name}={}", escaped(value)));
        config.options(set.collect::<Vec<_>>().join(" "));
    }
    Ok(config)
}

/// Returns whether every host is this machine: nobody else can listen on the way there.
fn is_near(config: &Config) -> bool {
    let is_loopback = |address: &IpAddr| address.is_loopback();
    let is_host_near = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address| is_loopback(&address)),
        Host::Unix(_) => true,
    };
    config.get_hosts().iter().all(is_host_near) && config.get_hostaddrs().iter().all(is_loopback)
}

/// Returns how the server proves who it is; `None` where it need not.
fn tls(server: &Server, config: &Config) -> Result<Option<MakeRustlsConnect>, String> {
    if is_near(config) {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(file) = &server.ca_file {
        let unreadable = |why: String| format!("warehouse.ca_file: {}: {why}", file.display());
        let certificates =
            CertificateDer::pem_file_iter(file).map_err(|error| unreadable(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
            roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(config)))
}

/// Makes connections that outlive whoever asked for them.
struct Connector {
    carrier: Handle,
    tls: Option<MakeRustlsConnect>,
    was_cut_off: Arc<AtomicBool>,
}

type Connecting<'c> = Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'c>>;

impl Connector {
    fn new(server: &Server, config: &Config, was_cut_off: Arc<AtomicBool>) -> Result<Self, String> {
        let carrier = runtime::handle().map_err(|error| error.to_string())?;
        Ok(Self { carrier, tls: tls(server, config)?, was_cut_off })
    }

    async fn open(&self, config: &Config) -> Result<(Client, JoinHandle<()>), Error> {
        let carry = |mut connection: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>| {
            let was_cut_off = self.was_cut_off.clone();
            self.carrier.spawn(async move {
                // Whoever uses the connection learns of its end from what it asked for. One that nobody
                // uses is replaced without a word, as soon as it is dropped.
                if let Err(error) = connection.as_mut().await {
                    was_cut_off.store(true, Ordering::Relaxed);
                    tracing::debug!("a connection to the database has ended: {}", innermost(&error));
                }
                drop(connection);
            })
        };
        match &self.tls {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                Ok((client, carry(Box::pin(connection))))
            }
            Some(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                Ok((client, carry(Box::pin(connection))))
            }
        }
    }
}

impl Connect for Connector {
    fn connect(&self, config: &Config) -> Connecting<'_> {
        let config = config.clone();
        let open = Box::pin(async move { self.open(&config).await });
        Box::pin(Carried { carrier: self.carrier.clone(), work: open })
    }
}

/// Work whose sockets and timers belong to the runtime that carries the connections.
struct Carried<F> {
    carrier: Handle,
    work: Pin<Box<F>>,
}

impl<F: Future> Future for Carried<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let carrier = self.carrier.clone();
        let _entered = carrier.enter();
        self.work.as_mut().poll(context)
    }
}

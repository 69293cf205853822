//! A replica from start to stop: finds or makes the installation, opens its ports, serves until told to stop.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr, TcpListener as StdListener},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use axum::Router;
use cladnet_model::{ApiKeyText, Role};
use cladnet_store::Store;
use futures_util::FutureExt as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{Mutex, Semaphore},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{info, warn};

use crate::{
    Clock, Config, Service, admin,
    agents::{self, Agents, usage},
    auth::Gates,
    bootstrap::{self, BootstrapError},
    costs, deployments, envelope, events, in_process,
    listener::{self, Security},
    router,
    shares::Shares,
    tls::{self, ServerTls, TlsError},
    web::{self, names::OwnNames},
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1_024;

/// Why a replica cannot start, or stopped untold.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error("prepare TLS")]
    Tls(#[from] TlsError),
    #[error("{address} is in use by another program; stop it or choose another {option}")]
    Busy { address: SocketAddr, option: &'static str },
    #[error("listen on {address} ({option})")]
    Listen {
        address: SocketAddr,
        option: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{address} is no loopback address; {option} sends keys in clear and so serves this machine only")]
    NotLoopback { address: SocketAddr, option: &'static str },
    /// A part without which the others had better not go on.
    #[error("{part} ended; start the service again")]
    Ended { part: &'static str },
    #[error("{part} panicked ({message}); start the service again")]
    Panicked { part: &'static str, message: String },
}

/// The ports of a replica, opened before its store so that a start that is refused leaves nothing behind.
pub struct Ports {
    listener: TcpListener,
    insecure: Option<TcpListener>,
    stun: Option<UdpSocket>,
}

impl Ports {
    /// Reads the files of `config` first: a wrong one is told before a port opens.
    pub fn open(config: &Config) -> Result<Self, StartError> {
        cladnet_pki::install_crypto_provider();
        if let Some(address) = config.insecure_http.filter(|address| !address.ip().is_loopback()) {
            return Err(StartError::NotLoopback { address, option: "--insecure-http" });
        }
        tls::check(config)?;
        Ok(Self {
            listener: tcp(config.listen_addr, "--listen")?,
            insecure: config.insecure_http.map(|address| tcp(address, "--insecure-http")).transpose()?,
            stun: config.stun_addr.map(|address| udp(address, "--stun-listen")).transpose()?,
        })
    }
}

/// A replica that is ready to serve.
pub struct Server {
    service: Arc<Service>,
    tls: Arc<ServerTls>,
    ports: Ports,
    pages: Router,
    first_key: Option<ApiKeyText>,
}

impl Server {
    /// Opens the ports, and is a replica on them.
    pub async fn bind(config: Config, store: Store) -> Result<Self, StartError> {
        Self::bind_with_clock(config, store, Clock::default()).await
    }

    /// As [`Server::bind`], at another time.
    pub async fn bind_with_clock(config: Config, store: Store, clock: Clock) -> Result<Self, StartError> {
        let ports = Ports::open(&config)?;
        Self::on(ports, config, store, clock).await
    }

    /// Finds the installation in the store, or makes it. The ports are those of this `config`.
    pub async fn on(ports: Ports, config: Config, store: Store, clock: Clock) -> Result<Self, StartError> {
        raise_file_limit();
        let installation = bootstrap::installation(&store, config.admin_key_file.as_deref(), clock.now()).await?;
        let (authority, shutdown) = (Arc::new(installation.authority), CancellationToken::new());
        let replica = format!("replica-{:016x}", rand::random::<u64>());
        let agents = Agents::new(agents::Parts {
            store: store.clone(),
            authority: authority.clone(),
            epoch: installation.epoch.clone(),
            replica: replica.clone(),
            clock: clock.clone(),
            shutdown: shutdown.clone(),
        });
        let service = Arc::new(Service {
            store,
            authority,
            epoch: installation.epoch,
            replica,
            clock,
            names: Arc::new(OwnNames::new(&config.tls_names)),
            config,
            gates: Gates::default(),
            agents,
            creating: Mutex::new(()),
            billing: Mutex::new(()),
            streams: Shares::new(admin::STREAMS),
            deployment_watches: Arc::new(Semaphore::new(deployments::WATCHES)),
            shutdown,
        });
        let tls = Arc::new(ServerTls::new(tls::of(service.clone()))?);
        Ok(Self { service, tls, ports, pages: router::no_pages(), first_key: installation.first_key })
    }

    /// Serves these pages, `/` among them, to browsers that ask under a name of ours. Without them `/` leads to the documents.
    pub fn with_pages(self, pages: Router) -> Self {
        Self { pages, ..self }
    }

    /// Where gRPC and REST are served.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.ports.listener.local_addr()
    }

    /// The agents' side of this replica.
    #[cfg(test)]
    pub(crate) fn agents(&self) -> &Agents {
        &self.service.agents
    }

    /// Where `cbnet.v1` is served without TLS, if it is.
    pub fn insecure_addr(&self) -> Option<SocketAddr> {
        self.ports.insecure.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Where STUN is answered, if it is.
    pub fn stun_addr(&self) -> Option<SocketAddr> {
        self.ports.stun.as_ref().and_then(|socket| socket.local_addr().ok())
    }

    #[cfg(test)]
    pub(crate) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The authority's certificate, which clients verify the service by.
    pub fn ca_pem(&self) -> &str {
        self.service.authority.certificate_pem()
    }

    /// The API for a provisioner in this process: over memory, under its role, without a key.
    pub fn provisioner_channel(&self) -> Channel {
        in_process::channel(router::grpc_only(&self.service), "provisioner", Role::Provisioner)
    }

    /// URLs under which this replica may be reached from elsewhere: by the names of its certificate, else by the address it
    /// listens on, else by all of this machine.
    pub fn urls(&self) -> Vec<String> {
        let Ok(address) = self.local_addr() else { return Vec::new() };
        let url = |host: &dyn std::fmt::Display| format!("https://{host}:{}", address.port());
        let names = self.service.config.tls_names.iter().filter(|name| !name.starts_with("*."));
        let named: Vec<String> = names
            .map(|name| match name.parse::<Ipv6Addr>() {
                Ok(address) => url(&format_args!("[{address}]")),
                Err(_) => url(name),
            })
            .collect();
        if !named.is_empty() {
            return named;
        }
        let addresses = if address.ip().is_unspecified() { tls::reachable_addresses() } else { vec![address.ip()] };
        addresses.into_iter().map(|ip| format!("https://{}", SocketAddr::new(ip, address.port()))).collect()
    }

    /// The first API key, if this start made the installation: to be shown once, it is nowhere else.
    pub fn first_key(&self) -> Option<&ApiKeyText> {
        self.first_key.as_ref()
    }

    /// Serves until `shutdown`; then streams end, and requests in flight get a moment to finish. Everything that runs here is
    /// vital: when one part ends untold or panics, all end, and whoever started the process starts it again. What belongs to
    /// one connection, request or stream has a task of its own and ends alone.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), StartError> {
        let Self { service, tls, ports: Ports { listener, insecure, stun }, pages, first_key: _ } = self;
        let stop = service.shutdown.clone();
        let _stop_on_drop = stop.clone().drop_guard();
        if let Ok(address) = listener.local_addr() {
            info!(%address, replica = service.replica, "service ready");
        }
        let secure = listener::serve(listener, Security::Tls(tls.clone()), router::full(&service, pages), stop.clone());
        let plain = async {
            match insecure {
                Some(listener) => {
                    listener::serve(listener, Security::Plain, router::cbnet_only(&service), stop.clone()).await;
                }
                None => stop.cancelled().await,
            }
        };
        let stun = async {
            match stun {
                Some(socket) => crate::stun::serve(socket).await,
                None => stop.cancelled().await,
            }
        };
        let stopping = async {
            shutdown.cancelled().await;
            stop.cancel();
            Ok(())
        };
        let sweeping = web::sweep_for_ever(&service.store, &service.clock);
        let warning = costs::warn_for_ever(&service);
        let forgetting = usage::trim_for_ever(&service.store, &service.clock);
        tokio::try_join!(
            stopping,
            vital("the listener", &stop, secure),
            vital("the listener without TLS", &stop, plain),
            vital("the replica's view of the store", &stop, service.agents.run()),
            vital("the STUN server", &stop, stop.run_until_cancelled(stun)),
            vital("the certificate's renewal", &stop, stop.run_until_cancelled(tls.renew())),
            vital("the care for deployments", &stop, stop.run_until_cancelled(deployments::keep_for_ever(&service))),
            vital("the removal of old events", &stop, stop.run_until_cancelled(events::trim_for_ever(&service.store))),
            vital("the removal of old sessions", &stop, stop.run_until_cancelled(sweeping)),
            vital("the watch over budgets", &stop, stop.run_until_cancelled(warning)),
            vital("the removal of old usage", &stop, stop.run_until_cancelled(forgetting)),
        )?;
        Ok(())
    }
}

/// Runs a part that may end only when the replica stops.
async fn vital<T>(
    part: &'static str,
    stop: &CancellationToken,
    work: impl Future<Output = T>,
) -> Result<(), StartError> {
    match AssertUnwindSafe(work).catch_unwind().await {
        Ok(_) if stop.is_cancelled() => Ok(()),
        Ok(_) => Err(StartError::Ended { part }),
        Err(panic) => Err(StartError::Panicked { part, message: envelope::message(&*panic).to_owned() }),
    }
}

/// Starts a replica and serves until `shutdown`; see [`Server`] for what else a caller may want to know of it.
pub async fn run(config: Config, store: Store, shutdown: CancellationToken) -> Result<(), StartError> {
    Server::bind(config, store).await?.run(shutdown).await
}

/// Every agent holds a connection, and the usual soft limit of 1,024 files would be the number of agents. The hard limit is
/// the operator's; a refusal to come near it leaves things as they were.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard.max(soft), hard));
    if let Err(error) = raised {
        warn!(%error, "limit of open files not raised");
    }
}

pub(crate) fn tcp(address: SocketAddr, option: &'static str) -> Result<TcpListener, StartError> {
    let listen = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        prepare(&socket, address)?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(StdListener::from(socket))
    };
    open(address, option, listen)
}

fn udp(address: SocketAddr, option: &'static str) -> Result<UdpSocket, StartError> {
    let listen = |address: SocketAddr| {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        prepare(&socket, address)?;
        UdpSocket::from_std(socket.into())
    };
    open(address, option, listen)
}

fn prepare(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())
}

/// "Every address" means IPv6 and IPv4 on one socket, or IPv4 alone on a machine without IPv6.
fn open<S>(
    address: SocketAddr,
    option: &'static str,
    listen: impl Fn(SocketAddr) -> io::Result<S>,
) -> Result<S, StartError> {
    let opened = match listen(address) {
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() && lacks_ipv6(&error) => {
            listen(SocketAddr::from(([0, 0, 0, 0], address.port())))
        }
        opened => opened,
    };
    opened.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartError::Busy { address, option },
        _ => StartError::Listen { address, option, source },
    })
}

fn lacks_ipv6(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(nix::errno::Errno::EAFNOSUPPORT as i32)
}

#[cfg(test)]
mod tests;

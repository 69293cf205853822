//! Runs a plan until it is told to stop.

use std::{
    fs,
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use cladnet_controller::Controller;
use cladnet_service::{Clock, Config, Ports, Server};
use cladnet_store::Store;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    plan::{Plan, StorePlan},
    provision::ProvisionerPlan,
};
use crate::failure::Failure;

/// Does the work of a role.
pub(super) fn block_on(work: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    runtime.block_on(work)
}

/// Serves until it is told to stop.
pub(super) async fn serve(plan: Plan) -> Result<ExitCode, Failure> {
    let shutdown = CancellationToken::new();
    stop_on_signals(shutdown.clone())?;
    let service = plan.service.map(|config| Ports::open(&config).map(|ports| (config, ports))).transpose()?;
    let store = match plan.store {
        StorePlan::Embedded(options) => Store::open_embedded(options).await?,
        StorePlan::Etcd(options) => {
            let Some(store) = shutdown.run_until_cancelled(Store::connect_etcd(options)).await else {
                info!("stopped before the store answered");
                return Ok(ExitCode::SUCCESS);
            };
            store?
        }
    };
    let controller = async {
        match plan.controller {
            true => Controller::run(store.clone(), identity(), shutdown.clone()).await,
            false => shutdown.cancelled().await,
        }
        let stopped = shutdown.is_cancelled();
        shutdown.cancel();
        if stopped { Ok(()) } else { Err(Failure::failed("the controller ended: the store was closed")) }
    };
    let service = async {
        let served = match service {
            Some((config, ports)) => {
                let roles = Roles { ca_file: plan.ca_file, provisioner: plan.provisioner };
                serve_api(config, ports, roles, store.clone(), shutdown.clone()).await
            }
            None => match plan.provisioner {
                Some(provisioner) => provision(provisioner.over_network(store.clone())?, shutdown.clone()).await,
                None => {
                    shutdown.cancelled().await;
                    Ok(())
                }
            },
        };
        shutdown.cancel();
        served
    };
    // Whichever ends first has ended the other.
    let (served, controlled) = tokio::join!(service, controller);
    served.and(controlled)?;
    Ok(ExitCode::SUCCESS)
}

/// What goes with a service.
struct Roles {
    ca_file: Option<PathBuf>,
    provisioner: Option<ProvisionerPlan>,
}

async fn serve_api(
    config: Config,
    ports: Ports,
    roles: Roles,
    store: Store,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let announcement = Announcement {
        ca_file: roles.ca_file,
        key_file: config.admin_key_file.clone(),
        tls_name: config.tls_names.first().cloned(),
    };
    let started = shutdown.run_until_cancelled(Server::on(ports, config, store.clone(), Clock::default())).await;
    let Some(server) = started.transpose()?.map(|server| server.with_pages(cladnet_admin_web::router())) else {
        unstarted(announcement.key_file.as_deref());
        return Ok(());
    };
    announce(&server, &announcement)?;
    let provisioner = match roles.provisioner {
        Some(plan) => Some(plan.with(&server, store)?),
        None => None,
    };
    let serve = async {
        let served = server.run(shutdown.clone()).await;
        shutdown.cancel();
        served.map_err(Failure::from)
    };
    let provision = async {
        match provisioner {
            Some(config) => provision(config, shutdown.clone()).await,
            None => Ok(()),
        }
    };
    let (served, provisioned) = tokio::join!(serve, provision);
    served.and(provisioned)
}

/// Works on deployments until told to stop; its own end is everybody's.
async fn provision(config: cladnet_provisioner::Config, shutdown: CancellationToken) -> Result<(), Failure> {
    let worked = cladnet_provisioner::run(config, shutdown.clone()).await;
    shutdown.cancel();
    worked.map_err(Failure::from)
}

/// Tells that the service was stopped before it had found or made its installation: a store may take its time.
fn unstarted(key_file: Option<&Path>) {
    match key_file.filter(|path| path.exists()) {
        Some(path) => {
            let path = path.display();
            warn!(%path, "stopped before the service was ready; the key file is kept, the next start goes on with it");
        }
        None => warn!("stopped before the service was ready"),
    }
}

/// By which people recognise the leading controller.
fn identity() -> String {
    format!("{}-{}", host_name(), std::process::id())
}

fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// What to type into a browser: the name that was given, the address that is listened on, or the machine's own name.
pub(super) fn page_url(address: SocketAddr, tls_name: Option<&str>) -> String {
    let name = tls_name.filter(|name| !name.starts_with("*.")).map(str::to_owned);
    let host = match (name, address.ip().is_unspecified()) {
        (Some(name), _) => name,
        (None, true) => host_name(),
        (None, false) => return format!("https://{address}/"),
    };
    format!("https://{host}:{}/", address.port())
}

/// What is told at the start, and where.
struct Announcement {
    ca_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    /// By which browsers may know the server.
    tls_name: Option<String>,
}

/// Writes the authority's certificate, and tells on standard output where the service is and, on the very first start,
/// the first key.
fn announce(server: &Server, plan: &Announcement) -> Result<(), Failure> {
    let mut text = String::new();
    if let Ok(address) = server.local_addr() {
        text += &format!("service: https://{address}\n");
    }
    if let Some(address) = server.insecure_addr() {
        text += &format!("cbnet.v1 without TLS: http://{address}\n");
    }
    let mut written = Ok(());
    if let Some(path) = &plan.ca_file {
        written = write_certificate(path, server.ca_pem())
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())));
        text += &format!("authority: {}\n", path.display());
    }
    if let Some(key) = server.first_key() {
        text += &format!("first admin key, shown this once: {key}\n");
    }
    if let Ok(address) = server.local_addr() {
        let key = match (&plan.key_file, server.first_key()) {
            (Some(path), _) => format!("an API key; the first one is in {}", path.display()),
            (None, Some(_)) => "the first admin key".to_owned(),
            (None, None) => "an API key; `cladnet key create` makes one".to_owned(),
        };
        text += &format!("page: {}, sign in with {key}\n", page_url(address, plan.tls_name.as_deref()));
    }
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // Whoever started us may have stopped reading; only a key that is nowhere else must not get lost.
        Err(error) if server.first_key().is_some() && plan.key_file.is_none() => Err(error.into()),
        // The certificate can be fetched again, the key could not: it was told first.
        _ => written,
    }
}

/// In one step, so that no client reads half of it.
fn write_certificate(path: &Path, pem: &str) -> io::Result<()> {
    let beside = path.with_extension("pem.new");
    fs::write(&beside, pem)?;
    fs::rename(&beside, path)
}

pub(super) fn stop_on_signals(shutdown: CancellationToken) -> Result<(), Failure> {
    let cannot = |error: io::Error| Failure::failed(format!("cannot wait for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        info!(signal = name, "stopping");
        shutdown.cancel();
    });
    Ok(())
}

//! Runs a plan until it is told to stop.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
};

use cladnet_service::Server;
use cladnet_store::Store;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::plan::{Plan, StorePlan};
use crate::failure::Failure;

pub(super) fn run(plan: Plan) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start threads: {error}")))?;
    runtime.block_on(serve(plan))
}

async fn serve(plan: Plan) -> Result<ExitCode, Failure> {
    let shutdown = CancellationToken::new();
    stop_on_signals(shutdown.clone())?;
    let store = match plan.store {
        StorePlan::Embedded(options) => Store::open_embedded(options).await?,
        StorePlan::Etcd(options) => Store::connect_etcd(options).await?,
    };
    let service = async {
        match plan.service {
            Some(config) => {
                let server = Server::bind(config, store.clone()).await?;
                announce(&server, plan.ca_file.as_deref())?;
                server.run(shutdown.clone()).await;
            }
            None => shutdown.cancelled().await,
        }
        Ok::<_, Failure>(())
    };
    service.await?;
    Ok(ExitCode::SUCCESS)
}

/// Tells on standard output where the service is and, on the very first start, the first key: it is nowhere else.
fn announce(server: &Server, ca_file: Option<&Path>) -> Result<(), Failure> {
    if let Some(path) = ca_file {
        write_certificate(path, server.ca_pem())
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
    }
    let mut stdout = io::stdout().lock();
    if let Ok(address) = server.local_addr() {
        writeln!(stdout, "service: https://{address}")?;
    }
    if let Some(address) = server.insecure_addr() {
        writeln!(stdout, "cbnet.v1 without TLS: http://{address}")?;
    }
    if let Some(path) = ca_file {
        writeln!(stdout, "authority: {}", path.display())?;
    }
    if let Some(key) = server.first_key() {
        writeln!(stdout, "first admin key, shown this once: {key}")?;
    }
    Ok(stdout.flush()?)
}

/// In one step, so that no client reads half of it.
fn write_certificate(path: &Path, pem: &str) -> io::Result<()> {
    let beside = path.with_extension("pem.new");
    fs::write(&beside, pem)?;
    fs::rename(&beside, path)
}

fn stop_on_signals(shutdown: CancellationToken) -> Result<(), Failure> {
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

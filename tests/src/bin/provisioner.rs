//! `cladnet-mortal-provisioner`: a provisioner on etcd that dies, as by `kill -9`, where it is told to; for the stories of
//! deployments that are taken up again.

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use cladnet_model::deployment::AddressPolicy;
use cladnet_pki::{channel, channel::ServiceUrl, client_config};
use cladnet_provisioner::{Config, FailPoint, ServiceAccess};
use cladnet_store::{EtcdOptions, SealingKey, Store};
use clap::Parser;
use tokio_util::sync::CancellationToken;

/// Its successor waits for this; etcd takes none below 2 s.
const LEASE: Duration = Duration::from_secs(3);

#[derive(Debug, Parser)]
struct Options {
    #[arg(long)]
    etcd: String,
    #[arg(long)]
    secret_key_file: PathBuf,
    #[arg(long)]
    service: ServiceUrl,
    #[arg(long)]
    service_ca: PathBuf,
    #[arg(long)]
    api_key_file: PathBuf,
    /// After which step; never, if it is absent
    #[arg(long)]
    die_after: Option<FailPoint>,
}

fn main() -> ExitCode {
    let run = tokio::runtime::Runtime::new().context("cannot start threads");
    match run.and_then(|runtime| runtime.block_on(run_until_death(Options::parse()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("provisioner failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run_until_death(options: Options) -> Result<()> {
    let sealing_key = Some(SealingKey::load(&options.secret_key_file)?);
    let etcd = EtcdOptions { endpoints: vec![options.etcd], sealing_key, ..EtcdOptions::default() };
    let authority = fs::read_to_string(&options.service_ca).context("no authority")?;
    let api_key = fs::read_to_string(&options.api_key_file).context("no API key")?;
    let channel = channel::connect(std::slice::from_ref(&options.service), client_config(&authority, None)?).await?;
    let config = Config {
        store: Store::connect_etcd(etcd).await?,
        service: ServiceAccess::new(channel, Some(api_key.trim()))?,
        service_urls: vec![options.service.to_string()],
        addresses: Arc::new(AddressPolicy::default()),
        agent_dir: None,
        lease: LEASE,
        fail_point: options.die_after,
    };
    Ok(cladnet_provisioner::run(config, CancellationToken::new()).await?)
}

//! The server roles: `server` (all of them on an embedded store), `controller`, `service` and `provisioner` alone on
//! etcd, `admin-web` in front of a service.
//! Settings become a [`Plan`](plan::Plan) that cannot be wrong before a file is written or a port opens.

mod admin_web;
mod options;
mod plan;
mod provision;
mod run;
mod telemetry;

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use crate::{args::ClientArgs, failure::Failure};
pub(crate) use admin_web::AdminWebArgs;
use options::{EtcdOptions, ProvisionerOptions, ServiceOptions, SettingsFile};
use plan::Plan;

/// What every role has.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// TOML file with the same settings, see the example in the help of `cladnet server`; the environment overrides it,
    /// and flags override both.
    #[arg(long, value_name = "FILE", env = "CLADNET_CONFIG")]
    config: Option<PathBuf>,
    /// Check the settings and the files they name, then end: 0 if they are right, 64 if not.
    #[arg(long)]
    check_config: bool,
    /// What to log on standard error, for example info or cladnet_service=debug,warn [default: info].
    #[arg(long, value_name = "FILTER", env = "CLADNET_LOG")]
    log: Option<String>,
    /// File with the key that seals secrets in the store: 32 bytes in base64. The embedded store makes its own.
    #[arg(long, value_name = "FILE", env = "CLADNET_SECRET_KEY_FILE")]
    secret_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// Directory of the embedded store, made if absent; ca.pem for clients is written there.
    #[arg(long, value_name = "DIR", env = "CLADNET_DATA_DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    service: ServiceOptions,
    #[command(flatten)]
    provisioner: ProvisionerOptions,
    #[command(flatten)]
    common: CommonArgs,
}

/// Where the service is and as whom to ask it stand beside those of every admin command.
#[derive(Debug, Args)]
pub(crate) struct ProvisionerArgs {
    #[command(flatten)]
    etcd: EtcdOptions,
    #[command(flatten)]
    provisioner: ProvisionerOptions,
    #[command(flatten)]
    common: CommonArgs,
    /// File with a key of its own for the private keys of machines, the same for services and provisioners, so that a
    /// provisioner cannot open the authority's [default: as --secret-key-file].
    #[arg(long, value_name = "FILE", env = "CLADNET_DEPLOYMENT_KEY_FILE")]
    deployment_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    #[command(flatten)]
    etcd: EtcdOptions,
    #[command(flatten)]
    service: ServiceOptions,
    #[command(flatten)]
    common: CommonArgs,
    /// File to write the authority's certificate to, for clients.
    #[arg(long, value_name = "FILE", env = "CLADNET_WRITE_CA")]
    write_ca: Option<PathBuf>,
    /// File with a key of its own for the private keys of machines, the same for services and provisioners, so that a
    /// provisioner cannot open the authority's [default: as --secret-key-file].
    #[arg(long, value_name = "FILE", env = "CLADNET_DEPLOYMENT_KEY_FILE")]
    deployment_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ControllerArgs {
    #[command(flatten)]
    etcd: EtcdOptions,
    #[command(flatten)]
    common: CommonArgs,
}

/// `cladnet server`.
pub(crate) fn server(args: ServerArgs) -> Result<ExitCode, Failure> {
    start(&args.common, |file| Plan::server(&args, file))
}

/// `cladnet service`.
pub(crate) fn service(args: ServiceArgs) -> Result<ExitCode, Failure> {
    start(&args.common, |file| Plan::service(&args, file))
}

/// `cladnet controller`.
pub(crate) fn controller(args: ControllerArgs) -> Result<ExitCode, Failure> {
    start(&args.common, |file| Plan::controller(&args, file))
}

/// `cladnet provisioner`.
pub(crate) fn provisioner(args: ProvisionerArgs, client: ClientArgs) -> Result<ExitCode, Failure> {
    start(&args.common, |file| Plan::provisioner(&args, &client, file))
}

/// `cladnet admin-web`.
pub(crate) fn admin_web(client: &ClientArgs, args: AdminWebArgs) -> Result<ExitCode, Failure> {
    let (check_only, log) = (args.check_config, args.log.clone());
    let plan = admin_web::Plan::new(client, args)?;
    let filter = telemetry::filter(log.as_deref())?;
    if check_only {
        println!("the configuration is right");
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::start(filter);
    run::block_on(plan.run())
}

fn start(common: &CommonArgs, plan: impl FnOnce(SettingsFile) -> Result<Plan, Failure>) -> Result<ExitCode, Failure> {
    let file = SettingsFile::read(common.config.as_deref())?;
    let plan = plan(file)?;
    let filter = telemetry::filter(plan.log.as_deref())?;
    if common.check_config {
        println!("the configuration is right");
        return Ok(ExitCode::SUCCESS);
    }
    telemetry::start(filter);
    run::block_on(run::serve(plan))
}

//! `cladnet deploy`.

mod follow;
mod screen;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use cladnet_proto::{
    cladnet::v1::{CreateDeploymentRequest, Deployment},
    convert::FIELD,
};
use clap::Args;
use tonic::Status;

pub(super) use follow::follow;

use super::deployment::{is_done, report};
use crate::{
    api::{Api, request_within},
    failure::Failure,
    hosts_file::HostsFile,
    output::Output,
};

/// A thousand keys are sealed and written meanwhile.
const CREATION: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// YAML file that names the machines; `-` is not taken, because paths of keys begin where it is.
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Network that the machines join, or leave.
    #[arg(long, value_name = "NETWORK")]
    network: String,
    /// Replace older agents by this release's; memberships stay as they are.
    #[arg(long, conflicts_with = "uninstall")]
    upgrade: bool,
    /// Leave the network; with its last network the agent goes too.
    #[arg(long)]
    uninstall: bool,
    /// Machines that are worked on at a time, up to 100 [default: 10].
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    concurrency: u32,
    /// Trust every machine's host key at first sight. One that is known already must still be the same.
    #[arg(long)]
    accept_new_host_keys: bool,
    /// Keep the private keys, sealed, when all is done; `cladnet deployment forget` forgets them.
    #[arg(long)]
    keep_credentials: bool,
    /// Wait until every machine is done; this is the default.
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Only begin, and print the deployment.
    #[arg(long)]
    no_wait: bool,
}

pub(super) async fn run(api: &Api, out: Output, args: DeployArgs) -> Result<ExitCode, Failure> {
    let file = HostsFile::read(&args.file)?;
    file.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let begun = begin(api, file, &args).await?;
    if args.no_wait {
        out.show_text(&begun, |begun| report(out, begun))?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("deployment {} on {} machines", begun.deployment_id, begun.total);
    conclude(out, &follow(api, out, &begun.deployment_id).await?)
}

/// The whole of a finished deployment, and whether it went well.
pub(super) fn conclude(out: Output, finished: &Deployment) -> Result<ExitCode, Failure> {
    out.show_text(finished, |finished| report(out, finished))?;
    Ok(if is_done(finished) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn begin(api: &Api, mut file: HostsFile, args: &DeployArgs) -> Result<Deployment, Failure> {
    let action = match (args.upgrade, args.uninstall) {
        (true, _) => "upgrade",
        (_, true) => "uninstall",
        _ => "install",
    };
    let ask = CreateDeploymentRequest {
        network_id: args.network.clone(),
        action: action.to_owned(),
        hosts: std::mem::take(&mut file.targets),
        concurrency: args.concurrency,
        accept_new_host_keys: args.accept_new_host_keys,
        keep_credentials: args.keep_credentials,
    };
    match api.deployments().create_deployment(request_within(CREATION, ask)).await {
        Ok(begun) => Ok(begun.into_inner()),
        Err(status) => {
            let fields = fields(&status);
            Err(file.explain(Failure::from(status), &fields))
        }
    }
}

/// The fields that a refusal names.
fn fields(status: &Status) -> Vec<String> {
    status.metadata().get_all(FIELD).iter().filter_map(|field| Some(field.to_str().ok()?.to_owned())).collect()
}

//! `cladnet deployment`.

use std::{io::Write as _, process::ExitCode};

use cladnet_proto::cladnet::v1::{
    CancelDeploymentRequest, ConfirmHostKeyRequest, Deployment, ForgetCredentialsRequest, GetDeploymentRequest,
    GetTranscriptRequest, ListDeploymentsRequest,
};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::deploy::{conclude, follow};
use crate::{
    api::{Api, all_pages, request},
    failure::Failure,
    output::{Format, Output, Table, age, one_line},
};

#[derive(Debug, Subcommand)]
pub(crate) enum DeploymentCommand {
    /// List deployments, the newest first
    ///
    ///   cladnet deployment list prod
    #[command(verbatim_doc_comment)]
    List {
        /// Of this network only.
        network: Option<String>,
        /// Only those that go on.
        #[arg(long)]
        running: bool,
    },
    /// Show how far every machine of a deployment is
    ///
    /// With --follow it goes on to the end, asks about new host keys, and exits with 0 only if
    /// every machine is done.
    ///
    ///   cladnet deployment show --follow deployment-000643f2-a4dqobyha4dqobyh
    #[command(verbatim_doc_comment)]
    Show {
        /// Id of the deployment, as `cladnet deployment list` shows it.
        deployment: String,
        /// Go on until it is finished.
        #[arg(long)]
        follow: bool,
    },
    /// Cancel a deployment: nothing more is begun, machines at work end after their current step
    ///
    ///   cladnet deployment cancel deployment-000643f2-a4dqobyha4dqobyh
    #[command(verbatim_doc_comment)]
    Cancel {
        /// Id of the deployment.
        deployment: String,
    },
    /// Forget the private keys that a deployment keeps
    ///
    /// One that still goes on needs them until its end, and keeps none then.
    ///
    ///   cladnet deployment forget deployment-000643f2-a4dqobyha4dqobyh
    #[command(verbatim_doc_comment)]
    Forget {
        /// Id of the deployment.
        deployment: String,
    },
    /// Print what was done on a machine
    ///
    ///   cladnet deployment transcript deployment-000643f2-a4dqobyha4dqobyh aws-1
    #[command(verbatim_doc_comment)]
    Transcript {
        /// Id of the deployment.
        deployment: String,
        /// Name of the machine.
        machine: String,
    },
    /// Vouch for the host key that a machine shows
    ///
    /// Compare it on the machine first: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub
    ///
    ///   cladnet deployment confirm deployment-000643f2-a4dqobyha4dqobyh aws-1 SHA256:…
    #[command(verbatim_doc_comment)]
    Confirm(ConfirmArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ConfirmArgs {
    /// Id of the deployment.
    deployment: String,
    /// Name of the machine.
    machine: String,
    /// Fingerprint of the key, as `cladnet deployment show` offers it.
    fingerprint: String,
}

pub(super) async fn run(api: &Api, out: Output, command: DeploymentCommand) -> Result<ExitCode, Failure> {
    match command {
        DeploymentCommand::List { network, running } => list(api, out, &network.unwrap_or_default(), running).await?,
        DeploymentCommand::Show { deployment, follow: true } => {
            return conclude(out, &follow(api, out, &deployment).await?);
        }
        DeploymentCommand::Show { deployment: deployment_id, follow: false } => {
            let ask = request(GetDeploymentRequest { deployment_id });
            let shown = api.deployments().get_deployment(ask).await?.into_inner();
            out.show_text(&shown, |shown| report(out, shown))?;
        }
        DeploymentCommand::Cancel { deployment: deployment_id } => {
            let ask = request(CancelDeploymentRequest { deployment_id });
            let cancelled = api.deployments().cancel_deployment(ask).await?.into_inner();
            out.show_text(&cancelled, summary)?;
        }
        DeploymentCommand::Forget { deployment: deployment_id } => {
            let ask = request(ForgetCredentialsRequest { deployment_id });
            let forgotten = api.deployments().forget_credentials(ask).await?.into_inner();
            out.show_text(&forgotten, |Deployment { deployment_id, state, .. }| match state.as_str() {
                "finished" => format!("private keys of {deployment_id} forgotten"),
                _ => format!("{deployment_id} goes on; it will keep no private keys at its end"),
            })?;
        }
        DeploymentCommand::Transcript { deployment, machine } => transcript(api, out, deployment, machine).await?,
        DeploymentCommand::Confirm(ConfirmArgs { deployment: deployment_id, machine: name, fingerprint }) => {
            let ask = ConfirmHostKeyRequest { deployment_id, name: name.clone(), fingerprint: fingerprint.clone() };
            let confirmed = api.deployments().confirm_host_key(request(ask)).await?.into_inner();
            out.show_text(&confirmed, |_| format!("{fingerprint} confirmed for machine {name}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(api: &Api, out: Output, network_id: &str, running: bool) -> Result<(), Failure> {
    let fetch = |page_token| async {
        let ask = ListDeploymentsRequest { network_id: network_id.to_owned(), running, page_size: 0, page_token };
        api.deployments().list_deployments(request(ask)).await
    };
    let head =
        ["DEPLOYMENT", "NETWORK", "ACTION", "STATE", "UNCONFIRMED", "DONE", "FAILED", "MACHINES", "CREATED", "BY"];
    let now = Timestamp::now();
    out.show(&all_pages(fetch).await?, |list| {
        Table::of(head, "no deployments", &list.deployments, |deployment| {
            [
                deployment.deployment_id.clone(),
                deployment.network_id.clone(),
                deployment.action.clone(),
                state(deployment).to_owned(),
                deployment.unconfirmed.to_string(),
                deployment.done.to_string(),
                deployment.failed.to_string(),
                deployment.total.to_string(),
                age(deployment.created_at, now),
                deployment.created_by.clone(),
            ]
        })
    })
}

/// A transcript is text with lines of its own.
async fn transcript(api: &Api, out: Output, deployment_id: String, name: String) -> Result<(), Failure> {
    let ask = GetTranscriptRequest { deployment_id, name };
    let transcript = api.deployments().get_transcript(request(ask)).await?.into_inner();
    if out.format() != Format::Table {
        return out.show_text(&transcript, |_| String::new());
    }
    let shown: String = transcript.text.lines().map(|line| one_line(line) + "\n").collect();
    Ok(write!(std::io::stdout().lock(), "{shown}")?)
}

/// The machines of a deployment and how it went.
pub(super) fn report(out: Output, deployment: &Deployment) -> String {
    let head = ["MACHINE", "ADDRESS", "BASTION", "STATE", "HOST", "AGENT", "SYSTEM", "HOST KEY"];
    let table = Table::of(head, "no machines", &deployment.hosts, |host| {
        [
            host.name.clone(),
            host.address.clone(),
            host.bastion.clone(),
            host.state.clone(),
            host.host_id.clone(),
            host.agent_version.clone(),
            host.system.clone(),
            host.offered_fingerprint.clone(),
        ]
    });
    let failures = deployment.hosts.iter().filter(|host| !host.failure.is_empty()).map(|host| {
        let during =
            if host.failed_during.is_empty() { String::new() } else { format!(" while {}", host.failed_during) };
        one_line(&format!("{}: {}{during}: {}", host.name, host.failure, host.detail))
    });
    let parts = [out.render(table)].into_iter().chain(failures).chain([summary(deployment)]);
    parts.collect::<Vec<_>>().join("\n")
}

/// One line.
fn summary(deployment: &Deployment) -> String {
    format!("{}: {}", deployment.deployment_id, standing(deployment))
}

/// How far it is, in a line that fits a narrow screen.
pub(super) fn standing(deployment: &Deployment) -> String {
    let Deployment { done, failed, total, unconfirmed, .. } = deployment;
    let mut told = format!("{}, {done} of {total} machines done, {failed} failed", state(deployment));
    if *unconfirmed > 0 {
        told.push_str(&format!(", {unconfirmed} to be confirmed"));
    }
    if !deployment.claimed && deployment.state != "finished" {
        told.push_str("; no provisioner works on it yet");
    }
    told
}

fn state(deployment: &Deployment) -> &str {
    match deployment.cancelled_at {
        Some(_) => "cancelled",
        None => &deployment.state,
    }
}

/// Whether every machine is where it should be.
pub(super) fn is_done(deployment: &Deployment) -> bool {
    deployment.state == "finished" && deployment.done == deployment.total
}
